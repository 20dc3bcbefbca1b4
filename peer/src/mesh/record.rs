//! What is remembered of a node, through its connections.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use musicfs_core::health::Vitals;
use musicfs_core::id::NodeId;
use musicfs_core::peer::PeerError;

use crate::session::{Counters, Introduced};

/// One node.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) counters: Arc<Counters>,
    errors: AtomicU64,
    /// Requests to it under way.
    under_way: AtomicU32,
    known: Mutex<Known>,
}

#[derive(Debug)]
pub(super) struct Known {
    pub(super) vitals: Vitals,
    pub(super) name: String,
    pub(super) version: String,
    pub(super) last_error: Option<String>,
    /// Why it was demoted last.
    pub(super) lie: Option<String>,
}

/// Of every node that was met and not forgotten.
#[derive(Debug, Default)]
pub(super) struct Records {
    by_node: Mutex<BTreeMap<NodeId, Arc<Record>>>,
}

/// A request under way; over when it is dropped.
pub(super) struct UnderWay(Arc<Record>);

impl Record {
    fn new() -> Self {
        Self {
            counters: Arc::default(),
            errors: AtomicU64::new(0),
            under_way: AtomicU32::new(0),
            known: Mutex::new(Known {
                vitals: Vitals::of_peer(),
                name: String::new(),
                version: String::new(),
                last_error: None,
                lie: None,
            }),
        }
    }

    /// What changes as a whole. Its state is whole at every point that can panic.
    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is connected again, and this is what it says of itself.
    pub(super) fn connected(&self, introduced: &Introduced) {
        let mut known = self.known();
        known.vitals.is_there();
        known.name.clone_from(&introduced.name);
        known.version.clone_from(&introduced.version);
    }

    /// A request to it failed.
    pub(super) fn failed(&self, error: &PeerError) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        let text = error.to_string();
        let mut known = self.known();
        known.vitals.failed(error.kind());
        if error.is_lie() {
            known.lie = Some(text.clone());
        }
        known.last_error = Some(text);
    }

    pub(super) fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    pub(super) fn requests(&self) -> u32 {
        self.under_way.load(Ordering::Relaxed)
    }

    pub(super) fn begin(self: &Arc<Self>) -> UnderWay {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay(self.clone())
    }
}

impl Records {
    /// The record of a node, made if there is none.
    pub(super) fn of(&self, node: NodeId) -> Arc<Record> {
        let mut by_node = self.lock();
        let record = by_node.entry(node);
        record.or_insert_with(|| Arc::new(Record::new())).clone()
    }

    /// The record of a node that was met.
    pub(super) fn find(&self, node: NodeId) -> Option<Arc<Record>> {
        self.lock().get(&node).cloned()
    }

    /// Forgets all but those that are `wanted` or in use.
    pub(super) fn prune(&self, wanted: impl Fn(NodeId) -> bool) {
        let is_in_use = |record: &Arc<Record>| {
            Arc::strong_count(record) > 1 || Arc::strong_count(&record.counters) > 1
        };
        self.lock()
            .retain(|node, record| wanted(*node) || is_in_use(record));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Arc<Record>>> {
        // Its state is whole at every point that can panic.
        self.by_node.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}
