//! Tables are brought once, kept within bounds, and never older than the last change.

use std::collections::BTreeMap;

use bytes::Bytes;
use musicfs_core::manifest::{CHUNK_BYTES_MIN, ContentHash};
use musicfs_core::origin::BoxFuture;
use musicfs_core::peer::WatchHoldings;
use tokio::sync::watch;

use super::*;

/// Manifests, how often each was asked for, and whether they are given.
#[derive(Default)]
struct Shelf {
    manifests: Mutex<BTreeMap<VersionKey, Arc<Manifest>>>,
    asked: Mutex<BTreeMap<VersionKey, usize>>,
    is_closed: watch::Sender<bool>,
}

struct Silent;

impl Holdings for Shelf {
    fn watch(&self) -> Box<dyn WatchHoldings> {
        Box::new(Silent)
    }

    fn manifest(&self, version: VersionKey) -> BoxFuture<'_, Option<Arc<Manifest>>> {
        *self.asked.lock().unwrap().entry(version).or_default() += 1;
        let manifest = self.manifests.lock().unwrap().get(&version).cloned();
        let mut is_closed = self.is_closed.subscribe();
        Box::pin(async move {
            is_closed.wait_for(|is_closed| !is_closed).await.unwrap();
            manifest
        })
    }

    fn read(&self, _: VersionKey, _: Range<u64>) -> BoxFuture<'_, Option<Bytes>> {
        Box::pin(async { None })
    }
}

impl WatchHoldings for Silent {
    fn next(&mut self) -> BoxFuture<'_, Option<musicfs_core::peer::HoldingChanges>> {
        Box::pin(async { None })
    }
}

impl Shelf {
    fn put(&self, version: VersionKey, manifest: Manifest) {
        let manifest = Arc::new(manifest);
        self.manifests.lock().unwrap().insert(version, manifest);
    }

    fn asked(&self, version: VersionKey) -> usize {
        self.asked
            .lock()
            .unwrap()
            .get(&version)
            .copied()
            .unwrap_or(0)
    }
}

fn version(number: u8) -> VersionKey {
    VersionKey([number; 16])
}

fn hash(number: u32) -> ChunkHash {
    let mut hash = [0; 32];
    hash[..4].copy_from_slice(&number.to_le_bytes());
    ChunkHash(hash)
}

/// Chunks of these names, each of the least length.
fn manifest(names: impl IntoIterator<Item = u32>) -> Manifest {
    let chunk = |name| (hash(name), CHUNK_BYTES_MIN);
    let chunks: Vec<_> = names.into_iter().map(chunk).collect();
    Manifest {
        len: chunks.len() as u64 * u64::from(CHUNK_BYTES_MIN),
        whole: ContentHash([0; 32]),
        chunks,
    }
}

#[tokio::test]
async fn a_chunk_lies_where_it_comes_first() {
    let shelf = Arc::new(Shelf::default());
    shelf.put(version(1), manifest([7, 3, 7, 9]));
    let spans = Spans::new(shelf);
    let table = spans.of(version(1)).await.unwrap();
    let len = u64::from(CHUNK_BYTES_MIN);
    assert_eq!(table.span(hash(7)), Some(0..len));
    assert_eq!(table.span(hash(3)), Some(len..2 * len));
    assert_eq!(table.span(hash(9)), Some(3 * len..4 * len));
    assert_eq!(table.span(hash(8)), None);
    assert!(spans.of(version(2)).await.is_none());
}

#[tokio::test]
async fn a_table_is_brought_once_until_its_version_changes() {
    let shelf = Arc::new(Shelf::default());
    shelf.put(version(1), manifest([1]));
    let spans = Spans::new(shelf.clone());
    tokio::join!(spans.of(version(1)), spans.of(version(1)));
    spans.of(version(1)).await.unwrap();
    assert_eq!(shelf.asked(version(1)), 1);
    spans.forget(version(1));
    spans.of(version(1)).await.unwrap();
    assert_eq!(shelf.asked(version(1)), 2);
    // What is not held is asked for again.
    for _ in 0..2 {
        assert!(spans.of(version(2)).await.is_none());
    }
    assert_eq!(shelf.asked(version(2)), 2);
    assert_eq!(spans.kept().len(), 1);
}

#[tokio::test]
async fn what_was_on_its_way_when_its_version_changed_is_not_kept() {
    let shelf = Arc::new(Shelf::default());
    shelf.put(version(1), manifest([1]));
    shelf.is_closed.send_replace(true);
    let spans = Arc::new(Spans::new(shelf.clone()));
    let asking = spans.clone();
    let asking = tokio::spawn(async move { asking.of(version(1)).await });
    while shelf.asked(version(1)) == 0 {
        tokio::task::yield_now().await;
    }
    shelf.put(version(1), manifest([2]));
    spans.forget(version(1));
    shelf.is_closed.send_replace(false);
    assert!(asking.await.unwrap().unwrap().span(hash(1)).is_some());
    let table = spans.of(version(1)).await.unwrap();
    assert!(table.span(hash(2)).is_some());
}

#[tokio::test]
async fn only_the_last_used_are_kept() {
    let shelf = Arc::new(Shelf::default());
    for number in 0..100 {
        shelf.put(version(number), manifest([1]));
    }
    let spans = Spans::new(shelf.clone());
    for number in 0..100 {
        spans.of(version(0)).await.unwrap();
        spans.of(version(number)).await.unwrap();
    }
    assert_eq!(spans.kept().len(), VERSIONS_MAX);
    assert_eq!((shelf.asked(version(0)), shelf.asked(version(99))), (1, 1));
    spans.of(version(1)).await.unwrap();
    assert_eq!(shelf.asked(version(1)), 2);
    // One that is larger than all that is kept is kept alone.
    shelf.put(version(100), manifest(0..CHUNKS_MAX as u32 + 1));
    spans.of(version(100)).await.unwrap();
    spans.of(version(100)).await.unwrap();
    assert_eq!((spans.kept().len(), shelf.asked(version(100))), (1, 1));
    spans.of(version(0)).await.unwrap();
    assert_eq!(spans.kept().len(), 1);
}
