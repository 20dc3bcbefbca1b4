//! The fetcher over a real store and an origin whose behaviour is scripted.

mod failover;
mod peers;

use std::collections::VecDeque;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::atomic::AtomicUsize;

use bytes::Bytes;
use musicfs_core::error::ErrorKind;
use musicfs_core::extents::BLOCK_BYTES;
use musicfs_core::id::Ino;
use musicfs_core::origin::{
    BoxFuture, ByteStream, Depth, DirStream, Origin, OriginError, OriginFile, OriginKind, Refusal,
    Watch,
};
use musicfs_core::path::OriginPath;
use musicfs_core::version::{ContentVersion, OriginKey, Validator};
use musicfs_index::{FileKind, Node, NodeKind};
use musicfs_store::{Config, Limits, RealDisk};

use super::*;
use crate::upstream::{OriginSetup, Upstream};

/// What the origin sends at a time. Odd: blocks have to be put together.
const PIECE_LEN: u64 = 50_001;

/// What happens to one request for a range.
#[derive(Clone, Copy, Debug)]
enum Script {
    /// It fails at once.
    Fail,
    /// It fails after so many bytes.
    FailAfter(u64),
    /// The content is another one by now.
    Changed,
}

/// An origin with one file, which counts what is asked of it.
struct Scripted {
    id: OriginId,
    content: Arc<Vec<u8>>,
    asked: Mutex<Vec<Range<u64>>>,
    script: Mutex<VecDeque<Script>>,
    /// Streams wait for a permit before each piece.
    pace: tokio::sync::Semaphore,
    under_way: AtomicUsize,
}

struct File {
    origin: Arc<Scripted>,
    version: ContentVersion,
}

struct Stream {
    origin: Arc<Scripted>,
    range: Range<u64>,
    script: Option<Script>,
    sent: u64,
}

fn failure() -> OriginError {
    OriginError::Refused {
        action: "read",
        path: OriginPath::default(),
        refusal: Refusal::Server(500),
    }
}

impl ByteStream for Stream {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, OriginError>> {
        Box::pin(async move {
            let permit = self.origin.pace.acquire().await;
            permit.expect("the semaphore is never closed").forget();
            match self.script {
                Some(Script::Fail) => return Err(failure()),
                Some(Script::FailAfter(bytes)) if self.sent >= bytes => return Err(failure()),
                Some(Script::Changed) => {
                    let path = OriginPath::default();
                    return Err(OriginError::Changed { path });
                }
                _ => {}
            }
            if self.range.is_empty() {
                return Ok(None);
            }
            let end = self.range.end.min(self.range.start + PIECE_LEN);
            let piece = self.range.start..end;
            self.range.start = end;
            self.sent += piece.end - piece.start;
            let bytes = &self.origin.content[piece.start as usize..piece.end as usize];
            Ok(Some(Bytes::copy_from_slice(bytes)))
        })
    }
}

impl OriginFile for File {
    fn version(&self) -> &ContentVersion {
        &self.version
    }

    fn stream(&self, range: Range<u64>) -> Box<dyn ByteStream + '_> {
        self.origin.asked.lock().unwrap().push(range.clone());
        self.origin.under_way.fetch_add(1, Ordering::Relaxed);
        Box::new(Stream {
            origin: self.origin.clone(),
            range,
            script: self.origin.script.lock().unwrap().pop_front(),
            sent: 0,
        })
    }

    fn is_unchanged(&self) -> bool {
        true
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// The origin as the fetcher holds it.
struct Port(Arc<Scripted>);

impl Origin for Port {
    fn id(&self) -> &OriginId {
        &self.0.id
    }

    fn kind(&self) -> OriginKind {
        OriginKind::S3
    }

    fn key(&self) -> Option<OriginKey> {
        Some(OriginKey(b"scripted".as_slice().into()))
    }

    fn display_name(&self) -> String {
        "scripted".to_owned()
    }

    fn check(&self) -> BoxFuture<'_, Result<(), OriginError>> {
        Box::pin(async { Ok(()) })
    }

    fn list(&self, _: &OriginPath, _: Depth) -> Box<dyn DirStream> {
        unreachable!("the fetcher never lists")
    }

    fn open<'a>(
        &'a self,
        _: &'a OriginPath,
        expected: &'a ContentVersion,
    ) -> BoxFuture<'a, Result<Box<dyn OriginFile>, OriginError>> {
        Box::pin(async move {
            Ok(Box::new(File {
                origin: self.0.clone(),
                version: expected.clone(),
            }) as Box<dyn OriginFile>)
        })
    }

    fn watch(&self) -> Result<Option<Box<dyn Watch>>, OriginError> {
        Ok(None)
    }
}

struct World {
    origin: Arc<Scripted>,
    fetcher: Arc<Fetcher>,
    _dir: tempfile::TempDir,
}

fn content(size: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    (0..size).map(|_| next()).collect()
}

fn store(dir: &Path) -> Arc<Store> {
    let limits = Limits {
        bodies: 256 << 20,
        headers: 64 << 20,
        free_min: 0,
    };
    let dir = dir.to_owned();
    Store::open(Config { dir, limits }, Arc::new(RealDisk::default())).unwrap()
}

fn scripted(id: &str, content: &Arc<Vec<u8>>) -> Arc<Scripted> {
    Arc::new(Scripted {
        id: OriginId::new(id).unwrap(),
        content: content.clone(),
        asked: Mutex::default(),
        script: Mutex::default(),
        pace: tokio::sync::Semaphore::new(tokio::sync::Semaphore::MAX_PERMITS),
        under_way: AtomicUsize::new(0),
    })
}

fn fetcher(store: Arc<Store>, options: FetchOptions, origins: &[Arc<Scripted>]) -> Arc<Fetcher> {
    let stop = CancellationToken::new();
    let roster = Arc::<Roster>::default();
    for (priority, origin) in (20..).zip(origins) {
        let setup = OriginSetup {
            origin: Arc::new(Port(origin.clone())),
            priority,
            rescan_every: Duration::MAX,
        };
        roster.insert(Upstream::new(setup, 1, &stop).0);
    }
    let proofs = Arc::default();
    let (peers, choices) = (Arc::default(), Arc::default());
    let fetcher = Fetcher::new(store, options, roster, proofs, peers, choices, stop);
    Arc::new(fetcher)
}

fn found(origin: &Scripted, key: u8) -> Found {
    let size = origin.content.len() as u64;
    let node = Node {
        ino: Ino(300),
        kind: NodeKind::File,
        size,
        mtime_ns: 0,
        mode: 0o444,
    };
    Found {
        node,
        origin: origin.id.clone(),
        path: OriginPath::new(b"a.flac").unwrap(),
        version: ContentVersion {
            size,
            validator: Validator::ETag("1".into()),
        },
        kind: FileKind::Track,
        version_key: VersionKey([key; 16]),
        layout: None,
        sample: None,
        md5: None,
        etag_is_md5: false,
        priority: 20,
    }
}

fn world_with(size: usize, options: FetchOptions, is_recovered: bool) -> World {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    if is_recovered {
        store.recover().unwrap();
    }
    let origin = scripted("scripted", &Arc::new(content(size)));
    let fetcher = fetcher(store, options, std::slice::from_ref(&origin));
    World {
        origin,
        fetcher,
        _dir: dir,
    }
}

fn world(size: usize) -> World {
    world_with(size, FetchOptions::default(), true)
}

impl World {
    async fn file(&self) -> Arc<RemoteFile> {
        let found = found(&self.origin, 7);
        self.fetcher.file(found, Vec::new()).await.unwrap()
    }

    fn expected(&self, offset: usize, len: usize) -> &[u8] {
        let end = self.origin.content.len().min(offset + len);
        &self.origin.content[offset.min(end)..end]
    }

    /// Bytes asked for in all.
    fn asked(&self) -> u64 {
        let asked = self.origin.asked.lock().unwrap();
        asked.iter().map(|range| range.end - range.start).sum()
    }

    fn script(&self, steps: &[Script]) {
        self.origin.script.lock().unwrap().extend(steps);
    }
}

const MIB: usize = 1 << 20;

/// Whole blocks, and not so many that anything is read ahead.
const DEMANDED: usize = 6 * BLOCK_BYTES as usize;

#[tokio::test(flavor = "multi_thread")]
async fn many_readers_at_once_fetch_every_byte_once() {
    let world = world(5 * MIB + 12_345);
    let file = world.file().await;
    let mut readers = Vec::new();
    for reader in 0..8_usize {
        let (file, expected) = (file.clone(), world.origin.content.clone());
        readers.push(tokio::spawn(async move {
            let handle = file.open();
            let steps = expected.len().div_ceil(100_000);
            for step in 0..steps {
                let offset = (step * (2 * reader + 1) + reader * 7) % steps * 100_000;
                let got = handle.read(offset as u64, 100_000).await.unwrap();
                let end = expected.len().min(offset + 100_000);
                assert!(got == expected[offset..end], "reader {reader} at {offset}");
            }
        }));
    }
    for reader in readers {
        reader.await.unwrap();
    }
    assert_eq!(world.asked(), world.origin.content.len() as u64);
    assert!(file.object().is_complete());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_fetches_its_blocks_and_nothing_else() {
    let world = world(3 * MIB);
    let handle = world.file().await.open();
    let got = handle.read(70_000, 100).await.unwrap();
    assert_eq!(got, world.expected(70_000, 100));
    assert_eq!(world.asked(), BLOCK_BYTES);
    assert!(handle.read(3 << 20, 10).await.unwrap().is_empty());
    let got = handle.read((3 << 20) - 5, 10).await.unwrap();
    assert_eq!(got, world.expected(3 * MIB - 5, 10));
    assert_eq!(world.asked(), 2 * BLOCK_BYTES);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_in_the_middle_resumes_where_it_was() {
    let world = world(2 * MIB);
    let kept = 4 * PIECE_LEN;
    world.script(&[Script::FailAfter(kept), Script::Fail]);
    let handle = world.file().await.open();
    let got = handle.read(0, DEMANDED).await.unwrap();
    assert_eq!(got, world.expected(0, DEMANDED));
    let asked = world.origin.asked.lock().unwrap().clone();
    let end = DEMANDED as u64;
    assert_eq!(asked, [0..end, kept..end, kept..end]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_always_breaks_within_a_block_brings_everything_nevertheless() {
    let world = world(2 * MIB);
    world.script(&[Script::FailAfter(PIECE_LEN); 7]);
    let handle = world.file().await.open();
    let got = handle.read(0, DEMANDED).await.unwrap();
    assert_eq!(got, world.expected(0, DEMANDED));
    let asked = world.origin.asked.lock().unwrap().clone();
    let starts: Vec<_> = asked.iter().map(|range| range.start).collect();
    let expected: Vec<_> = (0..8).map(|piece| piece * PIECE_LEN).collect();
    assert_eq!(starts, expected, "no byte twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_file_is_an_error_at_once_and_nothing_of_it_is_kept() {
    let world = world(2 * MIB);
    world.script(&[Script::Changed]);
    let file = world.file().await;
    let error = file.open().read(0, 100).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Stale, "{error}");
    let absent: Extents = file.object().absent(0..2 << 20).into_iter().collect();
    assert_eq!(absent, Extents::from(0..2 << 20));
    assert_eq!(world.origin.asked.lock().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_ends_in_time_and_what_it_asked_for_is_not_lost() {
    let options = FetchOptions {
        read_deadline: Duration::from_millis(300),
        ..FetchOptions::default()
    };
    let world = world_with(MIB, options, true);
    world.origin.pace.forget_permits(usize::MAX);
    let file = world.file().await;
    let handle = file.open();
    let error = handle.read(0, 100).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    world.origin.pace.add_permits(1_000_000);
    let got = handle.read(0, 100).await.unwrap();
    assert_eq!(got, world.expected(0, 100));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_cache_that_takes_anything_reads_are_right_all_the_same() {
    // The store does not know yet what it holds, so it keeps nothing.
    let world = world_with(2 * MIB, FetchOptions::default(), false);
    let handle = world.file().await.open();
    for offset in [0, 300_000, 5, 2 * MIB - 10] {
        let got = handle.read(offset as u64, 200_000).await.unwrap();
        assert_eq!(got, world.expected(offset, 200_000), "at {offset}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefetch_brings_everything_and_tells_of_failure() {
    let world = world(20 * MIB);
    let file = world.file().await;
    let all = Extents::from(0..20 << 20);
    world.script(&[Script::Changed]);
    let error = file.prefetch(&all).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Stale, "{error}");
    // A failure is followed by a pause; a prefetch asked for anew goes on after it.
    file.prefetch(&all).await.unwrap();
    assert!(file.object().is_complete());
    file.prefetch(&all).await.unwrap();
    let handle = file.open();
    let before = world.asked();
    let got = handle.read(7_000_000, 500_000).await.unwrap();
    assert_eq!(got, world.expected(7_000_000, 500_000));
    assert_eq!(world.asked(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_fetched_is_there_when_the_file_is_opened_again() {
    let world = world(3 * MIB);
    let file = world.file().await;
    file.open().read(0, MIB).await.unwrap();
    let asked = world.asked();
    drop(file);
    world.fetcher.store.close().unwrap();
    let again = world.file().await;
    let got = again.open().read(0, MIB).await.unwrap();
    assert_eq!(got, world.expected(0, MIB));
    assert_eq!(world.asked(), asked);
}

#[tokio::test(flavor = "multi_thread")]
async fn threads_that_are_not_the_runtimes_may_read_ahead_and_close() {
    let world = world(12 * MIB);
    let file = world.file().await;
    let whole = Extents::from(0..6 << 20);
    file.prefetch(&whole).await.unwrap();
    let handle = file.open();
    let content = world.origin.content.clone();
    let thread = std::thread::spawn(move || {
        // What is there is read at once; reading on in sequence asks for what is not.
        let mut buffer = vec![0; 128 << 10];
        for at in (0..6 * MIB).step_by(buffer.len()) {
            if let Some(len) = handle.read_now(at as u64, &mut buffer) {
                assert!(buffer[..len] == content[at..at + len]);
            }
        }
        drop(handle);
    });
    thread.join().unwrap();
}
