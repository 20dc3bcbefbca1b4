//! What is counted of a peer. Outlives its sessions.

use std::sync::atomic::{AtomicU64, Ordering};

/// Content exchanged with one node since the start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    chunks_in: AtomicU64,
    chunks_out: AtomicU64,
}

impl Counters {
    /// Bytes of content received: chunks that were verified, and ranges.
    pub(crate) fn bytes_in(&self) -> u64 {
        self.bytes_in.load(Ordering::Relaxed)
    }

    /// Bytes of content sent.
    pub(crate) fn bytes_out(&self) -> u64 {
        self.bytes_out.load(Ordering::Relaxed)
    }

    /// Chunks received and verified.
    pub(crate) fn chunks_in(&self) -> u64 {
        self.chunks_in.load(Ordering::Relaxed)
    }

    /// Chunks sent.
    pub(crate) fn chunks_out(&self) -> u64 {
        self.chunks_out.load(Ordering::Relaxed)
    }

    pub(super) fn received(&self, bytes: usize, chunks: u64) {
        self.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
        self.chunks_in.fetch_add(chunks, Ordering::Relaxed);
    }

    pub(super) fn sent(&self, bytes: usize, chunks: u64) {
        self.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
        self.chunks_out.fetch_add(chunks, Ordering::Relaxed);
    }
}
