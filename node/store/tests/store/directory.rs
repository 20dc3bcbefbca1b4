//! Whose directory it is, and what a start looks at.

use std::sync::Arc;

use musicfs_store::{Class, Config, Error, RealDisk, Store, Why, Written};

use crate::support::{AMPLE, content, filled, opened, path, real, version};

fn error(dir: &std::path::Path) -> Error {
    let config = Config {
        dir: dir.to_owned(),
        limits: AMPLE,
    };
    Store::open(config, Arc::new(RealDisk::new()))
        .err()
        .unwrap()
}

#[test]
fn a_second_process_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _first = opened(dir.path(), AMPLE);
    assert!(matches!(error(dir.path()), Error::Locked { .. }));
}

#[test]
fn another_format_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(opened(dir.path(), AMPLE));
    std::fs::write(dir.path().join("format"), "musicfs-store 2\n").unwrap();
    assert!(matches!(error(dir.path()), Error::Format { found, .. } if found.ends_with('2')));
    std::fs::remove_file(dir.path().join("format")).unwrap();
    assert!(matches!(error(dir.path()), Error::Format { .. }));
}

#[test]
fn the_directory_of_another_user_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(dir.path(), Some(4711), None).unwrap();
        assert!(matches!(error(dir.path()), Error::NotOurs { .. }));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    } else {
        assert!(matches!(
            error(std::path::Path::new("/")),
            Error::NotOurs { .. }
        ));
    }
}

#[test]
fn the_directory_is_private_and_tagged_as_a_cache() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("a/b");
    drop(opened(&cache, AMPLE));
    let mode = std::fs::metadata(&cache).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let tag = std::fs::read_to_string(cache.join("CACHEDIR.TAG")).unwrap();
    assert!(tag.starts_with("Signature: 8a477f597d28d172789f06886806bc55"));
}

#[test]
fn after_a_clean_close_no_map_is_read() {
    let dir = tempfile::tempdir().unwrap();
    {
        let store = real(dir.path(), AMPLE);
        filled(&store, 1, &content(1, 100_000), Class::Body);
        store.close().unwrap();
        let object = store.object(version(2), 10).unwrap();
        let refused = object.write(0, &[0; 10], Class::Body).unwrap();
        assert_eq!(refused, Written::Refused(Why::Recovering), "it is closed");
    }
    // A start that read the map would remove it.
    let map = path(dir.path(), 1).with_extension("map");
    std::fs::write(&map, b"nothing like a map").unwrap();
    let store = opened(dir.path(), AMPLE);
    let recovered = store.recover().unwrap();
    assert!(recovered.was_clean && recovered.removed_count == 0);
    assert_eq!(
        (recovered.objects_count, store.stats().body.objects),
        (1, 1)
    );
    assert!(map.exists());
    assert!(matches!(store.recover(), Err(Error::NotOpen { .. })));
    drop(store);
    let recovered = opened(dir.path(), AMPLE).recover().unwrap();
    assert_eq!((recovered.was_clean, recovered.removed_count), (false, 2));
    assert_eq!(recovered.objects_count, 0);
}

#[test]
fn half_made_files_go_and_others_stay() {
    let dir = tempfile::tempdir().unwrap();
    drop(real(dir.path(), AMPLE));
    let object = path(dir.path(), 1);
    std::fs::create_dir_all(object.parent().unwrap()).unwrap();
    let half = object.with_extension("map.tmp");
    let note = object.with_file_name("note");
    for path in [&object, &half, &note] {
        std::fs::write(path, b"x").unwrap();
    }
    let recovered = opened(dir.path(), AMPLE).recover().unwrap();
    assert_eq!(recovered.removed_count, 2);
    assert!(note.exists() && !object.exists() && !half.exists());
}
