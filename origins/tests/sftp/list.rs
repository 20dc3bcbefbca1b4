//! What a listing shows.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};

use musicfs_core::origin::{Depth, DirListing, Origin, OriginError};
use musicfs_origins::{SftpConfig, SftpOrigin};

use crate::server::Server;
use crate::{list_all, listings, path, version};

/// The paths of all files.
fn files(listings: &[DirListing]) -> Vec<String> {
    let mut paths = Vec::new();
    for listing in listings {
        for file in &listing.files {
            paths.push(listing.path.join(&file.name).unwrap().to_string());
        }
    }
    paths.sort();
    paths
}

fn dir<'a>(listings: &'a [DirListing], name: &str) -> &'a DirListing {
    listings
        .iter()
        .find(|listing| listing.path == path(name))
        .unwrap()
}

#[tokio::test]
async fn a_tree_is_listed_with_versions_and_modes() {
    let server = Server::start();
    let song = server.put("a/b/song.flac", "12345");
    std::fs::set_permissions(&song, std::fs::Permissions::from_mode(0o640)).unwrap();
    server.put("top.mp3", "1");
    std::fs::create_dir(server.music("empty")).unwrap();
    let origin = server.origin();
    let all = list_all(&origin).await;
    assert_eq!(files(&all), ["a/b/song.flac", "top.mp3"]);
    assert_eq!(all.len(), 4);
    assert!(all.iter().all(|listing| listing.complete));
    let file = &dir(&all, "a/b").files[0];
    assert_eq!(file.version, version(5, 1_000));
    assert_eq!(
        (file.mtime_ns, file.mode, file.identity),
        (1_000_000_000_000, 0o440, None)
    );
    let mut dirs = dir(&all, "").dirs.clone();
    dirs.sort();
    assert_eq!(dirs, [b"a".to_vec(), b"empty".to_vec()]);

    let one = listings(origin.list(&path("a"), Depth::One)).await.unwrap();
    assert_eq!((one.len(), one[0].path.clone()), (1, path("a")));
    assert_eq!(one[0].dirs, [b"b"]);
}

#[tokio::test]
async fn a_directory_with_many_entries_is_listed_whole() {
    let server = Server::start();
    let mut expect = Vec::new();
    for number in 0..2500 {
        let name = format!("many/{number:04} song.flac");
        server.put(&name, "x");
        expect.push(name);
    }
    for number in 0..300 {
        let name = format!("deep/{number:03}/x.flac");
        server.put(&name, "x");
        expect.push(name);
    }
    expect.sort();
    assert_eq!(files(&list_all(&server.origin()).await), expect);
}

#[tokio::test]
async fn names_are_bytes() {
    let server = Server::start();
    let names: [&[u8]; 5] = [
        b"latin-\xe9\xff.mp3",
        b"new\nline.mp3",
        b" spaces ",
        b"-rf *?[]\\",
        "日本.flac".as_bytes(),
    ];
    std::fs::create_dir(server.music("d\u{e9}")).unwrap();
    for name in names {
        let file = server.music("d\u{e9}").join(OsStr::from_bytes(name));
        std::fs::write(file, name).unwrap();
    }
    let origin = server.origin();
    let all = list_all(&origin).await;
    let listing = dir(&all, "d\u{e9}");
    let mut listed: Vec<&[u8]> = listing.files.iter().map(|file| &*file.name).collect();
    listed.sort_unstable();
    let mut expect = names;
    expect.sort_unstable();
    assert_eq!(listed, expect);
    for name in names {
        let path = listing.path.join(name).unwrap();
        let file = origin.open(&path, &crate::any_version()).await.unwrap();
        assert_eq!(crate::read_all(&*file).await.unwrap(), name);
    }
}

#[tokio::test]
async fn what_no_listing_shows_is_left_out() {
    let server = Server::start();
    for name in [".hidden", "back~", "lost+found/x", ".git/x", "@eaDir/x"] {
        server.put(name, "x");
    }
    server.put("song", "x");
    let fifo = std::process::Command::new("mkfifo")
        .arg(server.music("fifo"))
        .status();
    assert!(fifo.unwrap().success());
    let origin = server.origin();
    let all = list_all(&origin).await;
    assert_eq!((files(&all), all.len()), (vec!["song".to_owned()], 1));
    for name in ["lost+found", ".git", "gone", "song", "song/x"] {
        let listed = listings(origin.list(&path(name), Depth::All)).await;
        assert!(
            matches!(listed, Err(OriginError::NotFound { .. })),
            "{name}: {listed:?}"
        );
    }
}

#[tokio::test]
async fn links_are_followed_inside_the_root_only() {
    let server = Server::start();
    server.put("albums/one/song", "12345");
    std::fs::create_dir(server.file("outside")).unwrap();
    std::fs::write(server.file("outside/secret"), "x").unwrap();
    // A neighbour whose name begins like the root's.
    std::fs::create_dir(server.file("music2")).unwrap();
    std::fs::write(server.file("music2/secret"), "x").unwrap();
    let link = |target: &str, name: &str| symlink(target, server.music(name)).unwrap();
    std::fs::create_dir(server.music("links")).unwrap();
    link("../albums/one", "links/album");
    link("../albums/one/song", "links/song");
    link("../../outside", "links/out");
    link("../../outside/secret", "links/secret");
    link("../../music2", "links/neighbour");
    link("../../music2/secret", "links/neighbours");
    link("nothing", "links/dangling");
    link("circle", "links/circle");
    link("..", "links/up");
    link(".", "links/self");
    link("../../links", "albums/one/back");
    let origin = server.origin();
    let all = list_all(&origin).await;
    assert_eq!(
        files(&all),
        [
            "albums/one/back/song",
            "albums/one/song",
            "links/album/song",
            "links/song"
        ]
    );
    assert_eq!(dir(&all, "links").dirs, [b"album"]);
    assert_eq!(dir(&all, "links").files[0].version, version(5, 1_000));
    assert!(all.iter().all(|listing| listing.complete));

    let through = listings(origin.list(&path("links/album"), Depth::All)).await;
    assert_eq!(files(&through.unwrap()), ["links/album/song"]);
    let outside = listings(origin.list(&path("links/out"), Depth::All)).await;
    assert!(matches!(outside, Err(OriginError::OutsideRoot { .. })));
}

#[tokio::test]
async fn a_directory_that_may_not_be_read_is_incomplete() {
    let server = Server::start();
    server.put("open/song", "x");
    server.put("closed/song", "x");
    let closed = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(server.music("closed"), closed).unwrap();
    let origin = SftpOrigin::new(SftpConfig {
        user: "nobody".into(),
        ..server.config()
    });
    let all = list_all(&origin).await;
    assert_eq!(files(&all), ["open/song"]);
    assert!(!dir(&all, "closed").complete);
    assert!(dir(&all, "").complete && dir(&all, "open").complete);
    let closed = listings(origin.list(&path("closed"), Depth::All)).await;
    assert!(!closed.unwrap()[0].complete);
    let refused = crate::open(&origin, "closed/song").await;
    assert!(matches!(refused, Err(OriginError::Refused { .. })));
}

#[tokio::test]
async fn a_root_that_went_away_is_no_empty_one() {
    let server = Server::start();
    server.put("root/song", "x");
    let origin = SftpOrigin::new(SftpConfig {
        root: server.music("root").to_str().unwrap().into(),
        ..server.config()
    });
    assert_eq!(files(&list_all(&origin).await), ["song"]);
    std::fs::remove_dir_all(server.music("root")).unwrap();
    let listed = listings(origin.list(&path(""), Depth::All)).await;
    assert!(matches!(listed, Err(OriginError::RootMissing { .. })));
}
