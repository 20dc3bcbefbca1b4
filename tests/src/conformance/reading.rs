//! Reads, streams, and files that change under them.

use std::ops::Range;
use std::sync::Arc;

use musicfs_core::error::ErrorKind;
use musicfs_core::origin::{Origin, OriginError, OriginFile, OriginKind, PIECE_BYTES_MAX, collect};

use super::place::Place;
use super::{content, is_gone, listed, path, version_of};
use crate::Random;

/// Around what blocks, packets and pieces end at.
const SIZES: [usize; 9] = [
    0,
    1,
    4_095,
    32_768,
    65_535,
    65_536,
    65_537,
    PIECE_BYTES_MAX,
    3 * PIECE_BYTES_MAX + 7,
];
const RANDOM_READS_COUNT: usize = 12;
const RANDOM_READ_BYTES_MAX: usize = 200_000;
const STREAMS_COUNT: u64 = 32;

/// Puts `bytes` at `name` and opens them.
async fn put_and_open(
    origin: &dyn Origin,
    place: &dyn Place,
    name: &str,
    bytes: &[u8],
) -> Box<dyn OriginFile> {
    place.put(name.as_bytes(), bytes);
    let name = path(name.as_bytes());
    let version = listed(origin, &name).await;
    assert_eq!(version.size, bytes.len() as u64);
    let file = origin.open(&name, &version).await.unwrap();
    assert_eq!(*file.version(), version);
    file
}

/// Reads a range as a stream, piece by piece.
async fn streamed(file: &dyn OriginFile, range: Range<u64>) -> Result<Vec<u8>, OriginError> {
    let mut stream = file.stream(range);
    let mut bytes = Vec::new();
    while let Some(piece) = stream.next().await? {
        assert!(!piece.is_empty(), "an empty piece");
        assert!(piece.len() <= PIECE_BYTES_MAX, "a piece of {}", piece.len());
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

pub(super) async fn what_is_not_there_is_not_found(origin: &dyn Origin, place: &dyn Place) {
    place.put(b"there/file.flac", b"bytes");
    let version = listed(origin, &path(b"there/file.flac")).await;
    let missing: [&[u8]; 4] = [
        b"missing.flac",
        b"missing/missing.flac",
        b"there",
        b"there/file.flac/below",
    ];
    for missing in missing {
        let missing = path(missing);
        // Where opening costs nothing, reading tells.
        let failure = match origin.open(&missing, &version).await {
            Ok(file) => file.read_at(0, 1).await.map(drop),
            Err(error) => Err(error),
        };
        let kind = failure.expect_err("nothing is there").kind();
        // A directory is there: a server that keeps such may compare its version first.
        let is_told = kind == ErrorKind::NotFound || missing == path(b"there") && is_gone(kind);
        assert!(is_told, "{missing:?}: {kind:?}");
    }
}

pub(super) async fn every_byte_is_right(origin: &dyn Origin, place: &dyn Place) {
    let mut random = Random(7);
    for (seed, size) in (100..).zip(SIZES) {
        let bytes = content(seed, size);
        let file = put_and_open(origin, place, &format!("read/{size}"), &bytes).await;
        let file = &*file;
        let is_local = origin.kind() == OriginKind::Local;
        assert_eq!(
            file.as_fd().is_some(),
            is_local,
            "only a local disk cannot hang"
        );
        if size > 0 {
            assert_eq!(streamed(file, 0..size as u64).await.unwrap(), bytes);
        }
        let edges = [
            0,
            1,
            size / 2,
            size.saturating_sub(1),
            size,
            size + 1,
            2 * size + 9,
        ];
        let mut reads = vec![(0, size), (0, size + 1), (1, size)];
        for offset in edges {
            reads.extend([0, 1, 4_096].map(|len| (offset, len)));
        }
        for _ in 0..RANDOM_READS_COUNT {
            let len = random.below(RANDOM_READ_BYTES_MAX.min(size + 2));
            reads.push((random.below(size + 2), len));
        }
        for (offset, len) in reads {
            let start = offset.min(size);
            let end = (offset + len).min(size);
            let expected = &bytes[start..end.max(start)];
            let read = file.read_at(offset as u64, len).await.unwrap();
            assert!(read == expected, "{len} at {offset} of {size}");
            if !expected.is_empty() {
                let range = start as u64..end as u64;
                let read = streamed(file, range.clone()).await.unwrap();
                assert!(read == expected, "{range:?} of {size}");
            }
        }
        // Farther than any file goes.
        assert!(file.read_at(u64::MAX - 1, 100).await.unwrap().is_empty());
        assert!(file.read_at(0, usize::MAX).await.unwrap() == bytes);
    }
}

pub(super) async fn a_dropped_stream_harms_nothing(origin: &dyn Origin, place: &dyn Place) {
    let bytes = content(1, 4 * PIECE_BYTES_MAX);
    let file = put_and_open(origin, place, "dropped.flac", &bytes).await;
    let len = bytes.len() as u64;
    for round in 0..8 {
        let start = round * 1_000;
        let mut stream = file.stream(start..len);
        if round % 4 > 0 {
            let piece = stream.next().await.unwrap().unwrap();
            let at = usize::try_from(start).unwrap();
            assert!(piece == bytes[at..at + piece.len()]);
        }
        if round % 4 == 2 {
            // In the middle of waiting for a piece.
            let mut next = std::pin::pin!(stream.next());
            let waker = std::task::Waker::noop();
            let _ = next
                .as_mut()
                .poll(&mut std::task::Context::from_waker(waker));
        }
        drop(stream);
        let read = file.read_at(start, 70_000).await.unwrap();
        let at = usize::try_from(start).unwrap();
        assert!(read == bytes[at..at + 70_000], "after a drop at {start}");
    }
    assert!(streamed(&*file, 0..len).await.unwrap() == bytes);
    // Two streams of one file, in turns.
    let (mut one, mut other) = (file.stream(0..len), file.stream(1..len));
    let first = one.next().await.unwrap().unwrap();
    let second = other.next().await.unwrap().unwrap();
    assert!(first == bytes[..first.len()] && second == bytes[1..=second.len()]);
    drop(one);
    let rest = collect(other).await.unwrap();
    assert!(rest == bytes[1 + second.len()..]);
}

pub(super) async fn many_streams_run_at_once(origin: &Arc<dyn Origin>, place: &dyn Place) {
    let whole = Arc::new(content(2, 2 * PIECE_BYTES_MAX));
    let file = put_and_open(&**origin, place, "shared.flac", &whole).await;
    let file: Arc<dyn OriginFile> = file.into();
    let mut running = tokio::task::JoinSet::new();
    for number in 0..STREAMS_COUNT {
        // Half of them on one handle, half each on one of its own.
        let (bytes, file) = if number % 2 == 0 {
            (Arc::clone(&whole), Arc::clone(&file))
        } else {
            let bytes = content(1_000 + number, 300_000);
            let name = format!("parallel/{number}.flac");
            let file = put_and_open(&**origin, place, &name, &bytes).await;
            (Arc::new(bytes), Arc::from(file))
        };
        running.spawn(async move {
            let start = number * 1_000;
            let read = streamed(&*file, start..bytes.len() as u64).await.unwrap();
            assert!(
                read == bytes[usize::try_from(start).unwrap()..],
                "stream {number}"
            );
        });
    }
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
}

pub(super) async fn a_changed_file_never_gives_new_bytes(origin: &dyn Origin, place: &dyn Place) {
    let old = content(3, 200_000);
    let changes = [
        ("same-size", Some(content(4, 200_000))),
        ("shorter", Some(content(5, 100))),
        ("longer", Some(content(6, 300_000))),
        ("empty", Some(Vec::new())),
        ("removed", None),
    ];
    for (name, new) in changes {
        let name = format!("changed-{name}.flac");
        let file = put_and_open(origin, place, &name, &old).await;
        assert!(file.read_at(0, 1_000).await.unwrap() == old[..1_000]);
        let is_removed = new.is_none();
        match &new {
            Some(new) => place.put(name.as_bytes(), new),
            None => place.remove(name.as_bytes()),
        }
        for (offset, len) in [(0, 1_000), (50, 10), (100_000, 70_000), (199_999, 1)] {
            match file.read_at(offset, len).await {
                // The one that was opened lives on until it is closed.
                Ok(read) if is_removed => {
                    let at = usize::try_from(offset).unwrap();
                    assert!(read == old[at..(at + len).min(old.len())], "{name}");
                }
                Ok(_) => panic!("{name}: {len} at {offset} of a version that is no more"),
                Err(error) if is_removed => assert!(is_gone(error.kind()), "{name}: {error:?}"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Stale, "{name}: {error:?}"),
            }
        }
        if let Some(new) = new {
            if file.as_fd().is_some() {
                assert!(!file.is_unchanged(), "{name}");
            }
            let name = path(name.as_bytes());
            let version = listed(origin, &name).await;
            assert_ne!(version, *file.version());
            let file = origin.open(&name, &version).await.unwrap();
            assert_eq!(*file.version(), version);
            assert!(file.read_at(0, 300_000).await.unwrap() == new, "{name:?}");
        }
    }
}

pub(super) async fn a_stream_under_way_never_gives_new_bytes(
    origin: &dyn Origin,
    place: &dyn Place,
) {
    let old = content(8, 8 * PIECE_BYTES_MAX);
    let new = content(9, old.len());
    let file = put_and_open(origin, place, "under-way.flac", &old).await;
    let mut stream = file.stream(0..old.len() as u64);
    let mut read = stream.next().await.unwrap().unwrap().to_vec();
    place.put(b"under-way.flac", &new);
    // What was on its way may still come; then the stream fails, or the old version is complete.
    let is_whole = loop {
        match stream.next().await {
            Ok(Some(piece)) => read.extend_from_slice(&piece),
            Ok(None) => break true,
            Err(_) => break false,
        }
    };
    assert!(read == old[..read.len()], "a byte of another version");
    assert_eq!(is_whole, read.len() == old.len());
    drop(stream);
    let failure = file.read_at(0, 10).await.expect_err("it changed");
    assert_eq!(failure.kind(), ErrorKind::Stale);
}

pub(super) async fn an_outdated_expectation_is_noticed(origin: &dyn Origin, place: &dyn Place) {
    let (old, new) = (content(10, 1_000), content(11, 1_000));
    let name = path(b"outdated.flac");
    place.put(name.as_bytes(), &old);
    let expected = listed(origin, &name).await;
    place.put(name.as_bytes(), &new);
    for expected in [expected, version_of(1_000)] {
        let file = origin.open(&name, &expected).await.unwrap();
        let is_believed = *file.version() == expected;
        match file.read_at(0, 1_000).await {
            Ok(read) => assert!(!is_believed && read == new),
            Err(error) => {
                assert!(is_believed, "{error:?}");
                assert_eq!(error.kind(), ErrorKind::Stale);
            }
        }
    }
}
