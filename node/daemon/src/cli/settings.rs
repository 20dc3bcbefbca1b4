//! Every key of the configuration as a flag and as a variable.

use std::ffi::OsStr;
use std::path::PathBuf;

use clap::builder::{BoolishValueParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Arg, Args, Command, ValueHint};

use crate::config::{self, ConfigFile, Integrity, OriginEntry, Passthrough, ScannerProfile};

/// Separates the origins in `MUSICFS_ORIGIN`; a path that holds one belongs into the file.
const ORIGIN_SEPARATOR: char = ';';

/// Every key of the configuration as a flag.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct SettingsArgs {
    /// Where music is: a directory, or a URL: nfs:///PATH, smb:///PATH,
    /// s3://BUCKET/PREFIX?endpoint=URL or sftp://USER@HOST:PORT/PATH; may be repeated. Replaces the
    /// origins of the configuration file [env: MUSICFS_ORIGIN, separated by ';']
    #[arg(long = "origin", value_name = "ORIGIN", value_hint = ValueHint::AnyPath)]
    #[arg(value_parser = OriginParser)]
    pub(crate) origins: Vec<String>,
    /// Where each track appears, made of its tags
    #[arg(long, env = "MUSICFS_TEMPLATE", value_parser = template)]
    pub(crate) template: Option<String>,
    /// Put the whole tree into this directory
    #[arg(long, env = "MUSICFS_ROOT", value_name = "DIR", value_parser = root)]
    pub(crate) root: Option<String>,
    /// What names may hold
    #[arg(long, env = "MUSICFS_NAMES", value_name = "PROFILE")]
    #[arg(value_parser = ["posix", "windows", "fat"])]
    pub(crate) names: Option<String>,
    /// The owner shown [default: who mounts]
    #[arg(long, env = "MUSICFS_UID")]
    pub(crate) uid: Option<u32>,
    /// The group shown [default: that of who mounts]
    #[arg(long, env = "MUSICFS_GID")]
    pub(crate) gid: Option<u32>,
    /// Permission bits to take away, in octal [default: 000]
    #[arg(long, env = "MUSICFS_UMASK", value_name = "OCTAL", value_parser = umask)]
    pub(crate) umask: Option<String>,
    /// Let other users in
    #[arg(long, env = "MUSICFS_ALLOW_OTHER", value_name = "BOOL")]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) allow_other: Option<bool>,
    /// Whether the kernel may read local files itself [default: auto]
    #[arg(long, env = "MUSICFS_PASSTHROUGH", value_name = "WHEN")]
    pub(crate) passthrough: Option<Passthrough>,
    /// How often data is checked [default: first-read]
    #[arg(long, env = "MUSICFS_INTEGRITY", value_name = "HOW")]
    pub(crate) integrity: Option<Integrity>,
    /// How long reads may go on after the end was asked for [default: 5000]
    #[arg(long, env = "MUSICFS_DRAIN_TIMEOUT_MS", value_name = "MS")]
    pub(crate) drain_timeout_ms: Option<u32>,
    /// Where data of network origins is kept [default: $XDG_CACHE_HOME/musicfs/NAME]
    #[arg(long, env = "MUSICFS_CACHE_DIR", value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) cache_dir: Option<PathBuf>,
    /// What whole files may take there, such as 20G or 512Mi [default: 10Gi]
    #[arg(long, env = "MUSICFS_CACHE_LIMIT", value_name = "BYTES", value_parser = cache_limit)]
    pub(crate) cache_limit: Option<String>,
    /// What the parts that tag readers touch may take on top [default: the smaller of 40Gi and
    /// 15 % of the free disk]
    #[arg(long, env = "MUSICFS_HEADER_LIMIT", value_name = "BYTES", value_parser = header_limit)]
    pub(crate) header_limit: Option<String>,
    /// What to leave free on the disk of the cache [default: 1Gi]
    #[arg(long, env = "MUSICFS_CACHE_FREE_MIN", value_name = "BYTES")]
    #[arg(value_parser = cache_free_min)]
    pub(crate) cache_free_min: Option<String>,
    /// For whose scans these parts are chosen [default: default]
    #[arg(long, env = "MUSICFS_SCANNER_PROFILE", value_name = "PROFILE")]
    pub(crate) scanner_profile: Option<ScannerProfile>,
    /// Fetch a file to its end once it is played [default: true]
    #[arg(long, env = "MUSICFS_COMPLETE_ON_PLAY", value_name = "BOOL")]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) complete_on_play: Option<bool>,
    /// How long a read may take before it fails [default: 10000]
    #[arg(long, env = "MUSICFS_READ_TIMEOUT_MS", value_name = "MS")]
    pub(crate) read_timeout_ms: Option<u32>,
    /// Where other nodes of the cluster reach this one: a port, or an address with one
    /// [default: the usual port on all addresses]
    #[arg(long, env = "MUSICFS_PEER_LISTEN", value_name = "ADDRESS", value_parser = peer_listen)]
    pub(crate) peer_listen: Option<String>,
    /// The network interfaces to look for other nodes on [default: all]
    #[arg(
        long,
        env = "MUSICFS_PEER_INTERFACES",
        value_name = "NAME,…",
        value_delimiter = ','
    )]
    pub(crate) peer_interfaces: Option<Vec<String>>,
    /// Find other nodes on the local network by mDNS [default: true]
    #[arg(long, env = "MUSICFS_PEER_MDNS", value_name = "BOOL")]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) peer_mdns: Option<bool>,
    /// Nodes that are always tried
    #[arg(
        long,
        env = "MUSICFS_PEER_ADDRESSES",
        value_name = "HOST:PORT,…",
        value_delimiter = ','
    )]
    pub(crate) peer_addresses: Option<Vec<String>>,
    /// DNS names of which every address is a node, looked up again and again
    #[arg(
        long,
        env = "MUSICFS_PEER_DNS",
        value_name = "NAME:PORT,…",
        value_delimiter = ','
    )]
    pub(crate) peer_dns: Option<Vec<String>>,
    /// What this node is called among others [default: the host's name]
    #[arg(long, env = "MUSICFS_PEER_NAME", value_name = "NAME")]
    pub(crate) peer_name: Option<String>,
    /// Where other nodes stand among the origins; lower is tried first [default: 10]
    #[arg(long, env = "MUSICFS_PEER_PRIORITY", value_name = "N")]
    pub(crate) peer_priority: Option<u32>,
    /// What to send to other nodes at most, in bytes per second, such as 2Mi [default: no limit]
    #[arg(long, env = "MUSICFS_PEER_UPLOAD_LIMIT", value_name = "BYTES")]
    #[arg(value_parser = peer_upload_limit)]
    pub(crate) peer_upload_limit: Option<String>,
    /// Certificates of the authorities of a PKI of one's own, in place of the cluster's key
    #[arg(long, env = "MUSICFS_PEER_CA", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) peer_ca: Option<PathBuf>,
    /// This node's certificate of that PKI
    #[arg(long, env = "MUSICFS_PEER_CERT", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) peer_cert: Option<PathBuf>,
    /// The key of that certificate
    #[arg(long, env = "MUSICFS_PEER_KEY", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) peer_key: Option<PathBuf>,
    /// Answer monitors there: health over gRPC, and metrics at /metrics [default: nowhere]
    #[arg(long, env = "MUSICFS_METRICS_LISTEN", value_name = "ADDRESS:PORT")]
    #[arg(value_parser = metrics_listen)]
    pub(crate) metrics_listen: Option<String>,
    /// What is logged: error, warn, info, debug, trace, or a filter [default: info]
    #[arg(long, env = "MUSICFS_LOG", value_name = "FILTER", value_parser = log)]
    pub(crate) log: Option<String>,
}

impl SettingsArgs {
    /// The flags and variables as a configuration that was typed.
    ///
    /// `environment_origins` is `MUSICFS_ORIGIN`; relative paths of origins become absolute here,
    /// for on the command line they mean the current directory.
    ///
    /// # Errors
    /// An origin that does not exist: typed by hand, it is a mistake rather than an absence.
    pub(crate) fn to_file(
        &self,
        environment_origins: Option<&str>,
    ) -> Result<ConfigFile, config::ConfigError> {
        let of_environment = environment_origins.unwrap_or_default();
        let of_environment: Vec<String> = of_environment
            .split(ORIGIN_SEPARATOR)
            .map(|url| url.trim().to_owned())
            .filter(|url| !url.is_empty())
            .collect();
        let origins = match &self.origins[..] {
            [] => &of_environment[..],
            flags => flags,
        };
        let origins: Vec<OriginEntry> = origins
            .iter()
            .map(|url| origin_entry(url))
            .collect::<Result<_, _>>()?;
        Ok(ConfigFile {
            mount_point: None,
            template: self.template.clone(),
            root: self.root.clone(),
            names: self.names.clone(),
            uid: self.uid,
            gid: self.gid,
            umask: self.umask.clone(),
            allow_other: self.allow_other,
            passthrough: self.passthrough,
            integrity: self.integrity,
            drain_timeout_ms: self.drain_timeout_ms,
            cache_dir: self.cache_dir.clone(),
            cache_limit: self.cache_limit.clone(),
            header_limit: self.header_limit.clone(),
            cache_free_min: self.cache_free_min.clone(),
            scanner_profile: self.scanner_profile,
            complete_on_play: self.complete_on_play,
            read_timeout_ms: self.read_timeout_ms,
            peer_listen: self.peer_listen.clone(),
            peer_interfaces: self.peer_interfaces.clone(),
            peer_mdns: self.peer_mdns,
            peer_addresses: self.peer_addresses.clone(),
            peer_dns: self.peer_dns.clone(),
            peer_name: self.peer_name.clone(),
            peer_priority: self.peer_priority,
            peer_upload_limit: self.peer_upload_limit.clone(),
            peer_ca: self.peer_ca.clone(),
            peer_cert: self.peer_cert.clone(),
            peer_key: self.peer_key.clone(),
            metrics_listen: self.metrics_listen.clone(),
            log: self.log.clone(),
            origins: (!origins.is_empty()).then_some(origins),
        })
    }
}

/// The table that an origin typed by hand stands for.
fn origin_entry(text: &str) -> Result<OriginEntry, config::ConfigError> {
    let entry = config::parse_location(text)?;
    // A directory of this machine that is not there is a mistake; a share or server may be away.
    if !matches!(entry.kind.as_deref(), None | Some("local")) {
        return Ok(entry);
    }
    let path = PathBuf::from(entry.path.unwrap_or_default());
    let missing = |source| config::ConfigError::OriginMissing {
        path: path.clone(),
        source,
    };
    let canonical = std::fs::canonicalize(&path).map_err(missing)?;
    if !canonical.is_dir() {
        return Err(missing(std::io::ErrorKind::NotADirectory.into()));
    }
    let path = canonical.into_os_string().into_string();
    let path = path.map_err(|path| config::ConfigError::OriginUrl {
        url: path.to_string_lossy().into_owned(),
        reason: "its path is not UTF-8",
    })?;
    Ok(OriginEntry {
        path: Some(path),
        ..OriginEntry::default()
    })
}

/// Reads an origin. An error of the usual value parsers repeats the value, which may hold a password.
#[derive(Clone, Debug)]
struct OriginParser;

impl TypedValueParser for OriginParser {
    type Value = String;

    fn parse_ref(
        &self,
        command: &Command,
        _: Option<&Arg>,
        value: &OsStr,
    ) -> Result<String, clap::Error> {
        let wrong = |told: String| {
            let message = format!("invalid value for '--origin <ORIGIN>': {told}\n");
            clap::Error::raw(ErrorKind::ValueValidation, message).with_cmd(command)
        };
        let text = value
            .to_str()
            .ok_or_else(|| wrong("it is not UTF-8".into()))?;
        match config::parse_location(text) {
            Ok(_) => Ok(text.to_owned()),
            Err(error) => Err(wrong(told(&error))),
        }
    }
}

pub(super) fn template(text: &str) -> Result<String, String> {
    match musicfs_core::template::Template::parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn root(text: &str) -> Result<String, String> {
    config::parse_root(text).map_err(|error| told(&error))
}

fn umask(text: &str) -> Result<String, String> {
    match config::parse_umask(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(told(&error)),
    }
}

fn cache_limit(text: &str) -> Result<String, String> {
    size("cache_limit", text)
}

fn header_limit(text: &str) -> Result<String, String> {
    size("header_limit", text)
}

fn cache_free_min(text: &str) -> Result<String, String> {
    size("cache_free_min", text)
}

fn peer_upload_limit(text: &str) -> Result<String, String> {
    size("peer_upload_limit", text)
}

fn peer_listen(text: &str) -> Result<String, String> {
    match config::parse_peer_listen(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(told(&error)),
    }
}

fn size(key: &'static str, text: &str) -> Result<String, String> {
    match config::parse_size(key, text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(told(&error)),
    }
}

fn metrics_listen(text: &str) -> Result<String, String> {
    match config::parse_listen("metrics_listen", text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(told(&error)),
    }
}

fn log(text: &str) -> Result<String, String> {
    config::parse_log(text).map_err(|error| told(&error))
}

/// The error as clap shows it behind the flag and the value.
fn told(error: &config::ConfigError) -> String {
    match error.fix() {
        Some(fix) => format!("cannot {error}; {fix}"),
        None => format!("cannot {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Command, parse};
    use super::*;

    fn settings(args: &[&str]) -> SettingsArgs {
        let args = ["musicfs", "mount", "/mnt"].iter().chain(args);
        match parse(args).unwrap().command {
            Command::Mount(mount) => mount.settings,
            other => panic!("parsed as {other:?}"),
        }
    }

    #[test]
    fn a_switch_may_say_no() {
        assert_eq!(settings(&[]).allow_other, None);
        assert_eq!(settings(&["--allow-other"]).allow_other, Some(true));
        assert_eq!(settings(&["--allow-other=no"]).allow_other, Some(false));
    }

    #[test]
    fn origins_of_flags_replace_those_of_the_environment() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        for path in [&one, &two] {
            std::fs::create_dir(path).unwrap();
        }
        let (one, two) = (one.to_str().unwrap(), two.to_str().unwrap());
        let paths = |args: &[&str], environment: Option<&str>| -> Option<Vec<String>> {
            let file = settings(args).to_file(environment).unwrap();
            let origins = file.origins?;
            Some(origins.into_iter().filter_map(|entry| entry.path).collect())
        };
        let both = format!("{one}; {two}");
        assert_eq!(paths(&[], None), None);
        assert_eq!(paths(&[], Some("")), None);
        assert_eq!(paths(&[], Some(&both)), Some(vec![one.into(), two.into()]));
        let flag = format!("file://{two}");
        assert_eq!(
            paths(&["--origin", &flag], Some(&both)),
            Some(vec![two.into()])
        );
        let missing = format!("{one}/missing");
        assert!(settings(&["--origin", &missing]).to_file(None).is_err());
    }

    #[test]
    fn an_origin_is_a_directory_that_exists_or_a_url() {
        let entry = |origin: &str| settings(&["--origin", origin]).to_file(None).unwrap();
        let bucket = entry("s3://bucket/p?endpoint=http://h").origins.unwrap();
        assert_eq!(bucket[0].bucket.as_deref(), Some("bucket"));
        // Servers may be away.
        entry("nfs:///nonexistent/share");
        entry("sftp://ann@nas/m");
    }

    #[test]
    fn a_secret_in_an_origin_shows_in_no_error() {
        for origin in [
            "sftp://ann:hunter2@nas/m",
            "s3://bucket?secret_key=hunter2",
            "sftp://ann:hunter2",
        ] {
            let args = ["musicfs", "mount", "/mnt", "--origin", origin];
            let error = parse(args).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            let told = format!("{error} {error:?}");
            assert!(told.contains("--origin"), "{told}");
            assert!(!told.contains("hunter"), "{told}");
            let error = settings(&[]).to_file(Some(origin)).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter"), "{error}");
        }
    }

    #[test]
    fn monitors_can_be_answered_where_a_flag_says() {
        let file = settings(&["--metrics-listen=127.0.0.1:0"]).to_file(None);
        let address = file.unwrap().metrics_listen;
        assert_eq!(address.as_deref(), Some("127.0.0.1:0"));
    }

    #[test]
    fn the_cache_can_be_set_by_flags() {
        let file = settings(&[
            "--cache-dir=/c",
            "--cache-limit=20G",
            "--header-limit=1Gi",
            "--cache-free-min=0",
            "--scanner-profile=mpd",
            "--complete-on-play=no",
            "--read-timeout-ms=2000",
        ]);
        let file = file.to_file(None).unwrap();
        let expect = ConfigFile {
            cache_dir: Some("/c".into()),
            cache_limit: Some("20G".into()),
            header_limit: Some("1Gi".into()),
            cache_free_min: Some("0".into()),
            scanner_profile: Some(ScannerProfile::Mpd),
            complete_on_play: Some(false),
            read_timeout_ms: Some(2000),
            ..ConfigFile::default()
        };
        assert_eq!(file, expect);
    }
}
