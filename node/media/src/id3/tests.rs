//! Tags made by hand: what encoders rarely write and attackers might.

use musicfs_core::tags::{ArtEncoding, Date};

use super::*;
use crate::art::decode_art;

fn syncsafe_bytes(len: usize) -> [u8; 4] {
    [21, 14, 7, 0].map(|shift| (len >> shift) as u8 & 0x7f)
}

fn tag(version: u8, flags: u8, body: &[u8]) -> Vec<u8> {
    let mut tag = vec![b'I', b'D', b'3', version, 0, flags];
    tag.extend(syncsafe_bytes(body.len()));
    tag.extend(body);
    tag
}

fn frame(version: u8, id: &str, flags: u16, data: &[u8]) -> Vec<u8> {
    let mut frame = id.as_bytes().to_vec();
    match version {
        2 => frame.extend(&(data.len() as u32).to_be_bytes()[1..]),
        3 => frame.extend((data.len() as u32).to_be_bytes()),
        _ => frame.extend(syncsafe_bytes(data.len())),
    }
    if version > 2 {
        frame.extend(flags.to_be_bytes());
    }
    frame.extend(data);
    frame
}

fn unsynchronise(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for (at, &byte) in bytes.iter().enumerate() {
        out.push(byte);
        let next = bytes.get(at + 1).copied().unwrap_or(0);
        if byte == 0xff && (next == 0 || next >= 0xe0) {
            out.push(0);
        }
    }
    out
}

fn read(tag: &[u8]) -> (musicfs_core::tags::Tags, Vec<Artwork>) {
    let (mut fields, mut art) = (Fields::default(), Vec::new());
    parse_v2(tag, 0, &mut fields, &mut art);
    (fields.into_tags(), art)
}

#[test]
fn version_2_2_is_read_by_its_short_names() {
    let mut body = frame(2, "TT2", 0, b"\0caf\xe9");
    body.extend(frame(2, "TP1", 0, b"\x01\xff\xfea\0\0\0\xff\xfeb\0"));
    body.extend(frame(2, "TRK", 0, b"\x003/7"));
    body.extend(frame(2, "PIC", 0, b"\0PNG\x03\0\x89PNG\r\n\x1a\nrest"));
    let tag = tag(2, 0, &body);
    let (tags, art) = read(&tag);
    assert_eq!(tags.title.as_deref(), Some("café"));
    assert_eq!(tags.artists, ["a", "b"]);
    assert_eq!((tags.track, tags.track_total), (Some(3), Some(7)));
    assert_eq!((art[0].kind, art[0].mime.as_str()), (3, "image/png"));
    let range = art[0].range.start as usize..art[0].range.end as usize;
    assert_eq!(&tag[range], b"\x89PNG\r\n\x1a\nrest");
}

#[test]
fn version_2_3_joins_year_and_day() {
    let mut body = frame(3, "TYER", 0, b"\x001997");
    body.extend(frame(3, "TDAT", 0, b"\x001606"));
    body.extend(frame(3, "TCON", 0, b"\0(17)(8)"));
    let (tags, _) = read(&tag(3, 0, &body));
    let date = Date {
        year: 1997,
        month: 6,
        day: 16,
    };
    assert_eq!(tags.date, Some(date));
    assert_eq!(tags.genres, ["Rock", "Jazz"]);
}

#[test]
fn unsynchronised_pictures_are_found_in_both_ways() {
    let picture = b"\xff\xd8\xff\xe0pic\xff\0\xff\xfftail\xff\xd9";
    let mut apic = b"\0image/jpeg\0\x03\0".to_vec();
    apic.extend(picture);
    let whole = tag(3, 0x80, &unsynchronise(&frame(3, "APIC", 0, &apic)));
    let each = tag(4, 0, &frame(4, "APIC", 2, &unsynchronise(&apic)));
    for tag in [whole, each] {
        let (_, art) = read(&tag);
        assert_eq!(art[0].encoding, ArtEncoding::Unsynchronised);
        assert_eq!(art[0].size, picture.len() as u64);
        let range = art[0].range.start as usize..art[0].range.end as usize;
        assert_eq!(
            decode_art(&art[0], &tag[range]).as_deref(),
            Some(&picture[..])
        );
    }
}

#[test]
fn sizes_that_old_itunes_wrote_plainly_are_understood() {
    let text = [&b"\0"[..], &[b'x'; 300]].concat();
    let mut body = b"TIT2".to_vec();
    body.extend((text.len() as u32).to_be_bytes());
    body.extend([0, 0]);
    body.extend(&text);
    body.extend(frame(4, "TALB", 0, b"\0album"));
    let (tags, _) = read(&tag(4, 0, &body));
    assert_eq!(tags.title.map(|title| title.len()), Some(300));
    assert_eq!(tags.album.as_deref(), Some("album"));
}

#[test]
fn what_precedes_a_broken_frame_is_kept() {
    let mut body = frame(4, "TIT2", 0, b"\x03title");
    body.extend(b"TALB\x7f\x7f\x7f\x7f\0\0\x03cut");
    let (tags, _) = read(&tag(4, 0, &body));
    assert_eq!(tags.title.as_deref(), Some("title"));
    assert_eq!(tags.album, None);
}

#[test]
fn a_nest_of_chapters_is_not_entered() {
    let mut nest = frame(4, "TIT2", 0, b"\x03deep");
    for _ in 0..1500 {
        let inner = [&b"c\0"[..], &[0; 16], &nest].concat();
        nest = frame(4, "CHAP", 0, &inner);
    }
    assert_eq!(read(&tag(4, 0, &nest)).0.title, None);
}

#[test]
fn version_1_gives_what_it_can() {
    let mut tail = b"TAG".to_vec();
    tail.extend(b"title".iter().chain(&[0; 25]));
    tail.extend(b"artist".iter().chain(&[b' '; 24]));
    tail.extend([0; 30]);
    tail.extend(b"1999");
    tail.extend([0; 28]);
    tail.extend([0, 7, 17]);
    let mut fields = Fields::default();
    parse_v1(&tail, &mut fields);
    let tags = fields.into_tags();
    assert_eq!(tags.title.as_deref(), Some("title"));
    assert_eq!(tags.artists, ["artist"]);
    assert_eq!((tags.track, tags.album), (Some(7), None));
    assert_eq!(tags.date.map(|date| date.year), Some(1999));
    assert_eq!(tags.genres, ["Rock"]);
}
