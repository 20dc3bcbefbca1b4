//! How often something may happen.

use std::time::Duration;

use musicfs_core::time::Timestamp;

/// So often on average, and so many at once after a rest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    pub(crate) per_s: u32,
    pub(crate) burst: u32,
}

/// A token bucket: it holds `burst` tokens at first and at most, and gains `per_s` a second.
///
/// Kept as the moment when it will be full, so that an idle one need not be kept at all.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bucket {
    full_at: Timestamp,
}

impl Bucket {
    /// Takes a token; false if there is none.
    pub(crate) fn take(&mut self, now: Timestamp, rate: Rate) -> bool {
        let each = Duration::from_secs(1) / rate.per_s.max(1);
        let full_at = self.full_at.max(now).plus(each);
        if full_at.since(now) > each * rate.burst {
            return false;
        }
        self.full_at = full_at;
        true
    }

    /// True if it is as one that was never used.
    pub(crate) fn is_full(&self, now: Timestamp) -> bool {
        self.full_at <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_s: 4, burst: 3 };

    fn at(ms: u64) -> Timestamp {
        Timestamp(Duration::from_millis(ms))
    }

    #[test]
    fn a_burst_then_the_rate_then_a_burst_again() {
        let mut bucket = Bucket::default();
        let mut taken = |ms, tries: usize| (0..tries).filter(|_| bucket.take(at(ms), RATE)).count();
        assert_eq!(taken(0, 10), 3, "the burst");
        assert_eq!(taken(249, 10), 0);
        assert_eq!(taken(250, 10), 1, "one a quarter of a second");
        assert_eq!(taken(750, 10), 2);
        assert_eq!(taken(100_000, 10), 3, "never more than the burst");
    }

    #[test]
    fn it_is_full_when_all_its_tokens_are_back() {
        let mut bucket = Bucket::default();
        assert!(bucket.is_full(at(0)));
        assert!(bucket.take(at(0), RATE) && bucket.take(at(0), RATE));
        assert!(!bucket.is_full(at(499)));
        assert!(bucket.is_full(at(500)));
    }
}
