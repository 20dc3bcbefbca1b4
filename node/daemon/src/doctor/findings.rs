//! What the facts mean. Pure: the same facts give the same findings.

use super::cache;
use super::facts::{Facts, Reach, SocketFacts, SshReach};

/// The first kernel with FUSE passthrough.
const PASSTHROUGH_KERNEL: (u32, u32) = (6, 9);

/// Watches that a large library needs: one for each directory.
const WATCHES_WANTED: u64 = 65_536;

/// Inotify descriptors below which other programs soon leave none for MusicFS.
const INSTANCES_WANTED: u64 = 128;

/// What 10,000 open tracks need: the origin's file and, under passthrough, the kernel's hold on it.
const OPEN_FILES_WANTED: u64 = 20_000;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// What was looked at, in one word.
    pub(crate) check: &'static str,
    /// How bad it is.
    pub(crate) level: Level,
    /// What was found.
    pub(crate) message: String,
    /// What to do.
    pub(crate) fix: Option<String>,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// All is well.
    Ok,
    /// It works, and could work better.
    Warning,
    /// It does not work.
    Error,
}

impl Level {
    /// As it is printed.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// Judges the facts, in the order in which a mount would run into them.
pub(crate) fn decide(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![fuse_device(facts)];
    findings.extend(fusermount(facts));
    findings.extend(allow_other(facts));
    findings.push(passthrough(facts));
    findings.push(watches(facts));
    findings.push(instances(facts));
    findings.push(open_files(facts));
    findings.push(config(facts));
    findings.extend(origins(facts));
    findings.extend(keys(facts));
    findings.extend(dirs(facts));
    findings.extend(facts.config.cache.as_ref().and_then(cache::decide));
    findings.extend(stale_mounts(facts));
    findings.push(socket(facts));
    findings
}

pub(super) fn ok(check: &'static str, message: impl Into<String>) -> Finding {
    Finding {
        check,
        level: Level::Ok,
        message: message.into(),
        fix: None,
    }
}

pub(super) fn warning(
    check: &'static str,
    message: impl Into<String>,
    fix: impl Into<String>,
) -> Finding {
    Finding {
        check,
        level: Level::Warning,
        message: message.into(),
        fix: Some(fix.into()),
    }
}

pub(super) fn error(
    check: &'static str,
    message: impl Into<String>,
    fix: impl Into<String>,
) -> Finding {
    Finding {
        level: Level::Error,
        ..warning(check, message, fix)
    }
}

fn fuse_device(facts: &Facts) -> Finding {
    let check = "fuse";
    match &facts.fuse_device {
        Reach::Ok => ok(check, "/dev/fuse can be opened"),
        Reach::Missing => error(
            check,
            "/dev/fuse does not exist",
            "load the module with `modprobe fuse`; in a container pass --device /dev/fuse",
        ),
        Reach::Denied => error(
            check,
            "/dev/fuse may not be opened by this user",
            "give it mode 0666, as udev does, or add this user to the group that owns it",
        ),
        Reach::Broken(reason) => error(
            check,
            format!("/dev/fuse cannot be opened: {reason}"),
            "load the module with `modprobe fuse`; in a container allow the device (10:229)",
        ),
    }
}

fn fusermount(facts: &Facts) -> Option<Finding> {
    let check = "fusermount";
    if facts.is_root {
        // Root mounts without help.
        return None;
    }
    Some(match &facts.fusermount {
        None => error(
            check,
            "fusermount3 is not in the PATH, and only root mounts without it",
            "install the package fuse3",
        ),
        Some(found) if !found.is_setuid_root => error(
            check,
            format!("{} does not run as root", found.path.display()),
            format!("run `chmod u+s {}` as root", found.path.display()),
        ),
        Some(found) => ok(check, format!("{} mounts for users", found.path.display())),
    })
}

fn allow_other(facts: &Facts) -> Option<Finding> {
    let check = "allow_other";
    if !facts.config.wants_allow_other || facts.is_root {
        return None;
    }
    Some(if facts.fuse_conf_allows_other {
        ok(check, "/etc/fuse.conf lets users set allow_other")
    } else {
        error(
            check,
            "allow_other is set, and /etc/fuse.conf does not let users set it",
            "add the line `user_allow_other` to /etc/fuse.conf, or turn allow_other off",
        )
    })
}

fn passthrough(facts: &Facts) -> Finding {
    let check = "passthrough";
    let (major, minor) = PASSTHROUGH_KERNEL;
    if !facts.config.wants_passthrough {
        return ok(check, "passthrough is turned off");
    }
    if facts
        .kernel
        .is_none_or(|kernel| kernel < PASSTHROUGH_KERNEL)
    {
        return warning(
            check,
            format!("this kernel is older than {major}.{minor} and has no FUSE passthrough"),
            "reads of local files go through the daemon; a newer kernel makes them faster",
        );
    }
    if !facts.is_sys_admin {
        return warning(
            check,
            "without CAP_SYS_ADMIN the kernel allows no passthrough",
            "reads of local files go through the daemon; a mount by root makes them faster",
        );
    }
    ok(check, "the kernel can read local files itself")
}

fn watches(facts: &Facts) -> Finding {
    let check = "watches";
    match facts.watches_max {
        Some(max) if max >= WATCHES_WANTED => {
            ok(check, format!("{max} directories may be watched"))
        }
        Some(max) => warning(
            check,
            format!("only {max} directories may be watched; a larger library is walked instead"),
            format!("run `sysctl fs.inotify.max_user_watches={WATCHES_WANTED}` as root"),
        ),
        None => warning(
            check,
            "this kernel has no inotify; changes are found by walking",
            "rescan with `musicfs origin rescan` after changes",
        ),
    }
}

fn instances(facts: &Facts) -> Finding {
    let check = "instances";
    match facts.instances_max {
        Some(max) if max < INSTANCES_WANTED => warning(
            check,
            format!("only {max} inotify descriptors for all programs of this user"),
            format!("run `sysctl fs.inotify.max_user_instances={INSTANCES_WANTED}` as root"),
        ),
        Some(max) => ok(check, format!("{max} inotify descriptors for this user")),
        // The finding on watches has said it.
        None => ok(check, "no inotify descriptors to count"),
    }
}

fn open_files(facts: &Facts) -> Finding {
    let check = "open_files";
    let (soft, hard) = facts.open_files;
    // The daemon raises its soft limit to the hard one.
    match hard {
        Some(hard) if hard < OPEN_FILES_WANTED => warning(
            check,
            format!("only {hard} files may be open at once"),
            format!("set LimitNOFILE={OPEN_FILES_WANTED} in the unit, or raise `ulimit -Hn`"),
        ),
        _ => {
            let count = |limit: Option<u64>| limit.map_or("unlimited".into(), |n| n.to_string());
            ok(
                check,
                format!("open files: {} now, {} at most", count(soft), count(hard)),
            )
        }
    }
}

fn config(facts: &Facts) -> Finding {
    let check = "config";
    match (&facts.config.error, &facts.config.file) {
        (Some(reason), _) => error(
            check,
            reason.clone(),
            "`musicfs config check` looks at it again",
        ),
        (None, Some(file)) => ok(check, format!("{} is right", file.display())),
        (None, None) => ok(check, "there is no configuration file, and none is needed"),
    }
}

fn origins(facts: &Facts) -> Vec<Finding> {
    let check = "origin";
    let judge = |(id, path, reach): &(String, _, Reach)| {
        let path: &std::path::PathBuf = path;
        let path = path.display();
        match reach {
            Reach::Ok => ok(check, format!("origin {id}: {path} can be read")),
            Reach::Missing => error(
                check,
                format!("origin {id}: {path} does not exist"),
                "mount what belongs there, or correct its path",
            ),
            Reach::Denied => error(
                check,
                format!("origin {id}: {path} may not be read by this user"),
                format!("run `chmod o+rx {path}`, or mount as a user that may read it"),
            ),
            Reach::Broken(reason) => error(
                check,
                format!("origin {id}: {path} cannot be listed: {reason}"),
                "correct its path, or look into the disk",
            ),
        }
    };
    facts.config.origins.iter().map(judge).collect()
}

/// What a login needs, for the origins that log in.
fn keys(facts: &Facts) -> Vec<Finding> {
    let check = "ssh";
    let judge = |(id, keys): &(String, SshReach)| match (keys.knows_hosts, keys.has_key) {
        (true, true) => ok(
            check,
            format!("origin {id}: there are host keys and a key to log in"),
        ),
        (false, _) => warning(
            check,
            format!("origin {id}: there is no file of host keys, and no host is trusted without"),
            "connect once with ssh, compare the fingerprint, and accept it",
        ),
        (true, false) => warning(
            check,
            format!("origin {id}: there is neither an ssh-agent nor a key file"),
            "make a key with ssh-keygen, or set SSH_AUTH_SOCK in the daemon's environment",
        ),
    };
    facts.config.ssh.iter().map(judge).collect()
}

fn dirs(facts: &Facts) -> Vec<Finding> {
    let check = "directory";
    let variable = |name: &str| match name {
        "state" => "XDG_STATE_HOME",
        "cache" => "cache_dir",
        _ => "XDG_RUNTIME_DIR",
    };
    let judge = |(name, path, reach): &(&'static str, std::path::PathBuf, Reach)| {
        let path = path.display();
        match reach {
            Reach::Ok => ok(check, format!("{name} directory {path} can be written")),
            Reach::Missing | Reach::Denied => error(
                check,
                format!("{name} directory {path} cannot be written by this user"),
                format!("mend its permissions, or set {} elsewhere", variable(name)),
            ),
            Reach::Broken(reason) => error(
                check,
                format!("{name} directory {path} cannot be written: {reason}"),
                format!("mend the disk, or set {} elsewhere", variable(name)),
            ),
        }
    };
    facts.dirs.iter().map(judge).collect()
}

fn stale_mounts(facts: &Facts) -> Vec<Finding> {
    let judge = |path: &std::path::PathBuf| {
        let path = path.display();
        error(
            "stale_mount",
            format!("{path} is mounted and its daemon is gone"),
            format!("run `musicfs umount {path}`; the next mount there does it, too"),
        )
    };
    facts.stale_mounts.iter().map(judge).collect()
}

fn socket(facts: &Facts) -> Finding {
    let check = "socket";
    let (path, state) = &facts.socket;
    let path = path.display();
    match state {
        SocketFacts::Absent => ok(check, "no daemon of this instance is running"),
        SocketFacts::Alive => ok(check, format!("a daemon answers on {path}")),
        SocketFacts::Stale => warning(
            check,
            format!("{path} was left by a daemon that is gone"),
            "nothing to do: the next mount replaces it",
        ),
        SocketFacts::Foreign => error(
            check,
            format!("{path} is no socket that this user may use"),
            format!("look what it is and remove it: `ls -l {path}`"),
        ),
    }
}

#[cfg(test)]
mod tests;
