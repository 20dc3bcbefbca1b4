//! The fields of a tag under neutral names, and what their texts mean.

use std::collections::BTreeMap;

use lofty::id3::v1::GENRES;
use musicfs_core::tags::{Date, MusicBrainz, ReplayGain, Tags};

use crate::text::clean;

/// The most values that one field keeps.
const VALUES_MAX: usize = 256;

/// The most further fields that a track keeps.
const MORE_MAX: usize = 64;

/// One thing that a tag can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Field {
    Title,
    Artist,
    /// Picard's list of single artists; counts only where no artist is given.
    Artists,
    Album,
    AlbumArtist,
    /// Picard's list of single album artists; counts only where no album artist is given.
    AlbumArtists,
    Genre,
    Date,
    /// A year beside the date, for files that have no date.
    Year,
    OriginalDate,
    OriginalYear,
    Track,
    TrackTotal,
    Disc,
    DiscTotal,
    Compilation,
    Composer,
    MbRecording,
    MbTrack,
    MbRelease,
    MbReleaseGroup,
    MbArtist,
    MbReleaseArtist,
    MbWork,
    TrackGain,
    TrackPeak,
    AlbumGain,
    AlbumPeak,
    R128TrackGain,
    R128AlbumGain,
    /// A further field under beets' name.
    More(&'static str),
}

/// The fields of one or more tags of a file, each with its values in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields(BTreeMap<Field, Vec<String>>);

impl Fields {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds one value; NULs in it part it into several.
    pub(crate) fn push(&mut self, field: Field, value: &str) {
        for part in value.split('\0') {
            let Some(part) = clean(part) else { continue };
            let values = self.0.entry(field).or_default();
            if values.len() < VALUES_MAX {
                values.push(part.to_owned());
            }
        }
    }

    /// Adds genres as ID3 writes them: `(17)`, `(17)Rock`, `17` and `RX` are names too.
    pub(crate) fn push_genre(&mut self, value: &str) {
        for part in value.split('\0') {
            for genre in id3_genres(part) {
                self.push(Field::Genre, &genre);
            }
        }
    }

    /// Makes the year a date with `day`, which ID3v2.3 writes as `DDMM`.
    pub(crate) fn complete_year(&mut self, day: &str) {
        let day = day.trim();
        let Some(year) = self
            .0
            .get_mut(&Field::Year)
            .and_then(|years| years.first_mut())
        else {
            return;
        };
        if year.len() == 4 && day.len() == 4 && day.bytes().all(|byte| byte.is_ascii_digit()) {
            *year = format!("{year}-{}-{}", &day[2..], &day[..2]);
        }
    }

    /// Takes those fields of `other` that this one has not.
    pub(crate) fn merge_missing(&mut self, other: Self) {
        for (field, values) in other.0 {
            self.0.entry(field).or_insert(values);
        }
    }

    /// What the texts mean.
    pub(crate) fn into_tags(mut self) -> Tags {
        let (track, track_total) = self.number_pair(Field::Track, Field::TrackTotal);
        let (disc, disc_total) = self.number_pair(Field::Disc, Field::DiscTotal);
        let date = self.date([Field::Date, Field::Year]);
        let original_date = self.date([Field::OriginalDate, Field::OriginalYear]);
        let compilation = self
            .first(Field::Compilation)
            .is_some_and(|value| is_true(&value));
        let musicbrainz = self.musicbrainz();
        let replay_gain = self.replay_gain();
        let mut more: Vec<(String, String)> = Vec::new();
        for (field, values) in &self.0 {
            if let (Field::More(name), Some(value)) = (field, values.first()) {
                more.push(((*name).to_owned(), value.clone()));
            }
        }
        more.sort_unstable();
        more.truncate(MORE_MAX);
        Tags {
            title: self.first(Field::Title),
            artists: self.either(Field::Artist, Field::Artists),
            album: self.first(Field::Album),
            album_artists: self.either(Field::AlbumArtist, Field::AlbumArtists),
            genres: self.all(Field::Genre),
            date,
            original_date,
            track,
            track_total,
            disc,
            disc_total,
            compilation,
            composers: self.all(Field::Composer),
            musicbrainz,
            replay_gain,
            more,
        }
    }

    fn all(&mut self, field: Field) -> Vec<String> {
        self.0.remove(&field).unwrap_or_default()
    }

    fn either(&mut self, field: Field, otherwise: Field) -> Vec<String> {
        match self.all(field) {
            values if values.is_empty() => self.all(otherwise),
            values => values,
        }
    }

    fn first(&mut self, field: Field) -> Option<String> {
        self.0.get_mut(&field)?.drain(..).next()
    }

    fn number_pair(&mut self, number: Field, total: Field) -> (Option<u32>, Option<u32>) {
        let total = self.first(total).as_deref().and_then(leading_number);
        let Some(value) = self.first(number) else {
            return (None, total);
        };
        match value.split_once('/') {
            Some((number, other)) => (leading_number(number), total.or(leading_number(other))),
            None => (leading_number(&value), total),
        }
    }

    /// The date of the first field that has one.
    fn date(&mut self, fields: [Field; 2]) -> Option<Date> {
        let dates = fields.map(|field| self.first(field).and_then(|value| Date::parse(&value)));
        dates.into_iter().flatten().next()
    }

    fn musicbrainz(&mut self) -> MusicBrainz {
        let mut ids = |field| -> Vec<String> {
            let values = self.all(field);
            values.iter().flat_map(|value| uuids(value)).collect()
        };
        let mut id = |field| ids(field).into_iter().next();
        MusicBrainz {
            recording: id(Field::MbRecording),
            track: id(Field::MbTrack),
            release: id(Field::MbRelease),
            release_group: id(Field::MbReleaseGroup),
            work: id(Field::MbWork),
            artists: ids(Field::MbArtist),
            release_artists: ids(Field::MbReleaseArtist),
        }
    }

    fn replay_gain(&mut self) -> ReplayGain {
        let mut millionths = |field, r128: Option<Field>| {
            let value = self.first(field);
            let r128 = r128.and_then(|field| self.first(field));
            value
                .as_deref()
                .and_then(gain_millionths)
                .or_else(|| r128.as_deref().and_then(r128_millionths))
        };
        ReplayGain {
            track_gain: millionths(Field::TrackGain, Some(Field::R128TrackGain)),
            track_peak: millionths(Field::TrackPeak, None),
            album_gain: millionths(Field::AlbumGain, Some(Field::R128AlbumGain)),
            album_peak: millionths(Field::AlbumPeak, None),
        }
    }
}

/// The number that starts `text`; 0 says nothing.
fn leading_number(text: &str) -> Option<u32> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    text[..digits].parse().ok().filter(|&number| number > 0)
}

fn is_true(text: &str) -> bool {
    ["1", "true", "yes"]
        .iter()
        .any(|word| text.eq_ignore_ascii_case(word))
}

/// `-6.54 dB` and `0.988` in millionths.
fn gain_millionths(text: &str) -> Option<i32> {
    let text = text.trim();
    let number = text
        .trim_end_matches(|c: char| c.is_ascii_alphabetic())
        .trim_end()
        .replace(',', ".");
    let value: f64 = number.parse().ok()?;
    // Beyond a thousand decibels or a peak of a thousand there is no music.
    (value.abs() <= 1000.0).then_some((value * 1e6).round() as i32)
}

/// Q7.8 relative to -23 LUFS (RFC 7845 §5.2.1) as ReplayGain, 5 dB louder.
fn r128_millionths(text: &str) -> Option<i32> {
    let value: i16 = text.trim().parse().ok()?;
    let millionths = i64::from(value) * 1_000_000 / 256 + 5_000_000;
    i32::try_from(millionths).ok()
}

/// The UUIDs in a text, in lower case, whatever parts them.
fn uuids(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|c: char| !c.is_ascii_hexdigit() && c != '-')
        .filter(|word| {
            word.len() == 36
                && word
                    .bytes()
                    .enumerate()
                    .all(|(at, byte)| matches!(at, 8 | 13 | 18 | 23) == (byte == b'-'))
        })
        .map(str::to_ascii_lowercase)
}

/// Genres of one ID3 value (ID3v2.3 §4.2.1 TCON): references in parentheses, then a refinement.
fn id3_genres(value: &str) -> Vec<String> {
    let mut genres = Vec::new();
    let mut rest = value.trim();
    while let Some(inner) = rest.strip_prefix('(') {
        if inner.starts_with('(') {
            rest = inner;
            break;
        }
        let Some((reference, behind)) = inner.split_once(')') else {
            break;
        };
        let Some(name) = genre_of_reference(reference) else {
            break;
        };
        genres.push(name.to_owned());
        rest = behind.trim_start();
    }
    let name = genre_of_reference(rest).unwrap_or(rest);
    let repeats = genres.iter().any(|genre| genre.eq_ignore_ascii_case(name));
    if !name.is_empty() && !repeats {
        genres.push(name.to_owned());
    }
    genres
}

fn genre_of_reference(reference: &str) -> Option<&'static str> {
    match reference {
        "RX" => Some("Remix"),
        "CR" => Some("Cover"),
        _ if reference.bytes().all(|byte| byte.is_ascii_digit()) => {
            GENRES.get(reference.parse::<usize>().ok()?).copied()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id3_genre_references_become_names() {
        let check = |value: &str, expect: &[&str]| assert_eq!(id3_genres(value), expect, "{value}");
        check("Rock", &["Rock"]);
        check("17", &["Rock"]);
        check("(17)", &["Rock"]);
        check("(17)Rock", &["Rock"]);
        check("(17)Krautrock", &["Rock", "Krautrock"]);
        check("(8)(RX)", &["Jazz", "Remix"]);
        check("((odd) genre", &["(odd) genre"]);
        check("(2000)", &["(2000)"]);
        check("", &[]);
    }

    #[test]
    fn numbers_gains_and_ids_are_read_as_written() {
        assert_eq!(leading_number("03"), Some(3));
        assert_eq!(leading_number("A1"), None);
        assert_eq!(leading_number("99999999999"), None);
        assert_eq!(leading_number("0"), None);
        assert_eq!(gain_millionths("-6.54 dB"), Some(-6_540_000));
        assert_eq!(gain_millionths("+1,5dB"), Some(1_500_000));
        assert_eq!(gain_millionths("0.988553"), Some(988_553));
        assert_eq!(gain_millionths("nan"), None);
        assert_eq!(gain_millionths("inf dB"), None);
        assert_eq!(r128_millionths("-512"), Some(3_000_000));
        let id = "0383DADF-2A4E-4D10-A46A-E9E041DA8EB3";
        let two: Vec<_> = uuids(&format!("{id}; {id}/x")).collect();
        assert_eq!(two, [id.to_lowercase(), id.to_lowercase()]);
        assert_eq!(uuids("0383dadf-2a4e").count(), 0);
    }

    #[test]
    fn a_total_may_stand_in_either_place() {
        let mut fields = Fields::default();
        fields.push(Field::Track, "3/12");
        fields.push(Field::Disc, "1/9");
        fields.push(Field::DiscTotal, "2");
        let tags = fields.into_tags();
        assert_eq!((tags.track, tags.track_total), (Some(3), Some(12)));
        assert_eq!((tags.disc, tags.disc_total), (Some(1), Some(2)));
    }

    #[test]
    fn values_and_fields_are_bounded() {
        let mut fields = Fields::default();
        for at in 0..10_000 {
            fields.push(Field::Artist, &format!("artist {at}"));
        }
        assert_eq!(fields.into_tags().artists.len(), VALUES_MAX);
    }
}
