//! Who a node is in its cluster.

use std::path::Path;

use musicfs_core::id::NodeId;

use crate::cluster::{ClusterKey, Fingerprint};
use crate::code::JoinCode;
use crate::credentials::{Credentials, CredentialsError};
use crate::error::KeysError;
use crate::keys::Keys;
use crate::node::NodeKey;
use crate::tls::Tls;

/// A cluster key and a node key: what a node needs to be let in, and to be told from others.
#[derive(Debug)]
pub struct Identity {
    cluster: ClusterKey,
    node: NodeKey,
}

impl Identity {
    pub(crate) fn new(cluster: ClusterKey, node: NodeKey) -> Self {
        Self { cluster, node }
    }

    /// The identity in a state directory; `None` without a cluster key, and then no port is opened.
    ///
    /// # Errors
    /// As [`Keys::identity`].
    pub fn load(state_dir: &Path) -> Result<Option<Self>, KeysError> {
        Keys::new(state_dir).identity()
    }

    /// What others call this node.
    pub fn node_id(&self) -> NodeId {
        self.node.id()
    }

    /// This node's own key.
    pub fn node_key(&self) -> &NodeKey {
        &self.node
    }

    pub(crate) fn cluster_key(&self) -> &ClusterKey {
        &self.cluster
    }

    pub(crate) fn into_node_key(self) -> NodeKey {
        self.node
    }

    /// What people call the cluster.
    pub fn fingerprint(&self) -> Fingerprint {
        self.cluster.fingerprint()
    }

    /// What lets another node in.
    pub fn join_code(&self) -> JoinCode {
        self.cluster.join_code()
    }

    /// The TLS of both directions.
    ///
    /// # Errors
    /// None that is known: a cluster's certificates are made to fit.
    pub fn tls(&self) -> Result<Tls, CredentialsError> {
        Credentials::of_cluster(&self.cluster, &self.node).tls()
    }
}
