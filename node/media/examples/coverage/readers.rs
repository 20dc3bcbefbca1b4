//! The readers that are compared, each through its own high-level interface.

use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lofty::file::{AudioFile, FileType, TaggedFileExt};
use lofty::probe::Probe;
use lofty::tag::{ItemKey, Tag};
use musicfs_core::tags::{ArtEncoding, Artwork, Codec, Date, Tags, TrackInfo};
use musicfs_media::extract;
use symphonia::core::codecs::CodecParameters;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatReader, TrackType};
use symphonia::core::io::{MediaSource, MediaSourceStream};
use symphonia::core::meta::{MetadataRevision, StandardTag};

use crate::corpus::{Sample, Watched};

/// What a reader found and how many bytes it asked for.
#[derive(Default)]
pub(crate) struct Reading {
    pub(crate) info: TrackInfo,
    pub(crate) bytes_read: u64,
}

pub(crate) fn musicfs(sample: &Sample) -> Reading {
    let mut source = Watched::new(&sample.bytes);
    let extraction = extract(&mut source, sample.extension).expect("the sample is readable");
    Reading {
        info: extraction.info,
        bytes_read: extraction.bytes_read,
    }
}

/// Counts what is read.
struct Counted<'a> {
    bytes: Cursor<&'a [u8]>,
    count: Arc<AtomicU64>,
}

impl<'a> Counted<'a> {
    fn new(bytes: &'a [u8]) -> (Self, Arc<AtomicU64>) {
        let count = Arc::new(AtomicU64::new(0));
        let counted = Self {
            bytes: Cursor::new(bytes),
            count: Arc::clone(&count),
        };
        (counted, count)
    }
}

impl Read for Counted<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.bytes.read(buf)?;
        self.count.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

impl Seek for Counted<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.bytes.seek(to)
    }
}

impl MediaSource for Counted<'_> {
    fn is_seekable(&self) -> bool {
        true
    }

    fn byte_len(&self) -> Option<u64> {
        Some(self.bytes.get_ref().len() as u64)
    }
}

/// lofty's neutral `Tag`, the primary one of each file.
pub(crate) fn lofty_alone(sample: &Sample) -> Reading {
    let (counted, count) = Counted::new(&sample.bytes);
    // A reader of files would buffer; without it every byte of a frame header is a call.
    let probe = Probe::new(io::BufReader::new(counted)).guess_file_type();
    let Ok(file) = probe.expect("memory is readable").read() else {
        return Reading::default();
    };
    let mut info = TrackInfo::default();
    if let Some(tag) = file.primary_tag().or_else(|| file.first_tag()) {
        lofty_tags(tag, &mut info);
    }
    let properties = file.properties();
    info.audio.codec = match file.file_type() {
        FileType::Mp4 => Codec::Other,
        _ => Codec::Pcm, // Only whether it tells matters here.
    };
    info.audio.duration_ms = properties.duration().as_millis() as u64;
    info.audio.bitrate = properties.audio_bitrate().unwrap_or(0) * 1000;
    info.audio.sample_rate = properties.sample_rate().unwrap_or(0);
    info.audio.channels = properties.channels().unwrap_or(0);
    info.audio.bit_depth = properties.bit_depth().unwrap_or(0);
    Reading {
        info,
        bytes_read: count.load(Ordering::Relaxed),
    }
}

fn picture(data: &[u8]) -> Artwork {
    Artwork {
        kind: 0,
        mime: String::new(),
        size: data.len() as u64,
        range: 0..0,
        encoding: ArtEncoding::Raw,
    }
}

fn lofty_tags(tag: &Tag, info: &mut TrackInfo) {
    let all = |key| tag.get_strings(key).map(str::to_owned).collect::<Vec<_>>();
    let one = |key| tag.get_string(key).map(str::to_owned);
    let number = |key| tag.get_string(key).and_then(|text| text.parse().ok());
    let gain = |key| tag.get_string(key).and_then(millionths);
    let tags = &mut info.tags;
    tags.title = one(ItemKey::TrackTitle);
    tags.artists = all(ItemKey::TrackArtist);
    tags.album = one(ItemKey::AlbumTitle);
    tags.album_artists = all(ItemKey::AlbumArtist);
    tags.genres = all(ItemKey::Genre);
    let date = one(ItemKey::RecordingDate).or_else(|| one(ItemKey::Year));
    tags.date = date.as_deref().and_then(Date::parse);
    tags.original_date = one(ItemKey::OriginalReleaseDate)
        .as_deref()
        .and_then(Date::parse);
    tags.track = number(ItemKey::TrackNumber);
    tags.track_total = number(ItemKey::TrackTotal);
    tags.disc = number(ItemKey::DiscNumber);
    tags.disc_total = number(ItemKey::DiscTotal);
    tags.compilation = one(ItemKey::FlagCompilation).as_deref() == Some("1");
    tags.composers = all(ItemKey::Composer);
    let ids = &mut tags.musicbrainz;
    ids.recording = one(ItemKey::MusicBrainzRecordingId).or_else(|| ufid(tag));
    ids.track = one(ItemKey::MusicBrainzTrackId);
    ids.release = one(ItemKey::MusicBrainzReleaseId);
    ids.release_group = one(ItemKey::MusicBrainzReleaseGroupId);
    ids.artists = all(ItemKey::MusicBrainzArtistId);
    ids.release_artists = all(ItemKey::MusicBrainzReleaseArtistId);
    ids.work = one(ItemKey::MusicBrainzWorkId);
    tags.replay_gain.track_gain = gain(ItemKey::ReplayGainTrackGain);
    tags.replay_gain.track_peak = gain(ItemKey::ReplayGainTrackPeak);
    tags.replay_gain.album_gain = gain(ItemKey::ReplayGainAlbumGain);
    tags.replay_gain.album_peak = gain(ItemKey::ReplayGainAlbumPeak);
    let pictures = tag.pictures().iter();
    info.artwork = pictures.map(|one| picture(one.data())).collect();
}

fn ufid(tag: &Tag) -> Option<String> {
    let item = tag.get(ItemKey::MusicBrainzRecordingId)?;
    let bytes = item.value().binary()?;
    String::from_utf8(bytes.to_vec()).ok()
}

fn millionths(text: &str) -> Option<i32> {
    let number = text.trim_end_matches("dB").trim();
    let value: f64 = number.parse().ok()?;
    Some((value * 1e6).round() as i32)
}

/// symphonia's standard tags of all metadata that its probe and its reader find.
pub(crate) fn symphonia_alone(sample: &Sample) -> Reading {
    let (counted, count) = Counted::new(&sample.bytes);
    let stream = MediaSourceStream::new(Box::new(counted), Default::default());
    let mut hint = Hint::new();
    hint.with_extension(sample.extension);
    let probe = symphonia::default::get_probe();
    let mut info = TrackInfo::default();
    if let Ok(mut reader) = probe.probe(&hint, stream, Default::default(), Default::default()) {
        while let Some(revision) = reader.metadata().pop() {
            symphonia_tags(&revision, &mut info);
        }
        if let Some(revision) = reader.metadata().current() {
            symphonia_tags(revision, &mut info);
        }
        symphonia_audio(&*reader, &mut info);
    }
    Reading {
        info,
        bytes_read: count.load(Ordering::Relaxed),
    }
}

fn symphonia_audio(reader: &dyn FormatReader, info: &mut TrackInfo) {
    let Some(track) = reader.first_track(TrackType::Audio) else {
        return;
    };
    let Some(CodecParameters::Audio(audio)) = &track.codec_params else {
        return;
    };
    info.audio.codec = Codec::Pcm; // Only whether it tells matters here.
    info.audio.sample_rate = audio.sample_rate.unwrap_or(0);
    info.audio.channels = audio.channels.as_ref().map_or(0, |all| all.count() as u8);
    info.audio.bit_depth = audio.bits_per_sample.unwrap_or(0) as u8;
    let rate = u64::from(info.audio.sample_rate);
    let frames = track.num_frames.unwrap_or(0);
    info.audio.duration_ms = (frames * 1000).checked_div(rate).unwrap_or(0);
}

fn symphonia_tags(revision: &MetadataRevision, info: &mut TrackInfo) {
    for visual in &revision.media.visuals {
        info.artwork.push(picture(&visual.data));
    }
    let tracks = revision
        .per_track
        .iter()
        .flat_map(|track| &track.metadata.tags);
    for tag in revision.media.tags.iter().chain(tracks) {
        if let Some(standard) = &tag.std {
            symphonia_tag(standard, &mut info.tags);
        }
    }
}

fn symphonia_tag(tag: &StandardTag, tags: &mut Tags) {
    let text = |text: &Arc<String>| text.as_str().to_owned();
    let ids = &mut tags.musicbrainz;
    let gain = &mut tags.replay_gain;
    match tag {
        StandardTag::TrackTitle(one) => tags.title = Some(text(one)),
        StandardTag::Artist(one) => tags.artists.push(text(one)),
        StandardTag::Album(one) => tags.album = Some(text(one)),
        StandardTag::AlbumArtist(one) => tags.album_artists.push(text(one)),
        StandardTag::Genre(one) => tags.genres.push(text(one)),
        StandardTag::RecordingDate(one) | StandardTag::ReleaseDate(one) => {
            tags.date = Date::parse(one).or(tags.date);
        }
        StandardTag::RecordingYear(year) | StandardTag::ReleaseYear(year) => {
            tags.date = tags.date.or_else(|| Date::parse(&year.to_string()));
        }
        StandardTag::OriginalReleaseDate(one) | StandardTag::OriginalRecordingDate(one) => {
            tags.original_date = Date::parse(one);
        }
        StandardTag::OriginalReleaseYear(year) | StandardTag::OriginalRecordingYear(year) => {
            tags.original_date = Date::parse(&year.to_string());
        }
        StandardTag::TrackNumber(one) => tags.track = Some(*one as u32),
        StandardTag::TrackTotal(one) => tags.track_total = Some(*one as u32),
        StandardTag::DiscNumber(one) => tags.disc = Some(*one as u32),
        StandardTag::DiscTotal(one) => tags.disc_total = Some(*one as u32),
        StandardTag::CompilationFlag(flag) => tags.compilation = *flag,
        StandardTag::Composer(one) => tags.composers.push(text(one)),
        StandardTag::MusicBrainzRecordingId(one) | StandardTag::MusicBrainzTrackId(one) => {
            ids.recording = Some(text(one));
        }
        StandardTag::MusicBrainzReleaseTrackId(one) => ids.track = Some(text(one)),
        StandardTag::MusicBrainzAlbumId(one) => ids.release = Some(text(one)),
        StandardTag::MusicBrainzReleaseGroupId(one) => ids.release_group = Some(text(one)),
        StandardTag::MusicBrainzArtistId(one) => ids.artists.push(text(one)),
        StandardTag::MusicBrainzAlbumArtistId(one) => ids.release_artists.push(text(one)),
        StandardTag::MusicBrainzWorkId(one) => ids.work = Some(text(one)),
        StandardTag::ReplayGainTrackGain(one) => gain.track_gain = millionths(one),
        StandardTag::ReplayGainTrackPeak(one) => gain.track_peak = millionths(one),
        StandardTag::ReplayGainAlbumGain(one) => gain.album_gain = millionths(one),
        StandardTag::ReplayGainAlbumPeak(one) => gain.album_peak = millionths(one),
        _ => {}
    }
}
