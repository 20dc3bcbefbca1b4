//! Unmounts, and nothing but what was mounted here.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use musicfs_core::error::ErrorKind;
use rustix::mount::UnmountFlags;
use tracing::{debug, info};

use crate::attach::FUSERMOUNT;
use crate::mountinfo::{self, MountEntry};

/// Why a mount is still there.
#[derive(Debug, thiserror::Error)]
pub enum UnmountError {
    /// Neither a plain nor a lazy unmount worked.
    #[error("unmount {path:?}: it is still mounted; try `fusermount3 -uz {path:?}`")]
    StillMounted {
        /// The mount point.
        path: PathBuf,
        /// What the last attempt met.
        source: io::Error,
    },
}

impl UnmountError {
    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::StillMounted { .. } => ErrorKind::Unavailable,
        }
    }
}

/// One mount, told apart from whatever else is mounted at the same place before or after.
#[derive(Clone, Debug)]
pub(crate) struct Attachment {
    pub(crate) mount_point: PathBuf,
    id: u32,
    device: (u32, u32),
}

impl Attachment {
    pub(crate) fn new(entry: &MountEntry) -> Self {
        let mount_point = entry.mount_point.clone();
        Self {
            mount_point,
            id: entry.id,
            device: entry.device,
        }
    }

    /// Whether it is still there, and on top; what is mounted over it is not ours to remove.
    fn is_mounted(&self) -> bool {
        let Ok(mounts) = mountinfo::read() else {
            return true; // to be on the safe side: unmounting nothing does no harm
        };
        mountinfo::at(&mounts, &self.mount_point)
            .is_some_and(|entry| (entry.id, entry.device) == (self.id, self.device))
    }

    /// Unmounts if nothing uses it; else takes it out of the tree and, as root, ends the connection,
    /// so that whoever still has a file of it open gets errors.
    ///
    /// # Errors
    /// [`UnmountError::StillMounted`].
    pub(crate) fn detach(&self) -> Result<(), UnmountError> {
        if self.is_mounted() {
            let Err(error) = unmount(&self.mount_point, Urgency::IfUnused) else {
                return Ok(());
            };
            if self.is_mounted() {
                info!(path = ?self.mount_point, %error, "the mount is in use: detaching it");
                let result = unmount(&self.mount_point, Urgency::Now);
                if let (Err(source), true) = (result, self.is_mounted()) {
                    let path = self.mount_point.clone();
                    return Err(UnmountError::StillMounted { path, source });
                }
            }
        }
        Ok(())
    }

    /// Ends a connection that outlives its mount, where the control filesystem is there for it
    /// (Documentation/filesystems/fuse/fuse.rst).
    ///
    /// Only while the session goes on: the number of a connection that has ended may be another's.
    pub(crate) fn abort(&self) {
        let (_, minor) = self.device;
        let path = format!("/sys/fs/fuse/connections/{minor}/abort");
        match fs::write(&path, "1") {
            Ok(()) => debug!(path, "connection ended"),
            Err(error) => debug!(path, %error, "no connection to end"),
        }
    }
}

/// What to do about a mount that is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// Leave it.
    IfUnused,
    /// Take it out of the tree; end its connection, for whoever may.
    Now,
}

/// Unmounts what is on top at `path`: by system call, or by the helper for whoever may not.
pub(crate) fn unmount(path: &Path, urgency: Urgency) -> io::Result<()> {
    let flags = match urgency {
        Urgency::IfUnused => UnmountFlags::NOFOLLOW,
        Urgency::Now => UnmountFlags::NOFOLLOW | UnmountFlags::FORCE | UnmountFlags::DETACH,
    };
    match rustix::mount::unmount(path, flags) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::PERM) => unmount_by_helper(path, urgency),
        Err(errno) => Err(errno.into()),
    }
}

fn unmount_by_helper(path: &Path, urgency: Urgency) -> io::Result<()> {
    let mut command = Command::new(FUSERMOUNT);
    command
        .arg("-u")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    if urgency == Urgency::Now {
        command.arg("-z");
    }
    let output = command.arg("--").arg(path).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(
        String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    ))
}
