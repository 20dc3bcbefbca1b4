//! What can go wrong with the store.

use std::io;
use std::path::{Path, PathBuf};

use musicfs_core::error::ErrorKind;
use musicfs_core::version::VersionKey;

/// Why the store could not do what was asked.
///
/// A disk that is full or failing is no error of a write: it answers
/// [`Written::Refused`](crate::Written::Refused), for the caller goes on without the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process has the directory.
    #[error("lock cache {dir:?}: another musicfs uses it; choose another --name")]
    Locked {
        /// The cache directory.
        dir: PathBuf,
    },
    /// The directory belongs to another user.
    #[error("open cache {dir:?}: it belongs to another user; choose another directory")]
    NotOurs {
        /// The cache directory.
        dir: PathBuf,
    },
    /// The directory was written by another version of MusicFS.
    #[error(
        "open cache {dir:?}: it has format {found:?}, this program knows {known:?}; use the musicfs \
         that wrote it, or move the directory away"
    )]
    Format {
        /// The cache directory.
        dir: PathBuf,
        /// What it says of itself.
        found: String,
        /// What this program writes.
        known: &'static str,
    },
    /// A file operation failed.
    #[error("{action} {path:?}")]
    Disk {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The file is longer than [`OBJECT_BYTES_MAX`](crate::OBJECT_BYTES_MAX).
    #[error("store {version}: {size} bytes are more than an object may have")]
    TooLarge {
        /// The object.
        version: VersionKey,
        /// Its size.
        size: u64,
    },
    /// The bytes of a write are not whole blocks of the object.
    #[error("write {len} bytes at {offset} of {version}: not whole blocks")]
    NotBlocks {
        /// The object.
        version: VersionKey,
        /// Where they should go.
        offset: u64,
        /// How many there are.
        len: u64,
    },
    /// What the store holds is not known yet, or it is closed.
    #[error("{action} the cache: it is not open yet, or not any more")]
    NotOpen {
        /// What was tried, as a verb.
        action: &'static str,
    },
}

impl Error {
    /// What the caller can do. Exhaustive on purpose: a new variant must choose.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Locked { .. } | Self::Format { .. } | Self::NotBlocks { .. } => {
                ErrorKind::Invalid
            }
            Self::NotOurs { .. } => ErrorKind::Denied,
            Self::TooLarge { .. } => ErrorKind::Exhausted,
            Self::NotOpen { .. } => ErrorKind::Unavailable,
            Self::Disk { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::Exhausted,
                io::ErrorKind::PermissionDenied => ErrorKind::Denied,
                _ => ErrorKind::Unavailable,
            },
        }
    }

    /// The disk's own words, where it was the disk.
    pub(crate) fn disk(&self) -> Option<&io::Error> {
        match self {
            Self::Disk { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Names the attempt and the file that an error of the disk belongs to.
pub(crate) trait Attempt<T> {
    fn attempt(self, action: &'static str, path: &Path) -> Result<T, Error>;
}

impl<T> Attempt<T> for io::Result<T> {
    fn attempt(self, action: &'static str, path: &Path) -> Result<T, Error> {
        self.map_err(|source| Error::Disk {
            action,
            path: path.to_owned(),
            source,
        })
    }
}

/// Like [`Attempt::attempt`], where a thing that is not there is no failure.
pub(crate) fn if_there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
