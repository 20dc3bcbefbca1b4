//! What a node is told before it meets others.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU64;

use crate::credentials::{Credentials, CredentialsError};
use crate::discovery::tag::TagKey;
use crate::identity::Identity;
use crate::node::NodeKey;
use crate::tls::Tls;

/// What makes a node a member.
#[derive(Debug)]
pub enum Membership {
    /// The key of a cluster.
    Cluster(Identity),
    /// Certificates of a PKI of one's own.
    Pki {
        /// What is shown and believed.
        credentials: Credentials,
        /// Whose name it is: certificates may be shared.
        node_key: NodeKey,
    },
}

/// How a node is reached, and how it looks for others.
#[derive(Clone, Debug)]
pub struct MeshOptions {
    /// The UDP address to listen on. `None`: port [`crate::DEFAULT_PORT`] of all addresses (IPv6 and
    /// IPv4, or IPv4 alone where there is no IPv6), or any free port if another program has it.
    pub listen: Option<SocketAddr>,
    /// The names of the interfaces to use: multicast DNS is spoken there alone, and connections that
    /// arrive elsewhere are ignored. Empty for all; multicast DNS then leaves loopback out.
    pub interfaces: Vec<String>,
    /// Look for others, and be found, by multicast DNS.
    pub mdns: bool,
    /// Where nodes are: `host:port`, `[v6]:port`, or a host alone for [`crate::DEFAULT_PORT`]. Each is one
    /// node, also if its name has several addresses. At most 64.
    pub addresses: Vec<String>,
    /// Names in DNS each of whose addresses is a node, in the same form. They are resolved again and
    /// again. At most 16.
    pub dns_names: Vec<String>,
    /// What this node calls itself, for people.
    pub name: String,
    /// The version of this program, for people.
    pub version: String,
    /// The priority of other nodes among sources; usually [`musicfs_core::peer::PEER_PRIORITY`].
    pub priority: u32,
    /// Bytes of content a second that are sent to others, all together; `None` for no limit.
    pub upload_limit: Option<NonZeroU64>,
}

impl Membership {
    pub(crate) fn tls(&self) -> Result<Tls, CredentialsError> {
        match self {
            Self::Cluster(identity) => identity.tls(),
            Self::Pki { credentials, .. } => credentials.tls(),
        }
    }

    pub(crate) fn tag_key(&self) -> TagKey {
        match self {
            Self::Cluster(identity) => TagKey::of_cluster(identity.cluster_key()),
            Self::Pki { credentials, .. } => TagKey::of_authorities(&credentials.authorities),
        }
    }

    pub(crate) fn into_node_key(self) -> NodeKey {
        match self {
            Self::Cluster(identity) => identity.into_node_key(),
            Self::Pki { node_key, .. } => node_key,
        }
    }
}

impl fmt::Display for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster(identity) => write!(f, "cluster {}", identity.fingerprint()),
            Self::Pki { .. } => f.write_str("own PKI"),
        }
    }
}
