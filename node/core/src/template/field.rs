//! The fields that a template can print, their values and their defaults.

use crate::names::{NameProfile, sanitize_value};
use crate::tags::Date;

use super::TrackFacts;

/// The longest text of a tag that is looked at, in characters. A name holds 255 bytes at most; a
/// novel in a comment must not cost more than that.
const VALUE_LEN_MAX: usize = 1024;

/// The fields of [`Tags::more`](crate::tags::Tags::more) that a template knows: beets' names for
/// what readers may find beyond the fields of `Tags`. They are empty where a track lacks them.
///
/// Sorted.
pub const MORE_FIELDS: &[&str] = &[
    "acoustid_id",
    "album_sort",
    "albumartist_credit",
    "albumartist_sort",
    "albumartists_credit",
    "albumartists_sort",
    "albumdisambig",
    "albumstatus",
    "albumtype",
    "albumtypes",
    "arranger",
    "arrangers",
    "artist_credit",
    "artist_sort",
    "artists_credit",
    "artists_sort",
    "asin",
    "barcode",
    "bitrate_mode",
    "bpm",
    "catalognum",
    "comments",
    "composer_sort",
    "conductor",
    "country",
    "disctitle",
    "encoder",
    "encoder_info",
    "encoder_settings",
    "grouping",
    "initial_key",
    "isrc",
    "label",
    "language",
    "lyricist",
    "lyricists",
    "media",
    "mood",
    "release_group_title",
    "releasegroupdisambig",
    "remixer",
    "remixers",
    "script",
    "style",
    "subtitle",
    "title_sort",
    "trackdisambig",
    "work",
    "work_disambig",
];

/// The fields with a variant of their own, by name.
const FIELDS: &[(&str, Field)] = &[
    ("album", Field::Album),
    ("albumartist", Field::AlbumArtist),
    ("albumartists", Field::AlbumArtists),
    ("artist", Field::Artist),
    ("artists", Field::Artists),
    ("bitdepth", Field::BitDepth),
    ("bitrate", Field::Bitrate),
    ("channels", Field::Channels),
    ("codec", Field::Codec),
    ("comp", Field::Comp),
    ("composer", Field::Composer),
    ("composers", Field::Composers),
    ("day", Field::Day),
    ("disc", Field::Disc),
    ("disc_dir", Field::DiscDir),
    ("disctotal", Field::DiscTotal),
    ("format", Field::Format),
    ("format_upper", Field::FormatUpper),
    ("genre", Field::Genre),
    ("genres", Field::Genres),
    ("length", Field::Length),
    ("mb_albumartistid", Field::MbAlbumArtistId),
    ("mb_albumartistids", Field::MbAlbumArtistIds),
    ("mb_albumid", Field::MbAlbumId),
    ("mb_artistid", Field::MbArtistId),
    ("mb_artistids", Field::MbArtistIds),
    ("mb_releasegroupid", Field::MbReleaseGroupId),
    ("mb_releasetrackid", Field::MbReleaseTrackId),
    ("mb_trackid", Field::MbTrackId),
    ("mb_workid", Field::MbWorkId),
    ("month", Field::Month),
    ("original_day", Field::OriginalDay),
    ("original_month", Field::OriginalMonth),
    ("original_year", Field::OriginalYear),
    ("rg_album_gain", Field::RgAlbumGain),
    ("rg_album_peak", Field::RgAlbumPeak),
    ("rg_track_gain", Field::RgTrackGain),
    ("rg_track_peak", Field::RgTrackPeak),
    ("samplerate", Field::SampleRate),
    ("title", Field::Title),
    ("track", Field::Track),
    ("tracktotal", Field::TrackTotal),
    ("year", Field::Year),
];

/// One field of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Album,
    AlbumArtist,
    AlbumArtists,
    Artist,
    Artists,
    BitDepth,
    Bitrate,
    Channels,
    Codec,
    Comp,
    Composer,
    Composers,
    Day,
    Disc,
    DiscDir,
    DiscTotal,
    Format,
    FormatUpper,
    Genre,
    Genres,
    Length,
    MbAlbumArtistId,
    MbAlbumArtistIds,
    MbAlbumId,
    MbArtistId,
    MbArtistIds,
    MbReleaseGroupId,
    MbReleaseTrackId,
    MbTrackId,
    MbWorkId,
    Month,
    OriginalDay,
    OriginalMonth,
    OriginalYear,
    RgAlbumGain,
    RgAlbumPeak,
    RgTrackGain,
    RgTrackPeak,
    SampleRate,
    Title,
    Track,
    TrackTotal,
    Year,
    /// One of [`MORE_FIELDS`].
    More(&'static str),
}

impl Field {
    /// The field of that name.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let known = FIELDS.iter().find(|(known, _)| *known == name);
        known.map(|&(_, field)| field).or_else(|| {
            let at = MORE_FIELDS.binary_search(&name).ok()?;
            Some(Self::More(MORE_FIELDS[at]))
        })
    }

    /// The names of all fields.
    pub(super) fn names() -> impl Iterator<Item = &'static str> {
        let more = MORE_FIELDS.iter().copied();
        FIELDS.iter().map(|&(name, _)| name).chain(more)
    }

    /// What the track says, safe inside a component; empty if it says nothing.
    pub(super) fn value(self, track: &TrackFacts<'_>, profile: NameProfile) -> String {
        let raw = self.raw(track);
        sanitize_value(capped(&raw), profile).into_owned()
    }

    /// What is printed if the value is empty; may be empty itself.
    pub(super) fn default(self, track: &TrackFacts<'_>, profile: NameProfile) -> String {
        // As in beets, the two artists stand in for each other.
        let or_artist = |other: Self| match other.value(track, profile) {
            name if name.is_empty() => "Unknown Artist".to_owned(),
            name => name,
        };
        let fixed = match self {
            Self::Artist => return or_artist(Self::AlbumArtist),
            Self::Artists => return or_artist(Self::AlbumArtists),
            Self::AlbumArtist => return or_artist(Self::Artist),
            Self::AlbumArtists => return or_artist(Self::Artists),
            Self::Title => match sanitize_value(capped(track.stem), profile) {
                stem if stem.is_empty() => "Unknown Title",
                stem => return stem.into_owned(),
            },
            Self::Album => "Unknown Album",
            Self::Genre | Self::Genres => "Unknown Genre",
            Self::Year | Self::OriginalYear => "0000",
            Self::Track | Self::TrackTotal | Self::Disc | Self::DiscTotal => "00",
            Self::Month | Self::Day | Self::OriginalMonth | Self::OriginalDay => "00",
            Self::BitDepth | Self::Channels => "0",
            Self::Bitrate => "0kbps",
            Self::SampleRate => "0kHz",
            Self::Length => return sanitize_value("0:00", profile).into_owned(),
            Self::Comp => "False",
            Self::Codec | Self::Composer | Self::Composers => "",
            Self::DiscDir | Self::Format | Self::FormatUpper => "",
            Self::MbAlbumArtistId | Self::MbAlbumArtistIds | Self::MbAlbumId => "",
            Self::MbArtistId | Self::MbArtistIds | Self::MbReleaseGroupId => "",
            Self::MbReleaseTrackId | Self::MbTrackId | Self::MbWorkId => "",
            Self::RgAlbumGain | Self::RgAlbumPeak | Self::RgTrackGain | Self::RgTrackPeak => "",
            Self::More(_) => "",
        };
        fixed.to_owned()
    }

    /// The value as the tags have it: hostile, and of any length.
    fn raw(self, track: &TrackFacts<'_>) -> String {
        let (tags, audio, ids) = (track.tags, track.audio, &track.tags.musicbrainz);
        match self {
            Self::Album => text(&tags.album),
            Self::AlbumArtist => album_artists(track, ", "),
            Self::AlbumArtists => album_artists(track, "; "),
            Self::Artist => joined(&tags.artists, ", "),
            Self::Artists => joined(&tags.artists, "; "),
            Self::BitDepth => number(Some(audio.bit_depth.into()), 1),
            Self::Bitrate => scaled(audio.bitrate, "kbps"),
            Self::Channels => number(Some(audio.channels.into()), 1),
            Self::Codec => audio.codec.name().to_owned(),
            Self::Comp => (if tags.compilation { "True" } else { "" }).to_owned(),
            Self::Composer => joined(&tags.composers, ", "),
            Self::Composers => joined(&tags.composers, "; "),
            Self::Day => date(tags.date, |date| date.day.into(), 2),
            Self::Disc => number(tags.disc, 2),
            Self::DiscDir => disc_dir(track),
            Self::DiscTotal => number(tags.disc_total, 2),
            Self::Format => track.extension.to_owned(),
            Self::FormatUpper => track.extension.to_uppercase(),
            Self::Genre => text(&tags.genres.first()),
            Self::Genres => joined(&tags.genres, "; "),
            Self::Length => length(audio.duration_ms),
            Self::MbAlbumArtistId => text(&ids.release_artists.first()),
            Self::MbAlbumArtistIds => joined(&ids.release_artists, "; "),
            Self::MbAlbumId => text(&ids.release),
            Self::MbArtistId => text(&ids.artists.first()),
            Self::MbArtistIds => joined(&ids.artists, "; "),
            Self::MbReleaseGroupId => text(&ids.release_group),
            Self::MbReleaseTrackId => text(&ids.track),
            Self::MbTrackId => text(&ids.recording),
            Self::MbWorkId => text(&ids.work),
            Self::Month => date(tags.date, |date| date.month.into(), 2),
            Self::OriginalDay => date(tags.original_date, |date| date.day.into(), 2),
            Self::OriginalMonth => date(tags.original_date, |date| date.month.into(), 2),
            Self::OriginalYear => date(tags.original_date, |date| date.year.into(), 4),
            Self::RgAlbumGain => millionths(tags.replay_gain.album_gain),
            Self::RgAlbumPeak => millionths(tags.replay_gain.album_peak),
            Self::RgTrackGain => millionths(tags.replay_gain.track_gain),
            Self::RgTrackPeak => millionths(tags.replay_gain.track_peak),
            Self::SampleRate => scaled(audio.sample_rate, "kHz"),
            Self::Title => text(&tags.title),
            Self::Track => number(tags.track, 2),
            Self::TrackTotal => number(tags.track_total, 2),
            Self::Year => date(tags.date, |date| date.year.into(), 4),
            Self::More(name) => text(&tags.more.iter().find(|(n, _)| n == name).map(|(_, v)| v)),
        }
    }
}

/// The first [`VALUE_LEN_MAX`] characters.
fn capped(text: &str) -> &str {
    match text.char_indices().nth(VALUE_LEN_MAX) {
        Some((at, _)) => &text[..at],
        None => text,
    }
}

fn text(value: &Option<impl AsRef<str>>) -> String {
    let value = value.as_ref().map_or("", AsRef::as_ref);
    capped(value).to_owned()
}

/// As many of the values as can be seen in a name, with `separator` between them.
fn joined(values: &[String], separator: &str) -> String {
    let mut all = String::new();
    for value in values {
        if all.len() > VALUE_LEN_MAX * 4 {
            break;
        }
        if !all.is_empty() {
            all.push_str(separator);
        }
        all.push_str(capped(value));
    }
    all
}

fn album_artists(track: &TrackFacts<'_>, separator: &str) -> String {
    if track.tags.compilation && track.tags.album_artists.is_empty() {
        return "Various Artists".to_owned();
    }
    joined(&track.tags.album_artists, separator)
}

fn disc_dir(track: &TrackFacts<'_>) -> String {
    match track.tags.disc {
        Some(disc) if disc > 0 && track.multi_disc => format!("Disc {disc}"),
        _ => String::new(),
    }
}

/// A number with at least `digits`; zero is unknown.
fn number(value: Option<u32>, digits: usize) -> String {
    match value {
        Some(value) if value > 0 => format!("{value:0digits$}"),
        _ => String::new(),
    }
}

fn date(date: Option<Date>, part: fn(Date) -> u32, digits: usize) -> String {
    number(date.map(part), digits)
}

/// Thousands, rounded down as in beets: `44kHz`.
fn scaled(value: u32, unit: &str) -> String {
    match value {
        0 => String::new(),
        _ => format!("{}{unit}", value / 1000),
    }
}

/// One decimal, as in beets.
fn millionths(value: Option<i32>) -> String {
    value.map_or_else(String::new, |value| {
        format!("{:.1}", f64::from(value) / 1e6)
    })
}

fn length(duration_ms: u64) -> String {
    let seconds = duration_ms / 1000;
    match duration_ms {
        0 => String::new(),
        _ => format!("{}:{:02}", seconds / 60, seconds % 60),
    }
}
