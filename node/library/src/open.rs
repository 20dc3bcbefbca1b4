//! An open file: everything a read needs, resolved once.

use std::os::fd::BorrowedFd;

use bytes::Bytes;
use musicfs_core::id::OriginId;
use musicfs_core::origin::OriginFile;
use musicfs_index::Node;
use rustix::io::{IoSliceMut, ReadWriteFlags};
use tokio::time::Duration;

use crate::copies::Choice;
use crate::error::Error;
use crate::fetch::RemoteHandle;

/// A file of the tree, open for reading: one content version, whatever becomes of its name.
pub struct OpenFile {
    node: Node,
    access: Access,
    choice: Choice,
}

/// Where the bytes come from.
pub(crate) enum Access {
    /// Straight from a disk of this machine.
    Local {
        origin: OriginId,
        file: Box<dyn OriginFile>,
        deadline: Duration,
    },
    /// From the store, and what it lacks from the origin.
    Remote(RemoteHandle),
}

impl OpenFile {
    pub(crate) fn new(node: Node, access: Access, choice: Choice) -> Self {
        Self {
            node,
            access,
            choice,
        }
    }

    /// True if pages that the kernel kept of this inode are still right.
    pub fn keeps_cache(&self) -> bool {
        self.choice.keeps_cache()
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
        let wanted = usize::try_from(self.node.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let wanted = wanted.min(buf.len());
        let buf = &mut buf[..wanted];
        let read = match &self.access {
            Access::Local { file, .. } => {
                let mut parts = [IoSliceMut::new(buf)];
                let flags = ReadWriteFlags::NOWAIT;
                let read = rustix::io::preadv2(file.as_fd()?, &mut parts, offset, flags).ok()?;
                file.is_unchanged().then_some(read)?
            }
            Access::Remote(handle) => handle.read_now(offset, buf)?,
        };
        (read == wanted).then_some(read)
    }

    /// Reads up to `len` bytes at `offset`; fewer only at the end of the file.
    ///
    /// # Errors
    /// [`Error::Origin`] or [`Error::Fetch`] if the origin fails or the file is no longer the one
    /// that was opened, [`Error::Timeout`] if it does not answer in time.
    pub async fn read(&self, offset: u64, len: usize) -> Result<Bytes, Error> {
        match &self.access {
            Access::Local {
                origin,
                file,
                deadline,
            } => match tokio::time::timeout(*deadline, file.read_at(offset, len)).await {
                Ok(Ok(bytes)) => Ok(bytes),
                Ok(Err(source)) => Err(Error::Origin {
                    origin: origin.clone(),
                    source,
                }),
                Err(_) => Err(Error::Timeout {
                    origin: origin.clone(),
                }),
            },
            Access::Remote(handle) => handle.read(offset, len).await,
        }
    }

    /// The descriptor that the kernel may read from by itself; `None` where it must not.
    pub fn passthrough_fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.access {
            Access::Local { file, .. } => file.as_fd(),
            Access::Remote(handle) => handle.passthrough_fd(),
        }
    }
}

impl std::fmt::Debug for OpenFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenFile")
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}
