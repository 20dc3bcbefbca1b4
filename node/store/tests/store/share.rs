//! Equal content lies on the disk once; chunks are found by their hash.

use musicfs_core::manifest::ChunkHash;
use musicfs_store::{Class, Finished, Limits};

use crate::support::{AMPLE, KIB, content, du, filled, path, real, version};

const SIZE: usize = 400_000;

#[test]
fn equal_versions_share_one_object() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = content(1, SIZE);
    let store = real(dir.path(), AMPLE);
    let first = filled(&store, 1, &bytes, Class::Body);
    assert_eq!(first.finish().unwrap(), Finished::Stored);
    let one = du(dir.path());
    let second = filled(&store, 2, &bytes, Class::Body);
    assert_eq!(second.finish().unwrap(), Finished::Shared(version(1)));
    assert!(du(dir.path()) < one + 32 * KIB);
    assert!(!path(dir.path(), 2).exists());
    assert_eq!(second.version(), version(2));
    assert_eq!(second.read(0..SIZE as u64).unwrap().unwrap(), bytes);
    assert_eq!(second.finish().unwrap(), Finished::Known);
    assert!(second.manifest().is_some() && second.passthrough().is_some());
    let stats = store.stats();
    assert_eq!(stats.chunks_stored, 2 * stats.chunks_unique);
    assert_eq!((stats.objects_shared, stats.body.objects), (1, 1));
    drop((first, second));
    store.close().unwrap();
    drop(store);

    for is_clean in [true, false] {
        let store = real(dir.path(), AMPLE);
        let again = store.object(version(2), SIZE as u64).unwrap();
        assert_eq!(again.read(0..SIZE as u64).unwrap().unwrap(), bytes);
        let holding = store.peek(version(2)).unwrap().unwrap();
        assert!(holding.is_complete);
        let stats = store.stats();
        assert_eq!(
            stats.chunks_stored,
            2 * stats.chunks_unique,
            "clean: {is_clean}"
        );
    }
}

#[test]
fn an_alias_ends_with_its_object_and_its_handle_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = content(1, SIZE);
    let store = real(dir.path(), AMPLE);
    filled(&store, 1, &bytes, Class::Body).finish().unwrap();
    let alias = filled(&store, 2, &bytes, Class::Body);
    alias.finish().unwrap();
    store
        .clear(&|asked| asked == version(1), None, false)
        .unwrap();
    assert_eq!(alias.absent(0..u64::MAX), [0..SIZE as u64]);
    assert_eq!(alias.read(0..1).unwrap(), None);
    filled(&store, 2, &bytes, Class::Body);
    assert_eq!(alias.read(0..SIZE as u64).unwrap().unwrap(), bytes);
    assert_eq!(store.peek(version(1)).unwrap(), None);
    assert!(path(dir.path(), 2).exists());
}

#[test]
fn regression_a_cleared_alias_is_gone_while_its_object_is_open() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = content(1, SIZE);
    let store = real(dir.path(), AMPLE);
    let first = filled(&store, 1, &bytes, Class::Body);
    first.finish().unwrap();
    filled(&store, 2, &bytes, Class::Body).finish().unwrap();
    store
        .clear(&|asked| asked == version(2), None, false)
        .unwrap();
    let second = store.object(version(2), SIZE as u64).unwrap();
    assert_eq!(second.absent(0..u64::MAX), [0..SIZE as u64]);
    assert!(first.is_complete());
}

#[test]
fn a_pin_or_an_access_of_an_alias_is_one_of_its_object() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = content(1, SIZE);
    let store = real(dir.path(), AMPLE);
    filled(&store, 1, &bytes, Class::Body).finish().unwrap();
    filled(&store, 2, &bytes, Class::Body).finish().unwrap();
    filled(&store, 3, &content(3, SIZE), Class::Body);
    store.retire(version(1));
    store.object(version(2), SIZE as u64).unwrap().touch();
    let room = Limits {
        bodies: 800 * KIB,
        ..AMPLE
    };
    store.set_limits(room);
    assert!(store.peek(version(2)).unwrap().is_some());
    assert!(
        store.peek(version(3)).unwrap().is_none(),
        "used before the alias was"
    );
    store.set_pinned(vec![version(2)]);
    store.set_limits(Limits { bodies: 0, ..AMPLE });
    assert!(store.peek(version(1)).unwrap().is_some());
    store.set_pinned(Vec::new());
    store.set_limits(Limits { bodies: 0, ..AMPLE });
    assert!(store.peek(version(1)).unwrap().is_none());
    assert!(store.peek(version(2)).unwrap().is_none());
}

#[test]
fn a_chunk_is_found_while_an_object_holds_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = real(dir.path(), AMPLE);
    let bytes = content(1, SIZE);
    // The same bytes with something else behind them: most chunks are equal.
    let longer = [bytes.clone(), content(2, 100_000)].concat();
    let first = filled(&store, 1, &bytes, Class::Body);
    first.finish().unwrap();
    filled(&store, 2, &longer, Class::Body).finish().unwrap();
    let stats = store.stats();
    assert!(stats.chunks_unique < stats.chunks_stored, "{stats:?}");
    let (hash, span) = first.manifest().unwrap().spans().next().unwrap();
    drop(first);
    store
        .clear(&|asked| asked == version(1), None, false)
        .unwrap();
    assert_eq!(
        store.find_chunk(&hash).unwrap(),
        Some((version(2), span.clone()))
    );
    let chunk = store.read_chunk(&hash).unwrap().unwrap();
    assert_eq!(ChunkHash::of(&chunk), hash);
    store.clear(&|_| true, Some(Class::Body), false).unwrap();
    assert_eq!(store.find_chunk(&hash).unwrap(), None);
    assert_eq!(
        (store.stats().chunks_stored, store.stats().chunks_unique),
        (0, 0)
    );
}

#[test]
fn a_lost_or_damaged_index_costs_only_time() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = content(1, SIZE);
    let index = dir.path().join("chunks.db");
    let hash = {
        let store = real(dir.path(), AMPLE);
        let object = filled(&store, 1, &bytes, Class::Body);
        object.finish().unwrap();
        store.close().unwrap();
        object.manifest().unwrap().chunks[0].0
    };
    let damages: [&dyn Fn(); 3] = [
        &|| std::fs::remove_file(&index).unwrap(),
        &|| std::fs::write(&index, content(7, 9_000)).unwrap(),
        &|| std::fs::write(&index, b"").unwrap(),
    ];
    for damage in damages {
        damage();
        let store = crate::support::opened(dir.path(), AMPLE);
        let recovered = store.recover().unwrap();
        assert!(recovered.was_clean && recovered.is_index_rebuilt);
        let object = store.object(version(1), SIZE as u64).unwrap();
        assert_eq!(object.read(0..SIZE as u64).unwrap().unwrap(), bytes);
        assert!(store.read_chunk(&hash).unwrap().is_some());
        store.close().unwrap();
    }
}
