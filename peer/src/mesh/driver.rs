//! Does what the roster decides.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use musicfs_core::error::with_causes;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::event::Event;
use super::meeting::{Meeting, Outcome, address_of};
use super::member::Member;
use super::shared::{Shared, Shown, View};
use super::tasks::Tasks;
use crate::policy::reach::canonical;
use crate::policy::roster::{Command, Ending, LinkId, Met, NodeView, Reason, Report, Roster};
use crate::session::{CloseCode, Ended, Heard, KnownNode, Left, Session};

/// Events that wait for the driver. Whoever has more to say waits.
pub(super) const EVENTS_MAX: usize = 256;
/// How long a node may take to show that it is alive: several round trips of the longest link.
const PROBE_WAIT_MAX: Duration = Duration::from_secs(2);
/// How long a peer that is being served may go on with it when this node ends.
const LEAVE_WAIT_MAX: Duration = Duration::from_millis(800);
/// Whom sessions heard of, waiting for the driver; more is dropped, for it is told again.
const HEARD_MAX: usize = 64;

/// The one task that knows the roster.
pub(super) struct Driver {
    roster: Roster,
    meeting: Arc<Meeting>,
    shared: Arc<Shared>,
    tasks: Tasks,
    events: mpsc::Receiver<Event>,
    /// For the tasks that it starts.
    sender: mpsc::Sender<Event>,
    heard: mpsc::Receiver<Heard>,
    heard_sender: mpsc::Sender<Heard>,
    links: BTreeMap<LinkId, Link>,
    next_link: u64,
    /// What went wrong at addresses, as long as they are known.
    errors: BTreeMap<SocketAddr, String>,
}

/// One session, until its end.
struct Link {
    session: Arc<Session>,
    /// As a source, once it is open.
    member: Option<Arc<Member>>,
    connected_since_unix: i64,
}

impl Driver {
    pub(super) fn new(
        roster: Roster,
        meeting: Arc<Meeting>,
        tasks: Tasks,
        (sender, events): (mpsc::Sender<Event>, mpsc::Receiver<Event>),
    ) -> Self {
        let (heard_sender, heard) = mpsc::channel(HEARD_MAX);
        Self {
            roster,
            shared: meeting.shared.clone(),
            meeting,
            tasks,
            events,
            sender,
            heard,
            heard_sender,
            links: BTreeMap::new(),
            next_link: 0,
            errors: BTreeMap::new(),
        }
    }

    /// Runs until all is to stop, then says goodbye to all.
    pub(super) async fn run(mut self) {
        let stop = self.tasks.stop().clone();
        loop {
            let shared = self.shared.clone();
            let deadline = self.deadline();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(event) = self.events.recv() => self.handle(event),
                Some(heard) = self.heard.recv() => self.hear(heard),
                () = shared.demoted.notified() => {}
                () = deadline => {}
            }
            let now = self.shared.now();
            if self.shared.demotions().expire(now) {
                self.shared.change();
            }
            self.roster.timeout(now);
            self.obey();
            self.show();
        }
        self.leave().await;
    }

    /// Waits until something is due.
    fn deadline(&self) -> impl Future<Output = ()> + use<> {
        let demotion = self.shared.demotions().next_end();
        let deadline = self
            .roster
            .poll_deadline()
            .into_iter()
            .chain(demotion)
            .min();
        let deadline = deadline.and_then(|deadline| self.shared.instant(deadline));
        async move {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        }
    }

    fn handle(&mut self, event: Event) {
        let now = self.shared.now();
        match event {
            Event::Found { source, addresses } => self.roster.found(now, &source, &addresses),
            Event::Failed { dialled, error } => {
                tracing::debug!(address = %dialled, error, "no node answered");
                self.errors.insert(dialled, error);
                self.roster.failed(now, &dialled);
            }
            Event::Itself { dialled } => self.roster.met_itself(now, &dialled),
            Event::Twin { address, dialled } => self.roster.met_twin(now, address, dialled),
            Event::Met { session, dialled } => self.meet(session, dialled),
            Event::Probed { link, is_alive } => self.roster.probed(now, link, is_alive),
            Event::Ended { link, ended } => self.end(link, &ended),
        }
    }

    fn hear(&mut self, heard: Heard) {
        let known = heard.known.into_iter().map(|node| {
            let addresses = node.addresses.into_iter().map(canonical);
            (node.id, addresses.collect())
        });
        let known = known.collect();
        self.roster.told(self.shared.now(), heard.from, known);
    }

    fn meet(&mut self, session: Arc<Session>, dialled: Option<SocketAddr>) {
        let link = LinkId(self.next_link);
        self.next_link += 1;
        let hello = session.hello();
        let met = Met {
            link,
            node: session.node(),
            start: hello.start,
            address: address_of(&session),
            listen_port: hello.listen_port,
            dialled,
        };
        if let Some(dialled) = &dialled {
            self.errors.remove(dialled);
        }
        let held = Link {
            session,
            member: None,
            connected_since_unix: 0,
        };
        self.links.insert(link, held);
        self.roster.met(self.shared.now(), met);
    }

    fn end(&mut self, link: LinkId, ended: &Ended) {
        let how = match ended {
            Ended::Left(Left::For(CloseCode::Ending)) => Ending::Left,
            Ended::Left(Left::For(CloseCode::Duplicate)) => Ending::Surplus,
            Ended::Left(Left::For(CloseCode::Twin)) => Ending::Twin,
            _ => Ending::Broken,
        };
        if let Some(held) = self.links.remove(&link) {
            tracing::debug!(peer = %held.session.node(), link = link.0, %ended, "a link ended");
            let is_fault =
                !matches!(how, Ending::Left | Ending::Surplus) && *ended != Ended::Closed;
            if is_fault {
                let record = self.shared.records.of(held.session.node());
                record.known().last_error = Some(ended.to_string());
            }
        }
        self.roster.ended(self.shared.now(), link, how);
    }

    fn obey(&mut self) {
        let mut is_to_tell = false;
        while let Some(command) = self.roster.poll_command() {
            match command {
                Command::Dial(address) => self.dial(address),
                Command::Probe(link) => self.probe(link),
                Command::Open(link) => self.open(link),
                Command::Close(link, reason) => self.close(link, reason),
                Command::Tell => is_to_tell = true,
                Command::Report(report) => self.report(&report),
            }
        }
        if is_to_tell {
            self.tell();
        }
    }

    fn dial(&self, address: SocketAddr) {
        let (meeting, sender) = (self.meeting.clone(), self.sender.clone());
        self.tasks.spawn(async move {
            let dialled = address;
            let event = match meeting.dial(address).await {
                Outcome::Met(session) => Event::Met {
                    session,
                    dialled: Some(dialled),
                },
                Outcome::Itself => Event::Itself { dialled },
                Outcome::Twin => Event::Twin {
                    address,
                    dialled: Some(dialled),
                },
                Outcome::Failed(error) => Event::Failed {
                    dialled,
                    error: with_causes(&error),
                },
            };
            // The driver is gone when all stops.
            let _ = sender.send(event).await;
        });
    }

    fn probe(&self, link: LinkId) {
        let session = self.links.get(&link).map(|held| held.session.clone());
        let sender = self.sender.clone();
        self.tasks.spawn(async move {
            let is_alive = match session {
                Some(session) => {
                    let answer = tokio::time::timeout(PROBE_WAIT_MAX, session.ping()).await;
                    matches!(answer, Ok(Ok(_)))
                }
                None => false,
            };
            // The driver is gone when all stops.
            let _ = sender.send(Event::Probed { link, is_alive }).await;
        });
    }

    fn open(&mut self, link: LinkId) {
        let Some(held) = self.links.get_mut(&link) else {
            return;
        };
        let session = held.session.clone();
        let record = self.shared.records.of(session.node());
        record.connected(session.hello());
        let member = Member::new(session.clone(), record, self.shared.clone());
        held.member = Some(Arc::new(member));
        held.connected_since_unix = unix_now();
        let (sender, heard) = (self.sender.clone(), self.heard_sender.clone());
        tracing::debug!(peer = %session.node(), link = link.0, "a link is open");
        self.tasks.spawn_to_its_end(async move {
            let ended = session.run(heard).await;
            // The driver is gone when all stops.
            let _ = sender.send(Event::Ended { link, ended }).await;
        });
    }

    fn close(&mut self, link: LinkId, reason: Reason) {
        let code = match reason {
            Reason::Surplus => CloseCode::Duplicate,
            Reason::Twin => CloseCode::Twin,
            Reason::Full => CloseCode::Full,
        };
        if let Some(held) = self.links.remove(&link) {
            tracing::debug!(peer = %held.session.node(), link = link.0, ?reason, "a link is closed");
            held.session.close(code);
        }
    }

    /// Tells every node whom this one knows.
    fn tell(&self) {
        for link in self.roster.links() {
            if let Some(held) = self.links.get(&link) {
                let known = self.roster.known(link).into_iter();
                let known = known.map(|(id, addresses)| KnownNode { id, addresses });
                held.session.tell_known(known.collect());
            }
        }
    }

    fn report(&self, report: &Report) {
        const MEND: &str = "a state directory was copied: run `musicfs cluster leave` and \
                            `musicfs cluster join` on one of the two";
        match report {
            Report::Connected {
                node,
                address,
                found_by,
            } => {
                let record = self.shared.records.of(*node);
                let name = record.known().name.clone();
                let found_by = found_by.as_str();
                tracing::info!(peer = %node, name, %address, found_by, "peer connected");
            }
            Report::Lost {
                node,
                address,
                left: true,
            } => tracing::info!(peer = %node, %address, "peer left"),
            Report::Lost { node, address, .. } => {
                let record = self.shared.records.of(*node);
                let why = record.known().last_error.clone().unwrap_or_default();
                tracing::info!(peer = %node, %address, why, "peer lost");
            }
            Report::Twins {
                node,
                first,
                second,
            } => tracing::warn!(
                peer = %node, %first, %second,
                "two programs use the key of one node; the first one stays connected; {MEND}"
            ),
            Report::OwnTwin { address } => tracing::warn!(
                %address,
                "another program uses the key of this node, or this address knows one; {MEND}"
            ),
        }
    }

    /// Lets everybody see how things are.
    fn show(&mut self) {
        let addresses = self.roster.addresses();
        self.errors.retain(|address, _| addresses.contains(address));
        let nodes: Vec<_> = self
            .roster
            .nodes()
            .iter()
            .map(|node| self.shown(node))
            .collect();
        let is_listed = |id| {
            nodes
                .binary_search_by_key(&id, |shown: &Shown| shown.node)
                .is_ok()
        };
        let now = self.shared.now();
        self.shared
            .records
            .prune(|id| is_listed(id) || self.shared.demotions().is_demoted(now, id));
        let before = self.shared.view();
        let pairs = || nodes.iter().zip(&before.nodes);
        let is_changed =
            nodes.len() != before.nodes.len() || !pairs().all(|(one, two)| one.shows_the_same(two));
        let linked = nodes.iter().filter(|shown| shown.member.is_some());
        let linked: BTreeSet<_> = linked.map(|shown| shown.address).collect();
        if is_changed || addresses != before.addresses || linked != before.linked {
            let view = View {
                nodes,
                addresses,
                linked,
            };
            self.shared.show(view, is_changed);
        }
    }

    fn shown(&self, view: &NodeView) -> Shown {
        let held = view.link.and_then(|link| self.links.get(&link));
        Shown {
            node: view.node,
            address: held.map_or(view.address, |held| address_of(&held.session)),
            found_by: view.found_by,
            is_lost: view.is_lost,
            member: held.and_then(|held| held.member.clone()),
            connected_since_unix: held.map_or(0, |held| held.connected_since_unix),
            dial_error: self.errors.get(&view.address).cloned(),
        }
    }

    /// Says goodbye to all.
    async fn leave(mut self) {
        let mut leaving = JoinSet::new();
        for held in std::mem::take(&mut self.links).into_values() {
            match held.member {
                Some(_) => {
                    let session = held.session;
                    leaving.spawn(async move { session.leave(LEAVE_WAIT_MAX).await });
                }
                None => held.session.close(CloseCode::Ending),
            }
        }
        self.shared.show(View::default(), true);
        // Their last words have nobody to reach.
        self.events.close();
        leaving.join_all().await;
    }
}

fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}
