//! How tags become columns and back.

use musicfs_core::tags::{
    ArtEncoding, Artwork, AudioLayout, AudioProperties, Codec, Container, Date, MusicBrainz,
    ReplayGain, Tags,
};
use rusqlite::Row;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Separates the values of a list in a column that only searches and people read.
const JOINT: &str = "; ";

/// The tags that have no column of their own. Absent means empty.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct More {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    artists: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    album_artists: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    genres: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    composers: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    date: Option<(u16, u8, u8)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    original_date: Option<(u16, u8, u8)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    track_total: Option<u32>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    compilation: bool,
    /// recording, track, release, release group, work
    #[serde(skip_serializing_if = "Option::is_none")]
    mb: Option<[Option<String>; 5]>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mb_artists: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mb_release_artists: Vec<String>,
    /// track gain and peak, album gain and peak
    #[serde(skip_serializing_if = "Option::is_none")]
    gain: Option<[Option<i32>; 4]>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    more: Vec<(String, String)>,
}

/// The columns of [`Tags`] in `files`.
pub(crate) struct TagColumns {
    pub(crate) artist: Option<String>,
    pub(crate) album_artist: Option<String>,
    pub(crate) genre: Option<String>,
    pub(crate) more: String,
    pub(crate) album_key: Option<i64>,
}

impl TagColumns {
    pub(crate) fn new(tags: &Tags) -> Self {
        let joined = |list: &[String]| (!list.is_empty()).then(|| list.join(JOINT));
        let triple = |date: Date| (date.year, date.month, date.day);
        let mb = &tags.musicbrainz;
        let ids = [
            &mb.recording,
            &mb.track,
            &mb.release,
            &mb.release_group,
            &mb.work,
        ];
        let rg = tags.replay_gain;
        let gains = [rg.track_gain, rg.track_peak, rg.album_gain, rg.album_peak];
        let more = More {
            artists: tags.artists.clone(),
            album_artists: tags.album_artists.clone(),
            genres: tags.genres.clone(),
            composers: tags.composers.clone(),
            date: tags.date.map(triple),
            original_date: tags.original_date.map(triple),
            track_total: tags.track_total,
            compilation: tags.compilation,
            mb: ids
                .iter()
                .any(|id| id.is_some())
                .then(|| ids.map(Clone::clone)),
            mb_artists: mb.artists.clone(),
            mb_release_artists: mb.release_artists.clone(),
            gain: gains.iter().any(Option::is_some).then_some(gains),
            more: tags.more.clone(),
        };
        Self {
            artist: joined(&tags.artists),
            album_artist: joined(&tags.album_artists),
            genre: joined(&tags.genres),
            more: serde_json::to_string(&more).expect("a struct of text and numbers is JSON"),
            album_key: album_key(tags),
        }
    }
}

/// Which album a track is of: the same number for the same album artist and album title.
fn album_key(tags: &Tags) -> Option<i64> {
    let album = tags.album.as_deref()?;
    let artists = if tags.compilation || !tags.album_artists.is_empty() {
        &tags.album_artists
    } else {
        &tags.artists
    };
    let mut hasher = blake3::Hasher::new();
    hasher.update(artists.join("\0").as_bytes());
    hasher.update(b"\0\0");
    hasher.update(album.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    Some(i64::from_le_bytes(first))
}

/// The columns that [`tags_of`] and [`audio_of`] need, in a `SELECT` on `files f`.
pub(crate) const TAG_COLUMNS: &str = "f.title, f.album, f.track, f.disc, f.disc_total, f.more, \
     f.codec, f.duration_ms, f.bitrate, f.sample_rate, f.bit_depth, f.channels";

/// Reads the tags from a row whose [`TAG_COLUMNS`] start at `at`.
pub(crate) fn tags_of(row: &Row<'_>, at: usize) -> Result<Tags, Error> {
    let damaged = |_| Error::Damaged { table: "files" };
    let more: Option<String> = row.get(at + 5).map_err(damaged)?;
    let more: More = match more {
        Some(text) => serde_json::from_str(&text).map_err(|_| Error::Damaged { table: "files" })?,
        None => More::default(),
    };
    let date = |(year, month, day)| Date { year, month, day };
    let [recording, track_id, release, release_group, work] = more.mb.unwrap_or_default();
    let [track_gain, track_peak, album_gain, album_peak] = more.gain.unwrap_or_default();
    Ok(Tags {
        title: row.get(at).map_err(damaged)?,
        album: row.get(at + 1).map_err(damaged)?,
        track: row.get(at + 2).map_err(damaged)?,
        disc: row.get(at + 3).map_err(damaged)?,
        disc_total: row.get(at + 4).map_err(damaged)?,
        artists: more.artists,
        album_artists: more.album_artists,
        genres: more.genres,
        date: more.date.map(date),
        original_date: more.original_date.map(date),
        track_total: more.track_total,
        compilation: more.compilation,
        composers: more.composers,
        musicbrainz: MusicBrainz {
            recording,
            track: track_id,
            release,
            release_group,
            artists: more.mb_artists,
            release_artists: more.mb_release_artists,
            work,
        },
        replay_gain: ReplayGain {
            track_gain,
            track_peak,
            album_gain,
            album_peak,
        },
        more: more.more,
    })
}

/// Reads the audio properties from a row whose [`TAG_COLUMNS`] start at `at`.
pub(crate) fn audio_of(row: &Row<'_>, at: usize) -> Result<AudioProperties, Error> {
    let number = |column: usize| {
        row.get::<_, Option<i64>>(at + column)
            .map(Option::unwrap_or_default)
            .map_err(|_| Error::Damaged { table: "files" })
    };
    let codec = usize::try_from(number(6)?)
        .ok()
        .and_then(|code| Codec::ALL.get(code).copied());
    Ok(AudioProperties {
        codec: codec.unwrap_or(Codec::Other),
        duration_ms: number(7)?.try_into().unwrap_or(0),
        bitrate: number(8)?.try_into().unwrap_or(0),
        sample_rate: number(9)?.try_into().unwrap_or(0),
        bit_depth: number(10)?.try_into().unwrap_or(0),
        channels: number(11)?.try_into().unwrap_or(0),
    })
}

/// The columns that [`layout_of`] needs, in a `SELECT` on `files f`.
pub(crate) const LAYOUT_COLUMNS: &str = "f.container, f.front_end, f.tail_start";

/// Reads the layout from a row whose [`LAYOUT_COLUMNS`] start at `at`.
///
/// A container that this program does not know gives `None`: the layout only saves requests.
pub(crate) fn layout_of(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<AudioLayout>> {
    let container: Option<i64> = row.get(at)?;
    let front_end: Option<i64> = row.get(at + 1)?;
    let tail_start: Option<i64> = row.get(at + 2)?;
    let container = container
        .and_then(|number| usize::try_from(number).ok())
        .and_then(|number| Container::ALL.get(number).copied());
    let ends = front_end.zip(tail_start);
    Ok(container
        .zip(ends)
        .map(|(container, (front_end, tail_start))| AudioLayout {
            container,
            front_end: front_end.cast_unsigned(),
            tail_start: tail_start.cast_unsigned(),
        }))
}

/// The number that stands for a container.
pub(crate) fn container_number(container: Container) -> i64 {
    position(&Container::ALL, &container)
}

/// The number that stands for a codec.
pub(crate) fn codec_number(codec: Codec) -> i64 {
    position(&Codec::ALL, &codec)
}

/// The number that stands for an encoding of artwork.
pub(crate) fn encoding_number(artwork: &Artwork) -> i64 {
    position(&ArtEncoding::ALL, &artwork.encoding)
}

fn position<T: PartialEq>(all: &[T], one: &T) -> i64 {
    let at = all
        .iter()
        .position(|each| each == one)
        .expect("ALL holds every variant");
    i64::try_from(at).expect("a handful of variants")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_album_is_its_artist_and_title() {
        let tags = |album: &str, artists: &[&str], album_artists: &[&str], compilation| Tags {
            album: Some(album.into()),
            artists: artists.iter().map(ToString::to_string).collect(),
            album_artists: album_artists.iter().map(ToString::to_string).collect(),
            compilation,
            ..Tags::default()
        };
        let key = |tags: &Tags| album_key(tags).unwrap();
        assert_eq!(
            key(&tags("A", &["x"], &["v"], false)),
            key(&tags("A", &["y"], &["v"], false))
        );
        assert_ne!(
            key(&tags("A", &["x"], &[], false)),
            key(&tags("A", &["y"], &[], false))
        );
        assert_eq!(
            key(&tags("A", &["x"], &[], true)),
            key(&tags("A", &["y"], &[], true))
        );
        assert_eq!(album_key(&Tags::default()), None);
    }
}
