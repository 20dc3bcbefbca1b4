//! Why something did not work, before it is known for whom it was done.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use musicfs_core::origin::{OriginError, Refusal};
use musicfs_core::path::OriginPath;

use super::wire::{Malformed, status};

/// A failed operation. Cheap to clone: all that wait for one connection get the same.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// No connection could be made.
    Unreachable(Arc<io::Error>),
    /// The connection ended before anything of the answer had come: another one may do.
    Lost(Arc<io::Error>),
    /// The connection ended in the middle of the answer.
    Broken(Arc<io::Error>),
    /// Nothing came for so long.
    Silent(Duration),
    /// The server breaks the protocol.
    Malformed(&'static str),
    /// The server answers with this status.
    Status(u32),
    /// The server, or what is known of it, forbids it.
    Refused(Refusal),
    /// The root is no directory.
    RootMissing(&'static str),
    /// Nothing that could be read lies there.
    NotFound,
    /// It lies outside the root.
    Outside,
    /// It has another version.
    Changed,
}

impl Failure {
    /// A connection that ended because of `kind`.
    pub(crate) fn lost(kind: io::ErrorKind) -> Self {
        Self::Lost(Arc::new(kind.into()))
    }

    /// The same after part of the answer had come.
    pub(crate) fn midway(self) -> Self {
        match self {
            Self::Lost(error) => Self::Broken(error),
            other => other,
        }
    }

    /// What the port's user is told: `action` on `path` failed, below the root `root`.
    pub(crate) fn at(self, action: &'static str, path: &OriginPath, root: &str) -> OriginError {
        let path = path.clone();
        match self {
            Self::Unreachable(error) | Self::Lost(error) | Self::Broken(error) => OriginError::Io {
                action,
                path,
                source: io::Error::new(error.kind(), error),
            },
            Self::Silent(after) => OriginError::TimedOut {
                action,
                path,
                after,
            },
            Self::Malformed(what) => OriginError::Malformed { action, path, what },
            Self::Status(status::NO_SUCH_FILE) | Self::NotFound => OriginError::NotFound { path },
            Self::Status(code) => OriginError::Refused {
                action,
                path,
                refusal: refusal(code),
            },
            Self::Refused(refusal) => OriginError::Refused {
                action,
                path,
                refusal,
            },
            Self::RootMissing(reason) => OriginError::RootMissing {
                root: PathBuf::from(root),
                reason,
            },
            Self::Outside => OriginError::OutsideRoot { path },
            Self::Changed => OriginError::Changed { path },
        }
    }
}

impl From<Malformed> for Failure {
    fn from(Malformed(what): Malformed) -> Self {
        Self::Malformed(what)
    }
}

fn refusal(code: u32) -> Refusal {
    match code {
        status::PERMISSION_DENIED => Refusal::Forbidden,
        status::FAILURE | status::NO_CONNECTION | status::CONNECTION_LOST => Refusal::Server(code),
        _ => Refusal::Other(code),
    }
}
