//! An open file of a mounted share.

use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use bytes::Bytes;

use musicfs_core::origin::{BoxFuture, ByteStream, OriginError, OriginFile};
use musicfs_core::path::OriginPath;
use musicfs_core::version::ContentVersion;

use super::pool::{Call, OnPool, Pool};
use crate::local::file::LocalFile;

/// What a stream reads at once: a quarter of what it may hold, and what servers answer at once.
const PIECE_BYTES: usize = 256 << 10;

/// A regular file of the share, open for reading.
pub(super) struct MountedFile {
    path: OriginPath,
    version: ContentVersion,
    file: Arc<OnPool<LocalFile>>,
}

impl MountedFile {
    pub(super) fn new(path: OriginPath, file: LocalFile, pool: &Arc<Pool>) -> Self {
        Self {
            path,
            version: file.version().clone(),
            file: Arc::new(OnPool::new(file, pool)),
        }
    }

    /// Starts to read `range`, checking the version before and after.
    fn start_read(&self, range: &Range<u64>) -> Result<Call<Bytes>, OriginError> {
        let file = Arc::clone(&self.file);
        let offset = range.start;
        let len = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        self.file.pool.start("read", &self.path, move || {
            file.value().read_now(offset, len)
        })
    }
}

impl OriginFile for MountedFile {
    fn version(&self) -> &ContentVersion {
        &self.version
    }

    fn stream(&self, range: Range<u64>) -> Box<dyn ByteStream + '_> {
        Box::new(Pieces {
            file: self,
            left: range,
            ahead: None,
        })
    }

    /// Always true: each read checks by itself, and asking the share here could hang.
    fn is_unchanged(&self) -> bool {
        true
    }

    /// `None`: what reads through a descriptor hangs when the share does.
    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// A range that is read piece by piece, the next one while the last is used.
struct Pieces<'a> {
    file: &'a MountedFile,
    /// What no read was started for.
    left: Range<u64>,
    ahead: Option<Piece>,
}

/// A read under way.
struct Piece {
    len: u64,
    call: Call<Bytes>,
}

impl Pieces<'_> {
    /// Starts to read the next piece; `None` if none is left.
    fn start_next(&mut self) -> Result<Option<Piece>, OriginError> {
        let start = self.left.start;
        let end = self.left.end.min(start.saturating_add(PIECE_BYTES as u64));
        if start >= end {
            return Ok(None);
        }
        let call = self.file.start_read(&(start..end))?;
        self.left.start = end;
        let len = end - start;
        Ok(Some(Piece { len, call }))
    }
}

impl ByteStream for Pieces<'_> {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, OriginError>> {
        Box::pin(async move {
            let piece = match self.ahead.take() {
                Some(piece) => Some(piece),
                None => self.start_next()?,
            };
            let Some(piece) = piece else {
                return Ok(None);
            };
            // Where there is no room to read ahead, the next call says so.
            self.ahead = self.start_next().unwrap_or_default();
            let bytes = piece.call.wait().await?;
            if bytes.len() as u64 != piece.len {
                return Err(OriginError::Changed {
                    path: self.file.path.clone(),
                });
            }
            Ok(Some(bytes))
        })
    }
}
