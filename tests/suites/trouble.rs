//! Bad input and trouble: one clear line with cause and fix, the documented exit code, nothing lost.

#![expect(clippy::unwrap_used, reason = "test code")]

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use musicfs_tests::daemon::{Home, is_mounted};
use musicfs_tests::outcome::{Guarded, assert_no_trace, outcome, refused};
use musicfs_tests::{tree, wait_for, wait_until};

/// `musicfs mount` on the home's mount point, from `origin`.
fn mount_of(home: &Home, origin: &str) -> Command {
    let mount_point = home.mount_point();
    home.command(&["mount", mount_point.to_str().unwrap(), "--origin", origin])
}

/// `musicfs mount` on `mount_point`, from the home's origin.
fn mount_on(home: &Home, mount_point: &Path) -> Command {
    let origin = home.origin();
    let origin = origin.to_str().unwrap();
    home.command(&["mount", mount_point.to_str().unwrap(), "--origin", origin])
}

/// A home with an empty origin.
fn bare() -> Home {
    let home = Home::new();
    fs::create_dir(home.origin()).unwrap();
    home
}

/// `mount_on` the home's mount point as an ordinary user.
fn mount_as_nobody(home: &Home, origin: &Path) -> Command {
    let mount_point = home.mount_point();
    let origin = origin.to_str().unwrap();
    home.command_as_nobody(&["mount", mount_point.to_str().unwrap(), "--origin", origin])
}

/// `command` in a mount namespace of its own, after the shell commands of `setup`.
fn isolated(setup: &str, command: &Command) -> Command {
    let mut isolated = Command::new("unshare");
    // The other tests' mounts must not live on in there.
    let leave = "for m in $(awk '$9 ~ /fuse/ || $10 ~ /fuse/ {print $5}' /proc/self/mountinfo); do
                     umount -l \"$m\" || true; done";
    let script = format!("{leave}\n{setup}\nexec \"$@\"");
    isolated.args(["-m", "bash", "-euc", &script, "bash"]);
    isolated.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => isolated.env(name, value),
            None => isolated.env_remove(name),
        };
    }
    isolated
}

#[test]
fn an_origin_that_cannot_be_used_is_named() {
    let home = Home::new();
    refused(
        mount_of(&home, "/nonexistent/music"),
        1,
        &["/nonexistent/music", "No such file", "check"],
    );
    let file = home.path("file");
    fs::write(&file, "x").unwrap();
    refused(
        mount_of(&home, file.to_str().unwrap()),
        1,
        &["not a directory", "check"],
    );
    let closed = home.path("closed");
    fs::create_dir(&closed).unwrap();
    let command = mount_as_nobody(&home, &closed);
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    refused(command, 1, &["closed", "ermission denied"]);
    assert!(!is_mounted(&home.mount_point()));
}

#[test]
fn a_configured_origin_may_be_away_once_it_is_indexed() {
    let home = Home::with_music();
    let config = home.path("config.toml");
    let text = format!("[[origins]]\nid = \"nas\"\npath = {:?}\n", home.origin());
    fs::write(&config, text).unwrap();
    let away = home.path("away");
    fs::rename(home.origin(), &away).unwrap();
    let (mount_point, config) = (home.mount_point(), config.to_str().unwrap());
    let args = ["mount", mount_point.to_str().unwrap(), "--config", config];
    refused(
        home.command(&args),
        1,
        &["/origin", "no such directory", "mount its disk"],
    );
    fs::rename(&away, home.origin()).unwrap();
    let daemon = home.mount_scanned(&["--config", config]);
    let before = tree::stats(daemon.mount_point());
    daemon.stop();
    fs::rename(home.origin(), &away).unwrap();
    let daemon = home.mount(&["--config", config]);
    daemon.wait_for_log("the origin does not answer");
    assert_eq!(tree::stats(daemon.mount_point()), before);
    wait_until("the status to say so", || home.state_shown() == "degraded");
    daemon.stop_expecting(&["the origin does not answer"]);
}

#[test]
fn a_mount_point_that_cannot_be_used_is_named_with_the_fix() {
    let home = bare();
    refused(
        mount_on(&home, &home.path("missing")),
        1,
        &["missing", "no such directory", "mkdir"],
    );
    let file = home.path("file");
    fs::write(&file, "x").unwrap();
    refused(
        mount_on(&home, &file),
        1,
        &["file", "not a directory", "choose"],
    );
    let full = home.path("full");
    fs::create_dir_all(full.join("x")).unwrap();
    refused(mount_on(&home, &full), 1, &["full", "not empty", "choose"]);
    refused(
        mount_on(&home, Path::new("/proc")),
        1,
        &["/proc", "mounted there", "unmount"],
    );
    let daemon = home.mount_scanned(&[]);
    let other = bare();
    let again = other.command(&[
        "mount",
        home.mount_point().to_str().unwrap(),
        "--origin",
        other.origin().to_str().unwrap(),
    ]);
    refused(again, 1, &["mounted there", home.name(), "musicfs umount"]);
    assert!(
        fs::read_dir(daemon.mount_point()).is_ok(),
        "the first still serves"
    );
    daemon.stop();
}

#[test]
fn a_machine_without_fuse_is_told_what_it_lacks() {
    let home = bare();
    let mount = mount_on(&home, &home.mount_point());
    let masked = isolated("mount -t tmpfs tmpfs /dev", &mount);
    refused(masked, 1, &["/dev/fuse", "does not exist", "modprobe fuse"]);
    let user = mount_as_nobody(&home, &home.origin());
    let closed =
        "mount -t tmpfs tmpfs /dev; mknod -m 600 /dev/fuse c 10 229; mknod -m 666 /dev/null c 1 3";
    refused(
        isolated(closed, &user),
        1,
        &["/dev/fuse", "no permission", "0666"],
    );
    let open =
        "mount -t tmpfs tmpfs /dev; mknod -m 666 /dev/fuse c 10 229; mknod -m 666 /dev/null c 1 3";
    // What setpriv runs inherits a PATH without the helper.
    let helpless = isolated(
        &format!(
            "{open}; s=$(type -p \"$1\"); shift; set -- \"$s\" \"$@\"; export PATH={:?}",
            home.path("")
        ),
        &user,
    );
    refused(helpless, 1, &["fusermount3", "fuse3"]);
    let mut shared = mount_as_nobody(&home, &home.origin());
    shared.arg("--allow-other");
    let strict = format!("{open}; mount --bind /dev/null /etc/fuse.conf");
    refused(
        isolated(&strict, &shared),
        1,
        &["allow_other", "user_allow_other", "fuse.conf"],
    );
}

#[test]
fn a_state_directory_that_cannot_be_written_is_named() {
    let home = bare();
    let state = home.path("state");
    let command = mount_as_nobody(&home, &home.origin());
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o555)).unwrap();
    refused(command, 1, &["state", "ermission denied", "XDG_STATE_HOME"]);
}

#[test]
fn a_wrong_command_line_or_configuration_is_explained() {
    let home = bare();
    let mount_point = home.mount_point();
    let mount_point = mount_point.to_str().unwrap();
    refused(
        home.command(&["mount", mount_point]),
        2,
        &["no origin", "--origin"],
    );
    refused(
        home.command(&["status"]),
        3,
        &["no musicfs daemon", "musicfs mount"],
    );
    refused(home.command(&["origin", "list"]), 3, &["no musicfs daemon"]);
    refused(
        home.command(&["umount", mount_point]),
        1,
        &["no musicfs", mount_point],
    );
    let mut template = mount_on(&home, &home.mount_point());
    template.args(["--template", "$artist/$titel"]);
    let output = outcome(template);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(
        text.contains("titel") && text.contains("title") && text.contains('9'),
        "{text}"
    );
    let config = home.path("config.toml");
    fs::write(&config, "umask = \"022\"\ntemplat = \"x\"\n").unwrap();
    let config = home.command(&["config", "check", "--config", config.to_str().unwrap()]);
    refused(config, 1, &["config.toml:2", "templat", "`template`"]);
}

#[test]
fn a_second_daemon_of_one_name_is_told_so() {
    let home = Home::with_music();
    let daemon = home.mount_scanned(&[]);
    let second = home.path("second");
    fs::create_dir(&second).unwrap();
    let words = [home.name(), "running already", "--name"];
    refused(mount_on(&home, &second), 1, &words);
    let mut background = mount_on(&home, &second);
    background.arg("--daemon");
    refused(background, 1, &words);
    assert!(!is_mounted(&second));
    tree::assert_bytes_equal(daemon.mount_point(), &home.origin());
    daemon.stop();
}

#[test]
fn of_two_daemons_that_start_at_once_one_serves() {
    let home = Home::with_music();
    let points = ["one", "two"].map(|name| home.path(name));
    let logs = ["one", "two"].map(|name| home.path(&format!("{name}.log")));
    points
        .iter()
        .for_each(|point| fs::create_dir(point).unwrap());
    let start = |(point, log): (&PathBuf, &PathBuf)| {
        let errors = File::create(log).unwrap();
        Guarded(mount_on(&home, point).stderr(errors).spawn().unwrap())
    };
    let mut both: Vec<Guarded> = points.iter().zip(&logs).map(start).collect();
    let (loser, _) = wait_for("one of them to give up", || {
        (0..2).find(|&at| both[at].0.try_wait().unwrap().is_some())
    });
    let code = both[loser].0.wait().unwrap().code();
    let said = fs::read_to_string(&logs[loser]).unwrap();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("--name"), "{said}");
    assert_no_trace(&said);
    let winner = &points[1 - loser];
    wait_until("the other to serve", || {
        is_mounted(winner) && !tree::files(winner).is_empty()
    });
    assert!(!is_mounted(&points[loser]));
    assert!(home.run(&["umount"]).status.success());
    assert!(both[1 - loser].0.wait().unwrap().success());
}
