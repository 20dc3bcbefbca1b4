//! Nodes of one cluster on one network, all of them mounted on one album.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use musicfs_tests::daemon::{Daemon, Home};
use musicfs_tests::lab::{Lab, SERVERS};
use musicfs_tests::remote::{Remote, write_album};
use musicfs_tests::{tree, wait_until};
use serde_json::Value;

/// Tracks of the album.
pub(crate) const TRACKS: usize = 3;
/// How large it is.
const MEGABYTES: u64 = 12;

/// The fields go in this order: who serves goes last.
pub(crate) struct House {
    daemons: Vec<Option<Daemon>>,
    /// What is played, and what serves it.
    pub(crate) remote: Remote,
    /// The network.
    pub(crate) lab: Lab,
}

/// What serves the album.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    S3,
    Sftp,
}

/// The states that a peer is shown in.
pub(crate) const CONNECTED: &str = "connected";

/// A mounted file and its original.
pub(crate) type Pair = (PathBuf, PathBuf);

impl House {
    /// A network with so many nodes, an album, and no cluster; no daemon runs.
    pub(crate) fn without_cluster(nodes: usize, place: Place) -> Self {
        let lab = Lab::new(nodes);
        let home = Home::new();
        write_album(&home.origin().join("album"), TRACKS, MEGABYTES);
        let remote = match place {
            Place::S3 => Remote::s3_on(lab.servers(), home),
            Place::Sftp => Remote::sftp_on(lab.servers(), home),
        };
        Self {
            daemons: (0..nodes).map(|_| None).collect(),
            remote,
            lab,
        }
    }

    /// The same with a cluster of all nodes.
    pub(crate) fn new(nodes: usize, place: Place) -> Self {
        let house = Self::without_cluster(nodes, place);
        house.lab.found_cluster();
        house
    }

    /// The same, started, indexed and connected.
    pub(crate) fn living(nodes: usize, place: Place) -> Self {
        let mut house = Self::new(nodes, place);
        for node in 1..=nodes {
            house.start(node, &[]);
        }
        house.wait_indexed();
        house.wait_connected();
        house
    }

    /// Starts the daemon of a node, and waits until it is ready.
    pub(crate) fn start(&mut self, node: usize, more: &[&str]) {
        let name = format!("name-of-{node}");
        let args = [&["--peer-name", &name], more].concat();
        let daemon = self.remote.mount_in(self.lab.node(node), &args);
        self.daemons[node - 1] = Some(daemon);
    }

    /// The running daemon of a node.
    pub(crate) fn daemon(&self, node: usize) -> &Daemon {
        self.daemons[node - 1].as_ref().expect("it runs")
    }

    /// Takes the daemon of a node, to end it.
    pub(crate) fn take(&mut self, node: usize) -> Daemon {
        self.daemons[node - 1].take().expect("it runs")
    }

    /// Ends all daemons that run; none may have warned of anything but of these.
    pub(crate) fn stop_expecting(mut self, expected: &[&str]) {
        for daemon in self.daemons.iter_mut().filter_map(Option::take) {
            daemon.stop_expecting(expected);
        }
    }

    fn running(&self) -> Vec<usize> {
        let nodes = 1..=self.lab.nodes();
        nodes
            .filter(|node| self.daemons[node - 1].is_some())
            .collect()
    }

    /// Waits until all nodes that run have been scanned.
    pub(crate) fn wait_indexed(&self) {
        for node in self.running() {
            self.daemon(node).wait_scanned(1);
        }
    }

    /// Waits until all nodes that run are connected with each other; returns how long that took.
    pub(crate) fn wait_connected(&self) -> Duration {
        let running = self.running();
        wait_until("the nodes to be connected", || {
            running.iter().all(|&node| {
                let mut others = running.iter().filter(|&&other| other != node);
                others.all(|&other| self.state(node, other) == CONNECTED)
            })
        })
    }

    /// The peers that a node lists.
    pub(crate) fn peers(&self, node: usize) -> Vec<Value> {
        let list = self.lab.cli(node, &["--json", "peers", "list"]);
        list["peers"].as_array().unwrap().clone()
    }

    /// What a node shows of another; null if it is not listed.
    pub(crate) fn peer(&self, node: usize, other: usize) -> Value {
        let id = self.lab.node_id(other);
        let peers = self.peers(node).into_iter();
        peers
            .into_iter()
            .find(|peer| peer["id"] == id.as_str())
            .unwrap_or(Value::Null)
    }

    /// The state that a node shows of another; empty if it is not listed.
    pub(crate) fn state(&self, node: usize, other: usize) -> String {
        let peer = self.peer(node, other);
        peer["state"].as_str().unwrap_or_default().to_owned()
    }

    /// Makes sure that a node shows another at one of that host's own addresses.
    pub(crate) fn assert_reached_directly(&self, node: usize, other: usize) {
        let peer = self.peer(node, other);
        let shown = peer["address"].as_str().unwrap();
        let address = self.lab.host(other).address().to_string();
        let is_own = shown.contains(&address) || shown.contains("fe80:");
        assert!(is_own, "{peer}");
    }

    /// The tracks as a node shows them, by number.
    pub(crate) fn pairs(&self, node: usize) -> Vec<Pair> {
        let mut pairs = self.remote.pairs_in(self.lab.node(node));
        assert_eq!(pairs.len(), TRACKS);
        pairs.sort();
        pairs
    }

    /// Reads all tracks on a node, and compares them with their originals.
    pub(crate) fn play(&self, node: usize) {
        for pair in self.pairs(node) {
            play(&pair);
        }
    }

    /// Waits until `node` knows that `holder` has every track to its end.
    pub(crate) fn wait_announced(&self, node: usize, holder: usize) {
        for (file, _) in self.pairs(node) {
            wait_until("the announcement", || self.holds(node, holder, &file));
        }
    }

    /// True if `node` says that `holder` has all of `file`, a file of its mount.
    pub(crate) fn holds(&self, node: usize, holder: usize, file: &Path) -> bool {
        let home = self.lab.node(node);
        let path = file.strip_prefix(home.mount_point()).unwrap();
        let located = self
            .lab
            .cli(node, &["--json", "locate", path.to_str().unwrap()]);
        let id = self.lab.node_id(holder);
        let holders = located["holders"].as_array().unwrap();
        let mut holders = holders
            .iter()
            .filter(|holder| holder["peer_id"] == id.as_str());
        holders.any(|holder| holder["complete"] == true)
    }

    /// Bytes of the album.
    pub(crate) fn album_bytes(&self) -> u64 {
        let origin = self.remote.home.origin();
        let len = |file: String| fs::metadata(origin.join(file)).unwrap().len();
        tree::files(&origin).into_iter().map(len).sum()
    }

    /// What the server has sent to a node so far.
    pub(crate) fn served(&self, node: usize) -> Served {
        let address = self.lab.host(node).address().into();
        Served {
            content: self.remote.content_bytes_to(address),
            packets: self.lab.traffic(SERVERS, node),
        }
    }
}

/// What came from the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Served {
    /// Bytes of files.
    pub(crate) content: u64,
    /// Bytes of packets, whatever was in them.
    pub(crate) packets: u64,
}

/// Reads a track and compares it with its original.
pub(crate) fn play((file, original): &Pair) {
    assert_eq!(tree::hash(file), tree::hash(original), "{file:?}");
}
