//! Which content a path holds: validators, content versions, version keys.

use std::fmt;

use crate::path::OriginPath;

/// What an origin says to tell one content of a path from the next.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Validator {
    /// The modification time in nanoseconds since 1970, in the origin's best resolution.
    Mtime(i64),
    /// An entity tag without its quotes (RFC 9110 §8.8.3).
    ETag(Box<str>),
}

impl Validator {
    /// The form that is hashed and stored; injective.
    pub fn to_text(&self) -> String {
        match self {
            Self::Mtime(ns) => format!("m{ns}"),
            Self::ETag(tag) => format!("e{tag}"),
        }
    }

    /// Reads the form of [`Validator::to_text`] back; `None` for anything else.
    pub fn from_text(text: &str) -> Option<Self> {
        match (text.get(..1)?, &text[1..]) {
            ("m", ns) => ns.parse().ok().map(Self::Mtime),
            ("e", tag) => Some(Self::ETag(tag.into())),
            _ => None,
        }
    }
}

/// The content of a file apart from its place: equal versions are taken for equal content.
///
/// This is what an inode is tied to; a [`VersionKey`] also holds the path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentVersion {
    /// Length in bytes.
    pub size: u64,
    /// What the origin says of the content.
    pub validator: Validator,
}

/// Which place in the world an origin is, the same on every node that reaches it.
///
/// For a local directory: the installation id and the real path of the root, so that two machines
/// never take their `/music` for one place. The config key `identity` replaces it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginKey(pub Box<[u8]>);

/// Names one content version at one path of one origin: the first 16 bytes of
/// `BLAKE3("musicfs/version/1", origin key, path, size, validator)`.
///
/// Each part is hashed behind its length (u64, little endian), so that no two lists of parts give
/// the same bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionKey(pub [u8; 16]);

impl VersionKey {
    /// Computes the key.
    pub fn new(origin: &OriginKey, path: &OriginPath, version: &ContentVersion) -> Self {
        let mut hasher = blake3::Hasher::new();
        let size = version.size.to_le_bytes();
        let validator = version.validator.to_text();
        let parts: [&[u8]; 5] = [
            b"musicfs/version/1",
            &origin.0,
            path.as_bytes(),
            &size,
            validator.as_bytes(),
        ];
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        let mut key = [0; 16];
        key.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Self(key)
    }
}

impl fmt::Display for VersionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for VersionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(origin: &str, path: &str, size: u64, validator: Validator) -> VersionKey {
        let origin = OriginKey(origin.as_bytes().into());
        let path = OriginPath::new(path.as_bytes()).unwrap();
        VersionKey::new(&origin, &path, &ContentVersion { size, validator })
    }

    #[test]
    fn every_part_of_a_version_key_counts() {
        let base = key("o", "a/b", 1, Validator::Mtime(5));
        assert_eq!(base, key("o", "a/b", 1, Validator::Mtime(5)));
        assert_ne!(base, key("p", "a/b", 1, Validator::Mtime(5)));
        assert_ne!(base, key("o", "a/c", 1, Validator::Mtime(5)));
        assert_ne!(base, key("o", "a/b", 2, Validator::Mtime(5)));
        assert_ne!(base, key("o", "a/b", 1, Validator::Mtime(6)));
        assert_ne!(base, key("o", "a/b", 1, Validator::ETag("5".into())));
        assert_ne!(
            key("oa", "b", 1, Validator::Mtime(5)),
            key("o", "ab", 1, Validator::Mtime(5))
        );
    }

    /// The key is part of what nodes tell each other: it may never drift.
    #[test]
    fn a_version_key_is_fixed_for_ever() {
        let key = key(
            "install/music",
            "a/b.flac",
            1234,
            Validator::Mtime(1_700_000_000_000_000_000),
        );
        assert_eq!(key.to_string(), "b4c5b72362de1502d2df34ee80689edd");
    }

    #[test]
    fn a_validator_survives_its_text() {
        for validator in [
            Validator::Mtime(-5),
            Validator::Mtime(7),
            Validator::ETag("a-2".into()),
        ] {
            assert_eq!(Validator::from_text(&validator.to_text()), Some(validator));
        }
        assert_eq!(Validator::from_text("x"), None);
        assert_eq!(Validator::from_text(""), None);
        assert_eq!(Validator::from_text("é"), None);
    }
}
