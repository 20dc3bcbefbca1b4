//! What queries answer.

use musicfs_core::id::{FileId, Ino, OriginId};
use musicfs_core::origin::FileIdentity;
use musicfs_core::path::OriginPath;
use musicfs_core::tags::AudioLayout;
use musicfs_core::version::{ContentVersion, Sample, VersionKey};

use crate::change::FileKind;

/// What an entry of the tree is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
}

/// One entry of the tree and what `stat` shows of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its inode number.
    pub ino: Ino,
    /// What it is.
    pub kind: NodeKind,
    /// Length in bytes; 0 for a directory.
    pub size: u64,
    /// A file: when its origin says it was modified. A directory: when its children last changed.
    /// Nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Read bits: of the file on its origin (a subset of 0444), or 0555 of a directory.
    pub mode: u16,
}

/// An entry and its name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    /// The name, NFC and at most 255 bytes.
    pub name: String,
    /// The entry.
    pub node: Node,
}

/// Where the content of an entry comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The entry.
    pub node: Node,
    /// The origin.
    pub origin: OriginId,
    /// The path on it.
    pub path: OriginPath,
    /// The content version that the inode stands for.
    pub version: ContentVersion,
    /// Track or companion.
    pub kind: FileKind,
    /// The name of its content.
    pub version_key: VersionKey,
    /// How its bytes are arranged, where that is known.
    pub layout: Option<AudioLayout>,
    /// What its copies have in common with it; `None` for a companion, and for a track that was
    /// indexed by a version which did not take it.
    pub sample: Option<Sample>,
    /// MD5 of the whole content, where that is certain.
    pub md5: Option<[u8; 16]>,
    /// Plain ETags of its origin are MD5s, as far as has been seen.
    pub etag_is_md5: bool,
    /// The place of its origin among the origins; the lowest is tried first.
    pub priority: u32,
}

/// A file of the tree, met on a walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileBelow {
    /// Its path in the tree, without a leading slash.
    pub path: String,
    /// Where its content comes from.
    pub found: Found,
}

/// A path of the tree whose content is to stay in the cache.
///
/// A path, not an entry: what it covers is looked up in the tree of the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// A file or directory, without slashes at its ends; empty: everything.
    pub path: String,
    /// When it was pinned, in seconds since 1970.
    pub created_unix: i64,
}

/// What the extended attributes of an entry say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provenance {
    /// The origin's id.
    pub origin: OriginId,
    /// The path on it.
    pub real_path: Vec<u8>,
    /// The real extension in lower case.
    pub format: String,
}

/// Sums over all origins that are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Files known.
    pub files: u64,
    /// Directories of the tree.
    pub directories: u64,
    /// Bytes in those files.
    pub bytes: u64,
}

/// An origin as the index knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginRow {
    /// The row.
    pub id: i64,
    /// Its configured id.
    pub name: String,
    /// Its kind's name.
    pub kind: String,
    /// What a person calls it.
    pub display_name: String,
    /// No longer configured.
    pub hidden: bool,
    /// Files known.
    pub file_count: u64,
    /// Bytes in them.
    pub total_bytes: u64,
    /// When it was last listed completely, in seconds since 1970; 0 if never.
    pub last_sync_unix: i64,
}

/// A file as the index knows it, to compare with a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownFile {
    /// The row.
    pub id: FileId,
    /// The name in its directory.
    pub name: Vec<u8>,
    /// Track or companion.
    pub kind: FileKind,
    /// The version that was indexed.
    pub version: ContentVersion,
    /// Its read bits.
    pub mode: u16,
    /// Device and inode when it was last seen.
    pub identity: Option<FileIdentity>,
    /// The name of its content.
    pub version_key: VersionKey,
    /// How its bytes are arranged, where that is known.
    pub layout: Option<AudioLayout>,
}
