//! Which blocks of an object are there, and what is known of each.

use std::collections::BTreeMap;
use std::ops::Range;

use musicfs_core::extents::{BLOCK_BYTES, block_range, blocks_count, to_blocks};

use crate::types::Class;

/// What file systems allocate by.
const PAGE_BYTES: u64 = 4096;

/// What is known of one block that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// xxh3 of its bytes.
    pub(crate) check: u64,
    pub(crate) class: Class,
    /// Its bytes were compared with `check`, or written, since the start.
    pub(crate) is_verified: bool,
    /// A durable map holds it.
    pub(crate) is_committed: bool,
}

/// The blocks of one object, sparse: what is not there costs nothing, whatever the size says.
#[derive(Clone, Debug)]
pub(crate) struct Blocks {
    size: u64,
    present: BTreeMap<u32, Block>,
    header_bytes: u64,
    body_bytes: u64,
    verified_count: usize,
    committed_count: usize,
}

impl Blocks {
    /// No block of an object of `size` bytes.
    pub(crate) fn new(size: u64) -> Self {
        Self {
            size,
            present: BTreeMap::new(),
            header_bytes: 0,
            body_bytes: 0,
            verified_count: 0,
            committed_count: 0,
        }
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn count(&self) -> usize {
        self.present.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.present.is_empty()
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.present.len() as u64 == blocks_count(self.size)
    }

    pub(crate) fn is_verified(&self) -> bool {
        self.verified_count == self.present.len()
    }

    /// True if a durable map holds every block.
    pub(crate) fn is_committed(&self) -> bool {
        self.committed_count == self.present.len()
    }

    /// Bytes on disk of the blocks of each class: header, body.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        (self.header_bytes, self.body_bytes)
    }

    pub(crate) fn get(&self, index: u32) -> Option<Block> {
        self.present.get(&index).copied()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, Block)> + '_ {
        self.present.iter().map(|(index, block)| (*index, *block))
    }

    /// The blocks that are there among those of `range`.
    pub(crate) fn within(&self, range: Range<u64>) -> impl Iterator<Item = (u32, Block)> + '_ {
        let indexes = self.indexes(range);
        self.present
            .range(indexes)
            .map(|(index, block)| (*index, *block))
    }

    /// True if every block that holds a byte of `range` (within the size) is there.
    pub(crate) fn covers(&self, range: Range<u64>) -> bool {
        let indexes = self.indexes(range);
        self.present.range(indexes.clone()).count() == indexes.len()
    }

    /// What is not there of the blocks of `range`, in order.
    pub(crate) fn absent(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let indexes = self.indexes(range);
        let mut absent = Vec::new();
        let mut next = indexes.start;
        let mut gap = |from: u32, to: u32| {
            if from < to {
                let start = u64::from(from) * BLOCK_BYTES;
                absent.push(start..(u64::from(to) * BLOCK_BYTES).min(self.size));
            }
        };
        for index in self.present.range(indexes.clone()).map(|(index, _)| *index) {
            gap(next, index);
            next = index + 1;
        }
        gap(next, indexes.end);
        absent
    }

    pub(crate) fn insert(&mut self, index: u32, block: Block) {
        self.remove(index);
        let bytes = self.bytes_of(index);
        match block.class {
            Class::Header => self.header_bytes += bytes,
            Class::Body => self.body_bytes += bytes,
        }
        self.verified_count += usize::from(block.is_verified);
        self.committed_count += usize::from(block.is_committed);
        self.present.insert(index, block);
    }

    pub(crate) fn remove(&mut self, index: u32) -> Option<Block> {
        let block = self.present.remove(&index)?;
        let bytes = self.bytes_of(index);
        match block.class {
            Class::Header => self.header_bytes -= bytes,
            Class::Body => self.body_bytes -= bytes,
        }
        self.verified_count -= usize::from(block.is_verified);
        self.committed_count -= usize::from(block.is_committed);
        Some(block)
    }

    /// Changes what is known of a block, if it is there.
    pub(crate) fn update(&mut self, index: u32, change: impl FnOnce(&mut Block)) {
        if let Some(mut block) = self.get(index) {
            change(&mut block);
            self.insert(index, block);
        }
    }

    /// Notes that a durable map holds all that is there.
    pub(crate) fn commit(&mut self) {
        self.present
            .values_mut()
            .for_each(|block| block.is_committed = true);
        self.committed_count = self.present.len();
    }

    /// Notes that all that is there was compared since the start.
    pub(crate) fn set_verified(&mut self) {
        self.present
            .values_mut()
            .for_each(|block| block.is_verified = true);
        self.verified_count = self.present.len();
    }

    /// The blocks for which `pick` says yes, taken away.
    pub(crate) fn remove_where(&mut self, pick: impl Fn(u32, &Block) -> bool) -> usize {
        let picked: Vec<u32> = self
            .present
            .iter()
            .filter(|(index, block)| pick(**index, block))
            .map(|(index, _)| *index)
            .collect();
        for index in &picked {
            self.remove(*index);
        }
        picked.len()
    }

    /// What block `index` takes on the disk.
    pub(crate) fn bytes_of(&self, index: u32) -> u64 {
        let range = block_range(u64::from(index), self.size);
        (range.end - range.start).next_multiple_of(PAGE_BYTES)
    }

    /// The numbers of the blocks that hold bytes of `range`.
    pub(crate) fn indexes(&self, range: Range<u64>) -> Range<u32> {
        let range = to_blocks(range, self.size);
        if range.is_empty() {
            return 0..0;
        }
        index_of(range.start)..index_of(range.end - 1) + 1
    }
}

/// The block that holds the byte at `offset`.
pub(crate) fn index_of(offset: u64) -> u32 {
    u32::try_from(offset / BLOCK_BYTES).expect("an object has at most OBJECT_BYTES_MAX bytes")
}

/// The bytes of block `index`.
pub(crate) fn range_of(index: u32, size: u64) -> Range<u64> {
    block_range(u64::from(index), size)
}
