//! A real Redis server, which keeps nothing: the metadata server of a peer system in a benchmark.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;

use super::ports::Ports;
use super::process::{Janitor, Process};
use crate::wait_until;

/// A server. Dropping it ends it, and what it held is gone.
#[derive(Debug)]
pub struct RedisServer {
    ports: Ports,
    _process: Process,
    /// Behind the process: it removes what that leaves.
    _janitor: Janitor,
}

impl RedisServer {
    /// Starts a server.
    ///
    /// # Panics
    /// If it does not come up.
    pub fn start() -> Self {
        let ports = Ports::claim();
        let dir = tempfile::Builder::new().prefix("musicfs-redis-").tempdir();
        let dir: PathBuf = dir.unwrap().keep();
        let janitor = Janitor::of(std::slice::from_ref(&dir));
        let mut command = Command::new("redis-server");
        command
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(["--port", &ports.port(0).to_string(), "--dir"])
            .arg(&dir);
        let process = Process::start(&command, &dir.join("log"));
        let server = Self {
            ports,
            _process: process,
            _janitor: janitor,
        };
        wait_until("redis-server", || {
            TcpStream::connect(server.address()).is_ok()
        });
        server
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.ports.port(0)).into()
    }
}
