//! Why a node does not meet others.

use std::io;
use std::net::SocketAddr;

use crate::credentials::CredentialsError;
use crate::policy::host::InvalidHostPort;

/// Why [`crate::Mesh::start`] failed; no port is open then. Messages read after "cannot".
#[derive(Debug, thiserror::Error)]
pub enum MeshError {
    /// The certificates do not fit.
    #[error("use the certificates of this node")]
    Credentials(#[source] CredentialsError),
    /// A configured address or name is none.
    #[error(transparent)]
    Address(#[from] InvalidHostPort),
    /// More is configured than is looked at.
    #[error("look for nodes at {count} {what}: at most {max} may be configured")]
    TooMany {
        /// `addresses` or `DNS names`.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        max: usize,
    },
    /// The port cannot be opened.
    #[error("listen on UDP {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The system has no random numbers.
    #[error("draw random numbers")]
    Random,
}

impl MeshError {
    /// What the user can do.
    pub fn fix(&self) -> &'static str {
        match self {
            Self::Credentials(source) => source.fix(),
            Self::Address(_) => "name hosts as host, host:port or [IPv6]:port",
            Self::TooMany { .. } => {
                "name one or two nodes: they tell of the others; or a DNS name that leads to all"
            }
            Self::Listen { .. } => {
                "choose an address of this host and a port that no other program has"
            }
            Self::Random => "nothing here can help; the system is in trouble",
        }
    }
}
