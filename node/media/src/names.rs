//! The names under which Vorbis comments, APEv2, `TXXX` and MP4's freeform atoms keep fields.
//!
//! Picard's mapping uses the same words in all of them and differs in case, spaces and
//! underscores only, so one table serves all
//! (<https://picard-docs.musicbrainz.org/en/appendices/tag_mapping.html>).

use crate::fields::Field;

/// The longest name that the table knows, so that a hostile name costs nothing.
const NAME_BYTES_MAX: usize = 64;

/// Sorted by name: upper case without spaces and underscores.
const NAMES: [(&str, Field); 85] = [
    ("ACOUSTIDID", Field::More("acoustid_id")),
    ("ALBUM", Field::Album),
    ("ALBUMARTIST", Field::AlbumArtist),
    ("ALBUMARTISTCREDIT", Field::More("albumartist_credit")),
    ("ALBUMARTISTS", Field::AlbumArtists),
    ("ALBUMARTISTSORT", Field::More("albumartist_sort")),
    ("ALBUMDISAMBIG", Field::More("albumdisambig")),
    ("ALBUMSORT", Field::More("album_sort")),
    ("ARRANGER", Field::More("arranger")),
    ("ARTIST", Field::Artist),
    ("ARTISTCREDIT", Field::More("artist_credit")),
    ("ARTISTS", Field::Artists),
    ("ARTISTSORT", Field::More("artist_sort")),
    ("ASIN", Field::More("asin")),
    ("BARCODE", Field::More("barcode")),
    ("BPM", Field::More("bpm")),
    ("CATALOG", Field::More("catalognum")),
    ("CATALOGNUMBER", Field::More("catalognum")),
    ("COMMENT", Field::More("comments")),
    ("COMMENTS", Field::More("comments")),
    ("COMPILATION", Field::Compilation),
    ("COMPOSER", Field::Composer),
    ("COMPOSERSORT", Field::More("composer_sort")),
    ("CONDUCTOR", Field::More("conductor")),
    ("COUNTRY", Field::More("country")),
    ("DATE", Field::Date),
    ("DESCRIPTION", Field::More("comments")),
    ("DISC", Field::Disc),
    ("DISCNUMBER", Field::Disc),
    ("DISCSUBTITLE", Field::More("disctitle")),
    ("DISCTOTAL", Field::DiscTotal),
    ("DISK", Field::Disc),
    ("ENCODEDBY", Field::More("encoder")),
    ("GENRE", Field::Genre),
    ("GROUPING", Field::More("grouping")),
    ("INITIALKEY", Field::More("initial_key")),
    ("ISRC", Field::More("isrc")),
    ("KEY", Field::More("initial_key")),
    ("LABEL", Field::More("label")),
    ("LANGUAGE", Field::More("language")),
    ("LYRICIST", Field::More("lyricist")),
    ("MEDIA", Field::More("media")),
    ("MIXARTIST", Field::More("remixer")),
    ("MOOD", Field::More("mood")),
    ("MUSICBRAINZALBUMARTISTID", Field::MbReleaseArtist),
    ("MUSICBRAINZALBUMCOMMENT", Field::More("albumdisambig")),
    ("MUSICBRAINZALBUMID", Field::MbRelease),
    ("MUSICBRAINZALBUMRELEASECOUNTRY", Field::More("country")),
    ("MUSICBRAINZALBUMSTATUS", Field::More("albumstatus")),
    ("MUSICBRAINZALBUMTYPE", Field::More("albumtype")),
    ("MUSICBRAINZARTISTID", Field::MbArtist),
    ("MUSICBRAINZRELEASEGROUPID", Field::MbReleaseGroup),
    ("MUSICBRAINZRELEASETRACKID", Field::MbTrack),
    ("MUSICBRAINZTRACKID", Field::MbRecording),
    ("MUSICBRAINZWORKID", Field::MbWork),
    ("ORGANIZATION", Field::More("label")),
    ("ORIGINALDATE", Field::OriginalDate),
    ("ORIGINALYEAR", Field::OriginalYear),
    ("PUBLISHER", Field::More("label")),
    ("R128ALBUMGAIN", Field::R128AlbumGain),
    ("R128TRACKGAIN", Field::R128TrackGain),
    ("RECORDLABEL", Field::More("label")),
    ("RELEASECOUNTRY", Field::More("country")),
    ("RELEASESTATUS", Field::More("albumstatus")),
    ("RELEASETYPE", Field::More("albumtype")),
    ("REMIXER", Field::More("remixer")),
    ("REPLAYGAINALBUMGAIN", Field::AlbumGain),
    ("REPLAYGAINALBUMPEAK", Field::AlbumPeak),
    ("REPLAYGAINTRACKGAIN", Field::TrackGain),
    ("REPLAYGAINTRACKPEAK", Field::TrackPeak),
    ("SCRIPT", Field::More("script")),
    ("SUBTITLE", Field::More("subtitle")),
    ("TEMPO", Field::More("bpm")),
    ("TITLE", Field::Title),
    ("TITLESORT", Field::More("title_sort")),
    ("TOTALDISCS", Field::DiscTotal),
    ("TOTALTRACKS", Field::TrackTotal),
    ("TRACK", Field::Track),
    ("TRACKC", Field::TrackTotal),
    ("TRACKNUMBER", Field::Track),
    ("TRACKTOTAL", Field::TrackTotal),
    ("UPC", Field::More("barcode")),
    ("WORK", Field::More("work")),
    ("WRITER", Field::More("lyricist")),
    ("YEAR", Field::Year),
];

/// What a name stands for, in whichever spelling.
pub(crate) fn field_of(name: &str) -> Option<Field> {
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let plain: String = name
        .chars()
        .filter(|c| !matches!(c, ' ' | '_'))
        .map(|c| c.to_ascii_uppercase())
        .collect();
    let at = NAMES.binary_search_by(|(known, _)| known.cmp(&plain.as_str()));
    at.ok().map(|at| NAMES[at].1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_plain() {
        for pair in NAMES.windows(2) {
            assert!(pair[0].0 < pair[1].0, "{} {}", pair[0].0, pair[1].0);
        }
        for (name, field) in NAMES {
            assert_eq!(field_of(name), Some(field), "{name}");
        }
    }

    #[test]
    fn spellings_of_all_formats_meet() {
        for name in [
            "MUSICBRAINZ_ALBUMID",
            "MusicBrainz Album Id",
            "musicbrainz_albumid",
        ] {
            assert_eq!(field_of(name), Some(Field::MbRelease), "{name}");
        }
        for name in ["ALBUMARTIST", "Album Artist", "album_artist"] {
            assert_eq!(field_of(name), Some(Field::AlbumArtist), "{name}");
        }
        assert_eq!(field_of("nothing"), None);
        assert_eq!(field_of(""), None);
    }
}
