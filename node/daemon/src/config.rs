//! What the instance is told to do: from flags, environment and file to one checked [`Config`].
//!
//! [`ConfigFile`] is what was typed, [`Config`] what it means. Flag wins over environment, which
//! wins over the file, which wins over the default; one name serves all three.

mod endpoint;
mod error;
mod file;
mod location;
mod origin;
mod peers;
mod starter;
mod value;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use musicfs_core::names::NameProfile;
use musicfs_core::template::Template;

use crate::paths::{Environment, InstancePaths, SshPlaces};

pub(crate) use error::ConfigError;
pub(crate) use file::{ConfigFile, Integrity, OriginEntry, Passthrough, ScannerProfile};
pub(crate) use location::parse_location;
pub(crate) use origin::{OriginConfig, OriginPlace};
pub(crate) use peers::{PeerConfig, PkiFiles, parse_peer_listen};
pub(crate) use starter::STARTER;
pub(crate) use value::{
    parse_listen, parse_log, parse_root, parse_size, parse_template, parse_umask,
};

/// How long reads may go on after the end was asked for, unless configured (milliseconds).
const DRAIN_TIMEOUT_MS_DEFAULT: u32 = 5000;

/// What the bodies of files may take on disk, unless configured.
const CACHE_LIMIT_BYTES_DEFAULT: u64 = 10 << 30;

/// The smallest limit that leaves room for the parts of one file.
const CACHE_LIMIT_BYTES_MIN: u64 = 1 << 20;

/// The most that headers take unless configured: those of some 100,000 tracks of all formats.
const HEADER_LIMIT_BYTES_MAX: u64 = 40 << 30;

/// The part of the free disk that headers take at most unless configured, in per cent.
const HEADER_LIMIT_PERCENT: u64 = 15;

/// What the cache leaves free on its disk, unless configured.
const CACHE_FREE_BYTES_MIN_DEFAULT: u64 = 1 << 30;

/// How long a read may take, unless configured (milliseconds).
const READ_TIMEOUT_MS_DEFAULT: u32 = 10_000;

/// How long a read may be allowed to take (milliseconds). Below, a slow disk would fail reads; above,
/// programs seem to hang.
const READ_TIMEOUT_MS: RangeInclusive<u32> = 1_000..=600_000;

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
    /// What the bodies of cached files may take on disk.
    pub(crate) cache_limit_bytes: u64,
    /// What the parts that tag readers touch may take on top of that; `None`: decided by the free
    /// space of the disk.
    pub(crate) header_limit_bytes: Option<u64>,
    /// What the cache leaves free on its disk.
    pub(crate) cache_free_bytes_min: u64,
    /// For whose tag readers these parts are chosen.
    pub(crate) scanner_profile: ScannerProfile,
    /// Whether a file that is played is fetched to its end.
    pub(crate) complete_on_play: bool,
    /// How long a read may take before it fails.
    pub(crate) read_timeout: Duration,
    /// How this node meets others.
    pub(crate) peers: PeerConfig,
    /// Where monitors are answered; `None`: nowhere.
    pub(crate) metrics_listen: Option<SocketAddr>,
    /// A tracing filter.
    pub(crate) log: String,
    /// Where music comes from; at least one, but under [`Purpose::Check`]. No id or place twice.
    pub(crate) origins: Vec<OriginConfig>,
    /// Where the instance keeps its things.
    pub(crate) paths: InstancePaths,
    /// Where keys for SFTP origins are, of this user's ssh.
    pub(crate) ssh: SshPlaces,
}

/// What a configuration is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To mount: a mount point and an origin are needed.
    Mount,
    /// To look at it: what a flag may still add can be missing.
    Check,
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
            cache_limit_bytes: cache_limit(typed)?,
            header_limit_bytes: size("header_limit", typed.header_limit.as_deref())?,
            cache_free_bytes_min: size("cache_free_min", typed.cache_free_min.as_deref())?
                .unwrap_or(CACHE_FREE_BYTES_MIN_DEFAULT),
            scanner_profile: typed.scanner_profile.unwrap_or_default(),
            complete_on_play: typed.complete_on_play.unwrap_or(true),
            read_timeout: read_timeout(typed)?,
            peers: PeerConfig::resolve(typed, environment)?,
            metrics_listen: metrics_listen(typed)?,
            log: log(typed)?,
            origins: origin::resolve(origins, environment)?,
            paths: paths(typed, name, environment)?,
            ssh: SshPlaces::new(environment),
        })
    }

    /// The configuration as a file that would give it, every key written out.
    pub(crate) fn to_file(&self) -> ConfigFile {
        let given = !self.mount_point.as_os_str().is_empty();
        let off = !self.passthrough;
        let origin = |origin: &OriginConfig| OriginEntry {
            id: Some(origin.id.to_string()),
            kind: Some(origin.kind.as_str().to_owned()),
            priority: Some(origin.priority),
            identity: origin.identity.clone(),
            rescan_seconds: origin.rescan_seconds(),
            ..origin.place.to_entry()
        };
        let mut file = ConfigFile {
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
            cache_dir: Some(self.paths.cache.clone()),
            cache_limit: Some(value::size_text(self.cache_limit_bytes)),
            header_limit: self.header_limit_bytes.map(value::size_text),
            cache_free_min: Some(value::size_text(self.cache_free_bytes_min)),
            scanner_profile: Some(self.scanner_profile),
            complete_on_play: Some(self.complete_on_play),
            read_timeout_ms: u32::try_from(self.read_timeout.as_millis()).ok(),
            metrics_listen: self.metrics_listen.map(|address| address.to_string()),
            log: Some(self.log.clone()),
            origins: Some(self.origins.iter().map(origin).collect()),
            ..ConfigFile::default()
        };
        self.peers.write_to(&mut file);
        file
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

fn metrics_listen(typed: &ConfigFile) -> Result<Option<SocketAddr>, ConfigError> {
    let text = typed.metrics_listen.as_deref();
    text.map(|text| parse_listen("metrics_listen", text))
        .transpose()
}

fn log(typed: &ConfigFile) -> Result<String, ConfigError> {
    parse_log(typed.log.as_deref().unwrap_or(LOG_DEFAULT))
}

fn paths(
    typed: &ConfigFile,
    name: &str,
    environment: &Environment,
) -> Result<InstancePaths, ConfigError> {
    let paths = InstancePaths::new(environment, name)?;
    let Some(dir) = typed.cache_dir.clone() else {
        return Ok(paths);
    };
    let dir = origin::from_home(dir, environment);
    let cache = std::path::absolute(&dir).map_err(|_| ConfigError::Value {
        key: "cache_dir",
        value: dir.to_string_lossy().into_owned(),
        expected: "write the path of a directory",
    })?;
    Ok(InstancePaths { cache, ..paths })
}

fn size(key: &'static str, typed: Option<&str>) -> Result<Option<u64>, ConfigError> {
    typed.map(|text| parse_size(key, text)).transpose()
}

/// The quota of the header tier unless configured, on a disk with so many free bytes.
pub(crate) fn header_limit_default(free_bytes: u64) -> u64 {
    HEADER_LIMIT_BYTES_MAX.min(free_bytes / 100 * HEADER_LIMIT_PERCENT)
}

fn cache_limit(typed: &ConfigFile) -> Result<u64, ConfigError> {
    let key = "cache_limit";
    let limit = size(key, typed.cache_limit.as_deref())?.unwrap_or(CACHE_LIMIT_BYTES_DEFAULT);
    match limit {
        CACHE_LIMIT_BYTES_MIN.. => Ok(limit),
        _ => Err(ConfigError::Value {
            key,
            value: typed.cache_limit.clone().unwrap_or_default(),
            expected: "the cache needs at least 1Mi",
        }),
    }
}

fn read_timeout(typed: &ConfigFile) -> Result<Duration, ConfigError> {
    let milliseconds = typed.read_timeout_ms.unwrap_or(READ_TIMEOUT_MS_DEFAULT);
    match READ_TIMEOUT_MS.contains(&milliseconds) {
        true => Ok(Duration::from_millis(milliseconds.into())),
        false => Err(ConfigError::Value {
            key: "read_timeout_ms",
            value: milliseconds.to_string(),
            expected: "write a number of milliseconds from 1000 to 600000",
        }),
    }
}

#[cfg(test)]
mod tests {
    use musicfs_core::origin::OriginKind;

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
        assert_eq!(config.cache_limit_bytes, 10 << 30);
        assert_eq!(config.header_limit_bytes, None);
        assert_eq!(config.cache_free_bytes_min, 1 << 30);
        assert_eq!(config.scanner_profile, ScannerProfile::Default);
        assert_eq!(config.read_timeout, Duration::from_secs(10));
        assert!(config.complete_on_play);
        let cache = Path::new("/home/ann/.cache/musicfs/default");
        assert_eq!(config.paths.cache, cache);
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
            "metrics_listen = \"9464\"",
            "template = \"$titel\"",
            "cache_limit = \"10 apples\"",
            "cache_limit = \"1023Ki\"",
            "header_limit = \"-1\"",
            "cache_free_min = \"\"",
            "read_timeout_ms = 999",
            "read_timeout_ms = 600001",
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
    fn the_cache_has_a_place_and_limits() {
        let text = "cache_dir = \"~/big\"\ncache_limit = \"2T\"\nheader_limit = \"0\"\n\
                    cache_free_min = \"512Mi\"\nscanner_profile = \"mpd\"\n\
                    complete_on_play = false\nread_timeout_ms = 1000";
        let config = resolve(text, Purpose::Check).unwrap();
        assert_eq!(config.paths.cache, Path::new("/home/ann/big"));
        assert_eq!(config.cache_limit_bytes, 2_000_000_000_000);
        assert_eq!(config.header_limit_bytes, Some(0));
        assert_eq!(config.cache_free_bytes_min, 512 << 20);
        assert_eq!(config.scanner_profile, ScannerProfile::Mpd);
        assert_eq!(config.read_timeout, Duration::from_secs(1));
        assert!(!config.complete_on_play);
    }

    #[test]
    fn what_is_shown_gives_the_same_configuration_again() {
        let text = "mount_point = \"/mnt\"\numask = \"027\"\nroot = \"Music\"\n\
                    cache_limit = \"1500M\"\nheader_limit = \"3Gi\"\n\
                    [[origins]]\nid = \"a\"\npath = \"/n/a\"\nidentity = \"x\"\n\
                    [[origins]]\ntype = \"s3\"\nbucket = \"b\"\nprefix = \"a\"\npath_style = true\n\
                    endpoint = \"http://h/\"\nregion = \"r\"\nprofile = \"p\"\n\
                    [[origins]]\ntype = \"sftp\"\nhost = \"h\"\nuser = \"u\"\nport = 23\n\
                    path = \"m\"\nkey_file = \"/k\"\nknown_hosts = \"/h\"\n\
                    hash_command = \"sha1sum\"\nrescan_seconds = 10\n\
                    [[origins]]\ntype = \"smb\"\npath = \"/n/b\"";
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
        assert_eq!(config.cache_limit_bytes, CACHE_LIMIT_BYTES_DEFAULT);
        let kinds: Vec<_> = config.origins.iter().map(|origin| origin.kind).collect();
        assert_eq!(kinds, [OriginKind::Local, OriginKind::S3, OriginKind::Sftp]);
        let priorities = config
            .origins
            .iter()
            .map(|origin| (origin.kind, origin.priority));
        for (kind, priority) in priorities {
            assert_eq!(priority, kind.default_priority());
        }
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
