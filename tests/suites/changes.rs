//! Changes on the origin, and what the mount makes of them.

#![expect(clippy::unwrap_used, reason = "test code")]

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::Path;

use musicfs_tests::bulk::Flac;
use musicfs_tests::daemon::{Daemon, Home};
use musicfs_tests::{sh, tree, wait_until};

/// Writes a track with a title, in place.
fn write_track(path: &Path, title: &str) {
    let flac = Flac::encoded().unwrap();
    let tags = [
        "ARTIST=New".into(),
        "ALBUM=Fresh".into(),
        format!("TITLE={title}"),
    ];
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, flac.tagged(&tags)).unwrap();
}

fn place(title: &str) -> String {
    format!("New/Fresh [FLAC]/00 - {title}.flac")
}

/// Waits until a path is in the mount, or is not, by what `ls` of its directory shows; prints how
/// long that took, for a second is promised.
fn shows(daemon: &Daemon, path: &str, is_there: bool) {
    let took = wait_until(path, || {
        let listed = tree::files(daemon.mount_point())
            .iter()
            .any(|file| file == path);
        listed == is_there && daemon.mount_point().join(path).exists() == is_there
    });
    let word = if is_there { "appeared" } else { "vanished" };
    println!("{path} {word} after {} ms", took.as_millis());
}

#[test]
fn what_is_added_retagged_moved_and_deleted_shows() {
    let home = Home::with_music();
    let daemon = home.mount_scanned(&[]);
    let origin = home.origin();
    tree::paths(daemon.mount_point());
    write_track(&origin.join("a.flac"), "Added");
    shows(&daemon, &place("Added"), true);
    let ino = |title: &str| {
        fs::metadata(daemon.mount_point().join(place(title)))
            .unwrap()
            .ino()
    };
    let before = ino("Added");
    fs::rename(origin.join("a.flac"), origin.join("rock/moved.flac")).unwrap();
    let file = daemon.mount_point().join(place("Added"));
    wait_until("the move", || tree::real_path(&file) == "rock/moved.flac");
    assert_eq!(ino("Added"), before, "a move keeps the inode");
    write_track(&origin.join("rock/moved.flac"), "Retagged");
    shows(&daemon, &place("Retagged"), true);
    shows(&daemon, &place("Added"), false);
    assert_ne!(ino("Retagged"), before, "new content has a new inode");
    fs::remove_file(origin.join("rock/moved.flac")).unwrap();
    shows(&daemon, &place("Retagged"), false);
    assert!(!daemon.mount_point().join("New").exists());
    tree::assert_bytes_equal(daemon.mount_point(), &origin);
    daemon.stop();
}

#[test]
fn whole_directories_come_move_and_go() {
    let home = Home::with_music();
    let daemon = home.mount_scanned(&[]);
    let (origin, outside) = (home.origin(), home.path("outside"));
    for name in ["x/one.flac", "x/deep/er/two.flac"] {
        write_track(&outside.join(name), name.rsplit_once('/').unwrap().1);
    }
    let places = [place("one.flac"), place("two.flac")];
    fs::rename(outside.join("x"), origin.join("x")).unwrap();
    places.iter().for_each(|place| shows(&daemon, place, true));
    let inodes = || {
        places.clone().map(|place| {
            fs::metadata(daemon.mount_point().join(place))
                .unwrap()
                .ino()
        })
    };
    let before = inodes();
    fs::rename(origin.join("x"), origin.join("y")).unwrap();
    for (place, real) in places.iter().zip(["y/one.flac", "y/deep/er/two.flac"]) {
        let file = daemon.mount_point().join(place);
        wait_until(real, || tree::real_path(&file) == real);
    }
    assert_eq!(inodes(), before);
    // What changes in the moved directory is seen too.
    write_track(&origin.join("y/deep/er/three.flac"), "three");
    shows(&daemon, &place("three"), true);
    fs::remove_dir_all(origin.join("y")).unwrap();
    places.iter().for_each(|place| shows(&daemon, place, false));
    sh(&format!(
        "mkdir -p {origin:?}/n/e/s/t && cp {origin:?}/box/cd1.flac {origin:?}/n/e/s/t/"
    ));
    wait_until("a nested directory", || {
        tree::real_paths(daemon.mount_point())
            .values()
            .any(|real| real == "n/e/s/t/cd1.flac")
    });
    daemon.stop();
}

#[test]
fn changes_made_while_it_was_down_appear_by_themselves() {
    let home = Home::with_music();
    write_track(&home.origin().join("old.flac"), "Old");
    let daemon = home.mount_scanned(&[]);
    let ino = fs::metadata(daemon.mount_point().join(place("Old")))
        .unwrap()
        .ino();
    daemon.stop();
    fs::rename(
        home.origin().join("old.flac"),
        home.origin().join("w/renamed.flac"),
    )
    .unwrap();
    fs::remove_file(home.origin().join("itunes/a.m4a")).unwrap();
    write_track(&home.origin().join("while down.flac"), "Down");
    let daemon = home.mount(&[]);
    shows(&daemon, &place("Down"), true);
    shows(&daemon, "Epsilon/Fifth (2015) [M4A]/03 - Lossy.m4a", false);
    let file = daemon.mount_point().join(place("Old"));
    wait_until("the move", || tree::real_path(&file) == "w/renamed.flac");
    assert_eq!(fs::metadata(&file).unwrap().ino(), ino);
    daemon.stop();
}

#[test]
fn an_origin_that_vanishes_removes_nothing_and_returns() {
    let home = Home::with_music();
    let daemon = home.mount_scanned(&[]);
    let before = tree::stats(daemon.mount_point());
    let away = home.path("away");
    fs::rename(home.origin(), &away).unwrap();
    daemon.wait_for_log("the origin does not answer");
    assert_eq!(tree::stats(daemon.mount_point()), before);
    let file = daemon.mount_point().join(place_of_two());
    assert_eq!(
        File::open(&file).unwrap_err().raw_os_error(),
        Some(5),
        "an error, and at once"
    );
    fs::rename(&away, home.origin()).unwrap();
    assert!(
        home.run(&["origin", "rescan", &home.origin_id()])
            .status
            .success()
    );
    assert_eq!(tree::stats(daemon.mount_point()), before);
    tree::assert_bytes_equal(daemon.mount_point(), &home.origin());
    daemon.stop_expecting(&["the origin does not answer"]);
}

#[test]
fn a_disk_that_is_unmounted_removes_nothing_and_returns() {
    let home = Home::new();
    let (origin, music) = (home.origin(), home.path("music"));
    musicfs_tests::corpus::write(&music);
    let mount = |script: &str| sh(&script.replace("ORIGIN", &format!("{origin:?}")));
    fs::create_dir(&origin).unwrap();
    mount("mount -t tmpfs tmpfs ORIGIN");
    sh(&format!(
        "cp -r --preserve=timestamps {music:?}/. {origin:?}"
    ));
    let daemon = home.mount_scanned(&[]);
    let before = tree::files(daemon.mount_point());
    daemon.stop();
    // The disk stays away over a restart, and its directory is there, empty.
    let moved = home.path("moved");
    fs::create_dir(&moved).unwrap();
    mount(&format!("mount --move ORIGIN {moved:?}"));
    let daemon = home.mount_scanned(&[]);
    let kept = tree::files(daemon.mount_point());
    let log = daemon.log();
    mount(&format!("mount --move {moved:?} ORIGIN"));
    assert_eq!(kept, before);
    assert!(
        log.contains("missing together with their file system"),
        "{log}"
    );
    assert!(
        home.run(&["origin", "rescan", &home.origin_id()])
            .status
            .success()
    );
    tree::assert_bytes_equal(daemon.mount_point(), &origin);
    daemon.stop_expecting(&["missing together with their file system"]);
    mount("umount ORIGIN");
}

#[test]
fn a_disk_that_goes_while_it_runs_removes_nothing() {
    let home = Home::new();
    let (origin, music) = (home.origin(), home.path("music"));
    musicfs_tests::corpus::write(&music);
    fs::create_dir(&origin).unwrap();
    sh(&format!(
        "mount -t tmpfs tmpfs {origin:?}; cp -r --preserve=timestamps {music:?}/. {origin:?}"
    ));
    let daemon = home.mount_scanned(&[]);
    let before = tree::stats(daemon.mount_point());
    sh(&format!("umount -l {origin:?}"));
    // Asked to look, it finds an empty directory where the disk was.
    home.run(&["origin", "rescan", &home.origin_id()]);
    wait_until("the status to say so", || home.state_shown() == "degraded");
    assert_eq!(tree::stats(daemon.mount_point()), before);
    daemon.stop_expecting(&["missing together", "does not answer", "the watch ended"]);
}

#[test]
fn an_open_file_keeps_its_content_when_the_original_is_replaced() {
    for mode in ["auto", "off"] {
        let home = Home::with_music();
        let daemon = home.mount_scanned(&["--passthrough", mode]);
        let (real, mounted) = (
            home.origin().join("rock/alpha/two.flac"),
            daemon.mount_point().join(place_of_two()),
        );
        let old_bytes = fs::read(&real).unwrap();
        let mut old = File::open(&mounted).unwrap();
        let mut head = vec![0; 4096];
        old.read_exact(&mut head).unwrap();
        let new = home.path("new.flac");
        sh(&format!(
            "cp {real:?} {new:?}; metaflac --set-tag=COMMENT=$(head -c 9000 /dev/zero | tr '\\0' x) {new:?}
             mv {new:?} {real:?}"
        ));
        let new_bytes = fs::read(&real).unwrap();
        assert_ne!(old_bytes, new_bytes);
        wait_until("the new content", || {
            fs::read(&mounted).is_ok_and(|bytes| bytes == new_bytes)
        });
        let mut again = vec![0; old_bytes.len()];
        old.read_exact_at(&mut again, 0).unwrap();
        assert!(again == old_bytes, "the old handle reads the old bytes");
        assert_eq!(old.metadata().unwrap().len(), old_bytes.len() as u64);
        assert!(fs::read(&mounted).unwrap() == new_bytes);
        drop(old);
        daemon.stop();
    }
}

#[test]
fn an_open_right_after_a_replacement_finds_the_new_content() {
    let home = Home::with_music();
    let daemon = home.mount_scanned(&[]);
    let real = home.origin().join("rock/alpha/two.flac");
    let mounted = daemon.mount_point().join(place_of_two());
    for round in 0..5 {
        tree::paths(daemon.mount_point());
        sh(&format!(
            "metaflac --remove-tag=COMMENT --set-tag=COMMENT=round-{round} {real:?}"
        ));
        // No wait: the index does not know yet, and the open must not give the old bytes.
        let bytes = fs::read(&mounted).unwrap();
        assert!(bytes == fs::read(&real).unwrap(), "round {round}");
    }
    daemon.stop();
}

#[test]
fn links_are_followed_inside_the_root_only() {
    let home = Home::with_music();
    let outside = home.path("secret.flac");
    write_track(&outside, "Secret");
    symlink(&outside, home.origin().join("absolute.flac")).unwrap();
    symlink("../secret.flac", home.origin().join("relative.flac")).unwrap();
    symlink("..", home.origin().join("up")).unwrap();
    symlink(".", home.origin().join("loop")).unwrap();
    write_track(&home.origin().join(".store/hidden.flac"), "Inside");
    symlink(".store/hidden.flac", home.origin().join("inside.flac")).unwrap();
    let daemon = home.mount_scanned(&[]);
    let real = tree::real_paths(daemon.mount_point());
    assert!(real.values().any(|real| real == "inside.flac"), "{real:?}");
    assert!(!real.keys().any(|path| path.contains("Secret")), "{real:?}");
    daemon.stop();
}

#[test]
fn a_new_template_moves_the_tree_and_keeps_inodes() {
    let home = Home::with_music();
    let daemon = home.mount_scanned(&[]);
    let inodes = |daemon: &Daemon| -> Vec<(String, u64)> {
        let mount = daemon.mount_point();
        let mut all: Vec<_> = tree::real_paths(mount)
            .into_iter()
            .filter(|(_, real)| real.ends_with(".flac"))
            .map(|(path, real)| (real, fs::metadata(mount.join(path)).unwrap().ino()))
            .collect();
        all.sort();
        all
    };
    let before = inodes(&daemon);
    daemon.stop();
    let daemon = home.mount_scanned(&["--template", "$format/$title.$format", "--root", "Music"]);
    wait_until("the new tree", || {
        daemon.mount_point().join("Music/flac/Side A.flac").exists()
    });
    wait_until("the old tree's end", || {
        !daemon.mount_point().join("Theta").exists()
    });
    assert_eq!(inodes(&daemon), before);
    tree::assert_bytes_equal(daemon.mount_point(), &home.origin());
    daemon.stop();
}

#[test]
fn a_hangup_asks_for_a_scan() {
    let home = Home::with_music();
    let daemon = home.mount_scanned(&[]);
    let pid = rustix::process::Pid::from_raw(daemon.pid().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    daemon.wait_scanned(2);
    daemon.stop();
}

fn place_of_two() -> &'static str {
    "Alpha/First (2001) [FLAC]/02 - Two.flac"
}
