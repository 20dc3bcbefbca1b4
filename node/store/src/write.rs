//! Writing: room first, then bytes, then what the map will tell.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use musicfs_core::extents::BLOCK_BYTES;
use musicfs_core::manifest::ChunkHash;
use xxhash_rust::xxh3::xxh3_64;

use crate::blocks::{index_of, range_of};
use crate::budget::{Charge, Fixed};
use crate::disk::DiskFile;
use crate::error::{Attempt, Error, if_there};
use crate::health::DiskHealth;
use crate::inner::{Inner, ObjectFile, lock};
use crate::layout::ID_TAG;
use crate::map::ObjectId;
use crate::read::usize_of;
use crate::store::Store;
use crate::types::{Class, Why, Written};

/// An object that has this much to commit is committed by the write that reached it.
const DIRTY_BYTES_MAX: u64 = 8 << 20;
/// How often bytes may contradict a manifest before the object is given up as a mixture.
const MISMATCHES_MAX: u32 = 2;

impl Store {
    /// See [`Object::write`](crate::Object::write). The caller holds the object's `io`.
    pub(crate) fn write(
        &self,
        inner: &Arc<Inner>,
        offset: u64,
        bytes: &[u8],
        class: Class,
    ) -> Result<Written, Error> {
        let end = offset + bytes.len() as u64;
        let wanted: Vec<u32> = {
            let state = inner.state();
            let indexes = state.blocks.indexes(offset..end);
            indexes
                .filter(|index| state.blocks.get(*index).is_none())
                .collect()
        };
        if wanted.is_empty() {
            return Ok(Written::Kept);
        }
        if let Err(why) = self.may_write() {
            return Ok(Written::Refused(why));
        }
        let is_trial = lock(&self.health).state() != DiskHealth::Healthy;
        let projected = |inner: &Inner| inner.state().projected(&wanted, class, 0);
        let granted = match self.grant(inner, projected) {
            Ok(granted) => granted,
            Err(why) => {
                self.count_unfit(why, class, wanted.len() as u64 * BLOCK_BYTES);
                return Ok(Written::Refused(why));
            }
        };
        let put = self.put_blocks(inner, offset, bytes, class, &wanted);
        self.settle(inner);
        lock(&self.ledger).release(granted);
        if let Err(error) = put {
            self.disk_failed(&error);
            return Ok(Written::Refused(Why::DiskFailing));
        }
        if !self.compare_chunks(inner)? {
            return Ok(Written::Refused(Why::Mismatch));
        }
        let is_due = inner.state().dirty_bytes >= DIRTY_BYTES_MAX;
        if (is_due || is_trial) && self.commit(inner).is_err() {
            return Ok(Written::Refused(Why::DiskFailing));
        }
        Ok(Written::Kept)
    }

    /// See [`Object::set_class`](crate::Object::set_class). The caller holds the object's `io`.
    pub(crate) fn reclass(&self, inner: &Arc<Inner>, range: Range<u64>, class: Class) {
        let changed: Vec<u32> = inner
            .state()
            .blocks
            .within(range)
            .filter(|(_, block)| block.class != class)
            .map(|(index, _)| index)
            .collect();
        if changed.is_empty() || self.may_write().is_err() {
            return;
        }
        let projected = |inner: &Inner| inner.state().projected(&changed, class, 0);
        let granted = match self.grant(inner, projected) {
            Ok(granted) => granted,
            Err(why) => {
                return self.count_unfit(why, class, changed.len() as u64 * BLOCK_BYTES);
            }
        };
        {
            let mut state = inner.state();
            for index in changed {
                state.blocks.update(index, |block| block.class = class);
            }
            state.changes += 1;
        }
        self.mark_dirty(inner);
        self.settle(inner);
        lock(&self.ledger).release(granted);
    }

    /// Charges the object what its files take now.
    pub(crate) fn settle(&self, inner: &Inner) {
        let file = inner
            .state()
            .file
            .as_ref()
            .map(|file| Arc::clone(&file.file));
        let measured = file.and_then(|file| file.allocated().ok());
        let (charge, is_there) = {
            let mut state = inner.state();
            if state.is_superseded {
                return;
            }
            state.allocated = measured.unwrap_or(state.allocated);
            let is_there = state.file.is_some() || state.allocated + state.map_allocated > 0;
            (state.charge(), is_there)
        };
        let wall = self.wall();
        let mut ledger = lock(&self.ledger);
        if is_there {
            ledger.set(inner.version, charge, wall);
        } else {
            ledger.remove(inner.version);
        }
    }

    fn put_blocks(
        &self,
        inner: &Arc<Inner>,
        offset: u64,
        bytes: &[u8],
        class: Class,
        wanted: &[u32],
    ) -> Result<(), Error> {
        let path = self.layout.object(inner.version);
        let file = self.file(inner)?;
        for run in runs(wanted) {
            let start = range_of(run.start, inner.size).start;
            let end = range_of(run.end - 1, inner.size).end;
            let part = &bytes[usize_of(start - offset)..usize_of(end - offset)];
            file.write_at(part, start).attempt("write", &path)?;
            let checks: Vec<(u32, u64)> = part
                .chunks(usize_of(BLOCK_BYTES))
                .zip(run)
                .map(|(block, index)| (index, xxh3_64(block)))
                .collect();
            let mut state = inner.state();
            for (index, check) in checks {
                state.wrote(index, check, class);
                let is_healed = state.hurt.remove(&index);
                self.counters
                    .blocks_healed
                    .fetch_add(u64::from(is_healed), Ordering::Relaxed);
            }
            state.changes += 1;
            state.dirty_bytes += part.len() as u64;
            drop(state);
            self.mark_dirty(inner);
        }
        Ok(())
    }

    /// The object's file, made if there is none.
    fn file(&self, inner: &Inner) -> Result<Arc<dyn DiskFile>, Error> {
        if let Some(file) = &inner.state().file {
            return Ok(Arc::clone(&file.file));
        }
        let shard = inner.version.0[0];
        let dir = self.layout.shard(shard);
        if self.disk.make_dir(&dir).attempt("create", &dir)? {
            let objects = &self.layout.objects;
            self.disk.sync_dir(objects).attempt("sync", objects)?;
        }
        let path = self.layout.object(inner.version);
        let id = ObjectId(self.disk.random().attempt("name", &path)?);
        // No map tells of what may lie there: it is a leftover.
        if_there(self.disk.remove(&path)).attempt("remove", &path)?;
        let file = self.disk.create(&path).attempt("create", &path)?;
        let made = file
            .set_len(inner.size)
            .and_then(|()| file.set_tag(ID_TAG, id.0));
        self.measure_shard(shard);
        if let Err(error) = made {
            // Best effort: without a map it is a leftover.
            let _ = self.disk.remove(&path);
            return Err(error).attempt("prepare", &path);
        }
        let mut state = inner.state();
        state.allocated = 0;
        state.file = Some(ObjectFile {
            id,
            file: Arc::clone(&file),
            is_fresh: true,
        });
        Ok(file)
    }

    pub(crate) fn measure_shard(&self, shard: u8) {
        if let Ok(found) = self.disk.stat(&self.layout.shard(shard)) {
            lock(&self.ledger).set_fixed(Fixed::Shard(shard), found.allocated);
        }
    }

    /// Compares the chunks that got blocks under a known manifest. False if one was wrong: then the
    /// blocks that it got are absent again.
    fn compare_chunks(&self, inner: &Arc<Inner>) -> Result<bool, Error> {
        let due = {
            let state = inner.state();
            match (&state.manifest, state.suspects.is_empty()) {
                (Some(manifest), false) => (Arc::clone(manifest), state.suspects.clone()),
                _ => return Ok(true),
            }
        };
        let (manifest, suspects) = due;
        let mut wrong = Vec::new();
        for (hash, span) in manifest.spans() {
            let indexes = index_of(span.start)..index_of(span.end - 1) + 1;
            if suspects.range(indexes.clone()).next().is_none() {
                continue;
            }
            if let Some(bytes) = self.read(inner, span, false)?
                && ChunkHash::of(&bytes) != hash
            {
                wrong.push(indexes);
            }
        }
        let mut state = inner.state();
        if wrong.is_empty() {
            if state.blocks.is_complete() {
                state.suspects.clear();
            }
            return Ok(true);
        }
        let chunks = wrong.len() as u64;
        self.counters
            .chunks_mismatched
            .fetch_add(chunks, Ordering::Relaxed);
        state.mismatches_count += 1;
        if state.mismatches_count >= MISMATCHES_MAX && state.passthroughs_count == 0 {
            // What was kept and what comes now are not one content: start from nothing.
            drop(state);
            tracing::warn!(version = %inner.version, "stored content contradicts its origin; dropped");
            self.discard(inner);
            return Ok(false);
        }
        for index in wrong.into_iter().flatten() {
            if state.suspects.remove(&index) {
                state.blocks.remove(index);
            }
        }
        self.lost_blocks(inner.version, &mut state);
        drop(state);
        self.mark_dirty(inner);
        self.settle(inner);
        Ok(false)
    }

    fn count_unfit(&self, why: Why, class: Class, bytes: u64) {
        let counter = match (why, class) {
            (Why::HeaderQuota, _) | (Why::NoRoom, Class::Header) => &self.counters.header_unfit,
            (Why::NoRoom | Why::FreeSpace, _) => &self.counters.body_unfit,
            _ => return,
        };
        counter.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Room that was reserved: what a write may use.
pub(crate) type Granted = Charge;

/// The runs of consecutive numbers among `indexes`, which are in order.
fn runs(indexes: &[u32]) -> Vec<Range<u32>> {
    let mut runs: Vec<Range<u32>> = Vec::new();
    for index in indexes {
        match runs.last_mut() {
            Some(run) if run.end == *index => run.end += 1,
            _ => runs.push(*index..*index + 1),
        }
    }
    runs
}

/// Whether an error means that the device is out of space.
pub(crate) fn is_full(error: &Error) -> bool {
    let full = |error: &io::Error| {
        matches!(
            error.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    };
    error.disk().is_some_and(full)
}
