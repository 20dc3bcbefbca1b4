//! A sloppy S3 server: `rclone serve s3`, on a directory.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Breakable;
use super::ports::Ports;
use super::process::{Janitor, Process, Running};
use super::s3::{log, program, wait_serving};
use super::s3_client::{ACCESS_KEY, BUCKET, S3Client, SECRET_KEY};

/// A server with a bucket [`BUCKET`], which does as much of S3 as most clients miss nothing of.
///
/// It answers a range with the status 200, a condition with the bytes of whatever is there, and
/// the first request of an upload in parts in words that no strict client understands. It stands
/// for the many servers that are like this.
///
/// What can be asked of it is asked through the [`S3Client`] that it derefs to. Dropping it removes
/// everything.
#[derive(Debug)]
pub struct RcloneServer {
    client: S3Client,
    running: Running,
    dir: PathBuf,
    ports: Ports,
    /// Behind the process: it removes what that leaves.
    _janitor: Janitor,
}

impl RcloneServer {
    /// Starts a server.
    ///
    /// # Panics
    /// If it does not come up.
    pub fn start() -> Self {
        let ports = Ports::claim();
        let dir = tempfile::Builder::new().prefix("musicfs-rclone-").tempdir();
        let dir = dir.unwrap().keep();
        let janitor = Janitor::of(std::slice::from_ref(&dir));
        std::fs::create_dir_all(dir.join("data").join(BUCKET)).unwrap();
        let server = Self {
            client: S3Client::new(&format!("http://127.0.0.1:{}", ports.port(0))),
            running: Running::default(),
            dir,
            ports,
            _janitor: janitor,
        };
        server.restart();
        server
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.ports.port(0)).into()
    }
}

impl Breakable for RcloneServer {
    fn running(&self) -> &Running {
        &self.running
    }

    fn restart(&self) {
        self.running.restart(|| {
            let started = wait_serving(launch(&self.dir, self.address()), &self.client);
            started.unwrap_or_else(|| panic!("rclone did not start:\n{}", log(&self.dir)))
        });
    }
}

impl Deref for RcloneServer {
    type Target = S3Client;

    fn deref(&self) -> &S3Client {
        &self.client
    }
}

fn launch(dir: &Path, address: SocketAddr) -> Process {
    let mut command = Command::new(program("rclone"));
    command
        .args(["serve", "s3"])
        .args(["--addr", &address.to_string()])
        .args(["--auth-key", &format!("{ACCESS_KEY},{SECRET_KEY}")])
        // No configuration of this user, and no cache in this user's directories.
        .args(["--config", "", "--vfs-cache-mode", "off"])
        .arg(format!("--cache-dir={}", dir.join("cache").display()))
        // The bucket is a directory too, and stays when it is empty.
        .arg("--no-cleanup")
        // Otherwise it takes keys for one that only look alike.
        .arg("--no-unicode-normalization")
        .arg(dir.join("data"));
    Process::start(&command, &dir.join("log"))
}
