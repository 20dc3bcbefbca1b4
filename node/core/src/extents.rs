//! Byte ranges of a file, and the blocks in which they are kept.

use std::ops::Range;

/// The unit in which content is fetched, checked and kept: 64 KiB. The last block of a file is
/// shorter.
pub const BLOCK_BYTES: u64 = 64 << 10;

/// How many blocks a file of `size` bytes has.
pub fn blocks_count(size: u64) -> u64 {
    size.div_ceil(BLOCK_BYTES)
}

/// The bytes of block `index` in a file of `size` bytes; empty behind its end.
pub fn block_range(index: u64, size: u64) -> Range<u64> {
    let start = index.saturating_mul(BLOCK_BYTES).min(size);
    start..start.saturating_add(BLOCK_BYTES).min(size)
}

/// The smallest range of whole blocks that holds `range`, within a file of `size` bytes.
pub fn to_blocks(range: Range<u64>, size: u64) -> Range<u64> {
    let end = range.end.min(size);
    let start = range.start.min(end);
    if start == end {
        return start..start;
    }
    let start = start / BLOCK_BYTES * BLOCK_BYTES;
    start
        ..end
            .div_ceil(BLOCK_BYTES)
            .saturating_mul(BLOCK_BYTES)
            .min(size)
}

/// A set of bytes of a file.
///
/// Kept as ranges that are sorted, not empty, disjoint and never touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extents(Vec<Range<u64>>);

impl Extents {
    /// No byte.
    pub fn new() -> Self {
        Self::default()
    }

    /// The ranges, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Range<u64>> + '_ {
        self.0.iter().cloned()
    }

    /// True without any byte.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many bytes there are.
    pub fn len(&self) -> u64 {
        self.0.iter().map(|range| range.end - range.start).sum()
    }

    /// Adds all bytes of `range`.
    pub fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let from = self.0.partition_point(|have| have.end < range.start);
        let to = self.0.partition_point(|have| have.start <= range.end);
        let merged = match self.0.get(from..to) {
            Some([first, .., last]) => first.start.min(range.start)..last.end.max(range.end),
            Some([one]) => one.start.min(range.start)..one.end.max(range.end),
            _ => range,
        };
        self.0.splice(from..to, [merged]);
    }

    /// Takes all bytes of `range` away.
    pub fn remove(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let from = self.0.partition_point(|have| have.end <= range.start);
        let to = self.0.partition_point(|have| have.start < range.end);
        let Some(hit) = self.0.get(from..to).filter(|hit| !hit.is_empty()) else {
            return;
        };
        let before = hit[0].start..range.start;
        let after = range.end..hit[hit.len() - 1].end;
        let rest = [before, after].into_iter().filter(|part| !part.is_empty());
        self.0.splice(from..to, rest.collect::<Vec<_>>());
    }

    /// True if every byte of `range` is there; so for an empty range.
    pub fn covers(&self, range: Range<u64>) -> bool {
        let at = self.0.partition_point(|have| have.end < range.end);
        range.is_empty() || self.0.get(at).is_some_and(|have| have.start <= range.start)
    }

    /// The parts of `range` that are there, in order.
    pub fn within(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let from = self.0.partition_point(|have| have.end <= range.start);
        self.0[from..]
            .iter()
            .map(move |have| have.start.max(range.start)..have.end.min(range.end))
            .take_while(|part| !part.is_empty())
    }

    /// The parts of `range` that are not there, in order.
    pub fn missing(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut missing = Vec::new();
        let mut at = range.start;
        for have in self.within(range.clone()) {
            if at < have.start {
                missing.push(at..have.start);
            }
            at = have.end;
        }
        if at < range.end {
            missing.push(at..range.end);
        }
        missing
    }
}

impl From<Range<u64>> for Extents {
    fn from(range: Range<u64>) -> Self {
        let mut extents = Self::new();
        extents.insert(range);
        extents
    }
}

impl FromIterator<Range<u64>> for Extents {
    fn from_iter<T: IntoIterator<Item = Range<u64>>>(ranges: T) -> Self {
        let mut extents = Self::new();
        ranges.into_iter().for_each(|range| extents.insert(range));
        extents
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_range_grows_to_whole_blocks_and_never_past_the_end() {
        let check = |range, size, expect| assert_eq!(to_blocks(range, size), expect);
        check(0..1, 10, 0..10);
        check(0..1, 100_000, 0..65_536);
        check(65_535..65_537, 200_000, 0..131_072);
        check(65_536..131_072, 200_000, 65_536..131_072);
        check(199_999..300_000, 200_000, 196_608..200_000);
        check(300_000..400_000, 200_000, 200_000..200_000);
        check(5..5, 200_000, 5..5);
        check(1..u64::MAX, u64::MAX, 0..u64::MAX);
        assert_eq!(block_range(1, 100_000), 65_536..100_000);
        assert!(block_range(9, 100_000).is_empty());
        assert_eq!(
            (blocks_count(0), blocks_count(65_536), blocks_count(65_537)),
            (0, 1, 2)
        );
    }

    proptest! {
        #[test]
        fn extents_are_a_set_of_bytes(
            changes in prop::collection::vec((any::<bool>(), 0_u64..64, 0_u64..64), 0..24),
            asked in (0_u64..64, 0_u64..64),
        ) {
            let (mut extents, mut naive) = (Extents::new(), [false; 64]);
            for (insert, start, end) in changes {
                if insert { extents.insert(start..end) } else { extents.remove(start..end) }
                (start..end).for_each(|at| naive[at as usize] = insert);
            }
            let is_in = |ranges: &[Range<u64>], at| ranges.iter().any(|range| range.contains(&at));
            let all: Vec<_> = extents.iter().collect();
            prop_assert!(all.windows(2).all(|pair| pair[0].end < pair[1].start));
            prop_assert!(all.iter().all(|range| !range.is_empty()));
            prop_assert_eq!(extents.len(), naive.iter().filter(|set| **set).count() as u64);
            let range = asked.0..asked.1;
            let within: Vec<_> = extents.within(range.clone()).collect();
            let missing = extents.missing(range.clone());
            for at in 0..64 {
                let set = naive[at as usize];
                prop_assert_eq!(is_in(&all, at), set);
                prop_assert_eq!(is_in(&within, at), set && range.contains(&at));
                prop_assert_eq!(is_in(&missing, at), !set && range.contains(&at));
            }
            let covered = range.clone().all(|at| naive[at as usize]);
            prop_assert_eq!(extents.covers(range), covered);
        }
    }
}
