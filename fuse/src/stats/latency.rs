//! How long operations take, counted in buckets.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::{FuseStats, Op};

/// Upper ends of the buckets, ascending; one more holds what takes longer. They lie where what users
/// are promised ends: 1, 5, 10, 50 and 200 ms, and the 10 s in which every read ends.
pub const LATENCY_BOUNDS: [Duration; 13] = [
    Duration::from_micros(10),
    Duration::from_micros(50),
    Duration::from_micros(100),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(10),
];

/// How long operations of one kind took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// Operations by how long they took: for each of [`LATENCY_BOUNDS`] those that took up to it and
    /// longer than the one before, then those that took longer than all.
    pub buckets: [u64; LATENCY_BOUNDS.len() + 1],
    /// All of them together.
    pub sum: Duration,
}

/// The counters behind [`Latency`]. Added to without a lock, so they may be a moment apart.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    buckets: [AtomicU64; LATENCY_BOUNDS.len() + 1],
    nanos: AtomicU64,
}

/// When an operation began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Started {
    op: Op,
    at: Instant,
}

/// An operation that is being timed, until this is dropped.
pub(crate) struct Timing<'a> {
    stats: &'a FuseStats,
    /// `None` once somebody else goes on.
    started: Option<Started>,
}

impl Histogram {
    fn observe(&self, took: Duration) {
        let bucket = LATENCY_BOUNDS.partition_point(|bound| *bound < took);
        self.buckets[bucket].fetch_add(1, Relaxed);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos, Relaxed);
    }

    pub(super) fn read(&self) -> Latency {
        Latency {
            buckets: std::array::from_fn(|bucket| self.buckets[bucket].load(Relaxed)),
            sum: Duration::from_nanos(self.nanos.load(Relaxed)),
        }
    }
}

impl FuseStats {
    /// Counts an operation, which ends when the answer is dropped.
    pub(crate) fn time(&self, op: Op) -> Timing<'_> {
        self.count(op);
        let at = Instant::now();
        self.resume(Started { op, at })
    }

    /// Goes on with an operation that began elsewhere.
    pub(crate) fn resume(&self, started: Started) -> Timing<'_> {
        Timing {
            stats: self,
            started: Some(started),
        }
    }
}

impl Timing<'_> {
    /// Leaves the end to whoever calls [`FuseStats::resume`], in a task for one.
    pub(crate) fn hand_over(mut self) -> Option<Started> {
        self.started.take()
    }
}

impl Drop for Timing<'_> {
    fn drop(&mut self) {
        if let Some(Started { op, at }) = self.started {
            self.stats.histogram(op).observe(at.elapsed());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_falls_into_the_bucket_that_ends_with_it() {
        let histogram = Histogram::default();
        assert!(LATENCY_BOUNDS.is_sorted());
        for bound in LATENCY_BOUNDS {
            histogram.observe(bound);
        }
        histogram.observe(Duration::ZERO);
        histogram.observe(Duration::from_nanos(10_001));
        histogram.observe(Duration::from_secs(3600));
        let latency = histogram.read();
        assert_eq!(latency.buckets, [2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
        let bounds: Duration = LATENCY_BOUNDS.iter().sum();
        let others = Duration::from_nanos(10_001) + Duration::from_secs(3600);
        assert_eq!(latency.sum, bounds + others);
    }

    #[test]
    fn an_operation_ends_once_wherever_it_does() {
        let stats = FuseStats::default();
        let ended = |op| stats.latency(op).buckets.iter().sum::<u64>();
        let timing = stats.time(Op::Read);
        assert_eq!((stats.ops(Op::Read), ended(Op::Read)), (1, 0));
        let started = timing.hand_over().unwrap();
        assert_eq!(ended(Op::Read), 0);
        drop(stats.resume(started));
        assert_eq!((stats.ops(Op::Read), ended(Op::Read)), (1, 1));
        drop(stats.time(Op::Lookup));
        assert_eq!((ended(Op::Lookup), ended(Op::Read)), (1, 1));
    }
}
