//! What a track says about itself: tags, audio properties, embedded artwork.

use std::ops::Range;

/// The tags of one track, as read from its file.
///
/// Every text is valid UTF-8, trimmed, and never empty: a field without a value is absent. Apart
/// from that the text is untouched and hostile: it may hold `/`, `..` or control characters, and
/// only [`crate::names`] makes file names of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags {
    /// The name of the track.
    pub title: Option<String>,
    /// The performers, in the file's order. One tag that joins several names stays one entry.
    pub artists: Vec<String>,
    /// The name of the album.
    pub album: Option<String>,
    /// The artists that the album is filed under, in the file's order.
    pub album_artists: Vec<String>,
    /// Genres, in the file's order.
    pub genres: Vec<String>,
    /// When this edition was released.
    pub date: Option<Date>,
    /// When the music was first released.
    pub original_date: Option<Date>,
    /// The number of the track on its disc, from 1.
    pub track: Option<u32>,
    /// How many tracks the disc has.
    pub track_total: Option<u32>,
    /// The number of the disc in its set, from 1.
    pub disc: Option<u32>,
    /// How many discs the set has.
    pub disc_total: Option<u32>,
    /// The file says that it is part of a compilation by various artists.
    pub compilation: bool,
    /// Composers, in the file's order.
    pub composers: Vec<String>,
    /// MusicBrainz identifiers.
    pub musicbrainz: MusicBrainz,
    /// Loudness normalisation.
    pub replay_gain: ReplayGain,
    /// Further single-valued fields under beets' names (`label`, `catalognum`, `isrc`, `lyricist`,
    /// `arranger`, `grouping`, `comments`, `bpm`, `initial_key`, `language`, `media`, `disctitle`,
    /// `artist_sort`, `albumartist_sort`, `artist_credit`, `albumtype`, …), sorted by name.
    pub more: Vec<(String, String)>,
}

/// A date of which only the year is sure to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date {
    /// 1 to 9999.
    pub year: u16,
    /// 1 to 12, or 0 when unknown.
    pub month: u8,
    /// 1 to 31, or 0 when unknown.
    pub day: u8,
}

impl Date {
    /// Reads the date that starts `text`: `YYYY`, `YYYY-MM`, `YYYY-MM-DD` and anything after it
    /// (ID3v2.4 timestamps, `/` or `.` as separators, `YYYYMMDD`).
    ///
    /// A month or day out of range is unknown, not an error. `None` if no year from 1 to 9999 leads.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (year, rest) = match digits {
            4 => (&text[..4], &text[4..]),
            6 | 8 => (&text[..4], &text[4..digits]),
            _ => return None,
        };
        let year: u16 = year.parse().ok().filter(|&year| year > 0)?;
        let mut parts = rest.trim_start_matches(['-', '/', '.']);
        let mut part = |max: u8| {
            let two = parts.get(..2)?;
            let value: u8 = two.parse().ok()?;
            parts = parts[2..].trim_start_matches(['-', '/', '.']);
            (1..=max).contains(&value).then_some(value)
        };
        let month = part(12).unwrap_or(0);
        let day = if month > 0 { part(31).unwrap_or(0) } else { 0 };
        Some(Self { year, month, day })
    }
}

/// MusicBrainz identifiers of a track, as the lower-case UUIDs of its tags.
///
/// Names follow Picard's tag mapping: `recording` is the tag `MUSICBRAINZ_TRACKID`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MusicBrainz {
    /// The recording.
    pub recording: Option<String>,
    /// The track on its release.
    pub track: Option<String>,
    /// The release.
    pub release: Option<String>,
    /// The release group.
    pub release_group: Option<String>,
    /// The artists, in the file's order.
    pub artists: Vec<String>,
    /// The album artists, in the file's order.
    pub release_artists: Vec<String>,
    /// The work.
    pub work: Option<String>,
}

/// Loudness normalisation in millionths, so that tags compare exactly.
///
/// R128 tags of Opus (Q7.8 relative to −23 LUFS) are converted to ReplayGain's −18 LUFS by adding
/// 5 dB (RFC 7845 §5.2.1; ReplayGain 2.0).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplayGain {
    /// Gain of the track in millionths of a decibel.
    pub track_gain: Option<i32>,
    /// Peak of the track in millionths of full scale.
    pub track_peak: Option<i32>,
    /// Gain of the album in millionths of a decibel.
    pub album_gain: Option<i32>,
    /// Peak of the album in millionths of full scale.
    pub album_peak: Option<i32>,
}

/// The kind of container and coding that a track's bytes have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Codec {
    /// Free Lossless Audio Codec.
    Flac,
    /// MPEG audio layer III.
    Mp3,
    /// MPEG audio layers I and II.
    MpegAudio,
    /// Advanced Audio Coding.
    Aac,
    /// Apple Lossless.
    Alac,
    /// Vorbis.
    Vorbis,
    /// Opus.
    Opus,
    /// Uncompressed samples.
    Pcm,
    /// Anything else that a reader recognised.
    Other,
}

impl Codec {
    /// The name that the template variable `$codec` prints.
    pub fn name(self) -> &'static str {
        match self {
            Self::Flac => "FLAC",
            Self::Mp3 => "MP3",
            Self::MpegAudio => "MPEG",
            Self::Aac => "AAC",
            Self::Alac => "ALAC",
            Self::Vorbis => "Vorbis",
            Self::Opus => "Opus",
            Self::Pcm => "PCM",
            Self::Other => "Other",
        }
    }

    /// Every codec; the order is the one that stored numbers refer to.
    pub const ALL: [Self; 9] = [
        Self::Flac,
        Self::Mp3,
        Self::MpegAudio,
        Self::Aac,
        Self::Alac,
        Self::Vorbis,
        Self::Opus,
        Self::Pcm,
        Self::Other,
    ];
}

/// What the audio of a track is like. An unknown value is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioProperties {
    /// How the samples are coded.
    pub codec: Codec,
    /// Play time in milliseconds.
    pub duration_ms: u64,
    /// Mean bit rate of the audio in bits per second.
    pub bitrate: u32,
    /// Samples per second and channel.
    pub sample_rate: u32,
    /// Bits per sample; 0 for lossy codecs, which have none.
    pub bit_depth: u8,
    /// Channels.
    pub channels: u8,
}

impl Default for AudioProperties {
    fn default() -> Self {
        Self {
            codec: Codec::Other,
            duration_ms: 0,
            bitrate: 0,
            sample_rate: 0,
            bit_depth: 0,
            channels: 0,
        }
    }
}

/// How the bytes of a picture lie in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArtEncoding {
    /// The range holds the picture's bytes as they are.
    Raw,
    /// The range holds them with ID3v2's unsynchronisation (a zero after each `FF` that needs one).
    Unsynchronised,
    /// The range holds base64 text without gaps. Whole groups of four characters: decoded, up to two
    /// bytes that belong to something else precede the picture, whose bytes are the last `size`.
    Base64,
    /// The same with Ogg page headers in it.
    Base64InOggPages,
}

impl ArtEncoding {
    /// Every encoding; the order is the one that stored numbers refer to.
    pub const ALL: [Self; 4] = [
        Self::Raw,
        Self::Unsynchronised,
        Self::Base64,
        Self::Base64InOggPages,
    ];
}

/// One embedded picture: what it is and where it lies, never its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artwork {
    /// The picture type of ID3v2 and FLAC (0 other, 3 front cover, 4 back cover, … 20).
    pub kind: u8,
    /// The MIME type; derived from the bytes when the tag is silent.
    pub mime: String,
    /// Length of the decoded picture in bytes.
    pub size: u64,
    /// Where the encoded picture lies in the file, in bytes from its start.
    pub range: Range<u64>,
    /// How `range` encodes it.
    pub encoding: ArtEncoding,
}

/// Everything that one pass over a track's file yields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrackInfo {
    /// The tags.
    pub tags: Tags,
    /// The audio.
    pub audio: AudioProperties,
    /// Embedded pictures, in the file's order.
    pub artwork: Vec<Artwork>,
}

/// How the bytes of an audio file are arranged: which of them tag readers touch follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioLayout {
    /// The container.
    pub container: Container,
    /// Where the metadata at the front ends: the start of the audio, the end of a leading `moov`,
    /// the end of the last header page.
    pub front_end: u64,
    /// Where the structure behind the audio starts: tags, trailing chunks, a trailing `moov`. The
    /// file's size where there is none.
    pub tail_start: u64,
}

/// What kind of file holds the audio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// FLAC with its own framing.
    Flac,
    /// MPEG audio frames, and AAC in ADTS.
    Mpeg,
    /// MP4 and M4A.
    Mp4,
    /// Ogg with Vorbis or Opus.
    Ogg,
    /// WAV and AIFF: chunks.
    Iff,
    /// Everything else.
    Other,
}

impl Container {
    /// Every container; the order is the one that stored numbers refer to.
    pub const ALL: [Self; 6] = [
        Self::Flac,
        Self::Mpeg,
        Self::Mp4,
        Self::Ogg,
        Self::Iff,
        Self::Other,
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_keeps_what_is_known_of_it() {
        let check = |text: &str, expect: Option<(u16, u8, u8)>| {
            let got = Date::parse(text).map(|date| (date.year, date.month, date.day));
            assert_eq!(got, expect, "{text:?}");
        };
        check("1997", Some((1997, 0, 0)));
        check(" 1997-06 ", Some((1997, 6, 0)));
        check("1997-06-16", Some((1997, 6, 16)));
        check("1997-06-16T12:00:00", Some((1997, 6, 16)));
        check("1997/06/16", Some((1997, 6, 16)));
        check("19970616", Some((1997, 6, 16)));
        check("1997-13-40", Some((1997, 0, 0)));
        check("1997-00-16", Some((1997, 0, 0)));
        check("0000", None);
        check("97", None);
        check("", None);
        check("about 1997", None);
        check("1997-é", Some((1997, 0, 0)));
    }
}
