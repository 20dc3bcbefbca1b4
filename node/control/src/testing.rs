//! A library without origins, and an exchange that says what a test wants.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use musicfs_core::id::NodeId;
use musicfs_core::origin::BoxFuture;
use musicfs_core::peer::{FoundBy, Peer, PeerError, PeerState, PeerStatus, Peers};
use musicfs_core::version::VersionKey;
use musicfs_index::{Index, Layout};
use musicfs_library::Library;
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::{ControlContext, MountView, Operation};

/// A peer called by its number.
pub(crate) fn peer(number: u8, state: PeerState) -> PeerStatus {
    PeerStatus {
        id: NodeId::from_bytes([number; 16]),
        name: format!("node-{number}"),
        address: "192.0.2.1:4242".parse().ok(),
        found_by: FoundBy::Mdns,
        state,
        rtt: Duration::from_micros(3_200),
        bytes_in: 100,
        bytes_out: 200,
        chunks_in: 1,
        chunks_out: 2,
        errors: 3,
        version: "1.2.3".into(),
        objects: 12,
        connected_since_unix: 1_700_000_000,
        last_error: (state == PeerState::Lost).then(|| "it is gone".into()),
    }
}

/// An exchange whose list a test sets.
pub(crate) struct ScriptedPeers(watch::Sender<(u64, Vec<PeerStatus>)>);

impl ScriptedPeers {
    pub(crate) fn new(list: Vec<PeerStatus>) -> Arc<Self> {
        Arc::new(Self(watch::Sender::new((1, list))))
    }

    pub(crate) fn set(&self, list: Vec<PeerStatus>) {
        self.0.send_modify(|state| *state = (state.0 + 1, list));
    }
}

impl Peers for ScriptedPeers {
    fn node(&self) -> NodeId {
        NodeId::from_bytes([0xee; 16])
    }

    fn holders(&self, _: VersionKey) -> Vec<Arc<dyn Peer>> {
        Vec::new()
    }

    fn list(&self) -> Vec<PeerStatus> {
        self.0.borrow().1.clone()
    }

    fn changed(&self, seen: u64) -> BoxFuture<'_, u64> {
        Box::pin(async move {
            let mut state = self.0.subscribe();
            let changed = state.wait_for(|(revision, _)| *revision > seen).await;
            changed.expect("the sender is held here").0
        })
    }

    fn ping(&self, id: NodeId) -> BoxFuture<'_, Result<Duration, PeerError>> {
        let peer = self.list().into_iter().find(|peer| peer.id == id);
        Box::pin(std::future::ready(match peer {
            Some(peer) if peer.state.is_connected() => Ok(peer.rtt),
            _ => Err(PeerError::Gone { peer: id }),
        }))
    }

    fn accuse(&self, _: NodeId, _: &PeerError) {}
}

struct NoMount;

impl MountView for NoMount {
    fn mount_point(&self) -> &Path {
        Path::new("/nonexistent")
    }

    fn open_file_handles(&self) -> u64 {
        7
    }

    fn fuse_ops_total(&self) -> u64 {
        0
    }

    fn operations(&self) -> Vec<Operation> {
        Vec::new()
    }
}

/// What services answer from: a library without origins, in a directory of its own.
pub(crate) async fn context() -> (ControlContext, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let (index, _) = Index::open(dir.path(), Layout::default()).unwrap();
    let library = Library::start(index, Vec::new(), None).await.unwrap();
    let context = ControlContext {
        library: Arc::new(library),
        mount: Arc::new(NoMount),
        shutdown: mpsc::channel(1).0,
        reload: mpsc::channel(1).0,
        drain_default: Duration::ZERO,
        started: Instant::now(),
        stopping: CancellationToken::new(),
    };
    (context, dir)
}
