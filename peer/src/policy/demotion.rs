//! Nodes that are asked last, because they delivered what no honest node does.

use std::collections::BTreeMap;
use std::time::Duration;

use musicfs_core::id::NodeId;
use musicfs_core::time::Timestamp;

/// How long a node is asked last. A fault of its disk or memory outlives a reconnection, and may have
/// been mended after an hour.
const DEMOTED_FOR: Duration = Duration::from_secs(3600);
/// Nodes kept: four times those of a full cluster, for every member can make itself new names.
const DEMOTED_COUNT_MAX: usize = 256;

/// Who is asked last, and until when. It survives the end of a connection.
#[derive(Debug, Default)]
pub(crate) struct Demotions {
    until: BTreeMap<NodeId, Timestamp>,
}

impl Demotions {
    /// Asks `node` last from now on for an hour; false if it was asked last already.
    pub(crate) fn demote(&mut self, now: Timestamp, node: NodeId) -> bool {
        let was_demoted = self.is_demoted(now, node);
        if self.until.len() >= DEMOTED_COUNT_MAX && !self.until.contains_key(&node) {
            let first = self.until.iter().min_by_key(|(_, until)| **until);
            if let Some(first) = first.map(|(node, _)| *node) {
                self.until.remove(&first);
            }
        }
        self.until.insert(node, now.plus(DEMOTED_FOR));
        !was_demoted
    }

    pub(crate) fn is_demoted(&self, now: Timestamp, node: NodeId) -> bool {
        self.until.get(&node).is_some_and(|until| *until > now)
    }

    /// When the next one ends.
    pub(crate) fn next_end(&self) -> Option<Timestamp> {
        self.until.values().min().copied()
    }

    /// Forgets those that have ended; true if there were any.
    pub(crate) fn expire(&mut self, now: Timestamp) -> bool {
        let before = self.until.len();
        self.until.retain(|_, until| *until > now);
        self.until.len() < before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp(Duration::from_secs(seconds))
    }

    fn node(number: u16) -> NodeId {
        let mut bytes = [0; 16];
        bytes[..2].copy_from_slice(&number.to_be_bytes());
        NodeId::from_bytes(bytes)
    }

    #[test]
    fn it_lasts_an_hour_from_the_last_lie() {
        let mut demotions = Demotions::default();
        assert!(demotions.demote(at(0), node(1)), "told once");
        assert!(!demotions.demote(at(1800), node(1)));
        assert!(demotions.is_demoted(at(3601), node(1)));
        assert!(!demotions.is_demoted(at(3601), node(2)));
        assert_eq!(demotions.next_end(), Some(at(5400)));
        assert!(!demotions.expire(at(5399)) && demotions.expire(at(5400)));
        assert!(!demotions.is_demoted(at(5400), node(1)));
        assert!(demotions.demote(at(5400), node(1)), "told again");
    }

    #[test]
    fn new_names_do_not_make_it_grow() {
        let mut demotions = Demotions::default();
        for number in 0..1000 {
            demotions.demote(at(u64::from(number)), node(number));
        }
        assert_eq!(demotions.until.len(), DEMOTED_COUNT_MAX);
        assert!(demotions.is_demoted(at(1000), node(999)));
    }
}
