//! Other nodes as sources, over ones that are scripted.

use musicfs_core::health::{Standing, Vitals};
use musicfs_core::id::NodeId;
use musicfs_core::manifest::{Cutter, Manifest};
use musicfs_core::peer::{Held, Peer, PeerError, PeerStatus, PeerStream, Peers, WantedChunk};
use musicfs_store::{Class, Provenance};

use super::*;

const PIECE: usize = 100_000;

/// What one node does.
struct Node {
    id: NodeId,
    held: Held,
    /// What it sends, whatever the truth is.
    content: Arc<Vec<u8>>,
    manifest: Arc<Manifest>,
    /// After so many bytes of an answer it says nothing more.
    stalls_after: Option<usize>,
    /// After so many bytes of an answer the connection is lost, for once.
    lost_after: Mutex<Option<usize>>,
    /// A bit of each answer is another.
    is_corrupt: bool,
    sent: AtomicU64,
    faults: Mutex<Vec<ErrorKind>>,
    vitals: Mutex<Vitals>,
}

#[derive(Clone)]
struct Port(Arc<Node>);

struct Answer {
    node: Arc<Node>,
    bytes: Bytes,
    sent: usize,
    chunk: Option<WantedChunk>,
}

/// All nodes, and whom was accused.
struct Cluster {
    nodes: Vec<Arc<Node>>,
    accused: Mutex<Vec<NodeId>>,
}

fn manifest(content: &[u8]) -> Arc<Manifest> {
    let mut cutter = Cutter::new();
    cutter.push(content);
    Arc::new(cutter.finish())
}

fn node(number: u8, content: &Arc<Vec<u8>>) -> Node {
    Node {
        id: NodeId::from_bytes([number; 16]),
        held: Held::Complete,
        content: content.clone(),
        manifest: manifest(content),
        stalls_after: None,
        lost_after: Mutex::new(None),
        is_corrupt: false,
        sent: AtomicU64::new(0),
        faults: Mutex::default(),
        vitals: Mutex::new(Vitals::of_peer()),
    }
}

impl Peer for Port {
    fn id(&self) -> NodeId {
        self.0.id
    }

    fn held(&self, _: VersionKey) -> Option<Held> {
        Some(self.0.held.clone())
    }

    fn standing(&self) -> Standing {
        let is_liar = self.0.faults.lock().unwrap().contains(&ErrorKind::Corrupt);
        let standing = self.0.vitals.lock().unwrap().standing(10).coarse();
        if is_liar {
            standing.demoted()
        } else {
            standing
        }
    }

    fn patience(&self, min: Duration) -> Duration {
        min
    }

    fn manifest(&self, _: VersionKey, _: u64) -> BoxFuture<'_, Result<Arc<Manifest>, PeerError>> {
        Box::pin(async { Ok(self.0.manifest.clone()) })
    }

    fn chunks(&self, _: VersionKey, wanted: Vec<WantedChunk>) -> Box<dyn PeerStream> {
        let spans: Vec<_> = self.0.manifest.spans().collect();
        let mut bytes = Vec::new();
        for chunk in &wanted {
            let found = spans.iter().find(|(hash, _)| *hash == chunk.hash);
            let (_, span) = found.expect("it is asked for what its manifest holds");
            bytes.extend_from_slice(&self.0.content[span.start as usize..span.end as usize]);
        }
        self.answer(bytes, wanted.first().copied())
    }

    fn range(&self, _: VersionKey, range: Range<u64>) -> Box<dyn PeerStream> {
        let bytes = &self.0.content[range.start as usize..range.end as usize];
        self.answer(bytes.to_vec(), None)
    }

    fn answered(&self, _: Duration) {
        self.0.vitals.lock().unwrap().is_there();
    }

    fn failed(&self, error: &PeerError) {
        self.0.faults.lock().unwrap().push(error.kind());
        self.0.vitals.lock().unwrap().failed(error.kind());
    }
}

impl Port {
    fn answer(&self, bytes: Vec<u8>, chunk: Option<WantedChunk>) -> Box<dyn PeerStream> {
        Box::new(Answer {
            node: self.0.clone(),
            bytes: bytes.into(),
            sent: 0,
            chunk,
        })
    }
}

impl PeerStream for Answer {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, PeerError>> {
        Box::pin(async move {
            if self.bytes.is_empty() {
                return Ok(None);
            }
            if self
                .node
                .stalls_after
                .is_some_and(|after| self.sent >= after)
            {
                return std::future::pending().await;
            }
            let mut lost_after = self.node.lost_after.lock().unwrap();
            if lost_after.take_if(|after| self.sent >= *after).is_some() {
                return Err(PeerError::Gone { peer: self.node.id });
            }
            drop(lost_after);
            if let Some(chunk) = self.chunk.filter(|_| self.node.is_corrupt) {
                return Err(PeerError::Corrupt {
                    peer: self.node.id,
                    chunk: chunk.hash,
                });
            }
            let piece = self.bytes.split_to(PIECE.min(self.bytes.len()));
            self.sent += piece.len();
            self.node
                .sent
                .fetch_add(piece.len() as u64, Ordering::Relaxed);
            Ok(Some(piece))
        })
    }
}

impl Peers for Cluster {
    fn node(&self) -> NodeId {
        NodeId::from_bytes([0; 16])
    }

    fn holders(&self, _: VersionKey) -> Vec<Arc<dyn Peer>> {
        let port = |node: &Arc<Node>| Arc::new(Port(node.clone())) as Arc<dyn Peer>;
        self.nodes.iter().map(port).collect()
    }

    fn list(&self) -> Vec<PeerStatus> {
        Vec::new()
    }

    fn changed(&self, _: u64) -> BoxFuture<'_, u64> {
        Box::pin(std::future::pending())
    }

    fn ping(&self, peer: NodeId) -> BoxFuture<'_, Result<Duration, PeerError>> {
        Box::pin(async move { Err(PeerError::Gone { peer }) })
    }

    fn accuse(&self, id: NodeId, error: &PeerError) {
        self.accused.lock().unwrap().push(id);
        for node in self.nodes.iter().filter(|node| node.id == id) {
            node.faults.lock().unwrap().push(error.kind());
        }
    }
}

/// One origin and a cluster.
struct House {
    world: World,
    cluster: Arc<Cluster>,
}

fn house(size: usize, nodes: impl FnOnce(&Arc<Vec<u8>>) -> Vec<Node>) -> House {
    let world = world(size);
    let nodes = nodes(&world.origin.content).into_iter().map(Arc::new);
    let cluster = Arc::new(Cluster {
        nodes: nodes.collect(),
        accused: Mutex::default(),
    });
    let peers: Arc<dyn Peers> = cluster.clone();
    let stop = CancellationToken::new();
    world.fetcher.peers.set(Some((peers, stop)));
    House { world, cluster }
}

impl House {
    async fn file(&self) -> Arc<RemoteFile> {
        let found = found(&self.world.origin, 7);
        self.world.fetcher.file(found, Vec::new()).await.unwrap()
    }

    /// Reads all of it, in order.
    async fn play(&self, file: &Arc<RemoteFile>) -> Vec<u8> {
        let handle = file.open();
        let (mut all, size) = (Vec::new(), self.world.origin.content.len());
        while all.len() < size {
            let len = (128 << 10).min(size - all.len());
            let read = handle.read(all.len() as u64, len).await;
            all.extend_from_slice(&read.unwrap());
        }
        all
    }

    fn asked_origin(&self) -> u64 {
        let asked = self.world.origin.asked.lock().unwrap();
        asked.iter().map(|range| range.end - range.start).sum()
    }

    fn sent(&self, node: usize) -> u64 {
        self.cluster.nodes[node].sent.load(Ordering::Relaxed)
    }

    fn is_content(&self, bytes: &[u8]) -> bool {
        *bytes == self.world.origin.content[..]
    }
}

/// Waits until all that was fetched has been looked at.
async fn settled(file: &Arc<RemoteFile>) {
    loop {
        if file.object().manifest().is_some()
            && !matches!(file.object().provenance(), Provenance::Provisional(_))
        {
            return;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_peer_holds_costs_the_origin_nothing() {
    let house = house(20 * MIB + 5, |content| vec![node(1, content)]);
    let file = house.file().await;
    assert!(house.is_content(&house.play(&file).await));
    assert_eq!(house.asked_origin(), 0);
    let extra = house.sent(0) - house.world.origin.content.len() as u64;
    assert!(extra < 2 * MIB as u64, "{extra} bytes came twice");
    settled(&file).await;
    let by = house.cluster.nodes[0].id;
    assert_eq!(file.object().provenance(), Provenance::Member(by));
}

#[tokio::test(flavor = "multi_thread")]
async fn holders_share_the_work() {
    let nodes = |content: &Arc<Vec<u8>>| (1..4).map(|number| node(number, content)).collect();
    let house = house(64 * MIB, nodes);
    let file = house.file().await;
    assert!(house.is_content(&house.play(&file).await));
    let busy = (0..3).filter(|node| house.sent(*node) > 0).count();
    assert!(busy >= 2, "one node did it all");
    assert_eq!(house.asked_origin(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_sends_wrong_bytes_is_left_for_the_next() {
    let house = house(4 * MIB, |content| {
        let liar = Node {
            is_corrupt: true,
            ..node(1, content)
        };
        vec![liar]
    });
    let file = house.file().await;
    assert!(house.is_content(&house.play(&file).await));
    assert!(house.asked_origin() >= 4 * MIB as u64);
    let faults = house.cluster.nodes[0].faults.lock().unwrap().clone();
    assert_eq!(faults, [ErrorKind::Corrupt], "it is not asked twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_stalls_is_left_at_the_byte_where_it_stopped() {
    let house = house(4 * MIB, |content| {
        let tired = Node {
            stalls_after: Some(3 * PIECE),
            ..node(1, content)
        };
        vec![tired]
    });
    let file = house.file().await;
    let handle = file.open();
    let got = handle.read(0, MIB).await.unwrap();
    assert_eq!(got, house.world.origin.content[..MIB]);
    assert!(house.sent(0) > 0 && house.asked_origin() > 0);
    let asked = house.world.origin.asked.lock().unwrap()[0].clone();
    assert!(asked.start > 0, "{asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_comes_back_at_once_goes_on_at_the_byte_where_it_was_lost() {
    let house = house(4 * MIB, |content| {
        let moving = Node {
            lost_after: Mutex::new(Some(3 * PIECE)),
            ..node(1, content)
        };
        vec![moving]
    });
    let file = house.file().await;
    assert!(house.is_content(&house.play(&file).await));
    assert_eq!(house.asked_origin(), 0);
    let faults = house.cluster.nodes[0].faults.lock().unwrap().clone();
    assert_eq!(faults, [ErrorKind::Unavailable]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_comes_from_whoever_has_it() {
    let half = 2 * MIB as u64;
    let house = house(4 * MIB, |content| {
        let partial = Node {
            held: Held::Ranges(Extents::from(0..half)),
            ..node(1, content)
        };
        vec![partial]
    });
    let file = house.file().await;
    assert!(house.is_content(&house.play(&file).await));
    assert!(house.sent(0) >= half);
    let asked = house.world.origin.asked.lock().unwrap().clone();
    assert!(asked.iter().all(|range| range.start >= half), "{asked:?}");
    let by = house.cluster.nodes[0].id;
    let provenance = file.object().provenance();
    assert_eq!(provenance, Provenance::Provisional(by), "nobody signed");
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_that_lie_in_other_content_are_not_asked_for() {
    let house = house(4 * MIB, |content| vec![node(1, content)]);
    // The same audio behind other tags, from another time.
    let mut old = vec![7; 100_000];
    old.extend_from_slice(&house.world.origin.content[50_000..]);
    let store = &house.world.fetcher.store;
    let known = store.object(VersionKey([9; 16]), old.len() as u64).unwrap();
    known.write(0, &old, Class::Body).unwrap();
    known.finish().unwrap();
    store.commit_all().unwrap();
    let file = house.file().await;
    assert!(house.is_content(&house.play(&file).await));
    assert_eq!(house.asked_origin(), 0);
    assert!(house.sent(0) < MIB as u64, "{} bytes", house.sent(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_contradicts_what_is_known_is_refused() {
    let house = house(4 * MIB, |content| {
        let mut other = (**content).clone();
        other.iter_mut().for_each(|byte| *byte ^= 1);
        vec![node(1, &Arc::new(other))]
    });
    let file = house.file().await;
    // As the scan of the index leaves it: the front is there.
    let front = &house.world.origin.content[..512 << 10];
    file.object().write(0, front, Class::Header).unwrap();
    assert!(house.is_content(&house.play(&file).await));
    assert_eq!(house.sent(0), 0);
    let faults = house.cluster.nodes[0].faults.lock().unwrap().clone();
    assert_eq!(faults, [ErrorKind::Corrupt]);
    assert_eq!(file.object().provenance(), Provenance::Proven);
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_is_not_what_was_signed_goes_and_its_signer_is_named() {
    let house = house(4 * MIB, |content| {
        let mut other = (**content).clone();
        other[3 * MIB] ^= 1;
        vec![node(1, &Arc::new(other))]
    });
    let file = house.file().await;
    let version = file.object().version();
    let wrong = house.play(&file).await;
    assert!(!house.is_content(&wrong), "only the whole shows it");
    settled(&file).await;
    let by = house.cluster.nodes[0].id;
    // As the comparison with the origin's checksum finds it.
    house.world.fetcher.disprove(version, by).await;
    assert_eq!(*house.cluster.accused.lock().unwrap(), [by]);
    assert!(!file.object().is_complete());
    assert!(house.is_content(&house.play(&file).await));
    assert_eq!(file.object().provenance(), Provenance::Proven);
}
