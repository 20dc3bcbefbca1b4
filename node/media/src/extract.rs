//! From a file's bytes to what it says: which format, which reader, and what to do when one fails.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use lofty::ape::ApeFile;
use lofty::config::{GlobalOptions, ParseOptions, ParsingMode, apply_global_options};
use lofty::file::AudioFile;
use lofty::flac::FlacFile;
use lofty::mp4::{Mp4Codec, Mp4File};
use lofty::mpeg::{Layer, MpegFile};
use lofty::musepack::MpcFile;
use lofty::ogg::{OggPictureStorage, OpusFile, VorbisFile};
use lofty::picture::{MimeType, Picture as LoftyPicture, PictureType};
use lofty::properties::FileProperties;
use lofty::wavpack::WavPackFile;
use musicfs_core::tags::{Artwork, AudioLayout, AudioProperties, Codec, Container, TrackInfo};

use crate::art::{PICTURES_MAX, Picture, locate};
use crate::fields::Fields;
use crate::iff::{self, Dialect};
use crate::window::Window;
use crate::{ExtractError, Extraction, RangedRead, adts, ape, id3, layout, mp4, vorbis};

/// The most that lofty may allocate for one item.
const ALLOCATION_BYTES_MAX: usize = 40 << 20;

/// The largest ID3v2 tag that is read.
const ID3_BYTES_MAX: u64 = 40 << 20;

/// The most ID3v2 tags that may follow each other at a file's start.
const ID3_TAGS_MAX: usize = 4;

/// What is fetched behind an ID3v2 tag together with it: the first frames of audio.
const BEHIND_TAG_BYTES: u64 = 8 << 10;

/// What is fetched of a file's end where tags stand.
const TAIL_BYTES: u64 = 16 << 10;

/// How many packets of headers a stream starts with (Vorbis I §4.2, RFC 7845 §3).
const VORBIS_HEADERS: usize = 3;
const OPUS_HEADERS: usize = 2;

/// The format of a file, told by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Flac,
    Vorbis,
    Opus,
    Mp4,
    Iff(Dialect),
    Mpeg,
    Adts,
    Ape,
    WavPack,
    Musepack,
}

/// What the readers gather.
#[derive(Default)]
struct Gathered {
    fields: Fields,
    art: Vec<Artwork>,
    audio: AudioProperties,
}

/// Reads the tags, audio properties and artwork of one file.
///
/// The bytes decide what the file is; `extension` (without the dot, lower case) helps only where
/// they are silent. A file whose audio is cut short or damaged still yields its tags. Nothing in
/// a file makes this panic, run long or read more than [`crate::BYTES_READ_MAX`] bytes.
///
/// # Errors
/// [`ExtractError::Io`] if the source failed: try again, or another source. Everything else says
/// that the file has no tags that can be read, now and later.
pub fn extract(source: &mut dyn RangedRead, extension: &str) -> Result<Extraction, ExtractError> {
    apply_global_options(
        GlobalOptions::new()
            .use_custom_resolvers(false)
            .allocation_limit(ALLOCATION_BYTES_MAX),
    );
    let mut window = Window::new(source);
    let mut gathered = Gathered::default();
    let layout = gather(&mut window, extension, &mut gathered)?;
    let mut artwork = gathered.art;
    artwork.truncate(PICTURES_MAX);
    Ok(Extraction {
        info: TrackInfo {
            tags: gathered.fields.into_tags(),
            audio: gathered.audio,
            artwork,
        },
        layout,
        bytes_read: window.bytes_read(),
        reads: window.reads(),
    })
}

fn gather(
    window: &mut Window<'_>,
    extension: &str,
    gathered: &mut Gathered,
) -> Result<AudioLayout, ExtractError> {
    let base = read_id3_at_start(window, gathered)?;
    let format = recognise(window.bytes(base..base + 8192)?, extension);
    match format.ok_or(ExtractError::Unrecognised)? {
        Format::Flac => read_flac(window, base, gathered),
        Format::Vorbis => read_vorbis(window, base, gathered),
        Format::Opus => read_opus(window, base, gathered),
        Format::Mp4 => read_mp4(window, base, gathered),
        Format::Iff(dialect) => {
            let found = iff::read(window, base, dialect)?;
            gathered.fields.merge_missing(found.fields);
            gathered.art.extend(found.art);
            gathered.audio = found.audio;
            let (front_end, tail_start) = (found.front_end, found.tail_start);
            Ok(layout::within(
                window,
                Container::Iff,
                front_end,
                tail_start,
            ))
        }
        Format::Mpeg => {
            read_properties::<MpegFile>(window, base, gathered, Container::Mpeg, |file| {
                let codec = match file.properties().layer() {
                    Layer::Layer3 => Codec::Mp3,
                    Layer::Layer1 | Layer::Layer2 => Codec::MpegAudio,
                };
                (codec, (*file.properties()).into())
            })
        }
        Format::Adts => {
            let end = read_tail(window, gathered)?;
            let front = window.bytes(base..base + BEHIND_TAG_BYTES)?;
            gathered.audio = adts::properties(front, end.saturating_sub(base));
            Ok(layout::within(window, Container::Mpeg, base, end))
        }
        Format::Ape => {
            read_properties::<ApeFile>(window, base, gathered, Container::Other, |file| {
                (Codec::Other, file.properties().clone().into())
            })
        }
        Format::WavPack => {
            read_properties::<WavPackFile>(window, base, gathered, Container::Other, |file| {
                (Codec::Other, (*file.properties()).into())
            })
        }
        Format::Musepack => {
            read_properties::<MpcFile>(window, base, gathered, Container::Other, |file| {
                (Codec::Other, file.properties().clone().into())
            })
        }
    }
}

/// Reads the ID3v2 tags that start the file and returns where they end.
fn read_id3_at_start(
    window: &mut Window<'_>,
    gathered: &mut Gathered,
) -> Result<u64, ExtractError> {
    let mut base = 0;
    for _ in 0..ID3_TAGS_MAX {
        let start = base..base + id3::HEADER_LEN as u64;
        let Some(header) = id3::Header::parse(window.bytes(start)?) else {
            break;
        };
        let tag_len = header.tag_len();
        if tag_len > ID3_BYTES_MAX {
            return Err(ExtractError::LimitExceeded { limit: "tag size" });
        }
        let tag = window.bytes(base..base + tag_len + BEHIND_TAG_BYTES)?;
        let tag = &tag[..tag
            .len()
            .min(usize::try_from(tag_len).unwrap_or(usize::MAX))];
        id3::parse_v2(tag, base, &mut gathered.fields, &mut gathered.art);
        base += tag_len;
    }
    Ok(base.min(window.file_len()))
}

fn recognise(start: &[u8], extension: &str) -> Option<Format> {
    match start {
        [b'f', b'L', b'a', b'C', ..] => Some(Format::Flac),
        [b'O', b'g', b'g', b'S', ..] => match start.get(28..)? {
            [1, b'v', b'o', b'r', b'b', b'i', b's', ..] => Some(Format::Vorbis),
            [b'O', b'p', b'u', b's', b'H', b'e', b'a', b'd', ..] => Some(Format::Opus),
            _ => None,
        },
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => Some(Format::Mp4),
        [
            b'R',
            b'I',
            b'F',
            b'F',
            _,
            _,
            _,
            _,
            b'W',
            b'A',
            b'V',
            b'E',
            ..,
        ] => Some(Format::Iff(Dialect::Wav)),
        [
            b'F',
            b'O',
            b'R',
            b'M',
            _,
            _,
            _,
            _,
            b'A',
            b'I',
            b'F',
            b'F' | b'C',
            ..,
        ] => Some(Format::Iff(Dialect::Aiff)),
        [b'M', b'A', b'C', b' ', ..] => Some(Format::Ape),
        [b'w', b'v', b'p', b'k', ..] => Some(Format::WavPack),
        [b'M', b'P', b'C', b'K', ..] | [b'M', b'P', b'+', ..] => Some(Format::Musepack),
        _ if adts::starts(start) => Some(Format::Adts),
        [0xff, second, ..] if second & 0xe0 == 0xe0 => Some(Format::Mpeg),
        _ => match extension {
            "mp3" | "mp2" | "mp1" | "mpga" => Some(Format::Mpeg),
            "aac" => Some(Format::Adts),
            _ => None,
        },
    }
}

fn read_flac(
    window: &mut Window<'_>,
    base: u64,
    gathered: &mut Gathered,
) -> Result<AudioLayout, ExtractError> {
    let file: FlacFile = read_best(window, base, false)?;
    gathered.audio = audio(Codec::Flac, &(*file.properties()).into());
    let mut pictures: Vec<&LoftyPicture> = file.pictures().iter().map(|(one, _)| one).collect();
    if let Some(comments) = file.vorbis_comments() {
        gathered.fields.merge_missing(vorbis::read(comments));
        pictures.extend(comments.pictures().iter().map(|(one, _)| one));
    }
    place(window, &pictures, None, None, gathered);
    layout::of_flac(window, base)
}

fn read_vorbis(
    window: &mut Window<'_>,
    base: u64,
    gathered: &mut Gathered,
) -> Result<AudioLayout, ExtractError> {
    let file: VorbisFile = read_best(window, base, false)?;
    gathered.audio = audio(Codec::Vorbis, &(*file.properties()).into());
    read_ogg_comments(window, base, file.vorbis_comments(), gathered);
    layout::of_ogg(window, base, VORBIS_HEADERS)
}

fn read_opus(
    window: &mut Window<'_>,
    base: u64,
    gathered: &mut Gathered,
) -> Result<AudioLayout, ExtractError> {
    let file: OpusFile = read_best(window, base, false)?;
    gathered.audio = audio(Codec::Opus, &(*file.properties()).into());
    // Opus always plays at this rate; the header's is the encoder's input (RFC 7845 §5.1).
    gathered.audio.sample_rate = 48_000;
    read_ogg_comments(window, base, file.vorbis_comments(), gathered);
    layout::of_ogg(window, base, OPUS_HEADERS)
}

fn read_ogg_comments(
    window: &Window<'_>,
    base: u64,
    comments: &lofty::ogg::tag::VorbisComments,
    gathered: &mut Gathered,
) {
    gathered.fields.merge_missing(vorbis::read(comments));
    let pictures: Vec<&LoftyPicture> = comments.pictures().iter().map(|(one, _)| one).collect();
    place(window, &pictures, Some(base), None, gathered);
    let art: u64 = gathered
        .art
        .iter()
        .map(|art| art.range.end - art.range.start)
        .sum();
    let audio_bytes = window.file_len().saturating_sub(base + art);
    let bitrate = (audio_bytes * 8000).checked_div(gathered.audio.duration_ms);
    gathered.audio.bitrate = bitrate.map_or(0, |rate| u32::try_from(rate).unwrap_or(u32::MAX));
}

fn read_mp4(
    window: &mut Window<'_>,
    base: u64,
    gathered: &mut Gathered,
) -> Result<AudioLayout, ExtractError> {
    let file: Mp4File = read_best(window, base, true)?;
    let codec = match file.properties().codec() {
        Some(Mp4Codec::AAC) => Codec::Aac,
        Some(Mp4Codec::ALAC) => Codec::Alac,
        Some(Mp4Codec::MP3) => Codec::Mp3,
        Some(Mp4Codec::FLAC) => Codec::Flac,
        _ => Codec::Other,
    };
    gathered.audio = audio(codec, &file.properties().clone().into());
    if matches!(codec, Codec::Aac | Codec::Mp3) {
        gathered.audio.bit_depth = 0;
    }
    if let Some(ilst) = file.ilst() {
        let (fields, pictures) = mp4::read(ilst);
        gathered.fields.merge_missing(fields);
        // An MP4 cover has no type; every reader takes it for the front.
        place(window, &pictures, None, Some(3), gathered);
    }
    layout::of_mp4(window, base)
}

/// Finds where `pictures` lie and keeps those that are found.
fn place(
    window: &Window<'_>,
    pictures: &[&LoftyPicture],
    ogg_base: Option<u64>,
    kind: Option<u8>,
    gathered: &mut Gathered,
) {
    let pictures: Vec<Picture<'_>> = pictures
        .iter()
        .map(|picture| Picture {
            kind: kind.unwrap_or_else(|| PictureType::as_u8(&picture.pic_type())),
            mime: picture.mime_type().map_or("", MimeType::as_str),
            data: picture.data(),
        })
        .collect();
    gathered.art.extend(locate(window, &pictures, ogg_base));
}

/// Reads the tags that end the file, APEv2, then ID3v1 for what is still missing, and returns
/// where the audio ends before them.
fn read_tail(window: &mut Window<'_>, gathered: &mut Gathered) -> Result<u64, ExtractError> {
    let len = window.file_len();
    let tail = window.bytes(len.saturating_sub(TAIL_BYTES)..len)?;
    let mut v1 = Fields::default();
    id3::parse_v1(tail, &mut v1);
    let behind_ape = if v1.is_empty() { 0 } else { id3::V1_LEN };
    let tag_len = ape::tag_len(&tail[..tail.len() - behind_ape]);
    let mut end = len - behind_ape as u64;
    if let Some(start) = tag_len.and_then(|tag_len| end.checked_sub(tag_len)) {
        let tag = window.bytes(start..end)?;
        ape::parse(tag, start, &mut gathered.fields, &mut gathered.art);
        // A header repeats the footer at the front of most tags.
        let header = start.saturating_sub(ape::FOOTER_LEN as u64);
        let has_header = window.bytes(header..start)?.starts_with(ape::MAGIC);
        end = if has_header { header } else { start };
    }
    gathered.fields.merge_missing(v1);
    Ok(end)
}

/// Reads the tags at the file's end, and with a library the properties of the audio before them;
/// it is no error to find none where there are tags.
fn read_properties<F: AudioFile>(
    window: &mut Window<'_>,
    base: u64,
    gathered: &mut Gathered,
    container: Container,
    properties: impl FnOnce(F) -> (Codec, FileProperties),
) -> Result<AudioLayout, ExtractError> {
    let options = ParseOptions::new().read_tags(false).max_junk_bytes(0);
    let end = read_tail(window, gathered)?;
    let layout = layout::within(window, container, base, end);
    match read_once(window, base..end.max(base), options) {
        Ok(file) => {
            let (codec, properties) = properties(file);
            gathered.audio = audio(codec, &properties);
            Ok(layout)
        }
        Err(error @ ExtractError::Io { .. }) => Err(error),
        Err(error) if gathered.fields.is_empty() => Err(error),
        Err(_) => Ok(layout),
    }
}

/// Reads a file with a library: all of it, else its tags, else the tags in what was fetched of
/// its front so far.
///
/// `convert` lets lofty rewrite old forms: right for MP4's genre numbers. In Vorbis comments it
/// would search all comments for each number, which a crafted file could make very long.
fn read_best<F: AudioFile>(
    window: &mut Window<'_>,
    base: u64,
    convert: bool,
) -> Result<F, ExtractError> {
    let all = ParseOptions::new().implicit_conversions(convert);
    let tags = ParseOptions::new()
        .implicit_conversions(convert)
        .read_properties(false)
        .parsing_mode(ParsingMode::Relaxed);
    let whole = base..window.file_len();
    let error = match read_once(window, whole.clone(), all) {
        Ok(file) => return Ok(file),
        Err(error) => error,
    };
    for front_only in [false, true] {
        if matches!(error, ExtractError::Io { .. }) {
            break;
        }
        let end = if front_only {
            window.front_end()
        } else {
            whole.end
        };
        match read_once(window, base..end.max(base), tags) {
            Ok(file) => return Ok(file),
            Err(error @ ExtractError::Io { .. }) => return Err(error),
            Err(_) => {}
        }
    }
    Err(error)
}

/// One try of a library on a part of the file.
fn read_once<F: AudioFile>(
    window: &mut Window<'_>,
    view: Range<u64>,
    options: ParseOptions,
) -> Result<F, ExtractError> {
    window.look_at(view);
    let outcome = catch_unwind(AssertUnwindSafe(|| F::read_from(window, options)));
    if let Some(failure) = window.take_failure() {
        return Err(failure);
    }
    match outcome {
        Ok(Ok(file)) => Ok(file),
        Ok(Err(_)) => Err(ExtractError::Malformed {
            reason: "broken structure",
        }),
        Err(_) => Err(ExtractError::Malformed {
            reason: "values that contradict each other",
        }),
    }
}

fn audio(codec: Codec, properties: &FileProperties) -> AudioProperties {
    let kilobits = properties
        .audio_bitrate()
        .filter(|&rate| rate > 0)
        .or(properties.overall_bitrate());
    AudioProperties {
        codec,
        duration_ms: u64::try_from(properties.duration().as_millis()).unwrap_or(u64::MAX),
        bitrate: kilobits.unwrap_or(0).saturating_mul(1000),
        sample_rate: properties.sample_rate().unwrap_or(0),
        bit_depth: properties.bit_depth().unwrap_or(0),
        channels: properties.channels().unwrap_or(0),
    }
}
