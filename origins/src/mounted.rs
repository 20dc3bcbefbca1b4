//! A mounted NFS or SMB share: a path under a network's rules.
//!
//! What a path means is the local origin's business. This module sees to it that a share whose
//! server does not answer holds nobody up: every system call on it runs on threads of the
//! origin's own, which may hang, and whoever waits for one gives up in time.

mod file;
mod list;
mod pool;

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustix::fs::Advice;

use musicfs_core::id::OriginId;
use musicfs_core::origin::{
    BoxFuture, Depth, DirStream, Origin, OriginError, OriginFile, OriginKind, Watch,
};
use musicfs_core::path::OriginPath;
use musicfs_core::version::{ContentVersion, OriginKey};

use crate::local::file::LocalFile;
use crate::local::root::{Place, Root};
use file::MountedFile;
use list::MountedList;
use pool::Pool;

/// How long the share may take for one operation, or between two entries of a listing.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a [`MountedOrigin`] is made of.
#[derive(Clone, Debug)]
pub struct MountedConfig {
    /// The id from the configuration.
    pub id: OriginId,
    /// [`OriginKind::Nfs`] or [`OriginKind::Smb`].
    pub kind: OriginKind,
    /// The directory; a relative path counts from the working directory of this moment.
    pub root: PathBuf,
    /// What names this place to other nodes, in place of installation and path.
    pub identity: Option<String>,
    /// The id of this installation, so that two machines never take their `/music` for one place.
    pub installation: [u8; 16],
    /// Directories that are neither listed nor opened nor even looked at: the mount point.
    pub excluded: Vec<PathBuf>,
}

/// The `nfs` and `smb` origins: a directory of a share that the system has mounted.
///
/// Every operation needs a tokio runtime with time around it. One that has no answer within 30
/// seconds fails with [`OriginError::TimedOut`]; while all threads of the origin hang, every
/// operation fails at once with [`OriginError::Io`]. Threads that come back are used again.
#[derive(Debug)]
pub struct MountedOrigin {
    share: Arc<Share>,
    pool: Arc<Pool>,
}

/// The place that the share is, as the pool's threads see it.
#[derive(Debug)]
struct Share {
    id: OriginId,
    kind: OriginKind,
    installation: [u8; 16],
    /// Absolute.
    root: PathBuf,
    excluded: Vec<PathBuf>,
    /// Made by the first operation: finding where links lead touches the share.
    place: OnceLock<Place>,
    key: OnceLock<OriginKey>,
}

impl MountedOrigin {
    /// Makes an origin; the share is not touched, and need not be there.
    pub fn new(config: MountedConfig) -> Self {
        Self::with_patience(config, PATIENCE)
    }

    /// The same for tests, which cannot wait for as long.
    #[doc(hidden)]
    pub fn with_patience(config: MountedConfig, patience: Duration) -> Self {
        let key = OnceLock::new();
        if let Some(identity) = config.identity {
            key.get_or_init(|| OriginKey(identity.into_bytes().into()));
        }
        // The system keeps 15 bytes of a thread's name.
        let pool = Pool::new(format!("mnt {}", config.id), patience);
        let share = Share {
            id: config.id,
            kind: config.kind,
            installation: config.installation,
            root: absolute(config.root),
            excluded: config.excluded.into_iter().map(absolute).collect(),
            place: OnceLock::new(),
            key,
        };
        Self {
            share: Arc::new(share),
            pool: Arc::new(pool),
        }
    }

    /// Runs `work` on the pool and learns the key when it succeeds.
    async fn run<T: Send + 'static>(
        &self,
        action: &'static str,
        path: &OriginPath,
        work: impl FnOnce(&Share) -> Result<T, OriginError> + Send + 'static,
    ) -> Result<T, OriginError> {
        let share = Arc::clone(&self.share);
        let call = self.pool.start(action, path, move || {
            let done = work(&share)?;
            share.learn_key();
            Ok(done)
        })?;
        call.wait().await
    }
}

impl Share {
    /// Where the share is configured to lie. May hang, but never for a thread that does.
    fn place(&self) -> &Place {
        match self.place.get() {
            Some(place) => place,
            None => {
                let place = Place::new(&self.root, &self.excluded);
                self.place.get_or_init(|| place)
            }
        }
    }

    /// Remembers where the root's links lead, once the share has answered. May hang likewise.
    fn learn_key(&self) {
        if self.key.get().is_none() {
            let real = self.place().settled_root();
            let parts = [&self.installation, &b"\0"[..], real.as_os_str().as_bytes()];
            self.key.get_or_init(|| OriginKey(parts.concat().into()));
        }
    }
}

impl Origin for MountedOrigin {
    fn id(&self) -> &OriginId {
        &self.share.id
    }

    fn kind(&self) -> OriginKind {
        self.share.kind
    }

    fn key(&self) -> Option<OriginKey> {
        self.share.key.get().cloned()
    }

    fn display_name(&self) -> String {
        self.share.root.display().to_string()
    }

    fn check(&self) -> BoxFuture<'_, Result<(), OriginError>> {
        Box::pin(async move {
            let check = |share: &Share| Root::open(share.place())?.check();
            self.run("open", &OriginPath::default(), check).await
        })
    }

    fn list(&self, under: &OriginPath, depth: Depth) -> Box<dyn DirStream> {
        Box::new(MountedList::new(&self.share, &self.pool, under, depth))
    }

    fn open<'a>(
        &'a self,
        path: &'a OriginPath,
        _expected: &'a ContentVersion,
    ) -> BoxFuture<'a, Result<Box<dyn OriginFile>, OriginError>> {
        Box::pin(async move {
            let (pool, wanted) = (Arc::clone(&self.pool), path.clone());
            let open = move |share: &Share| {
                // What the kernel would read ahead is traffic that nobody asked for.
                let file = LocalFile::open(share.place(), &wanted, Advice::Random)?;
                Ok(MountedFile::new(wanted, file, &pool))
            };
            let file = self.run("open", path, open).await?;
            Ok(Box::new(file) as Box<dyn OriginFile>)
        })
    }

    /// `None`: a share does not tell what others change on its server.
    fn watch(&self) -> Result<Option<Box<dyn Watch>>, OriginError> {
        Ok(None)
    }
}

/// `path` from the working directory, without a look at what lies there.
fn absolute(path: PathBuf) -> PathBuf {
    // Fails only for an empty path and without a working directory.
    std::path::absolute(&path).unwrap_or_else(|_| Path::new("/").join(path))
}
