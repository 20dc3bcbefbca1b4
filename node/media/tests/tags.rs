//! What is read of files that the real encoders made, and what reading it costs.

#[path = "support/corpus.rs"]
mod corpus;

use std::path::PathBuf;
use std::sync::LazyLock;

use corpus::{Corpus, Sample, Watched, all_tags};
use musicfs_core::tags::{ArtEncoding, Codec, Container, Tags, TrackInfo};
use musicfs_media::{
    ExtractError, Extraction, HeaderProfile, decode_art, extract, first_extents, header_extents,
};

/// Three minutes and more, with covers of common size.
static LONG: LazyLock<Corpus> = LazyLock::new(|| {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("media-long");
    Corpus::make(&dir, 190, 500)
});

/// What reading may cost beside the pictures.
const BYTES_BESIDE_ART_MAX: u64 = 128 << 10;

fn read(sample: &Sample) -> Extraction {
    let mut source = Watched::new(&sample.bytes);
    let extraction = extract(&mut source, sample.extension)
        .unwrap_or_else(|error| panic!("{}: {error}", sample.name));
    assert_eq!(extraction.bytes_read, source.total(), "{}", sample.name);
    assert_eq!(
        extraction.reads as usize,
        source.ranges.len(),
        "{}",
        sample.name
    );
    extraction
}

fn expected(name: &str) -> Tags {
    let all = all_tags();
    match name {
        "mp3-lame-only" | "wav-ffmpeg-only" | "adts" | "wavpack" => {
            let mut tags = Tags {
                title: Some("Tïtle".to_owned()),
                artists: vec!["Artist One".to_owned()],
                album: all.album,
                genres: vec!["Rock".to_owned()],
                date: musicfs_core::tags::Date::parse("1997"),
                track: all.track,
                track_total: all.track_total,
                ..Tags::default()
            };
            tags.more = vec![("comments".to_owned(), "Comment".to_owned())];
            tags
        }
        "mp3-no-xing-ape" => Tags {
            title: all.title,
            artists: all.artists,
            album: all.album,
            date: all.date,
            track: all.track,
            track_total: all.track_total,
            replay_gain: all.replay_gain,
            ..Tags::default()
        },
        // ID3v2.3 knows the year of the original only.
        "mp3-cbr-id3v23" => Tags {
            original_date: musicfs_core::tags::Date::parse("1994"),
            ..all
        },
        _ => all,
    }
}

fn without_noise(mut tags: Tags) -> Tags {
    // Encoders sign their work.
    tags.more.retain(|(name, _)| name != "encoder");
    if !tags.artists.contains(&"Artist One".to_owned()) || tags.artists.len() > 1 {
        tags.more.retain(|(name, _)| name != "comments");
    }
    tags
}

#[test]
fn every_format_yields_every_field() {
    for sample in &LONG.samples {
        let tags = without_noise(read(sample).info.tags);
        assert_eq!(tags, expected(sample.name), "{}", sample.name);
    }
}

#[test]
fn every_format_yields_the_properties_of_its_audio() {
    for sample in &LONG.samples {
        let TrackInfo { audio, artwork, .. } = read(sample).info;
        let name = sample.name;
        let (codec, depth) = match name {
            "flac" => (Codec::Flac, 16),
            "alac" => (Codec::Alac, 16),
            "ogg" => (Codec::Vorbis, 0),
            "opus" => (Codec::Opus, 0),
            "wav" | "wav-ffmpeg-only" | "aiff" => (Codec::Pcm, 16),
            "wavpack" => (Codec::Other, 16),
            _ if name.starts_with("mp3") => (Codec::Mp3, 0),
            _ => (Codec::Aac, 0),
        };
        assert_eq!((audio.codec, audio.bit_depth), (codec, depth), "{name}");
        assert_eq!(audio.channels, 2, "{name}");
        let rate = if codec == Codec::Opus { 48_000 } else { 44_100 };
        assert_eq!(audio.sample_rate, rate, "{name}");
        let expect_ms = u64::from(LONG.seconds) * 1000;
        if name == "adts" {
            // A bare stream says nothing of its length: the first frames are an estimate.
            assert!(
                audio.duration_ms.abs_diff(expect_ms) < expect_ms / 20,
                "{audio:?}"
            );
            continue;
        }
        assert!(
            audio.duration_ms.abs_diff(expect_ms) < 120,
            "{name}: {} ms",
            audio.duration_ms
        );
        let art: u64 = artwork
            .iter()
            .map(|art| art.range.end - art.range.start)
            .sum();
        let mean = (sample.bytes.len() as u64 - art) * 8 / u64::from(LONG.seconds);
        let off = u64::from(audio.bitrate).abs_diff(mean);
        assert!(off * 50 < mean, "{name}: {} of {mean} bit/s", audio.bitrate);
    }
}

#[test]
fn pictures_are_found_where_they_lie() {
    for sample in &LONG.samples {
        let mut artwork = read(sample).info.artwork;
        // Taggers order them as they like.
        artwork.sort_by(|one, other| one.mime.cmp(&other.mime));
        let mp4 = sample.extension == "m4a";
        // lame takes its picture for one of no special kind.
        let lame = sample.name == "mp3-lame-only";
        let expect: &[(u8, &str, &[u8])] = &[
            if lame {
                (0, "image/jpeg", &LONG.small)
            } else {
                (3, "image/jpeg", &LONG.front)
            },
            (if mp4 { 3 } else { 4 }, "image/png", &LONG.back),
        ];
        let count = match sample.name {
            "wav-ffmpeg-only" | "adts" | "wavpack" => 0,
            "mp3-lame-only" | "mp3-no-xing-ape" => 1,
            _ => 2,
        };
        assert_eq!(artwork.len(), count, "{}", sample.name);
        for (art, (kind, mime, picture)) in artwork.iter().zip(expect) {
            assert_eq!(
                (art.kind, art.mime.as_str()),
                (*kind, *mime),
                "{}",
                sample.name
            );
            let range = art.range.start as usize..art.range.end as usize;
            let decoded = decode_art(art, &sample.bytes[range]);
            assert_eq!(decoded.as_deref(), Some(*picture), "{}", sample.name);
            let ogg = matches!(sample.extension, "ogg" | "opus");
            let base64 = matches!(
                art.encoding,
                ArtEncoding::Base64 | ArtEncoding::Base64InOggPages
            );
            assert_eq!(base64, ogg, "{}: {:?}", sample.name, art.encoding);
        }
    }
}

#[test]
fn only_the_ends_of_a_file_are_read() {
    for sample in &LONG.samples {
        let extraction = read(sample);
        let ranges = extraction.info.artwork.iter().map(|art| art.range.clone());
        let art: u64 = ranges.map(|range| range.end - range.start).sum();
        let beside = extraction.bytes_read.saturating_sub(art);
        println!(
            "{:16} {:9} bytes, read {:6} in {:2} reads, {:6} beside art",
            sample.name,
            sample.bytes.len(),
            extraction.bytes_read,
            extraction.reads,
            beside
        );
        assert!(sample.bytes.len() > 2 << 20, "{}", sample.name);
        assert!(beside <= BYTES_BESIDE_ART_MAX, "{}: {beside}", sample.name);
        assert!(extraction.reads <= 12, "{}", sample.name);
    }
}

#[test]
fn a_failing_source_is_not_taken_for_a_broken_file() {
    for sample in &LONG.samples {
        let reads = read(sample).reads as usize;
        for fails_at in 0..reads {
            let mut source = Watched::new(&sample.bytes);
            source.fails_at = Some(fails_at);
            let error = extract(&mut source, sample.extension)
                .map(|_| ())
                .unwrap_err();
            let is_io = matches!(error, ExtractError::Io { .. });
            assert!(is_io, "{} read {fails_at}: {error:?}", sample.name);
        }
    }
}

#[test]
fn tags_survive_when_the_audio_is_cut_short() {
    // Formats whose tags stand at the front.
    for name in [
        "flac",
        "mp3-vbr-id3v24",
        "m4a-faststart",
        "ogg",
        "opus",
        "wav-ffmpeg-only",
    ] {
        let sample = LONG
            .samples
            .iter()
            .find(|sample| sample.name == name)
            .unwrap();
        for share in [2, 5] {
            let bytes = &sample.bytes[..sample.bytes.len() / share];
            let info = extract(&mut Watched::new(bytes), sample.extension)
                .unwrap()
                .info;
            assert_eq!(without_noise(info.tags), expected(name), "{name} / {share}");
        }
    }
}

#[test]
fn the_layout_says_where_the_audio_starts_and_what_lies_behind_it() {
    for sample in &LONG.samples {
        let layout = read(sample).layout;
        let (name, size) = (sample.name, sample.bytes.len());
        let (front, tail) = (layout.front_end as usize, layout.tail_start as usize);
        let at = |offset: usize| &sample.bytes[offset..][..4];
        let audio = &sample.bytes[front..];
        match layout.container {
            // Sync codes of frames (RFC 9639 §9.1, ISO 11172-3 §2.4.1.3); MPEG's encoders may
            // leave zeros behind the tag.
            Container::Flac => assert!(audio.starts_with(b"\xff\xf8"), "{name}"),
            Container::Mpeg => assert_eq!((at(front)[0], at(front)[1] >> 5), (0xff, 7), "{name}"),
            Container::Ogg => assert_eq!(at(front), b"OggS", "{name}"),
            Container::Mp4 => assert_eq!(at(front - 4), b"mdat", "{name}"),
            Container::Iff if name == "aiff" => assert_eq!(at(front - 8), b"SSND", "{name}"),
            Container::Iff => assert_eq!(at(front - 8), b"data", "{name}"),
            Container::Other => assert_eq!((name, front), ("wavpack", 0)),
        }
        match name {
            "mp3-no-xing-ape" | "wavpack" => assert_eq!(at(tail), b"APET", "{name}"),
            "mp3-lame-only" => assert_eq!(at(tail), b"TAGT", "{name}"),
            "m4a-moov-last" | "alac" => assert_eq!(at(tail + 4), b"moov", "{name}"),
            "wav" => assert_eq!(at(tail), b"id3 ", "{name}"),
            "aiff" => assert_eq!(at(tail), b"ID3 ", "{name}"),
            _ => assert_eq!(tail, size, "{name}"),
        }
    }
}

#[test]
fn indexing_reads_nothing_outside_the_header_extents() {
    for sample in &LONG.samples {
        let size = sample.bytes.len() as u64;
        let mut source = Watched::new(&sample.bytes);
        let layout = extract(&mut source, sample.extension).unwrap().layout;
        let header = header_extents(&layout, size, HeaderProfile::Default);
        for first in first_extents(size, sample.extension).iter() {
            assert!(header.covers(first.clone()), "{}: {first:?}", sample.name);
        }
        for (start, end) in source.ranges {
            assert!(header.covers(start..end), "{}: {start}..{end}", sample.name);
        }
        println!(
            "{:16} {:4} KiB of {:6}",
            sample.name,
            header.len() >> 10,
            size >> 10
        );
    }
}
