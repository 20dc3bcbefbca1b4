//! Who is known and connected, which of two connections stays, and what to do next.
//!
//! A connection between two nodes is a *link* once both have said who they are. Two nodes keep one
//! link. What both ends can see decides which, so that they need not talk about it:
//!
//! - Both dialled at once: the node with the smaller id keeps the link that it met first; the other end
//!   holds both until then.
//! - One node dialled twice, at two addresses of the other: it keeps the first itself; the other end
//!   holds both until then.
//! - The other end says that its program was started anew: the old link is of the past, unless it is
//!   alive. Then two programs use one node's key, and the second is turned away.

mod choice;
mod node;
mod words;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use musicfs_core::id::NodeId;
use musicfs_core::peer::FoundBy;
use musicfs_core::time::Timestamp;

use super::book::{Book, Source};
use super::reach::makes_sense_to;
use choice::{Choice, Link, choose};
use node::{Node, Presence};
pub(crate) use words::{Command, Ending, Known, LinkId, Met, NodeView, Reason, Report};

/// Nodes connected at once: a full mesh is meant for households and small offices.
pub(crate) const NODES_COUNT_MAX: usize = 64;
/// Nodes kept that were lost: a full cluster that got new keys.
const LOST_COUNT_MAX: usize = 64;
/// How long a lost node is listed, unless its address is configured.
const LOST_LISTED_FOR: Duration = Duration::from_secs(600);
/// How long to wait for the other link when the other end closes one in its favour.
const OTHER_LINK_WAIT: Duration = Duration::from_secs(3);
/// How long a link to a node that turned this one away is watched before it counts: longer than the
/// other end takes to find out that the one that it prefers is alive.
const DOUBTED_FOR: Duration = Duration::from_secs(5);
/// Nodes of which one node may tell.
const TOLD_NODES_COUNT_MAX: usize = 64;
/// Addresses told of one node.
const KNOWN_ADDRESSES_MAX: usize = 4;

/// The machine.
#[derive(Debug)]
pub(crate) struct Roster {
    own: NodeId,
    book: Book,
    nodes: BTreeMap<NodeId, Node>,
    commands: VecDeque<Command>,
    has_told_twin: bool,
}

impl Roster {
    /// A node that knows nobody yet.
    pub(crate) fn new(own: NodeId, seed: u64) -> Self {
        Self {
            own,
            book: Book::new(seed),
            nodes: BTreeMap::new(),
            commands: VecDeque::new(),
            has_told_twin: false,
        }
    }

    /// From now on `source` says that nodes are at just these addresses.
    pub(crate) fn found(&mut self, now: Timestamp, source: &Source, addresses: &[SocketAddr]) {
        self.book.tell(now, source, addresses);
        self.settle(now);
    }

    /// From now on `by` says just this about other nodes.
    pub(crate) fn told(&mut self, now: Timestamp, by: NodeId, known: Vec<Known>) {
        let Some(teller) = self.nodes.get(&by).map(|node| node.address) else {
            return;
        };
        let mut gone = self.book.told_by(by);
        let told = known
            .into_iter()
            .filter(|(node, _)| *node != self.own && *node != by);
        for (node, mut addresses) in told.take(TOLD_NODES_COUNT_MAX) {
            addresses.retain(|address| makes_sense_to(address, &teller));
            self.book.tell(now, &Source::Told { by, node }, &addresses);
            gone.remove(&node);
        }
        for node in gone {
            self.book.tell(now, &Source::Told { by, node }, &[]);
        }
        self.settle(now);
    }

    /// What was dialled did not become a link.
    pub(crate) fn failed(&mut self, now: Timestamp, address: &SocketAddr) {
        self.book.failed(now, address);
        self.settle(now);
    }

    /// What was dialled is this program itself.
    pub(crate) fn met_itself(&mut self, now: Timestamp, dialled: &SocketAddr) {
        self.book.is_own(now, dialled);
        self.settle(now);
    }

    /// The other end, which this node may have dialled, has this node's key, or knows who else has it.
    pub(crate) fn met_twin(
        &mut self,
        now: Timestamp,
        address: SocketAddr,
        dialled: Option<SocketAddr>,
    ) {
        if let Some(dialled) = &dialled {
            self.book.rest(now, dialled);
        }
        self.tell_twin(address);
        self.settle(now);
    }

    /// A connection to another node became a link. Exactly one of [`Command::Open`] and
    /// [`Command::Close`] follows for it, at once or after a probe.
    pub(crate) fn met(&mut self, now: Timestamp, met: Met) {
        self.welcome(now, met);
        self.settle(now);
    }

    /// Whether a link is alive.
    pub(crate) fn probed(&mut self, now: Timestamp, link: LinkId, is_alive: bool) {
        let of_link = |node: &Node| {
            node.links
                .first()
                .is_some_and(|first| first.met.link == link)
        };
        let Some((id, node)) = self.nodes.iter_mut().find(|(_, node)| of_link(node)) else {
            return;
        };
        let (id, Some(waiting)) = (*id, node.waiting.take()) else {
            return;
        };
        if is_alive {
            let is_twin = node.links[0].met.start != waiting.met.start;
            let reason = if is_twin {
                Reason::Twin
            } else {
                Reason::Surplus
            };
            if is_twin && !std::mem::replace(&mut node.has_told_twins, true) {
                self.commands.push_back(Command::Report(Report::Twins {
                    node: id,
                    first: node.links[0].met.address,
                    second: waiting.met.address,
                }));
            }
            self.close(waiting.met.link, reason);
        } else {
            self.replace(now, waiting);
        }
        self.settle(now);
    }

    /// An open link ended.
    pub(crate) fn ended(&mut self, now: Timestamp, link: LinkId, how: Ending) {
        let has_link = |node: &Node| node.links.iter().any(|held| held.met.link == link);
        let Some((id, node)) = self.nodes.iter_mut().find(|(_, node)| has_link(node)) else {
            return;
        };
        let id = *id;
        let place = node.links.iter().position(|held| held.met.link == link);
        let ended = node
            .links
            .remove(place.expect("the node was found by this link"));
        if let Some(next) = node.links.first() {
            node.address = next.met.address;
        } else if let Some(waiting) = node.waiting.take() {
            self.replace(now, waiting);
        } else if how == Ending::Surplus && node.presence == Presence::Connected {
            let until = now.plus(OTHER_LINK_WAIT);
            node.presence = Presence::Expected { until };
        } else {
            node.turned_away = how == Ending::Twin;
            self.book.lost(now, id, now.since(ended.since));
            self.lose(now, id, how == Ending::Left);
        }
        if how == Ending::Twin {
            self.tell_twin(ended.met.address);
            for address in self.book.addresses_of(id) {
                self.book.rest(now, &address);
            }
        }
        self.settle(now);
    }

    /// Time has passed.
    pub(crate) fn timeout(&mut self, now: Timestamp) {
        self.settle(now);
    }

    /// What is to be done next.
    pub(crate) fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// When [`Roster::timeout`] is to be called; `None` for not before something else happens.
    pub(crate) fn poll_deadline(&self) -> Option<Timestamp> {
        let dial = self.book.deadline(|id| is_met(&self.nodes, id));
        let drop = self
            .nodes
            .iter()
            .filter(|(id, _)| !self.book.is_static(**id));
        let drop = drop.filter_map(|(_, node)| Some(node.lost_at()?.plus(LOST_LISTED_FOR)));
        let watched = self.nodes.values().filter_map(|node| node.presence.wait());
        drop.chain(dial).chain(watched).min()
    }

    /// Every node known but this one, by id.
    pub(crate) fn nodes(&self) -> Vec<NodeView> {
        let met = self.nodes.iter().map(|(id, node)| NodeView {
            node: *id,
            link: node.in_use().map(|link| link.met.link),
            is_lost: matches!(
                node.presence,
                Presence::Lost { .. } | Presence::Doubted { .. }
            ),
            address: node.address,
            found_by: self.book.found_by(*id).unwrap_or(FoundBy::Peer),
        });
        let told = self.book.told();
        let told = told
            .into_iter()
            .filter(|(id, _)| !self.nodes.contains_key(id));
        let told = told.map(|(node, address)| NodeView {
            node,
            link: None,
            is_lost: false,
            address,
            found_by: FoundBy::Peer,
        });
        let mut all: Vec<_> = met.chain(told.take(NODES_COUNT_MAX)).collect();
        all.sort_by_key(|view| view.node);
        all
    }

    /// Every link that is open, also those not in use.
    pub(crate) fn links(&self) -> Vec<LinkId> {
        let links = self.nodes.values().flat_map(|node| &node.links);
        links.map(|link| link.met.link).collect()
    }

    /// What to tell the other end of an open link: the connected nodes but itself.
    pub(crate) fn known(&self, to: LinkId) -> Vec<Known> {
        let mut links = self.nodes.values().flat_map(|node| &node.links);
        let Some(reader) = links.find(|link| link.met.link == to) else {
            return Vec::new();
        };
        let others = self.nodes.iter().filter(|(id, _)| **id != reader.met.node);
        let others = others.filter_map(|(id, node)| Some((id, node.in_use()?)));
        let known = others.filter_map(|(id, link)| {
            // The best first: where it answered, where it says it listens, what else it announces.
            let mut addresses = self.book.proven_of(*id);
            addresses.extend(link.met.listen());
            addresses.extend(self.book.announced_of(*id));
            let mut seen = BTreeSet::new();
            addresses.retain(|address| seen.insert(*address));
            addresses.retain(|address| makes_sense_to(address, &reader.met.address));
            addresses.truncate(KNOWN_ADDRESSES_MAX);
            (!addresses.is_empty()).then_some((*id, addresses))
        });
        known.collect()
    }

    /// Every address at which a node may be.
    pub(crate) fn addresses(&self) -> BTreeSet<SocketAddr> {
        let linked = self.nodes.values().flat_map(|node| &node.links);
        let linked = linked.map(|link| link.met.address);
        self.book.addresses().chain(linked).collect()
    }

    fn welcome(&mut self, now: Timestamp, met: Met) {
        let linked = self.nodes.values().filter(|node| !node.links.is_empty());
        let is_full = linked.count() >= NODES_COUNT_MAX;
        let node = self.nodes.get(&met.node);
        let choice = match node.filter(|node| !node.links.is_empty()) {
            Some(node) if node.waiting.is_some() => Choice::Old,
            Some(node) => choose(now, self.own, &node.links, &met),
            None if is_full => {
                if let Some(dialled) = &met.dialled {
                    self.book.rest(now, dialled);
                }
                self.close(met.link, Reason::Full);
                return;
            }
            None => Choice::New,
        };
        if let Some(dialled) = &met.dialled {
            // Whichever link stays, this is where the node is.
            self.note_address(now, &met);
            self.book.answered(dialled, met.node);
        }
        let link = Link { met, since: now };
        match choice {
            Choice::New => self.replace(now, link),
            Choice::Old => self.close(link.met.link, Reason::Surplus),
            Choice::Both => {
                self.commands.push_back(Command::Open(link.met.link));
                self.node_of(&link).links.push(link);
                self.commands.push_back(Command::Tell);
            }
            Choice::Ask => {
                let node = self.node_of(&link);
                let first = node.links[0].met.link;
                node.waiting = Some(link);
                self.commands.push_back(Command::Probe(first));
            }
        }
    }

    /// Uses `link` and closes what its node had.
    fn replace(&mut self, now: Timestamp, link: Link) {
        let (id, address) = (link.met.node, link.met.address);
        self.note_address(now, &link.met);
        self.commands.push_back(Command::Open(link.met.link));
        let node = self.node_of(&link);
        node.address = address;
        let old = std::mem::replace(&mut node.links, vec![link]);
        match node.presence {
            Presence::Connected | Presence::Doubted { .. } => {}
            Presence::Expected { .. } => node.presence = Presence::Connected,
            Presence::Lost { .. } if node.turned_away => {
                let until = now.plus(DOUBTED_FOR);
                node.presence = Presence::Doubted { until };
            }
            Presence::Lost { .. } => self.show(id),
        }
        for old in old {
            self.close(old.met.link, Reason::Surplus);
        }
        self.commands.push_back(Command::Tell);
    }

    /// A node that has a link is connected for everybody.
    fn show(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.presence = Presence::Connected;
            node.turned_away = false;
            let address = node.address;
            let found_by = self.book.found_by(id).unwrap_or(FoundBy::Peer);
            let node = id;
            let report = Report::Connected {
                node,
                address,
                found_by,
            };
            self.commands.push_back(Command::Report(report));
        }
    }

    /// Keeps where the node of a link is, as it says itself and as it answered.
    fn note_address(&mut self, now: Timestamp, met: &Met) {
        let mut addresses = self.book.proven_of(met.node);
        addresses.extend(met.dialled);
        addresses.extend(met.listen());
        self.book.tell(now, &Source::Met(met.node), &addresses);
    }

    /// The last link of a node is gone, and no other comes.
    fn lose(&mut self, now: Timestamp, id: NodeId, left: bool) {
        let Some(node) = self.nodes.get_mut(&id) else {
            return;
        };
        let before = std::mem::replace(&mut node.presence, Presence::Lost { at: now });
        if matches!(before, Presence::Connected | Presence::Expected { .. }) {
            let address = node.address;
            let node = id;
            let report = Report::Lost {
                node,
                address,
                left,
            };
            self.commands.push_back(Command::Report(report));
            self.commands.push_back(Command::Tell);
        }
    }

    /// Drops whom nobody should see any more, and dials who is due.
    fn settle(&mut self, now: Timestamp) {
        let is_over = |until: Timestamp| until <= now;
        let waits = self.nodes.iter();
        let waits = waits.filter(|(_, node)| node.presence.wait().is_some_and(is_over));
        let waits: Vec<_> = waits.map(|(id, node)| (*id, node.presence)).collect();
        for (id, presence) in waits {
            match presence {
                Presence::Doubted { .. } => self.show(id),
                Presence::Expected { .. } => {
                    self.book.lost(now, id, Duration::ZERO);
                    self.lose(now, id, false);
                }
                Presence::Connected | Presence::Lost { .. } => {}
            }
        }
        let lost = self
            .nodes
            .iter()
            .filter_map(|(id, node)| Some((node.lost_at()?, *id)));
        let lost = lost.filter(|(_, id)| !self.book.is_static(*id));
        let mut lost: Vec<_> = lost.collect();
        lost.sort_unstable();
        let surplus = lost.len().saturating_sub(LOST_COUNT_MAX);
        for (index, (lost_at, id)) in lost.into_iter().enumerate() {
            if index < surplus || is_over(lost_at.plus(LOST_LISTED_FOR)) {
                self.nodes.remove(&id);
                self.book.forget(id);
            }
        }
        loop {
            let is_met = |id| is_met(&self.nodes, id);
            let Some(address) = self.book.due(now, is_met) else {
                break;
            };
            self.commands.push_back(Command::Dial(address));
        }
    }

    fn tell_twin(&mut self, address: SocketAddr) {
        if !std::mem::replace(&mut self.has_told_twin, true) {
            self.commands
                .push_back(Command::Report(Report::OwnTwin { address }));
        }
    }

    fn close(&mut self, link: LinkId, reason: Reason) {
        self.commands.push_back(Command::Close(link, reason));
    }

    fn node_of(&mut self, link: &Link) -> &mut Node {
        let node = self.nodes.entry(link.met.node);
        node.or_insert_with(|| Node::new(link.met.address))
    }
}

/// True if there is no cause to dial a node.
fn is_met(nodes: &BTreeMap<NodeId, Node>, id: NodeId) -> bool {
    nodes.get(&id).is_some_and(|node| node.lost_at().is_none())
}

#[cfg(test)]
mod tests;
