//! A member of the cluster that breaks the protocol, or speaks a later version of it.

use bytes::Bytes;
use musicfs_core::extents::BLOCK_BYTES;
use musicfs_core::manifest::ChunkHash;
use musicfs_core::peer::HoldingChanges;
use musicfs_proto::peer::v1;
use prost::Message;
use quinn::RecvStream;

use super::memory::{content, version};
use super::nodes::*;
use super::*;
use crate::session::close::StreamCode;
use crate::wire::{self, Answer, FRAME_BYTES_MAX, HAVE_OBJECTS_MAX, News, Request, Status};

fn frame(message: &[u8]) -> Bytes {
    let len = u32::try_from(message.len()).unwrap();
    [&len.to_le_bytes()[..], message].concat().into()
}

/// Sends `bytes` as all of a request's stream.
async fn send(connection: &Connection, bytes: &[u8]) -> RecvStream {
    let (mut send, stream) = connection.open_bi().await.unwrap();
    // It may be refused before all of it was taken.
    let _ = send.write_all(bytes).await;
    let _ = send.finish();
    stream
}

async fn status(connection: &Connection, bytes: &[u8]) -> Status {
    let mut stream = send(connection, bytes).await;
    let message = soon(wire::read_frame(&mut stream)).await.unwrap();
    Answer::decode(message.unwrap()).unwrap().status
}

#[tokio::test]
async fn what_is_no_request_is_reset_and_the_session_lives() {
    let (node, other) = (Node::new(1), Node::new(2));
    let (_end, connection, _news) = node.meet_raw(&other).await;
    let ping = Request::Ping.to_frame();
    let too_long = u32::try_from(FRAME_BYTES_MAX + 1).unwrap().to_le_bytes();
    let bad_version = v1::Request {
        what: Some(v1::request::What::Manifest(v1::GetManifest {
            version: vec![1; 15].into(),
        })),
    };
    let cases: [(&str, Bytes); 9] = [
        ("nothing", Bytes::new()),
        ("half a head", ping.slice(..2)),
        ("half a frame", ping.slice(..ping.len() - 1)),
        ("two frames", [&ping[..], &ping].concat().into()),
        ("something behind", [&ping[..], &[0]].concat().into()),
        ("too long", too_long.to_vec().into()),
        ("the longest length", vec![0xff; 4].into()),
        ("garbage", frame(&[0xff; 40])),
        ("a bad version", frame(&bad_version.encode_to_vec())),
    ];
    for (name, bytes) in cases {
        let mut stream = send(&connection, &bytes).await;
        let code = soon(stream.received_reset()).await.unwrap();
        assert_eq!(code, Some(StreamCode::Violation.number()), "{name}");
    }
    assert_eq!(status(&connection, &ping).await, Status::Ok);
}

#[tokio::test]
async fn a_request_of_a_later_version_is_refused_and_the_session_lives() {
    let (node, other) = (Node::new(1), Node::new(2));
    let zeros = node.memory.put(version(1), vec![0; 10 << 20]);
    let (_end, connection, _news) = node.meet_raw(&other).await;
    let chunks = |hashes: Vec<ChunkHash>| Request::Chunks {
        version: version(1),
        hashes,
    };
    let ranges = |count: usize, range: Range<u64>| Request::Ranges {
        version: version(1),
        ranges: vec![range; count],
    };
    // The number reserved for claims, one that nobody has thought of, and none.
    for later in [&[0x2a, 2, 8, 1][..], &[0xfa, 1, 2, 8, 1], &[]] {
        assert_eq!(status(&connection, &frame(later)).await, Status::Refused);
    }
    let hash = zeros.chunks[0].0;
    let refused = [
        ("no chunk", chunks(vec![])),
        ("too many", chunks(vec![hash; 129])),
        ("too many bytes", chunks(vec![hash; 33])),
        ("no range", ranges(0, 0..1)),
        ("an empty range", ranges(1, 5..5)),
        ("too many ranges", ranges(17, 0..1)),
        ("too long a range", ranges(1, 0..(8 << 20) + 1)),
    ];
    for (name, request) in refused {
        let got = status(&connection, &request.to_frame()).await;
        assert_eq!(got, Status::Refused, "{name}");
    }
    let most = chunks(vec![hash; 32]).to_frame();
    let mut stream = send(&connection, &most).await;
    soon(wire::read_frame(&mut stream)).await.unwrap();
    let payload = soon(stream.read_to_end(16 << 20)).await.unwrap();
    assert!(payload == vec![0; 8 << 20]);
    // With a field that nobody knows.
    let ping = [
        Request::Ping.to_frame().slice(4..),
        Bytes::from_static(&[0x38, 1]),
    ]
    .concat();
    assert_eq!(status(&connection, &frame(&ping)).await, Status::Ok);
}

#[tokio::test]
async fn a_stream_of_a_later_version_is_stopped_and_the_session_lives() {
    let (node, other) = (Node::new(1), Node::new(2));
    let (_end, connection, _news) = node.meet_raw(&other).await;
    for _ in 0..5 {
        let mut stream = soon(connection.open_uni()).await.unwrap();
        stream.write_all(b"later").await.unwrap();
        let code = soon(stream.stopped()).await.unwrap();
        assert_eq!(code, Some(StreamCode::Unsupported.number()));
    }
    assert_eq!(
        status(&connection, &Request::Ping.to_frame()).await,
        Status::Ok
    );
}

/// A Have of runs as they are.
fn partial(runs: &[u64]) -> Bytes {
    let have = v1::Have {
        partial: vec![v1::Partial {
            version: vec![1; 16].into(),
            runs: runs.to_vec(),
        }],
        ..v1::Have::default()
    };
    let what = Some(v1::news::What::Have(have));
    frame(&v1::News { what }.encode_to_vec())
}

#[tokio::test]
async fn news_that_break_the_protocol_end_the_session() {
    let (node, other) = (Node::new(1), Node::new(2));
    let too_long = u32::try_from(FRAME_BYTES_MAX + 1).unwrap().to_le_bytes();
    let have = News::Have(vec![(version(1), Some(Held::Complete))]).to_frame();
    let cases: [(&str, Bytes); 9] = [
        ("a second Hello", hello().to_frame()),
        ("too long", too_long.to_vec().into()),
        ("garbage", frame(&[0xff; 40])),
        ("an end without a goodbye", Bytes::new()),
        ("half a frame", have.slice(..have.len() - 1)),
        ("half a version", frame(&[0x12, 5, 0x0a, 3, 1, 2, 3])),
        ("nothing held", partial(&[])),
        ("no whole block", partial(&[1, BLOCK_BYTES])),
        (
            "touching ranges",
            partial(&[0, BLOCK_BYTES, 0, BLOCK_BYTES]),
        ),
    ];
    for (name, bytes) in cases {
        let (end, connection, mut news) = node.meet_raw(&other).await;
        news.write_all(&bytes).await.unwrap();
        if name.contains("end") || name.contains("half a frame") {
            news.finish().unwrap();
        }
        let ended = end.ended().await;
        assert!(matches!(ended, Ended::Violation(_)), "{name}: {ended}");
        let told = Ended::of(soon(connection.closed()).await);
        assert_eq!(told, Ended::Left(Left::For(CloseCode::Violation)), "{name}");
    }
    let (end, _connection, mut news) = node.meet_raw(&other).await;
    news.reset(0_u32.into()).unwrap();
    assert!(matches!(end.ended().await, Ended::Violation(_)));
}

#[tokio::test]
async fn more_versions_than_allowed_end_the_session() {
    let (node, other) = (Node::new(1), Node::new(2));
    let (end, _connection, mut news) = node.meet_raw(&other).await;
    let all = |count: usize| {
        (0..count).map(|number| {
            let mut key = [0; 16];
            key[..8].copy_from_slice(&(number as u64).to_le_bytes());
            (VersionKey(key), Some(Held::Complete))
        })
    };
    let changes: HoldingChanges = all(HAVE_OBJECTS_MAX + 1).collect();
    let (last, most) = changes.split_last().unwrap();
    for some in most.chunks(4000) {
        soon(news.write_all(&News::Have(some.to_vec()).to_frame()))
            .await
            .unwrap();
    }
    let session = end.session.clone();
    let count = most.len() as u64;
    eventually("all are known", || session.objects_count() == count).await;
    news.write_all(&News::Have(vec![last.clone()]).to_frame())
        .await
        .unwrap();
    assert!(matches!(end.ended().await, Ended::Violation(_)));
    assert_eq!(session.objects_count(), 0);
}

#[tokio::test]
async fn news_of_a_later_version_are_passed_over() {
    let (node, other) = (Node::new(1), Node::new(2));
    let (end, _connection, mut news) = node.meet_raw(&other).await;
    let later = [frame(&[0xfa, 1, 2, 8, 1]), frame(&[])].concat();
    news.write_all(&later).await.unwrap();
    let have = News::Have(vec![(version(1), Some(Held::Complete))]);
    // With a field that nobody knows.
    let have = [have.to_frame().slice(4..), Bytes::from_static(&[0x78, 1])].concat();
    news.write_all(&frame(&have)).await.unwrap();
    let session = end.session.clone();
    eventually("the next is heard", || {
        session.held(version(1)) == Some(Held::Complete)
    })
    .await;
}

#[tokio::test]
async fn after_a_goodbye_nothing_is_heard_or_asked_any_more() {
    let (node, other) = (Node::new(1), Node::new(2));
    let (end, connection, mut news) = node.meet_raw(&other).await;
    let have = News::Have(vec![(version(1), Some(Held::Complete))]).to_frame();
    news.write_all(&have).await.unwrap();
    let session = end.session.clone();
    eventually("it is held", || session.objects_count() == 1).await;
    let goodbye = News::Goodbye.to_frame();
    news.write_all(&[&goodbye[..], &have].concat())
        .await
        .unwrap();
    eventually("it is not any more", || session.objects_count() == 0).await;
    let got = soon(session.ping()).await;
    assert!(matches!(got, Err(PeerError::Busy { .. })), "{got:?}");
    // The other end may still ask, and gets what it asked for before.
    node.memory.put(version(2), content(1, 10));
    let request = Request::Manifest(version(2));
    assert_eq!(status(&connection, &request.to_frame()).await, Status::Ok);
    assert_eq!(session.objects_count(), 0);
}
