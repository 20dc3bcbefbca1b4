//! Pins, and what the index says of its own size.

use musicfs_core::error::ErrorKind;
use musicfs_index::{PIN_PATH_LEN_MAX, Pin};

use crate::world::{World, filled};

#[test]
fn a_pin_is_a_path_however_it_is_written() {
    let world = World::new();
    assert!(world.pin("/A/Album of A/", 10).unwrap());
    assert!(!world.pin("A//Album of A", 20).unwrap());
    assert!(world.pin("B", 30).unwrap());
    assert!(world.pin("/", 40).unwrap());
    let pin = |path: &str, created_unix| Pin {
        path: path.into(),
        created_unix,
    };
    let all = [pin("", 40), pin("A/Album of A", 10), pin("B", 30)];
    assert_eq!(world.index.reader.pins().unwrap(), all);
    let World { index, dir, .. } = world;
    drop(index);
    let world = World::open(dir);
    assert_eq!(world.index.reader.pins().unwrap(), all);
    assert!(world.unpin(""));
    assert!(!world.unpin("/"));
    assert!(!world.unpin("A"), "a pin below is another one");
    assert!(world.unpin("/A/Album of A"));
    assert_eq!(world.index.reader.pins().unwrap(), [pin("B", 30)]);
    let longest = "x".repeat(PIN_PATH_LEN_MAX);
    assert!(world.pin(&longest, 1).unwrap());
    let error = world.pin(&format!("{longest}y"), 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[test]
fn sizes_count_what_there_is() {
    let world = filled();
    let reader = &world.index.reader;
    let directories = world
        .tree()
        .values()
        .filter(|(_, found)| found.is_none())
        .count();
    assert_eq!(reader.metadata_entries().unwrap(), 7 + directories as u64);
    let len = |name: &str| {
        std::fs::metadata(world.dir.path().join(name))
            .unwrap()
            .len()
    };
    let bytes = len("metadata.db") + len("metadata.db-wal");
    assert_eq!(reader.bytes_on_disk(), bytes);
    assert!(bytes > 0);
    world.hide(0, true);
    assert!(
        reader.metadata_entries().unwrap() > 7,
        "hidden files are held too"
    );
}
