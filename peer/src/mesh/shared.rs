//! What the tasks of a mesh and its callers have in common.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use musicfs_core::id::NodeId;
use musicfs_core::peer::{FoundBy, PeerError, PeerState, PeerStatus};
use musicfs_core::time::Timestamp;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::member::Member;
use super::record::Records;
use crate::policy::demotion::Demotions;

/// See the module.
pub(super) struct Shared {
    pub(super) node: NodeId,
    /// Of peers among sources.
    pub(super) priority: u32,
    pub(super) records: Records,
    /// Wakes the driver when a demotion began.
    pub(super) demoted: Notify,
    start: Instant,
    demotions: Mutex<Demotions>,
    view: RwLock<Arc<View>>,
    revision: watch::Sender<u64>,
}

/// What everybody may see, as of one moment.
#[derive(Default)]
pub(super) struct View {
    /// By id.
    pub(super) nodes: Vec<Shown>,
    /// Every address at which a node may be.
    pub(super) addresses: BTreeSet<SocketAddr>,
    /// Those at which nodes are connected.
    pub(super) linked: BTreeSet<SocketAddr>,
}

/// One node.
#[derive(Clone)]
pub(super) struct Shown {
    pub(super) node: NodeId,
    pub(super) address: SocketAddr,
    pub(super) found_by: FoundBy,
    pub(super) is_lost: bool,
    /// As a source, if it is connected.
    pub(super) member: Option<Arc<Member>>,
    pub(super) connected_since_unix: i64,
    /// What went wrong at an address of a node that was not met yet.
    pub(super) dial_error: Option<String>,
}

impl Shared {
    pub(super) fn new(node: NodeId, priority: u32) -> Arc<Self> {
        Arc::new(Self {
            node,
            priority,
            records: Records::default(),
            demoted: Notify::new(),
            start: Instant::now(),
            demotions: Mutex::default(),
            view: RwLock::default(),
            revision: watch::Sender::new(1),
        })
    }

    pub(super) fn now(&self) -> Timestamp {
        Timestamp(self.start.elapsed())
    }

    /// The runtime's moment of a time.
    pub(super) fn instant(&self, at: Timestamp) -> Option<Instant> {
        self.start.checked_add(at.0)
    }

    pub(super) fn view(&self) -> Arc<View> {
        self.view
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Shows another view; it is another revision if `is_changed`.
    pub(super) fn show(&self, view: View, is_changed: bool) {
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(view);
        if is_changed {
            self.change();
        }
    }

    /// Something that is listed is another than before.
    pub(super) fn change(&self) {
        self.revision.send_modify(|revision| *revision += 1);
    }

    pub(super) fn revision(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    pub(super) fn demotions(&self) -> MutexGuard<'_, Demotions> {
        // Its state is whole at every point that can panic.
        self.demotions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_demoted(&self, node: NodeId) -> bool {
        let now = self.now();
        self.demotions().is_demoted(now, node)
    }

    /// A node failed; what no sound node does demotes it.
    pub(super) fn failed(&self, node: NodeId, error: &PeerError) {
        if error.is_lie() {
            let now = self.now();
            let is_new = self.demotions().demote(now, node);
            self.demoted.notify_one();
            if is_new {
                tracing::warn!(
                    peer = %node,
                    %error,
                    "a node delivered what no sound node does; it is asked last for an hour"
                );
            }
        }
        self.change();
    }

    /// Every node, as users see it.
    pub(super) fn list(&self) -> Vec<PeerStatus> {
        let view = self.view();
        view.nodes.iter().map(|node| self.status(node)).collect()
    }

    fn status(&self, shown: &Shown) -> PeerStatus {
        let is_demoted = self.is_demoted(shown.node);
        let state = match &shown.member {
            Some(_) if is_demoted => PeerState::Demoted,
            Some(_) => PeerState::Connected,
            None if shown.is_lost => PeerState::Lost,
            None => PeerState::Connecting,
        };
        let session = shown.member.as_ref().map(|member| member.session());
        let mut status = PeerStatus {
            id: shown.node,
            name: String::new(),
            address: Some(shown.address),
            found_by: shown.found_by,
            state,
            rtt: session.map_or(Duration::ZERO, |session| session.rtt()),
            bytes_in: 0,
            bytes_out: 0,
            chunks_in: 0,
            chunks_out: 0,
            errors: 0,
            version: String::new(),
            objects: session.map_or(0, |session| session.objects_count()),
            connected_since_unix: shown.connected_since_unix,
            last_error: shown.dial_error.clone(),
        };
        if let Some(record) = self.records.find(shown.node) {
            let counters = &record.counters;
            status.bytes_in = counters.bytes_in();
            status.bytes_out = counters.bytes_out();
            status.chunks_in = counters.chunks_in();
            status.chunks_out = counters.chunks_out();
            status.errors = record.errors();
            let known = record.known();
            status.name.clone_from(&known.name);
            status.version.clone_from(&known.version);
            let lie = known.lie.as_ref().filter(|_| is_demoted);
            let error = lie.or(known.last_error.as_ref());
            status.last_error = error.cloned().or(status.last_error);
        }
        status
    }
}

impl Shown {
    /// True if nobody would see a difference.
    pub(super) fn shows_the_same(&self, other: &Self) -> bool {
        let link = |shown: &Self| shown.member.as_ref().map(Arc::as_ptr);
        let (one, two) = (self, other);
        (one.node, one.address, one.found_by, one.is_lost)
            == (two.node, two.address, two.found_by, two.is_lost)
            && link(one) == link(two)
            && one.dial_error == two.dial_error
    }
}
