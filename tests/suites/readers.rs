//! Real programs on the real mount.

use std::fs;

use musicfs_tests::daemon::Home;
use musicfs_tests::mpd::Mpd;
use musicfs_tests::{corpus, sh, wait_until};

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

#[test]
fn mpd_indexes_and_plays_everything() {
    let home = Home::with_music();
    let daemon = home.mount_scanned(&[]);
    let mpd = Mpd::start(daemon.mount_point(), home.path("mpd"));
    mpd.mpc("update --wait");
    let songs = mpd.mpc("listall");
    assert_eq!(songs.lines().count(), corpus::TRACKS.len(), "{songs}");
    // At full speed into nowhere: MPD logs each song that it has played to its end.
    mpd.mpc("add /");
    mpd.mpc("play");
    wait_until("the end of the list", || {
        mpd.log().matches("player: played").count() == corpus::TRACKS.len()
    });
    let log = mpd.log();
    assert!(!log.contains("failed to decode"), "{log}");
    daemon.stop();
}
