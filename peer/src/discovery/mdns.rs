//! Multicast DNS (RFC 6762, RFC 6763): nodes of one network find each other without configuration.
//!
//! A node announces a service with a random name, its port, and a tag by which those of its cluster know
//! it. Nothing else is told: neither who it is nor which cluster. What others announce counts only with a
//! right tag. The library below keeps what it hears, whoever says it; when that becomes too much it is
//! thrown away and begun anew, with pauses that grow.

mod announcement;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mdns_sd::{IfKind, IfPredicate, Receiver, ServiceDaemon, ServiceEvent};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::tag::TagKey;
use crate::mesh::event::Event;
use crate::policy::book::Source;
use announcement::{Announced, Own};

/// What nodes announce (RFC 6763 section 7).
const SERVICE: &str = "_musicfs._udp.local.";
/// Services of this cluster remembered at a time; of more than a cluster has, the oldest are dropped.
const SERVICES_COUNT_MAX: usize = 256;
/// What the library may keep: with names and texts of usual length 2 MB, and 40 MB at worst. A network of
/// a thousand devices has as many.
const RECORDS_COUNT_MAX: i64 = 4096;
/// Moments at which the library wants to look at what it keeps: 16 bytes each.
const TIMERS_COUNT_MAX: i64 = 1_000_000;
/// Announcements of all clusters that one round takes: the library remembers a name of each for ever.
const EVENTS_COUNT_MAX: u64 = 20_000;
/// How often it is looked at what the library keeps.
const WEIGHED_EVERY: Duration = Duration::from_secs(1);
/// The first pause after too much was heard.
const PAUSE_MIN: Duration = Duration::from_secs(10);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(600);
/// A round that lasted so long had no flood.
const QUIET_FOR: Duration = Duration::from_secs(600);
/// How long the goodbye may take.
const GOODBYE_WAIT_MAX: Duration = Duration::from_millis(500);

/// What is announced.
pub(crate) struct Service {
    /// Where this node listens: the port of one address, or of all.
    pub(crate) listen: SocketAddr,
    /// The names of the interfaces to speak on; empty for all but loopback.
    pub(crate) interfaces: Vec<String>,
    pub(crate) tag_key: TagKey,
    pub(crate) bounds: Bounds,
}

/// What the library may come to. All but tests use the default.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    records_count_max: i64,
    pause_min: Duration,
}

/// Why a round ended.
#[derive(Debug, PartialEq, Eq)]
enum Over {
    /// All is to stop.
    Stopped,
    /// The library keeps too much, or could not tell all that it heard.
    Flooded,
    /// The library does not work.
    Broken(mdns_sd::Error),
}

/// One start of the library, with names of its own.
struct Round<'a> {
    service: &'a Service,
    own: Own,
    daemon: ServiceDaemon,
    found: &'a mpsc::Sender<Event>,
    /// The services of this cluster, and when each was heard of last.
    known: BTreeMap<Arc<str>, Instant>,
    events_count: u64,
}

/// Announces this node and tells of others, until all is to stop; says goodbye then.
pub(crate) async fn run(service: Service, found: mpsc::Sender<Event>, stop: CancellationToken) {
    let mut pause = service.bounds.pause_min;
    let mut has_warned = false;
    loop {
        let began = Instant::now();
        let over = match Round::begin(&service, &found) {
            Ok(mut round) => {
                let over = round.run(&stop).await;
                round.end(&over).await;
                over
            }
            Err(error) => Over::Broken(error),
        };
        if over == Over::Stopped {
            return;
        }
        if began.elapsed() >= QUIET_FOR {
            pause = service.bounds.pause_min;
        }
        if !std::mem::replace(&mut has_warned, true) {
            tracing::warn!(
                ?over,
                "multicast DNS cannot be used for a while; nodes that are connected stay so"
            );
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            records_count_max: RECORDS_COUNT_MAX,
            pause_min: PAUSE_MIN,
        }
    }
}

impl<'a> Round<'a> {
    /// Starts the library on the chosen interfaces.
    fn begin(service: &'a Service, found: &'a mpsc::Sender<Event>) -> Result<Self, mdns_sd::Error> {
        let own = Own::draw().map_err(|error| mdns_sd::Error::Msg(error.to_string()))?;
        let daemon = ServiceDaemon::new()?;
        if service.interfaces.is_empty() {
            let loopback = IfPredicate::new(if_addrs::Interface::is_loopback);
            daemon.disable_interface(IfKind::Predicate(loopback))?;
        } else {
            daemon.disable_interface(IfKind::All)?;
            let names = service.interfaces.iter().map(IfKind::from);
            daemon.enable_interface(names.collect::<Vec<_>>())?;
        }
        daemon.register(own.info(service.listen, &service.tag_key)?)?;
        Ok(Self {
            service,
            own,
            daemon,
            found,
            known: BTreeMap::new(),
            events_count: 0,
        })
    }

    /// Tells what is announced, until the round is over.
    async fn run(&mut self, stop: &CancellationToken) -> Over {
        let services = match self.daemon.browse(SERVICE) {
            Ok(services) => services,
            Err(error) => return Over::Broken(error),
        };
        let mut ticks = tokio::time::interval(WEIGHED_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return Over::Stopped,
                _ = ticks.tick() => match self.weigh().await {
                    Ok(true) => {}
                    Ok(false) => return Over::Flooded,
                    Err(error) => return Over::Broken(error),
                },
                event = services.recv_async() => match event {
                    Ok(event) => self.hear(event).await,
                    // It hangs up on who does not keep up.
                    Err(_) => return Over::Flooded,
                },
            }
            if self.events_count > EVENTS_COUNT_MAX {
                return Over::Flooded;
            }
        }
    }

    async fn hear(&mut self, event: ServiceEvent) {
        self.events_count += 1;
        match event {
            ServiceEvent::ServiceResolved(service) => {
                let tag_key = &self.service.tag_key;
                if let Some(announced) = Announced::read(&service, tag_key, &self.own) {
                    self.keep(announced).await;
                }
            }
            ServiceEvent::ServiceRemoved(_, name) => {
                let instance = announcement::instance_of(&name);
                let known = instance.and_then(|instance| self.known.remove_entry(instance));
                if let Some((instance, _)) = known {
                    self.tell(instance, Vec::new()).await;
                }
            }
            _ => {}
        }
    }

    async fn keep(&mut self, announced: Announced) {
        let Announced {
            instance,
            addresses,
        } = announced;
        self.known.insert(instance.clone(), Instant::now());
        self.tell(instance, addresses).await;
        if self.known.len() > SERVICES_COUNT_MAX {
            let oldest = self.known.iter().min_by_key(|(_, heard)| **heard);
            if let Some(oldest) = oldest.map(|(instance, _)| instance.clone()) {
                self.known.remove(&oldest);
                self.tell(oldest, Vec::new()).await;
            }
        }
    }

    async fn tell(&self, instance: Arc<str>, addresses: Vec<SocketAddr>) {
        let source = Source::Service(instance);
        // Nobody listens when all stops.
        let _ = self.found.send(Event::Found { source, addresses }).await;
    }

    /// False if the library keeps too much.
    async fn weigh(&self) -> Result<bool, mdns_sd::Error> {
        let weighed = match self.daemon.get_metrics() {
            Ok(weighed) => weighed,
            // It has too much to do to answer that.
            Err(mdns_sd::Error::Again) => return Ok(false),
            Err(error) => return Err(error),
        };
        let Ok(metrics) = weighed.recv_async().await else {
            return Err(mdns_sd::Error::DaemonShutdown);
        };
        let is_record = |name: &str| name.starts_with("cached-");
        let records = metrics.iter().filter(|(name, _)| is_record(name));
        let records: i64 = records.map(|(_, count)| count).sum();
        let timers = metrics.get("timer").copied().unwrap_or(0);
        Ok(records <= self.service.bounds.records_count_max && timers <= TIMERS_COUNT_MAX)
    }

    /// Says goodbye and stops the library.
    async fn end(mut self, over: &Over) {
        if *over != Over::Stopped {
            // Nobody would say when they are gone.
            for instance in std::mem::take(&mut self.known).into_keys() {
                self.tell(instance, Vec::new()).await;
            }
        }
        let ended = async {
            loop {
                match self.daemon.shutdown() {
                    Ok(status) => return wait(&status).await,
                    Err(mdns_sd::Error::Again) => {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                    Err(_) => return,
                }
            }
        };
        // Without a goodbye others find out by themselves.
        let _ = tokio::time::timeout(GOODBYE_WAIT_MAX, ended).await;
    }
}

async fn wait<T>(answer: &Receiver<T>) {
    // It hangs up when it has stopped.
    let _ = answer.recv_async().await;
}

#[cfg(test)]
mod tests;
