//! What can go wrong in the library.

use std::sync::Arc;

use musicfs_core::error::ErrorKind;
use musicfs_core::id::{Ino, OriginId};
use musicfs_core::origin::OriginError;
use musicfs_core::peer::PeerError;

/// Why the library could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No entry has this number.
    #[error("find inode {ino}")]
    NoEntry {
        /// The number.
        ino: Ino,
    },
    /// The entry is not what the operation is for.
    #[error("use inode {ino}: it is {is}")]
    WrongKind {
        /// The number.
        ino: Ino,
        /// What it is.
        is: &'static str,
    },
    /// The content changed on the origin since it was indexed.
    #[error("open inode {ino}: its file changed on the origin")]
    Stale {
        /// The number.
        ino: Ino,
    },
    /// The origin is not configured, or no longer.
    #[error("find origin {origin}")]
    NoOrigin {
        /// Its id.
        origin: OriginId,
    },
    /// The origin is still configured, so it cannot be forgotten.
    #[error("forget origin {origin}: it is in use; remove it from the configuration first")]
    InUse {
        /// Its id.
        origin: OriginId,
    },
    /// The file is not where the index knows it, and its origin seems to be away.
    #[error("open inode {ino}: origin {origin} is away")]
    Away {
        /// The number.
        ino: Ino,
        /// The origin.
        origin: OriginId,
    },
    /// The origin failed.
    #[error("use origin {origin}")]
    Origin {
        /// Which one.
        origin: OriginId,
        /// Why.
        source: OriginError,
    },
    /// Bytes could not be fetched.
    #[error("read from origin {origin}")]
    Fetch {
        /// Which origin.
        origin: OriginId,
        /// Why; the same for all reads that waited for these bytes.
        source: Arc<OriginError>,
    },
    /// Bytes could not be fetched from another node, and no origin was asked.
    #[error("read from another node")]
    Peer {
        /// Why; the same for all reads that waited for these bytes.
        source: Arc<PeerError>,
    },
    /// The cache lost what was read, again and again.
    #[error(
        "read from origin {origin}: the cache gives up its content faster than it is read; raise its limit"
    )]
    Unstable {
        /// Which origin.
        origin: OriginId,
    },
    /// The origin is remote, and there is no cache.
    #[error(
        "use origin {origin}: it needs a cache, and there is none; restart musicfs to make one"
    )]
    NoCache {
        /// Which origin.
        origin: OriginId,
    },
    /// The cache failed.
    #[error("use the cache")]
    Store {
        /// Why.
        #[from]
        source: musicfs_store::Error,
    },
    /// Nothing in the tree has this path.
    #[error("find {path:?} in the library")]
    NoPath {
        /// The path, from the root of the tree.
        path: String,
    },
    /// More would be pinned than may be.
    #[error(
        "pin {path:?}: pins would hold {bytes} bytes, and may hold {capacity}: raise cache_limit or unpin something"
    )]
    PinTooLarge {
        /// The path, from the root of the tree.
        path: String,
        /// Bytes of all pins with this one.
        bytes: u64,
        /// Bytes that pins may hold.
        capacity: u64,
    },
    /// The operation took longer than a read may.
    #[error("use origin {origin}: no answer in time")]
    Timeout {
        /// Which one.
        origin: OriginId,
    },
    /// The index failed.
    #[error("use the index")]
    Index {
        /// Why.
        #[from]
        source: musicfs_index::Error,
    },
    /// The library is shutting down.
    #[error("ask the library: it is closing")]
    Closing,
}

impl Error {
    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoEntry { .. } | Self::NoOrigin { .. } => ErrorKind::NotFound,
            Self::WrongKind { .. } | Self::InUse { .. } => ErrorKind::Invalid,
            Self::Stale { .. } => ErrorKind::Stale,
            Self::Away { .. } => ErrorKind::Unavailable,
            Self::Origin { source, .. } => source.kind(),
            Self::Fetch { source, .. } => source.kind(),
            Self::Peer { source } => source.kind(),
            Self::Unstable { .. } | Self::PinTooLarge { .. } => ErrorKind::Exhausted,
            Self::NoCache { .. } => ErrorKind::Unsupported,
            Self::Store { source } => source.kind(),
            Self::NoPath { .. } => ErrorKind::NotFound,
            Self::Timeout { .. } => ErrorKind::DeadlineExceeded,
            Self::Index { source } => source.kind(),
            Self::Closing => ErrorKind::Cancelled,
        }
    }
}
