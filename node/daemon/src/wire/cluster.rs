//! This node's place in its cluster: the exchange runs while there are keys for it.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use musicfs_core::error::with_causes;
use musicfs_library::Library;
use musicfs_peer::{
    Credentials, CredentialsError, Keys, KeysError, Membership, Mesh, MeshError, MeshOptions,
};

use crate::config::{Config, PeerConfig, PkiFiles};
use crate::node_name::node_name;

/// The exchange with other nodes, if there is one.
#[derive(Default)]
pub(crate) struct Cluster {
    running: Option<Exchange>,
}

struct Exchange {
    mesh: Arc<Mesh>,
    /// What it was made from.
    peers: PeerConfig,
    keys: u64,
}

/// Why this node takes no part in a cluster though it should. Messages read after "cannot".
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClusterError {
    /// Its keys cannot be used.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// A file of its own PKI cannot be read.
    #[error("read {path:?}")]
    Read {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its own PKI cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The exchange cannot start.
    #[error(transparent)]
    Mesh(#[from] MeshError),
}

impl Cluster {
    /// Starts the exchange, ends it, or starts it anew, as the keys and the configuration are now.
    ///
    /// A failure is logged: without others, the library still plays.
    pub(crate) async fn follow(&mut self, config: &Config, library: &Library) {
        let membership = match membership(config) {
            Ok(membership) => membership,
            Err(error) => return tell(&error),
        };
        let keys = membership.as_ref().map(|(_, keys)| *keys);
        let running = self.running.as_ref();
        let is_same = match (running, keys) {
            (None, None) => true,
            (Some(running), Some(keys)) => running.keys == keys && running.peers == config.peers,
            _ => false,
        };
        if is_same {
            return;
        }
        self.end(library).await;
        let Some((membership, keys)) = membership else {
            return;
        };
        let options = options(config);
        match Mesh::start(membership, options, library.holdings()).await {
            Ok(mesh) => {
                library.join(mesh.clone());
                let peers = config.peers.clone();
                self.running = Some(Exchange { mesh, peers, keys });
            }
            Err(error) => tell(&error.into()),
        }
    }

    /// Says goodbye to the others.
    pub(crate) async fn end(&mut self, library: &Library) {
        if let Some(running) = self.running.take() {
            library.part();
            running.mesh.close().await;
        }
    }
}

fn tell(error: &ClusterError) {
    tracing::error!(
        error = %with_causes(error),
        "this node takes no part in its cluster; correct it and send SIGHUP"
    );
}

/// What makes this node a member, and what that was made from.
fn membership(config: &Config) -> Result<Option<(Membership, u64)>, ClusterError> {
    let keys = Keys::new(&config.paths.state);
    if let Some(files) = &config.peers.pki {
        let node_key = keys.node_key()?;
        let (credentials, texts) = read_pki(files)?;
        let made_from = digest(&(texts, node_key.id()));
        let membership = Membership::Pki {
            credentials,
            node_key,
        };
        return Ok(Some((membership, made_from)));
    }
    let Some(identity) = keys.identity()? else {
        return Ok(None);
    };
    let made_from = digest(&(identity.fingerprint().to_string(), identity.node_id()));
    Ok(Some((Membership::Cluster(identity), made_from)))
}

fn read_pki(files: &PkiFiles) -> Result<(Credentials, u64), ClusterError> {
    let read = |path: &Path| {
        fs::read(path).map_err(|source| ClusterError::Read {
            path: path.to_owned(),
            source,
        })
    };
    let (ca, cert, key) = (read(&files.ca)?, read(&files.cert)?, read(&files.key)?);
    let credentials = Credentials::from_pem(&ca, &cert, &key)?;
    Ok((credentials, digest(&(ca, cert, key))))
}

/// Tells one state of the keys from the next; it goes nowhere.
fn digest(parts: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    parts.hash(&mut hasher);
    hasher.finish()
}

fn options(config: &Config) -> MeshOptions {
    let peers = &config.peers;
    MeshOptions {
        listen: peers.listen,
        interfaces: peers.interfaces.clone(),
        mdns: peers.mdns,
        addresses: peers.addresses.clone(),
        dns_names: peers.dns_names.clone(),
        name: peers
            .name
            .clone()
            .unwrap_or_else(|| node_name(&config.name)),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        priority: peers.priority,
        upload_limit: peers.upload_limit,
    }
}
