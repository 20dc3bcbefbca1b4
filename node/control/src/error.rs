//! What can go wrong, and how errors look to a gRPC client.

use std::net::SocketAddr;
use std::path::PathBuf;

use musicfs_core::error::{ErrorKind, with_causes};
use tonic::{Code, Status};

/// Why the control socket cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Another daemon answers on the socket.
    #[error(
        "bind {path:?}: a musicfs of this name is running; choose another --name, or `musicfs umount` it"
    )]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// The system refused.
    #[error("{action} {path:?}")]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// There can be no listener for monitors.
    #[error("listen on {address} for metrics")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The description of the services is damaged.
    #[error("describe the control services")]
    Reflection(#[source] tonic_reflection::server::Error),
}

/// The gRPC code of an error's kind.
pub(crate) fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::Stale => Code::Aborted,
        ErrorKind::Denied => Code::PermissionDenied,
        ErrorKind::Invalid => Code::FailedPrecondition,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::DeadlineExceeded => Code::DeadlineExceeded,
        ErrorKind::Corrupt => Code::DataLoss,
        ErrorKind::Exhausted => Code::ResourceExhausted,
        ErrorKind::Cancelled => Code::Cancelled,
        ErrorKind::Unsupported => Code::Unimplemented,
    }
}

/// A library's error as the status of a call.
pub(crate) fn status(error: &musicfs_library::Error) -> Status {
    Status::new(code(error.kind()), with_causes(error))
}
