//! Whether a flight that failed is tried again.

use std::time::Duration;

use crate::error::ErrorKind;

/// Counts the tries of one flight whose last source failed.
///
/// Only a failure that may pass is tried again, after each of [`Retry::DELAYS`] once. A try that
/// brought bytes earns all delays anew: whole blocks of a flight that is 8 MiB long at most, so that
/// this ends as well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retry {
    /// The delay that comes next.
    step: usize,
}

impl Retry {
    /// How long to wait before each try. Together they leave most of the 10 s of a read to the
    /// tries themselves.
    pub const DELAYS: [Duration; 3] = [
        Duration::from_millis(100),
        Duration::from_millis(500),
        Duration::from_millis(2000),
    ];

    /// Nothing was tried again yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long to wait before the next try; `None` if there is none. `progress` tells whether
    /// bytes arrived since the failure before.
    pub fn next(&mut self, kind: ErrorKind, progress: bool) -> Option<Duration> {
        if !kind.may_pass() {
            return None;
        }
        if progress {
            self.step = 0;
        }
        let delay = *Self::DELAYS.get(self.step)?;
        self.step += 1;
        Some(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The delays in milliseconds that follow failures with (`true`) or without progress.
    fn delays(kind: ErrorKind, progress: &[bool]) -> Vec<Option<u128>> {
        let mut retry = Retry::new();
        let next = |had| retry.next(kind, had).map(|delay| delay.as_millis());
        progress.iter().copied().map(next).collect()
    }

    #[test]
    fn each_delay_comes_once() {
        for kind in [ErrorKind::Unavailable, ErrorKind::DeadlineExceeded] {
            let expect = [Some(100), Some(500), Some(2000), None, None];
            assert_eq!(delays(kind, &[false; 5]), expect);
        }
    }

    #[test]
    fn progress_starts_the_delays_over() {
        let given = delays(
            ErrorKind::Unavailable,
            &[true, false, true, false, false, false],
        );
        let expect = [Some(100), Some(500), Some(100), Some(500), Some(2000), None];
        assert_eq!(given, expect);
        let given = delays(ErrorKind::Unavailable, &[false, false, false, false, true]);
        assert_eq!(given.last(), Some(&Some(100)), "even after the last");
    }

    #[test]
    fn a_flight_that_always_brings_something_goes_on() {
        let given = delays(ErrorKind::Unavailable, &[true; 100]);
        assert!(given.iter().all(|delay| *delay == Some(100)));
    }

    #[test]
    fn what_will_not_pass_is_not_tried_again() {
        for kind in [
            ErrorKind::NotFound,
            ErrorKind::Stale,
            ErrorKind::Denied,
            ErrorKind::Invalid,
            ErrorKind::Corrupt,
            ErrorKind::Exhausted,
            ErrorKind::Cancelled,
            ErrorKind::Unsupported,
        ] {
            assert_eq!(delays(kind, &[true, false]), [None, None], "{kind:?}");
        }
    }
}
