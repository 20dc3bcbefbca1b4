//! Which file has a version, how its bytes are arranged, and which versions go out of use.

use std::collections::{BTreeMap, BTreeSet};

use musicfs_core::id::FileId;
use musicfs_core::origin::FileIdentity;
use musicfs_core::path::OriginPath;
use musicfs_core::tags::{AudioLayout, Container};
use musicfs_core::version::VersionKey;
use musicfs_index::{FileChange, FileKind, KnownFile};
use proptest::prelude::*;

use crate::world::{ORIGINS, World, filled, id, key, listed, put, record};

#[test]
fn a_layout_stays_until_the_content_is_put_anew() {
    let world = World::new();
    let mut layouts = BTreeMap::new();
    for (at, container) in (0u8..).zip(Container::ALL) {
        let layout = AudioLayout {
            container,
            front_end: 100 + u64::from(at),
            tail_start: 900 - u64::from(at),
        };
        let path = format!("a/{at}.flac");
        let mut record = record(&path, ("A", &path, 1), at);
        record.layout = Some(layout);
        world.apply(0, vec![FileChange::Put(Box::new(record))]);
        layouts.insert(path, (at, layout));
    }
    for (path, file) in world.known(0) {
        let (version, layout) = layouts[&path];
        assert_eq!(
            (file.version_key, file.layout),
            (key(version), Some(layout))
        );
        let found = world
            .index
            .reader
            .find_version(key(version))
            .unwrap()
            .unwrap();
        assert_eq!(
            (found.version_key, found.layout),
            (key(version), Some(layout))
        );
        assert_eq!(
            (found.path.to_string(), found.kind),
            (path, FileKind::Track)
        );
    }
    let (_, layout) = layouts["a/0.flac"];
    let row = world.known(0)["a/0.flac"].id;
    let elsewhere = OriginPath::new(b"b/moved.flac").unwrap();
    let touch = FileChange::Touch {
        id: row,
        mode: 0o400,
        identity: Some(FileIdentity {
            device: 1,
            inode: 2,
        }),
    };
    let relocate = FileChange::Move {
        id: row,
        dir: elsewhere.parent(),
        listed: listed(&elsewhere, 0),
        version_key: key(50),
    };
    world.apply(0, vec![touch, relocate]);
    let moved = world.known(0)["b/moved.flac"].clone();
    assert_eq!((moved.layout, moved.version_key), (Some(layout), key(50)));
    world.apply(0, vec![put("b/moved.flac", ("A", "Moved", 1), 51)]);
    assert_eq!(world.known(0)["b/moved.flac"].layout, None);
}

#[test]
fn a_version_is_found_where_it_is_shown_and_known_where_it_is_not() {
    let world = filled();
    let reader = &world.index.reader;
    let (nas, s3) = (id("nas"), id("s3"));
    let origin_of = |version| {
        let found = reader.find_version(version).unwrap();
        found.map(|found| found.origin)
    };
    assert_eq!(origin_of(key(1)), Some(nas.clone()));
    assert_eq!(origin_of(key(200)), None);
    assert_eq!(
        reader.find_version(key(3)).unwrap().unwrap().kind,
        FileKind::Companion
    );
    assert!(reader.version_is_of_origin(key(6), &nas).unwrap());
    assert!(reader.version_is_of_origin(key(6), &s3).unwrap());
    assert!(!reader.version_is_of_origin(key(1), &s3).unwrap());
    assert!(!reader.version_is_of_origin(key(1), &id("other")).unwrap());
    world.hide(0, true);
    assert_eq!(origin_of(key(1)), None);
    assert_eq!(origin_of(key(6)), Some(s3), "the other origin shows it");
    assert!(reader.has_version(key(1)).unwrap());
    assert!(!reader.has_version(key(200)).unwrap());
    assert!(reader.version_is_of_origin(key(1), &nas).unwrap());
    world.hide(0, false);
    assert_eq!(origin_of(key(1)), Some(nas));
}

/// A change of the model; few paths and few versions, so that they meet.
#[derive(Clone, Debug)]
enum Op {
    Put { path: usize, version: u8 },
    Move { from: usize, to: usize, version: u8 },
    Remove { path: usize, stale: bool },
}

const PATHS: [&str; 5] = ["a/1.mp3", "a/2.mp3", "b/1.mp3", "b/c.jpg", "a/c.jpg"];

fn op() -> impl Strategy<Value = Op> {
    let path = 0..PATHS.len();
    prop_oneof![
        3 => (path.clone(), 0..5u8).prop_map(|(path, version)| Op::Put { path, version }),
        2 => (path.clone(), path.clone(), 0..5u8)
            .prop_map(|(from, to, version)| Op::Move { from, to, version }),
        1 => (path, any::<bool>()).prop_map(|(path, stale)| Op::Remove { path, stale }),
    ]
}

/// The change that an operation makes of the files that are known; `None` if it has no file.
fn change(known: &BTreeMap<String, KnownFile>, op: &Op) -> Option<FileChange> {
    let row = |path: usize| -> Option<FileId> { Some(known.get(PATHS[path])?.id) };
    let real = |path: usize| OriginPath::new(PATHS[path].as_bytes()).unwrap();
    match *op {
        Op::Put { path, version } => Some(put(PATHS[path], ("A", "T", 1), version)),
        Op::Move { from, to, version } => Some(FileChange::Move {
            id: row(from)?,
            dir: real(to).parent(),
            listed: listed(&real(to), version),
            version_key: key(version),
        }),
        Op::Remove { path, stale } => Some(FileChange::Remove {
            id: row(path)?,
            dir: if stale {
                OriginPath::default()
            } else {
                real(path).parent()
            },
        }),
    }
}

fn new_version(change: &FileChange) -> Option<VersionKey> {
    match change {
        FileChange::Put(record) => Some(record.version_key),
        FileChange::Move { version_key, .. } => Some(*version_key),
        FileChange::Touch { .. } | FileChange::Remove { .. } => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn what_no_row_has_any_more_is_retired_and_nothing_else(
        batches in prop::collection::vec((0..2usize, prop::collection::vec(op(), 1..6)), 1..12),
        step in 1..4usize,
    ) {
        let world = World::new();
        let versions = || -> BTreeSet<VersionKey> {
            let known = (0..ORIGINS.len()).flat_map(|origin| world.known(origin).into_values());
            known.map(|file| file.version_key).collect()
        };
        for (origin, ops) in batches {
            let before = versions();
            let known = world.known(origin);
            let changes: Vec<_> = ops.iter().filter_map(|op| change(&known, op)).collect();
            let come_and_gone = changes.iter().filter_map(new_version).collect();
            let commit = world.apply(origin, changes);
            let after = versions();
            prop_assert!(commit.retired.is_sorted_by(|a, b| a < b), "in order, once each");
            let retired: BTreeSet<VersionKey> = commit.retired.into_iter().collect();
            prop_assert!(retired.is_superset(&(&before - &after)), "{:?}", retired);
            prop_assert!(retired.is_disjoint(&after), "{:?}", retired);
            prop_assert!(retired.is_subset(&(&before | &come_and_gone)), "{:?}", retired);
        }
        for origin in 0..ORIGINS.len() {
            loop {
                let before = versions();
                let (commit, done) = world.forget_some(origin, step);
                let expect: Vec<VersionKey> = before.difference(&versions()).copied().collect();
                prop_assert_eq!(commit.retired, expect);
                if done {
                    break;
                }
            }
        }
        prop_assert_eq!(versions(), BTreeSet::new());
    }
}
