//! Reading: ranges, and servers that send something else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use musicfs_core::error::ErrorKind;
use musicfs_core::origin::{PIECE_BYTES_MAX, collect};

use super::*;

/// Bytes that differ from their neighbours near and far.
fn content(len: usize) -> Vec<u8> {
    (0..len)
        .map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8)
        .collect()
}

/// The first and last byte that were asked for.
fn asked_range(asked: &Asked) -> (usize, usize) {
    let range = asked
        .header("range")
        .unwrap()
        .strip_prefix("bytes=")
        .unwrap();
    let (first, last) = range.split_once('-').unwrap();
    (first.parse().unwrap(), last.parse().unwrap())
}

/// The head of a right answer to a range.
fn partial(range: &str) -> Reply {
    Reply::new(206)
        .header("ETag", "\"tag-1\"")
        .header("Content-Range", range)
}

async fn read(
    server: &Server,
    size: u64,
    range: std::ops::Range<u64>,
) -> Result<Vec<u8>, OriginError> {
    let origin = origin(server);
    let file = origin
        .open(&path("a b/f.flac"), &version(size))
        .await
        .unwrap();
    collect(file.stream(range)).await.map(Vec::from)
}

/// The error of reading bytes 10 to 19 out of 100.
async fn read_error(reply: Reply) -> OriginError {
    let server = Server::always(reply).await;
    let error = read(&server, 100, 10..20).await.unwrap_err();
    told(&error);
    error
}

fn assert_malformed(error: &OriginError, expect: &str) {
    match error {
        OriginError::Malformed { what, .. } => assert_eq!(*what, expect),
        other => panic!("{other:?}"),
    }
}

async fn serve_content(bytes: Vec<u8>) -> Server {
    Server::start(move |asked| {
        let (first, last) = asked_range(asked);
        partial(&format!("bytes {first}-{last}/{}", bytes.len())).body(&bytes[first..=last])
    })
    .await
}

#[tokio::test]
async fn ranges_are_read_over_one_connection_with_conditions() {
    let bytes = content(3 << 20);
    let server = serve_content(bytes.clone()).await;
    let origin = origin(&server);
    let file = origin
        .open(&path("a b/f.flac"), &version(3 << 20))
        .await
        .unwrap();
    assert!(server.asked().is_empty(), "opening asks for nothing");
    for (offset, len) in [
        (0, 10),
        (100, 1),
        (5, 3 << 20),
        ((3 << 20) - 7, 100),
        (1 << 20, 65536),
    ] {
        let end = (offset + len).min(bytes.len());
        let got = file.read_at(offset as u64, len).await.unwrap();
        assert!(got == bytes[offset..end], "{offset}+{len}");
    }
    assert!(file.read_at(3 << 20, 5).await.unwrap().is_empty());
    assert!(file.read_at(u64::MAX, usize::MAX).await.unwrap().is_empty());
    let asked = server.asked();
    assert_eq!(asked.len(), 5, "nothing is asked for behind the end");
    for asked in asked {
        assert_eq!(asked.connection, 0, "the connection is kept");
        assert_eq!(asked.header("if-match"), Some("\"tag-1\""));
        assert!(
            asked.target.starts_with("/music/lib/a%20b/f.flac?"),
            "{}",
            asked.target
        );
    }
}

#[tokio::test]
async fn pieces_are_neither_empty_nor_too_large() {
    let bytes = content(5 << 20);
    let server = serve_content(bytes.clone()).await;
    let origin = origin(&server);
    let file = origin.open(&path("f"), &version(5 << 20)).await.unwrap();
    let mut stream = file.stream(1..5 << 20);
    let mut got = Vec::new();
    while let Some(piece) = stream.next().await.unwrap() {
        assert!(
            (1..=PIECE_BYTES_MAX).contains(&piece.len()),
            "{}",
            piece.len()
        );
        got.extend_from_slice(&piece);
    }
    assert!(got == bytes[1..]);
    assert!(stream.next().await.unwrap().is_none());
}

#[tokio::test]
async fn too_few_bytes_are_an_error_behind_those_that_came() {
    let short = partial("bytes 10-19/100").header("Content-Length", "10");
    let server = Server::always(short.raw_body("01234").then_close()).await;
    let origin = origin(&server);
    let file = origin.open(&path("f"), &version(100)).await.unwrap();
    let mut stream = file.stream(10..20);
    assert_eq!(stream.next().await.unwrap().unwrap(), "01234");
    let error = stream.next().await.unwrap_err();
    told(&error);
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(matches!(error, OriginError::Io { .. }), "{error:?}");
    assert!(stream.next().await.is_err(), "a broken stream has no end");

    // Ended as if that were all.
    let chunked = || partial("bytes 10-19/100").header("Transfer-Encoding", "chunked");
    let error = read_error(chunked().raw_body("5\r\n01234\r\n0\r\n\r\n")).await;
    assert_malformed(&error, "it has fewer bytes than announced");
    let error = read_error(partial("bytes 10-19/100").body("01234")).await;
    assert_malformed(&error, "its length is not that of its range");
}

#[tokio::test]
async fn too_many_bytes_are_an_error() {
    let error = read_error(partial("bytes 10-19/100").body("0123456789x")).await;
    assert_malformed(&error, "its length is not that of its range");
    let chunked = partial("bytes 10-19/100").header("Transfer-Encoding", "chunked");
    let error = read_error(chunked.raw_body("b\r\n0123456789x\r\n0\r\n\r\n")).await;
    assert_malformed(&error, "it has more bytes than announced");
}

#[tokio::test]
async fn a_body_without_a_length_is_counted() {
    let chunked = partial("bytes 10-19/100").header("Transfer-Encoding", "chunked");
    let reply = chunked.raw_body("4\r\n0123\r\n6\r\n456789\r\n0\r\n\r\n");
    let server = Server::always(reply).await;
    assert_eq!(read(&server, 100, 10..20).await.unwrap(), b"0123456789");
}

#[tokio::test]
async fn another_range_is_an_error() {
    for range in [
        "bytes 0-9/100",
        "bytes 10-19/99",
        "bytes 10-20/100",
        "nonsense",
    ] {
        let error = read_error(partial(range).body("0123456789")).await;
        assert_malformed(&error, "it is another range than was asked for");
    }
    let bare = Reply::new(206).header("ETag", "\"tag-1\"");
    let error = read_error(bare.body("0123456789")).await;
    assert_malformed(&error, "it is no range, and not the whole file");
}

#[tokio::test]
async fn a_whole_file_is_taken_for_a_range_if_it_is_the_right_one() {
    let bytes = content(100);
    let whole = Reply::new(200).header("ETag", "\"tag-1\"");
    let server = Server::always(whole.clone().body(bytes.clone())).await;
    assert_eq!(read(&server, 100, 10..20).await.unwrap(), bytes[10..20]);
    assert_eq!(read(&server, 100, 0..100).await.unwrap(), bytes);
    assert_eq!(read(&server, 100, 90..100).await.unwrap(), bytes[90..]);

    let error = read_error(whole.clone().body(content(99))).await;
    assert_malformed(&error, "it is no range, and not the whole file");
    let other = Reply::new(200).header("ETag", "\"tag-2\"");
    assert!(matches!(
        read_error(other.body(bytes.clone())).await,
        OriginError::Changed { .. }
    ));
    let cut = whole.clone().header("Content-Length", "100");
    let error = read_error(cut.raw_body(&bytes[..15]).then_close()).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable);

    let big = content((9 << 20) + 10);
    let server = Server::always(whole.body(big.clone())).await;
    let size = big.len() as u64;
    let near = (8 << 20)..(8 << 20) + 5;
    assert_eq!(
        read(&server, size, near).await.unwrap(),
        big[8 << 20..(8 << 20) + 5]
    );
    let error = read(&server, size, (9 << 20)..size).await.unwrap_err();
    assert_malformed(&error, "it is the whole file and not a range");
}

/// A server that answers a range with 200 may heed no condition either, and send what has come
/// since it looked for the tag.
#[tokio::test]
async fn what_a_sloppy_server_sends_is_confirmed_before_it_is_given_out() {
    let sloppy = |asked: &Asked, now: &str| {
        let (tag, body) = match asked.method.as_str() {
            "HEAD" => (now, ""),
            _ => ("tag-1", "0123456789"),
        };
        let answer = Reply::new(200).header("ETag", format!("\"{tag}\""));
        answer.header("Content-Range", "bytes 10-19/100").body(body)
    };
    let server = Server::start(move |asked| sloppy(asked, "tag-1")).await;
    assert_eq!(read(&server, 100, 10..20).await.unwrap(), b"0123456789");
    let methods: Vec<_> = server.asked().into_iter().map(|it| it.method).collect();
    assert_eq!(methods, ["GET", "HEAD"]);

    let server = Server::start(move |asked| sloppy(asked, "tag-2")).await;
    let origin = origin(&server);
    let file = origin.open(&path("f"), &version(100)).await.unwrap();
    let mut stream = file.stream(10..20);
    let error = stream.next().await.unwrap_err();
    assert!(matches!(error, OriginError::Changed { .. }), "{error:?}");
}

/// One that does know ranges is found out by the first condition that it does not heed.
#[tokio::test]
async fn a_server_that_heeds_no_condition_is_remembered() {
    let tag = AtomicBool::new(true);
    let server = Server::start(move |asked| {
        let tag = match tag.swap(false, Ordering::SeqCst) {
            true => "\"tag-2\"",
            false => "\"tag-1\"",
        };
        let body = if asked.method == "HEAD" {
            ""
        } else {
            "0123456789"
        };
        let answer = Reply::new(206).header("ETag", tag);
        answer.header("Content-Range", "bytes 10-19/100").body(body)
    })
    .await;
    let origin = origin(&server);
    let file = origin.open(&path("f"), &version(100)).await.unwrap();
    let error = file.read_at(10, 10).await.unwrap_err();
    assert!(matches!(error, OriginError::Changed { .. }), "{error:?}");
    assert_eq!(file.read_at(10, 10).await.unwrap(), "0123456789");
    let methods: Vec<_> = server.asked().into_iter().map(|it| it.method).collect();
    assert_eq!(methods, ["GET", "GET", "HEAD"]);
}

#[tokio::test]
async fn another_version_is_never_read() {
    let other = Reply::new(206).header("ETag", "\"tag-2\"");
    let other = other
        .header("Content-Range", "bytes 10-19/100")
        .body("0123456789");
    assert!(matches!(
        read_error(other).await,
        OriginError::Changed { .. }
    ));
    let nameless = Reply::new(206).header("Content-Range", "bytes 10-19/100");
    assert_malformed(
        &read_error(nameless.body("0123456789")).await,
        "it has no entity tag",
    );
    for reply in [
        refusal(412, "PreconditionFailed"),
        refusal(416, "InvalidRange"),
        Reply::new(412).body(""),
        Reply::new(416).body(""),
    ] {
        let error = read_error(reply).await;
        assert!(matches!(error, OriginError::Changed { .. }), "{error:?}");
        assert_eq!(error.kind(), ErrorKind::Stale);
    }
    // A weak tag names the same content.
    let weak = Reply::new(206).header("ETag", "W/\"tag-1\"");
    let weak = weak
        .header("Content-Range", "bytes 10-19/100")
        .body("0123456789");
    let server = Server::always(weak).await;
    assert_eq!(read(&server, 100, 10..20).await.unwrap(), b"0123456789");

    let origin = origin(&server);
    let by_time = ContentVersion {
        size: 100,
        validator: Validator::Mtime(5),
    };
    let opened = origin.open(&path("f"), &by_time).await;
    assert!(matches!(opened.err(), Some(OriginError::Changed { .. })));
}

#[tokio::test]
async fn only_a_key_can_be_opened() {
    let server = Server::always(Reply::silence()).await;
    let origin = origin(&server);
    let bytes = OriginPath::new(b"a/\xff").unwrap();
    for path in [
        path(""),
        bytes,
        path("a/".repeat(2048).trim_end_matches('/')),
    ] {
        let opened = origin.open(&path, &version(1)).await;
        assert!(
            matches!(opened.err(), Some(OriginError::NotFound { .. })),
            "{path:?}"
        );
    }
    assert!(server.asked().is_empty());
}

#[tokio::test]
async fn a_server_that_hangs_is_left() {
    let begun = partial("bytes 10-19/100").header("Content-Length", "10");
    for reply in [
        Reply::silence(),
        begun.clone().then_hang(),
        begun.raw_body("01234").then_hang(),
    ] {
        let server = Server::always(reply).await;
        let origin = origin(&server).with_patience(SHORT);
        let file = origin.open(&path("f"), &version(100)).await.unwrap();
        let error = collect(file.stream(10..20)).await.unwrap_err();
        told(&error);
        assert!(
            matches!(error, OriginError::TimedOut { after: SHORT, .. }),
            "{error:?}"
        );
        assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    }
}

#[tokio::test]
async fn a_server_that_is_away_is_an_error_of_the_network() {
    let server = Server::always(Reply::silence()).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop((server, listener));
    let origin = S3Origin::with_credentials(config(&url), "AKTEST", SECRET).unwrap();
    let file = origin.open(&path("f"), &version(100)).await.unwrap();
    let error = file.read_at(0, 10).await.unwrap_err();
    assert!(told(&error).contains("refused"), "{error:?}");
    assert!(matches!(error, OriginError::Io { .. }), "{error:?}");
}

#[tokio::test]
async fn the_next_read_works_after_a_broken_one() {
    let broken = AtomicBool::new(true);
    let server = Server::start(move |_| {
        let reply = partial("bytes 10-19/100").header("Content-Length", "10");
        match broken.swap(false, Ordering::SeqCst) {
            true => reply.raw_body("0123").then_close(),
            false => reply.raw_body("0123456789"),
        }
    })
    .await;
    let origin = origin(&server);
    let file = origin.open(&path("f"), &version(100)).await.unwrap();
    assert!(collect(file.stream(10..20)).await.is_err());
    assert_eq!(server.asked().len(), 1, "nothing is tried again here");
    assert_eq!(file.read_at(10, 10).await.unwrap(), "0123456789");
}

#[tokio::test]
async fn connections_that_died_unnoticed_are_not_tried_one_after_the_other() {
    let dead = Arc::new(AtomicUsize::new(0));
    let up_to = dead.clone();
    let server = Server::start(move |asked| match asked.connection {
        connection if connection < up_to.load(Ordering::SeqCst) => Reply::silence(),
        _ => partial("bytes 10-19/100").body("0123456789"),
    })
    .await;
    let origin = origin(&server).with_patience(SHORT);
    let file = origin.open(&path("f"), &version(100)).await.unwrap();
    let read = || file.read_at(10, 10);
    for outcome in <[_; 4]>::from(tokio::join!(read(), read(), read(), read())) {
        assert_eq!(outcome.unwrap(), "0123456789");
    }
    let connections = || {
        server
            .asked()
            .iter()
            .map(|asked| asked.connection + 1)
            .max()
    };
    assert!(connections() > Some(1), "they were made at once");
    dead.store(connections().unwrap(), Ordering::SeqCst);
    let error = read().await.unwrap_err();
    assert!(matches!(error, OriginError::TimedOut { .. }), "{error:?}");
    assert_eq!(read().await.unwrap(), "0123456789");
}

#[tokio::test]
async fn nothing_is_asked_for_by_a_stream_that_is_dropped() {
    let server = Server::always(Reply::silence()).await;
    let origin = origin(&server);
    let file = origin.open(&path("f"), &version(100)).await.unwrap();
    drop(file.stream(0..100));
    assert!(collect(file.stream(50..50)).await.unwrap().is_empty());
    assert!(collect(file.stream(200..300)).await.unwrap().is_empty());
    assert!(server.asked().is_empty());
}
