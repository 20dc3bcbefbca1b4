//! What one session takes, and what it leaves for others.

use std::num::NonZeroU64;

use quinn::RecvStream;

use super::memory::{content, version};
use super::nodes::*;
use super::*;
use crate::session::close::StreamCode;
use crate::session::limits::{SERVED_ALL_MAX, STREAMS_MAX};
use crate::wire::{self, Answer, Request, Status};

/// Limits of which one is reached at once.
fn hasty(change: impl FnOnce(&mut SessionLimits)) -> Setting {
    let mut limits = SessionLimits::default();
    change(&mut limits);
    Setting {
        limits,
        ..Setting::default()
    }
}

const SHORT: Duration = Duration::from_millis(100);

#[test]
fn the_document_says_what_the_limits_are() {
    let document = include_str!("../../../../docs/protocol.md");
    let says = |what: &str| assert!(document.contains(what), "{what}");
    says(&format!("**{SERVED_MAX}** requests with a payload"));
    says(&format!("and **{SERVED_ALL_MAX}** for all"));
    says(&format!("initial_max_streams_bidi | {STREAMS_MAX} "));
    says("than **200,000** versions");
    assert_eq!(wire::HAVE_OBJECTS_MAX, 200_000);
    says(&format!("1 to **{}** ranges", wire::HAVE_RANGES_MAX));
    says(&format!("at most **{}** nodes", wire::KNOWN_NODES_MAX));
    says(&format!(
        "at most **{}** addresses",
        wire::KNOWN_ADDRESSES_MAX
    ));
    says(&format!("1 to **{}** hashes", wire::CHUNKS_COUNT_MAX));
    says(&format!(
        "**{} MiB** together",
        wire::REQUEST_PAYLOAD_BYTES_MAX >> 20
    ));
    says(&format!(
        "at most **{} MiB**",
        wire::MANIFEST_BYTES_MAX >> 20
    ));
    says(&format!("**{} KiB** (65,536)", wire::FRAME_BYTES_MAX >> 10));
    let limits = SessionLimits::default();
    says(&format!(
        "No Hello within {} s",
        limits.hello_wait_max.as_secs()
    ));
    says(&format!("complete within {} s", limits.stall_max.as_secs()));
    says(&format!(
        "News must be taken every {} s",
        limits.news_stall_max.as_secs()
    ));
}

/// The first bytes of a version, as a request that has been sent.
async fn ask(connection: &Connection, len: u64) -> RecvStream {
    let (mut send, stream) = connection.open_bi().await.unwrap();
    let request = Request::Ranges {
        version: version(1),
        ranges: std::iter::once(0..len).collect(),
    };
    send.write_all(&request.to_frame()).await.unwrap();
    stream
}

async fn status(mut stream: RecvStream) -> Status {
    let message = soon(wire::read_frame(&mut stream)).await.unwrap();
    Answer::decode(message.unwrap()).unwrap().status
}

#[tokio::test]
async fn requests_beyond_what_one_session_serves_are_told_so() {
    let (node, other) = (Node::new(1), Node::new(2));
    node.memory.put(version(1), content(1, 1000));
    node.memory.set_open(false);
    let (end, connection, _news) = node.meet_raw(&other).await;
    let mut asked = Vec::new();
    for number in 1..=SERVED_MAX {
        asked.push(ask(&connection, 1000).await);
        eventually("it is served", || *end.session.serving.borrow() == number).await;
    }
    assert_eq!(status(ask(&connection, 1000).await).await, Status::Busy);
    // A ping is no content.
    let (mut send, pong) = connection.open_bi().await.unwrap();
    send.write_all(&Request::Ping.to_frame()).await.unwrap();
    send.finish().unwrap();
    assert_eq!(status(pong).await, Status::Ok);
    node.memory.set_open(true);
    for stream in asked {
        assert_eq!(status(stream).await, Status::Ok);
    }
    assert_eq!(status(ask(&connection, 1000).await).await, Status::Ok);
}

#[tokio::test]
async fn requests_beyond_what_all_sessions_serve_are_told_so() {
    let node = Node::new(1);
    node.memory.put(version(1), content(1, 1000));
    node.memory.set_open(false);
    let (mut others, mut kept) = (Vec::new(), Vec::new());
    for seed in 2..=5 {
        let other = Node::new(seed);
        let (end, connection, news) = node.meet_raw(&other).await;
        for number in 1..=SERVED_ALL_MAX / 4 {
            // Dropped, it would be stopped.
            others.push((ask(&connection, 1000).await, connection.clone()));
            eventually("it is served", || *end.session.serving.borrow() == number).await;
        }
        kept.push((other, end, news));
    }
    let last = Node::new(6);
    let (_end, connection, _news) = node.meet_raw(&last).await;
    assert_eq!(status(ask(&connection, 1000).await).await, Status::Busy);
    // One that is given up makes room, though its read goes on for ever.
    let (stream, _) = others.remove(0);
    drop(stream);
    let is_taken = async || {
        let stream = ask(&connection, 1000).await;
        node.memory.set_open(false);
        tokio::time::timeout(SHORT, status(stream)).await.is_err()
    };
    soon(async { while !is_taken().await {} }).await;
}

#[tokio::test]
async fn who_takes_nothing_is_cut_off_and_holds_up_nobody() {
    let node = Node::with(1, hasty(|limits| limits.stall_max = SHORT));
    let (stuck, other) = (Node::new(2), Node::new(3));
    let bytes = content(1, 8 << 20);
    let manifest = node.memory.put(version(1), bytes.clone());
    let (end, connection, _news) = node.meet_raw(&stuck).await;
    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.push(ask(&connection, 8 << 20).await);
    }
    let (theirs, _ours) = other.meet(&node).await;
    let got = collect(theirs.session.chunks(version(1), wanted(&manifest))).await;
    assert!(got.unwrap() == bytes);
    for mut stream in streams {
        let code = soon(stream.received_reset()).await.unwrap();
        assert_eq!(code, Some(StreamCode::Stalled.number()));
    }
    eventually("its places are free", || *end.session.serving.borrow() == 0).await;
    assert_eq!(status(ask(&connection, 1000).await).await, Status::Ok);
}

#[tokio::test]
async fn a_request_that_does_not_come_to_an_end_is_cut_off() {
    let node = Node::with(1, hasty(|limits| limits.stall_max = SHORT));
    let other = Node::new(2);
    let (_end, connection, _news) = node.meet_raw(&other).await;
    let frame = Request::Ping.to_frame();
    for sent in [1, 4, 5, frame.len()] {
        let (mut send, mut stream) = connection.open_bi().await.unwrap();
        send.write_all(&frame[..sent]).await.unwrap();
        let code = soon(stream.received_reset()).await.unwrap();
        assert_eq!(code, Some(StreamCode::Stalled.number()), "{sent}");
    }
}

#[tokio::test]
async fn a_listener_who_takes_no_news_is_closed_at_last() {
    let node = Node::with(1, hasty(|limits| limits.news_stall_max = SHORT));
    let other = Node::new(2);
    for number in 0..=255 {
        for part in 0..200 {
            let mut key = [number; 16];
            key[0] = part;
            let ranges = [0..1 << 16, 1 << 17..1 << 18, 1 << 19..1 << 20].into_iter();
            node.memory
                .announce(VersionKey(key), Held::Ranges(ranges.collect()));
        }
    }
    let (end, connection, _news) = node.meet_raw(&other).await;
    assert_eq!(end.ended().await, Ended::Slow);
    let told = Ended::of(soon(connection.closed()).await);
    assert_eq!(told, Ended::Left(Left::For(CloseCode::Slow)));
}

#[tokio::test]
async fn a_node_that_does_not_answer_is_not_waited_for_for_ever() {
    let node = Node::with(1, hasty(|limits| limits.answer_wait_max = SHORT));
    let other = Node::new(2);
    let (end, _connection, _news) = node.meet_raw(&other).await;
    let session = &end.session;
    let check = |got: Result<(), PeerError>| {
        assert!(matches!(got, Err(PeerError::TimedOut { .. })), "{got:?}");
    };
    check(soon(session.ping()).await.map(drop));
    check(soon(session.manifest(version(1), 1)).await.map(drop));
    check(collect(session.range(version(1), 0..1)).await.map(drop));
    let hash = musicfs_core::manifest::ChunkHash([1; 32]);
    let wanted = vec![WantedChunk { hash, len: 1 }];
    check(collect(session.chunks(version(1), wanted)).await.map(drop));
}

#[tokio::test]
async fn a_stream_that_is_dropped_stops_the_other_end() {
    let (one, two) = (Node::new(10), Node::new(20));
    let bytes = content(1, 8 << 20);
    let manifest = two.memory.put(version(1), bytes);
    two.memory.set_open(false);
    let (ours, theirs) = one.meet(&two).await;
    let serving = |count| {
        let session = theirs.session.clone();
        eventually("it is served, or not", move || {
            *session.serving.borrow() == count
        })
    };
    // While it waits for the first byte, and its store is stuck.
    let mut stream = ours.session.chunks(version(1), wanted(&manifest));
    let waiting = tokio::time::timeout(SHORT, stream.next()).await;
    assert!(waiting.is_err());
    serving(3).await;
    drop(stream);
    serving(0).await;
    // In the middle.
    two.memory.set_open(true);
    let mut stream = ours.session.range(version(1), 0..manifest.len);
    soon(stream.next()).await.unwrap().unwrap();
    drop(stream);
    serving(0).await;
    assert_eq!(ours.session.asked.available_permits(), ASKED_MAX);
}

#[tokio::test]
async fn streams_that_nobody_reads_leave_room_for_others() {
    let (one, two) = (Node::new(10), Node::new(20));
    let bytes = content(1, 8 << 20);
    let manifest = two.memory.put(version(1), bytes.clone());
    let (ours, _theirs) = one.meet(&two).await;
    let mut paused = Vec::new();
    for _ in 0..6 {
        let mut stream = ours.session.chunks(version(1), wanted(&manifest));
        soon(stream.next()).await.unwrap().unwrap();
        paused.push(stream);
    }
    let got = collect(ours.session.chunks(version(1), wanted(&manifest))).await;
    assert!(got.unwrap() == bytes);
    // Who finds no room waits for it.
    while ours.session.asked.available_permits() > 0 {
        let mut stream = ours.session.chunks(version(1), wanted(&manifest));
        soon(stream.next()).await.unwrap().unwrap();
        paused.push(stream);
    }
    let waiting = collect(ours.session.chunks(version(1), wanted(&manifest)));
    let mut waiting = Box::pin(waiting);
    assert!(tokio::time::timeout(SHORT, &mut waiting).await.is_err());
    // And they go on where they were.
    for stream in paused.drain(..6) {
        let rest = collect(stream).await.unwrap();
        assert!(bytes.ends_with(&rest) && rest.len() + (256 << 10) >= bytes.len());
    }
    assert!(waiting.await.unwrap() == bytes);
}

#[tokio::test]
async fn who_waits_for_room_is_told_when_the_connection_ends() {
    let (one, two) = (Node::new(10), Node::new(20));
    let manifest = two.memory.put(version(1), content(1, 2 << 20));
    let (ours, theirs) = one.meet(&two).await;
    let mut paused = Vec::new();
    while ours.session.asked.available_permits() > 0 {
        let mut stream = ours.session.chunks(version(1), wanted(&manifest));
        soon(stream.next()).await.unwrap().unwrap();
        paused.push(stream);
    }
    let mut waiting = ours.session.range(version(1), 0..1);
    assert!(tokio::time::timeout(SHORT, waiting.next()).await.is_err());
    let waiting = tokio::spawn(collect(ours.session.range(version(1), 0..1)));
    theirs.session.close(CloseCode::Ending);
    let got = soon(waiting).await.unwrap();
    assert!(matches!(got, Err(PeerError::Gone { .. })), "{got:?}");
}

#[tokio::test]
async fn a_slow_line_brings_the_same_bytes() {
    let setting = Setting {
        rate: NonZeroU64::new(2_000_000),
        ..Setting::default()
    };
    let (one, two) = (Node::new(10), Node::with(20, setting));
    let bytes = content(1, 500_001);
    let manifest = two.memory.put(version(1), bytes.clone());
    let (ours, _theirs) = one.meet(&two).await;
    let got = collect(ours.session.chunks(version(1), wanted(&manifest))).await;
    assert!(got.unwrap() == bytes);
    let got = collect(ours.session.range(version(1), 1..500_001)).await;
    assert!(got.unwrap() == bytes[1..]);
}

#[tokio::test]
async fn no_more_streams_are_open_at_once_than_are_allowed() {
    let (node, other) = (Node::new(1), Node::new(2));
    node.memory.put(version(1), content(1, 1000));
    node.memory.set_open(false);
    let (_end, connection, _news) = node.meet_raw(&other).await;
    let mut streams = Vec::new();
    for _ in 0..STREAMS_MAX {
        streams.push(soon(connection.open_bi()).await.unwrap());
    }
    assert!(
        tokio::time::timeout(SHORT, connection.open_bi())
            .await
            .is_err()
    );
    // Some of them must be over before more are let in.
    for (mut send, mut stream) in streams.drain(..STREAMS_MAX / 2) {
        send.write_all(&Request::Ping.to_frame()).await.unwrap();
        send.finish().unwrap();
        soon(stream.read_to_end(100)).await.unwrap();
    }
    soon(connection.open_bi()).await.unwrap();
}
