//! A directory of another machine's server, mounted here: what `nfs` and `smb` origins lie on.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::sftp::{SftpServer, USER};
use crate::daemon::is_mounted;
use crate::outcome::Guarded;
use crate::wait_until;

/// What makes `sshfs` behave like a share that is mounted hard and with strict caching.
const OPTIONS: [&str; 4] = [
    "StrictHostKeyChecking=yes,BatchMode=yes",
    // What changes on the server is seen at once.
    "dir_cache=no,attr_timeout=0,entry_timeout=0,negative_timeout=0",
    // It knows a file by its path, and would keep the pages of two versions in one place.
    "direct_io",
    // A connection that breaks is made again by whatever asks next.
    "reconnect",
];

/// A directory of an SFTP server, mounted by `sshfs`: the network mount that needs no kernel
/// client. Dropping it unmounts, whether the server answers or not.
pub struct NetworkMount {
    point: PathBuf,
    sshfs: Option<Guarded>,
}

impl NetworkMount {
    /// Mounts `root`, as `server` shows it at `port` (its own, or a relay's), at `point`.
    ///
    /// # Panics
    /// If it is not mounted in time.
    pub fn new(server: &SftpServer, port: u16, root: &Path, point: &Path) -> Self {
        let files = [
            format!("port={port}"),
            format!("IdentityFile={}", server.key_file().display()),
            format!("UserKnownHostsFile={}", server.known_hosts().display()),
        ];
        let options = [files.join(","), OPTIONS.join(",")].join(",");
        let child = Command::new("sshfs")
            .args(["-f", "-o", &options])
            .arg(format!("{USER}@127.0.0.1:{}", root.display()))
            .arg(point)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mount = Self {
            point: point.to_owned(),
            sshfs: Some(Guarded(child)),
        };
        wait_until("the mount", || is_mounted(point));
        mount
    }
}

impl Drop for NetworkMount {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.point, rustix::mount::UnmountFlags::DETACH);
        self.sshfs.take();
    }
}
