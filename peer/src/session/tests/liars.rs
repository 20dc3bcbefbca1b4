//! A member of the cluster that answers wrongly.

use bytes::Bytes;
use musicfs_core::manifest::ChunkHash;
use tokio::task::JoinHandle;

use super::memory::{content, version};
use super::nodes::*;
use super::*;
use crate::session::close::StreamCode;
use crate::session::proof;
use crate::wire::{self, Answer, Decoded, Proof, Request, Status};

/// What a liar says.
enum Lie {
    /// These bytes, and then the end of the stream.
    Say(Vec<Bytes>),
    /// The first, and then a reset.
    Break(Vec<Bytes>, quinn::VarInt),
}

/// Answers all requests in the same way.
fn lie(connection: Connection, lie: Lie) -> JoinHandle<()> {
    tokio::spawn(async move {
        while let Ok((mut send, mut recv)) = connection.accept_bi().await {
            let message = wire::read_frame(&mut recv).await.unwrap().unwrap();
            assert!(matches!(Request::decode(message), Ok(Decoded::Request(_))));
            let (Lie::Say(parts) | Lie::Break(parts, _)) = &lie;
            for part in parts {
                // It may be given up before it is through.
                let _ = send.write_chunk(part.clone()).await;
            }
            match lie {
                Lie::Say(_) => drop(send.finish()),
                Lie::Break(_, code) => drop(send.reset(code)),
            }
        }
    })
}

/// What a node makes of an answer to its request for chunks of 3 and 5 bytes: `abc` and `defgh`.
async fn chunks_from(answer: Lie) -> Result<Vec<u8>, PeerError> {
    let (node, other) = (Node::new(1), Node::new(2));
    let (end, connection, _news) = node.meet_raw(&other).await;
    let liar = lie(connection, answer);
    let wanted = [&b"abc"[..], b"defgh"].map(|bytes| WantedChunk {
        hash: ChunkHash::of(bytes),
        len: bytes.len() as u32,
    });
    let got = collect(end.session.chunks(version(1), wanted.to_vec())).await;
    liar.abort();
    got
}

async fn range_from(answer: Lie) -> Result<Vec<u8>, PeerError> {
    let (node, other) = (Node::new(1), Node::new(2));
    let (end, connection, _news) = node.meet_raw(&other).await;
    let liar = lie(connection, answer);
    let got = collect(end.session.range(version(1), 10..18)).await;
    liar.abort();
    got
}

fn ok(lens: &[u32]) -> Bytes {
    Answer::ok(lens.to_vec()).to_frame()
}

fn is_malformed<T: std::fmt::Debug>(got: &Result<T, PeerError>) -> bool {
    matches!(got, Err(PeerError::Malformed { .. }))
}

#[tokio::test]
async fn an_answer_that_is_right_is_taken() {
    let got = chunks_from(Lie::Say(vec![ok(&[3, 5]), "abcdefgh".into()])).await;
    assert_eq!(got.unwrap(), b"abcdefgh");
    let got = range_from(Lie::Say(vec![ok(&[8]), "abcdefgh".into()])).await;
    assert_eq!(got.unwrap(), b"abcdefgh");
}

#[tokio::test]
async fn a_chunk_with_other_bytes_is_not_handed_out() {
    let (node, other) = (Node::new(1), Node::new(2));
    let (end, connection, _news) = node.meet_raw(&other).await;
    let liar = lie(connection, Lie::Say(vec![ok(&[3, 5]), "abcdefgX".into()]));
    let wanted = [&b"abc"[..], b"defgh"].map(|bytes| WantedChunk {
        hash: ChunkHash::of(bytes),
        len: bytes.len() as u32,
    });
    let mut stream = end.session.chunks(version(1), wanted.to_vec());
    // What came before is good.
    assert_eq!(soon(stream.next()).await.unwrap().unwrap(), "abc");
    match soon(stream.next()).await {
        Err(error @ PeerError::Corrupt { peer, chunk }) => {
            assert_eq!((peer, chunk), (other.id(), wanted[1].hash));
            assert!(error.is_lie());
        }
        got => panic!("{got:?}"),
    }
    assert!(soon(stream.next()).await.is_err());
    assert_eq!(end.session.counters().chunks_in(), 1);
    liar.abort();
}

#[tokio::test]
async fn an_answer_that_breaks_the_protocol_is_named() {
    let payload = || Bytes::from("abcdefgh");
    let long = u32::try_from(wire::FRAME_BYTES_MAX + 1).unwrap();
    let cases = [
        ("other lengths", vec![ok(&[3, 6]), "abcdefghi".into()]),
        ("too few lengths", vec![ok(&[8]), payload()]),
        ("too many lengths", vec![ok(&[3, 5, 1]), "abcdefghi".into()]),
        ("no lengths", vec![ok(&[]), payload()]),
        ("too little", vec![ok(&[3, 5]), "abcdefg".into()]),
        ("nothing behind", vec![ok(&[3, 5])]),
        ("too much", vec![ok(&[3, 5]), "abcdefghi".into()]),
        ("nothing", vec![]),
        ("half a frame", vec![ok(&[3, 5]).slice(..5)]),
        ("garbage", vec![vec![2, 0, 0, 0, 0xff, 0xff].into()]),
        ("too long a frame", vec![long.to_le_bytes().to_vec().into()]),
    ];
    for (name, parts) in cases {
        let got = chunks_from(Lie::Say(parts)).await;
        assert!(is_malformed(&got), "{name}: {got:?}");
        assert!(got.unwrap_err().is_lie());
    }
    let cases = [
        ("another length", vec![ok(&[9]), "abcdefghi".into()]),
        ("two ranges", vec![ok(&[3, 5]), payload()]),
        ("too little", vec![ok(&[8]), "abcdefg".into()]),
        ("too much", vec![ok(&[8]), "abcdefghi".into()]),
    ];
    for (name, parts) in cases {
        let got = range_from(Lie::Say(parts)).await;
        assert!(is_malformed(&got), "{name}: {got:?}");
    }
}

#[tokio::test]
async fn a_refusal_is_no_lie() {
    let of = |status| Lie::Say(vec![Answer::of(status).to_frame()]);
    let got = chunks_from(of(Status::Busy)).await;
    assert!(matches!(got, Err(PeerError::Busy { .. })), "{got:?}");
    for status in [Status::NotHeld, Status::Refused] {
        let got = chunks_from(of(status)).await;
        assert!(matches!(got, Err(PeerError::NotHeld { .. })), "{got:?}");
    }
    // A status of a later version.
    let later = Lie::Say(vec![vec![2, 0, 0, 0, 8, 99].into()]);
    let got = chunks_from(later).await;
    assert!(matches!(got, Err(PeerError::NotHeld { .. })), "{got:?}");
    let broken = |code| Lie::Break(vec![ok(&[3, 5]), "abc".into()], code);
    for code in [StreamCode::NotHeld, StreamCode::Violation] {
        let got = chunks_from(broken(code.number())).await;
        assert!(
            matches!(got, Err(PeerError::NotHeld { .. })),
            "{code:?}: {got:?}"
        );
    }
    let later = quinn::VarInt::from_u32(99);
    for code in [
        StreamCode::Stalled.number(),
        StreamCode::Unwanted.number(),
        later,
    ] {
        let got = chunks_from(broken(code)).await;
        assert!(
            matches!(got, Err(PeerError::Busy { .. })),
            "{code:?}: {got:?}"
        );
    }
}

/// What a node makes of a manifest of 100,000 bytes that node 2 sends, signed as `change` likes.
async fn manifest_from(
    change: impl FnOnce(&mut Manifest),
    prove: impl FnOnce(&[u8]) -> Option<Proof>,
) -> Result<Arc<Manifest>, PeerError> {
    let (node, other) = (Node::new(1), Node::new(2));
    let mut manifest = Manifest::clone(&other.memory.put(version(1), content(1, 100_000)));
    change(&mut manifest);
    let encoded = manifest.encode();
    let answer = Answer {
        proof: prove(&encoded),
        ..Answer::ok(vec![encoded.len() as u32])
    };
    let (end, connection, _news) = node.meet_raw(&other).await;
    let liar = lie(
        connection,
        Lie::Say(vec![answer.to_frame(), encoded.into()]),
    );
    let got = soon(end.session.manifest(version(1), 100_000)).await;
    liar.abort();
    got
}

#[tokio::test]
async fn a_manifest_is_what_its_maker_signed() {
    let as_it_is = |_: &mut Manifest| {};
    let signed = |encoded: &[u8]| Some(proof::sign(&key(2), version(1), encoded));
    let got = manifest_from(as_it_is, signed).await;
    assert_eq!(got.unwrap().len, 100_000);
    let got = manifest_from(as_it_is, |_| None).await;
    assert!(is_malformed(&got), "not signed: {got:?}");
    let by_another = |encoded: &[u8]| Some(proof::sign(&key(3), version(1), encoded));
    let got = manifest_from(as_it_is, by_another).await;
    assert!(is_malformed(&got), "signed by another node: {got:?}");
    let stolen = |encoded: &[u8]| {
        let proof = proof::sign(&key(3), version(1), encoded);
        let maker = key(2).public();
        Some(Proof { maker, ..proof })
    };
    let got = manifest_from(as_it_is, stolen).await;
    assert!(is_malformed(&got), "with the key of another: {got:?}");
    let of_another = |encoded: &[u8]| Some(proof::sign(&key(2), version(2), encoded));
    let got = manifest_from(as_it_is, of_another).await;
    assert!(is_malformed(&got), "of another version: {got:?}");
}

#[tokio::test]
async fn a_manifest_is_of_the_size_that_was_asked_for() {
    let signed = |encoded: &[u8]| Some(proof::sign(&key(2), version(1), encoded));
    let shorter = |manifest: &mut Manifest| {
        manifest.chunks.last_mut().unwrap().1 -= 1;
        manifest.len -= 1;
    };
    let got = manifest_from(shorter, signed).await;
    assert!(is_malformed(&got), "shorter: {got:?}");
    let wrong_sum = |manifest: &mut Manifest| manifest.chunks.last_mut().unwrap().1 -= 1;
    let got = manifest_from(wrong_sum, signed).await;
    assert!(is_malformed(&got), "no manifest: {got:?}");
    // More chunks than so many bytes can have: it is not even received.
    let longer = |manifest: &mut Manifest| {
        let chunk = manifest.chunks[0];
        manifest.chunks.resize(100_000, chunk);
    };
    let got = manifest_from(longer, signed).await;
    match got {
        Err(PeerError::Malformed { what, .. }) => {
            assert_eq!(what, "a manifest that is too long for its file");
        }
        got => panic!("{got:?}"),
    }
}
