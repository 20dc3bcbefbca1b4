//! A member of a cluster that does not keep to the rules, written against `docs/protocol.md` and
//! nothing of what the daemon speaks with: frames, numbers and signatures are made here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use musicfs_core::manifest::{ChunkHash, Cutter, Manifest};
use musicfs_core::version::VersionKey;
use musicfs_peer::{Identity, JoinCode, Keys, Tls};
use musicfs_proto::peer::v1 as wire;
use prost::Message;
use tokio::runtime::Runtime;

use crate::Random;

/// How long, and how often, it knocks.
const ADMISSION_WAIT_MAX: Duration = Duration::from_secs(30);
const ADMISSION_POLL: Duration = Duration::from_millis(50);

/// How it breaks the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vice {
    /// None: it serves what it has.
    None,
    /// None: it speaks a later minor version, with fields, news, requests and streams that nobody knows.
    Newer,
    /// One bit of every chunk is another.
    WrongBytes,
    /// It answers, and says no more.
    Stalls,
    /// What it answers makes no sense.
    Garbage,
    /// It announces what it has not.
    EmptyHanded,
    /// It answers with other lengths than were asked for.
    WrongLengths,
    /// Another one's signature is under its manifests.
    Forges,
}

/// One file as it tells of it.
pub struct Tale {
    /// Which content it says it is.
    pub version: VersionKey,
    /// The bytes that it says it has.
    pub bytes: Vec<u8>,
}

/// A member that is reached at an address, until it is dropped.
pub struct Rogue {
    runtime: Option<Runtime>,
    endpoint: quinn::Endpoint,
    tls: Tls,
    shared: Arc<Shared>,
}

struct Shared {
    identity: Identity,
    vice: Vice,
    tales: Vec<(Tale, Manifest)>,
    asked: AtomicU64,
    refused: AtomicBool,
}

impl Rogue {
    /// Joins the cluster of a code, and waits to be dialled.
    ///
    /// # Panics
    /// If that does not work: it is a test's business.
    pub fn start(join_code: &str, vice: Vice, tales: Vec<Tale>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let code: JoinCode = join_code.parse().unwrap();
        let identity = Keys::new(dir.path()).join(&code).unwrap().identity;
        let tls = identity.tls().unwrap();
        let runtime = Runtime::new().unwrap();
        let listen: SocketAddr = ([127, 0, 0, 1], 0).into();
        let endpoint = {
            let _inside = runtime.enter();
            quinn::Endpoint::server(tls.server.clone(), listen).unwrap()
        };
        let with_manifest = |tale: Tale| {
            let mut cutter = Cutter::new();
            cutter.push(&tale.bytes);
            (tale, cutter.finish())
        };
        let shared = Arc::new(Shared {
            identity,
            vice,
            tales: tales.into_iter().map(with_manifest).collect(),
            asked: AtomicU64::new(0),
            refused: AtomicBool::new(false),
        });
        runtime.spawn(accept(endpoint.clone(), shared.clone()));
        Self {
            runtime: Some(runtime),
            endpoint,
            tls,
            shared,
        }
    }

    /// Where it is reached.
    pub fn address(&self) -> SocketAddr {
        self.endpoint.local_addr().unwrap()
    }

    /// Its node id, as others show it.
    pub fn id(&self) -> String {
        self.shared.identity.node_id().to_string()
    }

    /// Requests for content that it got.
    pub fn asked(&self) -> u64 {
        self.shared.asked.load(Ordering::Relaxed)
    }

    /// True if the node refused a request that it cannot know.
    pub fn was_refused(&self) -> bool {
        self.shared.refused.load(Ordering::Relaxed)
    }

    /// Connects to a node, says Hello, and does what `deeds` does until that ends.
    pub fn visit<D: Future<Output = ()>>(&self, node: SocketAddr, deeds: impl FnOnce(Visit) -> D) {
        let runtime = self.runtime.as_ref().unwrap();
        runtime.block_on(async {
            let connection = self.connect(node).await;
            let mut news = connection.open_uni().await.unwrap();
            news.write_all(&hello(0)).await.unwrap();
            deeds(Visit { connection, news }).await;
        });
    }
}

impl Rogue {
    /// A node lets in only so many a second: then it takes a few tries.
    async fn connect(&self, node: SocketAddr) -> quinn::Connection {
        let started = Instant::now();
        loop {
            let config = self.tls.client.clone();
            let name = musicfs_peer::SERVER_NAME;
            match self
                .endpoint
                .connect_with(config, node, name)
                .unwrap()
                .await
            {
                Ok(connection) => return connection,
                Err(error) if started.elapsed() > ADMISSION_WAIT_MAX => panic!("{error}"),
                Err(_) => tokio::time::sleep(ADMISSION_POLL).await,
            }
        }
    }
}

impl Drop for Rogue {
    fn drop(&mut self) {
        self.endpoint.close(0_u8.into(), b"");
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
    }
}

/// A connection that it made itself.
pub struct Visit {
    /// The connection.
    pub connection: quinn::Connection,
    /// The stream of its news.
    pub news: quinn::SendStream,
}

/// A message behind its length.
pub fn frame(message: &impl Message) -> Vec<u8> {
    let len = u32::try_from(message.encoded_len()).unwrap();
    [&len.to_le_bytes()[..], &message.encode_to_vec()].concat()
}

/// What a request for ranges looks like.
pub fn get_ranges(version: VersionKey, spans: &[(u64, u64)]) -> Vec<u8> {
    let span = |(offset, len): &(u64, u64)| wire::Span {
        offset: *offset,
        len: *len,
    };
    let ranges = wire::GetRanges {
        version: Bytes::copy_from_slice(&version.0),
        spans: spans.iter().map(span).collect(),
    };
    frame(&wire::Request {
        what: Some(wire::request::What::Ranges(ranges)),
    })
}

fn news(what: wire::news::What) -> Vec<u8> {
    frame(&wire::News { what: Some(what) })
}

/// A frame as a later version might write it: behind all that is known there is one field more.
fn later(mut frame: Vec<u8>) -> Vec<u8> {
    // Field 1000, a number, 1.
    frame.extend([0xc0, 0x3e, 1]);
    let len = u32::try_from(frame.len() - 4).unwrap();
    frame[..4].copy_from_slice(&len.to_le_bytes());
    frame
}

fn hello(minor: u32) -> Vec<u8> {
    news(wire::news::What::Hello(wire::Hello {
        major: 1,
        minor,
        name: "rogue".to_owned(),
        version: "0".to_owned(),
        listen_port: 0,
        binding: Bytes::new(),
        start: 1,
    }))
}

async fn accept(endpoint: quinn::Endpoint, shared: Arc<Shared>) {
    while let Some(incoming) = endpoint.accept().await {
        let shared = shared.clone();
        tokio::spawn(async move {
            if let Ok(connection) = incoming.await {
                // The other end may leave at any time.
                let _ = serve(connection, shared).await;
            }
        });
    }
}

type Outcome = Result<(), Box<dyn std::error::Error + Send + Sync>>;

async fn serve(connection: quinn::Connection, shared: Arc<Shared>) -> Outcome {
    let mut out = connection.open_uni().await?;
    let minor = u32::from(shared.vice == Vice::Newer);
    out.write_all(&shared.written(hello(minor))).await?;
    let versions = shared.tales.iter().flat_map(|(tale, _)| tale.version.0);
    let have = wire::Have {
        complete: versions.collect(),
        ..wire::Have::default()
    };
    let have = news(wire::news::What::Have(have));
    out.write_all(&shared.written(have)).await?;
    if shared.vice == Vice::Newer {
        // News and a request of which nothing is known, and a stream for who knows what.
        out.write_all(&later(frame(&wire::News::default()))).await?;
        let (mut send, mut answer) = connection.open_bi().await?;
        send.write_all(&later(frame(&wire::Request::default())))
            .await?;
        send.finish()?;
        let answer = answer.read_to_end(64 << 10).await?;
        let answer = wire::Answer::decode(answer.get(4..).unwrap_or_default())?;
        shared
            .refused
            .store(answer.status() == wire::Status::Refused, Ordering::Relaxed);
        connection.open_uni().await?.write_all(b"later").await?;
    }
    let reading = connection.clone();
    tokio::spawn(async move {
        while let Ok(mut stream) = reading.accept_uni().await {
            while let Ok(Some(_)) = stream.read_chunk(64 << 10, true).await {}
        }
    });
    loop {
        let (send, mut recv) = connection.accept_bi().await?;
        // In their order: whoever has an answer to the last has all the others counted.
        let Ok(request) = recv.read_to_end(64 << 10).await else {
            continue;
        };
        let request = wire::Request::decode(request.get(4..).unwrap_or_default())?;
        if matches!(request.what, Some(wire::request::What::Chunks(_))) {
            shared.asked.fetch_add(1, Ordering::Relaxed);
        }
        let shared = shared.clone();
        tokio::spawn(async move { answer(&shared, request, send).await.ok() });
    }
}

async fn answer(shared: &Shared, request: wire::Request, mut send: quinn::SendStream) -> Outcome {
    use wire::request::What;
    let tale_of = |version: &Bytes| {
        let mut tales = shared.tales.iter();
        tales.find(|(tale, _)| tale.version.0[..] == version[..])
    };
    let (answer, payload) = match request.what {
        Some(What::Ping(_)) => (ok(vec![]), vec![]),
        Some(What::Manifest(asked)) => match tale_of(&asked.version) {
            Some((tale, manifest)) => shared.manifest(tale, manifest),
            None => (status(wire::Status::NotHeld), vec![]),
        },
        Some(What::Chunks(asked)) => match tale_of(&asked.version) {
            Some((tale, manifest)) => chunks(tale, manifest, &asked.hashes),
            None => (status(wire::Status::NotHeld), vec![]),
        },
        _ => (status(wire::Status::Refused), vec![]),
    };
    let is_content = answer.maker.is_empty() && !payload.is_empty();
    shared.send(&mut send, answer, payload, is_content).await
}

fn status(status: wire::Status) -> wire::Answer {
    wire::Answer {
        status: status.into(),
        ..wire::Answer::default()
    }
}

fn ok(lens: Vec<u32>) -> wire::Answer {
    wire::Answer {
        lens,
        ..status(wire::Status::Ok)
    }
}

fn chunks(tale: &Tale, manifest: &Manifest, hashes: &[u8]) -> (wire::Answer, Vec<u8>) {
    let (mut lens, mut payload) = (Vec::new(), Vec::new());
    for hash in hashes.chunks_exact(32) {
        let hash = ChunkHash(hash.try_into().unwrap());
        let Some((_, span)) = manifest.spans().find(|(name, _)| *name == hash) else {
            return (status(wire::Status::NotHeld), vec![]);
        };
        lens.push(u32::try_from(span.end - span.start).unwrap());
        let bounds = usize::try_from(span.start).unwrap()..usize::try_from(span.end).unwrap();
        payload.extend_from_slice(&tale.bytes[bounds]);
    }
    (ok(lens), payload)
}

impl Shared {
    fn written(&self, frame: Vec<u8>) -> Vec<u8> {
        match self.vice {
            Vice::Newer => later(frame),
            _ => frame,
        }
    }

    fn manifest(&self, tale: &Tale, manifest: &Manifest) -> (wire::Answer, Vec<u8>) {
        let encoded = manifest.encode();
        let key = self.identity.node_key();
        let mut signature = key.sign(&signed(tale.version, &encoded));
        if self.vice == Vice::Forges {
            signature[7] ^= 1;
        }
        let answer = wire::Answer {
            maker: Bytes::copy_from_slice(&key.public()),
            signature: Bytes::copy_from_slice(&signature),
            ..ok(vec![u32::try_from(encoded.len()).unwrap()])
        };
        (answer, encoded)
    }

    /// Sends an answer as its vice has it.
    async fn send(
        &self,
        send: &mut quinn::SendStream,
        mut answer: wire::Answer,
        mut payload: Vec<u8>,
        is_content: bool,
    ) -> Outcome {
        match self.vice {
            Vice::WrongBytes if is_content => {
                let middle = payload.len() / 2;
                payload[middle] ^= 1;
            }
            Vice::EmptyHanded if is_content => {
                answer = status(wire::Status::NotHeld);
                payload.clear();
            }
            Vice::WrongLengths if is_content => answer.lens[0] += 1,
            Vice::Stalls if is_content => {
                send.write_all(&frame(&answer)).await?;
                return std::future::pending().await;
            }
            Vice::Garbage if is_content => {
                let mut random = Random(self.asked.load(Ordering::Relaxed));
                let noise: Vec<u8> = (0..10_000).map(|_| random.number() as u8).collect();
                send.write_all(&noise).await?;
                return Ok(send.finish()?);
            }
            _ => {}
        }
        send.write_all(&self.written(frame(&answer))).await?;
        send.write_all(&payload).await?;
        Ok(send.finish()?)
    }
}

/// What is signed of a manifest: the first 32 bytes of BLAKE3 over parts, each behind its length.
fn signed(version: VersionKey, encoded: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for part in [&b"musicfs/manifest/1"[..], &version.0, encoded] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}
