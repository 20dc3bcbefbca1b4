//! Which objects are in memory, and which of them have something to commit.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use musicfs_core::version::VersionKey;

use crate::inner::Inner;
use crate::object::Object;

/// The least number of names at which those of dropped objects are swept.
const SWEEP_COUNT_MIN: usize = 64;

#[derive(Default)]
pub(crate) struct Live {
    named: HashMap<VersionKey, Named>,
    sweep_at: usize,
    /// What has to be committed, with the moment since when. Holds the objects in memory.
    pub(crate) dirty: BTreeMap<VersionKey, (Arc<Inner>, Duration)>,
}

#[derive(Default)]
struct Named {
    inner: Weak<Inner>,
    handle: Weak<Object>,
}

impl Live {
    pub(crate) fn handle(&self, version: VersionKey) -> Option<Arc<Object>> {
        self.named.get(&version)?.handle.upgrade()
    }

    pub(crate) fn inner(&self, version: VersionKey) -> Option<Arc<Inner>> {
        self.named.get(&version)?.inner.upgrade()
    }

    pub(crate) fn set_inner(&mut self, version: VersionKey, inner: &Arc<Inner>) {
        self.sweep();
        self.named.entry(version).or_default().inner = Arc::downgrade(inner);
    }

    pub(crate) fn set_handle(&mut self, version: VersionKey, handle: &Arc<Object>) {
        self.named.entry(version).or_default().handle = Arc::downgrade(handle);
    }

    pub(crate) fn set_dirty(&mut self, inner: &Arc<Inner>, since: Duration) {
        self.dirty
            .entry(inner.version)
            .or_insert_with(|| (Arc::clone(inner), since));
    }

    /// Every object that has a handle, and whether the kernel reads it by itself is its to say.
    pub(crate) fn open(&self) -> impl Iterator<Item = (VersionKey, Arc<Inner>)> + '_ {
        self.named.values().filter_map(|named| {
            let inner = named.inner.upgrade()?;
            let is_open = inner.handles.load(Ordering::Relaxed) > 0;
            is_open.then(|| (inner.version, inner))
        })
    }

    /// Forgets names of objects that are gone, at a cost in proportion to the names added since.
    fn sweep(&mut self) {
        if self.named.len() >= self.sweep_at.max(SWEEP_COUNT_MIN) {
            self.named.retain(|_, named| {
                named.inner.strong_count() > 0 || named.handle.strong_count() > 0
            });
            self.sweep_at = self.named.len() * 2;
        }
    }
}
