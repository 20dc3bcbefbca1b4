//! Which of two links between the same nodes stays.

use std::time::Duration;

use musicfs_core::id::NodeId;
use musicfs_core::time::Timestamp;

use super::words::Met;

/// Links of one node: the one in use, and another one until the other end closes one of them.
const LINKS_COUNT_MAX: usize = 2;
/// A link made so recently is alive: longer than what both ends began at one moment takes to arrive.
const JUST_NOW: Duration = Duration::from_secs(5);

/// A link that is open, or waits to be.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) met: Met,
    pub(super) since: Timestamp,
}

/// What to do with a new link beside those that a node has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// Use it, close the others.
    New,
    /// Hold it too, until the other end, whose choice it is, has chosen.
    Both,
    /// Close it.
    Old,
    /// It depends on whether the old one is alive.
    Ask,
}

/// Decides between a new link and those that its node has, of which there is at least one.
pub(super) fn choose(now: Timestamp, own: NodeId, links: &[Link], new: &Met) -> Choice {
    let old = &links[0];
    if old.met.start != new.start {
        // No two programs have one address and port at a time.
        return match old.met.address == new.address {
            true => Choice::New,
            false => Choice::Ask,
        };
    }
    let is_ours = |met: &Met| met.dialled.is_some();
    let holds = match links.len() >= LINKS_COUNT_MAX {
        true => Choice::Old,
        false => Choice::Both,
    };
    if is_ours(&old.met) == is_ours(new) {
        return if is_ours(new) { Choice::Old } else { holds };
    }
    if now.since(old.since) < JUST_NOW {
        // Both ends began at one moment. What is in use already goes on: one end alone decides.
        return if own < new.node { Choice::Old } else { holds };
    }
    // The other end may have lost the old one.
    match is_ours(new) == (own < new.node) {
        true => Choice::New,
        false => Choice::Ask,
    }
}
