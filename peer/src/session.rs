//! One connection to another node: what is said over it, what is served, what is asked for.
//!
//! A session begins when both ends have introduced themselves ([`Session::introduce`]) and lasts as long as
//! [`Session::run`] runs, which serves the other end and hears its news. Content is asked for meanwhile.

mod close;
mod counters;
mod fetch;
mod hello;
mod limits;
mod uploads;

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use musicfs_core::id::NodeId;
use musicfs_core::manifest::Manifest;
use musicfs_core::peer::{Held, Holdings, PeerError, PeerStream, WantedChunk};
use musicfs_core::version::VersionKey;
use quinn::{Connection, RecvStream, SendStream};
use tokio::sync::mpsc;

pub(crate) use close::{CloseCode, Ended, Left, SessionError};
pub(crate) use counters::Counters;
pub(crate) use limits::{SessionLimits, transport};
pub(crate) use uploads::Uploads;

use crate::binding::Role;
use crate::have::Have;
use crate::node::NodeKey;
use crate::tls::Tls;
pub(crate) use crate::wire::KnownNode;

/// What all sessions of this node have in common.
pub(crate) struct Local {
    /// Whose word this node's manifests are.
    pub(crate) node_key: Arc<NodeKey>,
    /// What says who is at the other end: certificates, or a binding.
    pub(crate) tls: Tls,
    /// What this node calls itself.
    pub(crate) name: String,
    /// The version of its program.
    pub(crate) version: String,
    /// The UDP port that it accepts connections on; 0 if it accepts none.
    pub(crate) listen_port: u16,
    /// What it lets others have.
    pub(crate) holdings: Arc<dyn Holdings>,
    /// What it announces of that. Somebody runs it.
    pub(crate) have: Arc<Have>,
    /// The limits of all sessions together.
    pub(crate) uploads: Arc<Uploads>,
    /// Those of each.
    pub(crate) limits: SessionLimits,
}

/// What the other end said of itself. Nothing of it is proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Introduced {
    /// Its name: printable, at most 64 characters, perhaps empty.
    pub(crate) name: String,
    /// The version of its program, in the same way.
    pub(crate) version: String,
    /// The UDP port that it accepts connections on; 0 if it accepts none.
    pub(crate) listen_port: u16,
    /// The minor version of the protocol that it speaks.
    pub(crate) minor: u32,
}

/// Whom another node knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    /// Who told.
    pub(crate) from: NodeId,
    /// All that it is connected to; takes the place of what it told before.
    pub(crate) known: Vec<KnownNode>,
}

/// One connection to another node whose name is known.
pub(crate) struct Session {
    connection: Connection,
    local: Arc<Local>,
    node: NodeId,
    introduced: Introduced,
    counters: Arc<Counters>,
    /// Those of the news; taken by [`Session::run`].
    streams: Mutex<Option<(SendStream, RecvStream)>>,
}

impl Session {
    /// Says and hears Hello, within [`SessionLimits::hello_wait_max`]. `counters` gives those of a node.
    ///
    /// The connection must have been made with [`transport`].
    ///
    /// # Errors
    /// [`SessionError`]; the other end was told why, and the connection is closed.
    pub(crate) async fn introduce(
        connection: Connection,
        role: Role,
        local: &Arc<Local>,
        counters: impl FnOnce(NodeId) -> Arc<Counters>,
    ) -> Result<Arc<Self>, SessionError> {
        let meeting = hello::meet(&connection, role, local);
        let met = tokio::time::timeout(local.limits.hello_wait_max, meeting).await;
        let met = met.unwrap_or(Err(SessionError::Slow));
        let met = met.inspect_err(|error| hello::refuse(&connection, error))?;
        Ok(Arc::new(Self {
            connection,
            local: local.clone(),
            node: met.node,
            introduced: met.introduced,
            counters: counters(met.node),
            streams: Mutex::new(Some((met.telling, met.hearing))),
        }))
    }

    /// Who is at the other end.
    pub(crate) fn node(&self) -> NodeId {
        self.node
    }

    /// What it said of itself.
    pub(crate) fn hello(&self) -> &Introduced {
        &self.introduced
    }

    /// Serves the other end and takes its news until the connection ends, and says why it did. Runs once.
    ///
    /// `heard` gets whom it knows; what finds the channel full is dropped, for the next tells all again.
    /// When this is dropped the connection stays; who drops it closes it.
    pub(crate) async fn run(self: &Arc<Self>, heard: mpsc::Sender<Heard>) -> Ended {
        let _ = heard;
        Ended::of(self.connection.closed().await)
    }

    /// Whom this node knows, to be told to the other end; replaces what was told before. At most
    /// [`crate::wire::KNOWN_NODES_MAX`] nodes with [`crate::wire::KNOWN_ADDRESSES_MAX`] addresses each are
    /// told; the rest is not.
    pub(crate) fn tell_known(&self, known: Vec<KnownNode>) {
        drop(known);
    }

    /// What the other end announces of a version.
    pub(crate) fn held(&self, version: VersionKey) -> Option<Held> {
        let _ = version;
        None
    }

    /// How many versions it announces.
    pub(crate) fn objects_count(&self) -> u64 {
        0
    }

    /// Its manifest of a version of `size` bytes; its signature was checked.
    ///
    /// # Errors
    /// [`PeerError`]: `Malformed` if the signature is not that of this node, or the size is another.
    pub(crate) async fn manifest(
        &self,
        version: VersionKey,
        size: u64,
    ) -> Result<Arc<Manifest>, PeerError> {
        let _ = (version, size);
        Err(self.gone())
    }

    /// Chunks, as [`musicfs_core::peer::Peer::chunks`] says.
    pub(crate) fn chunks(
        self: &Arc<Self>,
        version: VersionKey,
        wanted: Vec<WantedChunk>,
    ) -> Box<dyn PeerStream> {
        let _ = (version, wanted);
        let session = self.clone();
        Box::new(fetch::Fetch { session })
    }

    /// A range, as [`musicfs_core::peer::Peer::range`] says.
    pub(crate) fn range(
        self: &Arc<Self>,
        version: VersionKey,
        range: Range<u64>,
    ) -> Box<dyn PeerStream> {
        let _ = (version, range);
        let session = self.clone();
        Box::new(fetch::Fetch { session })
    }

    /// Measures one round trip through both programs.
    ///
    /// # Errors
    /// [`PeerError::Gone`], [`PeerError::TimedOut`], or whatever else the answer is.
    pub(crate) async fn ping(&self) -> Result<Duration, PeerError> {
        Err(self.gone())
    }

    /// What was exchanged with this node.
    pub(crate) fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// The smoothed round trip.
    pub(crate) fn rtt(&self) -> Duration {
        self.connection.rtt()
    }

    /// Closes the connection at once; [`Session::run`] ends.
    pub(crate) fn close(&self, why: CloseCode) {
        why.close(&self.connection, "");
    }

    /// Tells the other end that this node is ending, waits until what it is being served has arrived, but
    /// for `wait_max` at most, and closes the connection.
    pub(crate) async fn leave(&self, wait_max: Duration) {
        let _ = wait_max;
        self.close(CloseCode::Ending);
    }

    /// Where the other end is now.
    pub(crate) fn remote_address(&self) -> SocketAddr {
        self.connection.remote_address()
    }

    fn gone(&self) -> PeerError {
        PeerError::Gone { peer: self.node }
    }
}
