//! Real daemons on hosts of their own, on one network: `netsim/lab.sh` from Rust.
//!
//! The mounts are this machine's and shown to the test; only the network is the host's.

use std::fmt::Display;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use crate::daemon::Home;
use crate::host::Host;
use crate::servers::process::Janitor;

/// The name of the host that servers run on; the others are numbers from 1.
pub const SERVERS: &str = "s";

/// A network with hosts 1 to N and [`SERVERS`], and a home for a daemon on each of the former.
///
/// Dropping it ends what runs there; so does the end of the test process.
#[derive(Debug)]
pub struct Lab {
    id: String,
    nodes: Vec<Home>,
    servers: Host,
    _janitor: Janitor,
}

impl Lab {
    /// Makes a network with so many nodes.
    ///
    /// # Panics
    /// If something cannot be done, here and below.
    pub fn new(nodes: usize) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let id = format!("t{}x{number}", std::process::id());
        let mut down = Command::new(script());
        down.args(["down", &id]);
        // First: half a network is to go as well.
        let janitor = Janitor::running(&down);
        run(&["up", &id, &nodes.to_string()]);
        let homes = 1..=nodes;
        Self {
            nodes: homes.map(|node| Home::on(&host(&id, &node))).collect(),
            servers: host(&id, &SERVERS),
            id,
            _janitor: janitor,
        }
    }

    /// What the network is called.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How many nodes it has.
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// The home of a node.
    pub fn node(&self, node: usize) -> &Home {
        &self.nodes[node - 1]
    }

    /// Where a node is.
    pub fn host(&self, node: usize) -> &Host {
        self.node(node).host()
    }

    /// Where servers are.
    pub fn servers(&self) -> &Host {
        &self.servers
    }

    /// The output of a command on a node's daemon, which must succeed, as JSON.
    pub fn cli(&self, node: usize, args: &[&str]) -> Value {
        let output = self.node(node).run(args);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?} on {node}: {errors}");
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{args:?} on {node}: {error}: {output:?}"))
    }

    /// Makes one cluster of all nodes, by the commands that users type; no daemon may run yet.
    pub fn found_cluster(&self) {
        self.cli(1, &["--json", "cluster", "init"]);
        let code = self.join_code();
        for node in 2..=self.nodes() {
            self.cli(node, &["--json", "cluster", "join", &code]);
        }
    }

    /// What lets others join the cluster of node 1.
    pub fn join_code(&self) -> String {
        let shown = self.cli(1, &["--json", "cluster", "show", "--join-code"]);
        shown["join_code"].as_str().unwrap().to_owned()
    }

    /// The name of a node in its cluster.
    pub fn node_id(&self, node: usize) -> String {
        let shown = self.cli(node, &["--json", "cluster", "show"]);
        shown["node_id"].as_str().unwrap().to_owned()
    }

    /// What a host's line carries each way: `10mbit`, `off` for all.
    pub fn rate(&self, host: impl Display, rate: &str) {
        run(&["rate", &self.id, &host.to_string(), rate]);
    }

    /// How much is lost on a host's line each way, in percent; 0 for nothing.
    pub fn lose(&self, host: impl Display, percent: u32) {
        let percent = match percent {
            0 => "off".to_owned(),
            _ => percent.to_string(),
        };
        run(&["drop", &self.id, &host.to_string(), &percent]);
    }

    /// Runs a shell script on a node's host, which must succeed.
    pub fn on(&self, node: usize, script: &str) {
        run(&["exec", &self.id, &node.to_string(), "sh", "-ec", script]);
    }

    /// Pulls a host's cable.
    pub fn cut(&self, host: impl Display) {
        run(&["cut", &self.id, &host.to_string()]);
    }

    /// Lets two hosts not hear each other any more.
    pub fn cut_pair(&self, one: impl Display, other: impl Display) {
        run(&["cut-pair", &self.id, &one.to_string(), &other.to_string()]);
    }

    /// Mends what [`Lab::cut`] and [`Lab::cut_pair`] did to a host.
    pub fn heal(&self, host: impl Display) {
        run(&["heal", &self.id, &host.to_string()]);
    }

    /// Bytes of packets that went from one host to another so far, headers too.
    pub fn traffic(&self, from: impl Display, to: impl Display) -> u64 {
        let args = ["traffic", &self.id, &from.to_string(), &to.to_string()];
        run(&args).trim().parse().unwrap()
    }
}

/// The script, in the source tree that this runs in: what was built may come from another checkout,
/// for they share the directory that it is built in.
///
/// # Panics
/// Outside of a source tree.
pub fn script() -> PathBuf {
    let here = std::env::current_dir().unwrap();
    let scripts = here.ancestors().map(|dir| dir.join("netsim/lab.sh"));
    let script = scripts.into_iter().find(|script| script.is_file());
    script.expect("it runs in a source tree")
}

fn host(id: &str, name: &impl Display) -> Host {
    let ask = |what: &str| run(&[what, id, &name.to_string()]).trim().to_owned();
    let address: Ipv4Addr = ask("address").parse().unwrap();
    Host::inside(ask("namespace").into(), address)
}

fn run(args: &[&str]) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(script()).args(args).output().unwrap();
    let errors = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{args:?}: {errors}");
    String::from_utf8(stdout).unwrap()
}
