//! Benchmarks of remote libraries: the first bytes of a cold file and a seek into one, over S3 and
//! SFTP, beside one bare ranged GET and sshfs, in turns, on the same servers and the same line.
//!
//! Usage: `bench-remote`, as root. `MUSICFS_BIN` is the binary; `tests/run.sh` installs the servers.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot measure ends")]

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use musicfs_tests::daemon::{Daemon, Home};
use musicfs_tests::remote::write_album;
use musicfs_tests::servers::proxy::{Proxy, Shape};
use musicfs_tests::servers::s3::S3Server;
use musicfs_tests::servers::s3_client::{ACCESS_KEY, BUCKET, S3Client, SECRET_KEY};
use musicfs_tests::servers::sftp::{SftpServer, USER};
use musicfs_tests::{sh, tree};

/// Cold files: half of them are read at their front, half in their middle.
const TRACKS: usize = 16;
/// What is read at once.
const READ_BYTES: usize = 64 << 10;
/// Where the seeks go: not a multiple of a block.
const SEEK_OFFSET: u64 = 1_000_001;

fn main() {
    let lines = [
        ("free", Shape::default()),
        ("100 Mbit/s", shape(Duration::ZERO)),
        (
            "100 Mbit/s, 20 ms each way",
            shape(Duration::from_millis(20)),
        ),
    ];
    let home = Home::new();
    write_album(&home.origin().join("album"), TRACKS, 2 * TRACKS as u64);
    sh(&format!(
        "find {:?} -exec touch -d '-1 hour' {{}} +",
        home.origin()
    ));
    println!(
        "| line | read | beside | theirs, ms | musicfs, ms | ratio |\n|---|---|---|---|---|---|"
    );
    s3(&home, &lines);
    sftp(&home, &lines);
}

fn shape(delay_each_way: Duration) -> Shape {
    Shape {
        rate_bytes_per_s: Some(100_000_000 / 8),
        delay_each_way,
    }
}

fn s3(home: &Home, lines: &[(&str, Shape)]) {
    let server = S3Server::shared();
    let prefix = S3Server::fresh_prefix().trim_matches('/').to_owned();
    for file in tree::files(&home.origin()) {
        let bytes = fs::read(home.origin().join(&file)).unwrap();
        server.put(&format!("{prefix}/{file}"), &bytes);
    }
    let proxy = Proxy::start(server.address());
    let endpoint = format!("http://{}", proxy.address());
    let client = S3Client::new(&endpoint);
    let url = format!("s3://{BUCKET}/{prefix}?endpoint={endpoint}");
    for (line, shape) in lines {
        proxy.set_shape(Shape::default());
        let daemon = mount(home, &url);
        let files = tracks(&daemon);
        proxy.set_shape(*shape);
        for (what, offset, tracks) in reads() {
            let mut times = [Vec::new(), Vec::new()];
            for track in tracks {
                let key = format!("{prefix}/album/{}.flac", track + 1);
                let range = offset..offset + READ_BYTES as u64;
                times[0].push(timed(|| drop(client.get_range(&key, range).unwrap())));
                times[1].push(timed(|| read(&files[track], offset)));
            }
            row(line, what, "S3: bare GET", times);
        }
        daemon.stop();
    }
}

fn sftp(home: &Home, lines: &[(&str, Shape)]) {
    let server = SftpServer::start(&home.origin());
    let proxy = Proxy::start(server.address());
    server.trust(proxy.port());
    let url = format!(
        "sftp://{USER}@127.0.0.1:{}{}?known_hosts={}&key_file={}",
        proxy.port(),
        home.origin().display(),
        server.known_hosts().display(),
        server.key_file().display()
    );
    let peer = home.path("sshfs");
    fs::create_dir(&peer).unwrap();
    for (line, shape) in lines {
        proxy.set_shape(Shape::default());
        let daemon = mount(home, &url);
        let files = tracks(&daemon);
        sh(&format!(
            "sshfs -p {} -o IdentityFile={:?},UserKnownHostsFile={:?} {USER}@127.0.0.1:{:?} {peer:?}",
            proxy.port(),
            server.key_file(),
            server.known_hosts(),
            home.origin()
        ));
        proxy.set_shape(*shape);
        for (what, offset, tracks) in reads() {
            let mut times = [Vec::new(), Vec::new()];
            for track in tracks {
                let theirs = peer.join(format!("album/{}.flac", track + 1));
                times[0].push(timed(|| read(&theirs, offset)));
                times[1].push(timed(|| read(&files[track], offset)));
            }
            row(line, what, "SFTP: sshfs", times);
        }
        sh(&format!("fusermount3 -u {peer:?}"));
        daemon.stop();
    }
}

/// What is read: its name, the offset, and in which tracks.
fn reads() -> [(&'static str, u64, std::ops::Range<usize>); 2] {
    [
        ("first 64 KiB", 0, 0..TRACKS / 2),
        ("64 KiB in the middle", SEEK_OFFSET, TRACKS / 2..TRACKS),
    ]
}

/// Mounts, waits for the index, and empties the cache.
fn mount(home: &Home, url: &str) -> Daemon {
    let access = format!("AWS_ACCESS_KEY_ID={ACCESS_KEY}");
    let secret = format!("AWS_SECRET_ACCESS_KEY={SECRET_KEY}");
    let wrapper = ["env", &access, &secret];
    let daemon = home.start_under(&wrapper, &home.mount_point(), &["--origin", url]);
    let (ready, _) = daemon.wait_for_log("ready instance=");
    assert!(ready, "{}", daemon.log());
    daemon.wait_scanned(1);
    assert!(home.run(&["cache", "clear"]).status.success());
    daemon
}

/// The tracks of the album, by number.
fn tracks(daemon: &Daemon) -> Vec<PathBuf> {
    let mount = daemon.mount_point();
    let real = tree::real_paths(mount);
    let find = |track: usize| {
        let wanted = format!("album/{}.flac", track + 1);
        let (path, _) = real.iter().find(|(_, real)| **real == wanted).unwrap();
        mount.join(path)
    };
    (0..TRACKS).map(find).collect()
}

fn read(file: &Path, offset: u64) {
    let mut bytes = vec![0; READ_BYTES];
    let file = File::open(file).unwrap();
    file.read_exact_at(&mut bytes, offset).unwrap();
}

fn timed(work: impl FnOnce()) -> f64 {
    let started = Instant::now();
    work();
    started.elapsed().as_secs_f64() * 1e3
}

fn row(line: &str, what: &str, beside: &str, times: [Vec<f64>; 2]) {
    let [theirs, ours] = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    });
    println!(
        "| {line} | {what} | {beside} | {theirs:.1} | {ours:.1} | {:.2} |",
        ours / theirs
    );
}
