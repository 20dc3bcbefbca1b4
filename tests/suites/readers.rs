//! Real programs on the real mount.

use std::fs;
use std::process::{Child, Command};

use musicfs_tests::daemon::Home;
use musicfs_tests::{corpus, sh, sh_output, wait_until};

#[test]
fn flac_ffprobe_and_mutagen_read_everything() {
    let home = Home::with_music();
    let daemon = home.mount_scanned(&[]);
    let mount = daemon.mount_point();
    sh(&format!(
        "cd {mount:?}; find . -name '*.flac' -print0 | xargs -0 flac -st"
    ));
    let audio = r"\( -name '*.flac' -o -name '*.mp3' -o -name '*.ogg' -o -name '*.opus' \
                  -o -name '*.m4a' -o -name '*.wav' -o -name '*.aiff' \)";
    let probed = sh(&format!(
        "cd {mount:?}; find . {audio} -print0 | xargs -0 -n1 ffprobe -v error -of csv=p=0 \
         -show_entries format=duration"
    ));
    assert_eq!(probed.lines().count(), corpus::TRACKS.len());
    assert!(
        probed
            .lines()
            .all(|line| line.parse::<f64>().unwrap() > 0.5),
        "{probed}"
    );
    let script = "import sys, mutagen\n\
                  for path in sys.argv[1:]:\n    print(mutagen.File(path, easy=True).info.length)";
    fs::write(home.path("probe.py"), script).unwrap();
    let probe = home.path("probe.py");
    let read = sh(&format!(
        "cd {mount:?}; find . {audio} -print0 | xargs -0 /usr/bin/python3 {probe:?}"
    ));
    assert_eq!(read.lines().count(), corpus::TRACKS.len());
    daemon.stop();
}

/// MPD, ended when dropped.
struct Mpd {
    child: Child,
}

impl Drop for Mpd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn mpd_indexes_and_plays_everything() {
    let home = Home::with_music();
    let daemon = home.mount_scanned(&[]);
    let (mount, dir) = (daemon.mount_point(), home.path("mpd"));
    fs::create_dir(&dir).unwrap();
    let socket = dir.join("socket");
    let config = format!(
        "music_directory {mount:?}\nplaylist_directory {dir:?}\ndb_file \"{0}/db\"\n\
         state_file \"{0}/state\"\nbind_to_address {socket:?}\nzeroconf_enabled \"no\"\n\
         audio_output {{\n type \"null\"\n name \"null\"\n sync \"no\"\n}}\n",
        dir.display()
    );
    fs::write(dir.join("conf"), config).unwrap();
    let mut mpd = Command::new("mpd");
    let child = mpd.args(["--no-daemon", "--stderr"]).arg(dir.join("conf"));
    let log = fs::File::create(dir.join("log")).unwrap();
    let _mpd = Mpd {
        child: child.stderr(log).spawn().unwrap(),
    };
    let mpc = |args: &str| sh(&format!("mpc --host {socket:?} {args}"));
    wait_until("mpd", || {
        sh_output(&format!("mpc --host {socket:?} status"))
            .status
            .success()
    });
    mpc("update --wait");
    let songs = mpc("listall");
    assert_eq!(songs.lines().count(), corpus::TRACKS.len(), "{songs}");
    // At full speed into nowhere: MPD logs each song that it has played to its end.
    mpc("add /");
    mpc("play");
    let log = || fs::read_to_string(dir.join("log")).unwrap().to_lowercase();
    wait_until("the end of the list", || {
        log().matches("player: played").count() == corpus::TRACKS.len()
    });
    let log = log();
    assert!(!log.contains("failed to decode"), "{log}");
    daemon.stop();
}
