//! Other nodes as sources of a file: whose manifest it is fetched under, and what is checked when.
//!
//! Under a manifest every chunk is compared with its hash before it is taken in. A manifest that a
//! peer signed is itself only that peer's word: what is fetched under it is *provisional*, until the
//! whole is compared with it, and then with the origin's own checksum where there is one. Bytes of a
//! peer that has only a part of the file are compared at that end alone.

mod bytes;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::bytes::Bytes;
use musicfs_core::error::with_causes;
use musicfs_core::health::Standing;
use musicfs_core::id::NodeId;
use musicfs_core::manifest::{ChunkHash, Manifest};
use musicfs_core::peer::{Held, Peer, PeerError, Peers};
use musicfs_core::version::VersionKey;
use musicfs_store::{Object, Provenance, Store};

use super::{Fetcher, RemoteFile, blocking};
pub(super) use bytes::{PeerBytes, PeerFile};

/// How much of what is stored is compared with a new manifest: the header tier of nearly every file.
const COMPARED_BYTES_MAX: u64 = 4 << 20;

/// Chunks of a manifest that are looked up among those of other content: 300 MB of a file, in some ten
/// milliseconds, once.
const CHUNKS_LOOKED_UP_MAX: usize = 4_096;

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
    /// Chunks of it that other content in this node's own cache has too.
    near: Arc<HashSet<ChunkHash>>,
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
        if let Some(own) = file.object.manifest() {
            return Ok(self.ready(file, Some(own), Arc::default(), at));
        }
        let claim = self.claimed(file).await?;
        self.receive(file).await;
        Ok(match claim {
            Some(claim) => self.ready(file, Some(claim.manifest), claim.near, at),
            None => self.ready(file, None, Arc::default(), at),
        })
    }

    fn ready(
        &self,
        file: &Arc<RemoteFile>,
        manifest: Option<Arc<Manifest>>,
        near: Arc<HashSet<ChunkHash>>,
        at: u64,
    ) -> PeerFile {
        PeerFile {
            peer: self.peer.clone(),
            file: file.clone(),
            manifest,
            near,
            spare: file.hearsay.take_spare(at),
        }
    }

    /// What this file is fetched under; if that is nothing yet, this peer's manifest becomes it. `None`
    /// if it has none.
    async fn claimed(&self, file: &Arc<RemoteFile>) -> Result<Option<Claim>, PeerError> {
        if self.held != Held::Complete {
            return Ok(None);
        }
        let known = file.hearsay.claim().clone();
        if known.is_some() {
            return Ok(known);
        }
        let (version, size) = (file.object.version(), file.object.size());
        let manifest = self.peer.manifest(version, size).await?;
        let (object, store) = (file.object.clone(), file.fetcher.store.clone());
        let claimed = manifest.clone();
        let looked = blocking(move || {
            let is_false = contradicts(&object, &claimed);
            (is_false, chunks_near(&store, &claimed))
        });
        // If the runtime ends, nobody reads any more.
        let (is_false, near) = looked.await.unwrap_or_default();
        let by = self.peer.id();
        if is_false {
            return Err(PeerError::FalseManifest { peer: by, version });
        }
        let mut claim = file.hearsay.claim();
        let claim = claim.get_or_insert(Claim {
            by,
            manifest,
            near: Arc::new(near),
        });
        Ok(Some(claim.clone()))
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

/// The chunks of a manifest that other content in the cache has too.
fn chunks_near(store: &Arc<Store>, manifest: &Manifest) -> HashSet<ChunkHash> {
    let hashes = manifest.chunks.iter().map(|(hash, _)| *hash);
    let is_near = |hash: &ChunkHash| matches!(store.find_chunk(hash), Ok(Some(_)));
    hashes.take(CHUNKS_LOOKED_UP_MAX).filter(is_near).collect()
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
        self.choices.distrust(version);
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
    use super::*;

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
