//! Nodes to test with.

use std::net::Ipv4Addr;
use std::ops::Range;

use bytes::Bytes;
use musicfs_core::manifest::Manifest;
use musicfs_core::peer::{Held, HoldingChanges, PEER_PRIORITY, PeerState, WatchHoldings};
use zeroize::Zeroizing;

use super::*;
use crate::cluster::testing::cluster_key;
use crate::identity::Identity;
use crate::mesh::event::Event;
use crate::node::NodeKey;
use crate::policy::book::Source;

/// Far longer than any of it takes.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// A node that announces that it holds these versions, and gives nothing.
pub(super) struct Promises(pub(super) Vec<VersionKey>);

struct Promised(Vec<VersionKey>);

impl Holdings for Promises {
    fn watch(&self) -> Box<dyn WatchHoldings> {
        Box::new(Promised(self.0.clone()))
    }

    fn manifest(&self, _: VersionKey) -> BoxFuture<'_, Option<Arc<Manifest>>> {
        Box::pin(async { None })
    }

    fn read(&self, _: VersionKey, _: Range<u64>) -> BoxFuture<'_, Option<Bytes>> {
        Box::pin(async { None })
    }
}

impl WatchHoldings for Promised {
    fn next(&mut self) -> BoxFuture<'_, Option<HoldingChanges>> {
        Box::pin(async {
            if self.0.is_empty() {
                std::future::pending::<()>().await;
            }
            let versions = std::mem::take(&mut self.0).into_iter();
            Some(
                versions
                    .map(|version| (version, Some(Held::Complete)))
                    .collect(),
            )
        })
    }
}

pub(super) fn version(number: u8) -> VersionKey {
    VersionKey([number; 16])
}

pub(super) fn node_key(seed: u8) -> NodeKey {
    NodeKey::from_seed(Zeroizing::new([seed; 32]))
}

pub(super) fn id(seed: u8) -> NodeId {
    node_key(seed).id()
}

pub(super) fn member(cluster: u8, node: u8) -> Membership {
    Membership::Cluster(Identity::new(cluster_key(cluster), node_key(node)))
}

/// A node on any port of loopback that looks for nobody.
pub(super) fn options() -> MeshOptions {
    MeshOptions {
        listen: Some((Ipv4Addr::LOCALHOST, 0).into()),
        interfaces: Vec::new(),
        mdns: false,
        addresses: Vec::new(),
        dns_names: Vec::new(),
        name: "a node".to_owned(),
        version: "1.2.3".to_owned(),
        priority: PEER_PRIORITY,
        upload_limit: None,
    }
}

pub(super) fn tuning(idle_max: Duration) -> Tuning {
    let mut transport = transport();
    transport
        .keep_alive_interval(Some(idle_max / 4))
        .max_idle_timeout(Some(idle_max.try_into().unwrap()));
    Tuning {
        transport,
        limits: SessionLimits::default(),
    }
}

pub(super) fn nothing() -> Arc<dyn Holdings> {
    Arc::new(Promises(Vec::new()))
}

/// Node `seed` of cluster 1, which knows these addresses.
pub(super) async fn start(seed: u8, addresses: &[SocketAddr]) -> Arc<Mesh> {
    let mut options = options();
    options.addresses = addresses.iter().map(ToString::to_string).collect();
    Mesh::start(member(1, seed), options, nothing())
        .await
        .unwrap()
}

/// The same, at a given address and with a connection that ends after `idle_max` of silence.
pub(super) fn start_at(
    seed: u8,
    listen: SocketAddr,
    addresses: &[SocketAddr],
    idle_max: Duration,
) -> Arc<Mesh> {
    let mut options = options();
    options.listen = Some(listen);
    options.addresses = addresses.iter().map(ToString::to_string).collect();
    Mesh::start_with(member(1, seed), options, nothing(), tuning(idle_max)).unwrap()
}

/// Tells a node where another may be.
pub(super) async fn tell(mesh: &Mesh, address: SocketAddr) {
    let source = Source::Service(address.to_string().into());
    let addresses = vec![address];
    assert!(
        mesh.events
            .send(Event::Found { source, addresses })
            .await
            .is_ok()
    );
}

pub(super) fn status(mesh: &Mesh, seed: u8) -> Option<PeerStatus> {
    mesh.list().into_iter().find(|status| status.id == id(seed))
}

pub(super) fn state(mesh: &Mesh, seed: u8) -> Option<PeerState> {
    status(mesh, seed).map(|status| status.state)
}

pub(super) fn is_connected(mesh: &Mesh, seed: u8) -> bool {
    state(mesh, seed) == Some(PeerState::Connected)
}

/// Waits until both list each other as connected.
pub(super) async fn together(one: (&Mesh, u8), other: (&Mesh, u8)) {
    eventually("they are connected", || {
        is_connected(one.0, other.1) && is_connected(other.0, one.1)
    })
    .await;
}

/// Waits until nobody listens at `place` any more: what ran there is dropped in the background.
pub(super) async fn free(place: SocketAddr) {
    eventually("the port is free", || {
        std::net::UdpSocket::bind(place).is_ok()
    })
    .await;
}

/// Waits until `is_so`.
pub(super) async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(in_time.is_ok(), "never: {what}");
}

/// The outcome of what must not hang.
pub(super) async fn soon<T>(future: impl Future<Output = T>) -> T {
    let in_time = tokio::time::timeout(PATIENCE, future).await;
    in_time.expect("it must not hang")
}
