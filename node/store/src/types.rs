//! What the store is told and what it tells.

use std::ops::Range;
use std::path::PathBuf;

use musicfs_core::version::VersionKey;

use crate::health::DiskHealth;

/// The longest file of which an object can be kept: 256 GiB, whose map still is 200 MB at most.
pub const OBJECT_BYTES_MAX: u64 = 256 << 30;

/// What a store is made with.
#[derive(Clone, Debug)]
pub struct Config {
    /// The cache directory; made if need be.
    pub dir: PathBuf,
    /// How much it may hold.
    pub limits: Limits,
}

/// How much the store may hold, in bytes on the disk (`st_blocks`).
///
/// Everything in the directory but the search index counts: their sum never exceeds `bodies` +
/// `headers`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For bodies, and what is needed to keep track of them.
    pub bodies: u64,
    /// For header blocks, and the maps of objects of which there is nothing else. The map of an
    /// object that just lost its body may come on top until the next header is written.
    pub headers: u64,
    /// What must stay free on the disk.
    pub free_min: u64,
}

/// Which quota a block counts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// What tag readers touch; kept when the body is evicted.
    Header,
    /// All else.
    Body,
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// All of its blocks are there now.
    Kept,
    /// Nothing was kept, or not all: go on without.
    Refused(Why),
}

/// Why a write was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// What the store holds is not known yet ([`Store::recover`](crate::Store::recover)), or it is
    /// closed.
    Recovering,
    /// The limit is reached, and nothing that may be evicted is left.
    NoRoom,
    /// The quota of the header blocks is used up by files that are open.
    HeaderQuota,
    /// Less would be free on the disk than must stay free.
    FreeSpace,
    /// The disk is full or failing; it is tried again later.
    DiskFailing,
    /// The bytes are not those of the manifest; they are gone again. Fetch them once more.
    Mismatch,
}

/// What [`Object::finish`](crate::Object::finish) did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finished {
    /// It is not complete, or turned out damaged just now.
    Incomplete,
    /// It has a manifest now.
    Stored,
    /// Its content is that of another version: they share one object now.
    Shared(VersionKey),
    /// It had a manifest already.
    Known,
    /// It has a manifest, which could not be kept on disk.
    Refused(Why),
}

/// What is kept of one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Size of the file.
    pub size: u64,
    /// Bytes on disk of its header blocks.
    pub header_bytes: u64,
    /// Bytes on disk of its other blocks.
    pub body_bytes: u64,
    /// True if every block is there.
    pub is_complete: bool,
}

/// What [`Store::recover`](crate::Store::recover) found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The store was closed properly, so that nothing had to be looked at.
    pub was_clean: bool,
    /// Versions of which something is kept.
    pub objects_count: u64,
    /// Half-made or damaged files that were removed.
    pub removed_count: u64,
    /// The index of chunks was made anew.
    pub is_index_rebuilt: bool,
}

/// What one class holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassStats {
    /// Objects with blocks of the class.
    pub objects: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// Objects that lost these blocks to make room, since the start.
    pub evictions: u64,
    /// Bytes that were refused for lack of room, since the start.
    pub unfit_bytes: u64,
}

/// What the store holds and how it fares.
#[derive(Clone, Copy, Debug)]
pub struct Stats {
    /// The header tier.
    pub header: ClassStats,
    /// All else.
    pub body: ClassStats,
    /// Chunks of all complete versions.
    pub chunks_stored: u64,
    /// Different chunks among them that take space.
    pub chunks_unique: u64,
    /// Bytes on disk of everything.
    pub size_bytes: u64,
    /// How much may be held.
    pub limits: Limits,
    /// Blocks found damaged since the start.
    pub blocks_damaged: u64,
    /// Blocks written again in their place since the start.
    pub blocks_healed: u64,
    /// Chunks whose bytes, fetched again, were not what the manifest says, since the start.
    pub chunks_mismatched: u64,
    /// Versions found to equal another one since the start.
    pub objects_shared: u64,
    /// How the disk is.
    pub health: DiskHealth,
}

/// What [`Store::clear`](crate::Store::clear) took away, or would take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cleared {
    /// Versions that lost bytes.
    pub objects: u64,
    /// Bytes on disk given back.
    pub bytes: u64,
}

/// One object looked through by [`Store::verify`](crate::Store::verify).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The version that names it.
    pub version: VersionKey,
    /// How many bytes were compared.
    pub bytes: u64,
    /// The blocks that were damaged; they are absent now.
    pub damaged: Vec<Range<u64>>,
}

/// What [`Store::verify`](crate::Store::verify) did in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Objects looked through.
    pub objects: u64,
    /// Bytes compared.
    pub bytes: u64,
    /// Blocks that were damaged.
    pub blocks_damaged: u64,
}
