//! Other nodes as sources of a file: whose manifest it is fetched under, and what is checked when.
//!
//! Under a manifest every chunk is compared with its hash before it is taken in. A manifest that a
//! peer signed is itself only that peer's word: what is fetched under it is *provisional*, until the
//! whole is compared with it, and then with the origin's own checksum where there is one. Bytes of a
//! peer that has only a part of the file are compared at that end alone.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use musicfs_core::error::with_causes;
use musicfs_core::health::Standing;
use musicfs_core::id::NodeId;
use musicfs_core::manifest::{ChunkHash, Manifest};
use musicfs_core::peer::{Held, Peer, PeerError, PeerStream, Peers, WantedChunk};
use musicfs_core::version::VersionKey;
use musicfs_store::{Object, Provenance};

use super::{Counters, Fetcher, RemoteFile, blocking};

/// How much of what is stored is compared with a new manifest: the header tier of nearly every file.
const COMPARED_BYTES_MAX: u64 = 4 << 20;

/// Bytes behind each other that one holder is asked for before the next one's turn comes.
const TURN_BYTES: u64 = 8 << 20;

/// What a file knows of its content from peers.
#[derive(Default)]
pub(super) struct Hearsay {
    claim: Mutex<Option<Claim>>,
    /// The end of a chunk of which a flight needed only the start: the next one begins there.
    spare: Mutex<Option<(u64, Bytes)>>,
}

/// A manifest, and the node that signed it.
#[derive(Clone)]
struct Claim {
    by: NodeId,
    manifest: Arc<Manifest>,
}

impl Hearsay {
    fn claim(&self) -> MutexGuard<'_, Option<Claim>> {
        self.claim.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what comes after `at` and is no longer needed now.
    fn keep_spare(&self, at: u64, bytes: Bytes) {
        *self.spare.lock().unwrap_or_else(PoisonError::into_inner) = Some((at, bytes));
    }

    /// What is known to lie at `at`, without asking.
    fn take_spare(&self, at: u64) -> Option<Bytes> {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        spare
            .take_if(|(start, _)| *start == at)
            .map(|(_, bytes)| bytes)
    }
}

/// One node that announces bytes of a file.
pub(super) struct PeerSource {
    peer: Arc<dyn Peer>,
    held: Held,
}

impl PeerSource {
    pub(super) fn standing(&self) -> Standing {
        self.peer.standing()
    }

    pub(super) fn patience(&self, min: Duration) -> Duration {
        self.peer.patience(min)
    }

    pub(super) fn answered(&self, after: Duration) {
        self.peer.answered(after);
    }

    pub(super) fn failed(&self, error: &PeerError) {
        self.peer.failed(error);
    }

    pub(super) fn late(&self, after: Duration) -> PeerError {
        PeerError::TimedOut {
            peer: self.peer.id(),
            action: "read from",
            after,
        }
    }

    pub(super) fn malformed(&self, what: &'static str) -> PeerError {
        PeerError::Malformed {
            peer: self.peer.id(),
            what,
        }
    }

    /// Up to where it has the bytes behind `at` without a gap, or to where its turn ends.
    pub(super) fn limit(&self, at: u64) -> u64 {
        let turn_end = (at / TURN_BYTES + 1) * TURN_BYTES;
        match &self.held {
            Held::Complete => turn_end,
            Held::Ranges(ranges) => {
                let mut behind = ranges.within(at..turn_end);
                let first = behind.next().filter(|range| range.start == at);
                first.map_or(at, |range| range.end)
            }
        }
    }

    /// Finds out by which manifest the bytes are checked, and notes that they are provisional if it
    /// is not this node's own.
    pub(super) async fn open(
        &self,
        file: &Arc<RemoteFile>,
        at: u64,
    ) -> Result<PeerFile, PeerError> {
        let own = file.object.manifest();
        let manifest = match own {
            Some(own) => Some(own),
            None => {
                let manifest = self.claimed(file).await?;
                self.receive(file).await;
                manifest
            }
        };
        Ok(PeerFile {
            peer: self.peer.clone(),
            file: file.clone(),
            manifest,
            spare: file.hearsay.take_spare(at),
        })
    }

    /// The manifest that this file is fetched under; if there is none yet, this peer's becomes it.
    /// `None` if it has none.
    async fn claimed(&self, file: &Arc<RemoteFile>) -> Result<Option<Arc<Manifest>>, PeerError> {
        let known = file.hearsay.claim().clone();
        if let Some(claim) = known {
            return Ok(match self.held {
                Held::Complete => Some(claim.manifest),
                Held::Ranges(_) => None,
            });
        }
        if self.held != Held::Complete {
            return Ok(None);
        }
        let (version, size) = (file.object.version(), file.object.size());
        let manifest = self.peer.manifest(version, size).await?;
        let (object, claimed) = (file.object.clone(), manifest.clone());
        // If the runtime ends, nobody reads any more.
        let is_false = blocking(move || contradicts(&object, &claimed)).await;
        if is_false.unwrap_or(false) {
            return Err(PeerError::FalseManifest {
                peer: self.peer.id(),
                version,
            });
        }
        let by = self.peer.id();
        let mut claim = file.hearsay.claim();
        let claim = claim.get_or_insert(Claim { by, manifest });
        Ok(Some(claim.manifest.clone()))
    }

    async fn receive(&self, file: &RemoteFile) {
        if file.object.provenance() != Provenance::Proven {
            return;
        }
        let (object, by) = (file.object.clone(), self.peer.id());
        if let Ok(Err(error)) = blocking(move || object.receive(by)).await {
            tracing::debug!(error = %with_causes(&error), "the cache cannot note a peer's bytes");
        }
    }
}

/// True if what is stored, which came from the origin, is not what the manifest says.
fn contradicts(object: &Object, manifest: &Manifest) -> bool {
    let mut compared = 0;
    for (hash, span) in manifest.spans() {
        if compared >= COMPARED_BYTES_MAX || object.provenance() != Provenance::Proven {
            return false;
        }
        if !object.absent(span.clone()).is_empty() {
            continue;
        }
        compared += span.end - span.start;
        // What cannot be read contradicts nothing.
        if let Ok(Some(bytes)) = object.read(span)
            && ChunkHash::of(&bytes) != hash
        {
            return true;
        }
    }
    false
}

/// A peer that is ready to send.
pub(super) struct PeerFile {
    peer: Arc<dyn Peer>,
    file: Arc<RemoteFile>,
    manifest: Option<Arc<Manifest>>,
    spare: Option<Bytes>,
}

impl PeerFile {
    /// Starts to send `range`.
    pub(super) fn stream(&self, range: Range<u64>) -> PeerBytes {
        let version = self.file.object.version();
        let spare = self.spare.clone();
        let start = range.start + spare.as_ref().map_or(0, |bytes| bytes.len() as u64);
        let (stream, at) = match &self.manifest {
            _ if start >= range.end => (None, start),
            None => (Some(self.peer.range(version, start..range.end)), start),
            Some(manifest) => {
                let (wanted, at) = covering(manifest, start..range.end);
                (Some(self.peer.chunks(version, wanted)), at)
            }
        };
        PeerBytes {
            file: self.file.clone(),
            stream,
            spare,
            at,
            left: range,
        }
    }
}

/// The chunks that hold `range`, and where the first of them starts.
fn covering(manifest: &Manifest, range: Range<u64>) -> (Vec<WantedChunk>, u64) {
    let holds = |span: &Range<u64>| span.start < range.end && range.start < span.end;
    let spans = manifest.spans().filter(|(_, span)| holds(span));
    let mut at = range.start;
    let mut wanted = Vec::new();
    for (hash, span) in spans {
        if wanted.is_empty() {
            at = span.start;
        }
        let len = u32::try_from(span.end - span.start).expect("a chunk is 256 KiB at most");
        wanted.push(WantedChunk { hash, len });
    }
    (wanted, at)
}

/// The bytes of a range on their way from a peer.
pub(super) struct PeerBytes {
    file: Arc<RemoteFile>,
    /// `None` if what was left over is enough.
    stream: Option<Box<dyn PeerStream>>,
    spare: Option<Bytes>,
    /// Where the next piece of the stream starts, which may be ahead of what was asked for.
    at: u64,
    left: Range<u64>,
}

impl PeerBytes {
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, PeerError> {
        if self.left.is_empty() {
            return Ok(None);
        }
        if let Some(spare) = self.spare.take() {
            return Ok(Some(self.clip(self.left.start, spare)));
        }
        let Some(stream) = &mut self.stream else {
            return Ok(None);
        };
        while let Some(piece) = stream.next().await? {
            let start = self.at;
            self.at += piece.len() as u64;
            if self.at > self.left.start {
                Counters::add(
                    &self.file.fetcher.counters.bytes_from_peers,
                    piece.len() as u64,
                );
                return Ok(Some(self.clip(start, piece)));
            }
        }
        Ok(None)
    }

    /// What of `piece`, which starts at `start` and reaches into what is left, is asked for. What lies
    /// behind the end is kept for whoever comes next.
    fn clip(&mut self, start: u64, mut piece: Bytes) -> Bytes {
        let index = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
        let front = index(self.left.start - start).min(piece.len());
        drop(piece.split_to(front));
        let room = index(self.left.end - self.left.start);
        if piece.len() > room {
            let rest = piece.split_off(room);
            self.file.hearsay.keep_spare(self.left.end, rest);
        }
        self.left.start += piece.len() as u64;
        piece
    }
}

impl RemoteFile {
    /// The nodes that have what lies at `at`, in an order that spreads files and parts of files over
    /// them.
    pub(super) fn holders(&self, at: u64) -> Vec<PeerSource> {
        let Some(peers) = self.fetcher.peers() else {
            return Vec::new();
        };
        let version = self.object.version();
        let mut holders: Vec<_> = peers
            .holders(version)
            .into_iter()
            .filter_map(|peer| {
                let held = peer.held(version).filter(|held| held.has(at))?;
                Some(PeerSource { peer, held })
            })
            .collect();
        holders.sort_by_cached_key(|holder| turn(version, at / TURN_BYTES, holder.peer.id()));
        holders
    }

    /// All of it is there: compares it with what peers said of it.
    ///
    /// False if it was not that: then it is gone, and will be fetched anew.
    pub(super) async fn settle_claim(&self) -> bool {
        if self.object.provenance() == Provenance::Proven {
            return true;
        }
        let claim = self.hearsay.claim().clone();
        let (Some(claim), Some(own)) = (claim, self.object.manifest()) else {
            return true;
        };
        if own.whole == claim.manifest.whole {
            let (object, by) = (self.object.clone(), claim.by);
            // In memory alone; a failure to keep it is the disk's, and told.
            let _ = blocking(move || object.vouch(by)).await;
            return true;
        }
        self.disown(claim.by).await;
        false
    }

    /// What peers sent is not the origin's content: all of it goes, and whoever signed for it is
    /// named.
    pub(super) async fn disown(&self, by: NodeId) {
        *self.hearsay.claim() = None;
        self.fetcher.accuse(by, self.object.version());
        let object = self.object.clone();
        let renounced = blocking(move || object.renounce()).await;
        if let Ok(Err(error)) = renounced {
            tracing::warn!(error = %with_causes(&error), "false content cannot be dropped");
        }
        self.state().is_finished = false;
    }
}

impl Fetcher {
    /// The other nodes; `None` while this one is alone.
    pub(crate) fn peers(&self) -> Option<Arc<dyn Peers>> {
        self.peers.get()
    }

    /// Names a node that signed for content that is not the origin's.
    fn accuse(&self, by: NodeId, version: VersionKey) {
        if let Some(peers) = self.peers() {
            peers.accuse(by, &PeerError::FalseManifest { peer: by, version });
        }
    }

    /// The origin's checksum says that a version's content, which peers sent, is not the origin's.
    pub(crate) async fn disprove(&self, version: VersionKey, by: NodeId) {
        if let Some(file) = self.in_use(version) {
            return file.disown(by).await;
        }
        self.accuse(by, version);
        let store = self.store.clone();
        let renounced = blocking(move || match store.kept(version)? {
            Some(kept) => store.object(version, kept.size)?.renounce(),
            None => Ok(true),
        });
        if let Ok(Err(error)) = renounced.await {
            tracing::warn!(error = %with_causes(&error), "false content cannot be dropped");
        }
    }
}

/// Whose turn it is for a part of a version: the least comes first (rendezvous hashing).
fn turn(version: VersionKey, part: u64, node: NodeId) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&version.0);
    hasher.update(&part.to_le_bytes());
    hasher.update(node.as_bytes());
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use musicfs_core::manifest::Cutter;

    use super::*;

    #[test]
    fn the_chunks_of_a_range_cover_it_and_no_more() {
        let bytes: Vec<u8> = (0..2_000_000_u32)
            .map(|n| (n / 7).wrapping_mul(n) as u8)
            .collect();
        let mut cutter = Cutter::new();
        cutter.push(&bytes);
        let manifest = cutter.finish();
        for range in [0..1, 0..2_000_000, 65_536..65_537, 1_000_000..1_900_000] {
            let (wanted, at) = covering(&manifest, range.clone());
            let len: u64 = wanted.iter().map(|chunk| u64::from(chunk.len)).sum();
            assert!(at <= range.start && range.end <= at + len, "{range:?}");
            let last = u64::from(wanted.last().unwrap().len);
            assert!(at + len - last < range.end, "{range:?}");
            assert!(at + u64::from(wanted[0].len) > range.start, "{range:?}");
        }
    }

    #[test]
    fn parts_are_spread_over_nodes() {
        let nodes: Vec<_> = (0..4).map(|n| NodeId::from_bytes([n; 16])).collect();
        let mut counts = [0; 4];
        for part in 0..400 {
            let first = (0..4).min_by_key(|n| turn(VersionKey([7; 16]), part, nodes[*n]));
            counts[first.unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| *count > 50), "{counts:?}");
    }
}
