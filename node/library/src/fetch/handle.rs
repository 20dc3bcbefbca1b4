//! A remote file as one open sees it.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use bytes::Bytes;
use musicfs_core::fetch::HandleId;
use musicfs_store::Passthrough;

use super::{Counters, RemoteFile};
use crate::error::Error;

/// A file as one open sees it. Dropping it closes it.
pub(crate) struct RemoteHandle {
    file: Arc<RemoteFile>,
    id: HandleId,
    passthrough: Option<Passthrough>,
}

impl RemoteHandle {
    pub(super) fn new(file: Arc<RemoteFile>, id: HandleId) -> Self {
        let passthrough = file.object.passthrough();
        if passthrough.is_some() {
            // Its reads are not seen: the open counts.
            Counters::add(&file.fetcher.counters.hits, 1);
        }
        Self {
            file,
            id,
            passthrough,
        }
    }

    /// See [`crate::OpenFile::read_now`].
    pub(crate) fn read_now(&self, offset: u64, buf: &mut [u8]) -> Option<usize> {
        if self.file.fetcher.options.check_every_read {
            return None;
        }
        let read = self.file.object.read_now(offset, buf)?;
        let range = offset..offset + read as u64;
        self.file.observe(self.id, &range);
        Counters::add(&self.file.fetcher.counters.hits, 1);
        Some(read)
    }

    /// See [`crate::OpenFile::read`].
    pub(crate) async fn read(&self, offset: u64, len: usize) -> Result<Bytes, Error> {
        let size = self.file.object.size();
        let end = offset.saturating_add(len as u64).min(size);
        if offset >= end {
            return Ok(Bytes::new());
        }
        self.file.read(self.id, offset..end).await
    }

    /// The stored content, where the kernel may read it by itself.
    pub(crate) fn passthrough_fd(&self) -> Option<BorrowedFd<'_>> {
        self.passthrough.as_ref().map(AsFd::as_fd)
    }
}

impl Drop for RemoteHandle {
    fn drop(&mut self) {
        self.file.object.touch();
        let mut state = self.file.state();
        state.planner.close(self.file.fetcher.now(), self.id);
        self.file.pump(&mut state);
    }
}
