//! An open file of a local origin.

use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use bytes::Bytes;
use rustix::fs::{Advice, FileType, OFlags};
use rustix::io::Errno;

use musicfs_core::origin::{BoxFuture, ByteStream, OriginError, OriginFile};
use musicfs_core::path::OriginPath;
use musicfs_core::version::ContentVersion;

use super::root::{Facts, Place, Root, Unresolved, io_error};

/// What a stream reads at once.
const PIECE_BYTES: usize = 256 << 10;

/// A regular file, open for reading. Cloning shares the descriptor.
#[derive(Clone, Debug)]
pub(crate) struct LocalFile {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: OriginPath,
    version: ContentVersion,
    fd: OwnedFd,
}

impl LocalFile {
    /// Opens what lies at `path` now, to be read as `advice` says. May wait for the disk.
    ///
    /// # Errors
    /// As [`musicfs_core::origin::Origin::open`]; [`OriginError::OutsideRoot`] for a link out of
    /// the root.
    pub(crate) fn open(
        place: &Place,
        path: &OriginPath,
        advice: Advice,
    ) -> Result<Self, OriginError> {
        let root = Root::open(place)?;
        let fd = match root.open_at(path, OFlags::RDONLY) {
            Err(Errno::LOOP) => {
                let real = root
                    .locate(&OriginPath::default(), path.as_bytes())
                    .map_err(|why| unresolved(why, path))?;
                root.open_at(&real, OFlags::RDONLY)
            }
            done => done,
        };
        let fd = fd.map_err(|errno| refused(errno, path))?;
        let facts = Facts::of_fd(fd.as_fd()).map_err(|errno| io_error("stat", path, errno))?;
        if facts.kind != FileType::RegularFile {
            return Err(OriginError::NotFound { path: path.clone() });
        }
        // A filesystem that takes no advice is read all the same.
        let _ = rustix::fs::fadvise(&fd, 0, None, advice);
        let inner = Inner {
            path: path.clone(),
            version: facts.version,
            fd,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// What [`OriginFile::read_at`] does, on the caller's thread. May wait for the disk.
    ///
    /// # Errors
    /// As [`OriginFile::read_at`].
    pub(crate) fn read_now(&self, offset: u64, len: usize) -> Result<Bytes, OriginError> {
        self.inner.read_at(offset, len)
    }
}

impl OriginFile for LocalFile {
    fn version(&self) -> &ContentVersion {
        &self.inner.version
    }

    fn read_at(&self, offset: u64, len: usize) -> BoxFuture<'_, Result<Bytes, OriginError>> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            let path = inner.path.clone();
            tokio::task::spawn_blocking(move || inner.read_at(offset, len))
                .await
                .unwrap_or_else(|stopped| Err(io_error("read", &path, stopped)))
        })
    }

    fn stream(&self, range: Range<u64>) -> Box<dyn ByteStream + '_> {
        Box::new(Pieces { file: self, range })
    }

    fn is_unchanged(&self) -> bool {
        self.inner.check_version().is_ok()
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.inner.fd.as_fd())
    }
}

/// A range that is read piece by piece.
struct Pieces<'a> {
    file: &'a LocalFile,
    range: Range<u64>,
}

impl ByteStream for Pieces<'_> {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, OriginError>> {
        Box::pin(async move {
            let left = self.range.end.saturating_sub(self.range.start);
            if left == 0 {
                return Ok(None);
            }
            let len = usize::try_from(left).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
            let bytes = self.file.read_at(self.range.start, len).await?;
            if bytes.is_empty() {
                return Err(self.file.inner.changed());
            }
            self.range.start += bytes.len() as u64;
            Ok(Some(bytes))
        })
    }
}

impl Inner {
    fn read_at(&self, offset: u64, len: usize) -> Result<Bytes, OriginError> {
        self.check_version()?;
        let left = self.version.size.saturating_sub(offset);
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(len);
        if len == 0 {
            return Ok(Bytes::new());
        }
        let mut bytes = Vec::with_capacity(len);
        while bytes.len() < len {
            let at = offset + bytes.len() as u64;
            let spare = rustix::buffer::spare_capacity(&mut bytes);
            match rustix::io::pread(&self.fd, spare, at) {
                Ok(0) => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(io_error("read", &self.path, errno)),
            }
        }
        // Whoever wrote while we read has moved the time or the size by now.
        self.check_version()?;
        if bytes.len() < len {
            // It is as long as it was, and what it holds was not to be had: sshfs says so when its
            // connection is lost.
            let end = std::io::ErrorKind::UnexpectedEof;
            return Err(io_error("read", &self.path, end));
        }
        // An allocator may have given more than was asked for.
        bytes.truncate(len);
        Ok(Bytes::from(bytes))
    }

    fn check_version(&self) -> Result<(), OriginError> {
        let facts = Facts::of_fd(self.fd.as_fd()).map_err(|errno| match errno {
            // A network's file system loses a file that was removed while it was open.
            Errno::NOENT | Errno::STALE => self.changed(),
            errno => io_error("stat", &self.path, errno),
        })?;
        if facts.version != self.version {
            return Err(self.changed());
        }
        Ok(())
    }

    fn changed(&self) -> OriginError {
        OriginError::Changed {
            path: self.path.clone(),
        }
    }
}

/// The error for a path whose links lead nowhere useful.
pub(crate) fn unresolved(why: Unresolved, path: &OriginPath) -> OriginError {
    match why {
        Unresolved::Outside => OriginError::OutsideRoot { path: path.clone() },
        Unresolved::Missing | Unresolved::Excluded => OriginError::NotFound { path: path.clone() },
        Unresolved::Failed(errno) => refused(errno, path),
    }
}

/// The error for a path that could not be opened.
pub(crate) fn refused(errno: Errno, path: &OriginPath) -> OriginError {
    match errno {
        // LOOP: it became a link in this moment. NXIO: a socket.
        Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG | Errno::LOOP | Errno::NXIO => {
            OriginError::NotFound { path: path.clone() }
        }
        Errno::XDEV => OriginError::OutsideRoot { path: path.clone() },
        errno => io_error("open", path, errno),
    }
}
