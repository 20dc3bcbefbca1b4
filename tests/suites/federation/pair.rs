//! One album on two real servers, and a daemon mounted on both.

use std::cell::Cell;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;

use musicfs_tests::daemon::{Daemon, Home};
use musicfs_tests::remote::{pairs, write_album};
use musicfs_tests::servers::Breakable;
use musicfs_tests::servers::s3::S3Server;
use musicfs_tests::servers::s3_client::{ACCESS_KEY, BUCKET, SECRET_KEY};
use musicfs_tests::servers::s3_proxy::S3Proxy;
use musicfs_tests::servers::sftp::{SftpServer, USER};
use musicfs_tests::{sh, tree, wait_until};

/// Tracks of the album, and its cover.
pub(crate) const FILES: usize = TRACKS + 1;
const TRACKS: usize = 3;
/// Large enough that a track is still on its way when its server stops.
const MEGABYTES: u64 = 48;

/// Where a copy lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// An S3 server of its own.
    S3,
    /// An SFTP server.
    Sftp,
    /// An SFTP server; the origin has the identity `album`.
    SftpWithIdentity,
    /// An SFTP server that computes MD5s, and an origin that asks it to.
    SftpWithHashes,
}

pub(crate) struct Pair {
    pub(crate) home: Home,
    pub(crate) servers: [Server; 2],
}

pub(crate) struct Server {
    kind: Kind,
    id: &'static str,
    /// What the origin is asked before the other.
    priority: u32,
    indexed: Cell<u64>,
}

enum Kind {
    S3 {
        server: S3Server,
        proxy: S3Proxy,
    },
    Sftp {
        server: SftpServer,
        root: PathBuf,
        /// Further keys of its configuration.
        more: &'static str,
    },
}

/// Traffic of a port is dropped until this is.
pub(crate) struct Dropped(String);

impl Drop for Dropped {
    fn drop(&mut self) {
        sh(&format!("nft delete table inet {}", self.0));
    }
}

impl Server {
    fn start(home: &Home, number: usize, place: Place) -> Self {
        let kind = match place {
            Place::S3 => {
                let server = S3Server::start();
                for file in tree::files(&home.origin()) {
                    server.put(
                        &format!("m/{file}"),
                        &fs::read(home.origin().join(&file)).unwrap(),
                    );
                }
                let proxy = S3Proxy::start(&server);
                Kind::S3 { server, proxy }
            }
            Place::Sftp | Place::SftpWithIdentity | Place::SftpWithHashes => {
                let root = home.path(&format!("copy-{number}"));
                sh(&format!("cp -a {:?} {root:?}", home.origin()));
                Kind::Sftp {
                    server: SftpServer::start_with_commands(&root),
                    root,
                    more: match place {
                        Place::SftpWithIdentity => "identity = \"album\"\n",
                        Place::SftpWithHashes => "hash_command = \"md5sum\"\n",
                        _ => "",
                    },
                }
            }
        };
        Self {
            kind,
            id: ["first", "second"][number],
            priority: [10, 20][number],
            indexed: Cell::new(0),
        }
    }

    pub(crate) fn content_bytes(&self) -> u64 {
        match &self.kind {
            Kind::S3 { proxy, .. } => proxy.content_bytes(),
            Kind::Sftp { server, .. } => server.content_bytes(),
        }
    }

    /// The process, to be stopped and started again.
    pub(crate) fn process(&self) -> &dyn Breakable {
        match &self.kind {
            Kind::S3 { server, .. } => server,
            Kind::Sftp { server, .. } => server,
        }
    }

    /// No packet to it or from it arrives any more.
    pub(crate) fn drop_packets(&self) -> Dropped {
        let port = match &self.kind {
            Kind::S3 { proxy, .. } => proxy.address().port(),
            Kind::Sftp { server, .. } => server.port(),
        };
        let table = format!("musicfs_test_{}_{port}", process::id());
        sh(&format!(
            "nft 'add table inet {table}; \
              add chain inet {table} input {{ type filter hook input priority 0; }}; \
              add rule inet {table} input tcp dport {port} drop; \
              add rule inet {table} input tcp sport {port} drop'"
        ));
        Dropped(table)
    }

    fn write_config(&self, text: &mut String) {
        let (id, priority) = (self.id, self.priority);
        write!(text, "\n[[origins]]\nid = {id:?}\npriority = {priority}\n").unwrap();
        match &self.kind {
            Kind::S3 { proxy, .. } => {
                let endpoint = proxy.endpoint();
                write!(
                    text,
                    "type = \"s3\"\nbucket = {BUCKET:?}\nprefix = \"m\"\nendpoint = {endpoint:?}\n"
                )
                .unwrap();
            }
            Kind::Sftp { server, root, more } => {
                let (port, known_hosts) = (server.port(), server.known_hosts());
                let key_file = server.key_file();
                write!(
                    text,
                    "type = \"sftp\"\nhost = \"127.0.0.1\"\nport = {port}\nuser = {USER:?}\n\
                     path = {root:?}\nknown_hosts = {known_hosts:?}\nkey_file = {key_file:?}\n"
                )
                .unwrap();
                text.push_str(more);
            }
        }
    }
}

impl Pair {
    /// Copies an album with a cover to both places; the first is asked first.
    pub(crate) fn new(places: [Place; 2]) -> Self {
        let home = Home::new();
        let dir = home.origin().join("album");
        write_album(&dir, TRACKS, MEGABYTES);
        fs::write(dir.join("cover.jpg"), vec![7; 50_000]).unwrap();
        // What is younger than two seconds is not indexed at once.
        sh(&format!(
            "find {:?} -exec touch -h -d '-1 hour' {{}} +",
            home.origin()
        ));
        let [first, second] = places;
        let servers = [
            Server::start(&home, 0, first),
            Server::start(&home, 1, second),
        ];
        let pair = Self { home, servers };
        pair.configure(&[0, 1]);
        pair
    }

    fn config(&self) -> PathBuf {
        self.home.path("config.toml")
    }

    /// Writes the configuration, with these of the two origins.
    pub(crate) fn configure(&self, origins: &[usize]) {
        let mut text = String::from("cache_free_min = \"0\"\nread_timeout_ms = 8000\n");
        for &origin in origins {
            self.servers[origin].write_config(&mut text);
        }
        fs::write(self.config(), text).unwrap();
    }

    /// Mounts, and waits until the daemon is ready.
    pub(crate) fn mount(&self) -> Daemon {
        let access = format!("AWS_ACCESS_KEY_ID={ACCESS_KEY}");
        let secret = format!("AWS_SECRET_ACCESS_KEY={SECRET_KEY}");
        let wrapper = ["env", &access, &secret];
        let mount_point = self.home.mount_point();
        let config = self.config();
        let args = ["--config", config.to_str().unwrap()];
        let daemon = self.home.start_under(&wrapper, &mount_point, &args);
        daemon.wait_ready();
        daemon
    }

    /// Mounts, and waits until both origins have been scanned and their copies are one.
    pub(crate) fn mount_scanned(&self) -> Daemon {
        let daemon = self.mount();
        daemon.wait_scanned(2);
        wait_until("the copies to be one", || {
            tree::files(daemon.mount_point()).len() == FILES
        });
        self.note_indexed();
        daemon
    }

    pub(crate) fn note_indexed(&self) {
        for server in &self.servers {
            server.indexed.set(server.content_bytes());
        }
    }

    /// Content bytes that a server had sent when it had been indexed.
    pub(crate) fn indexed(&self, server: usize) -> u64 {
        self.servers[server].indexed.get()
    }

    /// True once the daemon knows that the tracks are equal, or needs no proof.
    pub(crate) fn are_proven(&self) -> bool {
        if tree::files(&self.home.mount_point()).len() != FILES {
            return false;
        }
        let is_bucket = |server: &&Server| matches!(server.kind, Kind::S3 { .. });
        let hashes = |server: &&Server| matches!(&server.kind, Kind::Sftp { more, .. } if more.contains("hash"));
        let index = self.home.state().join("metadata.db");
        let index = rusqlite::Connection::open(index).unwrap();
        let count = |sql| -> i64 { index.query_row(sql, [], |row| row.get(0)).unwrap() };
        let buckets = count("SELECT COUNT(*) FROM origins WHERE etag_is_md5 = 1");
        let hashed = count(
            "SELECT COUNT(*) FROM files f JOIN origins o ON o.id = f.origin_id
             WHERE md5 IS NOT NULL AND o.kind = 'sftp'",
        );
        let buckets_wanted = self.servers.iter().filter(is_bucket).count();
        let hashed_wanted = self.servers.iter().filter(hashes).count() * FILES;
        (buckets, hashed) == (buckets_wanted as i64, hashed_wanted as i64)
    }

    /// A track of the mount by its number, with its original.
    pub(crate) fn track(&self, number: usize) -> (PathBuf, PathBuf) {
        let original = Path::new("album").join(format!("{number}.flac"));
        let mut pairs = pairs(&self.home).into_iter();
        let pair = pairs.find(|(_, real)| real.ends_with(&original));
        pair.expect("the track is in the tree")
    }
}
