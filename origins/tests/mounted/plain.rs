//! A share that answers: a plain directory, which the local origin reads the same.

use std::os::unix::fs::symlink;
use std::time::{Duration, SystemTime};

use musicfs_core::error::ErrorKind;
use musicfs_core::origin::{Depth, Origin};
use musicfs_core::version::OriginKey;
use musicfs_origins::{LocalConfig, LocalOrigin, MountedOrigin};

use super::*;

/// Bytes that tell their place.
fn counted(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at / 7 + at % 251) as u8).collect()
}

fn local(root: &Path) -> LocalOrigin {
    LocalOrigin::new(LocalConfig {
        id: OriginId::new("local").unwrap(),
        root: root.to_owned(),
        identity: None,
        installation: [7; 16],
        excluded: vec![root.join("mnt")],
    })
}

fn mounted(root: &Path) -> MountedOrigin {
    MountedOrigin::new(MountedConfig {
        excluded: vec![root.join("mnt")],
        ..config("plain", root)
    })
}

#[tokio::test]
async fn a_listing_is_the_local_one() {
    let base = tempfile::tempdir().unwrap();
    let root = base.path().join("root");
    for number in 0..40 {
        put(&root, &format!("artist {}/{number}.flac", number % 7), "x");
    }
    put(&root, "a/b/c/d/deep.mp3", "deep");
    put(&root, "mnt/own.mp3", "own");
    put(&root, ".hidden/x.mp3", "x");
    put(base.path(), "out.mp3", "x");
    symlink("a/b", root.join("link")).unwrap();
    symlink("../out.mp3", root.join("out.mp3")).unwrap();
    let (local, mounted) = (local(&root), mounted(&root));
    for (under, depth) in [("", Depth::All), ("a/b", Depth::All), ("", Depth::One)] {
        let expect = collect(local.list(&path(under), depth)).await.unwrap();
        let got = collect(mounted.list(&path(under), depth)).await.unwrap();
        assert_eq!(got, expect, "{under:?}");
        assert!(expect.iter().all(|listing| listing.device.is_some()));
    }
    for under in ["gone", "mnt", ".hidden"] {
        let error = collect(mounted.list(&path(under), Depth::All)).await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::NotFound, "{under}");
    }
}

#[tokio::test]
async fn a_listing_that_ended_stays_ended() {
    let base = tempfile::tempdir().unwrap();
    put(base.path(), "a/1.mp3", "x");
    let origin = mounted(base.path());
    let mut stream = origin.list(&path(""), Depth::One);
    assert!(stream.next().await.unwrap().is_some());
    assert!(stream.next().await.unwrap().is_none());
    assert!(stream.next().await.unwrap().is_none());
}

#[tokio::test]
async fn a_file_is_read_in_any_range() {
    let base = tempfile::tempdir().unwrap();
    let content = counted(1_000_003);
    put(base.path(), "a/f.flac", &content);
    let origin = mounted(base.path());
    let name = path("a/f.flac");
    let file = origin.open(&name, &any_version()).await.unwrap();
    assert_eq!(file.version().size, 1_000_003);
    assert!(file.is_unchanged() && file.as_fd().is_none());
    let listings = collect(origin.list(&path("a"), Depth::One)).await.unwrap();
    assert_eq!(listings[0].files[0].version, *file.version());
    for (offset, len) in [
        (0, usize::MAX),
        (3, 4),
        (262_143, 2),
        (1_000_000, 100),
        (1_000_003, 1),
        (u64::MAX, usize::MAX),
        (5, 0),
    ] {
        let start = usize::try_from(offset).unwrap().min(content.len());
        let end = start.saturating_add(len).min(content.len());
        let bytes = file.read_at(offset, len).await.unwrap();
        assert!(bytes == content[start..end], "{offset}+{len}");
    }
    let mut stream = file.stream(1..1_000_003);
    let mut pieces = Vec::new();
    while let Some(piece) = stream.next().await.unwrap() {
        pieces.push(piece);
    }
    assert!(pieces.concat() == content[1..]);
    let lens: Vec<_> = pieces.iter().map(bytes::Bytes::len).collect();
    assert_eq!(lens, [262_144, 262_144, 262_144, 213_570]);
}

#[tokio::test]
async fn a_file_changed_in_place_gives_no_byte() {
    let base = tempfile::tempdir().unwrap();
    let name = put(base.path(), "f.flac", "old");
    let origin = mounted(base.path());
    for (size, age_s) in [(4, 0), (2, 0), (2, 60)] {
        let file = origin.open(&path("f.flac"), &any_version()).await.unwrap();
        let writer = std::fs::OpenOptions::new().write(true).open(&name).unwrap();
        writer.set_len(size).unwrap();
        let modified = SystemTime::now() - Duration::from_secs(age_s);
        writer.set_modified(modified).unwrap();
        let error = file.read_at(0, 1).await.unwrap_err();
        assert!(matches!(error, OriginError::Changed { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_change_ends_a_stream_under_way() {
    let base = tempfile::tempdir().unwrap();
    let name = put(base.path(), "f.flac", counted(2_000_000));
    let origin = mounted(base.path());
    let file = origin.open(&path("f.flac"), &any_version()).await.unwrap();
    let mut stream = file.stream(0..2_000_000);
    assert!(stream.next().await.unwrap().is_some());
    let writer = std::fs::OpenOptions::new().write(true).open(&name).unwrap();
    writer.set_len(5).unwrap();
    let error = loop {
        match stream.next().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a file cut short was read to its end"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, OriginError::Changed { .. }), "{error:?}");
}

#[tokio::test]
async fn paths_mean_what_they_mean_locally() {
    let base = tempfile::tempdir().unwrap();
    let root = base.path().join("root");
    put(&root, "dir/f.mp3", "inside");
    put(base.path(), "secret", "x");
    symlink("../secret", root.join("out")).unwrap();
    symlink("dir/f.mp3", root.join("link")).unwrap();
    let origin = mounted(&root);
    for (name, kind) in [
        ("out", ErrorKind::Denied),
        ("dir", ErrorKind::NotFound),
        ("gone", ErrorKind::NotFound),
    ] {
        let opened = origin.open(&path(name), &any_version()).await;
        assert_eq!(opened.err().unwrap().kind(), kind, "{name}");
    }
    let file = origin.open(&path("link"), &any_version()).await.unwrap();
    assert_eq!(file.read_at(0, 100).await.unwrap(), "inside");
}

#[tokio::test]
async fn the_key_is_known_once_the_share_has_answered() {
    let base = tempfile::tempdir().unwrap();
    let root = base.path().join("share");
    let origin = mounted(&root);
    assert_eq!(origin.kind(), OriginKind::Nfs);
    assert_eq!(origin.display_name(), root.display().to_string());
    assert!(origin.watch().unwrap().is_none());
    let error = origin.check().await.unwrap_err();
    assert!(
        matches!(error, OriginError::RootMissing { .. }),
        "{error:?}"
    );
    assert_eq!(origin.key(), None);
    std::fs::create_dir(&root).unwrap();
    origin.check().await.unwrap();
    assert_eq!(origin.key(), local(&root).key());

    let named = MountedOrigin::new(MountedConfig {
        identity: Some("nas".to_owned()),
        ..config("named", &base.path().join("gone"))
    });
    assert_eq!(named.key(), Some(OriginKey(b"nas"[..].into())));
}
