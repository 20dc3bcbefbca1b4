//! One connection to another node: what is said over it, what is served, what is asked for.
//!
//! A session begins when both ends have introduced themselves ([`Session::introduce`]) and lasts as long as
//! [`Session::run`] runs, which serves the other end and hears its news. Content is asked for meanwhile.

mod ask;
mod close;
mod counters;
mod fetch;
mod hello;
mod limits;
mod news;
mod proof;
mod reply;
mod serve;
mod table;
mod uploads;
mod write;

use std::net::SocketAddr;
use std::ops::Range;
use std::pin::pin;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use musicfs_core::id::NodeId;
use musicfs_core::manifest::Manifest;
use musicfs_core::peer::{Held, Holdings, PeerError, PeerStream, WantedChunk};
use musicfs_core::version::VersionKey;
use quinn::Connection;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

pub(crate) use close::{CloseCode, Ended, Left, SessionError};
pub(crate) use counters::Counters;
pub(crate) use limits::{SessionLimits, endpoint, transport};
pub(crate) use uploads::Uploads;

use fetch::Fetch;
use hello::Streams;
use limits::{ASKED_MAX, MANIFESTS_ASKED_MAX, SERVED_MAX};
use news::Telling;
use table::Table;

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
    /// What this program drew when it started.
    pub(crate) start: u64,
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
    /// What its program drew when it started.
    pub(crate) start: u64,
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
    streams: Mutex<Option<Streams>>,
    telling: Telling,
    /// What the other end announces.
    table: Mutex<Table>,
    /// The other end is ending.
    has_left: AtomicBool,
    /// Places for its requests.
    served: Semaphore,
    /// How many of them are being served, or on their way.
    serving: watch::Sender<usize>,
    /// Places for this node's requests.
    asked: Arc<Semaphore>,
    /// Those for manifests.
    manifests: Semaphore,
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
        // Dropped behind what closes the connection: their end would say something else.
        let mut opened = hello::Opened::default();
        let meeting = hello::meet(&connection, role, local, &mut opened);
        let met = tokio::time::timeout(local.limits.hello_wait_max, meeting).await;
        let met = met.unwrap_or(Err(SessionError::Slow));
        let met = met.inspect_err(|error| hello::refuse(&connection, error))?;
        Ok(Arc::new(Self {
            connection,
            local: local.clone(),
            node: met.node,
            introduced: met.introduced,
            counters: counters(met.node),
            streams: Mutex::new(opened.both()),
            telling: Telling::default(),
            table: Mutex::default(),
            has_left: AtomicBool::new(false),
            served: Semaphore::new(SERVED_MAX),
            serving: watch::Sender::new(0),
            asked: Arc::new(Semaphore::new(ASKED_MAX)),
            manifests: Semaphore::new(MANIFESTS_ASKED_MAX),
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
    /// If this is dropped before, the connection is closed with [`CloseCode::Ending`].
    ///
    /// # Panics
    /// If it runs a second time.
    pub(crate) async fn run(self: &Arc<Self>, heard: mpsc::Sender<Heard>) -> Ended {
        // Dropped in the other order: a stream that ends ahead of the connection breaks the protocol.
        let running = pin!(self.run_to_end(heard));
        let _closing = Closing(&self.connection);
        running.await
    }

    /// Whom this node knows, to be told to the other end; replaces what was told before. At most
    /// [`crate::wire::KNOWN_NODES_MAX`] nodes with [`crate::wire::KNOWN_ADDRESSES_MAX`] addresses each are
    /// told; the rest is not.
    pub(crate) fn tell_known(&self, known: Vec<KnownNode>) {
        self.telling.know(known);
    }

    /// What the other end announces of a version.
    pub(crate) fn held(&self, version: VersionKey) -> Option<Held> {
        self.table().held(version)
    }

    /// How many versions it announces.
    pub(crate) fn objects_count(&self) -> u64 {
        self.table().len() as u64
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
        self.fetch_manifest(version, size).await
    }

    /// Chunks, as [`musicfs_core::peer::Peer::chunks`] says.
    pub(crate) fn chunks(
        self: &Arc<Self>,
        version: VersionKey,
        wanted: Vec<WantedChunk>,
    ) -> Box<dyn PeerStream> {
        Box::new(Fetch::chunks(self.clone(), version, wanted))
    }

    /// A range, as [`musicfs_core::peer::Peer::range`] says.
    pub(crate) fn range(
        self: &Arc<Self>,
        version: VersionKey,
        range: Range<u64>,
    ) -> Box<dyn PeerStream> {
        Box::new(Fetch::range(self.clone(), version, range))
    }

    /// Measures one round trip through both programs.
    ///
    /// # Errors
    /// [`PeerError::Gone`], [`PeerError::TimedOut`], or whatever else the answer is.
    pub(crate) async fn ping(&self) -> Result<Duration, PeerError> {
        self.ping_once().await
    }

    /// What was exchanged with this node.
    #[cfg(test)]
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
        self.telling.leave();
        let mut serving = self.serving.subscribe();
        let served = serving.wait_for(|count| *count == 0);
        // Whoever is still being served loses it, as when this node fails.
        let _ = tokio::time::timeout(wait_max, served).await;
        self.close(CloseCode::Ending);
    }

    /// Where the other end is now.
    pub(crate) fn remote_address(&self) -> SocketAddr {
        self.connection.remote_address()
    }

    async fn run_to_end(self: &Arc<Self>, heard: mpsc::Sender<Heard>) -> Ended {
        let streams = self
            .streams
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        // They outlive what uses them, and end behind the connection.
        let mut streams = streams.expect("a session runs once");
        let mut tasks = JoinSet::new();
        let ended = tokio::select! {
            biased;
            ended = self.over() => ended,
            ended = self.hear(&mut streams.hearing, heard) => ended,
            ended = self.tell(&mut streams.telling) => ended,
            ended = self.serve(&mut tasks) => ended,
            ended = self.refuse_streams() => ended,
        };
        match &ended {
            Ended::Violation(what) => CloseCode::Violation.close(&self.connection, what.0),
            Ended::Slow => CloseCode::Slow.close(&self.connection, ""),
            Ended::Closed | Ended::Left(_) | Ended::Lost | Ended::Failed(_) => {}
        }
        tasks.shutdown().await;
        self.table().clear();
        ended
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Its state is whole at every point that can panic.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes the connection when it is dropped, if nobody has done so yet.
struct Closing<'a>(&'a Connection);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        if self.0.close_reason().is_none() {
            CloseCode::Ending.close(self.0, "");
        }
    }
}

#[cfg(test)]
mod tests;
