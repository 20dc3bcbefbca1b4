use super::super::facts::{ConfigFacts, Fusermount};
use super::*;

/// A machine on which all is well.
fn well() -> Facts {
    Facts {
        is_root: true,
        fuse_device: Reach::Ok,
        fusermount: None,
        fuse_conf_allows_other: false,
        is_sys_admin: true,
        kernel: Some((6, 9)),
        watches_max: Some(1_048_576),
        instances_max: Some(128),
        open_files: (Some(1024), Some(1_048_576)),
        config: ConfigFacts {
            wants_passthrough: true,
            origins: vec![("nas".into(), "/mnt/nas".into(), Reach::Ok)],
            ssh: vec![(
                "attic".into(),
                SshReach {
                    knows_hosts: true,
                    has_key: true,
                },
            )],
            ..ConfigFacts::default()
        },
        dirs: vec![("state", "/s".into(), Reach::Ok)],
        stale_mounts: Vec::new(),
        socket: ("/run/x.sock".into(), SocketFacts::Absent),
    }
}

fn check(spoil: impl FnOnce(&mut Facts), check: &str, expect: Level) {
    let mut facts = well();
    spoil(&mut facts);
    let findings = decide(&facts);
    let found = findings.iter().find(|finding| finding.check == check);
    let found = found.unwrap_or_else(|| panic!("nothing on {check}"));
    assert_eq!(found.level, expect, "{found:?}");
    assert_eq!(found.fix.is_some(), expect > Level::Ok, "{found:?}");
    let others = findings.iter().filter(|finding| finding.check != check);
    for other in others {
        assert_eq!(other.level, Level::Ok, "{other:?}");
    }
}

#[test]
fn a_healthy_machine_has_no_findings_to_mend() {
    for finding in decide(&well()) {
        assert_eq!(finding.level, Level::Ok, "{finding:?}");
    }
}

#[test]
fn what_stops_a_mount_is_an_error() {
    let broken = Reach::Broken("no such device".into());
    check(|f| f.fuse_device = Reach::Missing, "fuse", Level::Error);
    check(|f| f.fuse_device = Reach::Denied, "fuse", Level::Error);
    check(|f| f.fuse_device = broken, "fuse", Level::Error);
    check(
        |f| f.config.error = Some("x".into()),
        "config",
        Level::Error,
    );
    check(
        |f| f.config.origins[0].2 = Reach::Missing,
        "origin",
        Level::Error,
    );
    check(|f| f.dirs[0].2 = Reach::Denied, "directory", Level::Error);
    check(
        |f| f.stale_mounts.push("/mnt".into()),
        "stale_mount",
        Level::Error,
    );
    check(
        |f| f.socket.1 = SocketFacts::Foreign,
        "socket",
        Level::Error,
    );
}

#[test]
fn what_costs_speed_or_comfort_is_a_warning() {
    check(|f| f.kernel = Some((6, 8)), "passthrough", Level::Warning);
    check(|f| f.kernel = None, "passthrough", Level::Warning);
    check(|f| f.is_sys_admin = false, "passthrough", Level::Warning);
    check(|f| f.watches_max = Some(8192), "watches", Level::Warning);
    check(|f| f.instances_max = Some(16), "instances", Level::Warning);
    check(
        |f| f.open_files = (Some(1024), Some(4096)),
        "open_files",
        Level::Warning,
    );
    check(|f| f.config.ssh[0].1.has_key = false, "ssh", Level::Warning);
    check(
        |f| f.config.ssh[0].1.knows_hosts = false,
        "ssh",
        Level::Warning,
    );
    check(
        |f| f.socket.1 = SocketFacts::Stale,
        "socket",
        Level::Warning,
    );
}

#[test]
fn only_who_is_not_root_needs_fusermount_and_fuse_conf() {
    let user = |f: &mut Facts, setuid: Option<bool>| {
        f.is_root = false;
        f.fusermount = setuid.map(|is_setuid_root| Fusermount {
            path: "/usr/bin/fusermount3".into(),
            is_setuid_root,
        });
    };
    check(|f| user(f, None), "fusermount", Level::Error);
    check(|f| user(f, Some(false)), "fusermount", Level::Error);
    check(|f| user(f, Some(true)), "fusermount", Level::Ok);
    let other = |f: &mut Facts, allowed: bool| {
        user(f, Some(true));
        f.config.wants_allow_other = true;
        f.fuse_conf_allows_other = allowed;
    };
    check(|f| other(f, false), "allow_other", Level::Error);
    check(|f| other(f, true), "allow_other", Level::Ok);
    let mut root = well();
    root.config.wants_allow_other = true;
    let on_root = decide(&root);
    assert!(on_root.iter().all(|finding| finding.check != "allow_other"));
}

#[test]
fn passthrough_that_is_turned_off_needs_nothing() {
    check(
        |f| {
            f.config.wants_passthrough = false;
            f.kernel = Some((5, 4));
        },
        "passthrough",
        Level::Ok,
    );
}
