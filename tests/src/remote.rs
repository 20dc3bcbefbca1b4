//! A library on a real remote server, and the daemon mounted on it.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::daemon::{Daemon, Home};
use crate::host::Host;
use crate::servers::Breakable;
use crate::servers::s3::S3Server;
use crate::servers::s3_client::{ACCESS_KEY, BUCKET, SECRET_KEY};
use crate::servers::s3_proxy::S3Proxy;
use crate::servers::sftp::{SftpServer, USER};
use crate::{Random, sh, tree};

/// A home whose origin's files lie on a server. The directory stays as the reference.
pub struct Remote {
    /// The home; [`Home::origin`] holds the originals.
    pub home: Home,
    /// The server.
    pub server: Server,
}

/// What serves the files, and counts what it sends of them.
pub enum Server {
    /// SeaweedFS behind a proxy that counts.
    S3 {
        /// The proxy.
        proxy: S3Proxy,
        /// Where the files lie in the bucket.
        prefix: String,
        /// The server, unless it is the one that tests share.
        own: Option<Box<S3Server>>,
    },
    /// OpenSSH, which serves the reference itself.
    Sftp(SftpServer),
}

impl Remote {
    /// Puts the home's files on an S3 server.
    pub fn s3(home: Home) -> Self {
        Self::s3_by(home, None)
    }

    /// Puts them on an S3 server of its own, on another host than this machine.
    pub fn s3_on(host: &Host, home: Home) -> Self {
        Self::s3_by(home, Some(Box::new(S3Server::start_on(host))))
    }

    fn s3_by(home: Home, own: Option<Box<S3Server>>) -> Self {
        let prefix = S3Server::fresh_prefix().trim_matches('/').to_owned();
        let proxy = S3Proxy::start(bucket(own.as_deref()));
        let remote = Self {
            home,
            server: Server::S3 { proxy, prefix, own },
        };
        for file in tree::files(&remote.home.origin()) {
            remote.upload(&file);
        }
        remote
    }

    /// Serves the home's files by SFTP.
    pub fn sftp(home: Home) -> Self {
        Self::sftp_by(home, SftpServer::start)
    }

    /// The same on another host than this machine.
    pub fn sftp_on(host: &Host, home: Home) -> Self {
        Self::sftp_by(home, |root| SftpServer::start_on(host, root))
    }

    /// The same, with checksums that the server computes.
    pub fn sftp_hashing(home: Home) -> Self {
        Self::sftp_by(home, SftpServer::start_with_commands)
    }

    fn sftp_by(home: Home, start: impl FnOnce(&Path) -> SftpServer) -> Self {
        // What is younger than two seconds is not indexed at once.
        sh(&format!(
            "find {:?} -exec touch -h -d '-1 hour' {{}} +",
            home.origin()
        ));
        let server = Server::Sftp(start(&home.origin()));
        Self { home, server }
    }

    /// Copies one file of the reference to an S3 server; there is nothing to do for SFTP.
    pub fn upload(&self, file: &str) {
        if let Server::S3 { prefix, own, .. } = &self.server {
            let key = format!("{prefix}/{file}");
            let bytes = fs::read(self.home.origin().join(file)).unwrap();
            bucket(own.as_deref()).put(&key, &bytes);
        }
    }

    /// The origin's URL.
    pub fn url(&self) -> String {
        match &self.server {
            Server::S3 { proxy, prefix, .. } => {
                format!("s3://{BUCKET}/{prefix}?endpoint={}", proxy.endpoint())
            }
            Server::Sftp(server) => format!(
                "sftp://{USER}@{}{}?known_hosts={}&key_file={}{}",
                server.address(),
                self.home.origin().display(),
                server.known_hosts().display(),
                server.key_file().display(),
                match server.runs_commands() {
                    true => "&hash_command=md5sum",
                    false => "",
                }
            ),
        }
    }

    /// Bytes of files that the server has sent.
    pub fn content_bytes(&self) -> u64 {
        match &self.server {
            Server::S3 { proxy, .. } => proxy.content_bytes(),
            Server::Sftp(server) => server.content_bytes(),
        }
    }

    /// The same for one client.
    pub fn content_bytes_to(&self, client: IpAddr) -> u64 {
        match &self.server {
            Server::S3 { proxy, .. } => proxy.content_bytes_to(client),
            Server::Sftp(server) => server.content_bytes_to(client),
        }
    }

    /// The server's process.
    ///
    /// # Panics
    /// If other tests use it too.
    pub fn process(&self) -> &dyn Breakable {
        match &self.server {
            Server::S3 { own, .. } => own.as_deref().expect("the server is of this test alone"),
            Server::Sftp(server) => server,
        }
    }

    /// Mounts it and waits until it is ready.
    pub fn mount(&self, more: &[&str]) -> Daemon {
        self.mount_in(&self.home, more)
    }

    /// Mounts it in another home, whose own origin is not used, and waits until it is ready.
    pub fn mount_in(&self, home: &Home, more: &[&str]) -> Daemon {
        self.mount_under(home, &[], more)
    }

    /// The same through a program that becomes the daemon.
    pub fn mount_under(&self, home: &Home, wrapper: &[&str], more: &[&str]) -> Daemon {
        let url = self.url();
        let access = format!("AWS_ACCESS_KEY_ID={ACCESS_KEY}");
        let secret = format!("AWS_SECRET_ACCESS_KEY={SECRET_KEY}");
        let wrapper = [&["env", &access, &secret], wrapper].concat();
        let mut args = vec!["--origin", &url, "--cache-free-min", "0"];
        args.extend(more);
        let daemon = home.start_under(&wrapper, &home.mount_point(), &args);
        daemon.wait_ready();
        daemon
    }

    /// Mounts it and waits until it has been scanned.
    pub fn mount_scanned(&self, more: &[&str]) -> Daemon {
        let daemon = self.mount(more);
        daemon.wait_scanned(1);
        daemon
    }

    /// Each file of the mount with its original.
    pub fn pairs(&self) -> Vec<(PathBuf, PathBuf)> {
        pairs(&self.home)
    }

    /// The same for another home that it is mounted in.
    pub fn pairs_in(&self, home: &Home) -> Vec<(PathBuf, PathBuf)> {
        pairs_in(home, &self.home.origin())
    }
}

fn bucket(own: Option<&S3Server>) -> &S3Server {
    own.unwrap_or_else(|| S3Server::shared())
}

/// Each file of a home's mount with its original, the file of the same real path in its origin.
pub fn pairs(home: &Home) -> Vec<(PathBuf, PathBuf)> {
    pairs_in(home, &home.origin())
}

/// The same where the originals lie elsewhere.
pub fn pairs_in(home: &Home, origin: &Path) -> Vec<(PathBuf, PathBuf)> {
    let mount = home.mount_point();
    let real = tree::real_paths(&mount).into_iter();
    let pair = |(path, real): (String, String)| (mount.join(path), origin.join(real));
    real.map(pair).collect()
}

/// Fills `dir` with an album of `megabytes`: FLAC of noise, which no encoder makes smaller.
pub fn write_album(dir: &Path, tracks: usize, megabytes: u64) {
    fs::create_dir_all(dir).unwrap();
    // Noise in 16 bit stereo, as sox makes it, takes about 96 KB a second.
    let seconds = megabytes * 1_000_000 / 96_000 / tracks as u64 + 1;
    // The noise is the same each time: a track begins a second later than the one before.
    let longer = seconds + tracks as u64;
    for track in 1..=tracks {
        sh(&format!(
            "sox -R -n -r 44100 -b 16 -c 2 {dir:?}/{track}.flac synth {longer} whitenoise \
             trim {track} {seconds}; \
             metaflac --set-tag=ARTIST=Noise --set-tag=ALBUM=Album --set-tag=TITLE=Track{track} \
             --set-tag=TRACKNUMBER={track} {dir:?}/{track}.flac"
        ));
    }
}

/// Reads all files in pieces of random size and order, and compares them with their originals.
pub fn read_in_random_order(pairs: &[(PathBuf, PathBuf)], seed: u64) {
    use std::os::unix::fs::FileExt;
    let mut random = Random(seed);
    let mut pieces = Vec::new();
    for (number, (_, original)) in pairs.iter().enumerate() {
        let size = fs::metadata(original).unwrap().len();
        let mut at = 0;
        while at < size {
            let len = 1 + random.number() % 300_000;
            pieces.push((number, at, len.min(size - at)));
            at += len;
        }
    }
    for at in (1..pieces.len()).rev() {
        pieces.swap(at, random.below(at + 1));
    }
    let open = |path: &PathBuf| fs::File::open(path).unwrap();
    let files: Vec<_> = pairs
        .iter()
        .map(|(file, original)| (open(file), open(original)))
        .collect();
    for (number, at, len) in pieces {
        let mut got = vec![0; usize::try_from(len).unwrap()];
        let mut expected = got.clone();
        let (file, original) = &files[number];
        file.read_exact_at(&mut got, at).unwrap();
        original.read_exact_at(&mut expected, at).unwrap();
        assert!(got == expected, "{:?} at {at}", pairs[number].0);
    }
}
