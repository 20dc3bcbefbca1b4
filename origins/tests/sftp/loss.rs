//! What happens when the server goes away.

use std::time::Duration;

use musicfs_core::error::ErrorKind;
use musicfs_core::origin::{Depth, Origin, OriginError};
use musicfs_origins::SftpOrigin;
use rustix::process::Signal;

use crate::server::Server;
use crate::{list_all, listings, noise, open, path, read_all};

#[tokio::test]
async fn a_server_killed_in_mid_read_is_an_error_and_is_found_again() {
    let mut server = Server::start();
    let content = noise(48 << 20, 1);
    server.put("song", &content);
    let origin = server.origin();
    let file = open(&origin, "song").await.unwrap();
    let mut stream = file.stream(0..48 << 20);
    let mut len = stream.next().await.unwrap().unwrap().len();
    server.kill();
    let error = loop {
        match stream.next().await {
            Ok(Some(piece)) => {
                assert!(piece == content[len..len + piece.len()]);
                len += piece.len();
            }
            Ok(None) => panic!("all came from a dead server"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    drop(stream);
    assert!(read_all(&*file).await.is_err());
    assert!(origin.check().await.is_err());
    assert!(listings(origin.list(&path(""), Depth::All)).await.is_err());
    server.restart();
    assert!(read_all(&*file).await.unwrap() == content);
    origin.check().await.unwrap();
}

#[tokio::test]
async fn a_connection_that_died_unnoticed_is_no_error() {
    let mut server = Server::start();
    server.put("song", "content");
    let origin = server.origin();
    let file = open(&origin, "song").await.unwrap();
    for _ in 0..3 {
        server.kill();
        server.restart();
        // Nothing has run on this thread's runtime since: the loss is found by the request.
        assert_eq!(read_all(&*file).await.unwrap(), b"content"[..]);
        server.kill();
        server.restart();
        assert_eq!(list_all(&origin).await.len(), 1);
        server.kill();
        server.restart();
        assert!(open(&origin, "song").await.is_ok());
        server.kill();
        server.restart();
        origin.check().await.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up() {
    let server = Server::start();
    server.put("song", noise(8 << 20, 2));
    // A handshake takes that long on a machine that has much else to do.
    let patience = Duration::from_secs(5);
    let origin = SftpOrigin::with_patience(server.config(), patience);
    let file = open(&origin, "song").await.unwrap();
    let mut stream = file.stream(0..8 << 20);
    assert!(stream.next().await.unwrap().is_some());
    server.signal(Signal::STOP);
    let error = loop {
        match stream.next().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("all came from a server that hangs"),
            Err(error) => break error,
        }
    };
    let timed_out = |error: &OriginError| matches!(error, OriginError::TimedOut { after, .. } if *after == patience);
    assert!(timed_out(&error), "{error:?}");
    // Neither does it answer to a new connection.
    let error = origin.check().await.unwrap_err();
    assert!(timed_out(&error), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    server.signal(Signal::CONT);
    assert_eq!(file.read_at(0, 10).await.unwrap().len(), 10);
}
