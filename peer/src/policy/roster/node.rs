//! One node in the roster.

use std::net::SocketAddr;

use musicfs_core::time::Timestamp;

use super::choice::Link;

#[derive(Debug)]
pub(super) struct Node {
    /// The first is in use. Empty if it is lost.
    pub(super) links: Vec<Link>,
    /// A link that waits for the answer to a probe of the first one.
    pub(super) waiting: Option<Link>,
    pub(super) presence: Presence,
    /// It turned this node away last time.
    pub(super) turned_away: bool,
    /// Of the link in use, or the last one, or the last one tried.
    pub(super) address: SocketAddr,
    pub(super) has_told_twins: bool,
}

/// What everybody may know of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// It has a link.
    Connected,
    /// It has a link, but turned this node away last time. Nobody is told until this one has lasted.
    Doubted { until: Timestamp },
    /// It closed its last link for the sake of another, which is to come.
    Expected { until: Timestamp },
    /// It has no link.
    Lost { at: Timestamp },
}

impl Node {
    /// One that was never seen, and gets its first link now.
    pub(super) fn new(address: SocketAddr) -> Self {
        Self {
            links: Vec::new(),
            waiting: None,
            presence: Presence::Lost {
                at: Timestamp::default(),
            },
            turned_away: false,
            address,
            has_told_twins: false,
        }
    }

    /// The link that everybody may use.
    pub(super) fn in_use(&self) -> Option<&Link> {
        let is_shown = self.presence == Presence::Connected;
        self.links.first().filter(|_| is_shown)
    }

    pub(super) fn lost_at(&self) -> Option<Timestamp> {
        match self.presence {
            Presence::Lost { at } => Some(at),
            _ => None,
        }
    }
}

impl Presence {
    /// Until when it is to be watched.
    pub(super) fn wait(&self) -> Option<Timestamp> {
        match self {
            Self::Doubted { until } | Self::Expected { until } => Some(*until),
            Self::Connected | Self::Lost { .. } => None,
        }
    }
}
