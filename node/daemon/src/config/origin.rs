//! From what was typed about origins to what it means.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use musicfs_core::id::OriginId;
use musicfs_core::origin::OriginKind;
use musicfs_core::path::OriginPath;
use musicfs_origins::HashCommand;

use super::ConfigError;
use super::endpoint::{parse_endpoint, parse_host};
use super::file::OriginEntry;
use super::location::{SFTP_PORT_DEFAULT, encode, parse_location, redacted};
use crate::paths::Environment;

/// The longest part of a place's name that goes into an id made from it.
const SLUG_LEN_MAX: usize = 40;

/// The longest name of a bucket: what S3 allowed at first; today it is 63 (Amazon S3 User Guide,
/// "General purpose bucket naming rules").
const BUCKET_LEN_MAX: usize = 255;

/// How often a remote origin is listed: nothing tells of its changes, and a listing of a large
/// bucket costs time and money.
const RESCAN_SECONDS_DEFAULT: u32 = 15 * 60;

/// More often it would be listed nearly all the time.
const RESCAN_SECONDS_MIN: u32 = 10;

/// One origin, complete and checked. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OriginConfig {
    /// Unique in the instance.
    pub(crate) id: OriginId,
    /// What kind of place it is.
    pub(crate) kind: OriginKind,
    /// Where it is; of the form that belongs to the kind.
    pub(crate) place: OriginPlace,
    /// Lower is tried first.
    pub(crate) priority: u32,
    /// What names the place on every node, if not the place itself.
    pub(crate) identity: Option<String>,
    /// How often it is listed; whole seconds. Of no use for a local one, which is watched.
    pub(crate) rescan_every: Duration,
    /// Whether the id was made of the place.
    pub(crate) implicit: bool,
}

impl OriginConfig {
    /// The value of `rescan_seconds`; `None` for a local origin, which has no such key.
    pub(super) fn rescan_seconds(&self) -> Option<u32> {
        let seconds = u32::try_from(self.rescan_every.as_secs()).ok();
        seconds.filter(|_| self.kind.is_cached())
    }
}

/// Where an origin is and how it is reached, without secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OriginPlace {
    /// A directory: `local`, `nfs` and `smb`. Absolute; that of a `local` one without symbolic
    /// links if it could be reached.
    Directory(PathBuf),
    /// A bucket.
    S3 {
        /// Its name.
        bucket: String,
        /// What keys must start with, without slashes at its ends; empty for all of them.
        prefix: String,
        /// The server, unless it is Amazon's: a URL with its host in lower case, without a default
        /// port and without a slash at the end.
        endpoint: Option<String>,
        /// The region, unless environment or profile say it.
        region: Option<String>,
        /// Whether the bucket's name is part of the path instead of the host.
        path_style: Option<bool>,
        /// The profile of ~/.aws that has the credentials.
        profile: Option<String>,
    },
    /// A directory of an SFTP server.
    Sftp {
        /// Its name in lower case, or its address without brackets.
        host: String,
        /// Its port.
        port: u16,
        /// Who logs in.
        user: String,
        /// The directory: absolute, or relative to the login directory, which is meant if it is empty.
        root: String,
        /// The file of host keys, if not the usual ones.
        known_hosts: Option<PathBuf>,
        /// The private key, if not the usual ones.
        key_file: Option<PathBuf>,
        /// The program that computes checksums there, if one may be run.
        hash_command: Option<HashCommand>,
    },
}

impl OriginPlace {
    /// The name of the place itself, apart from how it is reached: a path or URL. Two origins with
    /// one canonical form are one place.
    pub(crate) fn canonical(&self) -> Vec<u8> {
        match self {
            Self::Directory(path) => path.as_os_str().as_encoded_bytes().to_vec(),
            Self::S3 { .. } | Self::Sftp { .. } => self.to_string().into_bytes(),
        }
    }

    /// The directory, for the kinds that have one on this machine.
    pub(crate) fn directory(&self) -> Option<&Path> {
        match self {
            Self::Directory(path) => Some(path),
            Self::S3 { .. } | Self::Sftp { .. } => None,
        }
    }

    /// As the table of a configuration file.
    pub(super) fn to_entry(&self) -> OriginEntry {
        match self.clone() {
            Self::Directory(path) => OriginEntry {
                path: Some(path.to_string_lossy().into_owned()),
                ..OriginEntry::default()
            },
            Self::S3 {
                bucket,
                prefix,
                endpoint,
                region,
                path_style,
                profile,
            } => OriginEntry {
                bucket: Some(bucket),
                prefix: (!prefix.is_empty()).then_some(prefix),
                endpoint,
                region,
                path_style,
                profile,
                ..OriginEntry::default()
            },
            Self::Sftp {
                host,
                port,
                user,
                root,
                known_hosts,
                key_file,
                hash_command,
            } => OriginEntry {
                host: Some(host),
                port: Some(port),
                user: Some(user),
                path: Some(typed_root(&root)),
                known_hosts,
                key_file,
                hash_command: hash_command.map(|command| command.as_str().to_owned()),
                ..OriginEntry::default()
            },
        }
    }

    /// The last part of the place's name.
    fn name(&self) -> String {
        let last = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
        match self {
            Self::Directory(path) => {
                let name = path.file_name().unwrap_or_default();
                name.to_string_lossy().into_owned()
            }
            Self::S3 { bucket, prefix, .. } if prefix.is_empty() => bucket.clone(),
            Self::S3 { prefix, .. } => last(prefix),
            Self::Sftp { host, root, .. } if matches!(root.as_str(), "" | "/") => host.clone(),
            Self::Sftp { root, .. } => last(root),
        }
    }
}

impl fmt::Display for OriginPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => path.display().fmt(f),
            Self::S3 {
                bucket,
                prefix,
                endpoint,
                ..
            } => {
                write!(f, "s3://{bucket}")?;
                if !prefix.is_empty() {
                    write!(f, "/{}", encode(prefix, ""))?;
                }
                match endpoint {
                    Some(endpoint) => write!(f, "?endpoint={endpoint}"),
                    None => Ok(()),
                }
            }
            Self::Sftp {
                host,
                port,
                user,
                root,
                ..
            } => {
                write!(f, "sftp://{}@", encode(user, "/@"))?;
                match host.contains(':') {
                    true => write!(f, "[{host}]")?,
                    false => f.write_str(host)?,
                }
                if *port != SFTP_PORT_DEFAULT {
                    write!(f, ":{port}")?;
                }
                match (root.as_str(), root.strip_prefix("/~")) {
                    ("", _) => f.write_str("/~"),
                    (_, Some(below)) => write!(f, "/%7E{}", encode(below, "")),
                    (absolute, _) if absolute.starts_with('/') => f.write_str(&encode(root, "")),
                    (below_login, _) => write!(f, "/~/{}", encode(below_login, "")),
                }
            }
        }
    }
}

/// Checks every origin by itself and all against each other.
///
/// # Errors
/// [`ConfigError`] for the first that is wrong.
pub(super) fn resolve(
    entries: &[OriginEntry],
    environment: &Environment,
) -> Result<Vec<OriginConfig>, ConfigError> {
    let mut origins = Vec::with_capacity(entries.len());
    for entry in entries {
        origins.push(resolve_one(entry, environment)?);
    }
    let mut ids = BTreeMap::new();
    let mut places: BTreeMap<Vec<u8>, &OriginId> = BTreeMap::new();
    for OriginConfig { id, place, .. } in &origins {
        if let Some(first) = places.insert(place.canonical(), id) {
            return Err(ConfigError::DuplicateRoot {
                place: place.to_string(),
                ids: [first.clone(), id.clone()],
            });
        }
        if ids.insert(id, place).is_some() {
            return Err(ConfigError::DuplicateId { id: id.clone() });
        }
    }
    Ok(origins)
}

/// The id of an origin that was given none: its place's name and a digest of its canonical form.
///
/// The same for the same place, on every run.
pub(crate) fn implicit_id(place: &OriginPlace) -> OriginId {
    let mut slug = String::new();
    for character in place.name().chars().take(SLUG_LEN_MAX) {
        match character {
            'a'..='z' | '0'..='9' => slug.push(character),
            'A'..='Z' => slug.push(character.to_ascii_lowercase()),
            _ if slug.is_empty() || slug.ends_with('-') => {}
            _ => slug.push('-'),
        }
    }
    let slug = match slug.trim_end_matches('-') {
        "" => "origin",
        slug => slug,
    };
    let digest = blake3::hash(&place.canonical()).to_hex();
    let id = format!("{slug}-{}", &digest[..8]);
    OriginId::new(&id).expect("at most 49 letters, digits and hyphens, starting with one of them")
}

fn resolve_one(
    entry: &OriginEntry,
    environment: &Environment,
) -> Result<OriginConfig, ConfigError> {
    let wrong = |reason| ConfigError::OriginEntry {
        name: name(entry),
        reason,
    };
    let kind = match entry.kind.as_deref() {
        None => OriginKind::Local,
        Some(kind) => OriginKind::from_name(kind).ok_or_else(|| {
            wrong("its type is unknown: use \"local\", \"nfs\", \"smb\", \"s3\" or \"sftp\"")
        })?,
    };
    if entry.identity.as_deref() == Some("") {
        return Err(wrong("its identity is empty"));
    }
    let place = match kind {
        OriginKind::Local | OriginKind::Nfs | OriginKind::Smb => {
            directory(kind, entry, environment)?
        }
        OriginKind::S3 => s3(entry)?,
        OriginKind::Sftp => sftp(entry, environment).map_err(wrong)?,
    };
    let rescan_seconds = entry.rescan_seconds.unwrap_or(RESCAN_SECONDS_DEFAULT);
    if rescan_seconds < RESCAN_SECONDS_MIN {
        return Err(wrong("its rescan_seconds must be 10 or more"));
    }
    let id = match &entry.id {
        Some(id) => OriginId::new(id).map_err(|_| ConfigError::OriginId { id: id.clone() })?,
        None => implicit_id(&place),
    };
    Ok(OriginConfig {
        id,
        kind,
        place,
        priority: entry.priority.unwrap_or(kind.default_priority()),
        identity: entry.identity.clone(),
        rescan_every: Duration::from_secs(rescan_seconds.into()),
        implicit: entry.id.is_none(),
    })
}

/// What an error calls an origin that may be wrong in every way.
fn name(entry: &OriginEntry) -> String {
    let place = entry.path.as_ref().or(entry.bucket.as_ref());
    let name = entry.id.as_ref().or(place).or(entry.host.as_ref());
    name.map_or_else(|| "without id".into(), |name| redacted(name).into_owned())
}

fn directory(
    kind: OriginKind,
    entry: &OriginEntry,
    environment: &Environment,
) -> Result<OriginPlace, ConfigError> {
    let wrong = |reason| ConfigError::OriginEntry {
        name: name(entry),
        reason,
    };
    let typed = entry.path.as_deref();
    let typed = typed.ok_or_else(|| wrong("its path is missing"))?;
    let parsed = parse_location(typed)?;
    if parsed.kind.is_some_and(|of_url| {
        let of_url = OriginKind::from_name(&of_url);
        of_url != Some(OriginKind::Local) && of_url != Some(kind)
    }) {
        return Err(wrong(
            "its path is the URL of another type: write the keys of that type",
        ));
    }
    let path = from_home(parsed.path.unwrap_or_default().into(), environment);
    if !path.is_absolute() {
        return Err(wrong("its path must be absolute, or start with ~/"));
    }
    let plain = || path.components().collect();
    Ok(OriginPlace::Directory(match kind {
        // A configured origin may be away; its entries are served until it is back.
        OriginKind::Local => fs::canonicalize(&path).unwrap_or_else(|_| plain()),
        // A look at a share whose server is away may never end.
        _ => plain(),
    }))
}

fn s3(entry: &OriginEntry) -> Result<OriginPlace, ConfigError> {
    let wrong = |reason| ConfigError::OriginEntry {
        name: name(entry),
        reason,
    };
    let bucket = entry.bucket.clone().unwrap_or_default();
    if bucket.is_empty() {
        return Err(wrong("its bucket is missing"));
    }
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let starts = bucket.starts_with(|first: char| first.is_ascii_alphanumeric());
    if !starts || bucket.len() > BUCKET_LEN_MAX || !bucket.bytes().all(legal) {
        return Err(wrong(
            "the name of a bucket has only letters, digits, '.', '_' and '-'",
        ));
    }
    let endpoint = match entry.endpoint.as_deref() {
        // Not as a reason behind the name: what is wrong here may be a secret.
        Some(endpoint) if endpoint.contains('@') => {
            return Err(ConfigError::OriginSecret {
                name: name(entry),
                kind: OriginKind::S3,
            });
        }
        Some(endpoint) => Some(parse_endpoint(endpoint).map_err(wrong)?),
        None => None,
    };
    for text in [&entry.region, &entry.profile].into_iter().flatten() {
        if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(wrong("its region and profile are names without spaces"));
        }
    }
    let prefix = entry.prefix.as_deref().unwrap_or_default();
    let prefix = prefix.trim_matches('/');
    if OriginPath::new(prefix.as_bytes()).is_err() {
        return Err(wrong("its prefix is a directory such as \"a/b\""));
    }
    Ok(OriginPlace::S3 {
        bucket,
        prefix: prefix.to_owned(),
        endpoint,
        region: entry.region.clone(),
        path_style: entry.path_style,
        profile: entry.profile.clone(),
    })
}

fn sftp(entry: &OriginEntry, environment: &Environment) -> Result<OriginPlace, &'static str> {
    let host = entry.host.as_deref().ok_or("its host is missing")?;
    let user = entry.user.as_ref().or(environment.user.as_ref());
    let user = user.ok_or("its user is missing, and this user has no name")?;
    if user.is_empty() || user.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("its user is a name without spaces");
    }
    if user.contains(':') {
        return Err("its user holds a ':': a password belongs into no configuration");
    }
    let port = entry.port.unwrap_or(SFTP_PORT_DEFAULT);
    if port == 0 {
        return Err("its port must be a number from 1 to 65535");
    }
    let absolute = |path: &Option<PathBuf>, reason: &'static str| match path {
        Some(path) => match from_home(path.clone(), environment) {
            path if path.is_absolute() => Ok(Some(path)),
            _ => Err(reason),
        },
        None => Ok(None),
    };
    let hash_command =
        match entry.hash_command.as_deref() {
            Some(name) => Some(HashCommand::from_name(name).ok_or(
                "its hash_command is unknown: use \"md5sum\", \"sha1sum\" or \"sha256sum\"",
            )?),
            None => None,
        };
    Ok(OriginPlace::Sftp {
        host: parse_host(host)?,
        port,
        user: user.clone(),
        root: root(entry.path.as_deref().unwrap_or("~"))?,
        known_hosts: absolute(
            &entry.known_hosts,
            "its known_hosts must be an absolute path, or start with ~/",
        )?,
        key_file: absolute(
            &entry.key_file,
            "its key_file must be an absolute path, or start with ~/",
        )?,
        hash_command,
    })
}

/// The directory on an SFTP server: `/srv/m`, or relative to the login directory `m` or `~/m`.
fn root(typed: &str) -> Result<String, &'static str> {
    if typed.is_empty() {
        return Err("its path is empty: write ~ for the login directory");
    }
    if typed.contains('\0') {
        return Err("its path holds a NUL");
    }
    if typed.contains("://") {
        return Err("its path is a URL: write host, user and port as keys");
    }
    let below_login = match typed {
        "~" => Some(""),
        _ => typed.strip_prefix("~/"),
    };
    let names = below_login.unwrap_or(typed).split('/');
    let names: Vec<&str> = names.filter(|name| !matches!(*name, "" | ".")).collect();
    let names = names.join("/");
    Ok(match typed.starts_with('/') {
        true => format!("/{names}"),
        false => names,
    })
}

/// The root as a user writes it: absolute, or starting with `~`.
fn typed_root(root: &str) -> String {
    match root {
        "" => "~".to_owned(),
        _ if root.starts_with('/') => root.to_owned(),
        _ => format!("~/{root}"),
    }
}

/// Puts this user's home in place of a leading `~/`.
pub(super) fn from_home(path: PathBuf, environment: &Environment) -> PathBuf {
    match (path.strip_prefix("~"), &environment.home) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path,
    }
}

#[cfg(test)]
mod tests;
