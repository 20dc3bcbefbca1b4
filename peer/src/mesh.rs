//! This node among others: one UDP port, the connections on it, and who is behind them.
//!
//! The driver is the one task that knows the roster ([`crate::policy::roster`]) and does what it
//! decides. The door lets others in, discovery tells of addresses, each connection has a task; all of
//! them tell the driver. What others may see is a view that the driver replaces.

mod door;
mod driver;
mod endpoint;
mod error;
pub(crate) mod event;
mod meeting;
mod member;
mod options;
mod record;
mod shared;
mod socket;
pub(crate) mod tasks;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use musicfs_core::id::NodeId;
use musicfs_core::origin::BoxFuture;
use musicfs_core::peer::{Holdings, Peer, PeerError, PeerStatus, Peers};
use musicfs_core::version::VersionKey;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::{OnceCell, mpsc};

pub use error::MeshError;
pub use options::{Membership, MeshOptions};

use crate::discovery::{self, Places};
use crate::have::Have;
use crate::policy::roster::Roster;
use crate::session::{Local, SessionLimits, Uploads, transport};
use door::Door;
use driver::{Driver, EVENTS_MAX};
use endpoint::Opened;
use meeting::Meeting;
use shared::{Shared, View};
use tasks::Tasks;

/// The UDP port that nodes listen on unless configured otherwise.
///
/// In the block 25101 to 25470 that IANA has assigned to nobody, below the ports that Linux gives to
/// clients (from 32768) and that Kubernetes gives to services (30000 to 32767).
pub const DEFAULT_PORT: u16 = 25_252;

/// How long the last packets of all connections may take on their way.
const IDLE_WAIT_MAX: Duration = Duration::from_millis(400);
/// How long everything may take to end.
const CLOSE_WAIT_MAX: Duration = Duration::from_millis(1400);

/// A node that meets others, from [`Mesh::start`] to [`Mesh::close`].
pub struct Mesh {
    local_address: SocketAddr,
    endpoint: quinn::Endpoint,
    shared: Arc<Shared>,
    tasks: Tasks,
    closed: OnceCell<()>,
    /// Tests say what is found.
    #[cfg(test)]
    events: mpsc::Sender<event::Event>,
}

/// What tests change.
struct Tuning {
    transport: quinn::TransportConfig,
    limits: SessionLimits,
}

impl Mesh {
    /// Opens the port, and starts to look for others and to let them in.
    ///
    /// Call it in a tokio runtime, and [`Mesh::close`] before that ends. Without `close` all ends when
    /// the mesh is dropped, and nobody is told.
    ///
    /// # Errors
    /// [`MeshError`]; no port is open then.
    pub async fn start(
        membership: Membership,
        options: MeshOptions,
        holdings: Arc<dyn Holdings>,
    ) -> Result<Arc<Self>, MeshError> {
        let tuning = Tuning {
            transport: transport(),
            limits: SessionLimits::default(),
        };
        Self::start_with(membership, options, holdings, tuning)
    }

    fn start_with(
        membership: Membership,
        options: MeshOptions,
        holdings: Arc<dyn Holdings>,
        tuning: Tuning,
    ) -> Result<Arc<Self>, MeshError> {
        let places = Places::parse(&options.addresses, &options.dns_names)?;
        let tls = membership.tls().map_err(MeshError::Credentials)?;
        let tag_key = membership.tag_key();
        let cluster = membership.to_string();
        let node_key = membership.into_node_key();
        let (start, seed) = (random()?, random()?);

        let transport = Arc::new(tuning.transport);
        let opened = endpoint::open(options.listen, &tls, &node_key, &transport)?;
        let Opened {
            endpoint,
            client,
            local_address,
        } = opened;
        let node = node_key.id();
        let tasks = Tasks::default();
        let shared = Shared::new(node, options.priority);
        let have = Have::new(holdings.clone());
        let local = Local {
            node_key: Arc::new(node_key),
            tls,
            name: options.name,
            version: options.version,
            listen_port: local_address.port(),
            start,
            holdings,
            have: have.clone(),
            uploads: Uploads::new(options.upload_limit),
            limits: tuning.limits,
        };
        let meeting = Arc::new(Meeting {
            endpoint: endpoint.clone(),
            client,
            local: Arc::new(local),
            shared: shared.clone(),
        });
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let interfaces = options.interfaces.clone();
        let door = Door::new(meeting.clone(), sender.clone(), tasks.clone(), interfaces);
        let roster = Roster::new(node, seed);
        let driver = Driver::new(roster, meeting, tasks.clone(), (sender.clone(), events));
        tasks.spawn_to_its_end(driver.run());
        tasks.spawn(door.run());
        tasks.spawn(async move { have.run().await });
        tracing::info!(%node, cluster, address = %local_address, "listening for peers");

        let search = discovery::Search {
            places,
            mdns: options.mdns.then_some(discovery::Service {
                listen: local_address,
                interfaces: options.interfaces,
                tag_key,
                bounds: discovery::Bounds::default(),
            }),
            found: sender.clone(),
            seed,
        };
        let linked = shared.clone();
        search.start(&tasks, move |address| {
            linked.view().linked.contains(address)
        });
        Ok(Arc::new(Self {
            local_address,
            endpoint,
            shared,
            tasks,
            closed: OnceCell::new(),
            #[cfg(test)]
            events: sender,
        }))
    }

    /// Says goodbye to all, on the network and on every connection, and closes the port. Takes two
    /// seconds at most; to call it again does nothing.
    pub async fn close(&self) {
        self.closed.get_or_init(|| self.end()).await;
    }

    /// The address that it listens on.
    pub fn local_address(&self) -> SocketAddr {
        self.local_address
    }

    async fn end(&self) {
        self.tasks.stop().cancel();
        if tokio::time::timeout(CLOSE_WAIT_MAX, self.tasks.ended())
            .await
            .is_err()
        {
            tracing::debug!("not every peer was left in order");
        }
        self.endpoint.close(0u8.into(), b"");
        // Who does not hear the goodbye notices by the silence.
        let _ = tokio::time::timeout(IDLE_WAIT_MAX, self.endpoint.wait_idle()).await;
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        self.tasks.stop().cancel();
        // What is shown holds what shows it.
        self.shared.show(View::default(), false);
        self.endpoint.close(0u8.into(), b"");
    }
}

impl Peers for Mesh {
    fn node(&self) -> NodeId {
        self.shared.node
    }

    fn holders(&self, version: VersionKey) -> Vec<Arc<dyn Peer>> {
        let view = self.shared.view();
        let members = view.nodes.iter().filter_map(|shown| shown.member.clone());
        let holders = members.filter(|member| member.held(version).is_some());
        holders.map(|member| member as Arc<dyn Peer>).collect()
    }

    fn list(&self) -> Vec<PeerStatus> {
        self.shared.list()
    }

    fn changed(&self, seen: u64) -> BoxFuture<'_, u64> {
        let mut revision = self.shared.revision();
        Box::pin(async move {
            let another = revision.wait_for(|revision| *revision != seen).await;
            *another.expect("the sender lies in what `self` holds")
        })
    }

    fn ping(&self, id: NodeId) -> BoxFuture<'_, Result<Duration, PeerError>> {
        Box::pin(async move {
            let view = self.shared.view();
            let entry = view.nodes.iter().find(|shown| shown.node == id);
            match entry.and_then(|shown| shown.member.as_ref()) {
                Some(member) => member.session().ping().await,
                None => Err(PeerError::Gone { peer: id }),
            }
        })
    }

    fn accuse(&self, id: NodeId, error: &PeerError) {
        // Of one that was never met nothing is known, and its word is asked for last all the same.
        if let Some(record) = self.shared.records.find(id) {
            record.failed(error);
        }
        self.shared.failed(id, error);
    }
}

fn random() -> Result<u64, MeshError> {
    let mut bytes = [0; 8];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| MeshError::Random)?;
    Ok(u64::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests;
