//! What goes over a host's line, as tcpdump sees it.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;

use memchr::memmem;

use super::process::{Janitor, Process};
use crate::host::Host;
use crate::{wait_for, wait_until};

/// Sent at each look, to see that everything before it has been written.
const MARK: &[u8] = b"mark of the capture";
/// Where nobody listens (the port of the service that discards, RFC 863).
const MARK_PORT: u16 = 9;

/// All UDP that a host sends and receives. Dropping it ends that.
#[derive(Debug)]
pub struct Capture {
    host: Host,
    file: PathBuf,
    _process: Process,
    _janitor: Janitor,
}

impl Capture {
    /// Starts to listen.
    ///
    /// # Panics
    /// If that is impossible, here and below.
    pub fn start(host: &Host) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("musicfs-capture-")
            .tempdir();
        let dir = dir.unwrap().keep();
        let janitor = Janitor::of(std::slice::from_ref(&dir));
        let (file, log) = (dir.join("packets"), dir.join("log"));
        let mut command = Command::new("tcpdump");
        command
            .args(["-n", "-U", "-s", "0", "-B", "65536", "-Z", "root"])
            .args(["-i", "eth0", "-w"])
            .arg(&file)
            .arg("udp");
        let mut process = Process::start(&host.wrap(&command), &log);
        wait_until("tcpdump", || {
            let said = fs::read_to_string(&log).unwrap();
            assert!(process.is_running(), "tcpdump ended:\n{said}");
            said.contains("listening on")
        });
        Self {
            host: host.clone(),
            file,
            _process: process,
            _janitor: janitor,
        }
    }

    /// The bytes of all packets that went by until now.
    pub fn packets(&self) -> Vec<u8> {
        let seen = read(&self.file).len();
        let [a, b, c, _] = self.host.address().octets();
        let everyone = Ipv4Addr::new(a, b, c, 255);
        self.host.run(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.set_broadcast(true).unwrap();
            socket.send_to(MARK, (everyone, MARK_PORT)).unwrap();
        });
        let (packets, _) = wait_for("the mark in the capture", || {
            let packets = read(&self.file);
            let is_marked = memmem::find(&packets[seen..], MARK).is_some();
            is_marked.then_some(packets)
        });
        packets
    }
}

/// True if `packets` have `text` in them.
pub fn mention(packets: &[u8], text: &str) -> bool {
    memmem::find(packets, text.as_bytes()).is_some()
}

fn read(file: &Path) -> Vec<u8> {
    // It is made with the first packet.
    fs::read(file).unwrap_or_default()
}
