//! How long to wait before bytes may be sent at a rate.

use std::num::NonZeroU64;
use std::time::Duration;

use musicfs_core::time::Timestamp;

/// What may be sent at once after a pause: longer would be felt on the line, shorter costs wake-ups.
const BURST: Duration = Duration::from_millis(100);

/// A token bucket over all that asks it, first come, first served.
///
/// It lends: who asks gets a turn behind those who asked before, and waits for it.
#[derive(Debug)]
pub(crate) struct Bucket {
    rate: NonZeroU64,
    /// When all that was asked for so far will have been sent.
    done: Timestamp,
}

impl Bucket {
    /// One of `rate` bytes per second, full.
    pub(crate) fn new(rate: NonZeroU64) -> Self {
        let done = Timestamp::default();
        Self { rate, done }
    }

    /// Takes `bytes` at `now`: how long to wait until they may be sent.
    pub(crate) fn take(&mut self, now: Timestamp, bytes: u64) -> Duration {
        let idle = Timestamp(now.0.saturating_sub(BURST));
        let lasts = u128::from(bytes) * 1_000_000_000 / u128::from(self.rate.get());
        let lasts = Duration::from_nanos(u64::try_from(lasts).unwrap_or(u64::MAX));
        self.done = self.done.max(idle).plus(lasts);
        self.done.since(now)
    }

    /// What to ask for at a time: 50 ms of the rate, so that several senders take turns.
    pub(crate) fn share_bytes(&self) -> usize {
        /// A few datagrams: less costs more than it evens out.
        const MIN: u64 = 4 << 10;
        /// As much as is read at a time where there is no rate.
        const MAX: u64 = 256 << 10;
        usize::try_from((self.rate.get() / 20).clamp(MIN, MAX)).expect("256 KiB fit")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_stretch_of_time_carries_more_than_the_rate_and_a_burst(
            rate in 1_u64..1_000_000,
            asked in prop::collection::vec((0_u64..2_000, 0_u64..100_000), 1..30),
        ) {
            let mut bucket = Bucket::new(NonZeroU64::new(rate).unwrap());
            let mut now = Timestamp(Duration::from_secs(5));
            let mut sent: Vec<(Timestamp, u64)> = Vec::new();
            for (pause_ms, bytes) in asked {
                now = now.plus(Duration::from_millis(pause_ms));
                let wait = bucket.take(now, bytes);
                sent.push((now.plus(wait), bytes));
            }
            prop_assert!(sent.is_sorted_by_key(|(at, _)| *at));
            for from in 0..sent.len() {
                // What is allowed to go at the end of a stretch has been paid for within it.
                for to in from..sent.len() {
                    let bytes: u64 = sent[from + 1..=to].iter().map(|(_, bytes)| bytes).sum();
                    let stretch = sent[to].0.since(sent[from].0) + BURST;
                    let allowed = stretch.as_secs_f64() * rate as f64 + 1.0;
                    prop_assert!(bytes as f64 <= allowed, "{bytes} in {stretch:?}");
                }
            }
        }
    }

    #[test]
    fn a_pause_saves_up_one_burst_and_no_more() {
        let mut bucket = Bucket::new(NonZeroU64::new(1000).unwrap());
        let later = Timestamp(Duration::from_secs(3600));
        assert_eq!(bucket.take(later, 100), Duration::ZERO);
        assert_eq!(bucket.take(later, 100), Duration::from_millis(100));
        assert_eq!(bucket.take(later, 1000), Duration::from_millis(1100));
    }

    #[test]
    fn a_turn_is_neither_tiny_nor_huge() {
        let check = |rate, expect| {
            let bucket = Bucket::new(NonZeroU64::new(rate).unwrap());
            assert_eq!(bucket.share_bytes(), expect);
        };
        check(1, 4 << 10);
        check(1_000_000, 50_000);
        check(u64::MAX, 256 << 10);
    }
}
