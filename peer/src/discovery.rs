//! Finding other nodes: by multicast DNS, by names in DNS, at configured addresses.
//!
//! What is found are addresses; who is there, a connection shows. Nodes also tell each other whom they
//! know, over their connections.

mod mdns;
mod names;
pub(crate) mod tag;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::mpsc;

pub(crate) use mdns::{Bounds, Service};
use names::IsLinked;
pub(crate) use names::Places;

use crate::mesh::event::Event;
use crate::mesh::tasks::Tasks;

/// All that is looked for.
pub(crate) struct Search {
    pub(crate) places: Places,
    pub(crate) mdns: Option<Service>,
    /// Whom to tell.
    pub(crate) found: mpsc::Sender<Event>,
    pub(crate) seed: u64,
}

impl Search {
    /// Starts the tasks that look for nodes; `is_linked` says whether one is connected at an address.
    pub(crate) fn start(
        self,
        tasks: &Tasks,
        is_linked: impl Fn(&SocketAddr) -> bool + Send + Sync + 'static,
    ) {
        let is_linked: IsLinked = Arc::new(is_linked);
        self.places.start(tasks, &self.found, &is_linked, self.seed);
        if let Some(service) = self.mdns {
            let stop = tasks.stop().clone();
            tasks.spawn_to_its_end(mdns::run(service, self.found, stop));
        }
    }
}
