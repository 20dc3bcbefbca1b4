//! The cache under pressure: more is read than fits, by many, and killed in the middle.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use musicfs_tests::Random;

use super::*;

/// Bytes on disk that all under `dir` takes.
fn used(dir: &std::path::Path) -> u64 {
    // Files come and go while it counts.
    let text = sh(&format!("du -sB1 {dir:?} 2>/dev/null | cut -f1 || true"));
    text.trim().parse().unwrap_or(0)
}

/// A library of `megabytes` in tracks of about 8 MB with different tags.
fn library(megabytes: u64) -> Home {
    let home = Home::new();
    let dir = home.origin().join("album");
    write_album(&dir, 1, 8);
    for track in 2..=(megabytes / 8).max(2) {
        sh(&format!(
            "cp {dir:?}/1.flac {dir:?}/{track}.flac; metaflac --remove-tag=TITLE \
             --remove-tag=TRACKNUMBER --set-tag=TITLE=Track{track} --set-tag=TRACKNUMBER={track} \
             {dir:?}/{track}.flac"
        ));
    }
    home
}

/// Reads at random until `until`; what cannot be read any more ends it.
fn read_on(pairs: &[(PathBuf, PathBuf)], seed: u64, until: Instant, may_fail: bool) {
    let mut random = Random(seed);
    while Instant::now() < until {
        let (file, original) = random.pick(pairs);
        let expected = fs::File::open(original).unwrap();
        let size = expected.metadata().unwrap().len();
        let offset = random.number() % size;
        let len = usize::try_from((size - offset).min(500_000)).unwrap();
        let (mut got, mut wanted) = (vec![0; len], vec![0; len]);
        let read = fs::File::open(file).and_then(|file| file.read_exact_at(&mut got, offset));
        match read {
            Err(_) if may_fail => return,
            read => read.unwrap(),
        }
        expected.read_exact_at(&mut wanted, offset).unwrap();
        assert!(got == wanted, "{file:?} at {offset}");
    }
}

/// Pins the files, and waits until they are there.
fn pin(remote: &Remote, pairs: &[(PathBuf, PathBuf)]) {
    let mount = remote.home.mount_point();
    let mut bytes = 0;
    for (file, original) in pairs {
        let path = file.strip_prefix(&mount).unwrap();
        let output = remote.home.run(&["pin", path.to_str().unwrap()]);
        assert!(output.status.success(), "{output:?}");
        bytes += fs::metadata(original).unwrap().len();
    }
    wait_until("the pinned tracks", || {
        let output = remote.home.run(&["--json", "pins"]);
        let pins: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let cached = |pin: &serde_json::Value| pin["bytes_cached"].as_u64().unwrap();
        let pins = pins["pins"].as_array().unwrap();
        pins.iter().map(cached).sum::<u64>() >= bytes
    });
}

/// Reads files whole, past the kernel's cache, and compares them.
fn read_whole(pairs: &[(PathBuf, PathBuf)]) {
    for (file, original) in pairs {
        let open = fs::File::open(file).unwrap();
        rustix::fs::fadvise(&open, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        assert_eq!(tree::hash(file), tree::hash(original));
    }
}

/// As [`read_whole`]; the origin must not see it.
fn costs_nothing(remote: &Remote, pairs: &[(PathBuf, PathBuf)]) {
    let before = remote.content_bytes();
    read_whole(pairs);
    assert_eq!(remote.content_bytes(), before, "it was evicted");
}

#[test]
fn the_cache_stays_in_its_limits_under_eight_readers_and_a_kill() {
    let remote = Remote::sftp(library(knob("MUSICFS_LIMIT_MB", 160)));
    let seconds = knob("MUSICFS_LIMIT_SECONDS", 4);
    let limits = ["--cache-limit", "80Mi", "--header-limit", "20Mi"];
    let cache = remote.home.path("cache");
    let daemon = remote.mount_scanned(&limits);
    let pairs = remote.pairs();
    // About 16 MB, which nobody may evict.
    let pinned = &pairs[..2];
    pin(&remote, pinned);
    let (done, most) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                most.fetch_max(used(&cache), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        let mut daemon = Some(daemon);
        for (half, may_fail) in [(0, true), (8, false)] {
            let half_time = Duration::from_secs(seconds) / 2;
            let until = Instant::now() + half_time;
            let pairs = &pairs;
            let mut readers = Vec::new();
            for seed in 1..=8 {
                readers.push(scope.spawn(move || read_on(pairs, half + seed, until, may_fail)));
            }
            if may_fail {
                std::thread::sleep(half_time * 3 / 4);
                daemon.take().unwrap().kill();
            }
            readers
                .into_iter()
                .for_each(|reader| reader.join().unwrap());
            if may_fail {
                daemon = Some(remote.mount_scanned(&limits));
            }
        }
        done.store(true, Ordering::Relaxed);
        // What was on its way for the readers ends with the daemon.
        daemon.unwrap().stop_expecting(&["removed a mount"]);
        let daemon = remote.mount_scanned(&limits);
        costs_nothing(&remote, pinned);
        // A working set of about 50 MB, beside what is pinned.
        let set = &pairs[2..8];
        read_whole(set);
        for _ in 0..5 {
            costs_nothing(&remote, set);
        }
        daemon.stop();
    });
    let most = most.into_inner();
    eprintln!("{} MiB at most", most >> 20);
    assert!(most <= 100 << 20, "{most} bytes in the cache");
}
