//! Where the chunks of a version lie in it.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use musicfs_core::manifest::{ChunkHash, Manifest};
use musicfs_core::peer::Holdings;
use musicfs_core::version::VersionKey;
use tokio::sync::OnceCell;

/// Versions whose tables are kept: as many as requests are served at once.
const VERSIONS_MAX: usize = 64;
/// Chunks in all tables that are kept: 12 MiB, some 20 GB of content. The last one used is kept even if it
/// has more: 32 MiB of manifest are 45 MB of table.
const CHUNKS_MAX: usize = 1 << 18;

/// Tables of complete versions, the last ones asked for.
pub(crate) struct Spans {
    holdings: Arc<dyn Holdings>,
    /// The last one used is the last.
    kept: Mutex<Vec<(VersionKey, Slot)>>,
}

/// Where each chunk of one version lies.
#[derive(Debug)]
pub(crate) struct ChunkSpans {
    /// By hash; of equal chunks the first alone.
    places: Box<[(ChunkHash, u64, u32)]>,
}

/// A table, once somebody has brought it; all who want it meanwhile wait for that.
type Slot = Arc<OnceCell<Option<Arc<ChunkSpans>>>>;

impl Spans {
    pub(super) fn new(holdings: Arc<dyn Holdings>) -> Self {
        let kept = Mutex::new(Vec::new());
        Self { holdings, kept }
    }

    /// The table of a version; `None` unless it is held completely.
    pub(crate) async fn of(&self, version: VersionKey) -> Option<Arc<ChunkSpans>> {
        let slot = self.slot(version);
        let load = async || {
            let manifest = self.holdings.manifest(version).await?;
            Some(Arc::new(ChunkSpans::of(&manifest)))
        };
        let table = slot.get_or_init(load).await.clone();
        match table {
            Some(_) => self.trim(),
            None => self.drop_slot(version, &slot),
        }
        table
    }

    /// Forgets the table of a version that changed; what is being brought is not kept either.
    pub(super) fn forget(&self, version: VersionKey) {
        self.kept().retain(|(kept, _)| *kept != version);
    }

    fn slot(&self, version: VersionKey) -> Slot {
        let mut kept = self.kept();
        let found = kept.iter().position(|(kept, _)| *kept == version);
        let entry = match found {
            Some(at) => kept.remove(at),
            None => (version, Slot::default()),
        };
        let slot = entry.1.clone();
        kept.push(entry);
        slot
    }

    fn trim(&self) {
        let mut kept = self.kept();
        let chunks_of = |slot: &Slot| slot.get().and_then(Option::as_ref).map_or(0, |it| it.len());
        let mut count: usize = kept.iter().map(|(_, slot)| chunks_of(slot)).sum();
        while kept.len() > VERSIONS_MAX || (kept.len() > 1 && count > CHUNKS_MAX) {
            count -= chunks_of(&kept.remove(0).1);
        }
    }

    fn drop_slot(&self, version: VersionKey, slot: &Slot) {
        self.kept()
            .retain(|(kept, other)| *kept != version || !Arc::ptr_eq(slot, other));
    }

    fn kept(&self) -> MutexGuard<'_, Vec<(VersionKey, Slot)>> {
        // Its state is whole at every point that can panic.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ChunkSpans {
    fn of(manifest: &Manifest) -> Self {
        let place = |(hash, span): (ChunkHash, Range<u64>)| {
            let len = u32::try_from(span.end - span.start);
            (hash, span.start, len.expect("a chunk has 256 KiB at most"))
        };
        let mut places: Vec<_> = manifest.spans().map(place).collect();
        places.sort_unstable();
        places.dedup_by_key(|(hash, _, _)| *hash);
        let places = places.into();
        Self { places }
    }

    /// Where the chunk lies.
    pub(crate) fn span(&self, hash: ChunkHash) -> Option<Range<u64>> {
        let found = self
            .places
            .binary_search_by_key(&hash, |(hash, _, _)| *hash);
        let (_, start, len) = self.places[found.ok()?];
        Some(start..start + u64::from(len))
    }

    fn len(&self) -> usize {
        self.places.len()
    }
}

#[cfg(test)]
mod tests;
