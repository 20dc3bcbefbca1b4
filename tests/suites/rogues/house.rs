//! One daemon, an album on S3, and a member of its cluster that is not to be trusted.

use std::fs;
use std::io::Read;
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use musicfs_core::version::VersionKey;
use musicfs_tests::daemon::{Daemon, Home};
use musicfs_tests::remote::{Remote, write_album};
use musicfs_tests::rogue::{Rogue, Tale, Vice};
use musicfs_tests::{tree, wait_until};
use serde_json::Value;

const TRACKS: usize = 2;
const MEGABYTES: u64 = 6;
/// One read of a player.
const READ_BYTES: usize = 64 << 10;

/// The fields go in this order: who serves goes last.
pub(crate) struct House {
    pub(crate) daemon: Daemon,
    /// Where its peers reach it.
    pub(crate) address: SocketAddr,
    pub(crate) rogue: Rogue,
    /// Each track as it is mounted, its original, and its name among nodes.
    pub(crate) tracks: Vec<(PathBuf, PathBuf, VersionKey)>,
    pub(crate) remote: Remote,
}

impl House {
    /// A daemon that is connected with a member of this vice, which says that it has all tracks, as
    /// `told` makes them.
    pub(crate) fn with(vice: Vice, told: impl Fn(Vec<u8>) -> Vec<u8>) -> Self {
        let home = Home::new();
        write_album(&home.origin().join("album"), TRACKS, MEGABYTES);
        let remote = Remote::s3(home);
        // Indexed alone first: version keys are the same for all nodes.
        let daemon = remote.mount_scanned(&[]);
        let key = |file: &PathBuf| {
            let path = file.strip_prefix(daemon.mount_point()).unwrap();
            let located = json(&remote.home, &["locate", path.to_str().unwrap()]);
            version(located["version_key"].as_str().unwrap())
        };
        let pairs = remote.pairs().into_iter();
        let tracks: Vec<_> = pairs
            .map(|(file, original)| {
                let key = key(&file);
                (file, original, key)
            })
            .collect();
        daemon.stop();
        json(&remote.home, &["cluster", "init"]);
        let shown = json(&remote.home, &["cluster", "show", "--join-code"]);
        let tales = tracks.iter().map(|(_, original, version)| Tale {
            version: *version,
            bytes: told(fs::read(original).unwrap()),
        });
        let code = shown["join_code"].as_str().unwrap();
        let rogue = Rogue::start(code, vice, tales.collect());
        let address = free_port();
        let daemon = remote.mount(&[
            "--peer-mdns=no",
            &format!("--peer-listen={address}"),
            &format!("--peer-addresses={}", rogue.address()),
        ]);
        let house = Self {
            daemon,
            address,
            rogue,
            tracks,
            remote,
        };
        house.daemon.wait_scanned(1);
        wait_until("the rogue to announce", || {
            house.peer()["objects"] == TRACKS as u64
        });
        house
    }

    /// One more member, with nothing.
    pub(crate) fn another(&self) -> Rogue {
        let shown = json(&self.remote.home, &["cluster", "show", "--join-code"]);
        Rogue::start(shown["join_code"].as_str().unwrap(), Vice::None, Vec::new())
    }

    /// What the daemon says of the rogue; null if it does not know it.
    pub(crate) fn peer(&self) -> Value {
        let list = json(&self.remote.home, &["peers", "list"]);
        let peers = list["peers"].as_array().unwrap().iter();
        let mut known = peers.filter(|peer| peer["id"] == self.rogue.id().as_str());
        known.next().cloned().unwrap_or(Value::Null)
    }

    pub(crate) fn state(&self) -> String {
        let peer = self.peer();
        peer["state"].as_str().unwrap_or_default().to_owned()
    }

    /// The requests that the rogue got, also those that nobody wanted answered any more.
    pub(crate) fn asked(&self) -> u64 {
        json(&self.remote.home, &["peers", "ping", &self.rogue.id()]);
        self.rogue.asked()
    }

    /// Plays everything, and compares it; gives how long the longest read took.
    pub(crate) fn play(&self) -> Duration {
        let mut longest = Duration::ZERO;
        for (file, original, _) in &self.tracks {
            let mut file = fs::File::open(file).unwrap();
            let (mut all, mut piece) = (Vec::new(), vec![0; READ_BYTES]);
            loop {
                let started = Instant::now();
                let len = file.read(&mut piece).unwrap();
                longest = longest.max(started.elapsed());
                if len == 0 {
                    break;
                }
                all.extend_from_slice(&piece[..len]);
            }
            assert!(all == fs::read(original).unwrap(), "{original:?}");
        }
        longest
    }

    /// Reads the first track, whatever comes.
    pub(crate) fn read_first(&self) {
        fs::read(&self.tracks[0].0).unwrap();
    }

    /// True if the first track is what it has to be.
    pub(crate) fn is_right(&self) -> bool {
        let (file, original, _) = &self.tracks[0];
        tree::hash(file) == tree::hash(original)
    }

    /// Has the daemon drop what it has cached.
    pub(crate) fn forget(&self) {
        json(&self.remote.home, &["cache", "clear", "--tier=chunks"]);
    }
}

/// What a command prints.
pub(crate) fn json(home: &Home, args: &[&str]) -> Value {
    let output = home.run(&[&["--json"], args].concat());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {errors}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn version(hex: &str) -> VersionKey {
    let byte = |at: usize| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap();
    VersionKey(std::array::from_fn(byte))
}

/// An address that nobody has now.
fn free_port() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap()
}
