//! The mounted tree: what is where, what its bytes are, and that nothing can change it.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::thread;

use musicfs_tests::daemon::{Home, is_mounted};
use musicfs_tests::{corpus, sh, sh_output, tree, wait_until};
use rustix::process::Signal;

#[test]
fn every_file_appears_where_its_tags_say_with_its_own_bytes() {
    let home = Home::with_music();
    let daemon = home.mount_scanned(&[]);
    let real = tree::real_paths(daemon.mount_point());
    for (origin, place) in corpus::TRACKS.iter().chain(&corpus::COMPANIONS) {
        let found = real.iter().any(|(path, real)| {
            let plain = place.replace(" [*]", "");
            real == origin && (corpus::matches(place, path) || *path == plain)
        });
        assert!(found, "{origin} is not at {place}: {real:#?}");
    }
    tree::assert_bytes_equal(daemon.mount_point(), &home.origin());
    let file = daemon.mount_point().join(corpus::TRACKS[6].1);
    assert_eq!(tree::xattr(&file, "user.musicfs.format"), "m4a");
    assert_eq!(tree::xattr(&file, "user.musicfs.origin"), home.origin_id());
    let mut names = [0; 256];
    let len = rustix::fs::listxattr(&file, &mut names[..]).unwrap();
    let mut names: Vec<&[u8]> = names[..len - 1].split(|byte| *byte == 0).collect();
    names.sort_unstable();
    let expected = ["format", "origin", "real_path"].map(|name| format!("user.musicfs.{name}"));
    assert_eq!(names, expected.each_ref().map(String::as_bytes));
    daemon.stop();
}

#[test]
fn a_remount_changes_nothing_that_stat_shows() {
    let home = Home::with_music();
    let daemon = home.mount_scanned(&[]);
    let before = tree::stats(daemon.mount_point());
    daemon.stop();
    for signal in [Signal::INT, Signal::TERM] {
        let daemon = home.mount(&[]);
        assert_eq!(tree::stats(daemon.mount_point()), before, "before the scan");
        daemon.wait_scanned(1);
        assert_eq!(tree::stats(daemon.mount_point()), before, "after the scan");
        daemon.stop_with(signal, &[]);
    }
}

#[test]
fn whatever_would_change_the_mount_is_refused_as_read_only() {
    let home = Home::with_music();
    let daemon = home.mount_scanned(&[]);
    let file = daemon
        .mount_point()
        .join("Alpha/First (2001) [FLAC]/01 - One.flac");
    let dir = file.parent().unwrap();
    for command in [
        "touch FILE",
        "touch DIR/new",
        "rm -f FILE",
        "mv FILE DIR/other",
        "setfattr -n user.x -v y FILE",
        "setfattr -x user.musicfs.origin FILE",
        "truncate -s 0 FILE",
        "truncate -s 0 DIR/new",
        "mkdir DIR/new",
        "rmdir DIR",
        "ln FILE DIR/link",
        "ln -s FILE DIR/link",
        "chmod 644 FILE",
        "chown 1:1 FILE",
        "cp /etc/hostname DIR/new",
        "mkfifo DIR/pipe",
        "echo x >> FILE",
    ] {
        let script = command
            .replace("FILE", &format!("{file:?}"))
            .replace("DIR", &format!("{dir:?}"));
        let output = sh_output(&script);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{command} succeeded");
        assert!(
            errors.contains("Read-only file system"),
            "{command}: {errors}"
        );
    }
    let opened = File::options().write(true).open(&file);
    assert_eq!(
        opened.unwrap_err().raw_os_error(),
        Some(rustix::io::Errno::ROFS.raw_os_error())
    );
    let stat = fs::metadata(&file).unwrap();
    assert_eq!((stat.mode() & 0o7777, stat.blksize()), (0o444, 4096));
    assert_eq!(fs::metadata(dir).unwrap().mode() & 0o7777, 0o555);
    daemon.stop();
}

#[test]
fn a_file_over_4_gib_reads_right_at_its_end() {
    const LEN: u64 = 5 << 30;
    for mode in ["auto", "off"] {
        let home = Home::new();
        fs::create_dir(home.origin()).unwrap();
        let path = home.origin().join("huge.wav");
        sh(&format!(
            "sox -n -r 8000 -b 16 -c 1 {path:?} synth 1 sine 440"
        ));
        let mut file = File::options().read(true).write(true).open(&path).unwrap();
        file.set_len(LEN).unwrap();
        file.seek(SeekFrom::End(-9)).unwrap();
        file.write_all(b"the end!!").unwrap();
        drop(file);
        let daemon = home.mount_scanned(&["--passthrough", mode]);
        let mounted = daemon
            .mount_point()
            .join(&tree::files(daemon.mount_point())[0]);
        assert_eq!(fs::metadata(&mounted).unwrap().len(), LEN);
        let mut tail = [0; 20];
        let mounted = File::open(mounted).unwrap();
        assert_eq!(mounted.read_at(&mut tail, LEN - 9).unwrap(), 9);
        assert_eq!(&tail[..9], b"the end!!");
        assert_eq!(mounted.read_at(&mut tail, LEN).unwrap(), 0);
        drop(mounted);
        daemon.stop();
    }
}

#[test]
fn many_opens_at_once_give_the_right_bytes_in_either_mode() {
    for mode in ["auto", "off"] {
        let home = Home::with_music();
        let daemon = home.mount_scanned(&["--passthrough", mode]);
        let files: Vec<_> = tree::real_paths(daemon.mount_point()).into_iter().collect();
        // One handle stays open on each file: the mode that it chose binds all others.
        let mount = daemon.mount_point();
        let held: Vec<File> = files
            .iter()
            .map(|(path, _)| File::open(mount.join(path)).unwrap())
            .collect();
        thread::scope(|scope| {
            for start in 0..8 {
                let (files, home) = (&files, &home);
                scope.spawn(move || {
                    for (path, real) in files.iter().cycle().skip(start).take(files.len() * 4) {
                        let mut bytes = Vec::new();
                        File::open(mount.join(path))
                            .unwrap()
                            .read_to_end(&mut bytes)
                            .unwrap();
                        assert!(
                            bytes == fs::read(home.origin().join(real)).unwrap(),
                            "{path}"
                        );
                    }
                });
            }
        });
        drop(held);
        daemon.stop();
    }
}

#[test]
fn thousands_of_handles_can_be_open() {
    const HANDLES: usize = 3000;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let ours = rustix::process::Rlimit {
        current: limit.maximum,
        ..limit
    };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, ours).unwrap();
    for mode in ["auto", "off"] {
        let home = Home::with_music();
        // What a login gives to a process: the daemon has to take more by itself.
        let usual = ["prlimit", "--nofile=1024:16384"];
        let args = ["--passthrough", mode];
        let daemon = home.start_under(&usual, &home.mount_point(), &args);
        daemon.wait_scanned(1);
        let file = daemon
            .mount_point()
            .join("Beta/Zweite (1999) [MP3]/04 - Süß.mp3");
        let held: Vec<File> = (0..HANDLES).map(|_| File::open(&file).unwrap()).collect();
        let mut head = [0; 3];
        let mut reads = |file: &File| file.read_at(&mut head, 0).unwrap() == 3 && &head == b"ID3";
        assert!(held.iter().all(&mut reads));
        let status = home.run(&["--json", "status"]);
        let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
        assert!(
            status["open_file_handles"].as_u64() >= Some(HANDLES as u64),
            "{status}"
        );
        drop(held);
        daemon.stop();
    }
}

#[test]
fn a_mount_point_inside_its_own_origin_is_not_scanned() {
    let home = Home::with_music();
    let inside = home.origin().join("rock/mnt");
    fs::create_dir(&inside).unwrap();
    let daemon = home.start_on(&inside, &[]);
    daemon.wait_scanned(1);
    let once = tree::files(&inside);
    assert_eq!(once.len(), corpus::TRACKS.len() + corpus::COMPANIONS.len());
    assert!(
        home.run(&["origin", "rescan", &home.origin_id()])
            .status
            .success()
    );
    assert_eq!(tree::files(&inside), once);
    assert!(home.run(&["umount"]).status.success());
    let mut daemon = daemon;
    assert!(daemon.wait() == 0 && !is_mounted(&inside));
}

#[test]
fn a_directory_of_thousands_lists_each_name_once() {
    let home = Home::new();
    fs::create_dir(home.origin()).unwrap();
    let flac = musicfs_tests::bulk::Flac::encoded().unwrap();
    for number in 0..5000 {
        let title = format!("TITLE=T{number:05}");
        let bytes = flac.tagged(&["ARTIST=A".into(), "ALBUM=B".into(), title]);
        fs::write(home.origin().join(format!("{number}.flac")), bytes).unwrap();
    }
    let daemon = home.mount_scanned(&[]);
    let dir = daemon.mount_point().join("A/B [FLAC]");
    for _ in 0..2 {
        let mut names: Vec<_> = fs::read_dir(&dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 5000);
    }
    let space = rustix::fs::statvfs(daemon.mount_point()).unwrap();
    assert_eq!(space.f_bavail, 0);
    assert!(space.f_files >= 5000 && space.f_namemax == 255);
    daemon.stop();
}

#[test]
fn an_ordinary_user_mounts_and_reads() {
    let home = Home::with_music();
    // On a real machine udev makes the device so; nothing else is changed here.
    if fs::metadata("/dev/fuse").unwrap().permissions().mode() & 0o006 != 0o006 {
        fs::set_permissions("/dev/fuse", fs::Permissions::from_mode(0o666)).unwrap();
    }
    let (mount, origin) = (home.mount_point(), home.origin());
    let words = [
        "mount",
        mount.to_str().unwrap(),
        "--origin",
        origin.to_str().unwrap(),
        "--daemon",
    ];
    let run = |args: &[&str]| {
        let output = home.command_as_nobody(args).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {errors}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    run(&words);
    wait_until("the scan", || {
        run(&["--json", "status"]).contains("\"ready\"")
    });
    // Nobody else can look into the mount, root neither.
    assert!(fs::read_dir(&mount).is_err());
    let compare = format!(
        "cd {mount:?}; find . -type f | while read -r f; do
             real=$(getfattr --only-values -n user.musicfs.real_path \"$f\")
             cmp \"$f\" {origin:?}/\"$real\" && echo \"$f\"
             if touch \"$f\" 2>/dev/null; then exit 1; fi
         done"
    );
    let user = "setpriv --reuid nobody --regid nogroup --clear-groups bash -euo pipefail -c \"$0\"";
    let output = Command::new("bash")
        .args(["-c", user, &compare])
        .output()
        .unwrap();
    let same = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{same}{errors}");
    let all = corpus::TRACKS.len() + corpus::COMPANIONS.len();
    assert_eq!(same.lines().count(), all, "{same}{errors}");
    run(&["umount"]);
    assert!(!is_mounted(&mount));
}

#[test]
fn other_users_get_in_when_they_are_allowed() {
    let home = Home::with_music();
    let as_other = |daemon: &musicfs_tests::daemon::Daemon| {
        let user = "setpriv --reuid nobody --regid nogroup --clear-groups";
        sh_output(&format!(
            "{user} cat {:?}/Beta/*/*.mp3 | wc -c",
            daemon.mount_point()
        ))
    };
    sh(&format!("chmod 755 {:?}", home.path("")));
    let daemon = home.mount_scanned(&[
        "--allow-other",
        "--uid",
        "1",
        "--gid",
        "2",
        "--umask",
        "077",
    ]);
    let stat = fs::metadata(daemon.mount_point().join("Beta")).unwrap();
    assert_eq!(
        (stat.uid(), stat.gid(), stat.mode() & 0o7777),
        (1, 2, 0o500)
    );
    assert!(!as_other(&daemon).status.success(), "the umask holds");
    daemon.stop();
    let daemon = home.mount_scanned(&["--allow-other"]);
    let len = fs::metadata(home.origin().join("Ünïcode/beta/track.mp3"))
        .unwrap()
        .len();
    let read = as_other(&daemon);
    assert_eq!(
        String::from_utf8_lossy(&read.stdout).trim(),
        len.to_string()
    );
    daemon.stop();
    let daemon = home.mount_scanned(&[]);
    assert!(
        !as_other(&daemon).status.success(),
        "nobody else without allow_other"
    );
    daemon.stop();
}

#[test]
fn nothing_is_written_to_the_origin() {
    let home = Home::with_music();
    let before = tree::stats(&home.origin());
    let daemon = home.mount_scanned(&[]);
    tree::assert_bytes_equal(daemon.mount_point(), &home.origin());
    daemon.stop();
    assert_eq!(tree::stats(&home.origin()), before);
    assert!(Path::new(&home.state()).join("metadata.db").exists());
}
