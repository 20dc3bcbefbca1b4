//! Random trees and reads against a model: a map of bytes.

#![expect(clippy::unwrap_used, reason = "test code")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use musicfs_tests::bulk::Flac;
use musicfs_tests::daemon::{Daemon, Home};
use musicfs_tests::{Random, knob, tree, wait_until};

/// The model: what each real path holds.
type Model = BTreeMap<String, Vec<u8>>;

#[test]
fn random_reads_of_random_trees_equal_the_model() {
    let seeds = knob("MUSICFS_MODEL_SEEDS", 4);
    let first = knob("MUSICFS_SEED", 1);
    let flac = Flac::encoded().unwrap();
    for seed in first..first + seeds {
        println!("seed {seed}");
        let mut random = Random(seed);
        let home = Home::new();
        fs::create_dir(home.origin()).unwrap();
        let mut model = Model::new();
        for _ in 0..40 {
            step(&home, &flac, &mut model, &mut random);
        }
        let mode = *random.pick(&["auto", "off"]);
        let daemon = home.mount_scanned(&["--passthrough", mode]);
        for _ in 0..3 {
            check(&daemon, &model, &mut random, seed);
            for _ in 0..12 {
                step(&home, &flac, &mut model, &mut random);
            }
        }
        check(&daemon, &model, &mut random, seed);
        let tree = tree::real_paths(daemon.mount_point());
        daemon.stop();
        // A fresh instance over the same origin has the same tree.
        let fresh = Home::new();
        let origin = home.origin();
        let daemon = fresh.mount_scanned(&["--origin", origin.to_str().unwrap()]);
        assert_eq!(tree::real_paths(daemon.mount_point()), tree, "seed {seed}");
        daemon.stop();
    }
}

/// One random change of the origin and the model.
fn step(home: &Home, flac: &Flac, model: &mut Model, random: &mut Random) {
    const NAMES: [&str; 6] = ["a", "b", "c/d", "c/e", "ü", "x y"];
    let path = format!("{}/{}.flac", random.pick(&NAMES), random.below(8));
    let known: Vec<String> = model.keys().cloned().collect();
    let real = home.origin().join(&path);
    match random.below(10) {
        0 | 1 if !known.is_empty() => {
            let victim = random.pick(&known);
            fs::remove_file(home.origin().join(victim)).unwrap();
            model.remove(victim);
        }
        2 | 3 if !known.is_empty() => {
            let from = random.pick(&known).clone();
            fs::create_dir_all(real.parent().unwrap()).unwrap();
            fs::rename(home.origin().join(&from), &real).unwrap();
            let bytes = model.remove(&from).unwrap();
            model.insert(path, bytes);
        }
        _ => {
            // Few tags, so that names meet; the last says which content it is.
            let tags = [
                format!("ARTIST={}", random.pick(&["A", "B", "..", "x/y"])),
                format!("ALBUM={}", random.pick(&["One", "Two", ".search"])),
                format!("TITLE=T{}", random.below(4)),
                format!("DISCNUMBER={}", random.below(3)),
                format!("COMMENT={}", random.number()),
            ];
            let mut bytes = flac.tagged(&tags);
            bytes.extend(std::iter::repeat_n(
                random.number() as u8,
                random.below(300_000),
            ));
            fs::create_dir_all(real.parent().unwrap()).unwrap();
            let temporary = home.path("temporary");
            fs::write(&temporary, &bytes).unwrap();
            fs::rename(&temporary, &real).unwrap();
            model.insert(path, bytes);
        }
    }
}

/// Waits until the mount shows the model, then reads at random.
fn check(daemon: &Daemon, model: &Model, random: &mut Random, seed: u64) {
    let mount = daemon.mount_point();
    let mut files = BTreeMap::new();
    wait_until("the mount to show the model", || {
        files = tree::real_paths(mount);
        let sizes = |(path, real): (&String, &String)| {
            let len = fs::metadata(mount.join(path)).map_or(0, |stat| stat.len());
            model
                .get(real)
                .is_some_and(|bytes| bytes.len() as u64 == len)
        };
        files.len() == model.len() && files.iter().all(sizes)
    });
    let open: Vec<(File, &Vec<u8>, &String)> = files
        .iter()
        .map(|(path, real)| (File::open(mount.join(path)).unwrap(), &model[real], path))
        .collect();
    if open.is_empty() {
        return;
    }
    for _ in 0..300 {
        let (file, bytes, path) = random.pick(&open);
        let offset = random.below(bytes.len() + 10);
        let mut buffer = vec![0; random.below(200_000)];
        let read = file.read_at(&mut buffer, offset as u64).unwrap();
        let expected = &bytes[offset.min(bytes.len())..];
        let expected = &expected[..expected.len().min(buffer.len())];
        assert!(
            &buffer[..read] == expected,
            "seed {seed}: {path} at {offset}"
        );
    }
}
