//! An origin that can be broken, with a small library on it, and the home of a daemon that shows it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use musicfs_tests::daemon::{Daemon, Home};
use musicfs_tests::remote::write_album;
use musicfs_tests::servers::Breakable;
use musicfs_tests::servers::network_mount::NetworkMount;
use musicfs_tests::servers::proxy::Proxy;
use musicfs_tests::servers::rclone::RcloneServer;
use musicfs_tests::servers::s3::S3Server;
use musicfs_tests::servers::s3_client::{ACCESS_KEY, BUCKET, S3Client, SECRET_KEY};
use musicfs_tests::servers::s3_proxy::S3Proxy;
use musicfs_tests::servers::sftp::{SftpServer, USER};

use super::cell::{Cache, Cell};

/// Tracks of the library.
const TRACKS: usize = 3;
/// How large they are together.
const LIBRARY_MEGABYTES: u64 = 10;
/// The limits of a cache that is full: what one track takes is more than all bodies may.
const FULL_BODIES: &str = "2Mi";
const FULL_HEADERS: &str = "2Mi";
/// Both together.
pub(crate) const FULL_BYTES_MAX: u64 = 4 << 20;
/// How long ago the files were modified, and what replaces them: each time proves its content.
const AGE: Duration = Duration::from_secs(3600);
const AGE_REPLACED: Duration = Duration::from_secs(1800);

/// The real paths of the library, each with its bytes.
pub(crate) type Library = BTreeMap<String, Vec<u8>>;

/// The kinds of origin, and of servers where a kind has more than one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A directory of this machine.
    Local,
    /// A directory that is mounted over a network.
    Nfs,
    /// A bucket of SeaweedFS.
    S3,
    /// A bucket of `rclone serve s3`.
    Sloppy,
    /// A directory of OpenSSH.
    Sftp,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format!("{self:?}").to_lowercase())
    }
}

/// The origin of one cell. The fields go in this order.
pub(crate) struct Site {
    cell: Cell,
    mounted: Option<NetworkMount>,
    line: Option<Proxy>,
    relay: Option<S3Proxy>,
    backend: Backend,
    /// The home, whose origin is the directory that is served, where there is one.
    pub(crate) home: Home,
    config: PathBuf,
}

/// Where the files lie.
enum Backend {
    Directory,
    Sftp(SftpServer),
    Bucket { server: Bucket, prefix: String },
}

enum Bucket {
    Shared(&'static S3Server),
    Own(S3Server),
    Sloppy(RcloneServer),
}

/// The library as it is at first: FLAC of noise, so that all bytes differ.
pub(crate) fn library() -> &'static Library {
    static LIBRARY: LazyLock<Library> = LazyLock::new(|| {
        let dir = tempfile::tempdir().unwrap();
        write_album(dir.path(), TRACKS, LIBRARY_MEGABYTES);
        let files = fs::read_dir(dir.path()).unwrap().map(|entry| {
            let entry = entry.unwrap();
            let name = format!("album/{}", entry.file_name().to_str().unwrap());
            (name, fs::read(entry.path()).unwrap())
        });
        files.collect()
    });
    &LIBRARY
}

impl Site {
    /// Puts the library where `cell` wants it.
    pub(crate) fn new(cell: Cell) -> Self {
        let home = Home::new();
        let backend = match cell.kind {
            Kind::Local => Backend::Directory,
            Kind::Nfs | Kind::Sftp => Backend::Sftp(SftpServer::start(&home.origin())),
            Kind::S3 | Kind::Sloppy => Backend::Bucket {
                server: match (cell.kind, cell.fault.is_of_the_process()) {
                    (Kind::Sloppy, _) => Bucket::Sloppy(RcloneServer::start()),
                    (_, true) => Bucket::Own(S3Server::start()),
                    (_, false) => Bucket::Shared(S3Server::shared()),
                },
                prefix: S3Server::fresh_prefix().trim_matches('/').to_owned(),
            },
        };
        let config = home.path("config.toml");
        let mut site = Self {
            cell,
            mounted: None,
            line: None,
            relay: None,
            backend,
            home,
            config,
        };
        for (name, bytes) in library() {
            site.put(name, bytes, AGE);
        }
        site.connect();
        fs::write(&site.config, site.config_text()).unwrap();
        site
    }

    /// The line to the server; `None` if there is none.
    pub(crate) fn line(&self) -> Option<&Proxy> {
        self.line.as_ref()
    }

    /// What stands behind the line where it leads to a service.
    pub(crate) fn relay(&self) -> Option<&S3Proxy> {
        self.relay.as_ref()
    }

    /// The server.
    pub(crate) fn server(&self) -> &dyn Breakable {
        match &self.backend {
            Backend::Directory => unreachable!("a directory has no server"),
            Backend::Sftp(server) => server,
            Backend::Bucket { server, .. } => match server {
                Bucket::Shared(_) => unreachable!("others use it"),
                Bucket::Own(server) => server,
                Bucket::Sloppy(server) => server,
            },
        }
    }

    /// Puts another content in the place of a file, at once.
    pub(crate) fn replace(&self, name: &str, bytes: &[u8]) {
        self.put(name, bytes, AGE_REPLACED);
    }

    /// Takes the directory away.
    pub(crate) fn hide_directory(&self) {
        fs::rename(self.home.origin(), self.home.path("hidden")).unwrap();
    }

    /// Brings it back.
    pub(crate) fn show_directory(&self) {
        fs::rename(self.home.path("hidden"), self.home.origin()).unwrap();
    }

    /// Mounts it and waits until it serves; what is indexed may still be nothing.
    pub(crate) fn mount(&self) -> Daemon {
        let access = format!("AWS_ACCESS_KEY_ID={ACCESS_KEY}");
        let secret = format!("AWS_SECRET_ACCESS_KEY={SECRET_KEY}");
        let mut args = vec!["--config", self.config.to_str().unwrap()];
        args.extend(["--cache-free-min", "0"]);
        if self.cell.fault.is_outage() {
            // So that what fails does so soon.
            args.extend(["--read-timeout-ms", "1000"]);
        }
        if self.cell.cache == Cache::Full {
            args.extend(["--cache-limit", FULL_BODIES, "--header-limit", FULL_HEADERS]);
        }
        let mount_point = self.home.mount_point();
        let wrapper = ["env", &access, &secret];
        let daemon = self.home.start_under(&wrapper, &mount_point, &args);
        daemon.wait_ready();
        daemon
    }

    fn put(&self, name: &str, bytes: &[u8], age: Duration) {
        match &self.backend {
            Backend::Directory | Backend::Sftp(_) => {
                let fresh = self.home.path("fresh");
                put_file(&self.home.origin().join(name), &fresh, bytes, age);
            }
            Backend::Bucket { server, prefix } => {
                server.client().put(&format!("{prefix}/{name}"), bytes);
            }
        }
    }

    /// Puts the line, and what a network mount needs beside it, between the server and the daemon.
    fn connect(&mut self) {
        let line = match &self.backend {
            Backend::Directory => return,
            Backend::Sftp(server) => {
                let line = Proxy::start(server.address());
                server.trust(line.port());
                line
            }
            Backend::Bucket { server, .. } => {
                let relay = S3Proxy::in_front_of(server.address(), server.client());
                let line = Proxy::start(relay.address());
                self.relay = Some(relay);
                line
            }
        };
        if let (Kind::Nfs, Backend::Sftp(server)) = (self.cell.kind, &self.backend) {
            let point = self.home.path("share");
            fs::create_dir(&point).unwrap();
            let mounted = NetworkMount::new(server, line.port(), &self.home.origin(), &point);
            self.mounted = Some(mounted);
        }
        self.line = Some(line);
    }

    fn config_text(&self) -> String {
        let port = self.line.as_ref().map_or(0, Proxy::port);
        let origin = self.home.origin();
        let place = match &self.backend {
            Backend::Directory => format!("type = \"local\"\npath = {origin:?}"),
            Backend::Sftp(_) if self.cell.kind == Kind::Nfs => {
                format!("type = \"nfs\"\npath = {:?}", self.home.path("share"))
            }
            Backend::Sftp(server) => format!(
                "type = \"sftp\"\nhost = \"127.0.0.1\"\nport = {port}\nuser = \"{USER}\"\n\
                 path = {origin:?}\nknown_hosts = {:?}\nkey_file = {:?}",
                server.known_hosts(),
                server.key_file()
            ),
            Backend::Bucket { prefix, .. } => format!(
                "type = \"s3\"\nbucket = \"{BUCKET}\"\nprefix = \"{prefix}\"\n\
                 endpoint = \"http://127.0.0.1:{port}\""
            ),
        };
        format!("[[origins]]\nid = \"site\"\n{place}\n")
    }
}

impl Bucket {
    fn client(&self) -> &S3Client {
        match self {
            Self::Shared(server) => server,
            Self::Own(server) => server,
            Self::Sloppy(server) => server,
        }
    }

    fn address(&self) -> std::net::SocketAddr {
        match self {
            Self::Shared(server) => server.address(),
            Self::Own(server) => server.address(),
            Self::Sloppy(server) => server.address(),
        }
    }
}

/// Writes a file at `fresh`, and puts it at once in the place of the one at `path`.
fn put_file(path: &Path, fresh: &Path, bytes: &[u8], age: Duration) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(fresh, bytes).unwrap();
    let file = File::options().write(true).open(fresh).unwrap();
    file.set_modified(SystemTime::now() - age).unwrap();
    fs::rename(fresh, path).unwrap();
}
