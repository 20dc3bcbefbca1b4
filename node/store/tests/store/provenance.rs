//! What another node sent stays apart until it is proven, and whoever tells others is told.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use musicfs_core::id::NodeId;
use musicfs_core::version::VersionKey;
use musicfs_store::{Class, Finished, Limits, Provenance, Store, Written};

use crate::support::{AMPLE, KIB, content, filled, real, version};

const SIZE: usize = 400_000;

fn node() -> NodeId {
    NodeId::from_bytes([9; 16])
}

/// What was told since the last call.
fn watched(store: &Store) -> Arc<Mutex<BTreeSet<VersionKey>>> {
    let told = Arc::<Mutex<BTreeSet<_>>>::default();
    let into = told.clone();
    store.watch(Box::new(move |version| {
        into.lock().unwrap().insert(version);
    }));
    told
}

fn taken(told: &Mutex<BTreeSet<VersionKey>>) -> bool {
    std::mem::take(&mut *told.lock().unwrap()).contains(&version(1))
}

#[test]
fn what_was_received_is_known_as_such_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = content(1, SIZE);
    let store = real(dir.path(), AMPLE);
    let object = store.object(version(1), SIZE as u64).unwrap();
    assert_eq!(object.provenance(), Provenance::Proven);
    object.receive(node()).unwrap();
    assert_eq!(object.write(0, &bytes, Class::Body).unwrap(), Written::Kept);
    assert_eq!(object.finish().unwrap(), Finished::Stored);
    assert!(object.passthrough().is_none(), "it may have to go");
    drop(object);
    drop(store);

    // The last run was not closed.
    let store = real(dir.path(), AMPLE);
    store.commit_all().unwrap();
    let object = store.object(version(1), SIZE as u64).unwrap();
    if object.is_complete() {
        assert_eq!(object.provenance(), Provenance::Provisional(node()));
    }
    object.receive(node()).unwrap();
    object.write(0, &bytes, Class::Body).unwrap();
    object.finish().unwrap();
    object.vouch(node()).unwrap();
    store.close().unwrap();
    drop((object, store));

    let store = real(dir.path(), AMPLE);
    let object = store.object(version(1), SIZE as u64).unwrap();
    assert_eq!(object.provenance(), Provenance::Member(node()));
    assert!(object.verify_all().unwrap() && object.passthrough().is_some());
    object.prove().unwrap();
    store.commit_all().unwrap();
    let kept = store.kept(version(1)).unwrap().unwrap();
    assert!(kept.is_complete && kept.provenance == Provenance::Proven);
}

#[test]
fn a_complete_object_is_not_tainted_by_what_heals_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = real(dir.path(), AMPLE);
    let object = filled(&store, 1, &content(1, SIZE), Class::Body);
    object.receive(node()).unwrap();
    assert_eq!(object.provenance(), Provenance::Proven);
}

#[test]
fn unproven_content_shares_no_object() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = content(1, SIZE);
    let store = real(dir.path(), AMPLE);
    filled(&store, 1, &bytes, Class::Body).finish().unwrap();
    let object = store.object(version(2), SIZE as u64).unwrap();
    object.receive(node()).unwrap();
    object.write(0, &bytes, Class::Body).unwrap();
    assert_eq!(object.finish().unwrap(), Finished::Stored);
    let third = filled(&store, 3, &bytes, Class::Body);
    assert_eq!(third.finish().unwrap(), Finished::Shared(version(1)));
}

#[test]
fn what_turned_out_wrong_goes() {
    let dir = tempfile::tempdir().unwrap();
    let store = real(dir.path(), AMPLE);
    let object = store.object(version(1), SIZE as u64).unwrap();
    object.receive(node()).unwrap();
    object.write(0, &content(1, SIZE), Class::Body).unwrap();
    assert!(object.renounce().unwrap());
    assert_eq!(object.provenance(), Provenance::Proven);
    assert!(store.kept(version(1)).unwrap().is_none());
}

#[test]
fn whoever_watches_is_told_of_what_is_durable_and_of_what_went() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = content(1, SIZE);
    let block = 64 * KIB as usize;
    let store = real(dir.path(), AMPLE);
    let told = watched(&store);
    let object = store.object(version(1), SIZE as u64).unwrap();
    object.write(0, &bytes[..block], Class::Header).unwrap();
    let next = &bytes[block..2 * block];
    object.write(block as u64, next, Class::Body).unwrap();
    assert_eq!(store.kept(version(1)).unwrap(), None, "nothing is durable");
    store.commit_all().unwrap();
    assert!(taken(&told));
    let kept = store.kept(version(1)).unwrap().unwrap();
    assert_eq!(kept.body.iter().collect::<Vec<_>>(), [64 * KIB..128 * KIB]);
    assert_eq!(kept.blocks.iter().collect::<Vec<_>>(), [0..128 * KIB]);
    assert!(!kept.is_complete);
    assert_eq!(store.versions(None, 10), [version(1)]);
    assert!(store.versions(Some(version(1)), 10).is_empty());

    object.write(0, &bytes, Class::Body).unwrap();
    object.finish().unwrap();
    store.commit_all().unwrap();
    assert!(taken(&told) && store.kept(version(1)).unwrap().unwrap().is_complete);
    drop(object);
    store.set_limits(Limits { bodies: 0, ..AMPLE });
    assert!(taken(&told), "it was evicted");
    let kept = store.kept(version(1)).unwrap();
    assert!(kept.is_none_or(|kept| kept.body.is_empty()));
}
