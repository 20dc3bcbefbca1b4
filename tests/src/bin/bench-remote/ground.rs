//! What all systems stand on: the same files, on the same servers, behind the same shaped lines.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use musicfs_tests::bulk::make_library;
use musicfs_tests::remote::write_album;
use musicfs_tests::servers::proxy::{Proxy, Shape};
use musicfs_tests::servers::redis::RedisServer;
use musicfs_tests::servers::s3::S3Server;
use musicfs_tests::servers::sftp::SftpServer;
use musicfs_tests::{knob, sh, tree};
use tempfile::TempDir;

/// Where the files lie in the bucket.
pub(crate) const PREFIX: &str = "library";
/// How many files are put into the bucket at once.
const PUTS_AT_ONCE: usize = 256;
/// Traffic that stands still for so long has ended.
const STILL: Duration = Duration::from_millis(400);
/// Traffic that goes on for longer is not waited for: a mount that fetches for ever.
const STILL_WAIT_MAX: Duration = Duration::from_secs(60);

/// The servers, and the files that they serve.
pub(crate) struct Ground {
    dir: TempDir,
    /// The originals: what SFTP serves, and the plain filesystem of the comparison.
    pub(crate) origin: PathBuf,
    /// Real paths of an album of large files, in order.
    pub(crate) album: Vec<String>,
    /// Real paths of small files, those that are scanned for tags.
    pub(crate) small: Vec<String>,
    /// All files of the library.
    pub(crate) files_count: usize,
    pub(crate) sftp: SftpServer,
    pub(crate) s3_line: Proxy,
    pub(crate) sftp_line: Proxy,
    pub(crate) meta_line: Proxy,
    _s3: S3Server,
    _redis: RedisServer,
}

/// How fast the lines are.
#[derive(Clone, Copy)]
pub(crate) enum Line {
    Free,
    /// 100 Mbit/s.
    Slow,
    /// 100 Mbit/s, and 20 ms each way.
    Long,
}

impl Line {
    /// What a shaped line carries.
    pub(crate) const BYTES_PER_S: u64 = 100_000_000 / 8;

    fn shape(self) -> Shape {
        let delay_ms = match self {
            Self::Free => return Shape::default(),
            Self::Slow => 0,
            Self::Long => 20,
        };
        Shape {
            rate_bytes_per_s: Some(Self::BYTES_PER_S),
            delay_each_way: Duration::from_millis(delay_ms),
        }
    }
}

impl Ground {
    /// Makes the files and starts the servers.
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("musicfs-bench-").tempdir();
        let dir = dir.unwrap();
        let origin = dir.path().join("origin");
        let tracks = usize::try_from(knob("MUSICFS_BENCH_TRACKS", 12)).unwrap();
        let files = usize::try_from(knob("MUSICFS_BENCH_FILES", 4000)).unwrap();
        let scanned = usize::try_from(knob("MUSICFS_BENCH_SCANNED", 600)).unwrap();
        let megabytes = knob("MUSICFS_BENCH_TRACK_MB", 25) * tracks as u64;
        write_album(&origin.join("album"), tracks, megabytes);
        make_library(&origin.join("small"), files).unwrap();
        sh(&format!(
            "find {origin:?} -exec touch -d '-1 hour' {{}} + && sync"
        ));
        let all = tree::files(&origin);
        let s3 = S3Server::start();
        upload(&s3, &origin, &all);
        let sftp = SftpServer::start(&origin);
        let redis = RedisServer::start();
        let (s3_line, sftp_line) = (Proxy::start(s3.address()), Proxy::start(sftp.address()));
        sftp.trust(sftp_line.port());
        let small = all.iter().filter(|file| file.starts_with("small/"));
        Self {
            album: (1..=tracks)
                .map(|track| format!("album/{track}.flac"))
                .collect(),
            small: small.take(scanned).cloned().collect(),
            files_count: all.len(),
            meta_line: Proxy::start(redis.address()),
            dir,
            origin,
            sftp,
            s3_line,
            sftp_line,
            _s3: s3,
            _redis: redis,
        }
    }

    /// A path beside the files.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Changes all lines.
    pub(crate) fn set_line(&self, line: Line) {
        for proxy in [&self.s3_line, &self.sftp_line, &self.meta_line] {
            proxy.set_shape(line.shape());
        }
    }

    /// Bytes that came from all servers until now.
    pub(crate) fn traffic(&self) -> u64 {
        let lines = [&self.s3_line, &self.sftp_line, &self.meta_line];
        lines.into_iter().map(Proxy::bytes_down).sum()
    }

    /// Waits until nothing comes any more; bytes that came from all servers until then.
    pub(crate) fn settled_traffic(&self) -> u64 {
        let started = Instant::now();
        let mut last = (self.traffic(), Instant::now());
        while last.1.elapsed() < STILL && started.elapsed() < STILL_WAIT_MAX {
            std::thread::sleep(Duration::from_millis(20));
            let now = self.traffic();
            // A keep-alive is no traffic.
            if now > last.0 + 1024 {
                last = (now, Instant::now());
            }
        }
        self.traffic()
    }
}

fn upload(server: &S3Server, origin: &Path, files: &[String]) {
    for some in files.chunks(PUTS_AT_ONCE) {
        let read = |file: &String| {
            let bytes = fs::read(origin.join(file)).unwrap();
            (format!("{PREFIX}/{file}"), bytes)
        };
        let (large, small): (Vec<&String>, Vec<&String>) =
            some.iter().partition(|file| file.starts_with("album/"));
        server.put_all(small.into_iter().map(read).collect());
        for file in large {
            server.put_file(&format!("{PREFIX}/{file}"), &origin.join(file));
        }
    }
}
