//! Holdings in memory.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use musicfs_core::extents::Extents;
use musicfs_core::manifest::Cutter;
use musicfs_core::origin::{BoxFuture, PIECE_BYTES_MAX};
use musicfs_core::peer::{HoldingChanges, WatchHoldings};

use super::*;

/// What a node holds, in memory.
pub(super) struct Memory {
    state: Mutex<State>,
    changed: watch::Sender<()>,
    /// Reads that find something yet; all others find nothing.
    reads_left: AtomicUsize,
    /// Reads wait while this is false.
    is_open: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    contents: BTreeMap<VersionKey, Content>,
    /// All changes since the start.
    log: Vec<(VersionKey, Option<Held>)>,
}

struct Content {
    bytes: Bytes,
    manifest: Arc<Manifest>,
    held: Held,
}

struct Watching {
    memory: Arc<Memory>,
    changed: watch::Receiver<()>,
    at: usize,
}

impl Memory {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            changed: watch::Sender::new(()),
            reads_left: AtomicUsize::new(usize::MAX),
            is_open: watch::Sender::new(true),
        })
    }

    /// The port, as the node takes it.
    pub(super) fn holdings(self: &Arc<Self>) -> Arc<dyn Holdings> {
        Arc::new(Shared(self.clone()))
    }

    /// Holds a content completely; gives its manifest.
    pub(super) fn put(&self, version: VersionKey, bytes: impl Into<Bytes>) -> Arc<Manifest> {
        self.hold(version, bytes.into(), Held::Complete)
    }

    pub(super) fn put_ranges(&self, version: VersionKey, bytes: impl Into<Bytes>, held: Extents) {
        self.hold(version, bytes.into(), Held::Ranges(held));
    }

    pub(super) fn remove(&self, version: VersionKey) {
        self.change(version, None);
    }

    /// Says that something is held which is not.
    pub(super) fn announce(&self, version: VersionKey, held: Held) {
        self.state.lock().unwrap().log.push((version, Some(held)));
        self.changed.send_replace(());
    }

    pub(super) fn set_reads_left(&self, count: usize) {
        self.reads_left.store(count, Ordering::SeqCst);
    }

    /// Makes reads wait, or lets them go on.
    pub(super) fn set_open(&self, is_open: bool) {
        self.is_open.send_replace(is_open);
    }

    /// What is held of each version.
    pub(super) fn table(&self) -> BTreeMap<VersionKey, Held> {
        let state = self.state.lock().unwrap();
        let held = state.contents.iter();
        held.map(|(version, content)| (*version, content.held.clone()))
            .collect()
    }

    fn hold(&self, version: VersionKey, bytes: Bytes, held: Held) -> Arc<Manifest> {
        let mut cutter = Cutter::new();
        cutter.push(&bytes);
        let manifest = Arc::new(cutter.finish());
        let content = Content {
            bytes,
            manifest: manifest.clone(),
            held,
        };
        self.change(version, Some(content));
        manifest
    }

    fn change(&self, version: VersionKey, content: Option<Content>) {
        let mut state = self.state.lock().unwrap();
        let held = content.as_ref().map(|content| content.held.clone());
        state.log.push((version, held));
        match content {
            Some(content) => state.contents.insert(version, content),
            None => state.contents.remove(&version),
        };
        drop(state);
        self.changed.send_replace(());
    }

    fn bytes_of(&self, version: VersionKey, range: Range<u64>) -> Option<Bytes> {
        let state = self.state.lock().unwrap();
        let content = state.contents.get(&version)?;
        let is_held = range.end <= content.bytes.len() as u64
            && match &content.held {
                Held::Complete => true,
                Held::Ranges(ranges) => ranges.covers(range.clone()),
            };
        let has_left = |left: usize| left.checked_sub(1);
        let counted = self
            .reads_left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, has_left);
        (is_held && counted.is_ok()).then(|| {
            content
                .bytes
                .slice(range.start as usize..range.end as usize)
        })
    }
}

struct Shared(Arc<Memory>);

impl Holdings for Shared {
    fn watch(&self) -> Box<dyn WatchHoldings> {
        Box::new(Watching {
            memory: self.0.clone(),
            changed: self.0.changed.subscribe(),
            at: 0,
        })
    }

    fn manifest(&self, version: VersionKey) -> BoxFuture<'_, Option<Arc<Manifest>>> {
        let state = self.0.state.lock().unwrap();
        let content = state.contents.get(&version);
        let complete = content.filter(|content| content.held == Held::Complete);
        let manifest = complete.map(|content| content.manifest.clone());
        Box::pin(async { manifest })
    }

    fn read(&self, version: VersionKey, range: Range<u64>) -> BoxFuture<'_, Option<Bytes>> {
        assert!(range.end - range.start <= PIECE_BYTES_MAX as u64);
        Box::pin(async move {
            let mut is_open = self.0.is_open.subscribe();
            is_open.wait_for(|is_open| *is_open).await.unwrap();
            self.0.bytes_of(version, range)
        })
    }
}

impl WatchHoldings for Watching {
    fn next(&mut self) -> BoxFuture<'_, Option<HoldingChanges>> {
        Box::pin(async {
            loop {
                let new = {
                    let state = self.memory.state.lock().unwrap();
                    state.log[self.at..].to_vec()
                };
                if !new.is_empty() {
                    self.at += new.len();
                    return Some(new);
                }
                self.changed.changed().await.ok()?;
            }
        })
    }
}

/// Bytes of splitmix64 from a seed.
pub(super) fn content(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend((word ^ (word >> 31)).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

pub(super) fn version(number: u8) -> VersionKey {
    VersionKey([number; 16])
}
