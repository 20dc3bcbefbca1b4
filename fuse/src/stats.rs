//! Counters of the mount.

mod latency;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::sync::Notify;

use latency::Histogram;
pub(crate) use latency::Timing;
pub use latency::{LATENCY_BOUNDS, Latency};

/// The operations that are counted, by the name their metric label has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// A name was looked up.
    Lookup,
    /// Attributes were read.
    Getattr,
    /// A directory was listed, with or without attributes.
    Readdir,
    /// A file was opened.
    Open,
    /// A file was read, by way of the daemon.
    Read,
    /// A file was closed.
    Release,
    /// The totals were asked for.
    Statfs,
    /// Extended attributes were listed or read.
    Xattr,
    /// Something would have changed the mount, and was refused.
    Write,
    /// Any other operation.
    Other,
}

impl Op {
    /// Every operation, in the order of their declaration.
    pub const ALL: [Self; 10] = [
        Self::Lookup,
        Self::Getattr,
        Self::Readdir,
        Self::Open,
        Self::Read,
        Self::Release,
        Self::Statfs,
        Self::Xattr,
        Self::Write,
        Self::Other,
    ];

    /// The operation's metric label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lookup => "lookup",
            Self::Getattr => "getattr",
            Self::Readdir => "readdir",
            Self::Open => "open",
            Self::Read => "read",
            Self::Release => "release",
            Self::Statfs => "statfs",
            Self::Xattr => "xattr",
            Self::Write => "write",
            Self::Other => "other",
        }
    }
}

/// What is counted of one operation. In cache lines of its own: threads that answer different
/// operations need not wait for each other's counters.
#[derive(Debug, Default)]
#[repr(align(64))]
struct OpStats {
    begun: AtomicU64,
    latency: Histogram,
}

/// What a mount has done since it was made, and how many handles are open now.
///
/// Counters only grow; they are read without a lock, so two of them may be a moment apart.
#[derive(Debug, Default)]
pub struct FuseStats {
    ops: [OpStats; Op::ALL.len()],
    open_handles: AtomicU64,
    bytes_read: AtomicU64,
    invalidations: AtomicU64,
    invalidations_failed: AtomicU64,
    idle: Notify,
}

impl FuseStats {
    /// Operations that the kernel asked for, of any kind.
    pub fn ops_total(&self) -> u64 {
        self.ops.iter().map(|op| op.begun.load(Relaxed)).sum()
    }

    /// Operations of one kind.
    pub fn ops(&self, op: Op) -> u64 {
        self.ops[op as usize].begun.load(Relaxed)
    }

    /// How long operations of one kind took, from the kernel's request to the answer. Those under
    /// way are not among them.
    pub fn latency(&self, op: Op) -> Latency {
        self.histogram(op).read()
    }

    /// Files that are open now, once for every open(2) that is not closed.
    pub fn open_handles(&self) -> u64 {
        self.open_handles.load(Relaxed)
    }

    /// Bytes that reads got from the daemon. What the page cache or passthrough serves is not seen.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Relaxed)
    }

    /// Notifications sent to the kernel about changed names and directories.
    pub fn invalidations(&self) -> u64 {
        self.invalidations.load(Relaxed)
    }

    /// Notifications that the kernel refused; what they were about shows after the TTL.
    pub fn invalidations_failed(&self) -> u64 {
        self.invalidations_failed.load(Relaxed)
    }

    fn count(&self, op: Op) {
        self.ops[op as usize].begun.fetch_add(1, Relaxed);
    }

    fn histogram(&self, op: Op) -> &Histogram {
        &self.ops[op as usize].latency
    }

    pub(crate) fn count_read(&self, bytes: usize) {
        self.bytes_read.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn count_invalidation(&self, succeeded: bool) {
        self.invalidations.fetch_add(1, Relaxed);
        if !succeeded {
            self.invalidations_failed.fetch_add(1, Relaxed);
        }
    }

    /// Takes the number of handles that are open now; wakes who waits for none.
    pub(crate) fn set_open_handles(&self, count: usize) {
        self.open_handles.store(count as u64, Relaxed);
        if count == 0 {
            self.idle.notify_waiters();
        }
    }

    /// Waits until no handle is open. Cancellation-safe.
    pub(crate) async fn idle(&self) {
        loop {
            let notified = self.idle.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if self.open_handles() == 0 {
                return;
            }
            notified.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_operation_has_its_own_counter_and_label() {
        let stats = FuseStats::default();
        for (index, op) in Op::ALL.into_iter().enumerate() {
            assert_eq!(op as usize, index);
            stats.count(op);
            assert_eq!(stats.ops(op), 1);
        }
        assert_eq!(stats.ops_total(), Op::ALL.len() as u64);
        let names: BTreeSet<_> = Op::ALL.into_iter().map(Op::name).collect();
        assert_eq!(names.len(), Op::ALL.len());
    }

    #[tokio::test]
    async fn idle_waits_for_the_last_handle() {
        let stats = FuseStats::default();
        stats.idle().await;
        stats.set_open_handles(1);
        let waiting = stats.idle();
        tokio::pin!(waiting);
        tokio::select! {
            biased;
            () = &mut waiting => panic!("a handle is open"),
            () = std::future::ready(()) => {}
        }
        stats.set_open_handles(0);
        waiting.await;
    }
}
