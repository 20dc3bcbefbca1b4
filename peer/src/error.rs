//! What can go wrong with the keys of a node.

use std::io;
use std::path::PathBuf;

use musicfs_core::error::ErrorKind;

use crate::cluster::Fingerprint;

/// Why the keys cannot be read or changed. Messages read after "cannot"; none holds any of a key.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// This node is in a cluster, and was to make or join one.
    #[error("enter a cluster: this node is in cluster {cluster} already")]
    Member {
        /// The one that it is in.
        cluster: Fingerprint,
    },
    /// This node is in no cluster.
    #[error("{action}: this node is in no cluster")]
    NoCluster {
        /// What was to be done.
        action: &'static str,
    },
    /// Others could read or replace a key.
    #[error("use {}: others may use it, too (mode {mode:04o})", path.display())]
    Open {
        /// The directory or file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// What they must be.
        wanted: u32,
    },
    /// It belongs to somebody else.
    #[error("use {}: it belongs to user {owner}", path.display())]
    Owner {
        /// The directory or file.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// It is a link, a pipe or the like.
    #[error("use {}: it is no {expected}", path.display())]
    Kind {
        /// What lies there.
        path: PathBuf,
        /// `directory` or `file`.
        expected: &'static str,
    },
    /// It is not what was written.
    #[error("read key {}: it is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// A later version wrote it.
    #[error("read key {}: a later version of musicfs wrote it", path.display())]
    Later {
        /// The file.
        path: PathBuf,
    },
    /// Another process has been changing the keys for long.
    #[error("change the keys in {}: another process is changing them", path.display())]
    Busy {
        /// Their directory.
        path: PathBuf,
    },
    /// The system refused.
    #[error("{action} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl KeysError {
    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Member { .. } => ErrorKind::Invalid,
            Self::NoCluster { .. } => ErrorKind::NotFound,
            Self::Open { .. } | Self::Owner { .. } | Self::Kind { .. } => ErrorKind::Denied,
            Self::Damaged { .. } => ErrorKind::Corrupt,
            Self::Later { .. } => ErrorKind::Unsupported,
            Self::Busy { .. } => ErrorKind::Unavailable,
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    ErrorKind::Denied
                }
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::Exhausted,
                _ => ErrorKind::Unavailable,
            },
        }
    }

    /// What the user can do, where the message does not say it.
    pub fn fix(&self) -> Option<String> {
        let fix = match self {
            Self::Member { .. } => {
                "leave that one first with `musicfs cluster leave`, or give it a new key with \
                 `musicfs cluster rotate`"
            }
            Self::NoCluster { .. } => {
                "make one with `musicfs cluster init`, or join one with `musicfs cluster join`"
            }
            Self::Open { path, wanted, .. } => {
                let path = path.display();
                return Some(format!(
                    "close it with `chmod {wanted:o} {path}`; if others may have read it, \
                     `musicfs cluster rotate` makes a new key"
                ));
            }
            Self::Owner { .. } => "run this as that user, or give it to this one with chown",
            Self::Kind { .. } => "move it away, and put there what belongs there",
            Self::Damaged { .. } => {
                "restore it from a backup, or drop the keys with `musicfs cluster leave` and join \
                 the cluster again"
            }
            Self::Later { .. } => "use that version, or `musicfs cluster leave` and join again",
            Self::Busy { .. } => "try again",
            Self::Io { .. } => match self.kind() {
                ErrorKind::Denied => {
                    "make the state directory writable, or name another in XDG_STATE_HOME"
                }
                ErrorKind::Exhausted => "make room on that disk",
                _ => return None,
            },
        };
        Some(fix.to_owned())
    }
}
