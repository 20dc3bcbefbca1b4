//! Changes are told, and nothing else.

use std::fs::{create_dir, create_dir_all, remove_dir_all, remove_file, rename};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::{Duration, SystemTime};

use musicfs_core::origin::{Change, LostReason, Watch};

use super::*;

/// Far more than a change takes; a test that waits this long has failed.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A watched origin whose directories were all listed.
async fn watched(root: &Path) -> (LocalOrigin, Box<dyn Watch>) {
    let origin = origin(root);
    let watch = origin.watch().unwrap().unwrap();
    list_all(&origin).await;
    (origin, watch)
}

async fn next(watch: &mut Box<dyn Watch>) -> Change {
    let change = tokio::time::timeout(TIMEOUT, watch.next()).await;
    change.expect("a change").expect("the watch lives")
}

/// Waits for `expected`; returns what came before it.
async fn until(watch: &mut Box<dyn Watch>, expected: Change) -> Vec<Change> {
    let mut before = Vec::new();
    loop {
        let change = next(watch).await;
        if change == expected {
            return before;
        }
        before.push(change);
    }
}

/// What happened up to now: everything before a file that is made for the purpose.
async fn settle(root: &Path, watch: &mut Box<dyn Watch>) -> Vec<Change> {
    let marker = root.join("marker");
    create_dir(&marker).unwrap();
    let mut changes = until(watch, Change::Directory(path("marker"))).await;
    // How often a write is told depends on how soon its events are read.
    changes.dedup();
    std::fs::remove_dir(&marker).unwrap();
    until(watch, Change::Entry(path("marker"))).await;
    changes
}

fn entry(text: &str) -> Change {
    Change::Entry(path(text))
}

fn directory(text: &str) -> Change {
    Change::Directory(path(text))
}

#[tokio::test]
async fn every_kind_of_change_of_a_file_is_told() {
    let base = tempfile::tempdir().unwrap();
    let root = base.path();
    let old = put(root, "a/old.flac", "x");
    let (_origin, mut watch) = watched(root).await;

    put(root, "a/new.flac", "x");
    assert_eq!(next(&mut watch).await, entry("a/new.flac"));
    settle(root, &mut watch).await;

    let writer = std::fs::OpenOptions::new().append(true).open(&old).unwrap();
    std::io::Write::write_all(&mut &writer, b"more").unwrap();
    // Told before it is closed: some programs never close.
    assert_eq!(next(&mut watch).await, entry("a/old.flac"));
    settle(root, &mut watch).await;

    writer.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(settle(root, &mut watch).await, [entry("a/old.flac")]);
    std::fs::set_permissions(&old, PermissionsExt::from_mode(0o600)).unwrap();
    assert_eq!(settle(root, &mut watch).await, [entry("a/old.flac")]);
    drop(writer);
    settle(root, &mut watch).await;

    rename(&old, root.join("b.flac")).unwrap();
    assert_eq!(
        settle(root, &mut watch).await,
        [entry("a/old.flac"), entry("b.flac")]
    );
    remove_file(root.join("b.flac")).unwrap();
    assert_eq!(settle(root, &mut watch).await, [entry("b.flac")]);
    symlink("a/new.flac", root.join("link")).unwrap();
    assert_eq!(settle(root, &mut watch).await, [entry("link")]);
}

#[tokio::test]
async fn reading_and_hidden_names_are_no_change() {
    let base = tempfile::tempdir().unwrap();
    let root = base.path();
    put(root, "a/1.flac", "x");
    put(root, ".hidden/x", "x");
    create_dir(root.join("mnt")).unwrap();
    let mut config = config(root);
    config.excluded = vec![root.join("mnt")];
    let origin = LocalOrigin::open(config).unwrap();
    let mut watch = origin.watch().unwrap().unwrap();
    list_all(&origin).await;

    for _ in 0..100 {
        let file = origin
            .open(&path("a/1.flac"), &any_version())
            .await
            .unwrap();
        file.read_at(0, 1).await.unwrap();
        std::fs::read(root.join("a/1.flac")).unwrap();
    }
    list_all(&origin).await;
    put(root, ".hidden/y", "x");
    put(root, "a/.1.flac.part", "x");
    put(root, "a/1.flac~", "x");
    put(root, "mnt/1.flac", "x");
    std::fs::set_permissions(root.join("mnt"), PermissionsExt::from_mode(0o700)).unwrap();
    assert_eq!(settle(root, &mut watch).await, []);
}

#[tokio::test]
async fn a_new_tree_is_told_by_its_top_and_watched_once_listed() {
    let base = tempfile::tempdir().unwrap();
    let root = base.path();
    let (origin, mut watch) = watched(root).await;
    create_dir_all(root.join("new/nested/deep")).unwrap();
    assert_eq!(next(&mut watch).await, directory("new"));
    collect(origin.list(&path("new"), Depth::All))
        .await
        .unwrap();
    settle(root, &mut watch).await;
    put(root, "new/nested/deep/1.flac", "x");
    assert_eq!(next(&mut watch).await, entry("new/nested/deep/1.flac"));
}

#[tokio::test]
async fn a_renamed_directory_is_told_under_its_new_name() {
    let base = tempfile::tempdir().unwrap();
    let root = base.path();
    put(root, "old/album/1.flac", "x");
    let (origin, mut watch) = watched(root).await;
    rename(root.join("old"), root.join("new")).unwrap();
    let changes = settle(root, &mut watch).await;
    assert!(changes.contains(&entry("old")), "{changes:?}");
    assert!(changes.contains(&directory("new")), "{changes:?}");
    collect(origin.list(&path("new"), Depth::All))
        .await
        .unwrap();
    settle(root, &mut watch).await;

    put(root, "new/album/2.flac", "x");
    let changes = settle(root, &mut watch).await;
    assert_eq!(changes, [entry("new/album/2.flac")]);
    // And again, with what the old name left behind.
    put(root, "old/album/3.flac", "x");
    until(&mut watch, directory("old")).await;
    collect(origin.list(&path("old"), Depth::All))
        .await
        .unwrap();
    settle(root, &mut watch).await;
    put(root, "old/album/4.flac", "x");
    assert_eq!(settle(root, &mut watch).await, [entry("old/album/4.flac")]);
}

#[tokio::test]
async fn a_directory_moved_away_is_no_longer_watched() {
    let base = tempfile::tempdir().unwrap();
    let root = base.path().join("root");
    put(&root, "gone/album/1.flac", "x");
    put(&root, "deleted/album/1.flac", "x");
    let (_origin, mut watch) = watched(&root).await;
    rename(root.join("gone"), base.path().join("elsewhere")).unwrap();
    assert_eq!(settle(&root, &mut watch).await, [entry("gone")]);
    put(base.path(), "elsewhere/album/2.flac", "x");
    assert_eq!(settle(&root, &mut watch).await, []);

    remove_dir_all(root.join("deleted")).unwrap();
    let changes = settle(&root, &mut watch).await;
    assert!(changes.contains(&entry("deleted")), "{changes:?}");
}

#[tokio::test]
async fn a_change_behind_a_link_is_told_under_both_names() {
    let base = tempfile::tempdir().unwrap();
    let root = base.path();
    put(root, "real/1.flac", "x");
    symlink("real", root.join("link")).unwrap();
    let (_origin, mut watch) = watched(root).await;
    remove_file(root.join("real/1.flac")).unwrap();
    let changes = settle(root, &mut watch).await;
    assert!(changes.contains(&entry("real/1.flac")), "{changes:?}");
    assert!(changes.contains(&entry("link/1.flac")), "{changes:?}");
}

#[tokio::test]
async fn a_directory_that_opens_up_is_listed() {
    let base = tempfile::tempdir().unwrap();
    let root = base.path();
    put(root, "a/1.flac", "x");
    let (_origin, mut watch) = watched(root).await;
    std::fs::set_permissions(root.join("a"), PermissionsExt::from_mode(0o700)).unwrap();
    assert_eq!(next(&mut watch).await, directory("a"));
}

#[tokio::test]
async fn a_root_that_went_and_came_back_is_watched_from_its_next_listing() {
    let base = tempfile::tempdir().unwrap();
    let root = base.path().join("root");
    put(&root, "a/1.flac", "x");
    let (origin, mut watch) = watched(&root).await;
    remove_dir_all(&root).unwrap();
    until(&mut watch, entry("")).await;
    assert!(collect(origin.list(&path(""), Depth::One)).await.is_err());

    put(&root, "a/1.flac", "x");
    list_all(&origin).await;
    put(&root, "a/2.flac", "x");
    until(&mut watch, entry("a/2.flac")).await;

    rename(&root, base.path().join("away")).unwrap();
    until(&mut watch, entry("")).await;
    put(&root, "b/1.flac", "x");
    list_all(&origin).await;
    put(base.path(), "away/a/3.flac", "x");
    assert_eq!(settle(&root, &mut watch).await, []);
}

#[tokio::test]
async fn the_newest_watch_is_the_one() {
    let base = tempfile::tempdir().unwrap();
    let (origin, mut older) = watched(base.path()).await;
    let mut newer = origin.watch().unwrap().unwrap();
    list_all(&origin).await;
    assert_eq!(older.next().await, None);
    put(base.path(), "1.flac", "x");
    assert_eq!(next(&mut newer).await, entry("1.flac"));
}

#[tokio::test]
async fn more_changes_than_the_system_queues_are_told_as_lost() {
    let base = tempfile::tempdir().unwrap();
    let limit = std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let queued_max: usize = limit.trim().parse().unwrap();
    let (_origin, mut watch) = watched(base.path()).await;
    // Two events each, while nobody takes changes: what the queue holds, and as much again.
    for _ in 0..queued_max {
        create_dir(base.path().join("d")).unwrap();
        std::fs::remove_dir(base.path().join("d")).unwrap();
    }
    let before = until(&mut watch, Change::Lost(LostReason::Overflow)).await;
    assert!(before.len() < 2 * queued_max);
    // It goes on.
    settle(base.path(), &mut watch).await;
}
