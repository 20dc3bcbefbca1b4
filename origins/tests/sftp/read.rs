//! What is read, and that it is of one version.

use std::os::unix::fs::{FileExt, symlink};

use musicfs_core::origin::{Origin, OriginError, OriginFile, PIECE_BYTES_MAX};

use crate::server::Server;
use crate::{noise, open, path, read_all, set_mtime, version};

#[tokio::test]
async fn every_byte_is_right() {
    let server = Server::start();
    let content = noise(3 << 20, 1);
    server.put("song", &content);
    server.put("empty", "");
    let origin = server.origin();
    let file = open(&origin, "song").await.unwrap();
    assert_eq!(*file.version(), version(3 << 20, 1_000));
    assert!(file.is_unchanged() && file.as_fd().is_none());
    assert!(read_all(&*file).await.unwrap() == content);
    for (offset, len) in [
        (0, 1),
        (1, 65_536),
        (65_535, 65_537),
        (100, 300_000),
        (3 << 19, 1 << 20),
        ((3 << 20) - 1, 1),
        ((3 << 20) - 10, 100),
        (3 << 20, 10),
        (1 << 40, 10),
    ] {
        let start = content.len().min(offset);
        let end = content.len().min(offset + len);
        let read = file.read_at(offset as u64, len).await.unwrap();
        assert!(read == content[start..end], "{offset} {len}");
    }
    let empty = open(&origin, "empty").await.unwrap();
    assert_eq!(*empty.version(), version(0, 1_000));
    assert!(empty.read_at(0, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn pieces_come_in_order_and_are_bounded() {
    let server = Server::start();
    let content = noise((9 << 20) + 77, 2);
    server.put("song", &content);
    let origin = server.origin();
    let file = open(&origin, "song").await.unwrap();
    let mut stream = file.stream(5..content.len() as u64 - 5);
    let mut read = Vec::new();
    let mut first = None;
    while let Some(piece) = stream.next().await.unwrap() {
        assert!((1..=PIECE_BYTES_MAX).contains(&piece.len()));
        first.get_or_insert(piece.len());
        read.extend_from_slice(&piece);
    }
    assert!(read == content[5..content.len() - 5]);
    assert_eq!(first, Some(64 << 10));
    assert!(stream.next().await.unwrap().is_none());
}

#[tokio::test]
async fn streams_that_are_dropped_leave_the_connection_usable() {
    let server = Server::start();
    let content = noise(8 << 20, 3);
    server.put("song", &content);
    let origin = server.origin();
    let file = open(&origin, "song").await.unwrap();
    for _ in 0..20 {
        let mut stream = file.stream(0..8 << 20);
        assert!(stream.next().await.unwrap().is_some());
    }
    assert!(file.read_at(4 << 20, 100).await.unwrap() == content[4 << 20..][..100]);
    assert_eq!(server.connections_count(), 1);
}

#[tokio::test]
async fn many_streams_at_once_each_get_their_own_bytes() {
    let server = Server::start();
    let contents: Vec<_> = (0..12).map(|seed| noise(1 << 20, seed)).collect();
    for (number, content) in contents.iter().enumerate() {
        server.put(&number.to_string(), content);
    }
    let origin = std::sync::Arc::new(server.origin());
    let mut tasks = tokio::task::JoinSet::new();
    for (number, content) in contents.into_iter().enumerate() {
        let origin = std::sync::Arc::clone(&origin);
        tasks.spawn(async move {
            let file = open(&origin, &number.to_string()).await.unwrap();
            for _ in 0..3 {
                assert!(read_all(&*file).await.unwrap() == content, "{number}");
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert!((1..=4).contains(&server.connections_count()));
}

/// Asserts that not one byte of `file` can be read any more.
async fn assert_changed(file: &dyn OriginFile) {
    let mut stream = file.stream(0..file.version().size);
    for _ in 0..2 {
        let read = stream.next().await;
        assert!(matches!(read, Err(OriginError::Changed { .. })), "{read:?}");
    }
    let read = file.read_at(1, 10).await;
    assert!(matches!(read, Err(OriginError::Changed { .. })), "{read:?}");
}

#[tokio::test]
async fn a_file_written_in_place_gives_no_byte() {
    let server = Server::start();
    let song = server.put("song", noise(1 << 20, 4));
    let origin = server.origin();
    let file = open(&origin, "song").await.unwrap();
    let writer = std::fs::File::options().write(true).open(&song).unwrap();
    writer.write_all_at(b"other", 1 << 19).unwrap();
    set_mtime(&song, 2_000);
    assert_changed(&*file).await;
    // What is there now can be opened, whatever was expected.
    let now = origin.open(&path("song"), file.version()).await.unwrap();
    assert_eq!(*now.version(), version(1 << 20, 2_000));
    assert!(now.read_at(1 << 19, 5).await.unwrap() == b"other"[..]);
}

#[tokio::test]
async fn a_file_that_shrank_or_grew_gives_no_byte() {
    let server = Server::start();
    let song = server.put("song", noise(1 << 20, 5));
    let origin = server.origin();
    for len in [1 << 19, 1 << 21] {
        let file = open(&origin, "song").await.unwrap();
        let writer = std::fs::File::options().write(true).open(&song).unwrap();
        writer.set_len(len).unwrap();
        // Only the size tells.
        set_mtime(&song, 1_000);
        assert_changed(&*file).await;
    }
}

#[tokio::test]
async fn a_change_in_mid_stream_ends_it() {
    let server = Server::start();
    let content = noise(32 << 20, 6);
    let song = server.put("song", &content);
    let origin = server.origin();
    let file = open(&origin, "song").await.unwrap();
    let mut stream = file.stream(0..32 << 20);
    let mut len = stream.next().await.unwrap().unwrap().len();
    // Everything behind what is asked for ahead is other content now.
    let writer = std::fs::File::options().write(true).open(&song).unwrap();
    writer.write_all_at(&noise(16 << 20, 7), 16 << 20).unwrap();
    set_mtime(&song, 2_000);
    let error = loop {
        match stream.next().await {
            Ok(Some(piece)) => {
                assert!(piece == content[len..len + piece.len()]);
                len += piece.len();
            }
            Ok(None) => panic!("the stream does not end"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, OriginError::Changed { .. }), "{error:?}");
    assert!(len <= 16 << 20);
}

#[tokio::test]
async fn a_replaced_file_is_read_as_it_was_or_not_at_all() {
    let mut server = Server::start();
    let content = noise(1 << 20, 8);
    server.put("song", &content);
    let origin = server.origin();
    let file = open(&origin, "song").await.unwrap();
    server.put("new", noise(1 << 20, 9));
    set_mtime(&server.music("new"), 2_000);
    std::fs::rename(server.music("new"), server.music("song")).unwrap();
    // The handle is still that of the old file.
    assert!(read_all(&*file).await.unwrap() == content);
    server.kill();
    server.restart();
    assert_changed(&*file).await;
    std::fs::remove_file(server.music("song")).unwrap();
    assert_changed(&*file).await;
}

#[tokio::test]
async fn nothing_outside_the_root_is_opened() {
    let server = Server::start();
    server.put("dir/song", "12345");
    std::fs::write(server.file("secret"), "x").unwrap();
    std::fs::create_dir(server.file("music2")).unwrap();
    std::fs::write(server.file("music2/secret"), "x").unwrap();
    symlink("../secret", server.music("out")).unwrap();
    symlink("..", server.music("up")).unwrap();
    symlink("../music2/secret", server.music("neighbour")).unwrap();
    symlink("dir", server.music("in")).unwrap();
    let origin = server.origin();
    for name in ["out", "up/secret", "neighbour"] {
        let opened = open(&origin, name).await.map(drop);
        assert!(
            matches!(opened, Err(OriginError::OutsideRoot { .. })),
            "{name}: {opened:?}"
        );
    }
    for name in ["dir", "gone", "gone/too", "dir/song/x"] {
        let opened = open(&origin, name).await.map(drop);
        assert!(
            matches!(opened, Err(OriginError::NotFound { .. })),
            "{name}: {opened:?}"
        );
    }
    let file = open(&origin, "in/song").await.unwrap();
    assert_eq!(read_all(&*file).await.unwrap(), b"12345"[..]);
    crate::until("all is closed but one", || server.open_count() == 1).await;
}
