//! A real S3 server: SeaweedFS, all in one process.

use std::net::SocketAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::Breakable;
use super::ports::{Ports, TWIN_OFFSET};
use super::process::{Janitor, Process, Running};
use super::s3_client::{ACCESS_KEY, BUCKET, S3Client, SECRET_KEY};
use crate::PATIENCE;
use crate::host::Host;

/// A start that lost its ports to another program is tried again with others.
const STARTS_MAX: u32 = 5;
/// An object that every start reads and writes, to see that the server does.
const PROBE_KEY: &str = "probe";
/// How long one look may take; the server says nothing while its parts find each other.
const LOOK_MAX: Duration = Duration::from_secs(5);

/// A server with a bucket [`BUCKET`] that [`ACCESS_KEY`] may do everything with.
///
/// What can be asked of it is asked through the [`S3Client`] that it derefs to. Dropping it removes
/// everything.
#[derive(Debug)]
pub struct S3Server {
    client: S3Client,
    running: Running,
    dir: PathBuf,
    ports: Ports,
    /// Behind the process: it removes what that leaves.
    _janitor: Janitor,
}

impl S3Server {
    /// Starts a server of its own, for a test that pauses it, kills it, or counts its objects.
    ///
    /// # Panics
    /// If it does not come up, here and below.
    pub fn start() -> Self {
        Self::start_on(&Host::local())
    }

    /// Starts a server on another host than this machine; what is asked of it is asked from there.
    pub fn start_on(host: &Host) -> Self {
        for _ in 0..STARTS_MAX {
            if let Some(server) = Self::try_start(host) {
                return server;
            }
        }
        panic!("no S3 server came up in {STARTS_MAX} tries");
    }

    /// The server that all tests of this process share, each below a prefix of its own.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<S3Server> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// A prefix that no other test uses, with a slash at its end.
    pub fn fresh_prefix() -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        format!("test-{}/", COUNT.fetch_add(1, Ordering::Relaxed))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (self.host().address(), self.ports.port(S3)).into()
    }

    fn try_start(host: &Host) -> Option<Self> {
        let ports = Ports::claim();
        let dir = tempfile::Builder::new().prefix("musicfs-s3-").tempdir();
        let dir = dir.unwrap().keep();
        let mut leavings = sockets(&ports);
        leavings.push(dir.clone());
        let janitor = Janitor::of(&leavings);
        let endpoint = format!("http://{}:{}", host.address(), ports.port(S3));
        let client = S3Client::on(host, &endpoint);
        let Some(process) = wait_serving(launch(&dir, &ports, host), &client) else {
            eprintln!("an S3 server did not start:\n{}", log(&dir));
            return None;
        };
        Some(Self {
            client,
            running: Running::of(process),
            dir,
            ports,
            _janitor: janitor,
        })
    }
}

impl Breakable for S3Server {
    fn running(&self) -> &Running {
        &self.running
    }

    fn restart(&self) {
        self.running.restart(|| {
            let started = wait_serving(launch(&self.dir, &self.ports, self.host()), &self.client);
            started.unwrap_or_else(|| panic!("no restart:\n{}", log(&self.dir)))
        });
    }
}

impl Deref for S3Server {
    type Target = S3Client;

    fn deref(&self) -> &S3Client {
        &self.client
    }
}

/// Which port of the block is whose.
const MASTER: u16 = 0;
const VOLUME: u16 = 1;
const FILER: u16 = 2;
const ADMIN: u16 = 3;
const S3: u16 = 4;

/// A program of the environment that `tests/run.sh` makes.
///
/// # Panics
/// If it is not there.
pub fn program(name: &str) -> PathBuf {
    let dir = std::env::var_os("MUSICFS_VENV").map_or_else(
        || {
            let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or("/root".into()));
            let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
            cache
                .unwrap_or_else(|| home().join(".cache"))
                .join("musicfs-venv")
        },
        PathBuf::from,
    );
    let program = dir.join("bin").join(name);
    assert!(
        program.is_file(),
        "no {program:?}: tests/run.sh installs it"
    );
    program
}

fn launch(dir: &Path, ports: &Ports, host: &Host) -> Process {
    let (data, address) = (dir.join("data"), host.address());
    std::fs::create_dir_all(&data).unwrap();
    let mut command = Command::new(program("weed"));
    command
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        .env("S3_BUCKET", BUCKET)
        .arg("mini")
        .arg(format!("-dir={}", data.display()))
        .args([format!("-ip={address}"), format!("-ip.bind={address}")])
        // Nothing goes to anyone else, and nothing runs that no test needs.
        .args([
            "-master.telemetry=false",
            "-admin.ui=false",
            "-webdav=false",
        ])
        .args([
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-volume.preStopSeconds=0",
        ]);
    let parts = [
        ("master", MASTER),
        ("volume", VOLUME),
        ("filer", FILER),
        ("admin", ADMIN),
        ("s3", S3),
    ];
    for (part, number) in parts {
        command.arg(format!("-{part}.port={}", ports.port(number)));
    }
    Process::start(&host.wrap(&command), &dir.join("log"))
}

/// Waits until an object can be written and read; `None` if the process ends first.
pub(super) fn wait_serving(mut process: Process, client: &S3Client) -> Option<Process> {
    let probe = S3Client::once_on(client.host(), client.endpoint(), LOOK_MAX);
    let started = Instant::now();
    while process.is_running() {
        if probe.try_put(PROBE_KEY, b"probe").is_ok() && probe.get(PROBE_KEY).is_ok() {
            client.delete(PROBE_KEY);
            return Some(process);
        }
        if started.elapsed() > PATIENCE {
            return None;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    None
}

/// The sockets that it leaves in the common directory, named by its ports.
fn sockets(ports: &Ports) -> Vec<PathBuf> {
    let parts = [
        ("master", MASTER),
        ("volume", VOLUME),
        ("filer", FILER),
        ("admin", ADMIN),
        ("s3", S3),
    ];
    let names = parts.into_iter().flat_map(|(part, number)| {
        let (port, twin) = (ports.port(number), ports.port(number) + TWIN_OFFSET);
        [format!("{part}-{port}"), format!("{part}-grpc-{twin}")]
    });
    names
        .map(|name| format!("/tmp/seaweedfs-{name}.sock").into())
        .collect()
}

/// What the server of `dir` has said.
pub(super) fn log(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("log")).unwrap_or_default()
}
