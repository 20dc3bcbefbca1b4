//! Frames there and back, and what is none.

use std::net::SocketAddr;

use bytes::Bytes;
use musicfs_core::extents::{BLOCK_BYTES, Extents};
use musicfs_core::id::NodeId;
use musicfs_core::manifest::ChunkHash;
use musicfs_core::peer::{Held, HoldingChanges};
use musicfs_core::version::VersionKey;
use musicfs_proto::peer::v1;
use proptest::prelude::*;
use prost::Message;

use super::request::RANGES_COUNT_MAX;
use super::*;
use crate::binding::Binding;

/// The message in a frame.
fn message_of(frame: &Bytes) -> Bytes {
    let (head, message) = frame.split_first_chunk::<4>().unwrap();
    assert_eq!(frame::message_len(*head), Ok(message.len()));
    frame.slice(4..)
}

fn version() -> impl Strategy<Value = VersionKey> {
    any::<[u8; 16]>().prop_map(VersionKey)
}

fn extents() -> impl Strategy<Value = Extents> {
    let blocks = prop::collection::btree_set(0_u64..1 << 40, 1..HAVE_RANGES_MAX);
    (blocks, 1..BLOCK_BYTES).prop_map(|(blocks, last)| {
        let mut ranges: Extents = blocks
            .iter()
            .map(|at| at * BLOCK_BYTES..(at + 1) * BLOCK_BYTES)
            .collect();
        // A file may end in the middle of a block.
        let end = ranges.iter().next_back().unwrap().end;
        ranges.remove(end - last..end);
        ranges
    })
}

fn held() -> impl Strategy<Value = Option<Held>> {
    prop_oneof![
        Just(None),
        Just(Some(Held::Complete)),
        extents().prop_map(|ranges| Some(Held::Ranges(ranges))),
    ]
}

/// In the order in which a Have holds them.
fn changes() -> impl Strategy<Value = HoldingChanges> {
    prop::collection::vec((version(), held()), 0..40).prop_map(|mut changes| {
        changes.sort_by_key(|(_, held)| match held {
            None => 0,
            Some(Held::Complete) => 1,
            Some(Held::Ranges(_)) => 2,
        });
        changes
    })
}

fn hello() -> impl Strategy<Value = Hello> {
    let numbers = (any::<u32>(), any::<u32>(), any::<u16>(), any::<u64>());
    let texts = (".{0,20}", ".{0,20}");
    let binding = prop::option::of(prop::array::uniform32(any::<[u8; 3]>()));
    (numbers, texts, binding).prop_map(|(numbers, (name, version), binding)| {
        let (major, minor, listen_port, start) = numbers;
        let binding = binding.map(|parts| {
            let bytes = parts.as_flattened().try_into();
            Binding::from_bytes(bytes.unwrap())
        });
        Hello {
            major,
            minor,
            name,
            version,
            listen_port,
            binding,
            start,
        }
    })
}

fn known() -> impl Strategy<Value = Vec<KnownNode>> {
    let address = (any::<std::net::IpAddr>(), any::<u16>()).prop_map(SocketAddr::from);
    let addresses = prop::collection::vec(address, 0..=KNOWN_ADDRESSES_MAX);
    let node = (any::<[u8; 16]>(), addresses).prop_map(|(id, addresses)| KnownNode {
        id: NodeId::from_bytes(id),
        addresses,
    });
    prop::collection::vec(node, 0..=KNOWN_NODES_MAX)
}

fn news() -> impl Strategy<Value = News> {
    prop_oneof![
        hello().prop_map(News::Hello),
        changes().prop_map(News::Have),
        known().prop_map(News::Known),
        Just(News::Goodbye),
        Just(News::Unknown),
    ]
}

fn request() -> impl Strategy<Value = Request> {
    let hash = any::<[u8; 32]>().prop_map(ChunkHash);
    let hashes = prop::collection::vec(hash, 1..=CHUNKS_COUNT_MAX);
    let range = (0..u64::MAX - (1 << 20), 1_u64..1 << 19).prop_map(|(at, len)| at..at + len);
    let ranges = prop::collection::vec(range, 1..=RANGES_COUNT_MAX);
    prop_oneof![
        Just(Request::Ping),
        version().prop_map(Request::Manifest),
        (version(), hashes).prop_map(|(version, hashes)| Request::Chunks { version, hashes }),
        (version(), ranges).prop_map(|(version, ranges)| Request::Ranges { version, ranges }),
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    let status = prop_oneof![
        Just(Status::Ok),
        Just(Status::NotHeld),
        Just(Status::Busy),
        Just(Status::Refused)
    ];
    let lens = prop::collection::vec(any::<u32>(), 0..=CHUNKS_COUNT_MAX);
    let proof = prop::option::of((any::<[u8; 32]>(), any::<[[u8; 32]; 2]>()));
    (status, lens, proof).prop_map(|(status, lens, proof)| Answer {
        status,
        lens,
        proof: proof.map(|(maker, signature)| Proof {
            maker,
            signature: signature.as_flattened().try_into().unwrap(),
        }),
    })
}

/// What happens to a message on its way.
#[derive(Clone, Debug)]
struct Damage {
    changed: Vec<(prop::sample::Index, u8)>,
    inserted: Option<(prop::sample::Index, Vec<u8>)>,
    cut: Option<prop::sample::Index>,
}

fn damage() -> impl Strategy<Value = Damage> {
    let place = any::<prop::sample::Index>;
    let changed = prop::collection::vec((place(), any::<u8>()), 0..5);
    let inserted = prop::option::of((place(), prop::collection::vec(any::<u8>(), 1..12)));
    let parts = (changed, inserted, prop::option::weighted(0.25, place()));
    parts.prop_map(|(changed, inserted, cut)| Damage {
        changed,
        inserted,
        cut,
    })
}

impl Damage {
    /// The message of a frame afterwards.
    fn done_to(&self, frame: &Bytes) -> Bytes {
        let mut bytes = message_of(frame).to_vec();
        if let Some((at, more)) = &self.inserted {
            let at = at.index(bytes.len() + 1);
            bytes.splice(at..at, more.iter().copied());
        }
        if !bytes.is_empty() {
            for (at, to) in &self.changed {
                let at = at.index(bytes.len());
                bytes[at] = *to;
            }
            let len = self.cut.map_or(bytes.len(), |cut| cut.index(bytes.len()));
            bytes.truncate(len);
        }
        bytes.into()
    }
}

proptest! {
    #[test]
    fn news_survive_their_frame(news in news()) {
        prop_assert_eq!(News::decode(message_of(&news.to_frame())), Ok(news));
    }

    #[test]
    fn a_request_survives_its_frame(request in request()) {
        let decoded = Request::decode(message_of(&request.to_frame()));
        prop_assert_eq!(decoded, Ok(Decoded::Request(request)));
    }

    #[test]
    fn an_answer_survives_its_frame(answer in answer()) {
        prop_assert_eq!(Answer::decode(message_of(&answer.to_frame())), Ok(answer));
    }

    #[test]
    fn what_is_within_its_cost_fits_a_frame(
        changes in prop::collection::vec((version(), held()), 0..300),
    ) {
        let mut left = HAVE_BYTES_MAX;
        let fits = |(_, held): &(VersionKey, Option<Held>)| {
            left.checked_sub(cost_of(held.as_ref())).map(|rest| left = rest).is_some()
        };
        let changes: HoldingChanges = changes.into_iter().take_while(fits).collect();
        let frame = News::Have(changes).to_frame();
        prop_assert!(frame.len() <= 4 + FRAME_BYTES_MAX);
    }

    #[test]
    fn garbage_is_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let bytes = Bytes::from(bytes);
        let _ = News::decode(bytes.clone());
        let _ = Request::decode(bytes.clone());
        let _ = Answer::decode(bytes);
    }

    #[test]
    fn a_damaged_message_is_refused_or_within_bounds(
        news in news(),
        request in request(),
        answer in answer(),
        damage in damage(),
    ) {
        // Whatever it means now, it can be said again within a frame, and means the same.
        if let Ok(news) = News::decode(damage.done_to(&news.to_frame())) {
            prop_assert_eq!(News::decode(message_of(&news.to_frame())), Ok(news));
        }
        if let Ok(Decoded::Request(request)) = Request::decode(damage.done_to(&request.to_frame())) {
            let again = Request::decode(message_of(&request.to_frame()));
            prop_assert_eq!(again, Ok(Decoded::Request(request)));
        }
        if let Ok(answer) = Answer::decode(damage.done_to(&answer.to_frame())) {
            prop_assert_eq!(Answer::decode(message_of(&answer.to_frame())), Ok(answer));
        }
    }

    #[test]
    fn no_length_beyond_a_frame_is_believed(len in any::<u32>()) {
        let taken = frame::message_len(len.to_le_bytes());
        prop_assert_eq!(taken.is_ok(), len as usize <= FRAME_BYTES_MAX);
    }
}

/// What `message` says as news.
fn told(what: v1::news::What) -> Result<News, Violation> {
    let news = v1::News { what: Some(what) };
    News::decode(news.encode_to_vec().into())
}

fn have(complete: usize, gone: usize, partial: Vec<(usize, Vec<u64>)>) -> Result<News, Violation> {
    let partial = partial.into_iter().map(|(len, runs)| v1::Partial {
        version: vec![1; len].into(),
        runs,
    });
    told(v1::news::What::Have(v1::Have {
        complete: vec![2; complete].into(),
        gone: vec![3; gone].into(),
        partial: partial.collect(),
    }))
}

#[test]
fn ranges_are_whole_blocks_in_order_and_apart() {
    const B: u64 = BLOCK_BYTES;
    let check = |runs: &[u64], expect: Option<&[(u64, u64)]>| {
        let got = have(0, 0, vec![(16, runs.to_vec())]);
        let expect = expect
            .map(|ranges| Held::Ranges(ranges.iter().map(|(start, end)| *start..*end).collect()));
        match expect {
            None => assert!(got.is_err(), "{runs:?}: {got:?}"),
            held => assert_eq!(got, Ok(News::Have(vec![(VersionKey([1; 16]), held)]))),
        }
    };
    check(&[0, B], Some(&[(0, B)]));
    check(&[B, 5], Some(&[(B, B + 5)]));
    check(&[0, B, B, B], Some(&[(0, B), (2 * B, 3 * B)]));
    // Nothing, and half a range.
    check(&[], None);
    check(&[0], None);
    check(&[0, B, B], None);
    // Empty, and touching: both have another form.
    check(&[0, 0], None);
    check(&[0, B, 0, B], None);
    // No whole blocks.
    check(&[1, B], None);
    check(&[0, 5, B, B], None);
    check(&[0, B, 5, B], None);
    // Behind the end.
    check(&[B, u64::MAX - B + 1], None);
    check(&[0, B, u64::MAX, B], None);
    let many = |count: usize| [B, B].repeat(count);
    assert!(have(0, 0, vec![(16, many(HAVE_RANGES_MAX))]).is_ok());
    check(&many(HAVE_RANGES_MAX + 1), None);
}

#[test]
fn names_have_their_lengths() {
    assert!(have(32, 16, vec![]).is_ok());
    assert!(have(31, 0, vec![]).is_err());
    assert!(have(0, 1, vec![]).is_err());
    assert!(have(0, 0, vec![(15, vec![0, 1])]).is_err());
    let known = |id: usize, address: usize| {
        told(v1::news::What::Known(v1::Known {
            nodes: vec![v1::KnownNode {
                id: vec![1; id].into(),
                addresses: vec![vec![1; address].into()],
            }],
        }))
    };
    assert!(known(16, 6).is_ok() && known(16, 18).is_ok());
    for (id, address) in [
        (15, 6),
        (17, 6),
        (16, 0),
        (16, 2),
        (16, 5),
        (16, 7),
        (16, 19),
    ] {
        assert!(known(id, address).is_err(), "{id} {address}");
    }
    let hello = |name: usize, version: usize, listen_port: u32, binding: usize| {
        told(v1::news::What::Hello(v1::Hello {
            name: "x".repeat(name),
            version: "x".repeat(version),
            listen_port,
            binding: vec![1; binding].into(),
            ..v1::Hello::default()
        }))
    };
    assert!(hello(256, 256, 65535, 96).is_ok() && hello(0, 0, 0, 0).is_ok());
    assert!(hello(257, 0, 0, 0).is_err() && hello(0, 257, 0, 0).is_err());
    assert!(hello(0, 0, 65536, 0).is_err() && hello(0, 0, 0, 95).is_err());
}

#[test]
fn no_more_nodes_and_addresses_than_a_mesh_has() {
    let known = |nodes: usize, addresses: usize| {
        let node = v1::KnownNode {
            id: vec![1; 16].into(),
            addresses: vec![vec![1; 6].into(); addresses],
        };
        told(v1::news::What::Known(v1::Known {
            nodes: vec![node; nodes],
        }))
    };
    assert!(known(KNOWN_NODES_MAX, KNOWN_ADDRESSES_MAX).is_ok());
    assert!(known(KNOWN_NODES_MAX + 1, 0).is_err());
    assert!(known(1, KNOWN_ADDRESSES_MAX + 1).is_err());
}

/// What `what` asks for.
fn asked(what: Option<v1::request::What>) -> Result<Decoded, Violation> {
    Request::decode(v1::Request { what }.encode_to_vec().into())
}

fn is_refused(asked: &Result<Decoded, Violation>) -> bool {
    matches!(asked, Ok(Decoded::Refused(_)))
}

#[test]
fn a_request_beyond_bounds_is_refused_and_one_that_is_none_is_not() {
    let chunks = |version: usize, hashes: usize| {
        asked(Some(v1::request::What::Chunks(v1::GetChunks {
            version: vec![1; version].into(),
            hashes: vec![2; hashes].into(),
        })))
    };
    assert!(matches!(chunks(16, 128 * 32), Ok(Decoded::Request(_))));
    assert!(is_refused(&chunks(16, 129 * 32)) && is_refused(&chunks(16, 0)));
    assert!(chunks(16, 33).is_err() && chunks(17, 32).is_err());
    let ranges = |spans: &[(u64, u64)]| {
        let span = |&(offset, len): &(u64, u64)| v1::Span { offset, len };
        asked(Some(v1::request::What::Ranges(v1::GetRanges {
            version: vec![1; 16].into(),
            spans: spans.iter().map(span).collect(),
        })))
    };
    assert!(matches!(ranges(&[(1, 1); 16]), Ok(Decoded::Request(_))));
    assert!(matches!(ranges(&[(1, 8 << 20)]), Ok(Decoded::Request(_))));
    assert!(is_refused(&ranges(&[(1, 1); 17])) && is_refused(&ranges(&[])));
    assert!(is_refused(&ranges(&[(0, 8 << 20), (1, 1)])) && is_refused(&ranges(&[(1, 0)])));
    assert!(ranges(&[(u64::MAX, 1)]).is_err());
    // Of a later version: field 5, a message.
    let later = Request::decode(Bytes::from_static(&[0x2a, 2, 8, 1]));
    assert!(is_refused(&later) && is_refused(&asked(None)));
    assert_eq!(
        News::decode(Bytes::from_static(&[0x2a, 2, 8, 1])),
        Ok(News::Unknown)
    );
    let status = Answer::decode(Bytes::from_static(&[8, 99]));
    assert_eq!(status, Ok(Answer::of(Status::Refused)));
}

#[test]
fn an_answer_has_a_whole_proof_or_none() {
    let answer = |maker: usize, signature: usize, lens: usize| {
        let answer = v1::Answer {
            status: v1::Status::Ok.into(),
            lens: vec![1; lens],
            maker: vec![1; maker].into(),
            signature: vec![2; signature].into(),
        };
        Answer::decode(answer.encode_to_vec().into())
    };
    assert!(answer(0, 0, 128).is_ok() && answer(32, 64, 1).is_ok());
    assert!(answer(32, 0, 1).is_err() && answer(0, 64, 1).is_err());
    assert!(answer(31, 64, 1).is_err() && answer(32, 65, 1).is_err());
    assert!(answer(0, 0, 129).is_err());
}

/// Other implementations are tried with them.
#[test]
fn the_examples_of_the_document_are_what_is_sent() {
    let version = |byte| VersionKey([byte; 16]);
    let part: Extents = (BLOCK_BYTES..3 * BLOCK_BYTES).into();
    let known = KnownNode {
        id: NodeId::from_bytes([0x55; 16]),
        addresses: vec!["192.0.2.1:4242".parse().unwrap()],
    };
    let ranges = Request::Ranges {
        version: version(0x11),
        ranges: std::iter::once(65_536..65_538).collect(),
    };
    let have = News::Have(vec![
        (version(0x33), None),
        (version(0x22), Some(Held::Complete)),
        (version(0x44), Some(Held::Ranges(part))),
    ]);
    let frames = [
        ("Request: Ping", Request::Ping.to_frame()),
        ("Request: GetRanges", ranges.to_frame()),
        ("Answer: OK", Answer::ok(vec![3, 300]).to_frame()),
        ("News: Have", have.to_frame()),
        ("News: Known", News::Known(vec![known]).to_frame()),
        ("News: Goodbye", News::Goodbye.to_frame()),
    ];
    let document = include_str!("../../../docs/protocol.md");
    for (name, frame) in frames {
        let mut lines = document.lines();
        let row = lines.find(|line| line.starts_with(&format!("| {name}")));
        let expect = format!("`{}` |", data_encoding::HEXLOWER.encode(&frame));
        assert!(
            row.is_some_and(|row| row.ends_with(&expect)),
            "{name}: {expect}"
        );
    }
}
