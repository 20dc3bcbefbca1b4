//! The daemon is killed at its n-th write, sync, rename, unlink: what it leaves serves right bytes.

use std::path::Path;

use musicfs_tests::Random;
use musicfs_tests::daemon::is_mounted;
use musicfs_tests::servers::s3_client::{ACCESS_KEY, SECRET_KEY};

use super::*;

/// The calls before which it is killed: what the store and its index do to the disk.
const CALLS: [&str; 6] = [
    "pwrite64",
    "fdatasync",
    "fsync",
    "rename,renameat,renameat2",
    "unlink,unlinkat",
    "fallocate",
];

/// The call before which it dies is at most this one of its kind.
const NUMBER_MAX: u64 = 60;

/// Mounts under strace, which kills at the `number`-th of `calls`; reads what it can meanwhile.
fn live_and_die(remote: &Remote, calls: &str, number: u64, seed: u64) {
    let access = format!("AWS_ACCESS_KEY_ID={ACCESS_KEY}");
    let secret = format!("AWS_SECRET_ACCESS_KEY={SECRET_KEY}");
    let inject = format!("inject={calls}:signal=SIGKILL:when={number}");
    let trace = format!("trace={calls}");
    let wrapper = [
        "env",
        &access,
        &secret,
        "strace",
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
    let mount_point = remote.home.mount_point();
    // Small, so that there is something to evict.
    let args = [
        "--origin",
        &url,
        "--cache-free-min",
        "0",
        "--cache-limit",
        "8Mi",
    ];
    let daemon = remote.home.start_under(&wrapper, &mount_point, &args);
    let (is_ready, _) = daemon.wait_for_log("ready instance=");
    if is_ready {
        read_until_it_dies(remote, seed);
    }
    // strace lets go of what it traces when it is killed itself.
    let pid = daemon.pid();
    sh(&format!("pkill -KILL -P {pid} || true"));
    daemon.kill();
    sh(&format!("umount -l {mount_point:?} 2>/dev/null || true"));
}

fn read_until_it_dies(remote: &Remote, seed: u64) {
    let mut random = Random(seed);
    let origin = remote.home.origin();
    let mount = remote.home.mount_point();
    for _ in 0..40 {
        let track = 1 + random.below(TRACKS);
        let Some(file) = find(&mount, track) else {
            return;
        };
        let original = fs::read(origin.join(format!("album/{track}.flac"))).unwrap();
        let offset = random.below(original.len());
        let mut got = vec![0; 200_000.min(original.len() - offset)];
        let read =
            fs::File::open(file).and_then(|file| file.read_exact_at(&mut got, offset as u64));
        if read.is_err() {
            return;
        }
        assert!(got == original[offset..offset + got.len()], "wrong bytes");
    }
}

/// The track in the tree; `None` once there is no tree any more.
fn find(mount: &Path, track: usize) -> Option<std::path::PathBuf> {
    let dir = mount.join("Noise/Album [FLAC]");
    let entries = fs::read_dir(dir).ok()?;
    let name = format!("Track{track}.flac");
    entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.to_string_lossy().ends_with(&name))
}

/// Flips a bit of something that is cached.
fn damage(remote: &Remote, random: &mut Random) {
    let cache = remote.home.path("cache");
    let found = sh(&format!(
        "find {cache:?} -path '*/objects/*' -type f 2>/dev/null || true"
    ));
    let files: Vec<&str> = found.lines().collect();
    if files.is_empty() {
        return;
    }
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(random.pick(&files))
        .unwrap();
    let size = file.metadata().unwrap().len();
    let offset = random.number() % size.max(1);
    let mut byte = [0];
    if file.read_exact_at(&mut byte, offset).is_ok() {
        byte[0] ^= 1 << random.below(8);
        file.write_all_at(&byte, offset).unwrap();
    }
}

#[test]
fn killed_at_any_call_to_the_disk_it_serves_right_bytes_again() {
    let remote = Remote::s3(album());
    let daemon = remote.mount_scanned(&[]);
    daemon.stop();
    let mut random = Random(knob("MUSICFS_SEED", 1));
    for round in 0..knob("MUSICFS_KILL_ROUNDS", 6) {
        let calls = *random.pick(&CALLS);
        let number = 1 + random.number() % NUMBER_MAX;
        eprintln!("round {round}: killed at {calls} number {number}");
        live_and_die(&remote, calls, number, round);
        damage(&remote, &mut random);
    }
    assert!(!is_mounted(&remote.home.mount_point()));
    let daemon = remote.mount_scanned(&["--cache-limit", "8Mi"]);
    read_by_four(&remote);
    daemon.stop_expecting(&["damaged", "removed a mount", "set aside"]);
}
