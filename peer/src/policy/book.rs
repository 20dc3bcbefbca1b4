//! Addresses at which nodes may be, who told them, and when each is tried next.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use musicfs_core::id::NodeId;
use musicfs_core::peer::FoundBy;
use musicfs_core::time::Timestamp;

use super::chance::Chance;
use super::reach::{canonical, is_dialable};

/// Addresses kept that others told: four for each node of a full cluster. What is configured comes on
/// top of that.
const TOLD_COUNT_MAX: usize = 256;
/// Addresses of one node by one source: both families on some interfaces.
pub(crate) const ADDRESSES_OF_NODE_MAX: usize = 8;
/// Addresses behind one name in DNS: a full cluster.
pub(crate) const ADDRESSES_OF_NAME_MAX: usize = 64;
/// Attempts under way at once: a cluster is met in a few rounds, and addresses that lead nowhere do
/// not keep hundreds of handshakes waiting.
const DIALS_COUNT_MAX: usize = 8;
/// How long an attempt at one address of a node has before its next address is tried beside it: the
/// Connection Attempt Delay of RFC 8305 section 5.
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);
/// When an address that led to this node itself is tried again: addresses move.
const OWN_AGAIN_AFTER: Duration = Duration::from_secs(600);
/// As many failures as make the pauses longest.
const RESTING_FAILURES: u32 = 8;
/// A connection that lasted so long was a success; a shorter one counts as a failure.
const LASTING: Duration = Duration::from_secs(10);

/// Who said that nodes are at some addresses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// A service on the local network with this instance name: one node.
    Service(Arc<str>),
    /// A name in DNS, by its place in the configuration: any number of nodes.
    Name(u16),
    /// A configured address, by its place in the configuration: one node.
    Static(u16),
    /// The node itself, by being connected.
    Met(NodeId),
    /// A node about another.
    Told {
        /// Who says so.
        by: NodeId,
        /// About whom; it need not be true.
        node: NodeId,
    },
}

/// The addresses known. All are in their canonical form.
#[derive(Debug)]
pub(crate) struct Book {
    places: BTreeMap<SocketAddr, Place>,
    /// The nodes found behind sources that stand for one node each.
    owners: BTreeMap<Source, NodeId>,
    chance: Chance,
}

#[derive(Debug)]
struct Place {
    /// Not empty, unless nobody speaks of it any more while it is being tried.
    sources: BTreeSet<Source>,
    /// Which node answered there.
    proven: Option<NodeId>,
    /// It led to this node itself.
    is_own: bool,
    is_dialling: bool,
    failures: u32,
    next: Timestamp,
    told_at: Timestamp,
}

impl Source {
    /// What it is called towards users.
    pub(crate) fn found_by(&self) -> FoundBy {
        match self {
            Self::Service(_) => FoundBy::Mdns,
            Self::Name(_) => FoundBy::Dns,
            Self::Static(_) => FoundBy::Static,
            Self::Met(_) | Self::Told { .. } => FoundBy::Peer,
        }
    }

    fn is_one_node(&self) -> bool {
        !matches!(self, Self::Name(_))
    }

    fn is_configured(&self) -> bool {
        matches!(self, Self::Name(_) | Self::Static(_))
    }

    fn addresses_max(&self) -> usize {
        match self {
            Self::Name(_) => ADDRESSES_OF_NAME_MAX,
            _ => ADDRESSES_OF_NODE_MAX,
        }
    }
}

impl Place {
    fn new(now: Timestamp) -> Self {
        Self {
            sources: BTreeSet::new(),
            proven: None,
            is_own: false,
            is_dialling: false,
            failures: 0,
            next: now,
            told_at: now,
        }
    }

    fn is_configured(&self) -> bool {
        self.sources.iter().any(Source::is_configured)
    }

    fn is_kept(&self) -> bool {
        !self.sources.is_empty() || self.is_dialling
    }

    /// True if one source that stands for one node told both.
    fn is_beside(&self, other: &Self) -> bool {
        let mut one_node = self.sources.iter().filter(|source| source.is_one_node());
        one_node.any(|source| other.sources.contains(source))
    }
}

impl Book {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            places: BTreeMap::new(),
            owners: BTreeMap::new(),
            chance: Chance::new(seed),
        }
    }

    /// Notes that from now on `source` says just these addresses.
    pub(crate) fn tell(&mut self, now: Timestamp, source: &Source, addresses: &[SocketAddr]) {
        let told = addresses.iter().map(|address| canonical(*address));
        let told: BTreeSet<_> = told
            .filter(is_dialable)
            .take(source.addresses_max())
            .collect();
        for (address, place) in &mut self.places {
            if !told.contains(address) {
                place.sources.remove(source);
            }
        }
        self.places.retain(|_, place| place.is_kept());
        for address in told {
            if self.places.contains_key(&address) || source.is_configured() || self.make_room() {
                self.add(now, address, source);
            }
        }
        let is_kept = |source: &Source| {
            let mut all = self.places.values();
            all.any(|place| place.sources.contains(source))
        };
        let gone: Vec<_> = self
            .owners
            .keys()
            .filter(|source| !is_kept(source))
            .cloned()
            .collect();
        for source in gone {
            self.owners.remove(&source);
        }
    }

    /// The address to try now, which counts as being tried until one of the methods below says how it
    /// went. Nodes that are connected are not tried.
    pub(crate) fn due(
        &mut self,
        now: Timestamp,
        is_connected: impl Fn(NodeId) -> bool,
    ) -> Option<SocketAddr> {
        let (next, address) = self.next_of_all(is_connected)?;
        if next > now {
            return None;
        }
        let chosen = self.places.get_mut(&address)?;
        chosen.is_dialling = true;
        let node = self.node_at(&address);
        let chosen = self.places.get(&address)?;
        let beside = self.places.iter().filter(|(other, place)| {
            let is_same_node = node.is_some() && self.node_at(other) == node;
            **other != address && (place.is_beside(chosen) || is_same_node)
        });
        let beside: Vec<_> = beside.map(|(other, _)| *other).collect();
        for other in beside {
            if let Some(place) = self.places.get_mut(&other) {
                place.next = place.next.max(now.plus(NEXT_ADDRESS_AFTER));
            }
        }
        Some(address)
    }

    /// When [`Book::due`] has something to say next.
    pub(crate) fn deadline(&self, is_connected: impl Fn(NodeId) -> bool) -> Option<Timestamp> {
        self.next_of_all(is_connected).map(|(next, _)| next)
    }

    /// Nothing that belongs to the cluster answered there.
    pub(crate) fn failed(&mut self, now: Timestamp, address: &SocketAddr) {
        if let Some(place) = self.places.get_mut(address) {
            place.proven = None;
        }
        self.pause(now, address, |failures| failures.saturating_add(1));
    }

    /// A node answered there, of which [`Source::Met`] was told.
    pub(crate) fn answered(&mut self, address: &SocketAddr, node: NodeId) {
        let Some(place) = self.places.get_mut(address) else {
            return;
        };
        place.is_dialling = false;
        place.is_own = false;
        place.proven = Some(node);
        for source in &place.sources {
            if matches!(source, Source::Service(_) | Source::Static(_)) {
                self.owners.insert(source.clone(), node);
            }
        }
    }

    /// This node itself answered there.
    pub(crate) fn is_own(&mut self, now: Timestamp, address: &SocketAddr) {
        if let Some(place) = self.places.get_mut(address) {
            place.is_dialling = false;
            place.is_own = true;
            place.proven = None;
            place.next = now.plus(OWN_AGAIN_AFTER);
        }
    }

    /// The last connection to `node` ended after `lasted`.
    pub(crate) fn lost(&mut self, now: Timestamp, node: NodeId, lasted: Duration) {
        for address in self.addresses_of(node) {
            self.pause(now, &address, |failures| match lasted >= LASTING {
                true => 0,
                false => failures.saturating_add(1),
            });
        }
    }

    /// Nobody is to be met there as things are: the next pause is one of the longest.
    pub(crate) fn rest(&mut self, now: Timestamp, address: &SocketAddr) {
        self.pause(now, address, |failures| failures.max(RESTING_FAILURES));
    }

    /// Nothing that `node` said of itself or others holds any longer.
    pub(crate) fn forget(&mut self, node: NodeId) {
        let is_of_node = |source: &Source| match source {
            Source::Met(met) => *met == node,
            Source::Told { by, .. } => *by == node,
            _ => false,
        };
        for place in self.places.values_mut() {
            place.sources.retain(|source| !is_of_node(source));
        }
        self.places.retain(|_, place| place.is_kept());
        self.owners.retain(|source, _| !is_of_node(source));
    }

    /// Who said something about whom by [`Source::Told`].
    pub(crate) fn told_by(&self, by: NodeId) -> BTreeSet<NodeId> {
        let sources = self.places.values().flat_map(|place| &place.sources);
        let about = sources.filter_map(|source| match source {
            Source::Told { by: teller, node } if *teller == by => Some(*node),
            _ => None,
        });
        about.collect()
    }

    /// Every address.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.places.keys().copied()
    }

    /// The addresses at which `node` is taken to be.
    pub(crate) fn addresses_of(&self, node: NodeId) -> Vec<SocketAddr> {
        let of_node = self
            .addresses()
            .filter(|address| self.node_at(address) == Some(node));
        of_node.collect()
    }

    /// The addresses at which `node` answered.
    pub(crate) fn proven_of(&self, node: NodeId) -> Vec<SocketAddr> {
        let proven = self
            .places
            .iter()
            .filter(|(_, place)| place.proven == Some(node));
        proven.map(|(address, _)| *address).collect()
    }

    /// The addresses at which `node` is taken to be, not by what other nodes say alone.
    pub(crate) fn announced_of(&self, node: NodeId) -> Vec<SocketAddr> {
        let is_own_word = |source: &Source| !matches!(source, Source::Told { .. });
        let of_node = self.places.iter().filter(|(address, place)| {
            self.node_at(address) == Some(node) && place.sources.iter().any(is_own_word)
        });
        of_node.map(|(address, _)| *address).collect()
    }

    /// How `node` came to be known: of several ways the first in the order of [`FoundBy`].
    pub(crate) fn found_by(&self, node: NodeId) -> Option<FoundBy> {
        let of_node = self
            .places
            .iter()
            .filter(|(address, _)| self.node_at(address) == Some(node));
        let ways = of_node.flat_map(|(_, place)| place.sources.iter().map(Source::found_by));
        ways.min()
    }

    /// True if `node` is at an address that is configured as such.
    pub(crate) fn is_static(&self, node: NodeId) -> bool {
        let is_static = |source: &Source| matches!(source, Source::Static(_));
        self.places.iter().any(|(address, place)| {
            self.node_at(address) == Some(node) && place.sources.iter().any(is_static)
        })
    }

    /// Nodes that others told of, each with one of its addresses.
    pub(crate) fn told(&self) -> BTreeMap<NodeId, SocketAddr> {
        let mut told = BTreeMap::new();
        for (address, place) in &self.places {
            if place.proven.is_some() || place.is_own {
                continue;
            }
            for source in &place.sources {
                if let Source::Told { node, .. } = source {
                    told.entry(*node).or_insert(*address);
                }
            }
        }
        told
    }

    /// The node at an address: the one that answered there, else the one that answered at another
    /// address of the same source, else the one that somebody claims to be there.
    fn node_at(&self, address: &SocketAddr) -> Option<NodeId> {
        let place = self.places.get(address)?;
        if place.is_own || place.proven.is_some() {
            return place.proven;
        }
        let found = place.sources.iter().find_map(|source| match source {
            Source::Met(node) => Some(*node),
            Source::Told { .. } => None,
            source => self.owners.get(source).copied(),
        });
        found.or_else(|| {
            let mut claims = place.sources.iter().map(|source| match source {
                Source::Told { node, .. } => Some(*node),
                _ => None,
            });
            let first = claims.next()??;
            claims.all(|claim| claim == Some(first)).then_some(first)
        })
    }

    fn next_of_all(
        &self,
        is_connected: impl Fn(NodeId) -> bool,
    ) -> Option<(Timestamp, SocketAddr)> {
        let dialling = self.places.values().filter(|place| place.is_dialling);
        if dialling.count() >= DIALS_COUNT_MAX {
            return None;
        }
        let idle = self.places.iter().filter(|(_, place)| !place.is_dialling);
        let wanted = idle.filter(|(address, _)| !self.node_at(address).is_some_and(&is_connected));
        wanted.map(|(address, place)| (place.next, *address)).min()
    }

    fn add(&mut self, now: Timestamp, address: SocketAddr, source: &Source) {
        let place = self
            .places
            .entry(address)
            .or_insert_with(|| Place::new(now));
        place.told_at = now;
        if !place.sources.insert(source.clone()) {
            return;
        }
        if matches!(source, Source::Service(_)) && !place.is_own {
            // A node that has just started says so.
            place.next = place.next.min(now);
        }
    }

    /// Makes room for one more address that is not configured; false if there is none.
    fn make_room(&mut self) -> bool {
        let told = || {
            self.places
                .iter()
                .filter(|(_, place)| !place.is_configured())
        };
        if told().count() < TOLD_COUNT_MAX {
            return true;
        }
        // What leads to a node that was met stays: it was earned by an answer.
        let earned = |place: &Place| {
            let is_met = |source: &Source| matches!(source, Source::Met(_));
            place.proven.is_some() || place.sources.iter().any(is_met)
        };
        let idle = told().filter(|(_, place)| !place.is_dialling && !earned(place));
        let oldest = idle.min_by_key(|(_, place)| place.told_at);
        match oldest.map(|(address, _)| *address) {
            Some(address) => self.places.remove(&address).is_some(),
            None => false,
        }
    }

    fn pause(&mut self, now: Timestamp, address: &SocketAddr, count: impl Fn(u32) -> u32) {
        if let Some(place) = self.places.get_mut(address) {
            place.is_dialling = false;
            place.failures = count(place.failures);
            place.next = now.plus(self.chance.pause(place.failures));
            if !place.is_kept() {
                self.places.remove(address);
            }
        }
    }
}

#[cfg(test)]
mod tests;
