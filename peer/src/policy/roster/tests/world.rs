//! Several rosters on a network that delays, breaks and lies about nothing.

use std::collections::BTreeMap;

use super::*;
use crate::policy::chance::Chance;

/// What the network does with a dial to nobody, and with a link whose other end is gone.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug)]
struct Host {
    roster: Roster,
    id: NodeId,
    start: u64,
    address: SocketAddr,
    is_up: bool,
    /// What it was told to look at, told again when it starts anew.
    told: Vec<(Source, Vec<SocketAddr>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Not introduced yet.
    Coming,
    /// The roster thinks about it.
    Waiting,
    Open,
    Over,
}

/// One connection: end 0 dialled end 1.
#[derive(Debug)]
struct Connection {
    hosts: [usize; 2],
    starts: [u64; 2],
    dialled: SocketAddr,
    ends: [End; 2],
}

#[derive(Debug)]
enum Event {
    Introduced {
        connection: usize,
        end: usize,
    },
    DialFailed {
        host: usize,
        start: u64,
        address: SocketAddr,
    },
    Over {
        connection: usize,
        end: usize,
        how: Ending,
    },
    Probed {
        connection: usize,
        end: usize,
    },
    Found {
        host: usize,
        what: usize,
    },
}

#[derive(Debug)]
pub(super) struct World {
    now: Timestamp,
    hosts: Vec<Host>,
    connections: Vec<Connection>,
    events: BTreeMap<(Timestamp, u64), Event>,
    cut: BTreeSet<(usize, usize)>,
    chance: Chance,
    serial: u64,
    /// Dials and closings between two, to see when the world is quiet.
    stirs: Vec<Timestamp>,
    pub(super) reports: Vec<(usize, Report)>,
}

impl World {
    pub(super) fn new(count: u8, seed: u64) -> Self {
        let hosts = (0..count).map(|index| {
            let id = node(10 + index);
            let start = u64::from(index);
            Host {
                roster: Roster::new(id, seed ^ start),
                id,
                start,
                address: address(&format!("10.0.0.{}:7", index + 1)),
                is_up: true,
                told: Vec::new(),
            }
        });
        Self {
            now: at(0),
            hosts: hosts.collect(),
            connections: Vec::new(),
            events: BTreeMap::new(),
            cut: BTreeSet::new(),
            chance: Chance::new(seed),
            serial: 1000,
            stirs: Vec::new(),
            reports: Vec::new(),
        }
    }

    fn after(&mut self, min_ms: u64, max_ms: u64, event: Event) {
        let delay = self
            .chance
            .between(Duration::from_millis(min_ms), Duration::from_millis(max_ms));
        self.serial += 1;
        self.events
            .insert((self.now.plus(delay), self.serial), event);
    }

    /// `host` learns of `addresses` within a second.
    pub(super) fn tell(&mut self, host: usize, source: Source, addresses: &[SocketAddr]) {
        let told = &mut self.hosts[host].told;
        let known = told.iter().position(|(known, _)| *known == source);
        let what = known.unwrap_or(told.len());
        match known {
            Some(place) => told[place].1 = addresses.to_vec(),
            None => told.push((source, addresses.to_vec())),
        }
        self.after(0, 1000, Event::Found { host, what });
    }

    pub(super) fn address(&self, host: usize) -> SocketAddr {
        self.hosts[host].address
    }

    /// Gives a host the key of another one.
    pub(super) fn copy_key(&mut self, from: usize, to: usize) {
        let id = self.hosts[from].id;
        let start = self.hosts[to].start;
        self.hosts[to].id = id;
        self.hosts[to].roster = Roster::new(id, start);
    }

    /// Cuts or mends the way between two hosts.
    pub(super) fn cut(&mut self, one: usize, other: usize, is_cut: bool) {
        let pair = (one.min(other), one.max(other));
        match is_cut {
            true => self.cut.insert(pair),
            false => self.cut.remove(&pair),
        };
        for index in 0..self.connections.len() {
            let hosts = self.connections[index].hosts;
            if is_cut && (hosts == [one, other] || hosts == [other, one]) {
                self.starve(index, 0);
                self.starve(index, 1);
            }
        }
    }

    fn starve(&mut self, connection: usize, end: usize) {
        let idle = IDLE_TIMEOUT.as_millis() as u64;
        self.after(
            idle - 5000,
            idle,
            Event::Over {
                connection,
                end,
                how: Ending::Broken,
            },
        );
    }

    /// Kills a host without a word.
    pub(super) fn kill(&mut self, host: usize) {
        self.hosts[host].is_up = false;
        for index in 0..self.connections.len() {
            for end in 0..2 {
                if self.connections[index].hosts[end] == host {
                    self.connections[index].ends[end] = End::Over;
                    self.starve(index, 1 - end);
                }
            }
        }
    }

    pub(super) fn restart(&mut self, host: usize, at_other_port: bool) {
        self.serial += 1;
        let (id, start) = (self.hosts[host].id, self.serial);
        self.hosts[host].start = start;
        self.hosts[host].is_up = true;
        self.hosts[host].roster = Roster::new(id, start);
        if at_other_port {
            let port = self.hosts[host].address.port();
            self.hosts[host].address.set_port(port + 1);
        }
        for what in 0..self.hosts[host].told.len() {
            self.after(0, 1000, Event::Found { host, what });
        }
    }

    /// Lets time pass.
    pub(super) fn run(&mut self, length: Duration) {
        let end = self.now.plus(length);
        loop {
            self.obey();
            let deadlines = self.hosts.iter().filter(|host| host.is_up);
            let deadlines = deadlines.filter_map(|host| host.roster.poll_deadline());
            let event = self.events.keys().next().map(|(when, _)| *when);
            let Some(next) = deadlines.chain(event).min().filter(|next| *next <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            match self.events.first_key_value() {
                Some(((when, _), _)) if *when <= self.now => {
                    let (_, event) = self.events.pop_first().unwrap();
                    self.happen(&event);
                }
                _ => {
                    let now = self.now;
                    let up = self.hosts.iter_mut().filter(|host| host.is_up);
                    up.for_each(|host| host.roster.timeout(now));
                }
            }
        }
    }

    fn link(connection: usize, end: usize) -> LinkId {
        LinkId(connection as u64 * 2 + end as u64)
    }

    /// The roster at an end of a connection, if its program still runs.
    fn at_end(&mut self, connection: usize, end: usize) -> Option<&mut Roster> {
        let Connection { hosts, starts, .. } = self.connections[connection];
        let host = &mut self.hosts[hosts[end]];
        (host.is_up && host.start == starts[end]).then_some(&mut host.roster)
    }

    fn happen(&mut self, event: &Event) {
        let now = self.now;
        match *event {
            Event::Found { host, what } => {
                let (source, addresses) = self.hosts[host].told[what].clone();
                self.hosts[host].roster.found(now, &source, &addresses);
            }
            Event::DialFailed {
                host,
                start,
                address,
            } => {
                if self.hosts[host].start == start {
                    self.hosts[host].roster.failed(now, &address);
                }
            }
            Event::Introduced { connection, end } => self.introduce(connection, end),
            Event::Over {
                connection,
                end,
                how,
            } => {
                let was = std::mem::replace(&mut self.connections[connection].ends[end], End::Over);
                let dialled = self.connections[connection].dialled;
                let link = Self::link(connection, end);
                if let Some(roster) = self.at_end(connection, end) {
                    match was {
                        End::Open => roster.ended(now, link, how),
                        End::Coming if end == 0 => roster.failed(now, &dialled),
                        _ => {}
                    }
                }
            }
            Event::Probed { connection, end } => {
                let is_alive = self.connections[connection].ends == [End::Open; 2] && {
                    let [one, other] = self.connections[connection].hosts;
                    !self.cut.contains(&(one.min(other), one.max(other)))
                };
                if let Some(roster) = self.at_end(connection, end) {
                    roster.probed(now, Self::link(connection, end), is_alive);
                }
            }
        }
    }

    fn introduce(&mut self, connection: usize, end: usize) {
        if self.connections[connection].ends[end] != End::Coming {
            return;
        }
        let Connection {
            hosts,
            starts,
            dialled,
            ..
        } = self.connections[connection];
        let other = hosts[1 - end];
        let now = self.now;
        if self.hosts[other].id == self.hosts[hosts[end]].id {
            self.connections[connection].ends = [End::Over; 2];
            let is_itself = other == hosts[end];
            let address = self.hosts[other].address;
            for end in 0..2 {
                let dialled = (end == 0).then_some(dialled);
                let Some(roster) = self.at_end(connection, end) else {
                    continue;
                };
                match dialled {
                    Some(dialled) if is_itself => roster.met_itself(now, &dialled),
                    _ if is_itself => {}
                    _ => roster.met_twin(now, address, dialled),
                }
            }
            return;
        }
        let met = Met {
            link: Self::link(connection, end),
            node: self.hosts[other].id,
            start: starts[1 - end],
            address: if end == 0 {
                dialled
            } else {
                self.hosts[other].address
            },
            listen_port: self.hosts[other].address.port(),
            dialled: (end == 0).then_some(dialled),
        };
        self.connections[connection].ends[end] = End::Waiting;
        if let Some(roster) = self.at_end(connection, end) {
            roster.met(now, met);
        }
    }

    /// Does what the rosters want.
    fn obey(&mut self) {
        for host in 0..self.hosts.len() {
            while let Some(command) = self.hosts[host].roster.poll_command() {
                match command {
                    Command::Dial(address) => self.dial(host, address),
                    Command::Open(link) => self.open(link),
                    Command::Close(link, reason) => self.close(link, reason),
                    Command::Probe(link) => {
                        let (connection, end) = (link.0 as usize / 2, link.0 as usize % 2);
                        let is_sure = self.connections[connection].ends[1 - end] == End::Open;
                        let wait = if is_sure {
                            50
                        } else {
                            PROBE_TIMEOUT.as_millis() as u64
                        };
                        self.after(wait / 2, wait, Event::Probed { connection, end });
                    }
                    Command::Report(report) => self.reports.push((host, report)),
                    Command::Tell => {
                        let links = self.hosts[host].roster.links();
                        let now = self.now;
                        for link in links {
                            let (connection, end) = (link.0 as usize / 2, link.0 as usize % 2);
                            let known = self.hosts[host].roster.known(link);
                            let id = self.hosts[host].id;
                            if let Some(roster) = self.at_end(connection, 1 - end) {
                                roster.told(now, id, known);
                            }
                        }
                    }
                }
            }
        }
    }

    fn dial(&mut self, host: usize, address: SocketAddr) {
        if address != self.hosts[host].address {
            self.stirs.push(self.now);
        }
        let start = self.hosts[host].start;
        let other = self
            .hosts
            .iter()
            .position(|other| other.address == address && other.is_up);
        let other = other.filter(|other| !self.cut.contains(&(host.min(*other), host.max(*other))));
        let Some(other) = other else {
            let timeout = DIAL_TIMEOUT.as_millis() as u64;
            self.after(
                timeout,
                timeout,
                Event::DialFailed {
                    host,
                    start,
                    address,
                },
            );
            return;
        };
        let connection = self.connections.len();
        self.connections.push(Connection {
            hosts: [host, other],
            starts: [start, self.hosts[other].start],
            dialled: address,
            ends: [End::Coming; 2],
        });
        for end in 0..2 {
            self.after(1, 80, Event::Introduced { connection, end });
        }
    }

    fn open(&mut self, link: LinkId) {
        let (connection, end) = (link.0 as usize / 2, link.0 as usize % 2);
        if self.connections[connection].ends[end] == End::Over {
            let now = self.now;
            if let Some(roster) = self.at_end(connection, end) {
                roster.ended(now, link, Ending::Broken);
            }
            return;
        }
        self.connections[connection].ends[end] = End::Open;
    }

    fn close(&mut self, link: LinkId, reason: Reason) {
        self.stirs.push(self.now);
        let (connection, end) = (link.0 as usize / 2, link.0 as usize % 2);
        self.connections[connection].ends[end] = End::Over;
        let how = match reason {
            Reason::Surplus => Ending::Surplus,
            Reason::Twin => Ending::Twin,
            Reason::Full => Ending::Broken,
        };
        self.after(
            1,
            80,
            Event::Over {
                connection,
                end: 1 - end,
                how,
            },
        );
    }

    /// Fails unless just these pairs are linked, by one connection each that both ends use.
    pub(super) fn assert_linked(&self, pairs: &[(usize, usize)], seed: u64) {
        let mut found = BTreeSet::new();
        for (index, host) in self.hosts.iter().enumerate().filter(|(_, host)| host.is_up) {
            for view in host.roster.nodes() {
                let Some(link) = view.link else { continue };
                let connection = &self.connections[link.0 as usize / 2];
                assert_eq!(
                    connection.ends,
                    [End::Open; 2],
                    "seed {seed}: {connection:?}"
                );
                let [one, other] = connection.hosts;
                assert!(one == index || other == index);
                found.insert((one.min(other), one.max(other)));
            }
            assert_eq!(
                host.roster.links().len(),
                host.roster
                    .nodes()
                    .iter()
                    .filter(|view| view.link.is_some())
                    .count(),
                "seed {seed}: one each"
            );
        }
        assert_eq!(found, pairs.iter().copied().collect(), "seed {seed}");
    }

    /// How many dials and closings there were of late.
    pub(super) fn stirs_in(&self, last: Duration) -> usize {
        let late = self
            .stirs
            .iter()
            .filter(|when| self.now.since(**when) < last);
        late.count()
    }

    /// How many connections both ends use.
    pub(super) fn open_count(&self) -> usize {
        let open = self
            .connections
            .iter()
            .filter(|connection| connection.ends == [End::Open; 2]);
        open.count()
    }
}
