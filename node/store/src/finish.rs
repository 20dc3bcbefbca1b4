//! Finishing an object: hash and cut it, share it with its equal, index its chunks.

use std::sync::atomic::Ordering;
use std::sync::{Arc, TryLockError};

use musicfs_core::manifest::{Cutter, Manifest};
use musicfs_core::version::VersionKey;

use crate::budget::{Charge, Fixed};
use crate::error::Error;
use crate::index::Index;
use crate::inner::{Inner, lock};
use crate::lookup::Found;
use crate::map::{self, ObjectId};
use crate::read::SPAN_BYTES;
use crate::store::Store;
use crate::types::{Class, Finished, Why};

impl Store {
    /// See [`Object::finish`](crate::Object::finish). The caller holds the object's `io`.
    pub(crate) fn finish(&self, inner: &Arc<Inner>) -> Result<Finished, Error> {
        if !self.is_open() {
            return Ok(Finished::Refused(Why::Recovering));
        }
        {
            let state = inner.state();
            if !state.blocks.is_complete() {
                return Ok(Finished::Incomplete);
            }
            if state.manifest.is_some() {
                return Ok(Finished::Known);
            }
        }
        let Some(manifest) = self.cut(inner)? else {
            return Ok(Finished::Incomplete);
        };
        let manifest = Arc::new(manifest);
        if inner.size == 0 {
            // Nothing of it is on disk, so there is nothing to share or to index.
            inner.state().manifest = Some(manifest);
            return Ok(Finished::Stored);
        }
        if inner.is_proven()
            && let Some(of) = self.share(inner, &manifest)?
        {
            return Ok(Finished::Shared(of));
        }
        self.keep_manifest(inner, &manifest)
    }

    fn cut(&self, inner: &Arc<Inner>) -> Result<Option<Manifest>, Error> {
        let mut cutter = Cutter::new();
        let mut at = 0;
        while at < inner.size {
            let end = (at + SPAN_BYTES).min(inner.size);
            // All of it is read anyway, so all of it is compared: what was written from memory has
            // then come back from its file once.
            let Some(bytes) = self.read(inner, at..end, true)? else {
                return Ok(None);
            };
            cutter.push(&bytes);
            at = end;
        }
        Ok(Some(cutter.finish()))
    }

    fn keep_manifest(
        &self,
        inner: &Arc<Inner>,
        manifest: &Arc<Manifest>,
    ) -> Result<Finished, Error> {
        if let Err(why) = self.may_write() {
            return Ok(Finished::Refused(why));
        }
        let chunks_count = manifest.chunks.len();
        let projected = |inner: &Inner| inner.state().projected(&[], Class::Body, chunks_count);
        let granted = match self.grant(inner, projected) {
            Ok(granted) => granted,
            Err(why) => return Ok(Finished::Refused(why)),
        };
        {
            let mut state = inner.state();
            // A damaged block may have been found meanwhile; the manifest is true all the same, and
            // what takes the block's place is compared with it.
            state.manifest = Some(Arc::clone(manifest));
            state.changes += 1;
        }
        self.mark_dirty(inner);
        self.settle(inner);
        lock(&self.ledger).release(granted);
        // It becomes durable with the next commit: three syncs for each of many small files would take
        // longer than they took to come.
        self.index_object(inner.version, manifest);
        Ok(Finished::Stored)
    }

    /// Puts a complete object into the index of chunks, if there is room for that.
    pub(crate) fn index_object(&self, version: VersionKey, manifest: &Manifest) {
        self.with_index_room(Index::growth_bytes(manifest), |index| {
            index.insert(version, manifest);
        });
    }

    /// Puts a version that shares another's object into the index.
    pub(crate) fn index_alias(&self, version: VersionKey, manifest: &Manifest) {
        self.with_index_room(Index::growth_bytes(manifest), |index| {
            index.insert_alias(version, manifest);
        });
    }

    fn with_index_room(&self, growth: u64, work: impl FnOnce(&Index)) {
        let charge = Charge {
            header: 0,
            body: growth,
        };
        if lock(&self.ledger).reserve(charge).is_err() {
            tracing::debug!("no room for an object's chunks in their index");
            return;
        }
        work(&self.index);
        let mut ledger = lock(&self.ledger);
        ledger.set_fixed(Fixed::Index, self.index.bytes());
        ledger.release(charge);
    }

    /// Makes an object's version an alias of an equal object, if there is one.
    fn share(&self, inner: &Arc<Inner>, manifest: &Manifest) -> Result<Option<VersionKey>, Error> {
        for version in self.index.find_whole(&manifest.whole) {
            if version == inner.version {
                continue;
            }
            let Found::Inner(equal) = self.find(version, None)? else {
                continue;
            };
            if Arc::ptr_eq(&equal, inner) {
                continue;
            }
            // Busy, or about to share the other way round: then both stay.
            let _io = match equal.io.try_lock() {
                Ok(io) => io,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => continue,
            };
            if let Some(id) = self.shareable(inner, &equal, manifest) {
                return self.become_alias(inner, &equal, id, manifest);
            }
        }
        Ok(None)
    }

    /// The id of `equal`, if it can stand for `inner`: complete, durable, and of equal content.
    fn shareable(
        &self,
        inner: &Inner,
        equal: &Arc<Inner>,
        manifest: &Manifest,
    ) -> Option<ObjectId> {
        if inner.state().passthroughs_count > 0 || self.commit(equal).is_err() {
            return None;
        }
        if !equal.is_proven() {
            return None;
        }
        let state = equal.state();
        let is_equal = state
            .manifest
            .as_ref()
            .is_some_and(|other| other.whole == manifest.whole && other.len == manifest.len);
        let is_sound = state.blocks.is_complete() && !state.is_dirty() && !state.is_superseded;
        let file = state.file.as_ref()?;
        (is_equal && is_sound).then_some(file.id)
    }

    /// The caller holds the `io` of both.
    ///
    /// The alias takes the place of the map at once; the object file it leaves behind has no map then
    /// and is removed here, or by the next start.
    fn become_alias(
        &self,
        inner: &Arc<Inner>,
        equal: &Arc<Inner>,
        id: ObjectId,
        manifest: &Manifest,
    ) -> Result<Option<VersionKey>, Error> {
        let bytes = map::encode_alias(inner.version, equal.version, id, inner.size);
        let allocated = match self.put_map(inner.version, &bytes) {
            Ok(allocated) => allocated,
            Err(error) => {
                self.disk_failed(&error);
                // The alias may have taken the place of the map: the next commit takes it back.
                inner.state().changes += 1;
                self.mark_dirty(inner);
                return Ok(None);
            }
        };
        let headers: Vec<_> = {
            let mut state = inner.state();
            state.is_superseded = true;
            lock(&self.verified).forget(inner.version);
            let headers = state
                .blocks
                .iter()
                .filter(|(_, block)| block.class == Class::Header);
            headers
                .map(|(index, _)| crate::blocks::range_of(index, inner.size))
                .collect()
        };
        let left = inner.state().allocated;
        if let Err(error) = self.unlink(inner.version, &self.layout.object(inner.version)) {
            // The next start removes it; until then it counts.
            self.disk_failed(&error);
            lock(&self.ledger).add_foreign(left);
        }
        {
            let wall = self.wall();
            let mut ledger = lock(&self.ledger);
            ledger.set_alias(inner.version, equal.version);
            let charge = Charge {
                header: 0,
                body: allocated,
            };
            ledger.set(inner.version, charge, wall);
        }
        let handle = {
            let mut live = lock(&self.live);
            live.dirty.remove(&inner.version);
            live.set_inner(inner.version, equal);
            live.handle(inner.version)
        };
        if let Some(handle) = handle {
            handle.set_inner(equal);
        }
        for range in headers {
            self.reclass(equal, range, Class::Header);
        }
        self.index_alias(inner.version, manifest);
        self.counters.objects_shared.fetch_add(1, Ordering::Relaxed);
        self.tell(inner.version);
        Ok(Some(equal.version))
    }
}
