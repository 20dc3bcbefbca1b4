//! The map file: what an object's file holds.
//!
//! Little endian: magic `MFSM`, format (1), kind (1 object, 2 alias, 3 object
//! that another node signed for, 4 object that is provisional), two zero bytes, version key
//! (16), object id (16), size (u64); then for an object (of kind 3 or 4 first the 16 bytes of the node
//! that is believed or not yet believed to have sent the right bytes): count of runs (u32), length of the manifest
//! (u32, 0 for none), the runs (first block u32, count u32 whose highest bit means header class), an
//! xxh3 (u64) of each block in the runs, the manifest; for an alias: the version key (16) that names
//! the object. At the end the first 16 bytes of the BLAKE3 of everything before.
//!
//! A new format takes a new number: an old program takes such a map for damaged, so the number of
//! the directory's format has to change with it.

use std::fmt;

use musicfs_core::extents::blocks_count;
use musicfs_core::id::NodeId;
use musicfs_core::manifest::Manifest;
use musicfs_core::version::VersionKey;

use crate::blocks::{Block, Blocks};
use crate::share::Provenance;
use crate::types::{Class, OBJECT_BYTES_MAX};

/// The longest map that is read: that of an object of [`OBJECT_BYTES_MAX`], with room to spare.
pub(crate) const MAP_BYTES_MAX: u64 = 1 << 30;

const MAGIC: [u8; 4] = *b"MFSM";
const FORMAT: u8 = 1;
const KIND_OBJECT: u8 = 1;
const KIND_ALIAS: u8 = 2;
const KIND_MEMBER: u8 = 3;
const KIND_PROVISIONAL: u8 = 4;
const NODE_BYTES: usize = 16;
const HEAD_BYTES: usize = 4 + 4 + 16 + 16 + 8;
const CHECK_BYTES: usize = 16;
const HEADER_RUN: u32 = 1 << 31;

/// Names one object file: random, so that no other file ever has the name of this one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct ObjectId(pub(crate) [u8; 16]);

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What a map ends with: the first bytes of the BLAKE3 of all before. Maps that end alike are alike.
pub(crate) type Seal = [u8; CHECK_BYTES];

/// A map, read and found whole.
#[derive(Clone, Debug)]
pub(crate) struct Map {
    pub(crate) version: VersionKey,
    pub(crate) seal: Seal,
    /// Of an alias: that of the object it stands for.
    pub(crate) id: ObjectId,
    pub(crate) size: u64,
    pub(crate) content: Content,
}

/// What a map says.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// The file beside it holds these blocks.
    Object {
        blocks: Blocks,
        manifest: Option<Manifest>,
        provenance: Provenance,
    },
    /// Its bytes are those of another object.
    Alias(VersionKey),
}

/// A map that is not what a map must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Damaged;

/// Encodes the map of an object.
pub(crate) fn encode(
    version: VersionKey,
    id: ObjectId,
    blocks: &Blocks,
    manifest: Option<&Manifest>,
    provenance: Provenance,
) -> Vec<u8> {
    let manifest = manifest.map(Manifest::encode).unwrap_or_default();
    let runs = runs(blocks);
    let len = HEAD_BYTES
        + NODE_BYTES
        + 8
        + runs.len() * 8
        + blocks.count() * 8
        + manifest.len()
        + CHECK_BYTES;
    let mut bytes = Vec::with_capacity(len);
    let (kind, node) = match provenance {
        Provenance::Proven => (KIND_OBJECT, None),
        Provenance::Member(node) => (KIND_MEMBER, Some(node)),
        Provenance::Provisional(node) => (KIND_PROVISIONAL, Some(node)),
    };
    head(&mut bytes, kind, version, id, blocks.size());
    bytes.extend(node.iter().flat_map(NodeId::as_bytes));
    let runs_count = u32::try_from(runs.len()).expect("fewer runs than blocks, and those are u32");
    let manifest_len = u32::try_from(manifest.len()).expect("256 GiB make 600 MB of chunk table");
    bytes.extend(runs_count.to_le_bytes());
    bytes.extend(manifest_len.to_le_bytes());
    for (start, count) in runs {
        bytes.extend(start.to_le_bytes());
        bytes.extend(count.to_le_bytes());
    }
    for (_, block) in blocks.iter() {
        bytes.extend(block.check.to_le_bytes());
    }
    bytes.extend(manifest);
    seal(bytes)
}

/// Encodes the map of a version whose bytes are those of the object `id` of version `of`.
pub(crate) fn encode_alias(
    version: VersionKey,
    of: VersionKey,
    id: ObjectId,
    size: u64,
) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD_BYTES + 16 + CHECK_BYTES);
    head(&mut bytes, KIND_ALIAS, version, id, size);
    bytes.extend(of.0);
    seal(bytes)
}

/// The most that a map of `blocks_count` blocks and `chunks_count` chunks takes.
pub(crate) fn encoded_bytes_max(blocks_count: usize, chunks_count: usize) -> u64 {
    // Every block a run of its own.
    let bytes = HEAD_BYTES + NODE_BYTES + 8 + blocks_count * 16 + CHECK_BYTES;
    (bytes + Manifest::encoded_bytes(chunks_count)) as u64
}

/// The seal of an encoded map.
pub(crate) fn seal_of(bytes: &[u8]) -> Option<Seal> {
    bytes.last_chunk().copied()
}

/// Reads a map; never allocates more than a small multiple of `bytes`.
pub(crate) fn decode(bytes: &[u8]) -> Result<Map, Damaged> {
    parse(bytes).ok_or(Damaged)
}

fn head(bytes: &mut Vec<u8>, kind: u8, version: VersionKey, id: ObjectId, size: u64) {
    bytes.extend(MAGIC);
    bytes.extend([FORMAT, kind, 0, 0]);
    bytes.extend(version.0);
    bytes.extend(id.0);
    bytes.extend(size.to_le_bytes());
}

fn seal(mut bytes: Vec<u8>) -> Vec<u8> {
    let check = blake3::hash(&bytes);
    bytes.extend(&check.as_bytes()[..CHECK_BYTES]);
    bytes
}

fn runs(blocks: &Blocks) -> Vec<(u32, u32)> {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for (index, block) in blocks.iter() {
        let flag = match block.class {
            Class::Header => HEADER_RUN,
            Class::Body => 0,
        };
        match runs.last_mut() {
            Some((start, count))
                if *count & HEADER_RUN == flag && *start + (*count & !HEADER_RUN) == index =>
            {
                *count += 1;
            }
            _ => runs.push((index, 1 | flag)),
        }
    }
    runs
}

fn parse(bytes: &[u8]) -> Option<Map> {
    let (rest, check) = bytes.split_last_chunk::<CHECK_BYTES>()?;
    if blake3::hash(rest).as_bytes()[..CHECK_BYTES] != check[..] {
        return None;
    }
    let (magic, rest) = rest.split_first_chunk::<4>()?;
    let (&[format, kind, 0, 0], rest) = rest.split_first_chunk::<4>()? else {
        return None;
    };
    let (version, rest) = rest.split_first_chunk::<16>()?;
    let (id, rest) = rest.split_first_chunk::<16>()?;
    let (size, rest) = rest.split_first_chunk::<8>()?;
    let size = u64::from_le_bytes(*size);
    if *magic != MAGIC || format != FORMAT || size > OBJECT_BYTES_MAX {
        return None;
    }
    let content = match kind {
        KIND_OBJECT => parse_object(rest, size, Provenance::Proven)?,
        KIND_MEMBER | KIND_PROVISIONAL => {
            let (node, rest) = rest.split_first_chunk::<NODE_BYTES>()?;
            let node = NodeId::from_bytes(*node);
            let provenance = match kind {
                KIND_MEMBER => Provenance::Member(node),
                _ => Provenance::Provisional(node),
            };
            parse_object(rest, size, provenance)?
        }
        KIND_ALIAS => Content::Alias(VersionKey(rest.try_into().ok()?)),
        _ => return None,
    };
    Some(Map {
        version: VersionKey(*version),
        seal: *check,
        id: ObjectId(*id),
        size,
        content,
    })
}

fn parse_object(bytes: &[u8], size: u64, provenance: Provenance) -> Option<Content> {
    let (runs_count, rest) = bytes.split_first_chunk::<4>()?;
    let (manifest_len, rest) = rest.split_first_chunk::<4>()?;
    let runs_len = (u32::from_le_bytes(*runs_count) as usize).checked_mul(8)?;
    let (runs, rest) = rest.split_at_checked(runs_len)?;
    let checks_len = rest
        .len()
        .checked_sub(u32::from_le_bytes(*manifest_len) as usize)?;
    let (checks, manifest) = rest.split_at_checked(checks_len)?;
    let mut checks = checks.chunks_exact(8);
    let mut blocks = Blocks::new(size);
    let mut next = 0_u64;
    for run in runs.chunks_exact(8) {
        let start = u32::from_le_bytes(run[..4].try_into().ok()?);
        let count = u32::from_le_bytes(run[4..].try_into().ok()?);
        let class = match count & HEADER_RUN {
            0 => Class::Body,
            _ => Class::Header,
        };
        let end = u64::from(start) + u64::from(count & !HEADER_RUN);
        if u64::from(start) < next || end <= u64::from(start) || end > blocks_count(size) {
            return None;
        }
        next = end;
        for index in u64::from(start)..end {
            let check = u64::from_le_bytes(checks.next()?.try_into().ok()?);
            let block = Block {
                check,
                class,
                is_verified: false,
                is_committed: true,
            };
            blocks.insert(u32::try_from(index).ok()?, block);
        }
    }
    if checks.next().is_some() || !checks.remainder().is_empty() {
        return None;
    }
    let manifest = match manifest {
        [] => None,
        bytes => Some(Manifest::decode(bytes).filter(|manifest| manifest.len == size)?),
    };
    Some(Content::Object {
        blocks,
        manifest,
        provenance,
    })
}

#[cfg(test)]
mod tests {
    use musicfs_core::manifest::Cutter;
    use proptest::prelude::*;

    use super::*;

    const VERSION: VersionKey = VersionKey([7; 16]);
    const ID: ObjectId = ObjectId([9; 16]);

    fn blocks(size: u64, present: &[(u32, bool)]) -> Blocks {
        let mut blocks = Blocks::new(size);
        for (index, is_header) in present {
            let block = Block {
                check: u64::from(*index) * 77,
                class: if *is_header {
                    Class::Header
                } else {
                    Class::Body
                },
                is_verified: false,
                is_committed: true,
            };
            blocks.insert(*index, block);
        }
        blocks
    }

    fn manifest(size: u64) -> Manifest {
        let mut cutter = Cutter::new();
        cutter.push(&vec![3; usize::try_from(size).unwrap()]);
        cutter.finish()
    }

    fn check(size: u64, present: &[(u32, bool)], manifest: Option<&Manifest>) {
        let node = NodeId::from_bytes([5; 16]);
        check_of(size, present, manifest, Provenance::Proven);
        check_of(size, present, manifest, Provenance::Member(node));
        check_of(size, present, manifest, Provenance::Provisional(node));
    }

    fn check_of(
        size: u64,
        present: &[(u32, bool)],
        manifest: Option<&Manifest>,
        provenance: Provenance,
    ) {
        let blocks = blocks(size, present);
        let bytes = encode(VERSION, ID, &blocks, manifest, provenance);
        let chunks_count = manifest.map_or(0, |manifest| manifest.chunks.len());
        assert!(bytes.len() as u64 <= encoded_bytes_max(blocks.count(), chunks_count));
        let map = decode(&bytes).unwrap();
        assert_eq!((map.version, map.id, map.size), (VERSION, ID, size));
        let Content::Object {
            blocks: read,
            manifest: read_manifest,
            provenance: read_provenance,
        } = map.content
        else {
            panic!("not an object");
        };
        assert!(read.iter().eq(blocks.iter()));
        assert_eq!(read.bytes(), blocks.bytes());
        assert_eq!(read_manifest.as_ref(), manifest);
        assert_eq!(read_provenance, provenance);
    }

    #[test]
    fn a_map_comes_back_as_it_was() {
        check(0, &[], None);
        check(1, &[(0, true)], Some(&manifest(1)));
        check(
            1 << 20,
            &[(0, true), (1, true), (2, false), (9, false), (15, true)],
            None,
        );
        check(OBJECT_BYTES_MAX, &[(0, false), (4_194_303, true)], None);
        let all: Vec<_> = (0..5).map(|index| (index, false)).collect();
        check(300_000, &all, Some(&manifest(300_000)));
        let alias = decode(&encode_alias(VERSION, VersionKey([1; 16]), ID, 55)).unwrap();
        assert!(matches!(alias.content, Content::Alias(VersionKey(of)) if of == [1; 16]));
    }

    #[test]
    fn no_flipped_bit_and_no_cut_goes_unseen() {
        let bytes = encode(
            VERSION,
            ID,
            &blocks(300_000, &[(1, true), (3, false)]),
            None,
            Provenance::Provisional(NodeId::from_bytes([5; 16])),
        );
        for at in 0..bytes.len() {
            assert_eq!(decode(&bytes[..at]).err(), Some(Damaged));
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            assert_eq!(decode(&flipped).err(), Some(Damaged), "byte {at}");
        }
    }

    proptest! {
        /// What holds its own checksum may still say anything.
        #[test]
        fn a_hostile_map_with_a_right_checksum_never_panics(
            at in 0_usize..120,
            put in prop::collection::vec(any::<u8>(), 1..16),
        ) {
            let blocks = blocks(300_000, &[(1, true), (3, false)]);
            let good = encode(VERSION, ID, &blocks, None, Provenance::Proven);
            let mut bytes = good[..good.len() - CHECK_BYTES].to_vec();
            let at = at.min(bytes.len());
            let end = (at + put.len()).min(bytes.len());
            bytes.splice(at..end, put);
            if let Ok(map) = decode(&seal(bytes))
                && let Content::Object { blocks, .. } = map.content
            {
                prop_assert!(blocks.count() < 20);
            }
        }
    }
}
