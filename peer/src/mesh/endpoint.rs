//! The QUIC endpoint.

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use quinn::{ConnectionId, ConnectionIdGenerator, EndpointConfig, TokioRuntime, TransportConfig};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use super::{DEFAULT_PORT, MeshError};
use crate::node::NodeKey;
use crate::policy::reach::canonical;
use crate::tls::Tls;

/// Connection attempts that wait to be decided about. Deciding takes microseconds.
const INCOMING_COUNT_MAX: usize = 256;
/// What one that waits may send ahead: one flight of a client that asks for everything.
const INCOMING_BYTES_MAX: u64 = 16 * 1024;
/// What all of them may.
const INCOMING_BYTES_ALL_MAX: u64 = 1024 * 1024;
/// The context of the key that proves that a connection is of the past (RFC 9000 section 10.3).
const RESET: &str = "musicfs/node/1 stateless reset";
/// Bytes of a connection id: of the few that exist at a time, no two are the same.
const CONNECTION_ID_LEN: usize = 8;

/// An open port.
pub(super) struct Opened {
    pub(super) endpoint: quinn::Endpoint,
    /// For dialling.
    pub(super) client: quinn::ClientConfig,
    pub(super) local_address: SocketAddr,
}

/// Runs QUIC on the port that [`super::MeshOptions::listen`] means, for both directions.
///
/// # Errors
/// [`MeshError::Listen`].
pub(super) fn open(
    listen: Option<SocketAddr>,
    tls: &Tls,
    node_key: &NodeKey,
    transport: &Arc<TransportConfig>,
) -> Result<Opened, MeshError> {
    let address = listen.unwrap_or((Ipv6Addr::UNSPECIFIED, DEFAULT_PORT).into());
    let failed = |source| MeshError::Listen { address, source };
    let socket = super::socket::open(listen)?;
    let local_address = canonical(socket.local_addr().map_err(failed)?);
    let mut server = tls.server.clone();
    server
        .transport_config(transport.clone())
        .max_incoming(INCOMING_COUNT_MAX)
        .incoming_buffer_size(INCOMING_BYTES_MAX)
        .incoming_buffer_size_total(INCOMING_BYTES_ALL_MAX);
    let mut client = tls.client.clone();
    client.transport_config(transport.clone());
    let (config, runtime) = (config(node_key), Arc::new(TokioRuntime));
    let endpoint = quinn::Endpoint::new(config, Some(server), socket, runtime);
    Ok(Opened {
        endpoint: endpoint.map_err(failed)?,
        client,
        local_address,
    })
}

/// A program that was started anew still tells others that their connections to it are of the past: the
/// key for that follows from the node's own.
fn config(node_key: &NodeKey) -> EndpointConfig {
    let reset = Zeroizing::new(blake3::derive_key(RESET, node_key.seed()));
    let reset = hmac::Key::new(hmac::HMAC_SHA256, &*reset);
    let mut config = crate::session::endpoint();
    config
        .reset_key(Arc::new(reset))
        .cid_generator(|| Box::new(RandomIds(SystemRandom::new())));
    config
}

/// Random connection ids. The library's own are made with a key that changes from start to start, and
/// no packet with one of an earlier start is answered.
struct RandomIds(SystemRandom);

impl ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; CONNECTION_ID_LEN];
        let filled = self.0.fill(&mut id);
        filled.expect("the system gave random numbers when this program started");
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        CONNECTION_ID_LEN
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}
