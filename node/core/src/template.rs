//! The path template: where in the tree a track appears, as a function of its tags.
//!
//! The grammar is beets': `$field`, `${field}`, `%function{argument,argument}` and the escapes `$$`,
//! `$%`, `$,` and `$}`; `[` and `]` stand for themselves. MusicFS adds `${a|b}`, the first of the
//! fields that is not empty, and `%opt{…}`, which is printed only if every field in it has a value
//! (fields in a nested `%opt` count for that one alone). A `/` of the template separates
//! components; a `/` of a value never does.
//!
//! Unlike beets, which prints what it does not understand as it is, an unknown field or function
//! and a lone `$`, `%` or `}` are errors: a typo would otherwise rename the whole library.

mod error;
mod eval;
mod field;
mod parse;

use crate::names::NameProfile;
use crate::tags::{AudioProperties, Tags};

pub use error::{TemplateError, TemplateReason};
pub use field::MORE_FIELDS;

use field::Field;

/// A checked path template.
///
/// Holds at least one component. A clone copies the syntax tree, a few hundred bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    source: String,
    nodes: Vec<Node>,
}

/// What a template can print of one track.
#[derive(Clone, Copy, Debug)]
pub struct TrackFacts<'a> {
    /// The tags.
    pub tags: &'a Tags,
    /// The audio.
    pub audio: &'a AudioProperties,
    /// The real file's name without its extension; bytes that are not UTF-8 replaced.
    pub stem: &'a str,
    /// The real file's extension in lower case, without the dot.
    pub extension: &'a str,
    /// The track's album has more than one disc.
    pub multi_disc: bool,
    /// The tags could not be read: the track keeps its file's name, in directories made of defaults.
    pub unreadable: bool,
}

/// One piece of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    /// Text without `/`.
    Text(String),
    /// The end of a component.
    Slash,
    /// The first of these fields that is not empty. At least one.
    Fields(Vec<Field>),
    /// A function and its arguments.
    Call(Function, Vec<Vec<Node>>),
}

/// The functions of the grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Function {
    /// Prints its argument if every field in it has a value.
    Opt,
}

impl Template {
    /// Artist, album and disc as directories; track number and title as the file's name.
    pub const DEFAULT: &str = "${albumartist|artist}/$album%opt{ ($year)} [$format_upper]/\
        %opt{$disc_dir/}$track - $title.$format";

    /// The longest template in bytes. One is a line that a person wrote.
    pub const LEN_MAX: usize = 4096;

    /// How deep functions may be nested, which bounds the recursion of parsing and rendering.
    pub const DEPTH_MAX: usize = 16;

    /// How many components a path may have: as many names of 255 bytes as fit Linux's PATH_MAX.
    pub const COMPONENTS_MAX: usize = 16;

    /// Parses and checks a template.
    ///
    /// # Errors
    /// [`TemplateError`], which tells the user where the template is wrong and what to write.
    pub fn parse(source: &str) -> Result<Self, TemplateError> {
        let nodes = parse::parse(source)?;
        Ok(Self {
            source: source.to_owned(),
            nodes,
        })
    }

    /// True if what is printed of a track depends on other tracks of its album: a caller then
    /// renders all of them anew when one of them changes.
    pub fn uses_album(&self) -> bool {
        let mut fields = Vec::new();
        eval::collect_fields(&self.nodes, &mut fields);
        fields.contains(&Field::DiscDir)
    }

    /// The text that was parsed.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The path of `track` below the tree's root: directories, then the file's name.
    ///
    /// At least one and at most [`Template::COMPONENTS_MAX`] components, each made by
    /// [`crate::names::component`]. A component that would be empty vanishes; if it is the last
    /// one, the file keeps its own name.
    pub fn render(&self, track: &TrackFacts<'_>, profile: NameProfile) -> Vec<String> {
        eval::render(&self.nodes, track, profile)
    }
}

impl Default for Template {
    fn default() -> Self {
        Self::parse(Self::DEFAULT).expect("a test parses the default template")
    }
}

impl Function {
    const ALL: [Self; 1] = [Self::Opt];

    fn name(self) -> &'static str {
        match self {
            Self::Opt => "opt",
        }
    }

    /// How many arguments it takes.
    fn arguments_count(self) -> usize {
        match self {
            Self::Opt => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::tests::hostile;
    use crate::names::{NAME_LEN_MAX, component};
    use crate::tags::{Codec, Date, MusicBrainz, ReplayGain};
    use proptest::prelude::*;

    const AUDIO: AudioProperties = AudioProperties {
        codec: Codec::Flac,
        duration_ms: 205_999,
        bitrate: 320_900,
        sample_rate: 44_100,
        bit_depth: 16,
        channels: 2,
    };

    fn facts(tags: &Tags) -> TrackFacts<'_> {
        TrackFacts {
            tags,
            audio: &AUDIO,
            stem: "07_real name",
            extension: "flac",
            multi_disc: false,
            unreadable: false,
        }
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    fn tags() -> Tags {
        let date = |year, month, day| Some(Date { year, month, day });
        Tags {
            title: Some("Airbag".to_owned()),
            artists: texts(&["Radiohead", "Guest"]),
            album: Some("OK Computer".to_owned()),
            album_artists: texts(&["Radiohead"]),
            genres: texts(&["Rock", "Art Rock"]),
            date: date(1997, 6, 0),
            original_date: date(1996, 5, 21),
            track: Some(1),
            track_total: Some(112),
            disc: Some(2),
            disc_total: Some(2),
            compilation: false,
            composers: texts(&["Yorke", "Greenwood"]),
            musicbrainz: MusicBrainz {
                recording: Some("recording".to_owned()),
                artists: texts(&["first", "second"]),
                ..MusicBrainz::default()
            },
            replay_gain: ReplayGain {
                track_gain: Some(-7_460_000),
                ..ReplayGain::default()
            },
            more: vec![("label".to_owned(), "Parlophone".to_owned())],
        }
    }

    fn render(source: &str, track: &TrackFacts<'_>) -> String {
        let template = Template::parse(source).unwrap();
        template.render(track, NameProfile::Windows).join("/")
    }

    #[test]
    fn the_default_template_files_a_track_by_its_tags() {
        let check = |track: &TrackFacts<'_>, expect: &str| {
            let path = Template::default().render(track, NameProfile::Windows);
            assert_eq!(path.join("/"), expect);
        };
        let full = tags();
        let mut track = facts(&full);
        check(
            &track,
            "Radiohead/OK Computer (1997) [FLAC]/01 - Airbag.flac",
        );
        track.multi_disc = true;
        check(
            &track,
            "Radiohead/OK Computer (1997) [FLAC]/Disc 2/01 - Airbag.flac",
        );
        let none = Tags::default();
        let mut track = facts(&none);
        track.multi_disc = true;
        check(
            &track,
            "Unknown Artist/Unknown Album [FLAC]/00 - 07_real name.flac",
        );
    }

    #[test]
    fn only_disc_dir_depends_on_the_album() {
        let check = |source: &str, expect: bool| {
            assert_eq!(Template::parse(source).unwrap().uses_album(), expect);
        };
        check(Template::DEFAULT, true);
        check("${disc|disc_dir}", true);
        check("$album/$disc-$track", false);
        assert_eq!(Template::default().source(), Template::DEFAULT);
    }

    #[test]
    fn every_field_prints_its_value_or_its_default() {
        let (full, none) = (tags(), Tags::default());
        let silent = AudioProperties::default();
        let check = |name: &str, value: &str, default: &str| {
            let source = format!("x${{{name}}}x");
            assert_eq!(
                render(&source, &facts(&full)),
                format!("x{value}x"),
                "{name}"
            );
            let mut track = facts(&none);
            (track.audio, track.extension) = (&silent, "");
            assert_eq!(render(&source, &track), format!("x{default}x"), "{name}");
        };
        check("artist", "Radiohead, Guest", "Unknown Artist");
        check("artists", "Radiohead; Guest", "Unknown Artist");
        check("albumartist", "Radiohead", "Unknown Artist");
        check("albumartists", "Radiohead", "Unknown Artist");
        check("album", "OK Computer", "Unknown Album");
        check("title", "Airbag", "07_real name");
        check("track", "01", "00");
        check("tracktotal", "112", "00");
        check("disc", "02", "00");
        check("disctotal", "02", "00");
        check("year", "1997", "0000");
        check("month", "06", "00");
        check("day", "00", "00");
        check("original_year", "1996", "0000");
        check("original_month", "05", "00");
        check("original_day", "21", "00");
        check("genre", "Rock", "Unknown Genre");
        check("genres", "Rock; Art Rock", "Unknown Genre");
        check("format", "flac", "");
        check("format_upper", "FLAC", "");
        check("codec", "FLAC", "Other");
        check("composer", "Yorke, Greenwood", "");
        check("composers", "Yorke; Greenwood", "");
        check("comp", "False", "False");
        check("bitrate", "320kbps", "0kbps");
        check("samplerate", "44kHz", "0kHz");
        check("bitdepth", "16", "0");
        check("channels", "2", "0");
        check("length", "3_25", "0_00");
        check("mb_trackid", "recording", "");
        check("mb_artistid", "first", "");
        check("mb_artistids", "first; second", "");
        check("rg_track_gain", "-7.5", "");
        check("label", "Parlophone", "");
        check("catalognum", "", "");
    }

    #[test]
    fn every_name_in_the_tables_is_a_field_of_its_own() {
        let names: Vec<&str> = Field::names().collect();
        let fields: Vec<Field> = names.iter().filter_map(|name| Field::parse(name)).collect();
        assert_eq!(fields.len(), names.len());
        for (at, field) in fields.iter().enumerate() {
            assert!(!fields[..at].contains(field), "{field:?}");
        }
        assert!(MORE_FIELDS.is_sorted());
    }

    #[test]
    fn the_first_field_with_a_value_is_printed() {
        let check = |tags: &Tags, source: &str, expect: &str| {
            assert_eq!(render(source, &facts(tags)), expect, "{source}");
        };
        let mut some = Tags {
            artists: texts(&["Someone"]),
            ..Tags::default()
        };
        check(&some, "${albumartist|artist}", "Someone");
        check(&some, "$albumartist", "Someone");
        check(&some, "${label|year|album|genre}", "0000");
        check(&some, "x${label|catalognum}", "x");
        some.compilation = true;
        check(&some, "${albumartist|artist}", "Various Artists");
        check(&some, "%opt{$comp/}$artist", "True/Someone");
        some.album_artists = texts(&["DJ"]);
        check(&some, "${albumartist|artist}", "DJ");
        some.artists.clear();
        check(&some, "$artist", "DJ");
        some.artists = texts(&["\u{feff}"]);
        check(&some, "${artist|albumartist}", "DJ");
    }

    #[test]
    fn opt_prints_nothing_unless_every_field_has_a_value() {
        let tags = Tags {
            track: Some(0),
            ..tags()
        };
        let check = |source: &str, expect: &str| {
            assert_eq!(render(source, &facts(&tags)), expect, "{source}");
        };
        check("a%opt{ $year-$month}", "a 1997-06");
        check("a%opt{ $year-$day}", "a");
        check("a%opt{ $track}", "a");
        check("a%opt{ ${day|month}}", "a 06");
        check("a%opt{ $year%opt{-$day}}", "a 1997");
        check("a%opt{ $day%opt{-$year}}", "a");
        check("a%opt{$genre}%opt{b}", "aRockb");
    }

    #[test]
    fn a_component_of_nothing_vanishes() {
        let tags = tags();
        let check = |source: &str, expect: &str| {
            assert_eq!(render(source, &facts(&tags)), expect, "{source}");
        };
        check("$catalognum/$title", "Airbag");
        check("$label/%opt{$disc_dir/}$title", "Parlophone/Airbag");
        check("$label/%opt{$disc_dir}/$title", "Parlophone/Airbag");
        check("$catalognum $isrc/$title", "Airbag");
        check("$album/$catalognum", "OK Computer/07_real name.flac");
    }

    #[test]
    fn an_unreadable_file_keeps_its_name() {
        let tags = tags();
        let mut track = facts(&tags);
        track.unreadable = true;
        let check = |track: &TrackFacts<'_>, expect: &str| {
            assert_eq!(render(Template::DEFAULT, track), expect);
        };
        check(
            &track,
            "Unknown Artist/Unknown Album [FLAC]/07_real name.flac",
        );
        track.stem = ".a:b";
        check(&track, "Unknown Artist/Unknown Album [FLAC]/_a_b.flac");
        (track.stem, track.extension) = ("", "");
        check(&track, "Unknown Artist/Unknown Album []/_");
    }

    #[test]
    fn a_slash_in_a_tag_stays_inside_one_name() {
        let check = |value: &str, expect: &str| {
            let tags = Tags {
                title: Some(value.to_owned()),
                album: Some(value.to_owned()),
                ..Tags::default()
            };
            let got = render("$album/$title.$format", &facts(&tags));
            assert_eq!(got, expect, "{value:?}");
        };
        check("AC/DC", "AC_DC/AC_DC.flac");
        check("..", "__/_..flac");
        check("../..", "_._._/_._...flac");
        check("/", "_/_.flac");
        check(".search", "_search/_search.flac");
        check("a\0b", "a_b/a_b.flac");
        let long = "x".repeat(10_000);
        check(&long, &format!("{}/{}.flac", &long[..255], &long[..250]));
    }

    fn hostile_tags() -> impl Strategy<Value = Tags> {
        let list = || proptest::collection::vec(hostile(), 0..3);
        let text = || proptest::option::of(hostile());
        let number = || proptest::option::of(any::<u32>());
        let names = (text(), list(), text(), list(), list(), hostile());
        (names, number(), number(), any::<bool>()).prop_map(|(names, track, disc, compilation)| {
            let (title, artists, album, album_artists, genres, label) = names;
            Tags {
                title,
                artists,
                album,
                album_artists,
                genres,
                track,
                disc,
                compilation,
                more: vec![("label".to_owned(), label)],
                ..Tags::default()
            }
        })
    }

    proptest! {
        #[test]
        fn no_tag_escapes_its_component(
            tags in hostile_tags(),
            stem in hostile(),
            extension in hostile(),
            multi_disc in any::<bool>(),
            unreadable in any::<bool>(),
            profile in proptest::sample::select(NameProfile::ALL.to_vec()),
        ) {
            let template = Template::parse(
                "$label/${albumartist|artist}/$album%opt{ ($genre)}/%opt{$disc_dir/}$title.$format",
            ).unwrap();
            let (stem, extension) = (stem.as_str(), extension.as_str());
            let mut track = facts(&tags);
            (track.stem, track.extension) = (stem, extension);
            (track.multi_disc, track.unreadable) = (multi_disc, unreadable);
            let path = template.render(&track, profile);
            prop_assert!((3..=5).contains(&path.len()), "{:?}", path);
            for name in &path {
                prop_assert!(!name.is_empty() && name.len() <= NAME_LEN_MAX);
                prop_assert!(!name.contains(['/', '\0']) && !name.starts_with('.'));
                prop_assert!(unicode_normalization::is_nfc(name));
                prop_assert_eq!(&component(name, Some(extension), profile), name);
            }
        }
    }
}
