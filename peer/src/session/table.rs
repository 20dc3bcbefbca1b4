//! What the other end announces.

use std::collections::HashMap;

use musicfs_core::extents::Extents;
use musicfs_core::peer::{Held, HoldingChanges};
use musicfs_core::version::VersionKey;

use crate::wire::{HAVE_OBJECTS_MAX, Violation};

/// Ranges that are remembered of all versions of one node: 4 MiB of them. Beyond, a version counts as not
/// held: that costs a request to somebody else.
const RANGES_ALL_MAX: usize = 1 << 18;

/// What one other node holds, as it says. Some 30 bytes for each version, and 16 for each range.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// `None` is complete.
    versions: HashMap<VersionKey, Option<Box<Extents>>>,
    ranges_count: usize,
}

impl Table {
    /// Takes over what is held from now on.
    ///
    /// # Errors
    /// [`Violation`] if the other end announces more than it may; the caller closes the connection.
    pub(super) fn apply(&mut self, changes: HoldingChanges) -> Result<(), Violation> {
        for (version, held) in changes {
            match held {
                None => self.remove(version),
                Some(Held::Complete) => self.insert(version, None),
                Some(Held::Ranges(ranges)) => {
                    self.remove(version);
                    if self.ranges_count + ranges.iter().count() <= RANGES_ALL_MAX {
                        self.insert(version, Some(Box::new(ranges)));
                    }
                }
            }
            if self.versions.len() > HAVE_OBJECTS_MAX {
                return Err(Violation("more than 200,000 versions"));
            }
        }
        Ok(())
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// What is held of a version.
    pub(super) fn held(&self, version: VersionKey) -> Option<Held> {
        Some(match self.versions.get(&version)? {
            None => Held::Complete,
            Some(ranges) => Held::Ranges(Extents::clone(ranges)),
        })
    }

    /// How many versions something is held of.
    pub(super) fn len(&self) -> usize {
        self.versions.len()
    }

    fn insert(&mut self, version: VersionKey, ranges: Option<Box<Extents>>) {
        self.ranges_count += count_of(ranges.as_deref());
        let before = self.versions.insert(version, ranges);
        self.ranges_count -= count_of(before.flatten().as_deref());
    }

    fn remove(&mut self, version: VersionKey) {
        let before = self.versions.remove(&version);
        self.ranges_count -= count_of(before.flatten().as_deref());
    }
}

fn count_of(ranges: Option<&Extents>) -> usize {
    ranges.map_or(0, |ranges| ranges.iter().count())
}

#[cfg(test)]
mod tests {
    use musicfs_core::extents::BLOCK_BYTES;

    use super::*;

    fn version(number: u32) -> VersionKey {
        let mut key = [0; 16];
        key[..4].copy_from_slice(&number.to_le_bytes());
        VersionKey(key)
    }

    fn ranges(count: u64) -> Option<Held> {
        let range = |number| 2 * number * BLOCK_BYTES..(2 * number + 1) * BLOCK_BYTES;
        Some(Held::Ranges((0..count).map(range).collect()))
    }

    #[test]
    fn the_last_word_counts() {
        let mut table = Table::default();
        for held in [
            None,
            ranges(2),
            Some(Held::Complete),
            ranges(1),
            ranges(3),
            None,
        ] {
            table.apply(vec![(version(1), held.clone())]).unwrap();
            assert_eq!(table.held(version(1)), held);
            let expect = match &held {
                Some(Held::Ranges(ranges)) => ranges.iter().count(),
                _ => 0,
            };
            assert_eq!(table.ranges_count, expect);
            assert_eq!(table.len(), usize::from(held.is_some()));
        }
        table.apply(vec![(version(2), ranges(5))]).unwrap();
        table.clear();
        assert_eq!((table.len(), table.ranges_count), (0, 0));
    }

    #[test]
    fn too_many_versions_break_the_protocol() {
        let mut table = Table::default();
        let complete = |number| (version(number), Some(Held::Complete));
        let all = (0..HAVE_OBJECTS_MAX as u32).map(complete);
        table.apply(all.collect()).unwrap();
        table.apply(vec![complete(0), (version(1), None)]).unwrap();
        table.apply(vec![complete(200_000)]).unwrap();
        assert!(table.apply(vec![complete(1)]).is_err());
    }

    #[test]
    fn ranges_beyond_memory_count_as_not_held() {
        let mut table = Table::default();
        let full = (RANGES_ALL_MAX / 64) as u32;
        for number in 0..full {
            table.apply(vec![(version(number), ranges(64))]).unwrap();
        }
        table.apply(vec![(version(full), ranges(1))]).unwrap();
        assert_eq!(table.held(version(full)), None);
        table
            .apply(vec![(version(0), ranges(63)), (version(full), ranges(1))])
            .unwrap();
        assert_eq!(table.held(version(full)), ranges(1));
    }
}
