//! An open file: everything a read needs, resolved once.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use bytes::Bytes;
use musicfs_core::id::OriginId;
use musicfs_core::origin::OriginFile;
use musicfs_index::Node;
use rustix::io::{IoSliceMut, ReadWriteFlags};

use crate::error::Error;

/// A read ends within this time, with bytes or with an error.
pub(crate) const READ_DEADLINE: Duration = Duration::from_secs(10);

/// A file of the tree, open for reading: one content version, whatever becomes of its name.
pub struct OpenFile {
    node: Node,
    origin: OriginId,
    file: Box<dyn OriginFile>,
}

impl OpenFile {
    pub(crate) fn new(node: Node, origin: OriginId, file: Box<dyn OriginFile>) -> Self {
        Self { node, origin, file }
    }

    /// The entry as it was when it was opened.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Reads into `buf` what memory holds of the file, without waiting for a disk.
    ///
    /// Returns the number of bytes, fewer than asked for only at the end of the file; `None` if
    /// not all of it is in memory, or the file cannot be read this way: use [`OpenFile::read`].
    pub fn read_now(&self, offset: u64, buf: &mut [u8]) -> Option<usize> {
        let fd = self.file.as_fd()?;
        let wanted = usize::try_from(self.node.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let wanted = wanted.min(buf.len());
        let mut parts = [IoSliceMut::new(&mut buf[..wanted])];
        let read = rustix::io::preadv2(fd, &mut parts, offset, ReadWriteFlags::NOWAIT).ok()?;
        (read == wanted && self.file.is_unchanged()).then_some(read)
    }

    /// Reads up to `len` bytes at `offset`; fewer only at the end of the file.
    ///
    /// # Errors
    /// [`Error::Origin`] if the origin fails or the file is no longer the one that was opened,
    /// [`Error::Timeout`] if it does not answer in time.
    pub async fn read(&self, offset: u64, len: usize) -> Result<Bytes, Error> {
        match tokio::time::timeout(READ_DEADLINE, self.file.read_at(offset, len)).await {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(source)) => Err(Error::Origin {
                origin: self.origin.clone(),
                source,
            }),
            Err(_) => Err(Error::Timeout {
                origin: self.origin.clone(),
            }),
        }
    }

    /// The descriptor that the kernel may read from by itself; `None` where it must not.
    pub fn passthrough_fd(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_fd()
    }
}

impl std::fmt::Debug for OpenFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenFile")
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}
