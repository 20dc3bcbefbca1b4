//! How long nothing is fetched on a guess, after a failure.

use std::time::Duration;

use super::{PAUSE_MAX, PAUSE_MIN};
use crate::time::Timestamp;

/// A pause that doubles from failure to failure, until bytes arrive.
#[derive(Clone, Debug, Default)]
pub(super) struct Pause {
    /// Of the last pause; none without a failure.
    length: Duration,
    until: Option<Timestamp>,
}

impl Pause {
    /// A flight failed. Those that fail during a pause fail for the same cause.
    pub(super) fn failed(&mut self, now: Timestamp) {
        if !self.is_over(now) {
            return;
        }
        self.length = (self.length * 2).clamp(PAUSE_MIN, PAUSE_MAX);
        self.until = Some(now.plus(self.length));
    }

    /// Bytes arrived: the origin is back.
    pub(super) fn arrived(&mut self) {
        *self = Self::default();
    }

    /// True if there is none.
    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| until <= now)
    }

    /// Ends it when its time has come.
    pub(super) fn end(&mut self, now: Timestamp) {
        if self.is_over(now) {
            self.until = None;
        }
    }

    /// When it ends.
    pub(super) fn until(&self) -> Option<Timestamp> {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pause_is_twice_as_long_until_bytes_arrive() {
        let mut pause = Pause::default();
        let mut now = Timestamp::default();
        assert!(pause.is_over(now));
        for expect in [1, 2, 4, 8, 16, 32, 60, 60] {
            pause.failed(now);
            pause.failed(now.plus(Duration::from_millis(10)));
            let until = now.plus(Duration::from_secs(expect));
            assert_eq!(pause.until(), Some(until));
            now = until;
            assert!(pause.is_over(now));
            pause.end(now);
            assert_eq!(pause.until(), None);
        }
        pause.failed(now);
        pause.arrived();
        assert!(pause.is_over(now));
        pause.failed(now);
        assert_eq!(pause.until(), Some(now.plus(PAUSE_MIN)));
    }
}
