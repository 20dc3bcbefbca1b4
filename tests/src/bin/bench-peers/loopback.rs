//! Chunks from one node to another inside this process, beside a bare stream of QUIC with the same TLS
//! whose bytes are hashed.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use musicfs_core::manifest::{ChunkHash, Cutter, Manifest};
use musicfs_core::origin::BoxFuture;
use musicfs_core::peer::{
    Held, HoldingChanges, Holdings, PEER_PRIORITY, Peer, Peers, WantedChunk, WatchHoldings,
};
use musicfs_core::version::VersionKey;
use musicfs_peer::{Identity, Keys, Membership, Mesh, MeshOptions, SERVER_NAME};
use musicfs_tests::bench::{Family, timed};
use musicfs_tests::{Random, wait_for};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::table::Better::{High, Low};
use crate::table::Table;

/// What is sent: a few seconds' worth.
const CONTENT_BYTES: usize = 512 << 20;
/// As much as the bare stream hashes at once: about a chunk.
const PIECE_BYTES: usize = 64 << 10;
/// As large as the kernel lets it be, up to this.
const SOCKET_BYTES: usize = 8 << 20;

/// Two nodes of a cluster, one of which holds something.
struct Pair {
    runtime: Runtime,
    content: Arc<Content>,
    /// The identities that the bare stream uses too.
    identities: [Identity; 2],
    holder: Arc<Mesh>,
    asker: Arc<Mesh>,
    _keys: TempDir,
}

/// One version, in memory.
struct Content {
    version: VersionKey,
    bytes: Bytes,
    manifest: Arc<Manifest>,
}

/// Tells of it once.
struct Told(Option<HoldingChanges>);

/// One round.
pub(crate) fn measure(table: &mut Table) {
    static PAIR: LazyLock<Pair> = LazyLock::new(Pair::new);
    let pair = &*PAIR;
    let [bare, ours] = [Pair::bare, Pair::exchanged].map(|fetch| {
        let family = Family::of(std::process::id());
        let before = family.cpu_s();
        let seconds = timed(|| fetch(pair));
        (seconds, family.cpu_s() - before)
    });
    let megabytes = CONTENT_BYTES as f64 / 1e6;
    let title = "chunks on loopback, MB/s, beside a bare stream of QUIC with BLAKE3";
    table.note(title, High, megabytes / bare.0, megabytes / ours.0);
    let per_gigabyte = |cpu: f64| cpu / megabytes * 1e3;
    let title = "CPU of both sides together, on loopback, s/GB";
    table.note(title, Low, per_gigabyte(bare.1), per_gigabyte(ours.1));
}

impl Pair {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .unwrap();
        let keys = tempfile::tempdir().unwrap();
        let homes = ["holder", "asker"].map(|name| keys.path().join(name));
        let load = |home: &Path| Identity::load(home).unwrap().unwrap();
        let code = Keys::new(&homes[0]).init().unwrap().join_code();
        Keys::new(&homes[1]).join(&code).unwrap();
        let content = Arc::new(Content::new());
        let start = |home: &Path, addresses| {
            let membership = Membership::Cluster(load(home));
            let started = Mesh::start(membership, options(addresses), content.clone());
            runtime.block_on(started).unwrap()
        };
        let holder = start(&homes[0], Vec::new());
        let asker = start(&homes[1], vec![holder.local_address().to_string()]);
        Self {
            identities: [load(&homes[0]), load(&homes[1])],
            holder,
            asker,
            content,
            runtime,
            _keys: keys,
        }
    }

    /// All chunks, by the exchange.
    fn exchanged(&self) {
        let version = self.content.version;
        let (peer, _) = wait_for("the announcement", || {
            let holders = self.asker.holders(version).into_iter();
            holders
                .into_iter()
                .find(|peer| peer.held(version) == Some(Held::Complete))
        });
        assert_eq!(peer.id(), self.holder.node());
        self.runtime.block_on(fetch(peer, &self.content));
    }

    /// As many bytes over one stream.
    fn bare(&self) {
        let _guard = self.runtime.enter();
        let [server, client] = [0, 1].map(|which| {
            let tls = self.identities[which].tls().unwrap();
            let mut endpoint = quinn::Endpoint::new(
                quinn::EndpointConfig::default(),
                Some(tls.server),
                socket(),
                Arc::new(quinn::TokioRuntime),
            )
            .unwrap();
            endpoint.set_default_client_config(tls.client);
            endpoint
        });
        let address = server.local_addr().unwrap();
        let bytes = self.content.bytes.clone();
        let serving = self.runtime.spawn(async move {
            let connection = server.accept().await.unwrap().await.unwrap();
            let mut stream = connection.open_uni().await.unwrap();
            stream.write_chunk(bytes).await.unwrap();
            stream.finish().unwrap();
            connection.closed().await;
        });
        self.runtime.block_on(async move {
            let connection = client.connect(address, SERVER_NAME).unwrap().await.unwrap();
            let mut stream = connection.accept_uni().await.unwrap();
            let mut piece = vec![0; PIECE_BYTES];
            let mut count = 0;
            while count < CONTENT_BYTES {
                stream.read_exact(&mut piece).await.unwrap();
                std::hint::black_box(ChunkHash::of(&piece));
                count += piece.len();
            }
            connection.close(0_u8.into(), b"");
            serving.await.unwrap();
        });
    }
}

async fn fetch(peer: Arc<dyn Peer>, content: &Content) {
    let chunks = content.manifest.chunks.iter();
    let wanted = chunks.map(|&(hash, len)| WantedChunk { hash, len });
    let mut stream = peer.chunks(content.version, wanted.collect());
    let mut count = 0;
    while let Some(bytes) = stream.next().await.unwrap() {
        count += bytes.len();
    }
    assert_eq!(count, CONTENT_BYTES);
}

fn options(addresses: Vec<String>) -> MeshOptions {
    MeshOptions {
        listen: Some(any_port()),
        interfaces: Vec::new(),
        mdns: false,
        addresses,
        dns_names: Vec::new(),
        name: String::new(),
        version: String::new(),
        priority: PEER_PRIORITY,
        upload_limit: None,
    }
}

fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// A socket with as much room as one of the exchange has.
fn socket() -> UdpSocket {
    let socket = UdpSocket::bind(any_port()).unwrap();
    // The kernel's limit may be lower: then it is as large as that.
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BYTES);
    let _ = rustix::net::sockopt::set_socket_send_buffer_size(&socket, SOCKET_BYTES);
    socket
}

impl Content {
    fn new() -> Self {
        let mut random = Random(1);
        let mut bytes = Vec::with_capacity(CONTENT_BYTES);
        while bytes.len() < CONTENT_BYTES {
            bytes.extend(random.number().to_le_bytes());
        }
        let mut cutter = Cutter::new();
        cutter.push(&bytes);
        Self {
            version: VersionKey([7; 16]),
            bytes: bytes.into(),
            manifest: Arc::new(cutter.finish()),
        }
    }
}

impl Holdings for Content {
    fn watch(&self) -> Box<dyn WatchHoldings> {
        Box::new(Told(Some(vec![(self.version, Some(Held::Complete))])))
    }

    fn manifest(&self, version: VersionKey) -> BoxFuture<'_, Option<Arc<Manifest>>> {
        let manifest = (version == self.version).then(|| Arc::clone(&self.manifest));
        Box::pin(async move { manifest })
    }

    fn read(&self, version: VersionKey, range: Range<u64>) -> BoxFuture<'_, Option<Bytes>> {
        let [start, end] = [range.start, range.end].map(|at| usize::try_from(at).unwrap());
        let is_held = version == self.version && end <= self.bytes.len();
        let bytes = is_held.then(|| self.bytes.slice(start..end));
        Box::pin(async move { bytes })
    }
}

impl WatchHoldings for Told {
    fn next(&mut self) -> BoxFuture<'_, Option<HoldingChanges>> {
        Box::pin(async move {
            match self.0.take() {
                Some(changes) => Some(changes),
                None => std::future::pending().await,
            }
        })
    }
}
