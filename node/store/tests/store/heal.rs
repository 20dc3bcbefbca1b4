//! Damage on disk is found at the first read, and what takes its place is checked.

use std::os::unix::fs::FileExt;

use musicfs_core::extents::BLOCK_BYTES;
use musicfs_store::{Class, Finished, Why, Written};

use crate::support::{AMPLE, content, filled, opened, path, real, version};

const SIZE: usize = 500_000;

fn flip(path: &std::path::Path, at: u64) {
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 4], at).unwrap();
}

/// A finished object on a disk, closed.
fn stored(dir: &std::path::Path) -> Vec<u8> {
    let bytes = content(1, SIZE);
    let store = real(dir, AMPLE);
    assert_eq!(
        filled(&store, 1, &bytes, Class::Body).finish().unwrap(),
        Finished::Stored
    );
    store.close().unwrap();
    bytes
}

#[test]
fn a_flipped_bit_is_found_at_the_first_read_and_healed() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = stored(dir.path());
    flip(&path(dir.path(), 1), 2 * BLOCK_BYTES + 77);
    let store = real(dir.path(), AMPLE);
    let object = store.object(version(1), SIZE as u64).unwrap();
    assert!(object.is_complete() && object.passthrough().is_none());
    let mut buffer = [0; 10];
    assert_eq!(
        object.read_now(2 * BLOCK_BYTES, &mut buffer),
        None,
        "not compared yet"
    );
    assert_eq!(
        object.read(2 * BLOCK_BYTES..2 * BLOCK_BYTES + 1).unwrap(),
        None
    );
    assert_eq!(
        object.absent(0..u64::MAX),
        [2 * BLOCK_BYTES..3 * BLOCK_BYTES]
    );
    let (start, end) = (2 * BLOCK_BYTES as usize, 3 * BLOCK_BYTES as usize);

    let wrong = content(9, BLOCK_BYTES as usize);
    let refused = object.write(start as u64, &wrong, Class::Body).unwrap();
    assert_eq!(
        refused,
        Written::Refused(Why::Mismatch),
        "not what the manifest says"
    );
    assert_eq!(
        object.absent(0..u64::MAX),
        [2 * BLOCK_BYTES..3 * BLOCK_BYTES]
    );

    let healed = object
        .write(start as u64, &bytes[start..end], Class::Body)
        .unwrap();
    assert_eq!(healed, Written::Kept);
    assert_eq!(object.read(0..SIZE as u64).unwrap().unwrap(), bytes);
    let stats = store.stats();
    assert_eq!(
        (stats.blocks_damaged, stats.chunks_mismatched > 0),
        (1, true)
    );
    assert!(object.verify_all().unwrap() && object.passthrough().is_some());
}

#[test]
fn content_that_contradicts_its_manifest_twice_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    stored(dir.path());
    flip(&path(dir.path(), 1), 0);
    let store = real(dir.path(), AMPLE);
    let object = store.object(version(1), SIZE as u64).unwrap();
    assert_eq!(object.read(0..1).unwrap(), None);
    let other = content(9, SIZE);
    for _ in 0..2 {
        let part = &other[..BLOCK_BYTES as usize];
        let written = object.write(0, part, Class::Body).unwrap();
        assert_eq!(written, Written::Refused(Why::Mismatch));
    }
    assert_eq!(
        object.absent(0..u64::MAX),
        [0..SIZE as u64],
        "nothing of the old is mixed in"
    );
    assert_eq!(object.write(0, &other, Class::Body).unwrap(), Written::Kept);
    assert_eq!(object.read(0..SIZE as u64).unwrap().unwrap(), other);
}

#[test]
fn a_read_that_checks_every_time_finds_what_came_later() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = content(1, SIZE);
    let store = real(dir.path(), AMPLE);
    let object = filled(&store, 1, &bytes, Class::Body);
    assert!(object.read_and_check(0..100).unwrap().is_some());
    flip(&path(dir.path(), 1), 99_999);
    assert_eq!(object.read_and_check(70_000..70_001).unwrap(), None);
    assert!(!object.is_complete());
}

#[test]
fn a_file_cut_short_is_absent_from_there() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = stored(dir.path());
    let file = std::fs::File::options()
        .write(true)
        .open(path(dir.path(), 1))
        .unwrap();
    file.set_len(100_000).unwrap();
    let store = real(dir.path(), AMPLE);
    let object = store.object(version(1), SIZE as u64).unwrap();
    assert_eq!(object.read(0..SIZE as u64).unwrap(), None);
    assert_eq!(object.absent(0..u64::MAX), [BLOCK_BYTES..SIZE as u64]);
    assert_eq!(object.read(0..10).unwrap().unwrap(), bytes[..10]);
}

#[test]
fn a_scrub_finds_all_damage_and_remembers_it() {
    let dir = tempfile::tempdir().unwrap();
    stored(dir.path());
    flip(&path(dir.path(), 1), 10);
    flip(&path(dir.path(), 1), SIZE as u64 - 1);
    {
        let store = real(dir.path(), AMPLE);
        let mut all = Vec::new();
        let verified = store
            .verify(&mut |checked| {
                all.push(checked);
                true
            })
            .unwrap();
        assert_eq!((verified.objects, verified.blocks_damaged), (1, 2));
        assert_eq!(
            all[0].damaged,
            [0..BLOCK_BYTES, 7 * BLOCK_BYTES..SIZE as u64]
        );
        assert_eq!((all[0].version, all[0].bytes), (version(1), SIZE as u64));
    }
    let store = opened(dir.path(), AMPLE);
    let object = store.object(version(1), SIZE as u64).unwrap();
    assert_eq!(
        object.absent(0..u64::MAX),
        [0..BLOCK_BYTES, 7 * BLOCK_BYTES..SIZE as u64]
    );
}

#[test]
fn a_damaged_map_is_an_absent_object() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = stored(dir.path());
    flip(&path(dir.path(), 1).with_extension("map"), 60);
    let store = real(dir.path(), AMPLE);
    let object = store.object(version(1), SIZE as u64).unwrap();
    assert_eq!(object.absent(0..u64::MAX), [0..SIZE as u64]);
    assert!(!path(dir.path(), 1).exists());
    assert_eq!(object.write(0, &bytes, Class::Body).unwrap(), Written::Kept);
    assert_eq!(object.read(0..SIZE as u64).unwrap().unwrap(), bytes);
}

#[test]
fn a_map_of_another_file_is_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    stored(dir.path());
    let object_path = path(dir.path(), 1);
    std::fs::remove_file(&object_path).unwrap();
    std::fs::write(&object_path, content(2, SIZE)).unwrap();
    let store = real(dir.path(), AMPLE);
    let object = store.object(version(1), SIZE as u64).unwrap();
    assert_eq!(object.absent(0..u64::MAX), [0..SIZE as u64]);
    assert!(!object_path.exists());
}
