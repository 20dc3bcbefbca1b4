//! Where the bytes of one content version come from: an origin, or another node.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use musicfs_core::error::ErrorKind;
use musicfs_core::health::Standing;
use musicfs_core::id::OriginId;
use musicfs_core::origin::{ByteStream, OriginError, OriginFile, OriginKind};
use musicfs_core::path::OriginPath;
use musicfs_core::peer::PeerError;
use musicfs_core::version::ContentVersion;

use super::RemoteFile;
use super::peers::{PeerBytes, PeerFile, PeerSource};
use crate::error::Error;
use crate::upstream::Upstream;

/// Whom a flight can ask.
pub(super) enum Source {
    Origin(Arc<OriginSource>),
    Peer(PeerSource),
}

/// A source that is ready to send.
pub(super) enum Opened {
    Origin(Arc<dyn OriginFile>),
    Peer(PeerFile),
}

/// Bytes on their way.
pub(super) enum Stream<'a> {
    Origin(&'a OriginSource, Box<dyn ByteStream + 'a>),
    Peer(PeerBytes),
}

/// Why a source did not deliver.
#[derive(Debug, thiserror::Error)]
pub(super) enum Cause {
    #[error("read from origin {origin}")]
    Origin {
        origin: OriginId,
        source: Arc<OriginError>,
    },
    #[error("read from a peer")]
    Peer { source: Arc<PeerError> },
}

impl Source {
    /// Where it stands among the others.
    pub(super) fn standing(&self) -> Standing {
        match self {
            Self::Origin(origin) => origin.upstream.standing(),
            Self::Peer(peer) => peer.standing(),
        }
    }

    /// How long to wait for the next bytes before this source is given up; `min` is the least.
    pub(super) fn patience(&self, min: Duration) -> Duration {
        match self {
            Self::Origin(origin) => origin.upstream.patience(min),
            Self::Peer(peer) => peer.patience(min),
        }
    }

    /// Up to where it has the bytes behind `at` without a gap.
    pub(super) fn limit(&self, at: u64) -> u64 {
        match self {
            Self::Origin(_) => u64::MAX,
            Self::Peer(peer) => peer.limit(at),
        }
    }

    /// Makes it ready to send what lies behind `at`.
    pub(super) async fn open(&self, file: &Arc<RemoteFile>, at: u64) -> Result<Opened, Cause> {
        match self {
            Self::Origin(origin) => match origin.file().await {
                Ok(opened) => Ok(Opened::Origin(opened)),
                Err(error) => Err(origin.cause(error)),
            },
            Self::Peer(peer) => match peer.open(file, at).await {
                Ok(opened) => Ok(Opened::Peer(opened)),
                Err(error) => Err(error.into()),
            },
        }
    }

    /// Starts to send `range`.
    pub(super) fn stream<'a>(&'a self, opened: &'a Opened, range: Range<u64>) -> Stream<'a> {
        match (self, opened) {
            (Self::Origin(origin), Opened::Origin(file)) => {
                Stream::Origin(origin, file.stream(range))
            }
            (_, Opened::Peer(file)) => Stream::Peer(file.stream(range)),
            (Self::Peer(_), Opened::Origin(_)) => unreachable!("a peer opens as a peer"),
        }
    }

    /// The first bytes of a request came after so long.
    pub(super) fn answered(&self, after: Duration) {
        match self {
            Self::Origin(origin) => origin.upstream.answered(after),
            Self::Peer(peer) => peer.answered(after),
        }
    }

    /// A try failed: the next opens the file anew, and whoever looks after the source is told.
    pub(super) async fn failed(&self, cause: &Cause) {
        match (self, cause) {
            (Self::Origin(origin), Cause::Origin { source, .. }) => origin.failed(source).await,
            (Self::Peer(peer), Cause::Peer { source }) => peer.failed(source),
            // A source tells of itself alone.
            (Self::Origin(_), Cause::Peer { .. }) | (Self::Peer(_), Cause::Origin { .. }) => {}
        }
    }

    /// What an error means for the next try.
    pub(super) async fn meaning(&self, cause: &Cause, patience: Duration) -> ErrorKind {
        match (self, cause) {
            (Self::Origin(origin), Cause::Origin { source, .. }) => {
                origin.meaning(source, patience).await
            }
            _ => cause.kind(),
        }
    }

    /// It did not send in time.
    pub(super) fn late(&self, after: Duration) -> Cause {
        match self {
            Self::Origin(origin) => origin.cause(OriginError::TimedOut {
                action: "read",
                path: origin.path.clone(),
                after,
            }),
            Self::Peer(peer) => peer.late(after).into(),
        }
    }

    /// It sent less than it was asked for.
    pub(super) fn ended_early(&self) -> Cause {
        const WHAT: &str = "it ended before the range that was asked for";
        match self {
            Self::Origin(origin) => origin.cause(OriginError::Malformed {
                action: "read",
                path: origin.path.clone(),
                what: WHAT,
            }),
            Self::Peer(peer) => peer.malformed(WHAT).into(),
        }
    }
}

impl Stream<'_> {
    /// The next piece; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Cause> {
        match self {
            Self::Origin(origin, stream) => {
                let piece = stream.next().await;
                piece.map_err(|error| origin.cause(error))
            }
            Self::Peer(stream) => stream.next().await.map_err(Cause::from),
        }
    }
}

impl From<PeerError> for Cause {
    fn from(error: PeerError) -> Self {
        Self::Peer {
            source: Arc::new(error),
        }
    }
}

impl Cause {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Origin { source, .. } => source.kind(),
            Self::Peer { source } => source.kind(),
        }
    }

    /// True if the connection to a peer was lost, which may have another one.
    pub(super) fn is_gone(&self) -> bool {
        matches!(self, Self::Peer { source } if matches!(**source, PeerError::Gone { .. }))
    }

    /// What a reader is told.
    pub(super) fn to_error(&self) -> Error {
        match self {
            Self::Origin { origin, source } => Error::Fetch {
                origin: origin.clone(),
                source: source.clone(),
            },
            Self::Peer { source } => Error::Peer {
                source: source.clone(),
            },
        }
    }
}

/// One content version at one path of one origin.
pub(crate) struct OriginSource {
    upstream: Arc<Upstream>,
    path: OriginPath,
    version: ContentVersion,
    file: tokio::sync::Mutex<Option<Arc<dyn OriginFile>>>,
}

impl OriginSource {
    pub(crate) fn new(upstream: Arc<Upstream>, path: OriginPath, version: ContentVersion) -> Self {
        Self {
            upstream,
            path,
            version,
            file: tokio::sync::Mutex::new(None),
        }
    }

    pub(super) fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    pub(crate) fn origin(&self) -> &OriginId {
        self.upstream.id()
    }

    pub(crate) fn path(&self) -> &OriginPath {
        &self.path
    }

    /// True if both mean the same place.
    pub(crate) fn is_at(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.upstream, &other.upstream)
            && self.path == other.path
            && self.version == other.version
    }

    fn cause(&self, error: OriginError) -> Cause {
        Cause::Origin {
            origin: self.origin().clone(),
            source: Arc::new(error),
        }
    }

    /// The open file: opened at the first use, kept while it works.
    ///
    /// # Errors
    /// As [`Origin::open`](musicfs_core::origin::Origin::open); [`OriginError::Changed`] if another
    /// version lies there.
    async fn file(&self) -> Result<Arc<dyn OriginFile>, OriginError> {
        let mut slot = self.file.lock().await;
        if let Some(file) = &*slot {
            return Ok(file.clone());
        }
        let origin = self.upstream.origin();
        let file = origin.open(&self.path, &self.version).await?;
        if *file.version() != self.version {
            return Err(OriginError::Changed {
                path: self.path.clone(),
            });
        }
        let file: Arc<dyn OriginFile> = file.into();
        *slot = Some(file.clone());
        Ok(file)
    }

    async fn failed(&self, error: &OriginError) {
        *self.file.lock().await = None;
        self.upstream.failed(error);
        if matches!(error.kind(), ErrorKind::Stale | ErrorKind::NotFound) {
            self.upstream.request_refresh(self.path.clone());
        }
    }

    /// A share that loses its connection may say that an open file is gone or another one: then what
    /// lies at the path tells.
    async fn meaning(&self, error: &OriginError, patience: Duration) -> ErrorKind {
        let kind = error.kind();
        let is_share = matches!(
            self.upstream.origin().kind(),
            OriginKind::Nfs | OriginKind::Smb
        );
        if !is_share || !matches!(kind, ErrorKind::Stale | ErrorKind::NotFound) {
            return kind;
        }
        match tokio::time::timeout(patience, self.file()).await {
            Ok(Ok(_)) => ErrorKind::Unavailable,
            Ok(Err(error)) => error.kind(),
            Err(_) => ErrorKind::DeadlineExceeded,
        }
    }
}
