//! Checks before a mount: each finding is one line that names the cause and what to do.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use musicfs_core::error::ErrorKind;
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use rustix::process::geteuid;
use tracing::warn;

use crate::attach::{DEVICE, FUSERMOUNT};
use crate::detach::{Urgency, unmount};
use crate::mountinfo::{self, MountEntry};

/// How long a mount may take to show that it is alive. A dead one answers at once.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// Stale mounts on top of each other that are cleaned: a crash leaves one.
const STALE_MOUNTS_MAX: usize = 8;

/// The configuration of the mount helper.
const FUSE_CONF: &str = "/etc/fuse.conf";

/// Why a mount would not work, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum PreflightError {
    /// There is no such directory.
    #[error("mount on {path:?}: there is no such directory; create it: mkdir -p {path:?}")]
    Missing {
        /// The mount point.
        path: PathBuf,
    },
    /// The mount point is a file or something else.
    #[error("mount on {path:?}: it is not a directory; choose or create one")]
    NotADirectory {
        /// The mount point.
        path: PathBuf,
    },
    /// The mount would hide files.
    #[error("mount on {path:?}: the directory is not empty; choose or create an empty one")]
    NotEmpty {
        /// The mount point.
        path: PathBuf,
    },
    /// The mount point cannot be looked at.
    #[error("mount on {path:?}: the directory cannot be read; check its permissions")]
    Unreadable {
        /// The mount point.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// MusicFS is mounted there.
    #[error(
        "mount on {path:?}: instance {instance:?} is mounted there; end it first: musicfs umount {path:?}"
    )]
    AlreadyMounted {
        /// The mount point.
        path: PathBuf,
        /// The instance that made the mount.
        instance: String,
    },
    /// Something else is mounted there.
    #[error(
        "mount on {path:?}: {source_name} ({fs_type}) is mounted there; unmount it or choose another directory"
    )]
    Occupied {
        /// The mount point.
        path: PathBuf,
        /// The filesystem type of what is mounted.
        fs_type: String,
        /// What is mounted.
        source_name: String,
    },
    /// A mount without a daemon could not be removed.
    #[error(
        "mount on {path:?}: a mount left by a crash cannot be removed; try: umount -l {path:?} (as root)"
    )]
    StaleMount {
        /// The mount point.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The kernel has no FUSE, or a container does not pass it on.
    #[error(
        "open {DEVICE}: it does not exist; load the module (modprobe fuse) or pass the device to the container"
    )]
    NoDevice,
    /// The device is there, but not for this user.
    #[error(
        "open {DEVICE}: no permission; allow it to this user (usual mode 0666) or to the container"
    )]
    DeviceDenied {
        /// What the system says.
        source: io::Error,
    },
    /// Only root can mount without the helper.
    #[error("mount without root: {FUSERMOUNT} is not installed; install package fuse3")]
    NoHelper,
    /// The helper does not let users share their mounts.
    #[error(
        "mount with allow_other without root: add a line user_allow_other to {FUSE_CONF}, or leave allow_other out"
    )]
    AllowOtherDenied,
    /// /proc is not there.
    #[error("read /proc/self/mountinfo: mount /proc")]
    NoMountinfo {
        /// What the system says.
        source: io::Error,
    },
}

impl PreflightError {
    /// What the caller can do. Exhaustive on purpose: a new variant must choose.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Missing { .. } => ErrorKind::NotFound,
            Self::NotADirectory { .. }
            | Self::NotEmpty { .. }
            | Self::AlreadyMounted { .. }
            | Self::Occupied { .. } => ErrorKind::Invalid,
            Self::Unreadable { .. } | Self::DeviceDenied { .. } | Self::AllowOtherDenied => {
                ErrorKind::Denied
            }
            Self::StaleMount { .. } | Self::NoMountinfo { .. } => ErrorKind::Unavailable,
            Self::NoDevice | Self::NoHelper => ErrorKind::Unsupported,
        }
    }
}

/// Makes sure that a mount on `path` can work, and removes what a crash left there.
///
/// Returns the path without symbolic links. Does not touch whatever is mounted there, but for a
/// probe with a time limit of a MusicFS mount. [`crate::mount()`] does the same; whoever has much to
/// do before can fail early.
///
/// # Errors
/// The first finding.
pub fn check(path: &Path, allow_other: bool) -> Result<PathBuf, PreflightError> {
    check_system(&System::look(), allow_other)?;
    // Resolving the last component would be looking at what is mounted on it.
    let parent_resolved = resolve_parent(path);
    clear_mount_point(&parent_resolved)?;
    let unreadable = |source| PreflightError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let resolved = match fs::canonicalize(&parent_resolved) {
        Ok(resolved) => resolved,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(PreflightError::Missing {
                path: path.to_owned(),
            });
        }
        Err(error) => return Err(unreadable(error)),
    };
    clear_mount_point(&resolved)?;
    match fs::read_dir(&resolved).map(|mut entries| entries.next()) {
        Ok(None) => Ok(resolved),
        Ok(Some(_)) => Err(PreflightError::NotEmpty { path: resolved }),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            Err(PreflightError::NotADirectory { path: resolved })
        }
        Err(error) => Err(unreadable(error)),
    }
}

/// What of the system decides whether a mount can work.
#[derive(Debug)]
struct System {
    device: io::Result<()>,
    is_root: bool,
    has_helper: bool,
    lets_users_share: bool,
}

impl System {
    fn look() -> Self {
        let device = OpenOptions::new().read(true).write(true).open(DEVICE);
        let search_path = env::var_os("PATH").unwrap_or_default();
        Self {
            device: device.map(drop),
            is_root: geteuid().is_root(),
            has_helper: is_in_path(&search_path, FUSERMOUNT),
            lets_users_share: fs::read_to_string(FUSE_CONF)
                .is_ok_and(|text| lets_users_share(&text)),
        }
    }
}

fn check_system(system: &System, allow_other: bool) -> Result<(), PreflightError> {
    match &system.device {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let source = io::Error::from(error.kind());
            return Err(PreflightError::DeviceDenied { source });
        }
        // ENODEV and ENXIO: a device node without a driver.
        Err(_) => return Err(PreflightError::NoDevice),
    }
    if !system.is_root && !system.has_helper {
        return Err(PreflightError::NoHelper);
    }
    if !system.is_root && allow_other && !system.lets_users_share {
        return Err(PreflightError::AllowOtherDenied);
    }
    Ok(())
}

fn is_in_path(search_path: &OsStr, program: &str) -> bool {
    env::split_paths(search_path).any(|directory| directory.join(program).is_file())
}

/// Whether fuse.conf lets users mount with allow_other (mount.fuse3(8)).
fn lets_users_share(fuse_conf: &str) -> bool {
    fuse_conf
        .lines()
        .any(|line| line.trim() == "user_allow_other")
}

/// The absolute path without symbolic links but for the last component, which is not looked at.
pub(crate) fn resolve_parent(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    match (absolute.parent(), absolute.file_name()) {
        (Some(parent), Some(name)) => match fs::canonicalize(parent) {
            Ok(parent) => parent.join(name),
            Err(_) => absolute,
        },
        _ => absolute,
    }
}

/// How a mount reacts to a question that its daemon must answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Liveness {
    /// Its connection has ended: nobody will ever answer.
    Dead,
    /// Anything else, silence too: a hanging daemon is still one.
    Alive,
}

/// What to do about something that is mounted at the mount point.
fn decide(entry: &MountEntry, liveness: Liveness) -> Result<(), PreflightError> {
    let path = entry.mount_point.clone();
    match (entry.is_ours(), liveness) {
        (true, Liveness::Dead) => Ok(()),
        (true, Liveness::Alive) => {
            let instance = entry.instance().unwrap_or_else(|| "unknown".to_owned());
            Err(PreflightError::AlreadyMounted { path, instance })
        }
        (false, _) => Err(PreflightError::Occupied {
            path,
            fs_type: entry.fs_type.clone(),
            source_name: entry.source.to_string_lossy().into_owned(),
        }),
    }
}

/// Removes dead MusicFS mounts at `path`; anything else that is mounted there is an error.
fn clear_mount_point(path: &Path) -> Result<(), PreflightError> {
    for _ in 0..STALE_MOUNTS_MAX {
        let mounts = mountinfo::read().map_err(|source| PreflightError::NoMountinfo { source })?;
        let Some(entry) = mountinfo::at(&mounts, path) else {
            return Ok(());
        };
        let liveness = if entry.is_ours() {
            probe(path.to_owned())
        } else {
            Liveness::Alive
        };
        decide(entry, liveness)?;
        if let Err(source) = unmount(path, Urgency::Now) {
            return Err(PreflightError::StaleMount {
                path: path.to_owned(),
                source,
            });
        }
        let instance = entry.instance();
        warn!(
            ?path,
            instance, "removed a mount that a daemon left behind when it died"
        );
    }
    let source = io::Error::other("too many mounts on top of each other");
    Err(PreflightError::StaleMount {
        path: path.to_owned(),
        source,
    })
}

/// Asks the mount for its root's attributes, past the kernel's cache, from a thread that may be
/// left behind if nobody answers.
pub(crate) fn probe(path: PathBuf) -> Liveness {
    let (sender, receiver) = mpsc::sync_channel(1);
    let ask = move || {
        let answer = statx(
            CWD,
            path,
            AtFlags::STATX_FORCE_SYNC,
            StatxFlags::BASIC_STATS,
        );
        let is_dead = answer.is_err_and(|errno| errno == rustix::io::Errno::NOTCONN);
        // The other side may have gone on meanwhile.
        let _ = sender.send(is_dead);
    };
    let spawned = thread::Builder::new()
        .name("fuse-probe".to_owned())
        .spawn(ask);
    match spawned.map(|_| receiver.recv_timeout(PROBE_TIMEOUT)) {
        Ok(Ok(true)) => Liveness::Dead,
        Ok(_) | Err(_) => Liveness::Alive,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn system() -> System {
        System {
            device: Ok(()),
            is_root: false,
            has_helper: true,
            lets_users_share: true,
        }
    }

    #[test]
    fn the_system_is_checked_from_the_device_up() {
        let check = |system: System, allow_other, expect: Option<&str>| {
            let found = check_system(&system, allow_other)
                .err()
                .map(|error| error.to_string());
            match (&found, expect) {
                (None, None) => {}
                (Some(text), Some(part)) if text.contains(part) => {}
                _ => panic!("{system:?}: {found:?}, expected {expect:?}"),
            }
        };
        let fails = |kind: io::ErrorKind| System {
            device: Err(kind.into()),
            ..system()
        };
        check(system(), true, None);
        check(fails(io::ErrorKind::NotFound), false, Some("modprobe fuse"));
        check(fails(io::ErrorKind::Other), false, Some("modprobe fuse"));
        check(
            fails(io::ErrorKind::PermissionDenied),
            false,
            Some("no permission"),
        );
        check(
            System {
                has_helper: false,
                ..system()
            },
            false,
            Some("install package fuse3"),
        );
        let unshared = || System {
            lets_users_share: false,
            ..system()
        };
        check(unshared(), false, None);
        check(
            unshared(),
            true,
            Some("add a line user_allow_other to /etc/fuse.conf"),
        );
        let root = System {
            is_root: true,
            has_helper: false,
            lets_users_share: false,
            ..system()
        };
        check(root, true, None);
    }

    #[test]
    fn only_a_dead_mount_of_ours_is_removed() {
        let entry = |fs_type: &str, source: &str| MountEntry {
            id: 1,
            device: (0, 50),
            mount_point: "/mnt/m".into(),
            fs_type: fs_type.to_owned(),
            source: source.into(),
        };
        let ours = entry("fuse.musicfs", "musicfs:living-room");
        assert!(decide(&ours, Liveness::Dead).is_ok());
        let error = decide(&ours, Liveness::Alive).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("instance \"living-room\" is mounted there"),
            "{error}"
        );
        for other in [entry("ext4", "/dev/sda1"), entry("fuse.sshfs", "me@host:")] {
            for liveness in [Liveness::Dead, Liveness::Alive] {
                let error = decide(&other, liveness).unwrap_err();
                assert!(matches!(error, PreflightError::Occupied { .. }), "{error}");
                assert!(error.to_string().contains(&other.fs_type), "{error}");
            }
        }
    }

    #[test]
    fn the_option_counts_on_a_line_of_its_own() {
        assert!(lets_users_share("# comment\n\n  user_allow_other \n"));
        assert!(!lets_users_share("#user_allow_other\nmount_max = 10\n"));
        assert!(!lets_users_share(""));
    }

    #[test]
    fn the_helper_is_looked_for_in_every_directory_of_the_path() {
        let directory = tempfile::tempdir().unwrap();
        let search_path = env::join_paths([Path::new("/nowhere"), directory.path()]).unwrap();
        assert!(!is_in_path(&search_path, "helper"));
        File::create(directory.path().join("helper")).unwrap();
        assert!(is_in_path(&search_path, "helper"));
        assert!(!is_in_path(OsStr::new(""), "helper"));
    }

    #[test]
    fn the_last_component_is_not_followed_where_mounts_are_looked_up() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        fs::create_dir(root.join("real")).unwrap();
        std::os::unix::fs::symlink("real", root.join("link")).unwrap();
        assert_eq!(
            resolve_parent(&root.join("link/mnt")),
            root.join("real/mnt")
        );
        assert_eq!(resolve_parent(&root.join("link")), root.join("link"));
        assert_eq!(
            resolve_parent(&root.join("missing/mnt")),
            root.join("missing/mnt")
        );
        assert_eq!(resolve_parent(Path::new("/")), Path::new("/"));
    }

    #[test]
    fn every_message_is_one_line() {
        let path = || PathBuf::from("/mnt/m");
        let source = || io::Error::other("cause");
        let errors = [
            PreflightError::Missing { path: path() },
            PreflightError::NotADirectory { path: path() },
            PreflightError::NotEmpty { path: path() },
            PreflightError::Unreadable {
                path: path(),
                source: source(),
            },
            PreflightError::StaleMount {
                path: path(),
                source: source(),
            },
            PreflightError::NoDevice,
            PreflightError::DeviceDenied { source: source() },
            PreflightError::NoHelper,
            PreflightError::AllowOtherDenied,
            PreflightError::NoMountinfo { source: source() },
        ];
        for error in errors {
            let text = error.to_string();
            assert!(
                !text.contains('\n') && !text.contains("  ") && text.contains(": "),
                "{text}"
            );
        }
    }
}
