//! A damaged or foreign index and a full disk: nothing is lost, and all is made good.

#![expect(clippy::unwrap_used, reason = "test code")]

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use musicfs_tests::daemon::{Daemon, Home};
use musicfs_tests::outcome::{assert_no_trace, refused};
use musicfs_tests::small_disk::SmallDisk;
use musicfs_tests::{Random, bulk, tree, wait_for, wait_until};

/// Tracks of a library whose index fills many pages, and more than two megabytes.
const TRACKS_MANY: usize = 3000;

#[test]
fn an_index_of_a_newer_version_is_left_alone() {
    let home = Home::with_music();
    let daemon = home.mount_scanned(&[]);
    let before = tree::stats(daemon.mount_point());
    daemon.stop();
    let set_version = |version: i64| {
        let index = rusqlite::Connection::open(database(&home)).unwrap();
        let old: i64 = index
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .unwrap();
        index.pragma_update(None, "user_version", version).unwrap();
        old
    };
    let known = set_version(99);
    let bytes = fs::read(database(&home)).unwrap();
    let words = ["metadata.db", "version 99", "newer musicfs"];
    let (mount_point, origin) = (home.mount_point(), home.origin());
    let (mount_point, origin) = (mount_point.to_str().unwrap(), origin.to_str().unwrap());
    refused(
        home.command(&["mount", mount_point, "--origin", origin]),
        1,
        &words,
    );
    assert!(
        fs::read(database(&home)).unwrap() == bytes,
        "the newer index was changed"
    );
    set_version(known);
    let daemon = home.mount_scanned(&[]);
    assert_eq!(tree::stats(daemon.mount_point()), before);
    daemon.stop();
}

fn database(home: &Home) -> PathBuf {
    home.state().join("metadata.db")
}

/// The damaged indexes that were kept.
fn kept(home: &Home) -> Vec<PathBuf> {
    let entries = fs::read_dir(home.state())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let is_kept = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.contains("damaged-") && !name.ends_with("-wal") && !name.ends_with("-shm")
    };
    entries.filter(is_kept).collect()
}

#[test]
fn an_index_that_is_no_database_is_kept_and_made_again() {
    let home = Home::with_music();
    let daemon = home.mount_scanned(&[]);
    let before = tree::real_paths(daemon.mount_point());
    daemon.stop();
    let garbage = b"this was an index once, and it is none any more".repeat(500);
    fs::write(database(&home), &garbage).unwrap();
    let daemon = home.mount_scanned(&[]);
    assert_eq!(tree::real_paths(daemon.mount_point()), before);
    let [kept] = &kept(&home)[..] else {
        panic!("{:?}", kept(&home))
    };
    assert!(
        fs::read(kept).unwrap() == garbage,
        "what was damaged is kept as it was"
    );
    let log = daemon.log();
    assert!(
        log.contains("the index was damaged") && log.contains("damaged-"),
        "{log}"
    );
    assert_no_trace(&log);
    daemon.stop_expecting(&["the index was damaged"]);
}

#[test]
fn an_index_with_garbage_inside_is_found_out_kept_and_made_again() {
    let home = Home::new();
    bulk::make_library(&home.origin(), TRACKS_MANY).unwrap();
    let daemon = home.mount_scanned(&[]);
    let before = tree::real_paths(daemon.mount_point());
    daemon.stop();
    let len = fs::metadata(database(&home)).unwrap().len();
    let mut random = Random(7);
    let garbage: Vec<u8> = (0..len / 3).map(|_| random.number() as u8).collect();
    let file = File::options().write(true).open(database(&home)).unwrap();
    file.write_all_at(&garbage, len / 3).unwrap();
    drop(file);
    let daemon = home.mount(&[]);
    // Whatever it answers until it knows, it must not fall over.
    let _ = sh_walk(daemon.mount_point());
    let said = |daemon: &Daemon| daemon.log().contains("the index was damaged");
    let (is_aside, _) = wait_for("the damage to be found", || {
        let is_known = daemon.log().contains("the index is damaged; restart");
        (is_known || said(&daemon)).then(|| said(&daemon))
    });
    assert_no_trace(&daemon.log());
    let daemon = if is_aside {
        daemon
    } else {
        daemon.stop_expecting(&["the index", "index"]);
        home.mount(&[])
    };
    assert!(said(&daemon), "{}", daemon.log());
    daemon.wait_scanned(1);
    assert!(
        tree::real_paths(daemon.mount_point()) == before,
        "the tree is not what it was"
    );
    assert_eq!(kept(&home).len(), 1);
    assert_no_trace(&daemon.log());
    daemon.stop_expecting(&["the index was damaged"]);
}

fn sh_walk(root: &Path) -> Output {
    musicfs_tests::sh_output(&format!("find {root:?} -type f -printf '%s\\n'"))
}

#[test]
fn a_full_disk_stops_nothing_and_is_made_up_for_when_there_is_room() {
    let home = Home::new();
    bulk::make_library(&home.origin(), TRACKS_MANY).unwrap();
    let disk = SmallDisk::mount(&home.path("state"), "2m");
    let daemon = home.mount(&[]);
    daemon.wait_for_log("the index cannot be used");
    let log = daemon.log();
    assert!(log.contains("make room") && log.contains("full"), "{log}");
    assert_no_trace(&log);
    wait_until("the status to say so", || home.state_shown() == "degraded");
    let some = tree::files(daemon.mount_point());
    assert!(some.len() < TRACKS_MANY, "the disk was large enough");
    if let Some(path) = some.first() {
        assert!(
            !fs::read(daemon.mount_point().join(path))
                .unwrap()
                .is_empty()
        );
    }
    disk.grow("200m");
    wait_until("the rest", || {
        tree::files(daemon.mount_point()).len() == TRACKS_MANY
    });
    wait_until("the status to say so", || home.state_shown() == "ready");
    daemon.stop_expecting(&["the index cannot be used"]);
}
