//! Other nodes: who belongs to the cluster, how they prove it to each other, find each other, and exchange
//! content.
//!
//! What a node is by is *decided* without a file, a clock or chance: the join code ([`JoinCode`]), what
//! follows from a cluster key ([`ClusterKey`]), names of nodes ([`NodeId`]), proofs ([`Binding`]).
//! [`Keys`] is the directory that holds the keys, [`Credentials`] what TLS shows and believes. A node
//! without a cluster key has no [`Identity`] and opens no port. With one, [`Mesh`] is this node among the
//! others.
//!
//! What connected nodes say to each other is in `docs/protocol.md`: `wire` holds its messages, `session`
//! one connection, `have` what this node announces, `policy` what is decided about it without I/O.

mod binding;
mod certificate;
mod cluster;
mod code;
mod credentials;
mod digest;
mod discovery;
mod error;
mod file;
mod have;
mod identity;
mod keys;
mod mesh;
mod node;
mod policy;
mod session;
mod tls;
mod wire;

pub use binding::{Binding, BindingError, Exported, Role};
pub use cluster::{ClusterKey, Fingerprint};
pub use code::{JoinCode, JoinCodeError};
pub use credentials::{Credentials, CredentialsError};
pub use error::KeysError;
pub use identity::Identity;
pub use keys::{Joined, Keys};
pub use mesh::{DEFAULT_PORT, Membership, Mesh, MeshError, MeshOptions};
pub use musicfs_core::id::NodeId;
pub use node::{NodeKey, node_id_of};
pub use policy::host::{HostPort, InvalidHostPort};
pub use tls::{ALPN, PeerIdError, SERVER_NAME, Tls};
