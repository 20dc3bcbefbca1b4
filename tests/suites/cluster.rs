//! Clusters on the command line: what the real program shows, keeps, and leaves when it is killed.

#![expect(clippy::unwrap_used, reason = "test code")]

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use musicfs_tests::daemon::Home;
use serde_json::Value;

/// More system calls of one kind than any of these commands makes.
const CALLS_MAX: u64 = 200;

fn json(home: &Home, args: &[&str]) -> Value {
    let output = home.run(&[&["--json", "cluster"], args].concat());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {errors}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn run(home: &Home, args: &[&str]) -> Output {
    home.run(&[&["cluster"], args].concat())
}

/// Runs with `input` on standard input.
fn run_with(home: &Home, args: &[&str], input: &str) -> Output {
    let mut child = home
        .command(&[&["cluster"], args].concat())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    child.wait_with_output().unwrap()
}

fn text(output: &Output) -> String {
    let [out, errors] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    format!("{out}{errors}")
}

fn code(home: &Home) -> String {
    let shown = json(home, &["show", "--join-code"]);
    shown["join_code"].as_str().unwrap().to_owned()
}

#[test]
fn two_nodes_become_a_cluster_and_part_again() {
    let (first, second) = (Home::new(), Home::new());
    assert_eq!(json(&first, &["show"])["cluster"], Value::Null);
    let made = run(&first, &["init"]);
    assert!(made.status.success());
    assert!(text(&made).contains("at its next start"), "{}", text(&made));
    let founder = json(&first, &["show"]);
    let code = code(&first);

    // On a terminal it is typed; from a pipe there is more than one way to end the line.
    let joined = run_with(
        &second,
        &["join", "-"],
        &format!("{}\r\nmore", code.to_lowercase()),
    );
    assert!(joined.status.success(), "{}", text(&joined));
    let member = json(&second, &["show"]);
    assert_eq!(member["cluster"], founder["cluster"]);
    assert_ne!(member["node_id"], founder["node_id"]);
    assert_eq!(json(&second, &["join", &code])["joined"], false);

    let rotated = run(&first, &["rotate"]);
    assert!(rotated.status.success());
    let after = json(&first, &["show"]);
    assert_ne!(after["cluster"], founder["cluster"]);
    assert_eq!(after["node_id"], founder["node_id"]);
    assert_ne!(self::code(&first), code);
    let refused = run_with(&second, &["join", "-"], &self::code(&first));
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        text(&refused).contains("musicfs cluster leave"),
        "{}",
        text(&refused)
    );
    let left = run(&second, &["leave"]);
    assert!(left.status.success());
    let joined = run_with(&second, &["join", "-"], &self::code(&first));
    assert_eq!(json(&second, &["show"])["cluster"], after["cluster"]);
    assert_ne!(json(&second, &["show"])["node_id"], member["node_id"]);

    // Nothing but `show --join-code` tells the code, or what is in the files.
    let key = fs::read_to_string(first.state().join("cluster/cluster.key")).unwrap();
    let key = key.lines().nth(1).unwrap().to_owned();
    for output in [made, rotated, refused, left, joined, run(&first, &["show"])] {
        for secret in [&code, &self::code(&first), &key] {
            assert!(
                !text(&output).contains(secret.as_str()),
                "{}",
                text(&output)
            );
        }
    }
}

#[test]
fn a_wrong_code_is_usage_and_leaves_nothing() {
    let home = Home::new();
    for output in [
        run(&home, &["join", "9G64S-36D1N-6RVKG-EB1C9-HP8SB-6T57G"]),
        run_with(
            &home,
            &["join", "-"],
            "9G64S-36D1N\n6RVKG-EB1C9-HP8SB-6T57H\n",
        ),
        run_with(&home, &["join", "-"], &"8".repeat(1 << 16)),
        run_with(&home, &["join", "-"], ""),
        run(&home, &["join"]),
    ] {
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        assert!(!text(&output).contains("9G64S"), "{}", text(&output));
    }
    assert!(!home.state().exists());
}

#[test]
fn keys_that_others_can_read_are_refused_with_what_mends_them() {
    let home = Home::new();
    json(&home, &["init"]);
    let path = home.state().join("cluster/cluster.key");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let refused = run(&home, &["show"]);
    assert_eq!(refused.status.code(), Some(1));
    let told = text(&refused);
    let fix = format!("chmod 600 {}", path.display());
    assert!(told.contains(&fix) && told.lines().count() == 1, "{told}");
    musicfs_tests::sh(&fix);
    json(&home, &["show"]);
}

/// Runs a command of the cluster under strace with these arguments.
fn traced(home: &Home, options: &[&str], args: &[&str]) -> Output {
    let command = home.command(&[&["cluster"], args].concat());
    let mut traced = Command::new("strace");
    traced.args(["-f", "-qq"]).args(options);
    traced.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => traced.env(name, value),
            None => traced.env_remove(name),
        };
    }
    traced.output().unwrap()
}

/// Kills `args` at every call of a kind in turn; each time `check` looks at what is left. Returns how
/// often it was killed.
fn kill_everywhere(home: impl Fn() -> Home, args: &[&str], check: impl Fn(&Home)) -> u64 {
    let mut kills = 0;
    for calls in [
        "mkdir,mkdirat",
        "fsync",
        "write",
        "rename,renameat,renameat2",
        "flock",
    ] {
        for number in 1..=CALLS_MAX {
            let home = home();
            let trace = format!("trace={calls}");
            let inject = format!("inject={calls}:signal=SIGKILL:when={number}");
            let output = traced(
                &home,
                &["-o", "/dev/null", "-e", &trace, "-e", &inject],
                args,
            );
            check(&home);
            if output.status.success() {
                break;
            }
            assert_eq!(
                output.status.signal(),
                Some(9),
                "{calls}: {}",
                text(&output)
            );
            assert!(number < CALLS_MAX, "{calls} has no end");
            kills += 1;
        }
    }
    kills
}

#[test]
fn a_kill_at_any_point_leaves_the_old_keys_or_the_new_ones() {
    let kills = kill_everywhere(Home::new, &["init"], |home| {
        // None yet, or all of it.
        if json(home, &["show"])["cluster"] == Value::Null {
            json(home, &["init"]);
        }
        assert!(json(home, &["show"])["node_id"].is_string());
    });
    assert!(kills >= 8, "only {kills} kills");
    let founded = || {
        let home = Home::new();
        json(&home, &["init"]);
        fs::copy(home.state().join("cluster/node.key"), home.path("node.key")).unwrap();
        home
    };
    let kills = kill_everywhere(founded, &["rotate"], |home| {
        let before = json(home, &["show"]);
        assert!(before["cluster"].is_string());
        let node = fs::read(home.state().join("cluster/node.key")).unwrap();
        assert!(
            node == fs::read(home.path("node.key")).unwrap(),
            "another node key"
        );
        assert_ne!(json(home, &["rotate"])["cluster"], before["cluster"]);
    });
    assert!(kills >= 4, "only {kills} kills");
}

#[test]
fn a_key_is_on_the_disk_before_it_has_its_name() {
    let home = Home::new();
    json(&home, &["init"]);
    let log = home.path("trace");
    let options = [
        "-o",
        log.to_str().unwrap(),
        "-e",
        "trace=fsync,rename,renameat,renameat2",
    ];
    assert!(traced(&home, &options, &["rotate"]).status.success());
    let log = fs::read_to_string(log).unwrap();
    let calls: Vec<&str> = log
        .lines()
        .filter_map(|line| {
            ["fsync", "rename"]
                .into_iter()
                .find(|call| line.contains(call))
        })
        .collect();
    assert_eq!(calls, ["fsync", "rename", "fsync"], "{log}");
}

/// The sockets of a process that others could reach: what /proc/net lists of the inodes that it holds.
fn ports(pid: u32) -> Vec<String> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let targets = descriptors.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    let held: Vec<String> = targets
        .filter_map(|target| {
            let target = target.to_str()?;
            Some(
                target
                    .strip_prefix("socket:[")?
                    .strip_suffix(']')?
                    .to_owned(),
            )
        })
        .collect();
    assert!(!held.is_empty(), "not even the control socket is seen");
    let mut ports = Vec::new();
    for table in ["tcp", "tcp6", "udp", "udp6"] {
        let path = format!("/proc/{pid}/net/{table}");
        let Ok(text) = fs::read_to_string(Path::new(&path)) else {
            continue;
        };
        let open = text.lines().filter(|line| {
            let inode = line.split_whitespace().nth(9);
            inode.is_some_and(|inode| held.iter().any(|held| held == inode))
        });
        ports.extend(open.map(|line| format!("{table}: {line}")));
    }
    ports
}

#[test]
fn a_daemon_has_a_port_while_it_has_a_key() {
    let home = Home::with_music();
    let listen = ["--peer-listen=127.0.0.1:0", "--peer-mdns=no"];
    let daemon = home.mount_scanned(&listen);
    let none = [] as [String; 0];
    assert_eq!(ports(daemon.pid()), none);
    let made = run(&home, &["init"]);
    assert!(text(&made).contains("has taken this up"), "{}", text(&made));
    let first = ports(daemon.pid());
    assert_eq!(first.len(), 1, "{first:?}");
    json(&home, &["rotate"]);
    assert_eq!(ports(daemon.pid()).len(), 1);
    let code = code(&home);
    assert!(!daemon.log().contains(&code));
    json(&home, &["leave"]);
    assert_eq!(ports(daemon.pid()), none);
    daemon.stop();
}

#[test]
fn a_daemon_whose_keys_are_damaged_plays_alone_and_says_so() {
    let home = Home::with_music();
    json(&home, &["init"]);
    let keys = json(&home, &["show"])["keys"].as_str().unwrap().to_owned();
    fs::write(Path::new(&keys).join("cluster.key"), "no key").unwrap();
    let daemon = home.mount_scanned(&["--peer-listen=127.0.0.1:0", "--peer-mdns=no"]);
    assert_eq!(ports(daemon.pid()), [] as [String; 0]);
    daemon.stop_expecting(&["takes no part in its cluster"]);
}
