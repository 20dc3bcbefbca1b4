//! Making durable: bytes, then the map that tells of them.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use musicfs_core::version::VersionKey;

use crate::error::{Attempt, Error, if_there};
use crate::evict::punch_absent;
use crate::health::DiskHealth;
use crate::inner::{Inner, lock};
use crate::layout::Layout;
use crate::map;
use crate::marker;
use crate::store::{Store, put};

/// What changed waits this long for more, then it is committed.
const DIRTY_AGE_MAX: Duration = Duration::from_millis(500);
/// How often accesses are written to the maps, and how many at a time.
const TOUCHES_EVERY: Duration = Duration::from_secs(60);
const TOUCHES_COUNT_MAX: usize = 1024;

impl Store {
    /// Makes durable what changed 500 ms ago or earlier. To be called every 250 ms or so.
    ///
    /// Does nothing while the disk is unhealthy and not due for a trial.
    ///
    /// # Errors
    /// [`Error::Disk`] if the disk refused; that is logged and counted in its health already.
    pub fn commit_due(&self) -> Result<(), Error> {
        let _gate = self.enter();
        if !self.is_open() {
            return Ok(());
        }
        let now = self.disk.monotonic();
        let due: Vec<Arc<Inner>> = lock(&self.live)
            .dirty
            .values()
            .filter(|(_, since)| now.saturating_sub(*since) >= DIRTY_AGE_MAX)
            .map(|(inner, _)| Arc::clone(inner))
            .collect();
        if !due.is_empty() && self.may_write().is_ok() {
            self.commit_each(&due)?;
        }
        let is_due = {
            let mut flushed = lock(&self.touches_flushed);
            let is_due = now.saturating_sub(*flushed) >= TOUCHES_EVERY;
            if is_due {
                *flushed = now;
            }
            is_due
        };
        if is_due {
            self.flush_touches(TOUCHES_COUNT_MAX);
        }
        Ok(())
    }

    /// Makes everything durable that was written.
    ///
    /// # Errors
    /// [`Error::Disk`] if the disk refused, which leaves the rest to later commits.
    pub fn commit_all(&self) -> Result<(), Error> {
        let _gate = self.enter();
        match self.is_open() {
            true => self.commit_dirty(),
            false => Ok(()),
        }
    }

    fn commit_dirty(&self) -> Result<(), Error> {
        let dirty: Vec<Arc<Inner>> = lock(&self.live)
            .dirty
            .values()
            .map(|(inner, _)| Arc::clone(inner))
            .collect();
        self.commit_each(&dirty)
    }

    /// Makes everything durable and says so in a marker, so that the next start need not look at
    /// the objects. Writes are refused from then on.
    ///
    /// # Errors
    /// [`Error::Disk`] if the disk refused: the next start looks at everything.
    pub fn close(&self) -> Result<(), Error> {
        if self.is_recovering() {
            // Nothing was written, and a scan is not waited for.
            return Ok(());
        }
        // Waits for whoever is changing files; whoever comes later finds the store closed.
        let _gate = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        if !self.is_open() {
            return Ok(());
        }
        self.set_closed();
        self.commit_dirty()?;
        self.flush_touches(usize::MAX);
        let shards = lock(&self.ledger).unsynced_shards.clone();
        for shard in shards.into_iter().map(|byte| self.layout.shard(byte)) {
            if_there(self.disk.sync_dir(&shard)).attempt("sync", &shard)?;
        }
        let dir = &self.layout.dir;
        let mut generation = self.disk.random().attempt("name", dir)?;
        if !self.index.close(generation) {
            // A number that no index has: the next start makes it anew.
            generation = [0; 16];
        }
        let bytes = marker::encode(&lock(&self.ledger), generation);
        put(&*self.disk, &self.layout.marker(), &bytes)?;
        self.disk.sync_dir(dir).attempt("sync", dir)
    }

    fn commit_each(&self, all: &[Arc<Inner>]) -> Result<(), Error> {
        let mut outcome = Ok(());
        for inner in all {
            let _io = lock(&inner.io);
            if let Err(error) = self.commit(inner) {
                outcome = Err(error);
                if self.disk_health() == DiskHealth::Failing {
                    break;
                }
            }
        }
        outcome
    }

    /// Makes durable what an object's blocks are now. The caller holds its `io`.
    ///
    /// The health of the disk learns of the outcome.
    pub(crate) fn commit(&self, inner: &Arc<Inner>) -> Result<(), Error> {
        // Taken off the list first: what changes from here on puts it back.
        let listed = lock(&self.live).dirty.remove(&inner.version);
        if inner.state().is_superseded || !inner.state().is_dirty() {
            return Ok(());
        }
        match self.commit_changes(inner) {
            Ok(()) => {
                self.disk_succeeded();
                Ok(())
            }
            Err(error) => {
                self.disk_failed(&error);
                if inner.state().is_dirty() {
                    let since = listed.map_or_else(|| self.disk.monotonic(), |(_, since)| since);
                    lock(&self.live).set_dirty(inner, since);
                }
                self.settle(inner);
                Err(error)
            }
        }
    }

    fn commit_changes(&self, inner: &Arc<Inner>) -> Result<(), Error> {
        let file = inner.state().file.clone();
        let Some(file) = file else {
            inner.state().changes_committed = inner.state().changes;
            return Ok(());
        };
        let is_written = !inner.state().blocks.is_committed();
        if is_written || file.is_fresh {
            let path = self.layout.object(inner.version);
            if let Err(error) = file.file.sync(file.is_fresh) {
                self.forget_uncommitted(inner);
                return Err(error).attempt("sync", &path);
            }
        }
        let (bytes, changes) = {
            let state = inner.state();
            if state.blocks.is_empty() {
                (None, state.changes)
            } else {
                let manifest = state.manifest.as_deref();
                let bytes = map::encode(
                    inner.version,
                    file.id,
                    &state.blocks,
                    manifest,
                    state.provenance,
                );
                (Some(bytes), state.changes)
            }
        };
        let Some(bytes) = bytes else {
            return self.remove_files(inner);
        };
        let allocated = self.put_map(inner.version, &bytes)?;
        let is_punch_due = inner.state().is_punch_due;
        if is_punch_due {
            let path = self.layout.object(inner.version);
            let blocks = inner.state().blocks.clone();
            punch_absent(&*file.file, &blocks).attempt("punch", &path)?;
        }
        {
            let mut state = inner.state();
            state.is_punch_due &= !is_punch_due;
            // Blocks only go away while `io` is held, so all that are there were encoded.
            state.blocks.commit();
            state.changes_committed = changes;
            state.map_allocated = allocated;
            state.dirty_bytes = 0;
            if let Some(file) = &mut state.file {
                file.is_fresh = false;
            }
            state.seal = map::seal_of(&bytes);
            self.note_verified(inner.version, &state);
        }
        self.settle(inner);
        self.tell(inner.version);
        Ok(())
    }

    /// Puts a map in its place, durably. What it takes on the disk.
    pub(crate) fn put_map(&self, version: VersionKey, bytes: &[u8]) -> Result<u64, Error> {
        let path = self.layout.map(version);
        let half = Layout::half(&path);
        let dir = self.layout.shard(version.0[0]);
        if_there(self.disk.remove(&half)).attempt("remove", &half)?;
        let file = self.disk.create(&half).attempt("create", &half)?;
        let wall = self.wall();
        let accessed = lock(&self.ledger)
            .entry(version)
            .map_or(wall, |entry| entry.accessed);
        let written = file
            .write_at(bytes, 0)
            .and_then(|()| file.set_modified(accessed))
            .and_then(|()| file.sync(true))
            .and_then(|()| file.allocated());
        let allocated = match written {
            Ok(allocated) => allocated,
            Err(error) => {
                // Best effort: the next start removes it.
                let _ = self.disk.remove(&half);
                return Err(error).attempt("write", &half);
            }
        };
        self.disk.rename(&half, &path).attempt("rename", &half)?;
        self.disk.sync_dir(&dir).attempt("sync", &dir)?;
        Ok(allocated)
    }

    /// After a failed sync nobody knows which bytes reached the disk, and a later sync would not
    /// tell: they count as never written.
    fn forget_uncommitted(&self, inner: &Inner) {
        let mut state = inner.state();
        let count = state.blocks.remove_where(|_, block| !block.is_committed);
        if count > 0 {
            self.lost_blocks(inner.version, &mut state);
        }
        state.dirty_bytes = 0;
    }

    /// Writes accesses into the modification times of the maps.
    fn flush_touches(&self, count_max: usize) {
        let touched: Vec<(VersionKey, u64)> = {
            let mut ledger = lock(&self.ledger);
            let versions: Vec<_> = ledger.touched.iter().copied().take(count_max).collect();
            let mut touched = Vec::with_capacity(versions.len());
            for version in versions {
                ledger.touched.remove(&version);
                touched.extend(ledger.entry(version).map(|entry| (version, entry.accessed)));
            }
            touched
        };
        for (version, accessed) in touched {
            // Lost, it makes the order of eviction a little worse.
            let _ = self.disk.set_modified(&self.layout.map(version), accessed);
        }
    }
}
