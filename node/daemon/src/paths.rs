//! Where an instance keeps its things: configuration, state, cache, socket.
//!
//! The places follow the XDG base directory specification; a variable that holds no absolute path
//! is ignored, as it demands.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use musicfs_core::id::OriginId;

/// The name of an instance that was given none.
pub(crate) const DEFAULT_NAME: &str = "default";

/// The longest path of a unix socket in bytes: `sun_path` of unix(7) without its NUL.
const SOCKET_LEN_MAX: usize = 107;

/// What the environment says about this user's directories.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Environment {
    /// The effective user.
    pub(crate) uid: u32,
    /// The effective group.
    pub(crate) gid: u32,
    /// `HOME`.
    pub(crate) home: Option<PathBuf>,
    /// `XDG_CONFIG_HOME`.
    pub(crate) config_home: Option<PathBuf>,
    /// `XDG_STATE_HOME`.
    pub(crate) state_home: Option<PathBuf>,
    /// `XDG_CACHE_HOME`.
    pub(crate) cache_home: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`.
    pub(crate) runtime_dir: Option<PathBuf>,
    /// This user's name, if it has one.
    pub(crate) user: Option<String>,
    /// `SSH_AUTH_SOCK`.
    pub(crate) ssh_agent: Option<PathBuf>,
}

/// Where OpenSSH keeps what SFTP origins need. None of it need exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SshPlaces {
    /// Files of host keys, this user's first.
    pub(crate) known_hosts: Vec<PathBuf>,
    /// Private keys, in the order in which they are tried.
    pub(crate) key_files: Vec<PathBuf>,
    /// The agent's socket.
    pub(crate) agent_socket: Option<PathBuf>,
}

/// Every place of one instance. None of them need exist yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InstancePaths {
    /// Index and keys: what must survive.
    pub(crate) state: PathBuf,
    /// What can be fetched again.
    pub(crate) cache: PathBuf,
    /// The directory of the socket, mode 0700.
    pub(crate) runtime: PathBuf,
    /// The socket of the control API.
    pub(crate) socket: PathBuf,
    /// A link to the socket, for the instance `default` only.
    pub(crate) socket_link: Option<PathBuf>,
    /// Where a daemon in the background logs to.
    pub(crate) log_file: PathBuf,
}

/// Why there is no place for an instance.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PathsError {
    /// The name would not make a file name.
    #[error("use instance name {name:?}: it must be 1 to 64 letters, digits, '.', '_' or '-'")]
    InvalidName {
        /// What was given.
        name: String,
    },
    /// Nothing says where this user's files belong.
    #[error("find this user's directories: neither HOME nor {variable} is set")]
    NoHome {
        /// The variable that would do, too.
        variable: &'static str,
    },
    /// The system allows no such socket.
    #[error("use socket {socket:?}: its path is longer than {SOCKET_LEN_MAX} bytes")]
    SocketTooLong {
        /// The socket.
        socket: PathBuf,
    },
}

impl Environment {
    /// Reads the environment of this process.
    pub(crate) fn read() -> Self {
        let absolute = |name| {
            let path = std::env::var_os(name).map(PathBuf::from);
            path.filter(|path| path.is_absolute())
        };
        let uid = rustix::process::geteuid().as_raw();
        let name = |variable| std::env::var(variable).ok().filter(|name| !name.is_empty());
        let passwd = || fs::read_to_string("/etc/passwd").ok();
        Self {
            user: name("USER")
                .or_else(|| name("LOGNAME"))
                .or_else(|| user_name(&passwd()?, uid)),
            ssh_agent: absolute("SSH_AUTH_SOCK"),
            uid,
            gid: rustix::process::getegid().as_raw(),
            home: absolute("HOME"),
            config_home: absolute("XDG_CONFIG_HOME"),
            state_home: absolute("XDG_STATE_HOME"),
            cache_home: absolute("XDG_CACHE_HOME"),
            runtime_dir: absolute("XDG_RUNTIME_DIR"),
        }
    }

    /// Whether this is the superuser.
    pub(crate) fn is_root(&self) -> bool {
        self.uid == 0
    }

    /// The configuration file that is read when none is named.
    ///
    /// # Errors
    /// [`PathsError::NoHome`] if nothing says where it would be.
    pub(crate) fn config_file(&self) -> Result<PathBuf, PathsError> {
        let home = self.base(self.config_home.as_ref(), ".config", "XDG_CONFIG_HOME")?;
        Ok(home.join("musicfs/config.toml"))
    }

    /// The directory of all sockets of this user.
    pub(crate) fn runtime(&self) -> PathBuf {
        match &self.runtime_dir {
            // One place whether root comes from a login, sudo or a service.
            _ if self.is_root() => PathBuf::from("/run/musicfs"),
            Some(dir) => dir.join("musicfs"),
            None => PathBuf::from(format!("/tmp/musicfs-{}", self.uid)),
        }
    }

    fn base(
        &self,
        given: Option<&PathBuf>,
        below_home: &str,
        variable: &'static str,
    ) -> Result<PathBuf, PathsError> {
        let root_home = || self.is_root().then(|| PathBuf::from("/root"));
        let below = |home: PathBuf| home.join(below_home);
        given
            .cloned()
            .or_else(|| self.home.clone().or_else(root_home).map(below))
            .ok_or(PathsError::NoHome { variable })
    }
}

impl SshPlaces {
    /// The places of the user of `environment`, as ssh(1) has them.
    pub(crate) fn new(environment: &Environment) -> Self {
        let dir = environment.home.as_ref().map(|home| home.join(".ssh"));
        let own = |name: &str| dir.as_ref().map(|dir| dir.join(name));
        let shared = Some(PathBuf::from("/etc/ssh/ssh_known_hosts"));
        let key_files = ["id_ed25519", "id_ecdsa", "id_rsa"].map(own);
        Self {
            known_hosts: [own("known_hosts"), shared].into_iter().flatten().collect(),
            key_files: key_files.into_iter().flatten().collect(),
            agent_socket: environment.ssh_agent.clone(),
        }
    }
}

impl InstancePaths {
    /// The places of instance `name` for the user of `environment`.
    ///
    /// # Errors
    /// [`PathsError`] if the name is no name, or the environment lacks what the places hang on.
    pub(crate) fn new(environment: &Environment, name: &str) -> Result<Self, PathsError> {
        let state_home = environment.state_home.as_ref();
        let cache_home = environment.cache_home.as_ref();
        let state = environment.base(state_home, ".local/state", "XDG_STATE_HOME")?;
        let cache = environment.base(cache_home, ".cache", "XDG_CACHE_HOME")?;
        let (state, cache) = (state.join("musicfs"), cache.join("musicfs"));
        Self::in_dirs(name, &state, &cache, &environment.runtime())
    }

    /// The places of instance `name` below `dir` alone, for an instance that leaves no trace.
    ///
    /// # Errors
    /// As [`InstancePaths::new`].
    pub(crate) fn under(dir: &Path, name: &str) -> Result<Self, PathsError> {
        Self::in_dirs(
            name,
            &dir.join("state"),
            &dir.join("cache"),
            &dir.join("run"),
        )
    }

    fn in_dirs(name: &str, state: &Path, cache: &Path, runtime: &Path) -> Result<Self, PathsError> {
        if OriginId::new(name).is_err() {
            return Err(PathsError::InvalidName { name: name.into() });
        }
        let socket = runtime.join(format!("{name}.sock"));
        if socket.as_os_str().as_bytes().len() > SOCKET_LEN_MAX {
            return Err(PathsError::SocketTooLong { socket });
        }
        let link = runtime.with_file_name("musicfs.sock");
        let state = state.join(name);
        Ok(Self {
            log_file: state.join("musicfs.log"),
            state,
            cache: cache.join(name),
            runtime: runtime.to_owned(),
            socket,
            // /tmp is everybody's: a link there could be anybody's.
            socket_link: (name == DEFAULT_NAME && !link.starts_with("/tmp")).then_some(link),
        })
    }
}

/// Makes `path` and its parents where they are missing, and sees to it that `path` is a directory
/// of this user's that nobody else can enter.
///
/// # Errors
/// Whatever the system says, or [`io::ErrorKind::PermissionDenied`] if another user owns `path` or
/// it is a symbolic link.
pub(crate) fn private_dir(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.is_dir() || metadata.uid() != rustix::process::geteuid().as_raw() {
        let reason = "it is no directory of this user's";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
    }
    if metadata.mode() & 0o077 != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// The name of a user in the text of /etc/passwd (passwd(5)).
fn user_name(passwd: &str, uid: u32) -> Option<String> {
    let uid = uid.to_string();
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> Environment {
        Environment {
            uid: 1000,
            gid: 1000,
            home: Some("/home/ann".into()),
            runtime_dir: Some("/run/user/1000".into()),
            ..Environment::default()
        }
    }

    #[test]
    fn a_users_instance_lives_in_the_xdg_places() {
        let paths = InstancePaths::new(&user(), "default").unwrap();
        let expect = InstancePaths {
            state: "/home/ann/.local/state/musicfs/default".into(),
            cache: "/home/ann/.cache/musicfs/default".into(),
            runtime: "/run/user/1000/musicfs".into(),
            socket: "/run/user/1000/musicfs/default.sock".into(),
            socket_link: Some("/run/user/1000/musicfs.sock".into()),
            log_file: "/home/ann/.local/state/musicfs/default/musicfs.log".into(),
        };
        assert_eq!(paths, expect);
        let config = user().config_file().unwrap();
        assert_eq!(config, Path::new("/home/ann/.config/musicfs/config.toml"));
    }

    #[test]
    fn xdg_variables_win_over_home() {
        let environment = Environment {
            config_home: Some("/c".into()),
            state_home: Some("/s".into()),
            cache_home: Some("/k".into()),
            ..user()
        };
        let paths = InstancePaths::new(&environment, "den").unwrap();
        assert_eq!(paths.state, Path::new("/s/musicfs/den"));
        assert_eq!(paths.cache, Path::new("/k/musicfs/den"));
        assert_eq!(paths.socket_link, None);
        let config = environment.config_file().unwrap();
        assert_eq!(config, Path::new("/c/musicfs/config.toml"));
    }

    #[test]
    fn without_a_runtime_directory_sockets_have_a_place_of_their_own() {
        let bare = Environment {
            runtime_dir: None,
            ..user()
        };
        let paths = InstancePaths::new(&bare, "default").unwrap();
        assert_eq!(paths.socket, Path::new("/tmp/musicfs-1000/default.sock"));
        assert_eq!(paths.socket_link, None);
        let root = Environment { uid: 0, ..user() };
        let paths = InstancePaths::new(&root, "default").unwrap();
        assert_eq!(paths.socket, Path::new("/run/musicfs/default.sock"));
        assert_eq!(
            paths.socket_link.as_deref(),
            Some(Path::new("/run/musicfs.sock"))
        );
    }

    #[test]
    fn a_name_must_be_plain_and_a_socket_short() {
        for bad in ["", "../x", "a b", ".hidden"] {
            let got = InstancePaths::new(&user(), bad);
            assert!(
                matches!(got, Err(PathsError::InvalidName { .. })),
                "{bad:?}"
            );
        }
        let deep = Path::new("/tmp").join("d".repeat(100));
        let got = InstancePaths::under(&deep, "demo");
        assert!(matches!(got, Err(PathsError::SocketTooLong { .. })));
    }

    #[test]
    fn without_a_home_the_error_names_what_to_set() {
        let homeless = Environment {
            home: None,
            ..user()
        };
        let got = InstancePaths::new(&homeless, "default").unwrap_err();
        assert!(got.to_string().contains("XDG_STATE_HOME"), "{got}");
    }

    #[test]
    fn a_users_name_is_that_of_the_password_file() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\n# no user\nann:x:1000:1000::/home/ann:\n";
        assert_eq!(user_name(passwd, 1000).as_deref(), Some("ann"));
        assert_eq!(user_name(passwd, 0).as_deref(), Some("root"));
        assert_eq!(user_name(passwd, 7), None);
    }

    #[test]
    fn keys_for_sftp_are_looked_for_where_ssh_does() {
        let agent = Environment {
            ssh_agent: Some("/run/agent".into()),
            ..user()
        };
        let places = SshPlaces::new(&agent);
        assert_eq!(
            places.known_hosts,
            [
                Path::new("/home/ann/.ssh/known_hosts"),
                Path::new("/etc/ssh/ssh_known_hosts")
            ]
        );
        assert_eq!(places.key_files[0], Path::new("/home/ann/.ssh/id_ed25519"));
        assert_eq!(places.key_files.len(), 3);
        assert_eq!(places.agent_socket, agent.ssh_agent);
        let homeless = Environment {
            home: None,
            ..user()
        };
        assert_eq!(SshPlaces::new(&homeless).key_files, [] as [PathBuf; 0]);
    }

    #[test]
    fn a_private_directory_is_closed_to_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/run");
        private_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        private_dir(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(private_dir(&link).is_err());
    }
}
