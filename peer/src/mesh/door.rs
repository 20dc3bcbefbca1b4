//! Letting others in.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use musicfs_core::error::with_causes;
use musicfs_core::time::Timestamp;
use quinn::Incoming;
use tokio::sync::mpsc;

use super::event::Event;
use super::meeting::{MeetError, Meeting, Outcome};
use super::tasks::Tasks;
use crate::binding::Role;
use crate::policy::admission::{Admission, Attempt, Share, Verdict};
use crate::policy::rate::{Bucket, Rate};
use crate::policy::reach::{canonical, is_scoped};

/// Lines in the log about strangers: enough to see that there are some.
const STRANGERS_LOGGED: Rate = Rate {
    per_s: 1,
    burst: 10,
};
/// How often the addresses of the interfaces are looked up while connections arrive at others.
const INTERFACES_EVERY: Duration = Duration::from_secs(5);

/// Takes connections from the endpoint.
pub(super) struct Door {
    meeting: Arc<Meeting>,
    events: mpsc::Sender<Event>,
    tasks: Tasks,
    interfaces: Interfaces,
    desk: Arc<Mutex<Desk>>,
}

/// What is counted.
#[derive(Default)]
struct Desk {
    admission: Admission,
    logged: Bucket,
}

/// A handshake that is counted until this is dropped.
struct Pass {
    desk: Arc<Mutex<Desk>>,
    share: Share,
}

/// The interfaces on which connections are accepted.
struct Interfaces {
    /// Empty for all.
    names: Vec<String>,
    /// Their addresses.
    own: BTreeSet<IpAddr>,
    looked_at: Option<Timestamp>,
}

impl Door {
    pub(super) fn new(
        meeting: Arc<Meeting>,
        events: mpsc::Sender<Event>,
        tasks: Tasks,
        interfaces: Vec<String>,
    ) -> Self {
        Self {
            meeting,
            events,
            tasks,
            interfaces: Interfaces {
                names: interfaces,
                own: BTreeSet::new(),
                looked_at: None,
            },
            desk: Arc::default(),
        }
    }

    /// Decides about everybody who comes, until the endpoint is closed.
    pub(super) async fn run(mut self) {
        let endpoint = self.meeting.endpoint.clone();
        while let Some(incoming) = endpoint.accept().await {
            self.answer(incoming);
        }
    }

    fn answer(&mut self, incoming: Incoming) {
        let shared = &self.meeting.shared;
        let now = shared.now();
        if !self.interfaces.contain(now, incoming.local_ip()) {
            return incoming.ignore();
        }
        let source = canonical(incoming.remote_address());
        let attempt = Attempt {
            source,
            // The library's tokens for Retry forget the interface, and so prove no link-local address. Who
            // forges one is on the same link, and gets three times what he sends.
            is_validated: incoming.remote_address_validated() || is_scoped(&source),
            is_known: shared.view().addresses.contains(&source),
        };
        let verdict = lock(&self.desk).admission.decide(now, attempt);
        match verdict {
            Verdict::Accept(share) => self.accept(incoming, share, source),
            Verdict::Retry => {
                if let Err(error) = incoming.retry() {
                    // Only a validated address cannot be asked to prove itself.
                    error.into_incoming().ignore();
                }
            }
            Verdict::Refuse => incoming.refuse(),
            Verdict::Ignore => incoming.ignore(),
        }
    }

    fn accept(&self, incoming: Incoming, share: Share, source: SocketAddr) {
        let pass = Pass {
            desk: self.desk.clone(),
            share,
        };
        let (meeting, events) = (self.meeting.clone(), self.events.clone());
        self.tasks.spawn(async move {
            let outcome = match incoming.accept() {
                Ok(connecting) => meeting.meet(connecting, Role::Server).await,
                Err(error) => Outcome::Failed(error.into()),
            };
            let event = match outcome {
                Outcome::Met(session) => Event::Met {
                    session,
                    dialled: None,
                },
                Outcome::Twin => Event::Twin {
                    address: source,
                    dialled: None,
                },
                Outcome::Itself => return,
                Outcome::Failed(error) => return pass.log(meeting.shared.now(), source, &error),
            };
            drop(pass);
            // The driver is gone when all stops.
            let _ = events.send(event).await;
        });
    }
}

impl Pass {
    fn log(&self, now: Timestamp, source: SocketAddr, error: &MeetError) {
        if lock(&self.desk).logged.take(now, STRANGERS_LOGGED) {
            let error = with_causes(error);
            tracing::debug!(%source, error, "somebody was not let in");
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        lock(&self.desk).admission.ended(self.share);
    }
}

impl Interfaces {
    /// True if connections to `ip`, an address of this host, are accepted.
    fn contain(&mut self, now: Timestamp, ip: Option<IpAddr>) -> bool {
        let Some(ip) = ip.filter(|_| !self.names.is_empty()) else {
            return true;
        };
        let ip = ip.to_canonical();
        let is_due = |last: Timestamp| now.since(last) >= INTERFACES_EVERY;
        if !self.own.contains(&ip) && self.looked_at.is_none_or(is_due) {
            self.looked_at = Some(now);
            self.own = addresses_of(&self.names);
        }
        self.own.contains(&ip)
    }
}

/// The addresses that interfaces have now.
fn addresses_of(names: &[String]) -> BTreeSet<IpAddr> {
    let all = if_addrs::get_if_addrs().unwrap_or_default().into_iter();
    let chosen = all.filter(|interface| names.contains(&interface.name));
    chosen.map(|interface| interface.ip()).collect()
}

fn lock(desk: &Mutex<Desk>) -> std::sync::MutexGuard<'_, Desk> {
    // Its state is whole at every point that can panic.
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interfaces(names: &[&str]) -> Interfaces {
        Interfaces {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            own: BTreeSet::new(),
            looked_at: None,
        }
    }

    #[test]
    fn only_what_arrives_on_a_chosen_interface_is_heard() {
        let now = Timestamp::default();
        let loopback = |interfaces: &mut Interfaces| {
            ["127.0.0.1", "::ffff:127.0.0.1", "192.0.2.1"]
                .map(|ip| interfaces.contain(now, Some(ip.parse().unwrap())))
        };
        assert_eq!(loopback(&mut interfaces(&[])), [true; 3]);
        assert_eq!(loopback(&mut interfaces(&["lo"])), [true, true, false]);
        assert_eq!(loopback(&mut interfaces(&["nowhere"])), [false; 3]);
    }
}
