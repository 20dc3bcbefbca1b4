//! An origin is forgotten step by step.

use std::collections::{BTreeMap, BTreeSet};

use musicfs_index::{FORGET_FILES_MAX, KnownFile};

use crate::world::{World, filled, key, put};

#[test]
fn an_origin_is_forgotten_in_steps_that_each_leave_a_whole_tree() {
    for hidden in [false, true] {
        let mut world = filled();
        world.hide(0, hidden);
        let mut left = world.known(0).len();
        let mut steps = 0;
        loop {
            let (_, done) = world.forget_some(0, 2);
            steps += 1;
            if done {
                break;
            }
            left -= 2;
            let known = world.known(0);
            assert_eq!(known.len(), left);
            let origins = world.index.reader.origins().unwrap();
            assert_eq!(origins[0].file_count, left as u64);
            // Another batch comes in between, and the process may end.
            world.apply(1, vec![put("d/new.mp3", ("D", "New", 1), 100 + steps)]);
            if steps == 1 {
                let World { index, dir, .. } = world;
                drop(index);
                world = World::open(dir);
            }
            let paths: BTreeSet<String> = world.tree().into_keys().collect();
            assert_eq!(paths, fresh(&known, hidden, 100 + steps));
        }
        assert_eq!(steps, 4, "2 + 2 + 2 files, then none is left");
        let origins = world.index.reader.origins().unwrap();
        assert_eq!(origins.len(), 1);
        assert_eq!(origins[0].name, "s3");
        assert_eq!(world.index.reader.totals().unwrap().files, 2);
        let (_, done) = world.forget_some(0, FORGET_FILES_MAX);
        assert!(done, "nothing is left to do");
    }
}

/// The paths that a scan of the files left makes.
fn fresh(left: &BTreeMap<String, KnownFile>, hidden: bool, version: u8) -> BTreeSet<String> {
    let world = World::new();
    let all = [
        ("a/1.flac", ("A", "One", 1)),
        ("a/2.flac", ("B", "Two", 1)),
        ("a/cover.jpg", ("", "", 0)),
        ("b/3.flac", ("A", "Three", 2)),
        ("4.mp3", ("A", "Four", 1)),
        ("c/same.flac", ("C", "Same", 1)),
    ];
    let known = all.iter().filter(|(path, _)| left.contains_key(*path));
    world.apply(0, known.map(|&(path, tags)| put(path, tags, 1)).collect());
    world.hide(0, hidden);
    let others = vec![
        put("c/same.flac", ("C", "Same", 1), 6),
        put("d/new.mp3", ("D", "New", 1), version),
    ];
    world.apply(1, others);
    world.tree().into_keys().collect()
}

#[test]
fn a_disc_set_that_loses_its_second_disc_with_an_origin_is_one_disc_again() {
    let world = World::new();
    world.apply(0, vec![put("2.mp3", ("A", "Two", 2), 2)]);
    world.apply(1, vec![put("1.mp3", ("A", "One", 1), 1)]);
    let place = || {
        let found = world.index.reader.find_version(key(1)).unwrap().unwrap();
        world.index.reader.path_of(found.node.ino).unwrap().unwrap()
    };
    let in_set = place();
    world.hide(0, true);
    assert!(world.forget_some(0, 10).1);
    assert_ne!(place(), in_set);
    let alone = World::new();
    alone.apply(1, vec![put("1.mp3", ("A", "One", 1), 1)]);
    assert!(alone.index.reader.resolve(&place()).unwrap().is_some());
}
