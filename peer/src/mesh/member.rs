//! A connected node as a source of bytes.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use musicfs_core::health::Standing;
use musicfs_core::id::NodeId;
use musicfs_core::manifest::Manifest;
use musicfs_core::origin::BoxFuture;
use musicfs_core::peer::{Held, Peer, PeerError, PeerStream, WantedChunk};
use musicfs_core::version::VersionKey;

use super::record::{Record, UnderWay};
use super::shared::Shared;
use crate::session::Session;

/// One connection, with what is remembered of its node.
pub(super) struct Member {
    session: Arc<Session>,
    record: Arc<Record>,
    shared: Arc<Shared>,
}

/// A stream that counts as a request under way.
struct Counted {
    stream: Box<dyn PeerStream>,
    _under_way: UnderWay,
}

impl Member {
    pub(super) fn new(session: Arc<Session>, record: Arc<Record>, shared: Arc<Shared>) -> Self {
        Self {
            session,
            record,
            shared,
        }
    }

    pub(super) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    fn counted(&self, stream: Box<dyn PeerStream>) -> Box<dyn PeerStream> {
        Box::new(Counted {
            stream,
            _under_way: self.record.begin(),
        })
    }
}

impl Peer for Member {
    fn id(&self) -> NodeId {
        self.session.node()
    }

    fn held(&self, version: VersionKey) -> Option<Held> {
        self.session.held(version)
    }

    fn standing(&self) -> Standing {
        let standing = self.record.known().vitals.standing(self.shared.priority);
        let standing = standing.coarse().loaded(self.record.requests());
        match self.shared.is_demoted(self.id()) {
            true => standing.demoted(),
            false => standing,
        }
    }

    fn patience(&self, min: Duration) -> Duration {
        self.record.known().vitals.latency().patience(min)
    }

    fn manifest(
        &self,
        version: VersionKey,
        size: u64,
    ) -> BoxFuture<'_, Result<Arc<Manifest>, PeerError>> {
        Box::pin(async move {
            let _under_way = self.record.begin();
            self.session.manifest(version, size).await
        })
    }

    fn chunks(&self, version: VersionKey, wanted: Vec<WantedChunk>) -> Box<dyn PeerStream> {
        self.counted(self.session.chunks(version, wanted))
    }

    fn range(&self, version: VersionKey, range: Range<u64>) -> Box<dyn PeerStream> {
        self.counted(self.session.range(version, range))
    }

    fn answered(&self, after: Duration) {
        self.record.known().vitals.answered(after);
    }

    fn failed(&self, error: &PeerError) {
        self.record.failed(error);
        self.shared.failed(self.id(), error);
    }
}

impl PeerStream for Counted {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, PeerError>> {
        self.stream.next()
    }
}
