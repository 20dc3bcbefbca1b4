//! What users ask of the cache: figures, clearing, prefetch, pins, verification.

mod below;
mod pins;
mod prefetch;

use std::sync::atomic::{AtomicU64, Ordering};

use musicfs_core::error::with_causes;
use musicfs_core::extents::blocks_count;
use musicfs_core::id::OriginId;
use musicfs_core::version::VersionKey;
use musicfs_store::Class;
use tokio::sync::mpsc;

pub(crate) use pins::keep_pins;
pub use pins::{PinStatus, Pinned};
pub use prefetch::{PrefetchStep, Strategy};

use crate::error::Error;
use crate::fetch::blocking;
use crate::library::Library;

/// Reports that wait for a slow listener; a verification waits for it.
const STEPS_MAX: usize = 16;

/// Figures of the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CacheStats {
    /// Reads that were answered without an origin.
    pub hits: u64,
    /// Reads that needed one.
    pub misses: u64,
    /// Chunks of complete files.
    pub chunks_stored: u64,
    /// Of these, with different content.
    pub chunks_unique: u64,
    /// Bytes on disk.
    pub size_bytes: u64,
    /// The most that there may be.
    pub size_limit_bytes: u64,
    /// Files in the index.
    pub metadata_entries: u64,
    /// Bytes of the index on disk.
    pub metadata_bytes: u64,
    /// The header tier.
    pub headers: TierStats,
    /// Everything else that is cached.
    pub bodies: TierStats,
    /// Changed files of which only the tags were fetched: their origin's checksum proved that the
    /// rest is in the cache. This and the next two since the start.
    pub delta_files: u64,
    /// Bytes of them that were not fetched.
    pub delta_bytes_saved: u64,
    /// Changed files whose old content is in the cache, without a proof that the new one can be made
    /// of it: they are fetched when they are read.
    pub delta_unproven: u64,
}

/// Figures of one tier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TierStats {
    /// Objects that hold some of it.
    pub entries: u64,
    /// Bytes held.
    pub bytes: u64,
    /// Objects whose part of it was evicted.
    pub evictions: u64,
}

/// A part of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// Everything.
    All,
    /// Attributes and lookups in memory: the kernel's, which it keeps by itself.
    Metadata,
    /// What tag readers touch.
    Headers,
    /// Everything else.
    Chunks,
}

/// What was cleared, or would be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cleared {
    /// Objects.
    pub entries: u64,
    /// Bytes.
    pub bytes: u64,
}

/// How far a verification is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyStep {
    /// Objects checked.
    pub objects_checked: u64,
    /// Objects in all.
    pub objects_total: u64,
    /// Bytes read.
    pub bytes_checked: u64,
    /// Blocks that were damaged; they are fetched again when they are read.
    pub blocks_damaged: u64,
    /// Where the object checked last is in the tree, if it is there.
    pub current: Option<String>,
    /// It is over.
    pub complete: bool,
    /// Why it ended early.
    pub error: Option<String>,
}

impl Library {
    /// Figures of the cache; all zero without one, but for the index.
    ///
    /// # Errors
    /// [`Error::Index`].
    pub fn cache_stats(&self) -> Result<CacheStats, Error> {
        let reader = &self.shared.index.reader;
        let metadata = CacheStats {
            metadata_entries: reader.metadata_entries()?,
            metadata_bytes: reader.bytes_on_disk(),
            ..CacheStats::default()
        };
        let Some(fetcher) = &self.shared.fetcher else {
            return Ok(metadata);
        };
        let stats = fetcher.store.stats();
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &fetcher.counters;
        Ok(CacheStats {
            hits: count(&counters.hits),
            misses: count(&counters.misses),
            delta_files: count(&counters.deltas),
            delta_bytes_saved: count(&counters.delta_bytes_saved),
            delta_unproven: count(&counters.deltas_unproven),
            chunks_stored: stats.chunks_stored,
            chunks_unique: stats.chunks_unique,
            size_bytes: stats.size_bytes,
            size_limit_bytes: stats.limits.bodies + stats.limits.headers,
            headers: tier(&stats.header),
            bodies: tier(&stats.body),
            ..metadata
        })
    }

    /// Bytes that all pins together may hold.
    pub fn pin_capacity(&self) -> u64 {
        let fetcher = self.shared.fetcher.as_ref();
        fetcher.map_or(0, |fetcher| fetcher.store.pin_capacity())
    }

    /// Drops what is cached of an origin, or of all, in a tier; `dry_run` only counts it. Originals
    /// and entries stay as they are.
    ///
    /// # Errors
    /// [`Error::NoOrigin`] if the index does not know the origin, [`Error::Store`] if the disk
    /// fails half-way.
    pub async fn clear_cache(
        &self,
        origin: Option<&OriginId>,
        tier: Tier,
        dry_run: bool,
    ) -> Result<Cleared, Error> {
        if let Some(id) = origin {
            let rows = self.query(musicfs_index::Reader::origins)?;
            if !rows.iter().any(|row| row.name == id.as_str()) {
                return Err(Error::NoOrigin { origin: id.clone() });
            }
        }
        let class = match tier {
            Tier::All => None,
            // The kernel's caches are kept true by invalidation: there is nothing of ours to drop.
            Tier::Metadata => return Ok(Cleared::default()),
            Tier::Headers => Some(Class::Header),
            Tier::Chunks => Some(Class::Body),
        };
        let Some(fetcher) = &self.shared.fetcher else {
            return Ok(Cleared::default());
        };
        let (store, shared) = (fetcher.store.clone(), self.shared.clone());
        let origin = origin.cloned();
        let cleared = blocking(move || {
            let reader = &shared.index.reader;
            let is_meant = |version: VersionKey| match &origin {
                None => true,
                // Without an answer it stays: clearing less is the safe mistake.
                Some(id) => reader.version_is_of_origin(version, id).unwrap_or(false),
            };
            store.clear(&is_meant, class, dry_run)
        })
        .await??;
        Ok(Cleared {
            entries: cleared.objects,
            bytes: cleared.bytes,
        })
    }

    /// Reads everything that is cached and compares it with its checksums. Dropping the receiver
    /// ends it.
    pub fn verify(&self) -> mpsc::Receiver<VerifyStep> {
        let (sender, receiver) = mpsc::channel(STEPS_MAX);
        let Some(fetcher) = &self.shared.fetcher else {
            // There is room for one.
            let _ = sender.try_send(VerifyStep {
                complete: true,
                ..VerifyStep::default()
            });
            return receiver;
        };
        let (store, shared) = (fetcher.store.clone(), self.shared.clone());
        let (stop, fetcher) = (self.stop.clone(), fetcher.clone());
        tokio::task::spawn_blocking(move || {
            let stats = store.stats();
            let mut step = VerifyStep {
                // One that holds only headers counts once, one that holds both as well.
                objects_total: stats.header.objects.max(stats.body.objects),
                ..VerifyStep::default()
            };
            let outcome = store.verify(&mut |checked| {
                step.objects_checked += 1;
                step.objects_total = step.objects_total.max(step.objects_checked);
                step.bytes_checked += checked.bytes;
                let damaged = checked.damaged.iter();
                let blocks = damaged.map(|range| blocks_count(range.end - range.start));
                step.blocks_damaged += blocks.sum::<u64>();
                step.current = path_of(&shared.index.reader, checked.version);
                sender.blocking_send(step.clone()).is_ok() && !stop.is_cancelled()
            });
            // Damage that was found is told of with the next commit.
            fetcher.dirty.notify_one();
            step.complete = true;
            step.current = None;
            step.error = outcome.err().map(|error| with_causes(&error));
            // Whoever listened may have gone.
            let _ = sender.blocking_send(step);
        });
        receiver
    }
}

fn tier(stats: &musicfs_store::ClassStats) -> TierStats {
    TierStats {
        entries: stats.objects,
        bytes: stats.bytes,
        evictions: stats.evictions,
    }
}

/// Where a version is in the tree.
fn path_of(reader: &musicfs_index::Reader, version: VersionKey) -> Option<String> {
    let found = reader.find_version(version).ok()??;
    reader.path_of(found.node.ino).ok()?
}
