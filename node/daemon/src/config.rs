//! What the instance is told to do: from flags, environment and file to one checked [`Config`].
//!
//! [`ConfigFile`] is what was typed, [`Config`] what it means. Flag wins over environment, which
//! wins over the file, which wins over the default; one name serves all three.

mod file;
mod origin;
mod starter;
mod value;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use musicfs_core::id::OriginId;
use musicfs_core::names::NameProfile;
use musicfs_core::template::{Template, TemplateError};

use crate::paths::{Environment, InstancePaths, PathsError};

pub(crate) use file::{ConfigFile, Integrity, OriginEntry, Passthrough, Place};
pub(crate) use origin::{OriginConfig, parse_location};
pub(crate) use starter::STARTER;
pub(crate) use value::{parse_log, parse_root, parse_template, parse_umask};

/// How long reads may go on after the end was asked for, unless configured (milliseconds).
const DRAIN_TIMEOUT_MS_DEFAULT: u32 = 5000;

/// What is logged unless configured.
const LOG_DEFAULT: &str = "info";

/// Everything an instance needs to know, complete and checked.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The instance's name.
    pub(crate) name: String,
    /// Where to mount, absolute. Empty under [`Purpose::Check`] if none was given.
    pub(crate) mount_point: PathBuf,
    /// Where tracks appear.
    pub(crate) template: Template,
    /// The directory that holds the tree, if it is not the mount point itself: plain names with `/`
    /// between them.
    pub(crate) root: Option<String>,
    /// What names may hold.
    pub(crate) names: NameProfile,
    /// The owner shown.
    pub(crate) uid: u32,
    /// The group shown.
    pub(crate) gid: u32,
    /// Permission bits taken away, at most 0o777.
    pub(crate) umask: u32,
    /// Whether other users may look.
    pub(crate) allow_other: bool,
    /// Whether the kernel may read local files itself, where it can. Never with every-read checks.
    pub(crate) passthrough: bool,
    /// How often data is checked.
    pub(crate) integrity: Integrity,
    /// How long reads may go on after the end was asked for.
    pub(crate) drain_timeout: Duration,
    /// A tracing filter.
    pub(crate) log: String,
    /// Where music comes from; at least one, but under [`Purpose::Check`]. No id or root twice.
    pub(crate) origins: Vec<OriginConfig>,
    /// Where the instance keeps its things.
    pub(crate) paths: InstancePaths,
}

/// What a configuration is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To mount: a mount point and an origin are needed.
    Mount,
    /// To look at it: what a flag may still add can be missing.
    Check,
}

/// What is wrong with a configuration. Messages read after "cannot".
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("read configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is no TOML, or a value has the wrong type.
    #[error("read configuration: {place}: {message}")]
    Syntax {
        /// Where.
        place: Place,
        /// What the parser says.
        message: Box<str>,
    },
    /// A key that does not exist.
    #[error("read configuration: {place}: unknown key `{key}`")]
    UnknownKey {
        /// Where.
        place: Place,
        /// The key.
        key: String,
        /// The key that looks most like it.
        suggestion: Option<&'static str>,
    },
    /// A kind of origin that is planned, not built.
    #[error("use an origin of type {kind}{}: it is not in this version", at(.place))]
    LaterOrigin {
        /// Where, if in a file.
        place: Option<Place>,
        /// The kind or URL scheme.
        kind: String,
    },
    /// A URL of no use.
    #[error("use origin {url:?}: {reason}")]
    OriginUrl {
        /// As typed.
        url: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// An origin's table lacks something.
    #[error("use origin {name:?}: {reason}")]
    OriginEntry {
        /// Its id or path.
        name: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// An origin's id is no id.
    #[error("use origin id {id:?}: it must be 1 to 64 letters, digits, '.', '_' or '-'")]
    OriginId {
        /// As typed.
        id: String,
    },
    /// An origin given as a flag does not exist.
    #[error("use origin {path:?}")]
    OriginMissing {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Two origins have one id.
    #[error("use two origins with the id `{id}`")]
    DuplicateId {
        /// The id.
        id: OriginId,
    },
    /// Two origins have one root.
    #[error("use {path:?} as two origins, `{}` and `{}`", ids[0], ids[1])]
    DuplicateRoot {
        /// The root.
        path: PathBuf,
        /// Both ids.
        ids: [OriginId; 2],
    },
    /// A value that its key does not take.
    #[error("use {key} = {value:?}: {expected}")]
    Value {
        /// The key.
        key: &'static str,
        /// As typed.
        value: String,
        /// What the key takes.
        expected: &'static str,
    },
    /// The template is wrong.
    #[error("use template {template:?}")]
    Template {
        /// As typed.
        template: String,
        /// Where and why.
        source: TemplateError,
    },
    /// No place for the instance.
    #[error(transparent)]
    Paths(#[from] PathsError),
    /// Nowhere to mount.
    #[error("mount: no mount point is given")]
    NoMountPoint,
    /// Nothing to mount.
    #[error("mount: no origin is given")]
    NoOrigin,
}

impl Config {
    /// Checks what was typed and completes it.
    ///
    /// # Errors
    /// [`ConfigError`] for the first value that is wrong or, to mount, missing.
    pub(crate) fn resolve(
        typed: &ConfigFile,
        name: &str,
        environment: &Environment,
        purpose: Purpose,
    ) -> Result<Self, ConfigError> {
        let origins = typed.origins.as_deref().unwrap_or_default();
        if purpose == Purpose::Mount && typed.mount_point.is_none() {
            return Err(ConfigError::NoMountPoint);
        }
        if purpose == Purpose::Mount && origins.is_empty() {
            return Err(ConfigError::NoOrigin);
        }
        let integrity = typed.integrity.unwrap_or_default();
        let passthrough = typed.passthrough.unwrap_or_default() == Passthrough::Auto;
        let drain_timeout_ms = typed.drain_timeout_ms.unwrap_or(DRAIN_TIMEOUT_MS_DEFAULT);
        Ok(Self {
            name: name.to_owned(),
            mount_point: mount_point(typed, environment)?,
            template: template(typed)?,
            root: root(typed)?,
            names: names(typed)?,
            uid: typed.uid.unwrap_or(environment.uid),
            gid: typed.gid.unwrap_or(environment.gid),
            umask: typed.umask.as_deref().map_or(Ok(0), parse_umask)?,
            allow_other: typed.allow_other.unwrap_or(false),
            passthrough: passthrough && integrity == Integrity::FirstRead,
            integrity,
            drain_timeout: Duration::from_millis(drain_timeout_ms.into()),
            log: log(typed)?,
            origins: origin::resolve(origins, environment)?,
            paths: InstancePaths::new(environment, name)?,
        })
    }

    /// The configuration as a file that would give it, every key written out.
    pub(crate) fn to_file(&self) -> ConfigFile {
        let given = !self.mount_point.as_os_str().is_empty();
        let off = !self.passthrough;
        let origin = |origin: &OriginConfig| OriginEntry {
            id: Some(origin.id.to_string()),
            kind: Some(origin.kind.as_str().to_owned()),
            path: Some(origin.path.to_string_lossy().into_owned()),
            priority: Some(origin.priority),
            identity: origin.identity.clone(),
        };
        ConfigFile {
            mount_point: given.then(|| self.mount_point.clone()),
            template: Some(self.template.source().to_owned()),
            root: self.root.clone(),
            names: Some(self.names.to_string()),
            uid: Some(self.uid),
            gid: Some(self.gid),
            umask: Some(format!("{:03o}", self.umask)),
            allow_other: Some(self.allow_other),
            passthrough: Some(if off {
                Passthrough::Off
            } else {
                Passthrough::Auto
            }),
            integrity: Some(self.integrity),
            drain_timeout_ms: u32::try_from(self.drain_timeout.as_millis()).ok(),
            log: Some(self.log.clone()),
            origins: Some(self.origins.iter().map(origin).collect()),
        }
    }
}

impl ConfigError {
    /// What the user can do, as a sentence.
    pub(crate) fn fix(&self) -> Option<String> {
        let fixed = match self {
            Self::UnknownKey { suggestion, .. } => {
                return suggestion.map(|key| format!("did you mean `{key}`?"));
            }
            Self::LaterOrigin { .. } => "mount it yourself and use its path with type \"local\"",
            Self::OriginMissing { .. } => {
                "check the path; an origin that may be away belongs into the configuration file"
            }
            Self::DuplicateId { .. } => "give one of them another id",
            Self::DuplicateRoot { .. } => "remove one of them",
            Self::Paths(PathsError::NoHome { .. }) => "set one of them to an absolute path",
            Self::Paths(PathsError::SocketTooLong { .. }) => "choose a shorter --name",
            Self::NoMountPoint => "write `musicfs mount MNT`, or set mount_point",
            Self::NoOrigin => "add `--origin DIR`, or [[origins]] to the configuration file",
            _ => return None,
        };
        Some(fixed.to_owned())
    }

    /// Whether the command line lacks something, rather than holding something wrong.
    pub(crate) fn is_usage(&self) -> bool {
        matches!(self, Self::NoMountPoint | Self::NoOrigin)
    }
}

/// Reads the configuration file: the one that was named, or the usual one if it exists.
///
/// # Errors
/// [`ConfigError`] if the one that was named cannot be read, or what is read is wrong.
pub(crate) fn load(
    named: Option<&Path>,
    environment: &Environment,
) -> Result<(ConfigFile, Option<PathBuf>), ConfigError> {
    let path = match (named, environment.config_file()) {
        (Some(path), _) => path.to_owned(),
        (None, Ok(path)) => path,
        // Without a home there is no usual file, which is as good as one that does not exist.
        (None, Err(_)) => return Ok((ConfigFile::default(), None)),
    };
    match fs::read_to_string(&path) {
        Ok(text) => Ok((ConfigFile::parse(&text, &path)?, Some(path))),
        Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => {
            Ok((ConfigFile::default(), None))
        }
        Err(source) => Err(ConfigError::Read { path, source }),
    }
}

fn mount_point(typed: &ConfigFile, environment: &Environment) -> Result<PathBuf, ConfigError> {
    let Some(path) = typed.mount_point.clone() else {
        return Ok(PathBuf::new());
    };
    let path = origin::from_home(path, environment);
    // Not canonical: a stale mount there would make every look at it fail.
    std::path::absolute(&path).map_err(|_| ConfigError::Value {
        key: "mount_point",
        value: path.to_string_lossy().into_owned(),
        expected: "write the path of a directory",
    })
}

fn template(typed: &ConfigFile) -> Result<Template, ConfigError> {
    parse_template(typed.template.as_deref().unwrap_or(Template::DEFAULT))
}

fn root(typed: &ConfigFile) -> Result<Option<String>, ConfigError> {
    typed.root.as_deref().map(parse_root).transpose()
}

fn names(typed: &ConfigFile) -> Result<NameProfile, ConfigError> {
    let Some(text) = typed.names.as_deref() else {
        return Ok(NameProfile::default());
    };
    text.parse().map_err(|_| ConfigError::Value {
        key: "names",
        value: text.to_owned(),
        expected: "write \"posix\", \"windows\" or \"fat\"",
    })
}

fn log(typed: &ConfigFile) -> Result<String, ConfigError> {
    parse_log(typed.log.as_deref().unwrap_or(LOG_DEFAULT))
}

fn at(place: &Option<Place>) -> String {
    place
        .as_ref()
        .map_or_else(String::new, |place| format!(" ({place})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> Environment {
        Environment {
            uid: 1000,
            gid: 100,
            home: Some("/home/ann".into()),
            ..Environment::default()
        }
    }

    fn resolve(text: &str, purpose: Purpose) -> Result<Config, ConfigError> {
        let typed = ConfigFile::parse(text, Path::new("c.toml")).unwrap();
        Config::resolve(&typed, "default", &environment(), purpose)
    }

    #[test]
    fn silence_means_the_defaults() {
        let config = resolve("", Purpose::Check).unwrap();
        assert_eq!(config.template.source(), Template::DEFAULT);
        assert_eq!((config.uid, config.gid, config.umask), (1000, 100, 0));
        assert_eq!(config.names, NameProfile::Windows);
        assert_eq!(config.drain_timeout, Duration::from_secs(5));
        assert!(config.passthrough && !config.allow_other);
    }

    #[test]
    fn to_mount_takes_a_mount_point_and_an_origin() {
        let got = resolve("[[origins]]\npath = \"/m\"", Purpose::Mount);
        assert!(matches!(got, Err(ConfigError::NoMountPoint)), "{got:?}");
        let got = resolve("mount_point = \"/m\"", Purpose::Mount);
        assert!(matches!(got, Err(ConfigError::NoOrigin)), "{got:?}");
        let got = resolve(
            "mount_point = \"~/m\"\n[[origins]]\npath = \"/m\"",
            Purpose::Mount,
        );
        assert_eq!(got.unwrap().mount_point, Path::new("/home/ann/m"));
    }

    #[test]
    fn wrong_values_are_refused() {
        for bad in [
            "root = \"/a\"",
            "root = \"a//b\"",
            "root = \"a/.b\"",
            "root = \"..\"",
            "root = \"\"",
            "names = \"dos\"",
            "log = \"info,=,\"",
            "template = \"$titel\"",
        ] {
            assert!(resolve(bad, Purpose::Check).is_err(), "{bad}");
        }
    }

    #[test]
    fn checking_every_read_turns_passthrough_off() {
        let config = resolve("integrity = \"every-read\"", Purpose::Check).unwrap();
        assert!(!config.passthrough);
        let config = resolve("passthrough = \"off\"", Purpose::Check).unwrap();
        assert!(!config.passthrough);
    }

    #[test]
    fn what_is_shown_gives_the_same_configuration_again() {
        let text = "mount_point = \"/mnt\"\numask = \"027\"\nroot = \"Music\"\n\
                    [[origins]]\nid = \"a\"\npath = \"/n/a\"\nidentity = \"x\"";
        let shown = resolve(text, Purpose::Mount).unwrap().to_file();
        let again = resolve(&toml::to_string(&shown).unwrap(), Purpose::Mount).unwrap();
        assert_eq!(again.to_file(), shown);
    }

    #[test]
    fn the_starter_file_is_a_valid_configuration_with_defaults() {
        let typed = ConfigFile::parse(STARTER, Path::new("c.toml")).unwrap();
        assert_eq!(typed, ConfigFile::default());
        // And with every line in force it still is one.
        let live = STARTER.lines().map(|line| match line.strip_prefix("#") {
            Some(rest) if !rest.starts_with(' ') => rest,
            _ => line,
        });
        let live = live.collect::<Vec<_>>().join("\n");
        let config = resolve(&live, Purpose::Mount).unwrap();
        assert_eq!(config.template.source(), Template::DEFAULT);
        assert_eq!(config.origins.len(), 1);
    }

    #[test]
    fn a_named_file_must_exist_and_the_usual_one_need_not() {
        let dir = tempfile::tempdir().unwrap();
        let environment = Environment {
            config_home: Some(dir.path().to_owned()),
            ..environment()
        };
        let (typed, path) = load(None, &environment).unwrap();
        assert_eq!((typed, path), (ConfigFile::default(), None));
        let named = dir.path().join("c.toml");
        let got = load(Some(&named), &environment);
        assert!(matches!(got, Err(ConfigError::Read { .. })), "{got:?}");
        fs::write(&named, "uid = 7").unwrap();
        assert_eq!(load(Some(&named), &environment).unwrap().0.uid, Some(7));
    }
}
