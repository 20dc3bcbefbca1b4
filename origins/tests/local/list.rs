//! Listings of messy trees.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;

use musicfs_core::error::ErrorKind;
use musicfs_core::version::{ContentVersion, Validator};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::{CWD, FileType, Mode};
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

use super::*;

fn fifo(file: &Path) {
    rustix::fs::mknodat(CWD, file, FileType::Fifo, Mode::from(0o644), 0).unwrap();
}

#[tokio::test]
async fn only_files_that_can_be_music_are_listed() {
    let base = tempfile::tempdir().unwrap();
    let root = base.path();
    for name in ["a.flac", "artist/album/1.mp3", "artist/album/cover.jpg"] {
        put(root, name, "x");
    }
    for name in [
        ".hidden",
        "a.flac~",
        ".git/config",
        "lost+found/1",
        "$RECYCLE.BIN/b.mp3",
        "System Volume Information/c.mp3",
        "artist/@eaDir/thumb.jpg",
    ] {
        put(root, name, "x");
    }
    fifo(&root.join("fifo.flac"));
    let _socket = UnixListener::bind(root.join("socket.flac")).unwrap();
    let raw_name = OsStr::from_bytes(b"caf\xe9.flac");
    std::fs::write(root.join(raw_name), "x").unwrap();

    let listings = list_all(&origin(root)).await;
    assert_eq!(
        files(&listings),
        [
            "a.flac",
            "artist/album/1.mp3",
            "artist/album/cover.jpg",
            "caf\u{fffd}.flac"
        ]
    );
    assert_eq!(listings[0].files[1].name, b"caf\xe9.flac");
    assert!(listings.iter().all(|listing| listing.complete));
    let dirs: Vec<_> = listings
        .iter()
        .map(|listing| listing.path.to_string())
        .collect();
    assert_eq!(dirs, ["", "artist", "artist/album"]);
    assert_eq!(listings[0].dirs, [b"artist".to_vec()]);
}

#[tokio::test]
async fn a_listed_file_says_what_stat_says() {
    let base = tempfile::tempdir().unwrap();
    let file = put(base.path(), "a.flac", "four");
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o640)).unwrap();
    let stat = std::fs::metadata(&file).unwrap();
    let mtime_ns = stat.mtime() * 1_000_000_000 + stat.mtime_nsec();
    let listings = list_all(&origin(base.path())).await;
    let listed = &listings[0].files[0];
    let validator = Validator::Mtime(mtime_ns);
    assert_eq!(listed.version, ContentVersion { size: 4, validator });
    assert_eq!((listed.mtime_ns, listed.mode), (mtime_ns, 0o440));
    let identity = listed.identity.unwrap();
    assert_eq!((identity.device, identity.inode), (stat.dev(), stat.ino()));
    assert_eq!(listings[0].device, Some(stat.dev()));
}

#[tokio::test]
async fn links_are_followed_inside_the_root_only_and_once() {
    let base = tempfile::tempdir().unwrap();
    let root = base.path().join("root");
    put(&root, "real/album/1.flac", "x");
    put(base.path(), "outside/2.flac", "x");
    std::fs::create_dir_all(root.join("links")).unwrap();
    for (target, name) in [
        ("../real/album/1.flac", "links/file.flac"),
        ("../real", "links/dir"),
        ("../../outside", "links/out"),
        ("../../outside/2.flac", "links/out.flac"),
        ("nowhere", "links/dangling"),
        ("..", "links/up"),
        (".", "links/self"),
        ("circle", "links/circle"),
        // Below links/dir this is a link below a link.
        ("../../links", "real/album/back"),
    ] {
        symlink(target, root.join(name)).unwrap();
    }
    symlink(root.join("real/album"), root.join("absolute")).unwrap();

    let listings = list_all(&origin(&root)).await;
    assert_eq!(
        files(&listings),
        [
            "absolute/1.flac",
            "links/dir/album/1.flac",
            "links/file.flac",
            "real/album/1.flac",
            "real/album/back/file.flac",
        ]
    );
    assert!(listings.iter().all(|listing| listing.complete));
    let of_link = listings
        .iter()
        .find(|listing| listing.path == path("links"));
    let of_target = listings
        .iter()
        .find(|listing| listing.path == path("real/album"));
    let (of_link, of_target) = (of_link.unwrap(), of_target.unwrap());
    assert_eq!(of_link.files[0].version, of_target.files[0].version);
    assert_eq!(of_link.dirs, [b"dir".to_vec()]);

    // What lies behind a link can be asked for by its own path.
    let below = origin(&root).list(&path("links/dir/album"), Depth::All);
    assert_eq!(
        files(&collect(below).await.unwrap()),
        ["links/dir/album/1.flac"]
    );
}

#[tokio::test]
async fn depth_one_lists_one_directory() {
    let base = tempfile::tempdir().unwrap();
    put(base.path(), "a/1.flac", "x");
    put(base.path(), "a/b/2.flac", "x");
    let origin = origin(base.path());
    let listings = collect(origin.list(&path("a"), Depth::One)).await.unwrap();
    assert_eq!(files(&listings), ["a/1.flac"]);
    assert_eq!(listings[0].dirs, [b"b".to_vec()]);
    for missing in ["nothing", "a/1.flac", ".hidden"] {
        let error = collect(origin.list(&path(missing), Depth::All))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{missing}");
    }
}

#[tokio::test]
async fn a_wide_and_deep_tree_is_listed_whole() {
    let base = tempfile::tempdir().unwrap();
    for artist in 0..20 {
        for album in 0..20 {
            put(base.path(), &format!("{artist}/{album}/disc/1.flac"), "x");
        }
    }
    let listings = list_all(&origin(base.path())).await;
    assert_eq!(files(&listings).len(), 400);
    assert_eq!(listings.len(), 1 + 20 + 400 + 400);
}

#[tokio::test]
async fn the_mount_point_is_never_touched() {
    let base = tempfile::tempdir().unwrap();
    let mount = base.path().join("deep/mnt");
    put(base.path(), "deep/mnt/album/1.flac", "x");
    put(base.path(), "deep/2.flac", "x");
    symlink("deep/mnt/album", base.path().join("link")).unwrap();
    symlink("deep/mnt/album/1.flac", base.path().join("link.flac")).unwrap();
    let guard = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
    inotify::add_watch(&guard, &mount, WatchFlags::ALL_EVENTS).unwrap();

    // Named through a link, as a user may.
    let alias = base.path().join("alias");
    symlink(base.path().join("deep"), &alias).unwrap();
    let mut config = config(base.path());
    config.excluded = vec![alias.join("mnt")];
    let origin = LocalOrigin::open(config).unwrap();
    let listings = list_all(&origin).await;
    assert_eq!(files(&listings), ["alias/2.flac", "deep/2.flac"]);
    for inside in ["deep/mnt/album/1.flac", "link.flac"] {
        let error = origin
            .open(&path(inside), &any_version())
            .await
            .err()
            .unwrap();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{inside}");
    }
    let error = collect(origin.list(&path("link"), Depth::All))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);

    let mut buffer = Vec::with_capacity(4096);
    let mut events = inotify::Reader::new(&guard, buffer.spare_capacity_mut());
    assert_eq!(events.next().err(), Some(Errno::AGAIN));
}

#[tokio::test]
async fn a_missing_root_is_an_error_until_it_comes_back() {
    let base = tempfile::tempdir().unwrap();
    let root = base.path().join("disk");
    assert!(LocalOrigin::open(config(&root)).is_err());
    let origin = LocalOrigin::new(config(&root));
    let reason = async || match origin.check().await {
        Err(OriginError::RootMissing { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(reason().await, "no such directory");
    std::fs::write(&root, "a file").unwrap();
    assert_eq!(reason().await, "not a directory");
    let listed = collect(origin.list(&path(""), Depth::All)).await;
    assert!(matches!(listed, Err(OriginError::RootMissing { .. })));
    std::fs::remove_file(&root).unwrap();

    put(&root, "1.flac", "x");
    origin.check().await.unwrap();
    assert_eq!(files(&list_all(&origin).await), ["1.flac"]);
}

#[tokio::test]
async fn the_key_names_the_place_or_what_the_user_said() {
    let base = tempfile::tempdir().unwrap();
    let real = base.path().canonicalize().unwrap();
    let link = base.path().join("link");
    std::fs::create_dir(base.path().join("music")).unwrap();
    symlink("music", &link).unwrap();
    let expected = [
        &[7; 16],
        &b"\0"[..],
        real.join("music").as_os_str().as_bytes(),
    ]
    .concat();
    assert_eq!(*origin(&link).key().unwrap().0, expected);
    // A disk that is away is still the same place.
    std::fs::remove_dir(base.path().join("music")).unwrap();
    assert_eq!(*LocalOrigin::new(config(&link)).key().unwrap().0, expected);
    let mut config = config(&link);
    config.identity = Some("nas".to_owned());
    assert_eq!(*LocalOrigin::new(config).key().unwrap().0, *b"nas");
}

/// Root may read anything, so the walk runs in a thread that gives that right up.
#[test]
fn an_unreadable_directory_is_incomplete_and_the_rest_is_listed() {
    let base = tempfile::tempdir().unwrap();
    put(base.path(), "closed/1.flac", "x");
    put(base.path(), "open/2.flac", "x");
    let closed = base.path().join("closed");
    std::fs::set_permissions(&closed, PermissionsExt::from_mode(0o000)).unwrap();
    let root = base.path().to_owned();
    let without_rights = std::thread::spawn(move || {
        let mut sets = capabilities(None).unwrap();
        sets.effective -= CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
        set_capabilities(None, sets).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listings = list_all(&origin(&root)).await;
            let alone = origin(&root).list(&path("closed"), Depth::One);
            let alone = collect(alone).await.unwrap();
            let missing = LocalOrigin::new(config(&root.join("closed"))).check().await;
            (listings, alone, missing)
        })
    });
    let (listings, alone, missing) = without_rights.join().unwrap();
    assert_eq!(files(&listings), ["open/2.flac"]);
    let complete: Vec<_> = listings.iter().map(|listing| listing.complete).collect();
    assert_eq!(complete, [true, false, true]);
    assert!(!alone[0].complete);
    let Err(OriginError::RootMissing { reason, .. }) = missing else {
        panic!("{missing:?}");
    };
    assert_eq!(reason, "permission denied");
}
