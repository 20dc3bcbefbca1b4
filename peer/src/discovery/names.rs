//! Names in DNS and configured addresses.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::mesh::MeshError;
use crate::mesh::event::Event;
use crate::mesh::tasks::Tasks;
use crate::policy::book::Source;
use crate::policy::chance::Chance;
use crate::policy::host::HostPort;

/// Configured addresses: a full cluster.
const ADDRESSES_COUNT_MAX: usize = 64;
/// Configured names, each of which is looked up again and again.
const NAMES_COUNT_MAX: usize = 16;
/// How long until a name is looked up again, while no node is known from it.
const AGAIN_WITHOUT: Duration = Duration::from_secs(5);
/// The same while there is one: servers in a cluster answer with lives of 5 to 30 s.
const AGAIN_WITH: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(30));

/// Where nodes are, as configured.
pub(crate) struct Places {
    /// One node each.
    addresses: Vec<HostPort>,
    /// Any number of nodes each.
    names: Vec<HostPort>,
}

/// One name to look up.
struct Name {
    source: Source,
    place: HostPort,
    chance: Chance,
    /// The last time it had an address.
    resolves: bool,
}

/// Says whether a node is connected at an address.
pub(super) type IsLinked = Arc<dyn Fn(&SocketAddr) -> bool + Send + Sync>;

impl Places {
    /// Reads the configuration.
    ///
    /// # Errors
    /// [`MeshError::Address`], [`MeshError::TooMany`].
    pub(crate) fn parse(addresses: &[String], names: &[String]) -> Result<Self, MeshError> {
        let read = |texts: &[String], what, max| {
            let count = texts.len();
            if count > max {
                return Err(MeshError::TooMany { what, count, max });
            }
            let read = texts.iter().map(|text| HostPort::parse(text));
            Ok(read.collect::<Result<Vec<_>, _>>()?)
        };
        Ok(Self {
            addresses: read(addresses, "addresses", ADDRESSES_COUNT_MAX)?,
            names: read(names, "DNS names", NAMES_COUNT_MAX)?,
        })
    }

    pub(super) fn start(
        self,
        tasks: &Tasks,
        found: &mpsc::Sender<Event>,
        is_linked: &IsLinked,
        seed: u64,
    ) {
        let statics = (0..)
            .zip(self.addresses)
            .map(|(index, place)| (Source::Static(index), place));
        let names = (0..)
            .zip(self.names)
            .map(|(index, place)| (Source::Name(index), place));
        for (number, (source, place)) in (1..).zip(statics.chain(names)) {
            let name = Name {
                source,
                place,
                chance: Chance::new(seed.wrapping_add(number)),
                resolves: true,
            };
            tasks.spawn(name.run(found.clone(), is_linked.clone()));
        }
    }
}

impl Name {
    async fn run(mut self, found: mpsc::Sender<Event>, is_linked: IsLinked) {
        if let Ok(ip) = self.place.host().parse::<IpAddr>() {
            let address = SocketAddr::new(ip, self.place.port());
            self.tell(&found, vec![address]).await;
            return;
        }
        loop {
            let addresses = self.look_up().await;
            let is_known = addresses.iter().any(|address| is_linked(address));
            // What does not resolve just now has not moved.
            if self.resolves {
                self.tell(&found, addresses).await;
            }
            let wait = match is_known {
                true => self.chance.between(AGAIN_WITH.0, AGAIN_WITH.1),
                false => AGAIN_WITHOUT,
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// The addresses of the name now; says once when it has none, and when it has some again.
    async fn look_up(&mut self) -> Vec<SocketAddr> {
        let place = (self.place.host(), self.place.port());
        let (addresses, error) = match tokio::net::lookup_host(place).await {
            Ok(addresses) => (addresses.collect(), None),
            Err(error) => (Vec::new(), Some(error)),
        };
        let resolves = !addresses.is_empty();
        if std::mem::replace(&mut self.resolves, resolves) != resolves {
            let name = &self.place;
            let error = error.map(|error| error.to_string()).unwrap_or_default();
            match resolves {
                true => tracing::info!(%name, "nodes are found by name again"),
                false => tracing::info!(%name, error, "no node is found by name; trying again"),
            }
        }
        addresses
    }

    async fn tell(&self, found: &mpsc::Sender<Event>, addresses: Vec<SocketAddr>) {
        let source = self.source.clone();
        // Nobody listens when all stops.
        let _ = found.send(Event::Found { source, addresses }).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    async fn next(found: &mut mpsc::Receiver<Event>) -> (Source, Vec<SocketAddr>) {
        match found.recv().await {
            Some(Event::Found { source, addresses }) => (source, addresses),
            _ => panic!("something else was told"),
        }
    }

    #[test]
    fn a_configuration_that_makes_no_sense_is_refused() {
        let parse = |addresses: &[&str], names: &[&str]| {
            Places::parse(&strings(addresses), &strings(names))
        };
        assert!(parse(&["nas", "[::1]:7"], &["music.local:7"]).is_ok());
        assert!(matches!(parse(&["nas:"], &[]), Err(MeshError::Address(_))));
        assert!(matches!(parse(&[], &["a b"]), Err(MeshError::Address(_))));
        let many = vec!["nas"; ADDRESSES_COUNT_MAX + 1];
        assert!(matches!(
            parse(&many, &[]),
            Err(MeshError::TooMany { count: 65, .. })
        ));
        assert!(matches!(
            parse(&[], &many[..17]),
            Err(MeshError::TooMany { max: 16, .. })
        ));
    }

    #[tokio::test(start_paused = true)]
    async fn names_are_looked_up_more_often_while_nobody_is_there() {
        let (sender, mut found) = mpsc::channel(8);
        let tasks = Tasks::default();
        let places = Places::parse(&strings(&["127.0.0.1:7"]), &strings(&["localhost:8"])).unwrap();
        let is_there = Arc::new(AtomicBool::new(false));
        let linked = is_there.clone();
        let is_linked: IsLinked = Arc::new(move |_: &SocketAddr| linked.load(Ordering::Relaxed));
        places.start(&tasks, &sender, &is_linked, 7);
        let mut first = [next(&mut found).await, next(&mut found).await];
        first.sort();
        assert_eq!(first[0].0, Source::Name(0));
        let localhost = &first[0].1;
        let is_local = |address: &SocketAddr| address.ip().is_loopback() && address.port() == 8;
        assert!(
            !localhost.is_empty() && localhost.iter().all(is_local),
            "{localhost:?}"
        );
        assert_eq!(
            first[1],
            (Source::Static(0), vec!["127.0.0.1:7".parse().unwrap()])
        );
        let mut last = tokio::time::Instant::now();
        let mut pause = async || {
            next(&mut found).await;
            let now = tokio::time::Instant::now();
            now - std::mem::replace(&mut last, now)
        };
        assert_eq!(pause().await.as_secs(), 5);
        is_there.store(true, Ordering::Relaxed);
        pause().await;
        let pauses = [pause().await, pause().await, pause().await];
        assert!(
            pauses
                .iter()
                .all(|pause| (10..=30).contains(&pause.as_secs())),
            "{pauses:?}"
        );
        assert_ne!(pauses[0], pauses[1]);
        tasks.stop().cancel();
        tasks.ended().await;
    }
}
