//! What the doctor sees. Nothing here judges.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use musicfs_fuse::mounts;
use rustix::fs::Access;
use rustix::process::{Resource, getrlimit};

use super::cache::{self, CacheFacts};
use crate::cli::SettingsArgs;
use crate::commands::Context;
use crate::config::{Config, OriginPlace, Purpose};
use crate::error::Error;
use crate::paths::{InstancePaths, SshPlaces};

/// The bit of CAP_SYS_ADMIN in the capability masks of /proc (linux/capability.h).
const CAP_SYS_ADMIN: u32 = 21;

/// How long a directory may take to be listed: a share whose server is away may never answer.
const LIST_TIMEOUT: Duration = Duration::from_secs(5);

/// Everything that the findings rest on.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// This is the superuser.
    pub(crate) is_root: bool,
    /// What opening /dev/fuse gives.
    pub(crate) fuse_device: Reach,
    /// The fusermount3 in the path, and whether it runs as root.
    pub(crate) fusermount: Option<Fusermount>,
    /// /etc/fuse.conf lets everybody use allow_other.
    pub(crate) fuse_conf_allows_other: bool,
    /// CAP_SYS_ADMIN is in force.
    pub(crate) is_sys_admin: bool,
    /// The kernel's version, if it could be read.
    pub(crate) kernel: Option<(u32, u32)>,
    /// How many directories this user may watch.
    pub(crate) watches_max: Option<u64>,
    /// How many inotify descriptors this user may have.
    pub(crate) instances_max: Option<u64>,
    /// How many files this process may open now, and how many it may ask for. `None`: no limit.
    pub(crate) open_files: (Option<u64>, Option<u64>),
    /// The configuration.
    pub(crate) config: ConfigFacts,
    /// Directories that the instance writes to.
    pub(crate) dirs: Vec<(&'static str, PathBuf, Reach)>,
    /// Mounts whose daemon is gone.
    pub(crate) stale_mounts: Vec<PathBuf>,
    /// The socket of the control API.
    pub(crate) socket: (PathBuf, SocketFacts),
}

/// What trying to use something gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// It works.
    Ok,
    /// It is not there.
    Missing,
    /// It is there and this user may not.
    Denied,
    /// It is there and does not work.
    Broken(String),
}

/// The helper that mounts for users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fusermount {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// It belongs to root and runs as root.
    pub(crate) is_setuid_root: bool,
}

/// What the configuration says.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConfigFacts {
    /// The file, if there is one.
    pub(crate) file: Option<PathBuf>,
    /// Why it is wrong.
    pub(crate) error: Option<String>,
    /// Other users are to be let in.
    pub(crate) wants_allow_other: bool,
    /// Passthrough is not turned off.
    pub(crate) wants_passthrough: bool,
    /// The id of every origin that is a directory, its root, and what listing that gives.
    pub(crate) origins: Vec<(String, PathBuf, Reach)>,
    /// The id of every SFTP origin, and what there is to log in with.
    pub(crate) ssh: Vec<(String, SshReach)>,
    /// The cache.
    pub(crate) cache: Option<CacheFacts>,
}

/// What there is for a login by SSH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SshReach {
    /// A file of host keys is there.
    pub(crate) knows_hosts: bool,
    /// A private key, or an agent.
    pub(crate) has_key: bool,
}

/// The life of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SocketFacts {
    /// There is none.
    Absent,
    /// Somebody listens.
    Alive,
    /// Nobody listens any more.
    Stale,
    /// Something else has its name, or this user may not connect.
    Foreign,
}

impl From<io::Result<()>> for Reach {
    fn from(result: io::Result<()>) -> Self {
        let Err(error) = result else {
            return Self::Ok;
        };
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing,
            io::ErrorKind::PermissionDenied => Self::Denied,
            _ => Self::Broken(error.to_string()),
        }
    }
}

/// Looks at the machine, the user and the configuration.
///
/// # Errors
/// Only if the user has no place for an instance at all.
pub(crate) fn gather(context: &Context, settings: &SettingsArgs) -> Result<Facts, Error> {
    let paths = context.paths()?;
    let device = OpenOptions::new().read(true).write(true).open("/dev/fuse");
    let mounted = mounts::list().unwrap_or_default().into_iter();
    let limits = getrlimit(Resource::Nofile);
    let fuse_conf = fs::read_to_string("/etc/fuse.conf").unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let config = config(context, settings);
    Ok(Facts {
        is_root: context.environment.is_root(),
        fuse_device: device.map(drop).into(),
        fusermount: fusermount(),
        fuse_conf_allows_other: allows_other(&fuse_conf),
        is_sys_admin: has_capability(&status, CAP_SYS_ADMIN),
        kernel: kernel_version(&kernel),
        watches_max: number("/proc/sys/fs/inotify/max_user_watches"),
        instances_max: number("/proc/sys/fs/inotify/max_user_instances"),
        open_files: (limits.current, limits.maximum),
        dirs: dirs(
            &paths,
            config
                .cache
                .as_ref()
                .map_or(&paths.cache, |cache| &cache.dir),
        ),
        config,
        stale_mounts: mounted
            .map(|mount| mount.path)
            .filter(|path| mounts::is_dead(path))
            .collect(),
        socket: (paths.socket.clone(), socket(&paths.socket)),
    })
}

fn config(context: &Context, settings: &SettingsArgs) -> ConfigFacts {
    let resolve = || -> Result<(Option<PathBuf>, Config), Error> {
        let (typed, file) = context.typed(settings, None)?;
        Ok((file, context.resolve(&typed, Purpose::Check)?))
    };
    let (file, config) = match resolve() {
        Ok(resolved) => resolved,
        Err(error) => {
            return ConfigFacts {
                error: Some(error.line().replace("musicfs: ", "")),
                ..ConfigFacts::default()
            };
        }
    };
    let origins = config.origins.iter().filter_map(|origin| {
        let root = origin.place.directory()?.to_owned();
        let listed = list(root.clone());
        Some((origin.id.to_string(), root, listed))
    });
    let ssh = config.origins.iter().filter_map(|origin| {
        let reach = ssh_reach(&origin.place, &config.ssh)?;
        Some((origin.id.to_string(), reach))
    });
    ConfigFacts {
        file,
        error: None,
        wants_allow_other: config.allow_other,
        wants_passthrough: config.passthrough,
        origins: origins.collect(),
        ssh: ssh.collect(),
        cache: Some(cache::gather(&config)),
    }
}

/// What listing a directory gives; the look goes on in a thread of its own if its server hangs.
fn list(root: PathBuf) -> Reach {
    let (sender, receiver) = mpsc::sync_channel(1);
    let look = move || {
        // Nobody waits any more if it took too long.
        let _ = sender.send(fs::read_dir(root).map(drop));
    };
    match thread::Builder::new().spawn(look) {
        Ok(_) => match receiver.recv_timeout(LIST_TIMEOUT) {
            Ok(listed) => listed.into(),
            Err(_) => Reach::Broken(format!("no answer within {} s", LIST_TIMEOUT.as_secs())),
        },
        Err(error) => Reach::Broken(error.to_string()),
    }
}

fn ssh_reach(place: &OriginPlace, ssh: &SshPlaces) -> Option<SshReach> {
    let OriginPlace::Sftp {
        known_hosts,
        key_file,
        ..
    } = place
    else {
        return None;
    };
    let any = |own: &Option<PathBuf>, usual: &[PathBuf]| match own {
        Some(own) => own.is_file(),
        None => usual.iter().any(|path| path.is_file()),
    };
    Some(SshReach {
        knows_hosts: any(known_hosts, &ssh.known_hosts),
        has_key: ssh.agent_socket.is_some() || any(key_file, &ssh.key_files),
    })
}

fn dirs(paths: &InstancePaths, cache: &Path) -> Vec<(&'static str, PathBuf, Reach)> {
    [
        ("state", paths.state.as_path()),
        ("cache", cache),
        ("socket", &paths.runtime),
    ]
    .into_iter()
    .map(|(name, path)| (name, path.to_owned(), writable(path)))
    .collect()
}

/// Whether a directory can be written to, or made.
fn writable(path: &Path) -> Reach {
    let existing = path.ancestors().find(|path| path.exists());
    let Some(existing) = existing else {
        return Reach::Missing;
    };
    if !existing.is_dir() {
        return Reach::Broken(format!("{} is no directory", existing.display()));
    }
    rustix::fs::access(existing, Access::WRITE_OK | Access::EXEC_OK)
        .map_err(io::Error::from)
        .into()
}

fn fusermount() -> Option<Fusermount> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).find_map(|dir| {
        let path = dir.join("fusermount3");
        let metadata = fs::metadata(&path).ok().filter(fs::Metadata::is_file)?;
        Some(Fusermount {
            path,
            is_setuid_root: metadata.uid() == 0 && metadata.mode() & 0o4000 != 0,
        })
    })
}

fn socket(path: &Path) -> SocketFacts {
    match fs::symlink_metadata(path) {
        Err(_) => return SocketFacts::Absent,
        Ok(metadata) if !metadata.file_type().is_socket() => return SocketFacts::Foreign,
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => SocketFacts::Alive,
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => SocketFacts::Stale,
        Err(_) => SocketFacts::Foreign,
    }
}

fn number(path: &str) -> Option<u64> {
    let file = File::open(path).ok()?;
    io::read_to_string(file).ok()?.trim().parse().ok()
}

fn allows_other(fuse_conf: &str) -> bool {
    fuse_conf
        .lines()
        .any(|line| line.split('#').next().map(str::trim) == Some("user_allow_other"))
}

fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn has_capability(status: &str, bit: u32) -> bool {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let mask = effective.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << bit) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_files_are_understood() {
        assert_eq!(kernel_version("6.9.0-rc1+\n"), Some((6, 9)));
        assert_eq!(kernel_version("5.15.0-91-generic"), Some((5, 15)));
        assert_eq!(kernel_version("unknown"), None);
        assert!(allows_other("# comment\nuser_allow_other # yes\n"));
        assert!(!allows_other("#user_allow_other\n"));
        let status = "Name:\tx\nCapEff:\t0000000000200000\n";
        assert!(has_capability(status, CAP_SYS_ADMIN));
        assert!(!has_capability(status, 0));
        assert!(!has_capability("", 0));
    }

    #[test]
    fn a_socket_is_alive_stale_or_absent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        assert_eq!(socket(&path), SocketFacts::Absent);
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert_eq!(socket(&path), SocketFacts::Alive);
        drop(listener);
        assert_eq!(socket(&path), SocketFacts::Stale);
        assert_eq!(socket(dir.path()), SocketFacts::Foreign);
    }

    #[test]
    fn a_directory_that_can_be_made_is_writable() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(writable(&dir.path().join("a/b/c")), Reach::Ok);
        let file = dir.path().join("file");
        fs::write(&file, b"").unwrap();
        assert!(matches!(writable(&file.join("x")), Reach::Broken(_)));
    }
}
