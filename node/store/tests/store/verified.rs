//! An object found sound once is not compared again before the next start, unless it changes.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use musicfs_core::extents::BLOCK_BYTES;
use musicfs_store::{Class, Config, Finished, Limits, Store, Written};

use crate::fault::{Fault, FaultDisk};
use crate::support::{AMPLE, KIB, MIB, content, filled, path, real, version};

const SIZE: usize = 500_000;

/// A finished, durable object that nobody has open.
fn stored(store: &Arc<Store>, number: u64) -> Vec<u8> {
    let bytes = content(number, SIZE);
    let object = filled(store, number, &bytes, Class::Body);
    assert_eq!(object.finish().unwrap(), Finished::Stored);
    drop(object);
    store.commit_all().unwrap();
    bytes
}

/// Whether the next open need not compare anything.
fn is_trusted(store: &Arc<Store>, number: u64) -> bool {
    let object = store.object(version(number), SIZE as u64).unwrap();
    let mut buffer = [0; 10];
    let is_read_at_once = object.read_now(SIZE as u64 / 2, &mut buffer).is_some();
    let is_passed_through = object.passthrough().is_some();
    assert_eq!(is_read_at_once, is_passed_through);
    is_passed_through
}

fn flip(path: &Path, at: u64) {
    let mut options = fs::File::options();
    let file = options.read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 4], at).unwrap();
}

#[test]
fn what_was_just_fetched_is_passed_through_at_its_next_open() {
    let dir = tempfile::tempdir().unwrap();
    let store = real(dir.path(), AMPLE);
    let bytes = stored(&store, 1);
    assert!(is_trusted(&store, 1));
    let object = store.object(version(1), SIZE as u64).unwrap();
    assert_eq!(object.read(0..SIZE as u64).unwrap().unwrap(), bytes);
}

#[test]
fn after_a_start_it_is_compared_once() {
    let dir = tempfile::tempdir().unwrap();
    {
        let store = real(dir.path(), AMPLE);
        stored(&store, 1);
        store.close().unwrap();
    }
    let store = real(dir.path(), AMPLE);
    assert!(!is_trusted(&store, 1));
    let object = store.object(version(1), SIZE as u64).unwrap();
    object.read(0..SIZE as u64 - 1).unwrap().unwrap();
    drop(object);
    assert!(is_trusted(&store, 1), "read to its last block");
    assert!(is_trusted(&store, 1));
}

#[test]
fn a_part_that_was_compared_is_not_the_whole() {
    let dir = tempfile::tempdir().unwrap();
    {
        let store = real(dir.path(), AMPLE);
        stored(&store, 1);
        store.close().unwrap();
    }
    let store = real(dir.path(), AMPLE);
    let object = store.object(version(1), SIZE as u64).unwrap();
    object.read(BLOCK_BYTES..SIZE as u64).unwrap().unwrap();
    drop(object);
    assert!(!is_trusted(&store, 1));
}

#[test]
fn what_is_not_durable_is_not_remembered() {
    let disk = FaultDisk::new(1, 64 * MIB);
    let config = Config {
        dir: "/cache".into(),
        limits: AMPLE,
    };
    let store = Store::open(config, Arc::clone(&disk) as _).unwrap();
    store.recover().unwrap();
    let bytes = content(1, SIZE);
    let object = filled(&store, 1, &bytes, Class::Body);
    disk.set_fault(Some(Fault::Sync));
    assert!(store.commit_all().is_err());
    drop(object);
    disk.set_fault(None);
    disk.pass(Duration::from_secs(3600));
    let object = store.object(version(1), SIZE as u64).unwrap();
    let mut buffer = [0; 10];
    assert_eq!(object.read_now(0, &mut buffer), None, "lost by the disk");
    assert_eq!(object.write(0, &bytes, Class::Body).unwrap(), Written::Kept);
    store.commit_all().unwrap();
    drop(object);
    let object = store.object(version(1), SIZE as u64).unwrap();
    assert_eq!(object.read_now(0, &mut buffer), Some(10));
    assert_eq!(buffer, bytes[..10]);
}

#[test]
fn what_was_cleared_and_came_again_otherwise_is_trusted_as_it_is_now() {
    let dir = tempfile::tempdir().unwrap();
    let store = real(dir.path(), AMPLE);
    stored(&store, 1);
    store.clear(&|_| true, None, false).unwrap();
    assert!(!is_trusted(&store, 1));
    let other = content(9, SIZE);
    filled(&store, 1, &other, Class::Body).finish().unwrap();
    assert!(is_trusted(&store, 1));
    let object = store.object(version(1), SIZE as u64).unwrap();
    assert_eq!(object.read(0..SIZE as u64).unwrap().unwrap(), other);
}

#[test]
fn what_lost_its_body_is_not_trusted_whole() {
    let dir = tempfile::tempdir().unwrap();
    let store = real(dir.path(), AMPLE);
    let bytes = content(1, SIZE);
    let object = filled(&store, 1, &bytes, Class::Body);
    object.set_class(0..BLOCK_BYTES, Class::Header).unwrap();
    object.finish().unwrap();
    drop(object);
    assert!(is_trusted(&store, 1));
    store.clear(&|_| true, Some(Class::Body), false).unwrap();
    assert!(!is_trusted(&store, 1));
    let object = filled(&store, 1, &bytes, Class::Body);
    store.commit_all().unwrap();
    assert!(
        object.passthrough().is_none(),
        "the header was not compared again"
    );
    object.read(0..1).unwrap().unwrap();
    drop(object);
    assert!(is_trusted(&store, 1));
}

#[test]
fn what_was_evicted_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits {
        bodies: 900 * KIB,
        ..AMPLE
    };
    let store = real(dir.path(), limits);
    stored(&store, 1);
    assert!(is_trusted(&store, 1));
    stored(&store, 2);
    assert!(store.stats().body.evictions > 0);
    assert!(!is_trusted(&store, 1));
    assert!(is_trusted(&store, 2));
}

#[test]
fn damage_takes_the_trust_away_until_it_is_healed() {
    let dir = tempfile::tempdir().unwrap();
    let store = real(dir.path(), AMPLE);
    let bytes = stored(&store, 1);
    assert!(is_trusted(&store, 1));
    flip(&path(dir.path(), 1), 3 * BLOCK_BYTES + 5);
    let verified = store.verify(&mut |_| true).unwrap();
    assert_eq!(verified.blocks_damaged, 1);
    assert!(!is_trusted(&store, 1));
    let (start, end) = (3 * BLOCK_BYTES as usize, 4 * BLOCK_BYTES as usize);
    let object = store.object(version(1), SIZE as u64).unwrap();
    let healed = object.write(start as u64, &bytes[start..end], Class::Body);
    assert_eq!(healed.unwrap(), Written::Kept);
    store.commit_all().unwrap();
    drop(object);
    assert!(!is_trusted(&store, 1), "the rest was not compared since");
    let object = store.object(version(1), SIZE as u64).unwrap();
    assert_eq!(object.read(0..SIZE as u64).unwrap().unwrap(), bytes);
    drop(object);
    assert!(is_trusted(&store, 1));
}

#[test]
fn another_map_or_another_file_under_the_name_is_not_what_was_found_sound() {
    let dir = tempfile::tempdir().unwrap();
    let other_dir = tempfile::tempdir().unwrap();
    let store = real(dir.path(), AMPLE);
    stored(&store, 1);
    assert!(is_trusted(&store, 1));
    {
        let other = real(other_dir.path(), AMPLE);
        stored(&other, 1);
        other.close().unwrap();
    }
    // The same content in another file with another id, and damaged.
    let copy = |extension: &str| {
        let to = path(dir.path(), 1).with_extension(extension);
        let from = path(other_dir.path(), 1).with_extension(extension);
        fs::remove_file(&to).unwrap();
        fs::rename(&from, &to).unwrap();
    };
    copy("");
    copy("map");
    flip(&path(dir.path(), 1), 77);
    assert!(!is_trusted(&store, 1));
    let object = store.object(version(1), SIZE as u64).unwrap();
    assert_eq!(object.read(0..1).unwrap(), None, "compared, and damaged");
}

#[test]
fn what_shares_an_object_shares_its_trust() {
    let dir = tempfile::tempdir().unwrap();
    let store = real(dir.path(), AMPLE);
    let bytes = stored(&store, 1);
    let second = filled(&store, 2, &bytes, Class::Body);
    assert_eq!(second.finish().unwrap(), Finished::Shared(version(1)));
    drop(second);
    assert!(is_trusted(&store, 2));
    flip(&path(dir.path(), 1), 0);
    store.verify(&mut |_| true).unwrap();
    assert!(!is_trusted(&store, 2) && !is_trusted(&store, 1));
}

#[test]
fn what_came_back_from_its_file_otherwise_is_not_finished() {
    let dir = tempfile::tempdir().unwrap();
    let store = real(dir.path(), AMPLE);
    let bytes = content(1, SIZE);
    let object = filled(&store, 1, &bytes, Class::Body);
    flip(&path(dir.path(), 1), 123_456);
    assert_eq!(object.finish().unwrap(), Finished::Incomplete);
    assert_eq!(
        object.absent(0..u64::MAX),
        [BLOCK_BYTES..2 * BLOCK_BYTES],
        "it is fetched again"
    );
    assert!(object.manifest().is_none() && object.passthrough().is_none());
}

#[test]
fn whoever_reads_on_finds_what_follows_compared() {
    let dir = tempfile::tempdir().unwrap();
    {
        let store = real(dir.path(), AMPLE);
        stored(&store, 1);
        store.close().unwrap();
    }
    let store = real(dir.path(), AMPLE);
    let object = store.object(version(1), SIZE as u64).unwrap();
    let mut buffer = [0; 10];
    let at = 2 * BLOCK_BYTES;
    object.read(at..at + 1).unwrap().unwrap();
    assert_eq!(
        object.read_now(3 * BLOCK_BYTES, &mut buffer),
        None,
        "a seek"
    );
    object.read(0..at).unwrap().unwrap();
    assert_eq!(object.read_now(3 * BLOCK_BYTES, &mut buffer), None);
    object
        .read(3 * BLOCK_BYTES..3 * BLOCK_BYTES + 1)
        .unwrap()
        .unwrap();
    let last = SIZE as u64 - 10;
    assert_eq!(
        object.read_now(last, &mut buffer),
        Some(10),
        "the third in sequence"
    );
    assert!(object.passthrough().is_some());
}

#[test]
fn damage_behind_a_read_does_not_fail_it() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = {
        let store = real(dir.path(), AMPLE);
        let bytes = stored(&store, 1);
        store.close().unwrap();
        bytes
    };
    flip(&path(dir.path(), 1), 5 * BLOCK_BYTES);
    let store = real(dir.path(), AMPLE);
    let object = store.object(version(1), SIZE as u64).unwrap();
    let (at, end) = (2 * BLOCK_BYTES, 3 * BLOCK_BYTES);
    object.read(0..at).unwrap().unwrap();
    let read = object.read(at..end).unwrap().unwrap();
    assert_eq!(read, bytes[at as usize..end as usize]);
    let damaged = 5 * BLOCK_BYTES..6 * BLOCK_BYTES;
    assert_eq!(object.absent(0..u64::MAX), [damaged]);
}
