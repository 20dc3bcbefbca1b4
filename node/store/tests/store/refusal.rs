//! A disk that is full or failing: writes are refused, reads go on, and it heals by itself.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use musicfs_store::{Class, Config, DiskHealth, Finished, Store, Why, Written};

use crate::fault::{Fault, FaultDisk};
use crate::support::{AMPLE, MIB, content, version};

fn store() -> (Arc<FaultDisk>, Arc<Store>) {
    let disk = FaultDisk::new(1, 64 * MIB);
    let config = Config {
        dir: PathBuf::from("/cache"),
        limits: AMPLE,
    };
    let store = Store::open(config, disk.clone()).unwrap();
    store.recover().unwrap();
    (disk, store)
}

fn write(store: &Arc<Store>, number: u64) -> Written {
    let object = store.object(version(number), 100_000).unwrap();
    object
        .write(0, &content(number, 100_000), Class::Body)
        .unwrap()
}

const REFUSED: Written = Written::Refused(Why::DiskFailing);

#[test]
fn a_failing_disk_is_left_alone_until_its_next_trial() {
    let (disk, store) = store();
    assert_eq!(write(&store, 1), Written::Kept);
    store.commit_all().unwrap();
    disk.set_fault(Some(Fault::Failing));
    assert_eq!(write(&store, 2), REFUSED);
    assert_eq!(store.disk_health(), DiskHealth::Failing);
    let object = store.object(version(1), 100_000).unwrap();
    assert!(object.read(0..100_000).unwrap().is_some(), "reads go on");
    disk.set_fault(None);
    assert_eq!(write(&store, 2), REFUSED, "not yet");
    disk.pass(Duration::from_secs(5));
    assert_eq!(write(&store, 2), Written::Kept);
    assert_eq!(store.disk_health(), DiskHealth::Healthy);
}

#[test]
fn a_full_disk_is_used_again_once_it_has_room() {
    let (disk, store) = store();
    disk.set_fault(Some(Fault::Full));
    assert_eq!(write(&store, 1), REFUSED);
    assert_eq!(store.disk_health(), DiskHealth::Full);
    disk.pass(Duration::from_secs(5));
    assert_eq!(write(&store, 1), REFUSED, "the trial fails");
    disk.set_fault(None);
    assert_eq!(write(&store, 1), REFUSED);
    disk.pass(Duration::from_secs(5));
    assert_eq!(write(&store, 1), Written::Kept);
    assert_eq!(store.stats().health, DiskHealth::Healthy);
}

#[test]
fn what_a_failed_sync_may_have_lost_counts_as_never_written() {
    let (disk, store) = store();
    let bytes = content(1, 200_000);
    let object = store.object(version(1), 200_000).unwrap();
    object.write(0, &bytes[..65_536], Class::Body).unwrap();
    store.commit_all().unwrap();
    object.write(65_536, &bytes[65_536..], Class::Body).unwrap();
    disk.set_fault(Some(Fault::Sync));
    assert!(store.commit_all().is_err());
    assert_eq!(object.absent(0..u64::MAX), [65_536..200_000]);
    disk.set_fault(None);
    disk.pass(Duration::from_secs(5));
    object.write(65_536, &bytes[65_536..], Class::Body).unwrap();
    store.commit_all().unwrap();
    assert_eq!(object.read(0..200_000).unwrap().unwrap(), bytes);
    drop((object, store));
    let config = Config {
        dir: PathBuf::from("/cache"),
        limits: AMPLE,
    };
    let store = Store::open(config, disk.crash()).unwrap();
    store.recover().unwrap();
    let object = store.object(version(1), 200_000).unwrap();
    assert_eq!(object.read(0..200_000).unwrap().unwrap(), bytes);
}

#[test]
fn what_is_due_is_committed_after_half_a_second_or_eight_mebibytes() {
    let (disk, store) = store();
    assert_eq!(write(&store, 1), Written::Kept);
    let has_map = |number| {
        let name = format!("{}.map", version(number));
        disk.names().contains(&name)
    };
    disk.pass(Duration::from_millis(499));
    store.commit_due().unwrap();
    assert!(!has_map(1));
    disk.pass(Duration::from_millis(1));
    store.commit_due().unwrap();
    assert!(has_map(1));
    let bytes = content(2, 9 << 20);
    let object = store.object(version(2), 9 << 20).unwrap();
    object.write(0, &bytes[..4 << 20], Class::Body).unwrap();
    assert!(!has_map(2));
    object
        .write(4 << 20, &bytes[4 << 20..], Class::Body)
        .unwrap();
    assert!(has_map(2));
}

#[test]
fn a_disk_with_less_room_than_its_limit_evicts_for_it() {
    let disk = FaultDisk::new(1, 2 * MIB);
    let config = Config {
        dir: PathBuf::from("/cache"),
        limits: AMPLE,
    };
    let store = Store::open(config, disk.clone()).unwrap();
    store.recover().unwrap();
    for number in 0..40 {
        assert_eq!(write(&store, number), Written::Kept);
        let object = store.object(version(number), 100_000).unwrap();
        assert_eq!(object.finish().unwrap(), Finished::Stored);
        assert!(disk.used() <= 2 * MIB);
    }
    assert!(store.stats().body.evictions > 10);
    disk.set_capacity(disk.used());
    let stats = store.stats();
    assert_eq!(stats.health, DiskHealth::Healthy, "{stats:?}");
}

#[test]
fn only_whole_blocks_of_files_that_are_not_too_long_are_taken() {
    let (_disk, store) = store();
    let object = store.object(version(1), 100_000).unwrap();
    for (offset, len) in [
        (1, 65_536),
        (0, 65_535),
        (65_536, 34_463),
        (65_536, 65_536),
        (131_072, 1),
    ] {
        assert!(
            object.write(offset, &vec![0; len], Class::Body).is_err(),
            "{offset} {len}"
        );
    }
    assert!(object.write(u64::MAX - 5, &[0; 10], Class::Body).is_err());
    assert!(store.object(version(2), u64::MAX).is_err());
    let empty = store.object(version(3), 0).unwrap();
    assert!(empty.is_complete() && empty.absent(0..9).is_empty());
    assert_eq!(empty.read(0..9).unwrap().unwrap(), b""[..]);
    assert_eq!(empty.finish().unwrap(), Finished::Stored);
    let long = store.object(version(4), 200 << 30).unwrap();
    assert_eq!(long.absent(0..u64::MAX), [0..200 << 30]);
}
