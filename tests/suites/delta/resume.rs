//! Scans that are interrupted, and one that is quicker than the cache.

use std::time::Duration;

use musicfs_tests::bulk;
use musicfs_tests::servers::s3_client::{ACCESS_KEY, SECRET_KEY};
use musicfs_tests::servers::s3_proxy::{S3Fault, S3Kind, S3Proxy, When};

use super::*;

/// Files of a few KB: one request each.
const FILES: usize = 400;

/// Requests under way at once, as the scan makes them, take so long: what a kill can lose is the
/// files of a fraction of a second, a few dozen then.
const DELAY: Duration = Duration::from_millis(100);

/// Files that a kill may lose: those on their way (16), those that wait for 100 ms to be committed
/// together, those in a commit. Each of these is the work of a round of requests or two.
const LOST_MAX: u64 = 100;

fn proxy(remote: &Remote) -> &S3Proxy {
    match &remote.server {
        Server::S3 { proxy, .. } => proxy,
        Server::Sftp(_) => panic!("there is no proxy"),
    }
}

#[test]
fn a_killed_scan_goes_on_where_it_was() {
    let home = Home::new();
    bulk::make_library(&home.origin(), FILES).unwrap();
    let remote = Remote::s3(home);
    let proxy = proxy(&remote);
    proxy.inject(When::all(S3Kind::Get), S3Fault::Delay(DELAY));
    let daemon = remote.mount(&[]);
    let files = FILES as u64;
    wait_until("half of the scan", || proxy.counts().gets >= files / 2);
    daemon.kill();
    let gets = proxy.counts().gets;
    assert!(gets < files, "it was not killed in the middle: {gets}");
    eprintln!("killed after {gets} requests");
    let daemon = remote.mount_scanned(&[]);
    assert_eq!(tree::files(daemon.mount_point()).len(), FILES);
    let gets = proxy.counts().gets;
    eprintln!("done after {gets} requests");
    assert!(gets >= files, "a file without a request");
    assert!(
        gets <= files + LOST_MAX,
        "{gets} requests for {files} files"
    );
    daemon.stop_expecting(&["removed a mount"]);
}

/// Writing takes so long that the cache is not ready when the scan could read.
#[test]
fn a_scan_that_is_quicker_than_the_cache_loses_no_header() {
    let (home, file) = flac();
    let remote = Remote::s3(home);
    let (access, secret) = (
        format!("AWS_ACCESS_KEY_ID={ACCESS_KEY}"),
        format!("AWS_SECRET_ACCESS_KEY={SECRET_KEY}"),
    );
    let calls = "fsync,fdatasync,pwrite64";
    let (trace, inject) = (
        format!("trace={calls}"),
        format!("inject={calls}:delay_enter=50000"),
    );
    // It watches from behind: the daemon stays this program's child.
    let wrapper = [
        "env",
        &access,
        &secret,
        "strace",
        "-D",
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        &trace,
        "-e",
        &inject,
    ];
    let url = remote.url();
    let args = ["--origin", &url, "--cache-free-min", "0"];
    let mount_point = remote.home.mount_point();
    let daemon = remote.home.start_under(&wrapper, &mount_point, &args);
    daemon.wait_scanned(1);
    let scanned = remote.content_bytes();
    let shown = mount_point.join(&tree::files(&mount_point)[0]);
    let mut front = vec![0; 65_536];
    let read = fs::File::open(&shown).unwrap();
    rustix::fs::fadvise(&read, 0, None, rustix::fs::Advice::Random).unwrap();
    read.read_exact_at(&mut front, 0).unwrap();
    let original = fs::read(remote.home.origin().join(file)).unwrap();
    assert!(front == original[..front.len()]);
    assert_eq!(remote.content_bytes(), scanned, "the header was lost");
    drop(read);
    daemon.stop();
}
