//! Opening and reading files.

use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::symlink;
use std::time::{Duration, SystemTime};

use musicfs_core::error::ErrorKind;
use rustix::fs::{CWD, FileType, Mode};

use super::*;

async fn open_error(origin: &LocalOrigin, name: &str) -> ErrorKind {
    let opened = origin.open(&path(name), &any_version()).await;
    opened
        .err()
        .unwrap_or_else(|| panic!("{name} was opened"))
        .kind()
}

#[tokio::test]
async fn a_file_is_read_in_any_range() {
    let base = tempfile::tempdir().unwrap();
    put(base.path(), "a/f.flac", "0123456789");
    let origin = origin(base.path());
    let file = origin
        .open(&path("a/f.flac"), &any_version())
        .await
        .unwrap();
    assert_eq!(file.version().size, 10);
    assert!(file.is_unchanged());
    assert!(file.as_fd().is_some());
    for (offset, len, expect) in [
        (0, 10, "0123456789"),
        (3, 4, "3456"),
        (8, 100, "89"),
        (10, 1, ""),
        (u64::MAX, usize::MAX, ""),
        (0, usize::MAX, "0123456789"),
        (5, 0, ""),
    ] {
        let bytes = file.read_at(offset, len).await.unwrap();
        assert_eq!(bytes, expect.as_bytes(), "{offset}+{len}");
    }
    let listings = list_all(&origin).await;
    assert_eq!(listings[1].files[0].version, *file.version());
}

/// As on a network mount that lost its connection: the kernel's own files promise a page and hold
/// a line.
#[tokio::test]
async fn a_file_that_ends_early_and_has_not_changed_is_no_changed_file() {
    let origin = origin(Path::new("/sys/kernel"));
    let file = origin.open(&path("uevent_seqnum"), &any_version()).await;
    let file = file.unwrap();
    assert!(file.version().size > 1000);
    assert_eq!(file.read_at(0, 1).await.unwrap().len(), 1);
    let error = file.read_at(0, 1000).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
}

#[tokio::test]
async fn nothing_but_a_regular_file_inside_the_root_is_opened() {
    let base = tempfile::tempdir().unwrap();
    let root = base.path().join("root");
    put(&root, "dir/in.flac", "inside");
    put(base.path(), "secret", "x");
    for (target, name) in [
        ("../secret", "out"),
        ("/etc/passwd", "absolute-out"),
        ("..", "up"),
        ("nowhere", "dangling"),
        ("circle", "circle"),
        ("/proc/self/root", "magic"),
        ("dir/in.flac", "link"),
        ("dir", "link-dir"),
    ] {
        symlink(target, root.join(name)).unwrap();
    }
    symlink(root.join("dir/in.flac"), root.join("absolute-in")).unwrap();
    rustix::fs::mknodat(CWD, root.join("fifo"), FileType::Fifo, Mode::from(0o644), 0).unwrap();
    let origin = origin(&root);

    for name in ["out", "absolute-out", "up/secret", "magic/etc/passwd"] {
        assert_eq!(open_error(&origin, name).await, ErrorKind::Denied, "{name}");
    }
    for name in [
        "dangling",
        "circle",
        "fifo",
        "dir",
        "",
        "gone",
        "dir/in.flac/x",
    ] {
        assert_eq!(
            open_error(&origin, name).await,
            ErrorKind::NotFound,
            "{name}"
        );
    }
    for name in ["dir/in.flac", "link", "link-dir/in.flac", "absolute-in"] {
        let file = origin.open(&path(name), &any_version()).await.unwrap();
        assert_eq!(file.read_at(0, 6).await.unwrap(), "inside", "{name}");
    }
}

#[tokio::test]
async fn an_open_file_that_is_replaced_keeps_its_content() {
    let base = tempfile::tempdir().unwrap();
    let name = put(base.path(), "f.flac", "old");
    let origin = origin(base.path());
    let file = origin.open(&path("f.flac"), &any_version()).await.unwrap();
    let new = put(base.path(), "new", "newer");
    std::fs::rename(new, name).unwrap();
    assert_eq!(file.read_at(0, 10).await.unwrap(), "old");
    assert!(file.is_unchanged());
    let file = origin.open(&path("f.flac"), &any_version()).await.unwrap();
    assert_eq!(file.read_at(0, 10).await.unwrap(), "newer");
}

#[tokio::test]
async fn a_file_changed_in_place_gives_no_byte() {
    let base = tempfile::tempdir().unwrap();
    let name = put(base.path(), "f.flac", "old");
    let origin = origin(base.path());
    // Longer, shorter, and as long as before with another time.
    for (size, age_s) in [(4, 0), (2, 0), (2, 60)] {
        let file = origin.open(&path("f.flac"), &any_version()).await.unwrap();
        let mut writer = std::fs::OpenOptions::new().write(true).open(&name).unwrap();
        writer.set_len(size).unwrap();
        writer.seek(SeekFrom::Start(0)).unwrap();
        writer.write_all(b"N").unwrap();
        writer
            .set_modified(SystemTime::now() - Duration::from_secs(age_s))
            .unwrap();
        let error = file.read_at(0, 1).await.unwrap_err();
        assert!(matches!(error, OriginError::Changed { .. }), "{error:?}");
        assert!(!file.is_unchanged());
    }
}
