//! A directory of an SFTP server.
//!
//! The client of the protocol is this module's own, on a channel of an SSH library: names are
//! bytes, and any number of requests is under way at once, so that a version can be checked
//! before and after a read without a round trip of its own.

mod auth;
mod failure;
mod file;
mod hash;
mod known_hosts;
mod pool;
mod session;
mod stream;
mod transport;
mod walk;
mod wire;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use musicfs_core::checksum::Checksum;
use musicfs_core::id::OriginId;
use musicfs_core::origin::{
    BoxFuture, Depth, DirStream, Origin, OriginError, OriginFile, OriginKind, Watch,
};
use musicfs_core::path::OriginPath;
use musicfs_core::version::{ContentVersion, OriginKey};

use failure::Failure;
use file::SftpFile;
use hash::Question;
use pool::{Lease, Pool};
use walk::WalkStream;

pub use hash::HashCommand;

/// How long a connection may take to be made, and how long any operation waits while nothing at
/// all comes.
const PATIENCE: Duration = Duration::from_secs(30);

/// The port that URLs do not mention.
const PORT_DEFAULT: u16 = 22;

/// What an [`SftpOrigin`] is made of. Nothing in it is secret.
#[derive(Clone, Debug)]
pub struct SftpConfig {
    /// The id from the configuration.
    pub id: OriginId,
    /// The server's name or address, as known_hosts has it.
    pub host: String,
    /// The port of its SSH service.
    pub port: u16,
    /// Who to log in as.
    pub user: String,
    /// The directory: absolute, or relative to the login directory, which is meant if it is empty.
    pub root: String,
    /// The files that hold known host keys; one that is missing says nothing.
    pub known_hosts: Vec<PathBuf>,
    /// The files that hold private keys; those that are missing or have a passphrase are passed
    /// over.
    pub key_files: Vec<PathBuf>,
    /// The socket of ssh-agent, whose keys are tried first.
    pub agent_socket: Option<PathBuf>,
    /// What names this place to other nodes, in place of host key, user and root.
    pub identity: Option<String>,
    /// The program that computes checksums on the server; `None` if none may be run.
    pub hash_command: Option<HashCommand>,
}

/// The `sftp` origin: a directory of an SFTP server.
///
/// Needs a tokio runtime around all that it does. Its connections end when it is dropped, and the
/// files and listings that came from it.
pub struct SftpOrigin {
    id: OriginId,
    identity: Option<OriginKey>,
    root: String,
    /// What people call it.
    name: Arc<str>,
    pool: Arc<Pool>,
    hash_command: Option<HashCommand>,
}

impl SftpOrigin {
    /// Makes an origin. It connects when it is first used.
    pub fn new(config: SftpConfig) -> Self {
        Self::with_patience(config, PATIENCE)
    }

    /// The same with other patience than 30 s, for tests.
    #[doc(hidden)]
    pub fn with_patience(config: SftpConfig, patience: Duration) -> Self {
        let identity = config.identity.as_ref();
        Self {
            id: config.id.clone(),
            identity: identity.map(|identity| OriginKey(identity.as_bytes().into())),
            root: config.root.clone(),
            name: display_name(&config).into(),
            hash_command: config.hash_command,
            pool: Arc::new(Pool::new(config, patience)),
        }
    }

    /// Looks at the root as the server has it now.
    async fn check_on(&self, lease: &Lease) -> Result<(), Failure> {
        let is_same = session::check_root(&lease.session, &self.root).await?;
        if !is_same {
            // It leads elsewhere now: what is asked next finds out where.
            self.pool.forget();
            self.pool.fresh().await?;
        }
        Ok(())
    }

    async fn try_check(&self) -> Result<(), Failure> {
        let lease = self.pool.lease().await?;
        match self.check_on(&lease).await {
            Err(failure) if lease.was_stale(&failure) => {
                self.check_on(&self.pool.fresh().await?).await
            }
            done => done,
        }
    }
}

impl std::fmt::Debug for SftpOrigin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SftpOrigin")
            .field("id", &self.id)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Origin for SftpOrigin {
    fn id(&self) -> &OriginId {
        &self.id
    }

    fn kind(&self) -> OriginKind {
        OriginKind::Sftp
    }

    fn key(&self) -> Option<OriginKey> {
        self.identity.clone().or_else(|| self.pool.key())
    }

    fn display_name(&self) -> String {
        self.name.to_string()
    }

    fn check(&self) -> BoxFuture<'_, Result<(), OriginError>> {
        Box::pin(async move {
            let checked = self.try_check().await;
            checked.map_err(|failure| failure.at("check", &OriginPath::default(), &self.name))
        })
    }

    fn list(&self, under: &OriginPath, depth: Depth) -> Box<dyn DirStream> {
        Box::new(WalkStream::new(walk::Request {
            origin: self.id.clone(),
            pool: Arc::clone(&self.pool),
            root: Arc::clone(&self.name),
            under: under.clone(),
            depth,
        }))
    }

    /// What lies there is asked for at any rate: `_expected` saves no round trip.
    fn open<'a>(
        &'a self,
        path: &'a OriginPath,
        _expected: &'a ContentVersion,
    ) -> BoxFuture<'a, Result<Box<dyn OriginFile>, OriginError>> {
        Box::pin(async move {
            let opened = SftpFile::open(&self.pool, &self.name, path).await;
            let file = opened.map_err(|failure| failure.at("open", path, &self.name))?;
            Ok(Box::new(file) as Box<dyn OriginFile>)
        })
    }

    /// The protocol has no checksums that servers know: a command computes one, where that is
    /// allowed.
    fn checksum<'a>(
        &'a self,
        path: &'a OriginPath,
        expected: &'a ContentVersion,
    ) -> BoxFuture<'a, Result<Option<Checksum>, OriginError>> {
        Box::pin(async move {
            let Some(command) = self.hash_command else {
                return Ok(None);
            };
            let question = Question {
                origin: &self.id,
                pool: &self.pool,
                root: &self.name,
                command,
                path,
                expected,
            };
            let asked = question.ask().await;
            asked.map_err(|failure| failure.at("compute the checksum of", path, &self.name))
        })
    }

    /// The protocol knows no way to be told of changes.
    fn watch(&self) -> Result<Option<Box<dyn Watch>>, OriginError> {
        Ok(None)
    }
}

/// `sftp://user@host:port/root`; a root below the login directory begins with `~`.
fn display_name(config: &SftpConfig) -> String {
    let host = match config.host.contains(':') {
        true => format!("[{}]", config.host),
        false => config.host.clone(),
    };
    let port = match config.port {
        PORT_DEFAULT => String::new(),
        port => format!(":{port}"),
    };
    let root = match config.root.as_str() {
        "" => "/~".to_owned(),
        root if root.starts_with('/') => root.to_owned(),
        root => format!("/~/{root}"),
    };
    format!("sftp://{}@{host}{port}{root}", config.user)
}

/// Locks what no panic can leave half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_called_by_its_url() {
        let name = |host: &str, port, root: &str| {
            display_name(&SftpConfig {
                id: OriginId::new("o").unwrap(),
                host: host.into(),
                port,
                user: "me".into(),
                root: root.into(),
                known_hosts: Vec::new(),
                key_files: Vec::new(),
                agent_socket: None,
                identity: None,
                hash_command: None,
            })
        };
        assert_eq!(name("nas", 22, "/music"), "sftp://me@nas/music");
        assert_eq!(name("nas", 2222, "/music"), "sftp://me@nas:2222/music");
        assert_eq!(name("::1", 22, "music"), "sftp://me@[::1]/~/music");
        assert_eq!(name("nas", 22, ""), "sftp://me@nas/~");
    }
}
