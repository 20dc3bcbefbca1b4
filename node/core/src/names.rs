//! File names: what a name may hold, and how entries that want one name are told apart.
//!
//! Tags are hostile. Whatever they say, a name made here stays one component of a path: no `/`, no
//! NUL, never empty, `.` or `..`, and no leading dot, so that it can be neither a hidden file nor
//! one of the virtual directories (`.search`, `.collections`).

mod resolve;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use unicode_normalization::char::is_combining_mark;
use unicode_normalization::{UnicodeNormalization, is_nfc};

pub use resolve::resolve;

/// The longest name in bytes (Linux's NAME_MAX; also what most filesystems store).
pub const NAME_LEN_MAX: usize = 255;

/// The longest tail after a dot that counts as an extension, in bytes.
const EXTENSION_LEN_MAX: usize = 32;

/// Stands for whatever a name may not hold, as in beets.
const REPLACEMENT: char = '_';

/// Which characters names may hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum NameProfile {
    /// Anything but `/`, NUL and control characters.
    Posix,
    /// What Windows and SMB clients can open: also none of `< > : " | ? * \`, no dot or space at
    /// the end, no device name.
    #[default]
    Windows,
    /// What FAT and old players can store: also no characters beyond the Basic Multilingual Plane.
    Fat,
}

/// Why a text is no [`NameProfile`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("parse name profile: use 'posix', 'windows' or 'fat'")]
pub struct InvalidNameProfile;

impl NameProfile {
    /// Every profile, from the freest to the strictest.
    pub const ALL: [Self; 3] = [Self::Posix, Self::Windows, Self::Fat];

    /// The profile's name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Posix => "posix",
            Self::Windows => "windows",
            Self::Fat => "fat",
        }
    }

    fn is_windows(self) -> bool {
        match self {
            Self::Posix => false,
            Self::Windows | Self::Fat => true,
        }
    }

    /// What a name holds in place of `character`: nothing, another one, or itself.
    fn replace(self, character: char) -> Option<char> {
        let legal = match character {
            // Invisible marks that reorder or disguise what is displayed (UAX #9), and U+FEFF.
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' => return None,
            '\u{2066}'..='\u{2069}' | '\u{feff}' => return None,
            '/' | '\u{2028}' | '\u{2029}' => false,
            '<' | '>' | ':' | '"' | '|' | '?' | '*' | '\\' => !self.is_windows(),
            '\u{10000}'.. => self != Self::Fat,
            _ => !character.is_control(),
        };
        Some(if legal { character } else { REPLACEMENT })
    }
}

impl FromStr for NameProfile {
    type Err = InvalidNameProfile;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut all = Self::ALL.into_iter();
        all.find(|profile| profile.as_str() == text)
            .ok_or(InvalidNameProfile)
    }
}

impl fmt::Display for NameProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Makes one value of a tag safe inside a component: NFC, trimmed, only legal characters.
///
/// The result may be empty, `.`, `..` or too long; [`component`] sees to that. Idempotent.
pub fn sanitize_value(text: &str, profile: NameProfile) -> Cow<'_, str> {
    if is_nfc(text) && text.chars().all(|c| profile.replace(c) == Some(c)) {
        return Cow::Borrowed(text.trim());
    }
    // Twice NFC: the first can yield characters that need replacing (U+FA6C is U+242EE), and what
    // is removed in between can bring a letter and its accent together.
    let replaced = text.nfc().filter_map(|c| profile.replace(c)).nfc();
    Cow::Owned(replaced.collect::<String>().trim().to_owned())
}

/// Makes a finished component: a name that every tool can use and that cannot leave its directory.
///
/// `extension` is the real file's, without the dot. If `text` ends with it (in any case), a name
/// that is too long loses the end of its stem and not its extension.
///
/// The result is NFC, 1 to [`NAME_LEN_MAX`] bytes, never `.` or `..`, never starts with a dot, and
/// is legal in `profile`. Idempotent.
pub fn component(text: &str, extension: Option<&str>, profile: NameProfile) -> String {
    let text = sanitize_value(text, profile);
    let (stem, extension) = split_known_extension(&text, extension, profile);
    let stem_len_max = NAME_LEN_MAX - extension.len();

    let mut stem = match stem.strip_prefix('.') {
        Some(rest) => format!("{REPLACEMENT}{rest}"),
        None if stem.is_empty() => REPLACEMENT.to_string(),
        None => stem.to_owned(),
    };
    truncate(&mut stem, stem_len_max);
    if profile.is_windows() {
        if let Some(device_len) = device_len(&stem) {
            stem.insert(device_len, REPLACEMENT);
            truncate(&mut stem, stem_len_max);
        }
        if extension.is_empty() && stem.ends_with('.') {
            stem.pop();
            stem.push(REPLACEMENT);
        }
    }
    stem + extension
}

/// Splits `text` before the dot of `extension`, if it ends with that.
fn split_known_extension<'a>(
    text: &'a str,
    extension: Option<&str>,
    profile: NameProfile,
) -> (&'a str, &'a str) {
    let whole = text.split_at(text.len());
    let Some(extension) = extension.map(|extension| sanitize_value(extension, profile)) else {
        return whole;
    };
    match text.rfind('.') {
        Some(at) if text[at + 1..].eq_ignore_ascii_case(&extension) && is_extension(&extension) => {
            text.split_at(at)
        }
        _ => whole,
    }
}

fn is_extension(tail: &str) -> bool {
    (1..=EXTENSION_LEN_MAX).contains(&tail.len())
        && !tail.contains(|c: char| c == '.' || c.is_whitespace())
}

/// Cuts `text` to `len_max` bytes, between a letter and its accents only if all of it is accents,
/// and trims what it cut.
fn truncate(text: &mut String, len_max: usize) {
    if text.len() <= len_max {
        return;
    }
    let cut = text.floor_char_boundary(len_max);
    let tail_starts_with_mark = |at: &usize| text[*at..].starts_with(is_combining_mark);
    let mut boundaries = (1..=cut).rev().filter(|&at| text.is_char_boundary(at));
    let cut = boundaries
        .find(|at| !tail_starts_with_mark(at))
        .unwrap_or(cut);
    text.truncate(cut);
    text.truncate(text.trim_end().len());
}

/// The length of the device name that `name` would be taken for, with or without an extension.
///
/// Source: Microsoft, "Naming Files, Paths, and Namespaces". The superscript digits count too.
fn device_len(name: &str) -> Option<usize> {
    let base = name.split('.').next().unwrap_or_default().trim_end();
    let upper = base.to_ascii_uppercase();
    let is_device = match upper.as_str() {
        "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$" => true,
        _ => upper
            .strip_prefix("COM")
            .or_else(|| upper.strip_prefix("LPT"))
            .is_some_and(|port| {
                matches!(port, "¹" | "²" | "³") || matches!(port.as_bytes(), [b'1'..=b'9'])
            }),
    };
    is_device.then_some(base.len())
}

/// The part before the last dot, and the one after it; a leading dot starts no extension.
pub fn split_extension(name: &[u8]) -> (&[u8], &[u8]) {
    match name.iter().rposition(|&byte| byte == b'.') {
        Some(at) if at > 0 => (&name[..at], &name[at + 1..]),
        _ => (name, b""),
    }
}

/// The extension of a name in lower case, as text; empty if there is none.
pub fn extension_of(name: &[u8]) -> String {
    String::from_utf8_lossy(split_extension(name).1).to_lowercase()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use NameProfile::{Fat, Posix, Windows};
    use proptest::prelude::*;

    #[test]
    fn a_profile_is_known_by_its_name() {
        for profile in NameProfile::ALL {
            assert_eq!(profile.as_str().parse(), Ok(profile));
        }
        assert_eq!("NTFS".parse::<NameProfile>(), Err(InvalidNameProfile));
        assert_eq!(NameProfile::default(), Windows);
    }

    #[test]
    fn a_value_loses_what_a_name_may_not_hold() {
        let check = |text: &str, profile, expect: &str| {
            assert_eq!(sanitize_value(text, profile), expect, "{text:?}");
        };
        check("AC/DC", Posix, "AC_DC");
        check("a\0b\nc\u{85}d\u{2028}e", Posix, "a_b_c_d_e");
        check("  spaced\u{a0}", Posix, "spaced");
        check(r#"<a>:"b"|?*\"#, Posix, r#"<a>:"b"|?*\"#);
        check(r#"<a>:"b"|?*\"#, Windows, "_a___b_____");
        check("a\u{202e}cba\u{2066}\u{feff}", Posix, "acba");
        check("e\u{301}", Posix, "é");
        check("e\u{200e}\u{301}", Posix, "é");
        check("𝄞 and 😀", Windows, "𝄞 and 😀");
        check("𝄞 and 😀", Fat, "_ and _");
        check("\u{fa6c}", Fat, "_");
        check("…", Fat, "…");
        check("\u{feff} ", Windows, "");
    }

    #[test]
    fn a_component_cannot_leave_its_directory() {
        let check = |text: &str, expect: &str| {
            assert_eq!(component(text, None, Posix), expect, "{text:?}");
        };
        check("", "_");
        check(" ", "_");
        check(".", "_");
        check("..", "_.");
        check("/", "_");
        check("../../etc/passwd", "_._.._etc_passwd");
        check(".search", "_search");
        check(" .collections ", "_collections");
        check("\u{feff}.search", "_search");
        check("plain", "plain");
        check("ends with a dot.", "ends with a dot.");
        check("NUL", "NUL");
    }

    #[test]
    fn a_component_can_be_opened_on_windows() {
        let check = |text: &str, expect: &str| {
            for profile in [Windows, Fat] {
                assert_eq!(component(text, Some("flac"), profile), expect, "{text:?}");
            }
        };
        check("..", "__");
        check("etc...", "etc.._");
        check("Vol. ", "Vol_");
        check("nul", "nul_");
        check("Con.flac", "Con_.flac");
        check("AUX .flac", "AUX_ .flac");
        check("com1.tar.flac", "com1_.tar.flac");
        check("LPT².flac", "LPT²_.flac");
        check("COM10.flac", "COM10.flac");
        check("COM0", "COM0");
        check("Console.flac", "Console.flac");
        check(".flac", "_.flac");
        check(&format!("CON{}x.flac", " ".repeat(300)), "CON_.flac");
    }

    #[test]
    fn a_long_name_keeps_its_extension() {
        let check = |text: &str, extension: Option<&str>, expect: &str| {
            let got = component(text, extension, Windows);
            assert!(got.len() <= NAME_LEN_MAX);
            assert_eq!(got, expect, "{text:?}");
        };
        let long = "x".repeat(300);
        check(&long, None, &"x".repeat(255));
        let stem = "x".repeat(250);
        check(
            &format!("{long}.FLAC"),
            Some("flac"),
            &format!("{stem}.FLAC"),
        );
        check(&format!("{long}.mp3"), Some("flac"), &"x".repeat(255));
        check(&format!("{long}.{long}"), Some(&long), &"x".repeat(255));
        // A cut falls between characters, in front of a letter whose accents would be lost, and
        // leaves no white space.
        check(&"é".repeat(200), None, &"é".repeat(127));
        check(
            &format!("{}q\u{307}\u{323}", "x".repeat(252)),
            None,
            &"x".repeat(252),
        );
        check(
            &format!("{} {long}.flac", "x".repeat(249)),
            Some("flac"),
            &format!("{}.flac", "x".repeat(249)),
        );
        check(
            &format!("{}.{long}", "x".repeat(254)),
            None,
            &format!("{}_", "x".repeat(254)),
        );
        let marks = "\u{307}".repeat(200);
        assert_eq!(component(&marks, None, Posix), "\u{307}".repeat(127));
    }

    /// What is most likely to break a name.
    const PIECES: &str = "/|..|.|\0| |\n|[|]| [abcdefg2]|CON|nul.|\u{301}|\u{338}|e|<|\u{202e}|\
        \u{feff}|\u{fa6c}|😀|.flac|.search";

    /// Text as an attacker would write it.
    pub(crate) fn hostile() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            "[ -~]{0,8}",
            any::<char>().prop_map(String::from),
            proptest::sample::select(PIECES.split('|').collect::<Vec<_>>()).prop_map(String::from),
            (any::<char>(), 1..400usize).prop_map(|(c, count)| c.to_string().repeat(count)),
        ];
        proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
    }

    fn profiles() -> impl Strategy<Value = NameProfile> {
        proptest::sample::select(NameProfile::ALL.to_vec())
    }

    proptest! {
        #[test]
        fn sanitising_twice_is_sanitising_once(text in hostile(), profile in profiles()) {
            let once = sanitize_value(&text, profile).into_owned();
            prop_assert_eq!(&sanitize_value(&once, profile), &once);
            let once = component(&text, Some("flac"), profile);
            prop_assert_eq!(&component(&once, Some("flac"), profile), &once);
        }

        #[test]
        fn a_component_is_always_legal(text in hostile(), profile in profiles()) {
            let name = component(&text, Some("flac"), profile);
            prop_assert!(!name.is_empty() && name.len() <= NAME_LEN_MAX);
            prop_assert!(!name.starts_with('.'), "{:?}", name);
            prop_assert!(!name.contains(['/', '\0']));
            prop_assert!(is_nfc(&name));
            prop_assert!(name.chars().all(|c| profile.replace(c) == Some(c)));
            prop_assert!(!profile.is_windows() || !name.ends_with(['.', ' ']));
            prop_assert!(!profile.is_windows() || device_len(&name).is_none());
        }
    }
}
