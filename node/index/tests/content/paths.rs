//! From paths to entries and back, and over all files below one.

use std::collections::{BTreeMap, BTreeSet};

use musicfs_core::id::Ino;
use musicfs_core::path::OriginPath;
use musicfs_core::version::VersionKey;
use musicfs_index::{FileChange, Found};
use proptest::prelude::*;

use crate::world::{World, filled, key, put};

#[test]
fn a_path_leads_to_its_entry_and_back() {
    let world = filled();
    let reader = &world.index.reader;
    let tree = world.tree();
    assert!(tree.len() > 10, "{:?}", tree.keys());
    for (path, (ino, _)) in &tree {
        for spelling in [path.clone(), format!("/{path}/"), path.replace('/', "//")] {
            let node = reader.resolve(&spelling).unwrap();
            assert_eq!(node, reader.node(*ino).unwrap(), "{spelling:?}");
        }
        assert_eq!(reader.path_of(*ino).unwrap().as_ref(), Some(path));
    }
    let (file, _) = tree.iter().find(|(_, (_, found))| found.is_some()).unwrap();
    for wrong in [
        "nothing",
        "./",
        "..",
        &format!("{file}/x"),
        &format!("{file}x"),
    ] {
        assert_eq!(reader.resolve(wrong).unwrap(), None, "{wrong:?}");
    }
    let (ino, _) = tree[file];
    world.hide(0, true);
    world.hide(1, true);
    assert_eq!(reader.resolve(file).unwrap(), None);
    assert_eq!(reader.path_of(ino).unwrap(), None);
    assert!(reader.walk(ino).unwrap().is_none());
    assert_eq!(reader.path_of(Ino(0)).unwrap(), None);
    assert_eq!(reader.path_of(Ino(1 << 40)).unwrap(), None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn a_walk_meets_every_file_below_once(
        files in prop::collection::vec((0..3usize, 0..4usize, 0..3u32), 0..30),
        limit in 0..7usize,
    ) {
        let world = World::new();
        let changes = files.iter().enumerate().map(|(at, &(dir, artist, disc))| {
            let artist = ["A", "B", "A/B", "Ä"][artist];
            let path = if at % 5 == 0 { format!("{dir}/c{at}.jpg") } else { format!("{dir}/{at}.mp3") };
            put(&path, (artist, "Title", disc), at as u8)
        });
        world.apply(0, changes.collect());
        let tree = world.tree();
        for (from, (ino, _)) in &tree {
            let walked = world.walk(*ino, limit);
            let met: BTreeMap<String, Found> = walked.iter().cloned().collect();
            prop_assert_eq!(met.len(), walked.len(), "a path came twice");
            let below = |path: &str| {
                from.is_empty() || path == from || path.starts_with(&format!("{from}/"))
            };
            let expect: BTreeMap<String, Found> = tree
                .iter()
                .filter(|(path, _)| below(path))
                .filter_map(|(path, (_, found))| Some((path.clone(), found.clone()?)))
                .collect();
            prop_assert_eq!(met, expect);
        }
    }
}

#[test]
fn a_walk_goes_on_over_changes() {
    let world = World::new();
    let path = |at: u8| format!("{}/{at}.mp3", at % 4);
    let artist = |at: u8| ["A", "B", "C", "D"][usize::from(at % 4)];
    let changes = (0..40).map(|at| put(&path(at), (artist(at), &format!("T{at}"), 1), at));
    world.apply(0, changes.collect());
    let reader = &world.index.reader;
    let mut walk = reader.walk(Ino::ROOT).unwrap().unwrap();
    let mut met: Vec<VersionKey> = Vec::new();
    let mut page = |met: &mut Vec<VersionKey>| {
        let files = reader.files_below(&mut walk, 5).unwrap();
        met.extend(files.iter().map(|file| file.found.version_key));
        !files.is_empty()
    };
    assert!(page(&mut met));
    // What the walk stands in goes away, with its directory, and something else appears.
    let known = world.known(0);
    let dir = OriginPath::new(b"0").unwrap();
    let in_first = (0..40).filter(|at| at % 4 == 0);
    let mut changes: Vec<FileChange> = in_first
        .map(|at| FileChange::Remove {
            id: known[&path(at)].id,
            dir: dir.clone(),
        })
        .collect();
    changes.push(put("new.mp3", ("E", "New", 1), 99));
    world.apply(0, changes);
    while page(&mut met) {}
    assert!(!page(&mut met), "the end stays the end");
    let seen: BTreeSet<VersionKey> = met.iter().copied().collect();
    assert_eq!(seen.len(), met.len(), "once each");
    for at in (0..40).filter(|at| at % 4 != 0).chain([99]) {
        assert!(seen.contains(&key(at)), "{at} was not met");
    }
}
