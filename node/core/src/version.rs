//! Which content a path holds: validators, content versions, version keys, samples.

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
        let size = version.size.to_le_bytes();
        let validator = version.validator.to_text();
        Self(name_of(&[
            b"musicfs/version/1",
            &origin.0,
            path.as_bytes(),
            &size,
            validator.as_bytes(),
        ]))
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

/// What two copies of one file have in common wherever they lie: the first 16 bytes of
/// `BLAKE3("musicfs/sample/1", size, front)`, each part behind its length.
///
/// Files with one sample are shown as one entry: in the front lie the tags, FLAC's MD5 of the audio
/// and the first audio. It is no proof that every byte is equal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sample(pub [u8; 16]);

impl Sample {
    /// How much of a file's front counts: the least that the tag readers fetch of it, so that a
    /// sample costs no request.
    pub const FRONT_BYTES_MAX: usize = 64 << 10;

    /// Computes the sample of a file of `size` bytes that starts with `front`.
    ///
    /// What `front` holds beyond [`Sample::FRONT_BYTES_MAX`] does not count; the caller gives that
    /// many bytes, or the whole file if it is shorter.
    pub fn new(size: u64, front: &[u8]) -> Self {
        let front = &front[..front.len().min(Self::FRONT_BYTES_MAX)];
        Self(name_of(&[b"musicfs/sample/1", &size.to_le_bytes(), front]))
    }
}

impl fmt::Debug for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The first 16 bytes of BLAKE3 over `parts`, each behind its length.
fn name_of(parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let mut name = [0; 16];
    name.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    name
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
    fn a_sample_is_of_the_size_and_the_front() {
        let long = vec![7; Sample::FRONT_BYTES_MAX + 1];
        let front = &long[..Sample::FRONT_BYTES_MAX];
        assert_eq!(Sample::new(1 << 20, front), Sample::new(1 << 20, &long));
        assert_ne!(Sample::new(1 << 20, front), Sample::new(1 << 21, front));
        assert_ne!(
            Sample::new(1 << 20, front),
            Sample::new(1 << 20, &front[1..])
        );
        let mut last = front.to_vec();
        last[Sample::FRONT_BYTES_MAX - 1] = 8;
        assert_ne!(Sample::new(1 << 20, front), Sample::new(1 << 20, &last));
    }

    /// Samples are kept in indexes: another formula would take every copy for a new file.
    #[test]
    fn a_sample_is_fixed_for_ever() {
        let sample = Sample::new(4, b"fLaC");
        assert_eq!(format!("{sample:?}"), "3f96631babc27c2508fedf4a6a476853");
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
