//! At most one log line in a while.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Lets one event through in each interval and counts the others.
#[derive(Debug)]
pub(crate) struct RateLimit {
    start: Instant,
    interval: Duration,
    /// Milliseconds after `start` from which the next event may pass.
    next_ms: AtomicU64,
    suppressed: AtomicU64,
}

impl RateLimit {
    pub(crate) fn new(interval: Duration) -> Self {
        Self {
            start: Instant::now(),
            interval,
            next_ms: AtomicU64::new(0),
            suppressed: AtomicU64::new(0),
        }
    }

    /// Whether an event may pass now; if so, how many were held back since the last that did.
    pub(crate) fn pass(&self) -> Option<u64> {
        self.pass_at(self.start.elapsed())
    }

    fn pass_at(&self, now: Duration) -> Option<u64> {
        let now_ms = now.as_millis() as u64;
        let next_ms = self.next_ms.load(Relaxed);
        let then_ms = now_ms + self.interval.as_millis() as u64;
        let passes = now_ms >= next_ms
            && self
                .next_ms
                .compare_exchange(next_ms, then_ms, Relaxed, Relaxed)
                .is_ok();
        if passes {
            Some(self.suppressed.swap(0, Relaxed))
        } else {
            self.suppressed.fetch_add(1, Relaxed);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_passes_in_an_interval_and_says_how_many_did_not() {
        let limit = RateLimit::new(Duration::from_secs(1));
        let at = |ms| limit.pass_at(Duration::from_millis(ms));
        assert_eq!(at(0), Some(0));
        assert_eq!(at(1), None);
        assert_eq!(at(999), None);
        assert_eq!(at(1000), Some(2));
        assert_eq!(at(1001), None);
        assert_eq!(at(5000), Some(1));
    }
}
