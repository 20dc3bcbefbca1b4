//! One object as all its users share it: its file, its blocks, and the lock under which they change.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use musicfs_core::extents::to_blocks;
use musicfs_core::manifest::Manifest;
use musicfs_core::version::VersionKey;

use crate::blocks::{Block, Blocks, index_of, range_of};
use crate::budget::Charge;
use crate::disk::DiskFile;
use crate::map::{ObjectId, Seal, encoded_bytes_max};
use crate::share::Provenance;
use crate::types::Class;

/// What file systems allocate by.
const PAGE_BYTES: u64 = 4096;
/// What one more write may make the file system need to find its blocks again.
const EXTENT_SLACK_BYTES: u64 = 16 << 10;
/// What a new name may make its directory grow by.
pub(crate) const DIR_SLACK_BYTES: u64 = 16 << 10;

/// How many blocks in front of a read were compared where it is taken for the next of a sequence: as
/// much as one request of the kernel.
const SEQUEL_AFTER_BLOCKS: u32 = 2;

/// Locks, whether or not a thread panicked with it: every section leaves the data consistent.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One object. Not to be confused with [`Object`](crate::Object), which is one version's handle.
pub(crate) struct Inner {
    /// Names its files.
    pub(crate) version: VersionKey,
    pub(crate) size: u64,
    /// Held by whoever changes its files, from the first look to the last.
    pub(crate) io: Mutex<()>,
    /// Short sections only, never while waiting for a disk.
    pub(crate) state: Mutex<State>,
    /// How many handles there are.
    pub(crate) handles: AtomicUsize,
}

pub(crate) struct State {
    /// `None` while no block is there.
    pub(crate) file: Option<ObjectFile>,
    pub(crate) blocks: Blocks,
    pub(crate) manifest: Option<Arc<Manifest>>,
    pub(crate) provenance: Provenance,
    /// Blocks written under a known manifest whose chunks were not all compared yet.
    pub(crate) suspects: BTreeSet<u32>,
    /// Blocks found damaged and not yet written again.
    pub(crate) hurt: BTreeSet<u32>,
    /// How many times bytes did not fit the manifest.
    pub(crate) mismatches_count: u32,
    /// Counts the times that blocks went away: what was read before is not to be trusted after.
    pub(crate) epoch: u64,
    /// Counts changes that the map should tell, and how many it tells.
    pub(crate) changes: u64,
    pub(crate) changes_committed: u64,
    /// That of the map on disk, once there is one.
    pub(crate) seal: Option<Seal>,
    /// Bytes written since the last commit.
    pub(crate) dirty_bytes: u64,
    /// Bytes on disk of the object file and of its map.
    pub(crate) allocated: u64,
    pub(crate) map_allocated: u64,
    /// The file still takes space for blocks that the map does not tell of once it is written.
    pub(crate) is_punch_due: bool,
    /// How many guards let the kernel read the file by itself.
    pub(crate) passthroughs_count: u32,
    /// Its version became an alias of another object; its files are gone.
    pub(crate) is_superseded: bool,
}

/// The file of an object.
#[derive(Clone)]
pub(crate) struct ObjectFile {
    pub(crate) id: ObjectId,
    pub(crate) file: Arc<dyn DiskFile>,
    /// Made since the last commit: its id is not durable.
    pub(crate) is_fresh: bool,
}

/// What a reader needs to read without the lock.
pub(crate) struct View {
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) epoch: u64,
    /// Blocks to be compared, with what is expected.
    pub(crate) unverified: Vec<(u32, u64)>,
}

impl Inner {
    pub(crate) fn new(version: VersionKey, size: u64, state: State) -> Arc<Self> {
        Arc::new(Self {
            version,
            size,
            io: Mutex::new(()),
            state: Mutex::new(state),
            handles: AtomicUsize::new(0),
        })
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// What is needed to read `range`; `None` if a block of it is absent.
    pub(crate) fn view(&self, range: Range<u64>, is_every_block: bool) -> Option<View> {
        let state = self.state();
        let file = state.file.as_ref()?;
        if !state.blocks.covers(range.clone()) {
            return None;
        }
        let unverified = state
            .blocks
            .within(range)
            .filter(|(_, block)| is_every_block || !block.is_verified)
            .map(|(index, block)| (index, block.check))
            .collect();
        Some(View {
            file: Arc::clone(&file.file),
            epoch: state.epoch,
            unverified,
        })
    }
}

impl Inner {
    /// `range` and what follows it, up to `len_max` bytes, if this is how somebody goes on who reads
    /// from the start to the end: the blocks before it were compared, those behind it were not.
    pub(crate) fn sequel(&self, range: Range<u64>, len_max: u64) -> Range<u64> {
        let state = self.state();
        let indexes = state.blocks.indexes(range.clone());
        let is_verified = |index| state.blocks.get(index).map(|block| block.is_verified);
        let before = indexes.start.saturating_sub(SEQUEL_AFTER_BLOCKS)..indexes.start;
        let is_sequel = before.len() == SEQUEL_AFTER_BLOCKS as usize
            && before
                .into_iter()
                .all(|index| is_verified(index) == Some(true));
        if !is_sequel {
            return range;
        }
        let blocks_max = index_of(len_max);
        let limit = indexes.start.saturating_add(blocks_max);
        let behind = indexes.end..limit.max(indexes.end);
        let count = behind
            .clone()
            .take_while(|index| is_verified(*index) == Some(false))
            .count();
        match count {
            0 => range,
            count => range.start..range_of(behind.start + count as u32 - 1, self.size).end,
        }
    }
}

impl State {
    /// An object of which nothing is there.
    pub(crate) fn empty(size: u64) -> Self {
        Self {
            file: None,
            blocks: Blocks::new(size),
            manifest: None,
            provenance: Provenance::Proven,
            suspects: BTreeSet::new(),
            hurt: BTreeSet::new(),
            mismatches_count: 0,
            epoch: 0,
            changes: 0,
            changes_committed: 0,
            seal: None,
            dirty_bytes: 0,
            allocated: 0,
            map_allocated: 0,
            is_punch_due: false,
            passthroughs_count: 0,
            is_superseded: false,
        }
    }

    pub(crate) fn is_dirty(&self) -> bool {
        self.changes != self.changes_committed
    }

    /// The seal of the map on disk, if that tells of every block of the object and each was compared
    /// or written since the start.
    pub(crate) fn verified_seal(&self) -> Option<Seal> {
        let is_sound = self.blocks.is_complete()
            && self.blocks.is_verified()
            && self.suspects.is_empty()
            && !self.is_dirty()
            && !self.is_superseded;
        self.seal.filter(|_| is_sound)
    }

    /// Blocks went away: nothing read before this is trusted any more. To be called through
    /// [`Store::lost_blocks`](crate::Store::lost_blocks).
    pub(crate) fn lost_blocks(&mut self) {
        self.epoch += 1;
        self.changes += 1;
    }

    /// What the files take now, with the map that the next commit writes.
    pub(crate) fn charge(&self) -> Charge {
        let (header, body) = self.blocks.bytes();
        let pending = match self.is_dirty() {
            true => self.map_pending(self.blocks.count(), self.chunks_count()),
            false => 0,
        };
        let total = self.allocated.max(header + body) + self.map_allocated + pending;
        self.split(header, body, total)
    }

    /// The most that the files take once the `added` blocks were written, or their classes changed,
    /// and a manifest of `chunks_count` chunks was added.
    pub(crate) fn projected(&self, added: &[u32], class: Class, chunks_count: usize) -> Charge {
        let (mut header, mut body) = self.blocks.bytes();
        let mut new = 0;
        for index in added {
            let bytes = self.blocks.bytes_of(*index);
            match self.blocks.get(*index).map(|block| block.class) {
                None => new += bytes,
                Some(Class::Header) => header -= bytes,
                Some(Class::Body) => body -= bytes,
            }
            match class {
                Class::Header => header += bytes,
                Class::Body => body += bytes,
            }
        }
        let (header_now, body_now) = self.blocks.bytes();
        let growth = match (new, &self.file) {
            (0, _) => 0,
            (_, Some(_)) => new + EXTENT_SLACK_BYTES,
            (_, None) => new + EXTENT_SLACK_BYTES + DIR_SLACK_BYTES,
        };
        let count = self.blocks.count() + added.len();
        let chunks_count = chunks_count.max(self.chunks_count());
        let total = self.allocated.max(header_now + body_now)
            + growth
            + self.map_allocated
            + self.map_pending(count, chunks_count);
        self.split(header, body, total)
    }

    /// Adds a block that was just written.
    pub(crate) fn wrote(&mut self, index: u32, check: u64, class: Class) {
        let block = Block {
            check,
            class,
            is_verified: true,
            is_committed: false,
        };
        self.blocks.insert(index, block);
        if self.manifest.is_some() {
            self.suspects.insert(index);
        }
    }

    /// What lost its body and still takes the space for it counts as a body, to be evicted again.
    fn split(&self, header: u64, body: u64, total: u64) -> Charge {
        match self.is_punch_due {
            true => Charge {
                header,
                body: total.saturating_sub(header),
            },
            false => Charge::new(header, body, total),
        }
    }

    fn chunks_count(&self) -> usize {
        self.manifest
            .as_ref()
            .map_or(0, |manifest| manifest.chunks.len())
    }

    fn map_pending(&self, blocks_count: usize, chunks_count: usize) -> u64 {
        encoded_bytes_max(blocks_count, chunks_count).next_multiple_of(PAGE_BYTES)
    }
}

/// `range` within `size`, and the whole blocks that hold it.
pub(crate) fn clip(range: Range<u64>, size: u64) -> (Range<u64>, Range<u64>) {
    let end = range.end.min(size);
    let exact = range.start.min(end)..end;
    let wide = to_blocks(exact.clone(), size);
    (exact, wide)
}
