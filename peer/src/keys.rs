//! The directory that holds a node's keys, and the ways in and out of a cluster.

use std::path::{Path, PathBuf};

use crate::cluster::ClusterKey;
use crate::code::JoinCode;
use crate::error::KeysError;
use crate::file::{self, FileKind};
use crate::identity::Identity;
use crate::node::NodeKey;

const CLUSTER: FileKind = FileKind {
    name: "cluster.key",
    title: "musicfs cluster key",
};

const NODE: FileKind = FileKind {
    name: "node.key",
    title: "musicfs node key",
};

/// The keys of one instance: in `cluster/` of its state directory, for this user only.
///
/// Every change is whole and durable once its call returns, and survives a loss of power at any point;
/// several processes may change them at once.
#[derive(Clone, Debug)]
pub struct Keys {
    dir: PathBuf,
}

/// What joining a cluster came to.
#[derive(Debug)]
pub struct Joined {
    /// Who this node is there.
    pub identity: Identity,
    /// False if it was a member before.
    pub is_new: bool,
}

impl Keys {
    /// The keys below `state_dir`; nothing need be there.
    pub fn new(state_dir: &Path) -> Self {
        Self {
            dir: state_dir.join("cluster"),
        }
    }

    /// Where they lie.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Who this node is, `None` if it is in no cluster. Makes the node's own key if only that is
    /// missing.
    ///
    /// # Errors
    /// [`KeysError`]; the caller tells the user, and opens no port.
    pub fn identity(&self) -> Result<Option<Identity>, KeysError> {
        let Some(cluster) = self.cluster_key()? else {
            return Ok(None);
        };
        let node = self.node_key()?;
        Ok(Some(Identity::new(cluster, node)))
    }

    /// This node's own key, made at the first call.
    ///
    /// # Errors
    /// [`KeysError`]; the caller tells the user.
    pub fn node_key(&self) -> Result<NodeKey, KeysError> {
        if let Some(seed) = file::read(&self.dir, NODE)? {
            return Ok(NodeKey::from_seed(seed));
        }
        let _lock = file::claim(&self.dir)?;
        self.node_key_locked()
    }

    /// Makes a cluster whose first node is this one.
    ///
    /// # Errors
    /// [`KeysError::Member`] if this node is in one, else as [`Keys::identity`].
    pub fn init(&self) -> Result<Identity, KeysError> {
        let _lock = file::claim(&self.dir)?;
        if let Some(key) = self.cluster_key()? {
            let cluster = key.fingerprint();
            return Err(KeysError::Member { cluster });
        }
        let key = self.random_cluster()?;
        self.enter(key)
    }

    /// Makes this node a member of the cluster of `code`. Joining it twice changes nothing.
    ///
    /// # Errors
    /// [`KeysError::Member`] if this node is in another one, else as [`Keys::identity`].
    pub fn join(&self, code: &JoinCode) -> Result<Joined, KeysError> {
        let _lock = file::claim(&self.dir)?;
        let key = code.key().clone();
        if let Some(found) = self.cluster_key()? {
            if found.bytes() != key.bytes() {
                let cluster = found.fingerprint();
                return Err(KeysError::Member { cluster });
            }
            let identity = Identity::new(key, self.node_key_locked()?);
            let is_new = false;
            return Ok(Joined { identity, is_new });
        }
        let identity = self.enter(key)?;
        let is_new = true;
        Ok(Joined { identity, is_new })
    }

    /// Gives the cluster a new key. All other nodes are out until they join with the new code; this
    /// is how one of them is shut out.
    ///
    /// # Errors
    /// [`KeysError::NoCluster`] if this node is in none, else as [`Keys::identity`].
    pub fn rotate(&self) -> Result<Identity, KeysError> {
        let action = "rotate the cluster key";
        let none = || Err(KeysError::NoCluster { action });
        if !file::check_dir(&self.dir)? {
            return none();
        }
        let _lock = file::claim(&self.dir)?;
        // Read first: a damaged key is not replaced behind the user's back.
        if self.cluster_key()?.is_none() {
            return none();
        }
        let key = self.random_cluster()?;
        self.enter(key)
    }

    /// Forgets both keys, damaged or not: whoever comes back is a new node.
    ///
    /// So it is, too, that a copied state directory is told from what it was copied from.
    ///
    /// # Errors
    /// [`KeysError::NoCluster`] if there are none, else [`KeysError`]; a key may still be there.
    pub fn leave(&self) -> Result<(), KeysError> {
        let action = "leave the cluster";
        let none = || Err(KeysError::NoCluster { action });
        if !file::check_dir(&self.dir)? {
            return none();
        }
        let _lock = file::claim(&self.dir)?;
        // The secret that opens doors goes first.
        let had_cluster = file::forget(&self.dir, CLUSTER)?;
        let had_node = file::forget(&self.dir, NODE)?;
        if had_cluster || had_node {
            Ok(())
        } else {
            none()
        }
    }

    fn cluster_key(&self) -> Result<Option<ClusterKey>, KeysError> {
        let bytes = file::read(&self.dir, CLUSTER)?;
        Ok(bytes.map(ClusterKey::from_secret))
    }

    /// Writes the key, and before it the node's own: who is a member has a name.
    fn enter(&self, key: ClusterKey) -> Result<Identity, KeysError> {
        let node = self.node_key_locked()?;
        file::write(&self.dir, CLUSTER, key.bytes())?;
        Ok(Identity::new(key, node))
    }

    fn node_key_locked(&self) -> Result<NodeKey, KeysError> {
        if let Some(seed) = file::read(&self.dir, NODE)? {
            return Ok(NodeKey::from_seed(seed));
        }
        let key = NodeKey::random().map_err(|source| self.no_random(source))?;
        file::write(&self.dir, NODE, key.seed())?;
        Ok(key)
    }

    fn random_cluster(&self) -> Result<ClusterKey, KeysError> {
        ClusterKey::random().map_err(|source| self.no_random(source))
    }

    fn no_random(&self, source: std::io::Error) -> KeysError {
        KeysError::Io {
            action: "make a key for",
            path: self.dir.clone(),
            source,
        }
    }
}

#[cfg(test)]
mod tests;
