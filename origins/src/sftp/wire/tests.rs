use super::*;
use proptest::prelude::*;

/// A packet of `code` and `body` behind request 7, without its length.
fn packet(code: u8, body: &[u8]) -> Bytes {
    [&[code, 0, 0, 0, 7][..], body].concat().into()
}

fn string(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u32).to_be_bytes()[..], text].concat()
}

fn encoded(request: Request<'_>) -> Vec<u8> {
    let mut out = BytesMut::from(&b"before"[..]);
    request.encode(7, &mut out);
    out[6..].to_vec()
}

#[test]
fn requests_look_as_the_draft_says() {
    let read = Request::Read {
        handle: b"h",
        offset: 1 << 32,
        len: 9,
    };
    let body = [
        &[5, 0, 0, 0, 7][..],
        &string(b"h"),
        &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9],
    ];
    assert_eq!(encoded(read), string(&body.concat()));
    let body = [
        &[3, 0, 0, 0, 7][..],
        &string(b"/a\xff"),
        &[0, 0, 0, 1, 0, 0, 0, 0],
    ];
    assert_eq!(encoded(Request::Open(b"/a\xff")), string(&body.concat()));
    let body = [&[17, 0, 0, 0, 7][..], &string(b"/a")];
    assert_eq!(encoded(Request::Stat(b"/a")), string(&body.concat()));
}

#[test]
fn replies_are_read_back() {
    let check = |code, body: &[u8], expect| {
        assert_eq!(decode(packet(code, body)), Ok((7, expect)));
    };
    check(101, &[0, 0, 0, 1], Reply::Status(status::EOF));
    check(102, &string(b"\0\0"), Reply::Handle(b"\0\0"[..].into()));
    check(103, &string(b"data"), Reply::Data(b"data"[..].into()));
    let attrs = Attrs {
        size: Some(5),
        mode: Some(0o100_644),
        mtime: Some(9),
    };
    let encoded = [
        &[0, 0, 0, 15][..],
        &5_u64.to_be_bytes(),
        &[0; 8],
        &0o100_644_u32.to_be_bytes(),
        &[0, 0, 0, 8, 0, 0, 0, 9],
    ]
    .concat();
    check(105, &encoded, Reply::Attrs(attrs));
    let names = [
        &[0, 0, 0, 2][..],
        &string(b"a\nb\xff"),
        &string(b"long"),
        &encoded,
        &string(b"c"),
        &string(b""),
        &[0x80, 0, 0, 0, 0, 0, 0, 1],
        &string(b"k"),
        &string(b"v"),
    ];
    let name = |name: &'static [u8], attrs| Name {
        name: name.into(),
        attrs,
    };
    let expect = vec![name(b"a\nb\xff", attrs), name(b"c", Attrs::default())];
    check(104, &names.concat(), Reply::Names(expect));
}

#[test]
fn a_version_tells_of_limits() {
    let version = |extensions: &[&[u8]]| {
        let body: Vec<u8> = extensions.iter().flat_map(|text| string(text)).collect();
        decode_version([&[2, 0, 0, 0, 3][..], &body].concat().into())
    };
    let has_limits = |has_limits| Ok(Version { has_limits });
    assert_eq!(version(&[]), has_limits(false));
    assert_eq!(version(&[b"x@y", b"2", LIMITS, b"1"]), has_limits(true));
    assert_eq!(version(&[LIMITS, b"2"]), has_limits(false));
    assert!(version(&[LIMITS]).is_err());
    assert!(decode_version(Bytes::from_static(&[2, 0, 0, 0, 2])).is_err());
}

#[test]
fn a_count_of_names_is_not_believed() {
    assert_eq!(decode(packet(104, &[0xff; 4])), Err(CUT_OFF));
}

#[test]
fn an_impossible_length_is_refused_at_once() {
    for len in [0, 4, PACKET_BYTES_MAX as u32 + 1, u32::MAX] {
        let mut framer = Framer::default();
        framer.push(Bytes::copy_from_slice(&len.to_be_bytes()));
        assert!(framer.next().is_err(), "{len}");
        assert_eq!(framer.packet.capacity(), 0);
    }
}

proptest! {
    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600), code in 99_u8..110) {
        let _ = decode(bytes.clone().into());
        let _ = decode(packet(code, &bytes));
        let _ = decode_version(bytes.clone().into());
        let _ = Limits::decode(bytes.into());
    }

    #[test]
    fn what_is_read_is_no_longer_than_its_packet(bytes in proptest::collection::vec(0_u8..3, 0..600)) {
        if let Ok((_, Reply::Names(names))) = decode(packet(104, &bytes)) {
            prop_assert!(names.capacity() * 12 <= bytes.len());
        }
    }

    #[test]
    fn packets_come_whole_however_they_are_cut(
        packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 5..200), 1..8),
        cut in 1_usize..64,
    ) {
        let sent: Vec<u8> = packets.iter().flat_map(|packet| string(packet)).collect();
        let mut framer = Framer::default();
        let mut received = Vec::new();
        for part in sent.chunks(cut) {
            framer.push(Bytes::copy_from_slice(part));
            while let Some(packet) = framer.next().unwrap() {
                received.push(packet.to_vec());
            }
        }
        prop_assert_eq!(received, packets);
    }
}
