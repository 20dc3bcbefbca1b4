//! Libraries on real S3 and SFTP servers, on the real mount.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail like tests")]

#[path = "remote/control.rs"]
mod control;
#[path = "remote/kills.rs"]
mod kills;
#[path = "remote/limits.rs"]
mod limits;
#[path = "remote/trouble.rs"]
mod trouble;

use std::fs;
use std::os::unix::fs::FileExt;

use musicfs_tests::daemon::Home;
use musicfs_tests::mpd::Mpd;
use musicfs_tests::remote::{Remote, read_in_random_order, write_album};
use musicfs_tests::{corpus, knob, sh, tree, wait_until};

/// Tracks of the album.
const TRACKS: usize = 6;

fn album() -> Home {
    let home = Home::new();
    let megabytes = knob("MUSICFS_ALBUM_MB", 12);
    write_album(&home.origin().join("album"), TRACKS, megabytes);
    home
}

fn album_bytes(remote: &Remote) -> u64 {
    let origin = remote.home.origin();
    let size = |file: String| fs::metadata(origin.join(file)).unwrap().len();
    tree::files(&origin).into_iter().map(size).sum()
}

/// Four readers at once, each in an order of its own.
fn read_by_four(remote: &Remote) {
    let pairs = remote.pairs();
    assert_eq!(pairs.len(), TRACKS);
    std::thread::scope(|scope| {
        for seed in 1..=4 {
            let pairs = &pairs;
            scope.spawn(move || read_in_random_order(pairs, seed));
        }
    });
}

/// Has four readers read an album that is not cached; gives what that brought. In a large one some of
/// them seem to read in sequence for a moment: what was being read ahead when they went elsewhere is
/// thrown away, and comes again.
fn fetch_by_four(remote: &Remote) -> u64 {
    read_by_four(remote);
    let (fetched, bytes) = (remote.content_bytes(), album_bytes(remote));
    assert!(fetched >= bytes, "{fetched} of {bytes}");
    let surplus = fetched - bytes;
    assert!(surplus <= bytes / 500, "{surplus} of {bytes} came twice");
    fetched
}

fn is_read_from_the_origin_once(remote: &Remote) {
    let daemon = remote.mount_scanned(&[]);
    let bytes = fetch_by_four(remote);
    daemon.stop();
    let daemon = remote.mount_scanned(&[]);
    read_by_four(remote);
    assert_eq!(remote.content_bytes(), bytes, "after a restart");
    // What was read longer ago than the store waits is durable.
    std::thread::sleep(std::time::Duration::from_secs(1));
    daemon.kill();
    let daemon = remote.mount_scanned(&[]);
    read_by_four(remote);
    assert_eq!(remote.content_bytes(), bytes, "after a kill");
    daemon.stop_expecting(&["removed a mount"]);
}

#[test]
fn an_album_on_s3_is_read_from_the_origin_once() {
    is_read_from_the_origin_once(&Remote::s3(album()));
}

#[test]
fn an_album_on_sftp_is_read_from_the_origin_once() {
    is_read_from_the_origin_once(&Remote::sftp(album()));
}

#[test]
fn what_was_fetched_a_second_before_a_kill_is_not_fetched_again() {
    let remote = Remote::s3(album());
    let daemon = remote.mount_scanned(&[]);
    let bytes = fetch_by_four(&remote);
    std::thread::sleep(std::time::Duration::from_secs(1));
    daemon.kill();
    let daemon = remote.mount_scanned(&[]);
    read_by_four(&remote);
    assert_eq!(remote.content_bytes(), bytes);
    daemon.stop_expecting(&["removed a mount"]);
}

fn a_scan_costs_the_origin_nothing(remote: &Remote) {
    let daemon = remote.mount_scanned(&[]);
    let mount = daemon.mount_point();
    let indexed = remote.content_bytes();
    let audio = r"\( -name '*.flac' -o -name '*.mp3' -o -name '*.ogg' -o -name '*.opus' \
                  -o -name '*.m4a' -o -name '*.wav' -o -name '*.aiff' \)";
    let probed = sh(&format!(
        "cd {mount:?}; find . {audio} -print0 | xargs -0 -n1 ffprobe -v error -of csv=p=0 \
         -show_entries format=duration"
    ));
    assert_eq!(probed.lines().count(), corpus::TRACKS.len());
    let script = "import sys, mutagen\n\
                  for path in sys.argv[1:]:\n    print(mutagen.File(path, easy=True).info.length)";
    let probe = remote.home.path("probe.py");
    fs::write(&probe, script).unwrap();
    let read = sh(&format!(
        "cd {mount:?}; find . {audio} -print0 | xargs -0 /usr/bin/python3 {probe:?}"
    ));
    assert_eq!(read.lines().count(), corpus::TRACKS.len());
    assert_eq!(remote.content_bytes(), indexed);
    daemon.stop();
}

#[test]
fn the_first_scan_of_an_s3_library_by_others_costs_the_origin_nothing() {
    a_scan_costs_the_origin_nothing(&Remote::s3(Home::with_music()));
}

#[test]
fn the_first_scan_of_an_sftp_library_by_others_costs_the_origin_nothing() {
    a_scan_costs_the_origin_nothing(&Remote::sftp(Home::with_music()));
}

#[test]
fn the_first_scan_by_mpd_costs_the_origin_nothing() {
    let remote = Remote::s3(Home::with_music());
    let daemon = remote.mount_scanned(&["--scanner-profile", "mpd"]);
    let indexed = remote.content_bytes();
    let mpd = Mpd::start(daemon.mount_point(), remote.home.path("mpd"));
    mpd.mpc("update --wait");
    let songs = mpd.mpc("listall");
    assert_eq!(songs.lines().count(), corpus::TRACKS.len(), "{songs}");
    assert_eq!(remote.content_bytes(), indexed);
    drop(mpd);
    daemon.stop();
}

#[test]
fn a_remote_library_shows_what_a_local_one_shows() {
    let local = Home::with_music();
    let daemon = local.mount_scanned(&[]);
    // Suffixes that tell equal names apart are made from the origin's id.
    let plain = |paths: Vec<String>| {
        let cut = |path: String| path.split(" [").next().unwrap_or_default().to_owned();
        let mut paths: Vec<_> = paths.into_iter().map(cut).collect();
        paths.sort();
        paths
    };
    let paths = plain(tree::paths(daemon.mount_point()));
    daemon.stop();
    let remotes = [
        Remote::s3(Home::with_music()),
        Remote::sftp(Home::with_music()),
    ];
    for remote in remotes {
        let daemon = remote.mount_scanned(&[]);
        let shown = plain(tree::paths(daemon.mount_point()));
        assert_eq!(shown, paths, "{}", remote.url());
        for (file, original) in remote.pairs() {
            assert_eq!(tree::hash(&file), tree::hash(&original), "{file:?}");
        }
        daemon.stop();
    }
}

fn a_cold_read_brings_little(remote: &Remote) {
    let daemon = remote.mount_scanned(&[]);
    let cleared = remote.home.run(&["cache", "clear"]);
    assert!(cleared.status.success(), "{cleared:?}");
    let pairs = remote.pairs();
    let read = |number: usize, offset: u64, len: usize| {
        let (file, original) = &pairs[number];
        let (mut got, mut expected) = (vec![0; len], vec![0; len]);
        let open = |path| fs::File::open(path).unwrap();
        // As programs do that look at a header or seek: the kernel reads ahead of others.
        let file = open(file);
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Random).unwrap();
        file.read_exact_at(&mut got, offset).unwrap();
        open(original).read_exact_at(&mut expected, offset).unwrap();
        assert!(got == expected, "track {number} at {offset}");
    };
    let before = remote.content_bytes();
    read(0, 0, 65_536);
    let first = remote.content_bytes() - before;
    assert!(first <= 128 << 10, "{first} bytes for the first 64 KiB");
    read(1, 1_000_001, 65_536);
    let seek = remote.content_bytes() - before - first;
    assert!(seek <= 192 << 10, "{seek} bytes for 64 KiB in the middle");
    daemon.stop();
}

#[test]
fn a_cold_read_of_s3_brings_little() {
    a_cold_read_brings_little(&Remote::s3(album()));
}

#[test]
fn a_cold_read_of_sftp_brings_little() {
    a_cold_read_brings_little(&Remote::sftp(album()));
}

#[test]
fn the_cache_never_exceeds_its_limit() {
    let home = album();
    let remote = Remote::s3(home);
    let daemon = remote.mount_scanned(&["--cache-limit", "6Mi", "--header-limit", "4Mi"]);
    let cache = remote.home.path("cache");
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            read_by_four(&remote);
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        while !done.load(std::sync::atomic::Ordering::Relaxed) && !reader.is_finished() {
            // Files come and go while it counts.
            let used = sh(&format!("du -sB1 {cache:?} 2>/dev/null | cut -f1 || true"));
            let used: u64 = used.trim().parse().unwrap_or(0);
            assert!(used <= 10 << 20, "{used} bytes in the cache");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    });
    daemon.stop();
}

#[test]
fn what_changes_on_the_server_shows_after_a_rescan() {
    let remote = Remote::s3(album());
    let daemon = remote.mount_scanned(&[]);
    let file = remote.home.origin().join("album/1.flac");
    sh(&format!(
        "metaflac --remove-tag=TITLE --set-tag=TITLE=Renamed {file:?}"
    ));
    remote.upload("album/1.flac");
    fs::remove_file(remote.home.origin().join("album/2.flac")).unwrap();
    if let musicfs_tests::remote::Server::S3 { prefix, .. } = &remote.server {
        musicfs_tests::servers::s3::S3Server::shared().delete(&format!("{prefix}/album/2.flac"));
    }
    let id = remote.home.origin_id();
    let rescan = remote.home.run(&["origin", "rescan", &id]);
    assert!(rescan.status.success(), "{rescan:?}");
    wait_until("the new name", || {
        let files = tree::files(&remote.home.mount_point());
        files.len() == TRACKS - 1 && files.iter().any(|file| file.contains("Renamed"))
    });
    for (file, original) in remote.pairs() {
        assert_eq!(tree::hash(&file), tree::hash(&original), "{file:?}");
    }
    daemon.stop();
}
