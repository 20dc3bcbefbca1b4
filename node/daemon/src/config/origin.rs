//! From what was typed about origins to what it means.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use musicfs_core::id::OriginId;
use musicfs_core::origin::OriginKind;

use super::ConfigError;
use super::file::OriginEntry;
use crate::paths::Environment;

/// The kinds of origin that the configuration will know and this version does not.
const LATER_KINDS: [&str; 4] = ["nfs", "smb", "s3", "sftp"];

/// The longest part of a directory's name that goes into an id made from it.
const SLUG_LEN_MAX: usize = 40;

/// One origin, complete and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OriginConfig {
    /// Unique in the instance.
    pub(crate) id: OriginId,
    /// What kind of place it is.
    pub(crate) kind: OriginKind,
    /// Its root, absolute; without symbolic links if it could be reached.
    pub(crate) path: PathBuf,
    /// Lower is tried first.
    pub(crate) priority: u32,
    /// What names the place on every node, if not the place itself.
    pub(crate) identity: Option<String>,
    /// Whether the id was made of the path.
    pub(crate) implicit: bool,
}

/// Whether `name` is a kind of origin that this version does not know yet.
pub(crate) fn is_later_kind(name: &str) -> bool {
    LATER_KINDS.contains(&name)
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
    let mut roots: BTreeMap<&Path, &OriginId> = BTreeMap::new();
    for OriginConfig { id, path, .. } in &origins {
        if let Some(first) = roots.insert(path, id) {
            return Err(ConfigError::DuplicateRoot {
                path: path.clone(),
                ids: [first.clone(), id.clone()],
            });
        }
        if ids.insert(id, path).is_some() {
            return Err(ConfigError::DuplicateId { id: id.clone() });
        }
    }
    Ok(origins)
}

/// The directory that a path or `file://` URL names, as typed.
///
/// # Errors
/// [`ConfigError::LaterOrigin`] or [`ConfigError::OriginUrl`] for every other URL.
pub(crate) fn parse_location(text: &str) -> Result<PathBuf, ConfigError> {
    let wrong = |reason| ConfigError::OriginUrl {
        url: text.to_owned(),
        reason,
    };
    if text.is_empty() {
        return Err(wrong("it is empty"));
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return Ok(PathBuf::from(text));
    };
    match scheme.to_ascii_lowercase().as_str() {
        "file" => {
            let path = rest.strip_prefix("localhost").unwrap_or(rest);
            if !path.starts_with('/') {
                return Err(wrong("a file:// URL takes no host: write file:///path"));
            }
            percent_decode(path).ok_or_else(|| wrong("a '%' needs two hexadecimal digits"))
        }
        kind if is_later_kind(kind) => Err(ConfigError::LaterOrigin {
            place: None,
            kind: kind.to_owned(),
        }),
        // A directory may well be named so; a URL with a typing error is likelier.
        _ => Err(wrong("its scheme is unknown: use a path or file://")),
    }
}

/// The id of an origin that was given none: its directory's name and a digest of its path.
///
/// The same for the same path, on every run.
pub(crate) fn implicit_id(canonical: &Path) -> OriginId {
    let name = canonical.file_name().unwrap_or_default().to_string_lossy();
    let mut slug = String::new();
    for character in name.chars().take(SLUG_LEN_MAX) {
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
    let digest = blake3::hash(canonical.as_os_str().as_encoded_bytes()).to_hex();
    let id = format!("{slug}-{}", &digest[..8]);
    OriginId::new(&id).expect("at most 49 letters, digits and hyphens, starting with one of them")
}

fn resolve_one(
    entry: &OriginEntry,
    environment: &Environment,
) -> Result<OriginConfig, ConfigError> {
    let name = || entry.id.clone().or_else(|| entry.path.clone());
    let wrong = |reason| ConfigError::OriginEntry {
        name: name().unwrap_or_else(|| "without id".into()),
        reason,
    };
    let kind = match entry.kind.as_deref() {
        None | Some("local") => OriginKind::Local,
        Some(kind) if is_later_kind(kind) => {
            return Err(ConfigError::LaterOrigin {
                place: None,
                kind: kind.to_owned(),
            });
        }
        Some(_) => return Err(wrong("its type is unknown: use \"local\"")),
    };
    let typed = entry
        .path
        .as_deref()
        .ok_or_else(|| wrong("its path is missing"))?;
    let path = from_home(parse_location(typed)?, environment);
    if !path.is_absolute() {
        return Err(wrong("its path must be absolute, or start with ~/"));
    }
    if entry.identity.as_deref() == Some("") {
        return Err(wrong("its identity is empty"));
    }
    // A configured origin may be away; its entries are served until it is back.
    let path = fs::canonicalize(&path).unwrap_or_else(|_| path.components().collect());
    let id = match &entry.id {
        Some(id) => OriginId::new(id).map_err(|_| ConfigError::OriginId { id: id.clone() })?,
        None => implicit_id(&path),
    };
    Ok(OriginConfig {
        id,
        kind,
        path,
        priority: entry.priority.unwrap_or(kind.default_priority()),
        identity: entry.identity.clone(),
        implicit: entry.id.is_none(),
    })
}

/// Puts this user's home in place of a leading `~/`.
pub(super) fn from_home(path: PathBuf, environment: &Environment) -> PathBuf {
    match (path.strip_prefix("~"), &environment.home) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path,
    }
}

fn percent_decode(text: &str) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        if byte == b'%' {
            let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(byte);
            rest = tail;
        }
    }
    Some(PathBuf::from(std::ffi::OsString::from_vec(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: Option<&str>, path: &str) -> OriginEntry {
        OriginEntry {
            id: id.map(Into::into),
            path: Some(path.into()),
            ..OriginEntry::default()
        }
    }

    fn resolved(entries: &[OriginEntry]) -> Result<Vec<OriginConfig>, ConfigError> {
        let environment = Environment {
            home: Some("/home/ann".into()),
            ..Environment::default()
        };
        resolve(entries, &environment)
    }

    #[test]
    fn a_location_is_a_path_or_a_file_url() {
        let check = |text: &str, expect: &str| {
            assert_eq!(parse_location(text).unwrap(), Path::new(expect), "{text:?}");
        };
        check("/music", "/music");
        check("rel/dir", "rel/dir");
        check("file:///my%20music", "/my music");
        check("file://localhost/m", "/m");
        for bad in ["", "file://host/m", "file:///%zz", "ftp://x/y"] {
            assert!(parse_location(bad).is_err(), "{bad:?}");
        }
        for later in [
            "s3://bucket/x",
            "sftp://me@host/x",
            "NFS://h/x",
            "smb://h/x",
        ] {
            let got = parse_location(later).unwrap_err().to_string();
            assert!(got.contains("not in this version"), "{got}");
        }
    }

    #[test]
    fn an_origin_without_id_is_named_after_its_directory_for_ever() {
        assert_eq!(
            implicit_id(Path::new("/mnt/My Music!")).as_str(),
            "my-music-0f28b83a"
        );
        assert_ne!(
            implicit_id(Path::new("/a/m")),
            implicit_id(Path::new("/b/m"))
        );
        for odd in ["/", "/日本", "/...", &format!("/{}", "x".repeat(200))] {
            assert!(implicit_id(Path::new(odd)).as_str().len() <= 49, "{odd:?}");
        }
        let origins = resolved(&[entry(None, "/nonexistent/a")]).unwrap();
        assert!(origins[0].implicit);
        assert_eq!(origins[0].priority, 1);
    }

    #[test]
    fn the_same_root_or_id_twice_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().to_str().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(real, &link).unwrap();
        let link = link.to_str().unwrap();
        let got = resolved(&[entry(Some("a"), real), entry(Some("b"), link)]);
        assert!(
            matches!(got, Err(ConfigError::DuplicateRoot { .. })),
            "{got:?}"
        );
        let got = resolved(&[entry(None, "/n/a"), entry(None, "/n/a/")]);
        assert!(
            matches!(got, Err(ConfigError::DuplicateRoot { .. })),
            "{got:?}"
        );
        let got = resolved(&[entry(Some("a"), "/n/a"), entry(Some("a"), "/n/b")]);
        assert!(
            matches!(got, Err(ConfigError::DuplicateId { .. })),
            "{got:?}"
        );
    }

    #[test]
    fn a_configured_origin_needs_an_absolute_path_and_a_plain_id() {
        assert_eq!(
            resolved(&[entry(Some("a"), "~/Music")]).unwrap()[0].path,
            Path::new("/home/ann/Music")
        );
        assert!(resolved(&[entry(Some("a"), "music")]).is_err());
        assert!(resolved(&[entry(Some("a/b"), "/n")]).is_err());
        assert!(resolved(&[OriginEntry::default()]).is_err());
        let kind = OriginEntry {
            kind: Some("locl".into()),
            ..entry(Some("a"), "/n")
        };
        assert!(resolved(&[kind]).is_err());
    }
}
