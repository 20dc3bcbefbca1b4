//! kill -9 at random moments of scan and rescan.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use musicfs_tests::daemon::{Home, is_mounted};
use musicfs_tests::{Random, bulk, knob, tree};

/// Tracks of the library: enough for a scan to take longer than the longest wait before a kill.
const TRACKS: usize = 3000;

#[test]
fn after_a_kill_the_tree_is_that_of_a_fresh_scan() {
    let rounds = knob("MUSICFS_CRASH_ROUNDS", 4);
    let seed = knob("MUSICFS_SEED", 1);
    let mut random = Random(seed);
    let home = Home::new();
    bulk::make_library(&home.origin(), TRACKS).unwrap();
    for round in 0..rounds {
        if random.below(3) == 0 {
            // As often a first scan as a rescan.
            let _ = fs::remove_dir_all(home.state());
        }
        change(&home.origin(), round, &mut random);
        let daemon = home.start(&[]);
        std::thread::sleep(Duration::from_millis(random.below(900) as u64));
        daemon.kill();
        let daemon = home.mount(&[]);
        let started = Instant::now();
        tree::paths(daemon.mount_point()).truncate(0);
        println!(
            "round {round}: listed {} ms after the start",
            started.elapsed().as_millis()
        );
        daemon.wait_scanned(1);
        let recovered = tree::real_paths(daemon.mount_point());
        daemon.stop_expecting(&["removed a mount that a daemon left behind"]);
        let index = rusqlite::Connection::open(home.state().join("metadata.db")).unwrap();
        let check: String = index
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .unwrap();
        assert_eq!(check, "ok", "seed {seed}, round {round}");
        let fresh = Home::new();
        let origin = home.origin();
        let daemon = fresh.mount_scanned(&["--origin", origin.to_str().unwrap()]);
        let expected = tree::real_paths(daemon.mount_point());
        daemon.stop();
        assert!(
            recovered == expected,
            "seed {seed}, round {round}: {}",
            first(&recovered, &expected)
        );
    }
}

/// Changes some files: touched, moved, copied, deleted.
fn change(origin: &Path, round: u64, random: &mut Random) {
    let files = tree::files(origin);
    for number in 0..40 {
        let path = origin.join(random.pick(&files));
        let other = |kind: &str| origin.join(format!("{kind} {round} {number}.flac"));
        // One that was moved or deleted already is passed over.
        let _ = match random.below(4) {
            0 => fs::rename(&path, other("moved")),
            1 => fs::remove_file(&path),
            2 => fs::copy(&path, other("copied")).map(drop),
            _ => fs::read(&path).and_then(|bytes| fs::write(&path, bytes)),
        };
    }
}

fn first<T: PartialEq + std::fmt::Debug>(
    left: &std::collections::BTreeMap<String, T>,
    right: &std::collections::BTreeMap<String, T>,
) -> String {
    let only = |a: &std::collections::BTreeMap<String, T>,
                b: &std::collections::BTreeMap<String, T>| {
        a.iter()
            .find(|(key, value)| b.get(*key) != Some(value))
            .map(|pair| format!("{pair:?}"))
    };
    format!("{:?} but {:?}", only(left, right), only(right, left))
}

#[test]
fn a_mount_left_by_a_crash_is_cleaned() {
    let home = Home::with_music();
    let daemon = home.mount_scanned(&[]);
    let mount: PathBuf = daemon.mount_point().to_owned();
    let before = tree::stats(&mount);
    daemon.kill();
    // The kernel still lists what it has cached; whatever needs the daemon fails.
    assert!(rustix::fs::statvfs(&mount).is_err(), "the mount is dead");
    let daemon = home.mount(&[]);
    assert_eq!(tree::stats(&mount), before);
    daemon.assert_quiet(&["removed a mount that a daemon left behind"]);
    daemon.kill();
    assert!(
        home.run(&["umount", mount.to_str().unwrap()])
            .status
            .success()
    );
    assert!(!is_mounted(&mount) && fs::read_dir(&mount).unwrap().next().is_none());
}
