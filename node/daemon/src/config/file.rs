//! The configuration as it was typed: TOML, every key optional, unknown keys rejected.

use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::ConfigError;
use super::origin::is_later_kind;

/// The keys of the file, in the order in which it is written.
const KEYS: [&str; 13] = [
    "mount_point",
    "template",
    "root",
    "names",
    "uid",
    "gid",
    "umask",
    "allow_other",
    "passthrough",
    "integrity",
    "drain_timeout_ms",
    "log",
    "origins",
];

/// The keys of one `[[origins]]` table.
const ORIGIN_KEYS: [&str; 5] = ["id", "type", "path", "priority", "identity"];

/// What was typed, in a file or as flags. [`super::Config`] says what it means.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConfigFile {
    /// Where to mount.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mount_point: Option<PathBuf>,
    /// The path template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) template: Option<String>,
    /// The sub-directory that holds the tree.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) root: Option<String>,
    /// The name profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) names: Option<String>,
    /// The owner shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) uid: Option<u32>,
    /// The group shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) gid: Option<u32>,
    /// Permission bits taken away, in octal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) umask: Option<String>,
    /// Whether other users may look.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) allow_other: Option<bool>,
    /// Whether the kernel may read local files itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) passthrough: Option<Passthrough>,
    /// How often data is checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) integrity: Option<Integrity>,
    /// How long reads may go on after the end was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) drain_timeout_ms: Option<u32>,
    /// What is logged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) log: Option<String>,
    /// Where music comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) origins: Option<Vec<OriginEntry>>,
}

/// Whether the kernel may read local files without the daemon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Passthrough {
    /// Where the kernel and this user's rights allow it.
    #[default]
    Auto,
    /// Never.
    Off,
}

/// How often data on disk is checked against its checksum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Integrity {
    /// At the first read since the start.
    #[default]
    FirstRead,
    /// At every read; turns passthrough off.
    EveryRead,
}

/// One `[[origins]]` table as typed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OriginEntry {
    /// The id; made of the path if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    /// The kind; `local` if absent.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<String>,
    /// A path or `file://` URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<String>,
    /// Lower is tried first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) priority: Option<u32>,
    /// What names the place on every node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) identity: Option<String>,
}

impl ConfigFile {
    /// Parses the text of a file; `path` is only named in errors.
    ///
    /// # Errors
    /// [`ConfigError`] with the line of the first key or value that is wrong.
    pub(crate) fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let syntax = |error: &toml::de::Error| ConfigError::Syntax {
            place: Place::new(path, text, error.span()),
            // The message may have further lines; each says less than the one before.
            message: error.message().lines().next().unwrap_or_default().into(),
        };
        let table = DeTable::parse(text).map_err(|error| syntax(&error))?;
        check_keys(table.get_ref(), &|span| Place::new(path, text, Some(span)))?;
        toml::from_str(text).map_err(|error| syntax(&error))
    }

    /// What `self` says, and what `lower` says where `self` is silent.
    pub(crate) fn over(self, lower: Self) -> Self {
        Self {
            mount_point: self.mount_point.or(lower.mount_point),
            template: self.template.or(lower.template),
            root: self.root.or(lower.root),
            names: self.names.or(lower.names),
            uid: self.uid.or(lower.uid),
            gid: self.gid.or(lower.gid),
            umask: self.umask.or(lower.umask),
            allow_other: self.allow_other.or(lower.allow_other),
            passthrough: self.passthrough.or(lower.passthrough),
            integrity: self.integrity.or(lower.integrity),
            drain_timeout_ms: self.drain_timeout_ms.or(lower.drain_timeout_ms),
            log: self.log.or(lower.log),
            origins: self.origins.or(lower.origins),
        }
    }
}

/// A place in a configuration file, for a person to go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    path: PathBuf,
    line: usize,
}

impl Place {
    fn new(path: &Path, text: &str, span: Option<Range<usize>>) -> Self {
        let before = text.get(..span.map_or(0, |span| span.start));
        let line = before.unwrap_or(text).matches('\n').count() + 1;
        Self {
            path: path.to_owned(),
            line,
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.path.display(), self.line)
    }
}

/// The key out of `known` that somebody who typed `key` may have meant.
fn suggestion(key: &str, known: &[&'static str]) -> Option<&'static str> {
    /// How alike two words must be (Jaro-Winkler, 0 to 1) to be taken for one another.
    const ALIKE_MIN: f64 = 0.75;
    let normal = key.to_lowercase().replace('-', "_");
    known
        .iter()
        .map(|known| (strsim::jaro_winkler(&normal, known), *known))
        .filter(|(alike, _)| *alike >= ALIKE_MIN)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, known)| known)
}

fn check_keys(
    table: &DeTable<'_>,
    place: &dyn Fn(Range<usize>) -> Place,
) -> Result<(), ConfigError> {
    check_table(table, &KEYS, place)?;
    let origins = table.get("origins").map(Spanned::get_ref);
    let tables = origins.and_then(DeValue::as_array).into_iter().flatten();
    for origin in tables.filter_map(|origin| origin.get_ref().as_table()) {
        // The kind first: the keys of a kind to come are no typing errors.
        if let Some(kind) = origin.get("type")
            && let Some(name) = kind.get_ref().as_str()
            && is_later_kind(name)
        {
            return Err(ConfigError::LaterOrigin {
                place: Some(place(kind.span())),
                kind: name.to_owned(),
            });
        }
        check_table(origin, &ORIGIN_KEYS, place)?;
    }
    Ok(())
}

fn check_table(
    table: &DeTable<'_>,
    known: &[&'static str],
    place: &dyn Fn(Range<usize>) -> Place,
) -> Result<(), ConfigError> {
    let unknown = table
        .keys()
        .filter(|key| !known.contains(&key.get_ref().as_ref()))
        .min_by_key(|key| key.span().start);
    let Some(key) = unknown else {
        return Ok(());
    };
    Err(ConfigError::UnknownKey {
        place: place(key.span()),
        key: key.get_ref().to_string(),
        suggestion: suggestion(key.get_ref(), known),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        let error = ConfigFile::parse(text, Path::new("c.toml")).unwrap_err();
        match error.fix() {
            Some(fix) => format!("{error}. {fix}"),
            None => error.to_string(),
        }
    }

    #[test]
    fn every_listed_key_is_one_that_the_file_takes_and_no_other() {
        let full = r#"
            mount_point = "/mnt"
            template = "$title"
            root = "Music"
            names = "posix"
            uid = 1
            gid = 2
            umask = "022"
            allow_other = true
            passthrough = "off"
            integrity = "every-read"
            drain_timeout_ms = 10
            log = "debug"
            [[origins]]
            id = "nas"
            type = "local"
            path = "/music"
            priority = 3
            identity = "nas/music"
        "#;
        let file = ConfigFile::parse(full, Path::new("c.toml")).unwrap();
        let table: toml::Table = toml::to_string(&file).unwrap().parse().unwrap();
        let mut keys = KEYS.to_vec();
        keys.sort_unstable();
        assert_eq!(table.keys().collect::<Vec<_>>(), keys);
        let mut keys = ORIGIN_KEYS.to_vec();
        keys.sort_unstable();
        let origin = table["origins"][0].as_table().unwrap();
        assert_eq!(origin.keys().collect::<Vec<_>>(), keys);
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_what_was_meant() {
        let got = error("uid = 1\n\ntemplat = \"x\"\n");
        assert!(got.contains("c.toml:3"), "{got}");
        assert!(got.contains("`templat`"), "{got}");
        assert!(got.contains("did you mean `template`?"), "{got}");
        let got = error("drain-timeout-ms = 1");
        assert!(got.contains("did you mean `drain_timeout_ms`?"), "{got}");
        let got = error("\n[[origins]]\npath = \"/m\"\nprio = 1\n");
        assert!(got.contains("c.toml:4"), "{got}");
        assert!(got.contains("did you mean `priority`?"), "{got}");
        let got = error("xyzzy = 1");
        assert!(!got.contains("did you mean"), "{got}");
    }

    #[test]
    fn a_wrong_type_or_syntax_is_named_with_its_line() {
        let got = error("\numask = 22");
        assert!(got.contains("c.toml:2"), "{got}");
        assert!(got.contains("expected a string"), "{got}");
        assert!(error("a = \n").contains("c.toml:1"));
        let got = error("passthrough = \"on\"");
        assert!(got.contains("auto"), "{got}");
        assert!(error("\n\n[[origins]]\npath = 5\n").contains("c.toml:4"));
    }

    #[test]
    fn an_origin_to_come_is_told_apart_from_a_typing_error() {
        let got = error("[[origins]]\nid = \"b\"\ntype = \"s3\"\nbucket = \"music\"\n");
        assert!(got.contains("c.toml:3"), "{got}");
        assert!(got.contains("not in this version"), "{got}");
    }

    #[test]
    fn what_is_higher_wins_and_silence_lets_the_lower_speak() {
        let parse = |text| ConfigFile::parse(text, Path::new("c.toml")).unwrap();
        let flags = parse("uid = 1\numask = \"027\"");
        let file = parse("uid = 2\ngid = 3\nlog = \"debug\"");
        assert_eq!(
            flags.over(file),
            parse("uid = 1\numask = \"027\"\ngid = 3\nlog = \"debug\"")
        );
    }
}
