//! How much of the server is used at once, and that it is given back.

use std::time::Duration;

use futures_like::poll_once;
use musicfs_core::origin::{Depth, Origin};
use musicfs_origins::SftpOrigin;

use crate::server::Server;
use crate::{any_version, open, path, read_all, until};

/// As many files as one connection keeps open.
const HANDLES_MAX: usize = 64;

mod futures_like {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    /// Polls a future a single time.
    pub(super) fn poll_once<T>(future: Pin<&mut (impl Future<Output = T> + ?Sized)>) -> Poll<T> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }
}

#[tokio::test]
async fn files_nobody_reads_are_closed_for_others() {
    let server = Server::start();
    let origin = server.origin();
    let mut files = Vec::new();
    for number in 0..3 * HANDLES_MAX {
        let name = format!("song {number}");
        server.put(&name, &name);
        files.push(open(&origin, &name).await.unwrap());
    }
    assert!(server.open_count() <= HANDLES_MAX);
    for _ in 0..2 {
        for (number, file) in files.iter().enumerate() {
            let read = read_all(&**file).await.unwrap();
            assert!(read == format!("song {number}").as_bytes(), "{number}");
        }
    }
    assert!(server.open_count() <= HANDLES_MAX);
    assert_eq!(server.connections_count(), 1);
    drop(files);
    until("all is closed", || server.open_count() == 0).await;
}

#[tokio::test]
async fn files_in_use_at_once_wait_for_each_other() {
    let server = Server::start();
    let origin = std::sync::Arc::new(server.origin());
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..6 * HANDLES_MAX {
        let name = format!("song {number}");
        server.put(&name, &name);
        let origin = std::sync::Arc::clone(&origin);
        tasks.spawn(async move { (open(&origin, &name).await.unwrap(), name) });
    }
    let mut files = Vec::new();
    while let Some(opened) = tasks.join_next().await {
        files.push(opened.unwrap());
    }
    let mut tasks = tokio::task::JoinSet::new();
    for (file, name) in files.drain(..) {
        tasks.spawn(async move {
            assert!(read_all(&*file).await.unwrap() == name.as_bytes());
            file
        });
    }
    let mut files = Vec::new();
    while let Some(file) = tasks.join_next().await {
        files.push(file.unwrap());
    }
    assert!(server.connections_count() <= 4);
    assert!(server.open_count() <= 4 * HANDLES_MAX);
    drop(files);
    until("all is closed", || server.open_count() == 0).await;
}

#[tokio::test]
async fn what_nobody_waits_for_is_closed_all_the_same() {
    let server = Server::start();
    server.put("song", "x");
    for number in 0..20 {
        server.put(&format!("{number}/song"), "x");
    }
    let origin = server.origin();
    origin.check().await.unwrap();
    let (song, version) = (path("song"), any_version());
    for _ in 0..3 * HANDLES_MAX {
        let mut opening = origin.open(&song, &version);
        // The request is on its way after the first poll.
        assert!(poll_once(opening.as_mut()).is_pending());
        tokio::task::yield_now().await;
        drop(opening);
        let mut listing = origin.list(&path(""), Depth::All);
        assert!(poll_once(listing.next().as_mut()).is_pending());
        tokio::task::yield_now().await;
    }
    let file = open(&origin, "song").await.unwrap();
    until("all is closed but one", || server.open_count() == 1).await;
    drop(file);
}

#[tokio::test]
async fn connections_end_with_their_origin() {
    let server = Server::start();
    server.put("song", "x");
    let origin = server.origin();
    let file = open(&origin, "song").await.unwrap();
    assert_eq!(server.connections_count(), 1);
    drop(file);
    drop(origin);
    until("the connection ends", || server.connections_count() == 0).await;
}

#[tokio::test]
async fn a_connection_nobody_uses_is_closed_and_made_again() {
    let server = Server::start();
    server.put("song", "content");
    let origin = SftpOrigin::with_patience(server.config(), Duration::from_secs(2));
    let file = open(&origin, "song").await.unwrap();
    until("the connection ends", || server.connections_count() == 0).await;
    assert_eq!(read_all(&*file).await.unwrap(), b"content"[..]);
    origin.check().await.unwrap();
    assert_eq!(server.connections_count(), 1);
}
