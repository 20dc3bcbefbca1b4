//! The ports between this node and the others of its cluster.
//!
//! [`Holdings`] is what this node lets others have: the library offers it, the exchange serves it.
//! [`Peers`] is what others let this node have: the exchange offers it, the library uses it. Content
//! is named by [`VersionKey`] and by the hashes of chunks, never by a path.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::error::ErrorKind;
use crate::extents::Extents;
use crate::health::Standing;
use crate::id::NodeId;
use crate::manifest::{ChunkHash, Manifest};
use crate::origin::BoxFuture;
use crate::version::VersionKey;

/// The priority of peers among other sources, unless configured: behind what is near, ahead of S3 and
/// SFTP.
pub const PEER_PRIORITY: u32 = 10;

/// What a node announces of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// All of it, and its manifest.
    Complete,
    /// These ranges, which are whole blocks; not empty.
    Ranges(Extents),
}

impl Held {
    /// True if the byte at `at` is there.
    pub fn has(&self, at: u64) -> bool {
        match self {
            Self::Complete => true,
            Self::Ranges(ranges) => ranges.covers(at..at.saturating_add(1)),
        }
    }
}

/// What changed in what a node holds: for each version what is held from now on, `None` for nothing.
pub type HoldingChanges = Vec<(VersionKey, Option<Held>)>;

/// What this node lets others have.
///
/// Only bytes that it got from an origin itself, or that were proven to be the origin's: others rely
/// on that. Every method may be called from several tasks at once.
pub trait Holdings: Send + Sync {
    /// Starts to tell: everything held now, in as many steps as it takes, then each change.
    fn watch(&self) -> Box<dyn WatchHoldings>;

    /// The manifest of a version that is held completely.
    fn manifest(&self, version: VersionKey) -> BoxFuture<'_, Option<Arc<Manifest>>>;

    /// The bytes of `range`, which spans [`crate::origin::PIECE_BYTES_MAX`] at most, compared with
    /// their checksums just now; `None` unless all of them are held.
    fn read(&self, version: VersionKey, range: Range<u64>) -> BoxFuture<'_, Option<Bytes>>;
}

/// Tells what this node holds. Dropping it ends that.
pub trait WatchHoldings: Send {
    /// The next changes, not empty; `None` when the library has closed.
    ///
    /// Cancellation-safe.
    fn next(&mut self) -> BoxFuture<'_, Option<HoldingChanges>>;
}

/// The other nodes.
pub trait Peers: Send + Sync {
    /// This node.
    fn node(&self) -> NodeId;

    /// The connected nodes that announce something of a version, in no promised order. Never waits.
    fn holders(&self, version: VersionKey) -> Vec<Arc<dyn Peer>>;

    /// Every node known, connected or not, by id.
    fn list(&self) -> Vec<PeerStatus>;

    /// Waits until something in [`Peers::list`] but a counter is another than at revision `seen`, and
    /// gives the revision of now. 0 is before the first.
    fn changed(&self, seen: u64) -> BoxFuture<'_, u64>;

    /// Measures one round trip.
    ///
    /// # Errors
    /// [`PeerError::Gone`] if it is not connected or not known; [`PeerError::TimedOut`].
    fn ping(&self, id: NodeId) -> BoxFuture<'_, Result<Duration, PeerError>>;

    /// Tells that a node did what no honest one does, as came out later: it is demoted, connected or
    /// not.
    fn accuse(&self, id: NodeId, error: &PeerError);
}

/// One connected node, as a source of bytes.
///
/// It stays usable as a value when the connection ends; requests then fail with [`PeerError::Gone`].
pub trait Peer: Send + Sync {
    /// Which node it is.
    fn id(&self) -> NodeId;

    /// What it announces of a version; `None` for nothing.
    fn held(&self, version: VersionKey) -> Option<Held>;

    /// Where it stands among other sources.
    fn standing(&self) -> Standing;

    /// How long to wait for bytes before it is given up; `min` is the least.
    fn patience(&self, min: Duration) -> Duration;

    /// Its manifest of a version of `size` bytes, signed by it. The signature and the size were
    /// checked, the content was not: its bytes are provisional until something else proves it.
    ///
    /// # Errors
    /// [`PeerError`]; the caller tells [`Peer::failed`].
    fn manifest(
        &self,
        version: VersionKey,
        size: u64,
    ) -> BoxFuture<'_, Result<Arc<Manifest>, PeerError>>;

    /// The bytes of chunks of a version, one after the other, each compared with its hash.
    ///
    /// How many are asked for at once is the implementation's matter; the caller may ask for all of
    /// a file.
    fn chunks(&self, version: VersionKey, wanted: Vec<WantedChunk>) -> Box<dyn PeerStream>;

    /// The bytes of a range, which nothing was compared with.
    fn range(&self, version: VersionKey, range: Range<u64>) -> Box<dyn PeerStream>;

    /// The first bytes of a request came after so long.
    fn answered(&self, after: Duration);

    /// A request failed, or took longer than its patience. A fault that no honest node has
    /// ([`PeerError::is_lie`]) demotes it: it is asked last from then on.
    fn failed(&self, error: &PeerError);
}

/// A chunk to be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WantedChunk {
    /// Its name.
    pub hash: ChunkHash,
    /// Its length in bytes.
    pub len: u32,
}

/// Bytes on their way from a peer. Dropping it tells the peer to stop.
pub trait PeerStream: Send {
    /// The next piece, not empty and of at most [`crate::origin::PIECE_BYTES_MAX`]; `None` once all
    /// that was asked for has been delivered.
    ///
    /// Not cancellation-safe: after a `next` that was dropped, drop the stream.
    ///
    /// # Errors
    /// [`PeerError`]; what came before stays good.
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, PeerError>>;
}

/// The life of a connection to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerState {
    /// It is being reached.
    Connecting,
    /// It exchanges content.
    Connected,
    /// It stopped answering; it is tried again from time to time.
    Lost,
    /// It delivered wrong content, and is asked last.
    Demoted,
}

impl PeerState {
    /// True while there is a connection to it.
    pub fn is_connected(self) -> bool {
        match self {
            Self::Connected | Self::Demoted => true,
            Self::Connecting | Self::Lost => false,
        }
    }
}

/// How a node came to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FoundBy {
    /// It told so on the local network.
    Mdns,
    /// A name in DNS leads to it.
    Dns,
    /// Its address is configured.
    Static,
    /// Another node told of it, or it connected by itself.
    Peer,
}

impl FoundBy {
    /// The name used in the control API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mdns => "mdns",
            Self::Dns => "dns",
            Self::Static => "static",
            Self::Peer => "peer",
        }
    }
}

/// What is known of one peer. Counters run since the start of this node's program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Which node.
    pub id: NodeId,
    /// The name that it gave itself: printable, at most 64 characters; empty before it said one.
    pub name: String,
    /// Of the connection, or the last one tried.
    pub address: Option<SocketAddr>,
    /// How it came to be known.
    pub found_by: FoundBy,
    /// Whether it is connected.
    pub state: PeerState,
    /// The smoothed round trip; zero while it is not known.
    pub rtt: Duration,
    /// Bytes of content received from it.
    pub bytes_in: u64,
    /// Bytes of content sent to it.
    pub bytes_out: u64,
    /// Chunks received from it.
    pub chunks_in: u64,
    /// Chunks sent to it.
    pub chunks_out: u64,
    /// Requests to it that failed.
    pub errors: u64,
    /// The version of its program; empty before it said one.
    pub version: String,
    /// Versions that it announces.
    pub objects: u64,
    /// Since when it is connected, in seconds since 1970; 0 if it is not.
    pub connected_since_unix: i64,
    /// What went wrong last.
    pub last_error: Option<String>,
}

/// Why a peer did not deliver.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// The connection ended, or there is none.
    #[error("reach peer {peer}: the connection is gone")]
    Gone {
        /// Which node.
        peer: NodeId,
    },
    /// It did not answer, or stopped in the middle.
    #[error("{action} peer {peer}: no answer within {} ms", after.as_millis())]
    TimedOut {
        /// Which node.
        peer: NodeId,
        /// What was tried, as a verb with its preposition.
        action: &'static str,
        /// How long it was waited for.
        after: Duration,
    },
    /// It does not have what it was asked for any more.
    #[error("fetch from peer {peer}: it does not hold this")]
    NotHeld {
        /// Which node.
        peer: NodeId,
    },
    /// It has too much to do, or is ending.
    #[error("fetch from peer {peer}: it is busy")]
    Busy {
        /// Which node.
        peer: NodeId,
    },
    /// It breaks the protocol.
    #[error("fetch from peer {peer}: its answer is wrong: {what}")]
    Malformed {
        /// Which node.
        peer: NodeId,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The bytes are not those of the chunk.
    #[error("accept chunk {chunk} from peer {peer}: its digest differs")]
    Corrupt {
        /// Which node.
        peer: NodeId,
        /// Which chunk.
        chunk: ChunkHash,
    },
    /// A manifest that it signed turned out not to be that of the origin's content.
    #[error("trust the manifest of {version} by peer {peer}: the origin's content is another")]
    FalseManifest {
        /// Which node.
        peer: NodeId,
        /// Of what.
        version: VersionKey,
    },
}

impl PeerError {
    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Gone { .. } | Self::Busy { .. } => ErrorKind::Unavailable,
            Self::TimedOut { .. } => ErrorKind::DeadlineExceeded,
            Self::NotHeld { .. } => ErrorKind::NotFound,
            Self::Malformed { .. } | Self::Corrupt { .. } | Self::FalseManifest { .. } => {
                ErrorKind::Corrupt
            }
        }
    }

    /// True if no node that keeps to the protocol and holds sound bytes gives cause for it.
    pub fn is_lie(&self) -> bool {
        self.kind() == ErrorKind::Corrupt
    }
}

/// How far it is proven that a node's bytes of a version are the origin's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trust {
    /// Nothing but the word of the node that sent them.
    Provisional,
    /// A member of the cluster signed for them.
    Member,
    /// The origin's CRC of the whole agrees.
    Checked,
    /// They were read from the origin, or its cryptographic or MD5 checksum of the whole agrees.
    Anchored,
}

impl Trust {
    /// The name used in the control API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Provisional => "provisional",
            Self::Member => "member",
            Self::Checked => "checked",
            Self::Anchored => "anchored",
        }
    }
}
