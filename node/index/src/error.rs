//! What can go wrong with the index.

use std::path::PathBuf;

use musicfs_core::error::ErrorKind;

use crate::write::{PIN_PATH_LEN_MAX, PINS_MAX};

/// Why the index could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database was written by a later version of MusicFS.
    #[error(
        "open index {path:?}: it has schema version {found}, this program knows up to {known}; \
         use the newer musicfs, or move the file away to index again"
    )]
    Newer {
        /// The database file.
        path: PathBuf,
        /// The schema version found in it.
        found: i64,
        /// The newest schema version that this program knows.
        known: i64,
    },
    /// Another process has the index open for writing.
    #[error("lock index {path:?}: another musicfs uses it; choose another --name")]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// A file operation on the state directory failed.
    #[error("{action} {path:?}")]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// SQLite failed.
    #[error("{action} the index")]
    Sqlite {
        /// What was tried, as a verb.
        action: &'static str,
        /// Why it failed.
        source: rusqlite::Error,
    },
    /// A row holds what no version of this program writes.
    #[error("read the index: a row of {table} is damaged")]
    Damaged {
        /// The table.
        table: &'static str,
    },
    /// The origin is not in the index.
    #[error("find origin {name:?} in the index")]
    NoSuchOrigin {
        /// Its configured id.
        name: String,
    },
    /// A path to pin is longer than any system call takes.
    #[error("pin a path of {len} bytes: a path has at most {PIN_PATH_LEN_MAX}")]
    PinPath {
        /// Its length in bytes.
        len: usize,
    },
    /// There are as many pins as may be.
    #[error("pin {path:?}: there are {PINS_MAX} pins already; unpin something")]
    PinsFull {
        /// The path that was to be pinned.
        path: String,
    },
    /// The writer thread has ended.
    #[error("write to the index: it is closed")]
    Closed,
}

impl Error {
    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Newer { .. } | Self::Locked { .. } | Self::PinPath { .. } => ErrorKind::Invalid,
            Self::PinsFull { .. } => ErrorKind::Exhausted,
            Self::NoSuchOrigin { .. } => ErrorKind::NotFound,
            Self::Closed => ErrorKind::Cancelled,
            Self::Damaged { .. } => ErrorKind::Corrupt,
            Self::Io { source, .. } => match source.kind() {
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                    ErrorKind::Exhausted
                }
                std::io::ErrorKind::PermissionDenied => ErrorKind::Denied,
                _ => ErrorKind::Unavailable,
            },
            Self::Sqlite { source, .. } => sqlite_kind(source),
        }
    }

    /// True if the database file itself is damaged, so that it must be set aside and built anew.
    pub fn is_corruption(&self) -> bool {
        matches!(self.kind(), ErrorKind::Corrupt)
    }
}

fn sqlite_kind(error: &rusqlite::Error) -> ErrorKind {
    use rusqlite::ErrorCode;
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => ErrorKind::Corrupt,
        Some(ErrorCode::DiskFull) => ErrorKind::Exhausted,
        Some(ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => ErrorKind::Denied,
        _ => ErrorKind::Unavailable,
    }
}

/// Names the attempt that a SQLite error belongs to.
pub(crate) trait Attempt<T> {
    fn attempt(self, action: &'static str) -> Result<T, Error>;
}

impl<T> Attempt<T> for rusqlite::Result<T> {
    fn attempt(self, action: &'static str) -> Result<T, Error> {
        self.map_err(|source| Error::Sqlite { action, source })
    }
}
