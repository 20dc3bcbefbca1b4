//! Names of things: origins, files, inodes, revisions, nodes.

use std::fmt;

/// The id of a configured origin, unique within an instance.
///
/// 1 to 64 characters out of `a-z A-Z 0-9 . _ -`, not starting with a dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OriginId(Box<str>);

/// Why a text is no [`OriginId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("parse origin id: use 1 to 64 letters, digits, '.', '_' or '-', not starting with '.'")]
pub struct InvalidOriginId;

impl OriginId {
    /// The longest id, so that ids fit file names and metric labels.
    pub const LEN_MAX: usize = 64;

    /// Parses an id.
    ///
    /// # Errors
    /// [`InvalidOriginId`] if `text` is not of the form above; the user must choose another.
    pub fn new(text: &str) -> Result<Self, InvalidOriginId> {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let fits = (1..=Self::LEN_MAX).contains(&text.len());
        if !fits || text.starts_with('.') || !text.bytes().all(legal) {
            return Err(InvalidOriginId);
        }
        Ok(Self(text.into()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OriginId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An inode number of the mounted tree: one track in one content version, or one directory.
///
/// Assigned once by the index and never reused. [`Ino::ROOT`] is the root; the numbers up to
/// [`Ino::RESERVED_MAX`] are kept for the kernel's protocol and for virtual directories to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ino(pub u64);

impl Ino {
    /// The root directory (FUSE_ROOT_ID).
    pub const ROOT: Self = Self(1);
    /// The last inode number that no entry ever gets.
    pub const RESERVED_MAX: Self = Self(255);
}

impl fmt::Display for Ino {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The row of one real file in the index. Stable while the file is known, across moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub i64);

/// Counts the commits of the index; every change of the tree belongs to one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

/// Names a node of a cluster for as long as it keeps its key: 16 bytes of a digest of its public key,
/// shown as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId([u8; 16]);

impl NodeId {
    /// Takes over what [`NodeId::as_bytes`] gave.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Reads what is shown back; `None` for any other text.
    pub fn from_text(text: &str) -> Option<Self> {
        let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes());
        Some(Self(bytes.ok()?.try_into().ok()?))
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_id_survives_its_text() {
        let id = NodeId::from_bytes([0xab; 16]);
        assert_eq!(id.to_string(), "ab".repeat(16));
        assert_eq!(NodeId::from_text(&id.to_string()), Some(id));
        assert_eq!(NodeId::from_text("ab"), None);
        assert_eq!(NodeId::from_text(&"xy".repeat(16)), None);
    }

    #[test]
    fn an_origin_id_is_short_and_plain() {
        for good in ["nas", "a", "music-backup_2.old", &"x".repeat(64)] {
            assert!(OriginId::new(good).is_ok(), "{good:?}");
        }
        for bad in ["", ".", "../x", "a/b", "a b", "é", "a\0", &"x".repeat(65)] {
            assert!(OriginId::new(bad).is_err(), "{bad:?}");
        }
    }
}
