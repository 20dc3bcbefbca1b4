//! A directory on a disk of this machine.

pub(crate) mod file;
pub(crate) mod root;
pub(crate) mod walk;
mod watch;

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustix::fs::Advice;

use musicfs_core::id::OriginId;
use musicfs_core::origin::{
    BoxFuture, Depth, DirStream, Origin, OriginError, OriginFile, OriginKind, Watch,
};
use musicfs_core::path::OriginPath;
use musicfs_core::version::{ContentVersion, OriginKey};

use file::LocalFile;
use root::{Place, Root, io_error};
use watch::{LocalWatch, Watcher};

/// Names of directories that hold no music of the user's: what filesystems, Windows and Synology
/// keep beside it.
const IGNORED_NAMES: [&[u8]; 4] = [
    b"lost+found",
    b"System Volume Information",
    b"$RECYCLE.BIN",
    b"@eaDir",
];

/// What a [`LocalOrigin`] is made of.
#[derive(Clone, Debug)]
pub struct LocalConfig {
    /// The id from the configuration.
    pub id: OriginId,
    /// The directory; a relative path counts from the working directory of this moment.
    pub root: PathBuf,
    /// What names this place to other nodes, in place of installation and path.
    pub identity: Option<String>,
    /// The id of this installation, so that two machines never take their `/music` for one place.
    pub installation: [u8; 16],
    /// Directories that are neither listed nor opened nor even looked at: the mount point.
    pub excluded: Vec<PathBuf>,
}

/// The `local` origin: a directory on a disk of this machine, read and watched in place.
///
/// [`Origin::check`], [`Origin::open`] and reading need a tokio runtime around them; listing and
/// watching have threads of their own.
#[derive(Debug)]
pub struct LocalOrigin {
    id: OriginId,
    key: OriginKey,
    place: Arc<Place>,
    /// The newest watch, which listings feed for as long as its receiver lives.
    watcher: Mutex<Weak<Watcher>>,
}

impl LocalOrigin {
    /// Makes an origin whose root must be there now.
    ///
    /// # Errors
    /// [`OriginError::RootMissing`] as from [`Origin::check`]; the caller tells the user.
    pub fn open(config: LocalConfig) -> Result<Self, OriginError> {
        let origin = Self::new(config);
        Root::open(&origin.place)?;
        Ok(origin)
    }

    /// Makes an origin whose root may be missing: a disk that is plugged in later.
    ///
    /// May wait for the disk. The key is made from where the root's links lead now.
    pub fn new(config: LocalConfig) -> Self {
        let place = Place::new(&config.root, &config.excluded);
        let key = match config.identity {
            Some(identity) => identity.into_bytes(),
            None => {
                let real = place.settled_root();
                [
                    &config.installation,
                    &b"\0"[..],
                    real.as_os_str().as_bytes(),
                ]
                .concat()
            }
        };
        Self {
            id: config.id,
            key: OriginKey(key.into()),
            place: Arc::new(place),
            watcher: Mutex::new(Weak::new()),
        }
    }
}

impl Origin for LocalOrigin {
    fn id(&self) -> &OriginId {
        &self.id
    }

    fn kind(&self) -> OriginKind {
        OriginKind::Local
    }

    fn key(&self) -> Option<OriginKey> {
        Some(self.key.clone())
    }

    fn display_name(&self) -> String {
        self.place.root.display().to_string()
    }

    fn check(&self) -> BoxFuture<'_, Result<(), OriginError>> {
        Box::pin(async move {
            let place = Arc::clone(&self.place);
            blocking("open", &OriginPath::default(), move || {
                Root::open(&place)?.check()
            })
            .await
        })
    }

    fn list(&self, under: &OriginPath, depth: Depth) -> Box<dyn DirStream> {
        let watcher = Weak::clone(&self.watcher.lock().unwrap_or_else(PoisonError::into_inner));
        let request = walk::Request {
            origin: self.id.clone(),
            place: Arc::clone(&self.place),
            watcher,
            under: under.clone(),
            depth,
        };
        Box::new(walk::start(request))
    }

    fn open<'a>(
        &'a self,
        path: &'a OriginPath,
        _expected: &'a ContentVersion,
    ) -> BoxFuture<'a, Result<Box<dyn OriginFile>, OriginError>> {
        Box::pin(async move {
            let place = Arc::clone(&self.place);
            let wanted = path.clone();
            // Doubles the kernel's readahead on this descriptor (posix_fadvise(2)): players read
            // from end to end, and no one waits for what a probe reads too much of a local disk.
            let open = move || LocalFile::open(&place, &wanted, Advice::Sequential);
            let file = blocking("open", path, open).await?;
            Ok(Box::new(file) as Box<dyn OriginFile>)
        })
    }

    /// The newest watch is the one that later listings feed; an older one ends.
    fn watch(&self) -> Result<Option<Box<dyn Watch>>, OriginError> {
        let watcher = Arc::new(Watcher::new(self.id.clone(), &self.place)?);
        let watch = LocalWatch::start(Arc::clone(&watcher))
            .map_err(|source| io_error("watch", &OriginPath::default(), source))?;
        let mut newest = self.watcher.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(older) = newest.upgrade() {
            older.end();
        }
        *newest = Arc::downgrade(&watcher);
        Ok(Some(Box::new(watch)))
    }
}

/// True for names that no listing shows and no watch reports: hidden files, editors' backups, and
/// what systems keep for themselves.
pub(crate) fn is_ignored(name: &[u8]) -> bool {
    name.starts_with(b".") || name.ends_with(b"~") || IGNORED_NAMES.contains(&name)
}

/// Runs `work` where it may wait for a disk.
async fn blocking<T: Send + 'static>(
    action: &'static str,
    path: &OriginPath,
    work: impl FnOnce() -> Result<T, OriginError> + Send + 'static,
) -> Result<T, OriginError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|stopped| Err(io_error(action, path, stopped)))
}
