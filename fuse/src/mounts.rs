//! The MusicFS mounts of this machine, of whatever instance, for those who look after them.

use std::io;
use std::path::{Path, PathBuf};

use crate::detach::{Urgency, unmount};
use crate::mountinfo;
use crate::preflight::{Liveness, probe, resolve_parent};

/// One MusicFS mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MusicMount {
    /// Where it is, without symbolic links.
    pub path: PathBuf,
    /// The instance that made it, if its source says so.
    pub instance: Option<String>,
}

/// Every MusicFS mount that this process sees. Touches none of them.
///
/// # Errors
/// Whatever reading /proc gives.
pub fn list() -> io::Result<Vec<MusicMount>> {
    let ours = mountinfo::read()?
        .into_iter()
        .filter(mountinfo::MountEntry::is_ours);
    let mount = |entry: mountinfo::MountEntry| MusicMount {
        instance: entry.instance(),
        path: entry.mount_point,
    };
    Ok(ours.map(mount).collect())
}

/// Whether the daemon of a mount is gone. One that hangs is not: it may come round.
///
/// Waits for at most a second.
pub fn is_dead(path: &Path) -> bool {
    probe(path.to_owned()) == Liveness::Dead
}

/// Takes a mount out of the tree at once; files that are open on it give errors from then on.
///
/// # Errors
/// What the system or fusermount3 says.
pub fn detach(path: &Path) -> io::Result<()> {
    unmount(path, Urgency::Now)
}

/// A path as a mount table has it: absolute, its parent without symbolic links. The last component
/// is not looked at, for that fails on a dead mount.
pub fn mount_path(path: &Path) -> PathBuf {
    resolve_parent(path)
}
