//! Origins that come and go while the mount serves.

use musicfs_tests::outcome;
use rustix::process::{Pid, Signal, kill_process};

use super::*;

fn hangup(daemon: &musicfs_tests::daemon::Daemon) {
    let pid = Pid::from_raw(daemon.pid().cast_signed()).unwrap();
    kill_process(pid, Signal::HUP).unwrap();
}

#[test]
fn origins_come_and_go_by_sighup() {
    let pair = Pair::new([Place::S3, Place::Sftp]);
    pair.configure(&[1]);
    let daemon = pair.mount();
    daemon.wait_scanned(1);
    let mount = daemon.mount_point();
    assert_eq!(tree::files(mount).len(), pair::FILES);
    let origin = |number| tree::xattr(&pair.track(number).0, "user.musicfs.origin");
    assert_eq!(origin(1), "second");
    let open = fs::File::open(pair.track(2).0).unwrap();

    pair.configure(&[0, 1]);
    hangup(&daemon);
    wait_until("the new origin to lead every file", || {
        let files = tree::files(mount);
        let leads =
            |file: &String| tree::xattr(&mount.join(file), "user.musicfs.origin") == "first";
        files.len() == pair::FILES && files.iter().all(leads)
    });

    pair.configure(&[0]);
    hangup(&daemon);
    wait_until("the old origin to be gone", || {
        daemon.log().contains("removed=second") || daemon.log().contains("removed=\"second\"")
    });
    assert_eq!(tree::files(mount).len(), pair::FILES);
    let (file, original) = pair.track(1);
    assert!(is_equal(&file, &original).unwrap());
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut &open, &mut bytes).unwrap();
    assert!(
        bytes == fs::read(pair.track(2).1).unwrap(),
        "what is open stays open"
    );

    fs::write(pair.home.path("config.toml"), "mount_pint = 5\n").unwrap();
    hangup(&daemon);
    wait_until("the mistake to be told", || {
        daemon.log().contains("mount_pint")
    });
    assert_eq!(tree::files(mount).len(), pair::FILES);
    let forgotten = outcome::outcome(pair.home.command(&["origin", "forget", "second"]));
    assert!(forgotten.status.success());
    daemon.stop_expecting(&["the configuration cannot be used"]);
}
