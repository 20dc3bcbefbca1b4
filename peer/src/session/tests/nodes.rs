//! Nodes of one cluster on loopback.

use std::net::Ipv4Addr;
use std::num::NonZeroU64;

use quinn::{Endpoint, SendStream};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustix::net::sockopt;
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

use super::memory::Memory;
use super::*;
use crate::cluster::ClusterKey;
use crate::credentials::Credentials;
use crate::tls::SERVER_NAME;

/// Buffers of sockets; the system gives less if it allows less.
const SOCKET_BYTES: usize = 4 << 20;

/// A node: its endpoint, what it holds, and what it says of that.
pub(super) struct Node {
    pub(super) endpoint: Endpoint,
    pub(super) local: Arc<Local>,
    pub(super) memory: Arc<Memory>,
    having: JoinHandle<()>,
}

/// One end of a session that runs.
pub(super) struct End {
    pub(super) session: Arc<Session>,
    pub(super) heard: mpsc::Receiver<Heard>,
    running: JoinHandle<Ended>,
}

/// How a node differs from others.
pub(super) struct Setting {
    pub(super) name: &'static str,
    pub(super) credentials: Option<Credentials>,
    pub(super) limits: SessionLimits,
    pub(super) rate: Option<NonZeroU64>,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            name: "node",
            credentials: None,
            limits: SessionLimits::default(),
            rate: None,
        }
    }
}

pub(super) fn key(seed: u8) -> NodeKey {
    NodeKey::from_seed(Zeroizing::new([seed; 32]))
}

impl Node {
    pub(super) fn new(seed: u8) -> Self {
        Self::with(seed, Setting::default())
    }

    pub(super) fn with(seed: u8, setting: Setting) -> Self {
        let node_key = Arc::new(key(seed));
        let cluster = ClusterKey::from_bytes([1; 16]);
        let credentials = setting.credentials;
        let credentials =
            credentials.unwrap_or_else(|| Credentials::of_cluster(&cluster, &node_key));
        let tls = credentials.tls().unwrap();
        let memory = Memory::new();
        let have = Have::new(memory.holdings());
        let local = Arc::new(Local {
            node_key,
            tls: tls.clone(),
            name: setting.name.to_owned(),
            version: "1.2.3".to_owned(),
            listen_port: 4242,
            start: u64::from(seed),
            holdings: memory.holdings(),
            have: have.clone(),
            uploads: Uploads::new(setting.rate),
            limits: setting.limits,
        });
        let transport = Arc::new(transport());
        let mut server = tls.server.clone();
        server.transport_config(transport.clone());
        let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let socket = std::net::UdpSocket::bind(anywhere).unwrap();
        // What is lost by the system's small buffers makes tests slow.
        let buffer = SOCKET_BYTES;
        sockopt::set_socket_recv_buffer_size(&socket, buffer).unwrap();
        sockopt::set_socket_send_buffer_size(&socket, buffer).unwrap();
        let config = endpoint();
        let runtime = Arc::new(quinn::TokioRuntime);
        let mut endpoint = Endpoint::new(config, Some(server), socket, runtime).unwrap();
        let mut client = tls.client;
        client.transport_config(transport);
        endpoint.set_default_client_config(client);
        let having = tokio::spawn(async move { have.run().await });
        Self {
            endpoint,
            local,
            memory,
            having,
        }
    }

    pub(super) fn id(&self) -> NodeId {
        self.local.node_key.id()
    }

    /// Two ends of one connection: this node's, which dials, and the other's.
    pub(super) async fn connect(&self, other: &Self) -> (Connection, Connection) {
        let address = other.endpoint.local_addr().unwrap();
        let dialing = self.endpoint.connect(address, SERVER_NAME).unwrap();
        let accepting = async { other.endpoint.accept().await.unwrap().await.unwrap() };
        let (dialed, accepted) = soon(async { tokio::join!(dialing, accepting) }).await;
        (dialed.unwrap(), accepted)
    }

    /// The two ends of a session that runs.
    pub(super) async fn meet(&self, other: &Self) -> (End, End) {
        let (ours, theirs) = self.connect(other).await;
        let (ours, theirs) = soon(async {
            tokio::join!(
                self.introduce(ours, Role::Client),
                other.introduce(theirs, Role::Server)
            )
        })
        .await;
        (End::run(ours.unwrap()), End::run(theirs.unwrap()))
    }

    /// A session of this node, and a member of the cluster that says what it likes: its connection, and
    /// its stream of news, on which it has introduced itself.
    pub(super) async fn meet_raw(&self, other: &Self) -> (End, Connection, SendStream) {
        let (ours, theirs) = self.connect(other).await;
        let speaking = async {
            let mut news = theirs.open_uni().await.unwrap();
            news.write_all(&hello().to_frame()).await.unwrap();
            news
        };
        let meeting = self.introduce(ours, Role::Client);
        let (session, news) = soon(async { tokio::join!(meeting, speaking) }).await;
        (End::run(session.unwrap()), theirs, news)
    }

    pub(super) async fn introduce(
        &self,
        connection: Connection,
        role: Role,
    ) -> Result<Arc<Session>, SessionError> {
        Session::introduce(connection, role, &self.local, |_| Arc::default()).await
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.having.abort();
    }
}

impl End {
    pub(super) fn run(session: Arc<Session>) -> Self {
        let (sender, heard) = mpsc::channel(4);
        let running = session.clone();
        let running = tokio::spawn(async move { running.run(sender).await });
        Self {
            session,
            heard,
            running,
        }
    }

    /// Drops it.
    pub(super) fn abort(self) {
        self.running.abort();
    }

    /// Why it ended.
    pub(super) async fn ended(self) -> Ended {
        soon(self.running).await.unwrap()
    }
}

/// How a hostile member introduces itself.
pub(super) fn hello() -> crate::wire::News {
    crate::wire::News::Hello(crate::wire::Hello {
        major: 1,
        minor: 0,
        name: "raw".to_owned(),
        version: "0".to_owned(),
        listen_port: 0,
        binding: None,
        start: 0,
    })
}

/// Credentials that several nodes share.
pub(super) fn shared_credentials() -> impl Fn() -> Credentials {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::from_params(&params, &ca_key);
    let own = CertificateParams::new([SERVER_NAME.to_owned()]).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = own.signed_by(&key, &issuer).unwrap().pem();
    let key = key.serialize_pem();
    move || Credentials::from_pem(ca.as_bytes(), certificate.as_bytes(), key.as_bytes()).unwrap()
}

/// All that a stream brings, or why it ends.
pub(super) async fn collect(mut stream: Box<dyn PeerStream>) -> Result<Vec<u8>, PeerError> {
    let mut all = Vec::new();
    while let Some(piece) = soon(stream.next()).await? {
        assert!(!piece.is_empty());
        all.extend_from_slice(&piece);
    }
    Ok(all)
}

/// All chunks of a manifest.
pub(super) fn wanted(manifest: &Manifest) -> Vec<WantedChunk> {
    let chunks = manifest.chunks.iter();
    chunks
        .map(|&(hash, len)| WantedChunk { hash, len })
        .collect()
}
