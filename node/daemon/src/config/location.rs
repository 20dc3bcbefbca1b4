//! Origins written as one word: a path or a URL.
//!
//! The parser is written by hand because a general one follows the rules of browsers: it takes `..`
//! and `%2e%2e` out of paths, and drops tabs and line ends, all of which may be parts of names here.

use std::borrow::Cow;

use musicfs_core::origin::OriginKind;

use super::ConfigError;
use super::file::{OriginEntry, suggestion};

/// Words that only occur in the names of secrets.
const SECRET_WORDS: [&str; 12] = [
    "secret",
    "password",
    "passwd",
    "passphrase",
    "token",
    "access_key",
    "accesskey",
    "private_key",
    "api_key",
    "apikey",
    "credential",
    "signature",
];

/// Names of secrets that are too short to be looked for inside of others.
const SECRET_NAMES: [&str; 5] = ["pass", "pw", "pwd", "key", "sas"];

/// What the URL of a bucket may say behind `?`.
const S3_KEYS: [&str; 4] = ["endpoint", "region", "path_style", "profile"];

/// The same for a directory of an SFTP server.
const SFTP_KEYS: [&str; 3] = ["known_hosts", "key_file", "hash_command"];

/// The port of a URL that names none.
pub(super) const SFTP_PORT_DEFAULT: u16 = 22;

/// Reads a path or URL as the table that means the same.
///
/// A text without `scheme://` is a path, whatever it holds. In a URL, `%` begins a byte in two
/// hexadecimal digits.
///
/// # Errors
/// [`ConfigError::OriginSecret`] for a URL with a password or keys, [`ConfigError::UrlKey`] for one
/// with unknown keys, [`ConfigError::OriginUrl`] for any other fault. None of them holds the secret.
pub(crate) fn parse_location(text: &str) -> Result<OriginEntry, ConfigError> {
    let wrong = |reason| ConfigError::OriginUrl {
        url: redacted(text).into_owned(),
        reason,
    };
    if text.is_empty() {
        return Err(wrong("it is empty"));
    }
    let Some((scheme, rest)) = split_scheme(text) else {
        return Ok(OriginEntry {
            path: Some(text.to_owned()),
            ..OriginEntry::default()
        });
    };
    let kind = match scheme.to_ascii_lowercase().as_str() {
        "file" => OriginKind::Local,
        "local" => return Err(wrong("write a path, or file:///path")),
        name => OriginKind::from_name(name).ok_or_else(|| {
            wrong("its scheme is unknown: use a path, file://, nfs://, smb://, s3:// or sftp://")
        })?,
    };
    let url = Url::split(rest);
    if url.has_secret(kind) {
        let name = redacted(text).into_owned();
        return Err(ConfigError::OriginSecret { name, kind });
    }
    if rest.contains('#') {
        return Err(wrong("write %23 for a '#' in a name"));
    }
    let entry = OriginEntry {
        kind: Some(kind.as_str().to_owned()),
        ..OriginEntry::default()
    };
    match kind {
        OriginKind::Local | OriginKind::Nfs | OriginKind::Smb => {
            directory(kind, &url, entry).map_err(wrong)
        }
        OriginKind::S3 => {
            let pairs = url.pairs(text, &S3_KEYS)?;
            s3(&url, &pairs, entry).map_err(wrong)
        }
        OriginKind::Sftp => {
            let pairs = url.pairs(text, &SFTP_KEYS)?;
            sftp(&url, &pairs, entry).map_err(wrong)
        }
    }
}

/// A text that names an origin, without what may be secret in it: passwords and queries.
///
/// Meant for texts that are wrong, too: rather too little is left than too much.
pub(crate) fn redacted(text: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = split_scheme(text) else {
        return text.into();
    };
    let mut shown = rest.to_owned();
    if let Some(at) = rest.rfind('@')
        && scheme.eq_ignore_ascii_case("s3")
    {
        // Who comes before a bucket can only be an access key.
        shown.replace_range(..at, "…");
    } else if let (Some(colon), Some(at)) = (rest.find(':'), rest.rfind('@'))
        && colon < at
    {
        shown.replace_range(colon + 1..at, "…");
    }
    if let Some(query) = shown.find(['?', '#']) {
        shown.truncate(query);
        shown.push_str("?…");
    }
    // `user:password` with the host forgotten looks like `host:port`.
    let authority = shown.find('/').unwrap_or(shown.len());
    if let Some(colon) = shown[..authority].rfind(':')
        && !shown[..colon].starts_with('[')
        && !shown[colon + 1..authority]
            .bytes()
            .all(|byte| byte.is_ascii_digit())
        && !shown[..authority].contains('@')
    {
        shown.replace_range(colon + 1..authority, "…");
    }
    format!("{scheme}://{shown}").into()
}

/// Writes a name into a URL: what would not be read back as itself, and each of `also`, as `%` and
/// two hexadecimal digits.
pub(super) fn encode(text: &str, also: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '%' | '?' | '#')
            || character.is_control()
            || also.contains(character)
        {
            for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                encoded += &format!("%{byte:02X}");
            }
        } else {
            encoded.push(character);
        }
    }
    encoded
}

/// Whether a key by this name would hold a secret.
pub(super) fn is_secret(key: &str) -> bool {
    let normal = key.to_lowercase().replace(['-', '.'], "_");
    SECRET_NAMES.contains(&normal.as_str()) || SECRET_WORDS.iter().any(|word| normal.contains(word))
}

/// Splits `host`, `host:port` or `[address]:port`; the host as it is, without brackets.
///
/// # Errors
/// What is wrong with it.
pub(super) fn host_and_port(text: &str) -> Result<(&str, Option<u16>), &'static str> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((host, "")) => (host, None),
            Some((host, port)) => {
                let port = port.strip_prefix(':');
                (
                    host,
                    Some(port.ok_or("its address in [] is followed by no port")?),
                )
            }
            None => return Err("its address lacks the ']'"),
        },
        None => match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let Some(port) = port else {
        return Ok((host, None));
    };
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    match port.parse() {
        Ok(port @ 1..) if digits => Ok((host, Some(port))),
        _ => Err("its port must be a number from 1 to 65535"),
    }
}

/// Scheme and rest of a URL; `None` for a path.
fn split_scheme(text: &str) -> Option<(&str, &str)> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    let (scheme, rest) = text.split_once("://")?;
    (!scheme.is_empty() && scheme.bytes().all(legal)).then_some((scheme, rest))
}

/// The parts of a URL behind its scheme, as typed.
struct Url<'a> {
    user: Option<&'a str>,
    host: &'a str,
    /// Empty, or from its first slash on.
    path: &'a str,
    query: Option<&'a str>,
}

impl<'a> Url<'a> {
    fn split(rest: &'a str) -> Self {
        let (rest, query) = match rest.split_once('?') {
            Some((rest, query)) => (rest, Some(query)),
            None => (rest, None),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        Self {
            user,
            host,
            path,
            query,
        }
    }

    /// Whether there is a password, or a user where a user can only be an access key.
    fn has_secret(&self, kind: OriginKind) -> bool {
        let pairs = self.query.into_iter().flat_map(|query| query.split('&'));
        let mut pairs = pairs.filter_map(|pair| pair.split_once('='));
        let names_user = |value: &str| value.contains('@') || value.contains("%40");
        self.user
            .is_some_and(|user| kind == OriginKind::S3 || user.contains(':'))
            || pairs.any(|(key, value)| is_secret(key) || key == "endpoint" && names_user(value))
    }

    /// The keys behind `?` with their values, each at most once and out of `known`.
    fn pairs(
        &self,
        text: &str,
        known: &'static [&'static str],
    ) -> Result<Vec<(&'static str, String)>, ConfigError> {
        let url = || redacted(text).into_owned();
        let wrong = |reason| ConfigError::OriginUrl { url: url(), reason };
        let mut pairs: Vec<(&str, String)> = Vec::new();
        let typed = self.query.unwrap_or_default().split('&');
        for pair in typed.filter(|pair| !pair.is_empty()) {
            let Some((key, value)) = pair.split_once('=') else {
                return Err(wrong("what is behind '?' must read key=value&key=value"));
            };
            let Some(key) = known.iter().find(|known| **known == key) else {
                if self.query.is_some_and(|query| query.contains('@')) {
                    // It may be the second half of a password.
                    return Err(wrong("one of the keys behind '?' is unknown"));
                }
                return Err(ConfigError::UrlKey {
                    url: url(),
                    key: key.to_owned(),
                    suggestion: suggestion(key, known),
                });
            };
            if pairs.iter().any(|(other, _)| other == key) {
                return Err(wrong("one of the keys behind '?' is there twice"));
            }
            pairs.push((key, decode(value).map_err(wrong)?));
        }
        Ok(pairs)
    }
}

fn directory(
    kind: OriginKind,
    url: &Url<'_>,
    entry: OriginEntry,
) -> Result<OriginEntry, &'static str> {
    if url.query.is_some() {
        return Err("it takes no keys: write %3F for a '?' in a name");
    }
    let local = url.host.is_empty() || url.host.eq_ignore_ascii_case("localhost");
    if url.user.is_some() || !local || url.path.is_empty() {
        return Err(match kind {
            OriginKind::Nfs => "it takes no server: mount the share and write nfs:///path",
            OriginKind::Smb => "it takes no server: mount the share and write smb:///path",
            _ => "a file:// URL takes no host: write file:///path",
        });
    }
    Ok(OriginEntry {
        path: Some(decode(url.path)?),
        ..entry
    })
}

fn s3(
    url: &Url<'_>,
    pairs: &[(&str, String)],
    entry: OriginEntry,
) -> Result<OriginEntry, &'static str> {
    let value = |key| take(pairs, key);
    let path_style = match value("path_style").as_deref() {
        None => None,
        Some("true") => Some(true),
        Some("false") => Some(false),
        Some(_) => return Err("path_style is true or false"),
    };
    if url.host.contains(':') {
        return Err("the bucket comes first, the server behind it: s3://bucket?endpoint=https://…");
    }
    let prefix = decode(url.path.trim_matches('/'))?;
    Ok(OriginEntry {
        bucket: Some(decode(url.host)?),
        prefix: (!prefix.is_empty()).then_some(prefix),
        endpoint: value("endpoint"),
        region: value("region"),
        path_style,
        profile: value("profile"),
        ..entry
    })
}

fn sftp(
    url: &Url<'_>,
    pairs: &[(&str, String)],
    entry: OriginEntry,
) -> Result<OriginEntry, &'static str> {
    let (host, port) = host_and_port(url.host)?;
    // `/~/` is the login directory, as in git and curl; `/%7E/` is a directory of that name.
    let path = match url.path.strip_prefix("/~") {
        Some(below) if below.is_empty() || below.starts_with('/') => &url.path[1..],
        _ if url.path.is_empty() => "~",
        _ => url.path,
    };
    Ok(OriginEntry {
        host: Some(decode(host)?),
        port,
        user: url.user.map(decode).transpose()?,
        path: Some(decode(path)?),
        known_hosts: take(pairs, "known_hosts").map(Into::into),
        key_file: take(pairs, "key_file").map(Into::into),
        hash_command: take(pairs, "hash_command"),
        ..entry
    })
}

fn take(pairs: &[(&str, String)], key: &str) -> Option<String> {
    let found = pairs.iter().find(|(known, _)| *known == key);
    found.map(|(_, value)| value.clone())
}

fn decode(text: &str) -> Result<String, &'static str> {
    let wrong = "a '%' needs two hexadecimal digits";
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        if byte == b'%' {
            let digit = |at: usize| tail.get(at).and_then(|byte| char::from(*byte).to_digit(16));
            let (Some(high), Some(low)) = (digit(0), digit(1)) else {
                return Err(wrong);
            };
            bytes.push(u8::try_from(high * 16 + low).map_err(|_| wrong)?);
            rest = &tail[2..];
        } else {
            bytes.push(byte);
            rest = tail;
        }
    }
    let text = String::from_utf8(bytes).map_err(|_| "a name in it is not UTF-8")?;
    match text.contains('\0') {
        true => Err("a name in it holds a NUL"),
        false => Ok(text),
    }
}

#[cfg(test)]
mod tests;
