//! The configuration as it was typed: TOML, every key optional, unknown keys rejected.

use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use musicfs_core::origin::OriginKind;

use super::ConfigError;
use super::location::is_secret;

/// The keys of the file, in the order in which it is written.
const KEYS: [&str; 32] = [
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
    "cache_dir",
    "cache_limit",
    "header_limit",
    "cache_free_min",
    "scanner_profile",
    "complete_on_play",
    "read_timeout_ms",
    "peer_listen",
    "peer_interfaces",
    "peer_mdns",
    "peer_addresses",
    "peer_dns",
    "peer_name",
    "peer_priority",
    "peer_upload_limit",
    "peer_ca",
    "peer_cert",
    "peer_key",
    "metrics_listen",
    "log",
    "origins",
];

/// The keys of one `[[origins]]` table, whatever its type.
const ORIGIN_KEYS: [&str; 18] = [
    "id",
    "type",
    "path",
    "bucket",
    "prefix",
    "endpoint",
    "region",
    "path_style",
    "profile",
    "host",
    "port",
    "user",
    "known_hosts",
    "key_file",
    "hash_command",
    "priority",
    "identity",
    "rescan_seconds",
];

/// The kinds of origin that have a key of a place; the other keys belong to all.
fn kinds_of(key: &str) -> &'static [OriginKind] {
    use OriginKind::{Local, Nfs, S3, Sftp, Smb};
    match key {
        "path" => &[Local, Nfs, Smb, Sftp],
        "bucket" | "prefix" | "endpoint" | "region" | "path_style" | "profile" => &[S3],
        "host" | "port" | "user" | "known_hosts" | "key_file" | "hash_command" => &[Sftp],
        // A local directory is watched.
        "rescan_seconds" => &[Nfs, Smb, S3, Sftp],
        _ => &OriginKind::ALL,
    }
}

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
    /// Where cached data is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cache_dir: Option<PathBuf>,
    /// What bodies of files may take on disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cache_limit: Option<String>,
    /// What the parts that tag readers touch may take on top.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) header_limit: Option<String>,
    /// What the cache leaves free on its disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cache_free_min: Option<String>,
    /// For whose tag readers these parts are chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) scanner_profile: Option<ScannerProfile>,
    /// Whether a file that is played is fetched to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) complete_on_play: Option<bool>,
    /// How long a read may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) read_timeout_ms: Option<u32>,
    /// Where other nodes reach this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peer_listen: Option<String>,
    /// The interfaces that others are looked for on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peer_interfaces: Option<Vec<String>>,
    /// Whether others are looked for on the local network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peer_mdns: Option<bool>,
    /// Nodes that are always tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peer_addresses: Option<Vec<String>>,
    /// Names of which every address is a node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peer_dns: Option<Vec<String>>,
    /// What this node calls itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peer_name: Option<String>,
    /// Where peers stand among origins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peer_priority: Option<u32>,
    /// Bytes per second for all others together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peer_upload_limit: Option<String>,
    /// Authorities of a PKI of one's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peer_ca: Option<PathBuf>,
    /// This node's certificate of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peer_cert: Option<PathBuf>,
    /// The certificate's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peer_key: Option<PathBuf>,
    /// Where monitors are answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) metrics_listen: Option<String>,
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

/// For whose tag readers the header tier is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ScannerProfile {
    /// What most of them read.
    #[default]
    Default,
    /// MPD, which reads further into each file.
    Mpd,
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
    /// A path or `file://` URL; of `sftp`, a path on the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<String>,
    /// S3: the bucket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bucket: Option<String>,
    /// S3: what keys start with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) prefix: Option<String>,
    /// S3: the server's URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) endpoint: Option<String>,
    /// S3: the region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) region: Option<String>,
    /// S3: whether the bucket is part of the path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) path_style: Option<bool>,
    /// S3: the profile that has the credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) profile: Option<String>,
    /// SFTP: the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) host: Option<String>,
    /// SFTP: its port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) port: Option<u16>,
    /// SFTP: who logs in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<String>,
    /// SFTP: the file of host keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) known_hosts: Option<PathBuf>,
    /// SFTP: the private key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key_file: Option<PathBuf>,
    /// SFTP: the program that computes checksums there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hash_command: Option<String>,
    /// Lower is tried first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) priority: Option<u32>,
    /// What names the place on every node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) identity: Option<String>,
    /// How often it is listed, unless it is local.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rescan_seconds: Option<u32>,
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
            cache_dir: self.cache_dir.or(lower.cache_dir),
            cache_limit: self.cache_limit.or(lower.cache_limit),
            header_limit: self.header_limit.or(lower.header_limit),
            cache_free_min: self.cache_free_min.or(lower.cache_free_min),
            scanner_profile: self.scanner_profile.or(lower.scanner_profile),
            complete_on_play: self.complete_on_play.or(lower.complete_on_play),
            read_timeout_ms: self.read_timeout_ms.or(lower.read_timeout_ms),
            peer_listen: self.peer_listen.or(lower.peer_listen),
            peer_interfaces: self.peer_interfaces.or(lower.peer_interfaces),
            peer_mdns: self.peer_mdns.or(lower.peer_mdns),
            peer_addresses: self.peer_addresses.or(lower.peer_addresses),
            peer_dns: self.peer_dns.or(lower.peer_dns),
            peer_name: self.peer_name.or(lower.peer_name),
            peer_priority: self.peer_priority.or(lower.peer_priority),
            peer_upload_limit: self.peer_upload_limit.or(lower.peer_upload_limit),
            peer_ca: self.peer_ca.or(lower.peer_ca),
            peer_cert: self.peer_cert.or(lower.peer_cert),
            peer_key: self.peer_key.or(lower.peer_key),
            metrics_listen: self.metrics_listen.or(lower.metrics_listen),
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
pub(super) fn suggestion(key: &str, known: &[&'static str]) -> Option<&'static str> {
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
    check_table(table, &KEYS, None, place)?;
    let origins = table.get("origins").map(Spanned::get_ref);
    let tables = origins.and_then(DeValue::as_array).into_iter().flatten();
    for origin in tables.filter_map(|origin| origin.get_ref().as_table()) {
        check_origin(origin, place)?;
    }
    Ok(())
}

fn check_origin(
    origin: &DeTable<'_>,
    place: &dyn Fn(Range<usize>) -> Place,
) -> Result<(), ConfigError> {
    let kind = match origin.get("type") {
        None => Some(OriginKind::Local),
        // A type that is no text is told later, with what was expected.
        Some(typed) => match typed.get_ref().as_str() {
            Some(name) => {
                Some(
                    OriginKind::from_name(name).ok_or_else(|| ConfigError::UnknownKind {
                        place: place(typed.span()),
                        kind: name.to_owned(),
                        suggestion: suggestion(name, &OriginKind::ALL.map(OriginKind::as_str)),
                    })?,
                )
            }
            None => None,
        },
    };
    check_table(origin, &ORIGIN_KEYS, kind, place)?;
    let Some(kind) = kind else {
        return Ok(());
    };
    let foreign = origin.keys().filter_map(|typed| {
        let key = ORIGIN_KEYS
            .into_iter()
            .find(|key| *key == typed.get_ref())?;
        (!kinds_of(key).contains(&kind)).then(|| (key, typed.span()))
    });
    match foreign.min_by_key(|(_, span)| span.start) {
        None => Ok(()),
        Some((key, span)) => Err(ConfigError::ForeignKey {
            place: place(span),
            key,
            kind,
            kinds: kinds_of(key),
        }),
    }
}

fn check_table(
    table: &DeTable<'_>,
    known: &[&'static str],
    kind: Option<OriginKind>,
    place: &dyn Fn(Range<usize>) -> Place,
) -> Result<(), ConfigError> {
    let unknown = table
        .keys()
        .filter(|key| !known.contains(&key.get_ref().as_ref()))
        .min_by_key(|key| key.span().start);
    let Some(key) = unknown else {
        return Ok(());
    };
    let place = place(key.span());
    let typed = key.get_ref();
    if is_secret(typed) {
        let key = typed.to_string();
        return Err(ConfigError::SecretKey { place, key, kind });
    }
    Err(ConfigError::UnknownKey {
        place,
        key: typed.to_string(),
        suggestion: suggestion(typed, known),
    })
}

#[cfg(test)]
mod tests;
