//! Which objects were found sound since the start, after nobody has them open any more.
//!
//! An object's blocks live in memory only while it is in use. Without this, the next open of an
//! album that was just heard would read through the daemon and compare everything once more.
//!
//! What is remembered is the map's own checksum, not the version's name: it stands for the object
//! file's random id and for the checksum of each block. So the memory speaks of one state of one
//! file, and says nothing of what takes its place, whoever put it there.

use std::collections::{BTreeMap, HashMap};

use musicfs_core::version::VersionKey;

use crate::map::Seal;

/// How many objects are remembered: about 400 GB of albums, in 2 MB of memory.
const OBJECTS_COUNT_MAX: usize = 16_384;

/// Objects all of whose blocks are there, durable, and were compared or written since the start.
/// The one that was asked for longest ago is forgotten first.
#[derive(Default)]
pub(crate) struct Verified {
    known: HashMap<VersionKey, Known>,
    /// The version at each turn, to find the oldest.
    turns: BTreeMap<u64, VersionKey>,
    turn: u64,
}

struct Known {
    seal: Seal,
    turn: u64,
}

impl Verified {
    /// Notes that what the map with this seal tells of was found sound.
    pub(crate) fn remember(&mut self, version: VersionKey, seal: Seal) {
        self.forget(version);
        self.turn += 1;
        let turn = self.turn;
        self.known.insert(version, Known { seal, turn });
        self.turns.insert(turn, version);
        if self.known.len() > OBJECTS_COUNT_MAX
            && let Some((_, oldest)) = self.turns.pop_first()
        {
            self.known.remove(&oldest);
        }
    }

    /// True if what the map with this seal tells of was found sound.
    pub(crate) fn knows(&mut self, version: VersionKey, seal: Seal) -> bool {
        let is_known = self
            .known
            .get(&version)
            .is_some_and(|known| known.seal == seal);
        if is_known {
            self.remember(version, seal);
        }
        is_known
    }

    /// Forgets a version: blocks of it went away.
    pub(crate) fn forget(&mut self, version: VersionKey) {
        if let Some(known) = self.known.remove(&version) {
            self.turns.remove(&known.turn);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(number: usize) -> VersionKey {
        VersionKey((number as u128).to_le_bytes())
    }

    #[test]
    fn only_the_very_map_is_known() {
        let mut verified = Verified::default();
        verified.remember(version(1), [1; 16]);
        assert!(verified.knows(version(1), [1; 16]));
        assert!(!verified.knows(version(1), [2; 16]));
        assert!(!verified.knows(version(2), [1; 16]));
        verified.remember(version(1), [2; 16]);
        assert!(!verified.knows(version(1), [1; 16]));
        verified.forget(version(1));
        assert!(!verified.knows(version(1), [2; 16]));
        assert!(verified.turns.is_empty());
    }

    #[test]
    fn the_one_asked_for_longest_ago_is_forgotten_first() {
        let mut verified = Verified::default();
        for number in 0..OBJECTS_COUNT_MAX {
            verified.remember(version(number), [0; 16]);
        }
        assert!(verified.knows(version(0), [0; 16]));
        verified.remember(version(OBJECTS_COUNT_MAX), [0; 16]);
        assert!(verified.knows(version(0), [0; 16]));
        assert!(!verified.knows(version(1), [0; 16]));
        assert!(verified.knows(version(OBJECTS_COUNT_MAX), [0; 16]));
        assert_eq!(verified.known.len(), OBJECTS_COUNT_MAX);
        assert_eq!(verified.turns.len(), OBJECTS_COUNT_MAX);
    }
}
