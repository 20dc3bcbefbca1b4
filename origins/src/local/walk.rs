//! Listing: a parallel walk over directories, each listed once.

pub(crate) mod queue;

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Weak};
use std::thread;

use rustix::fs::{FileType, OFlags, RawDir};
use rustix::io::Errno;
use tokio::sync::mpsc;

use musicfs_core::id::OriginId;
use musicfs_core::origin::{BoxFuture, Depth, DirListing, DirStream, ListedFile, OriginError};
use musicfs_core::path::OriginPath;

use super::file::{refused, unresolved};
use super::is_ignored;
use super::root::{Facts, Place, Root, Unresolved, io_error};
use super::watch::Watcher;
use queue::{Child, Group, Item, Shared};

/// Directories listed ahead of the receiver: enough to keep all threads busy while it commits a
/// batch, little enough to hold in memory.
const LISTINGS_MAX: usize = 64;
/// Threads for each core: a walk waits for the disk more than it computes.
const THREADS_PER_CORE: usize = 2;
/// More threads than this make no disk faster, and a slow one seeks more.
const THREADS_MAX: usize = 8;
/// One getdents call; about 600 entries with usual names.
const ENTRIES_BYTES: usize = 32 * 1024;

/// What to list.
pub(crate) struct Request {
    pub(crate) origin: OriginId,
    pub(crate) place: Arc<Place>,
    /// Told of every directory before it is listed, while it lives.
    pub(crate) watcher: Weak<Watcher>,
    pub(crate) under: OriginPath,
    pub(crate) depth: Depth,
}

type Listed = Result<DirListing, OriginError>;

/// Starts to list; the disk is touched by threads of the walk's own only.
pub(crate) fn start(request: Request) -> WalkStream {
    let (tx, rx) = mpsc::channel(LISTINGS_MAX);
    let under = request.under.clone();
    let shared = Arc::new(Shared::default());
    let walk_shared = Arc::clone(&shared);
    let spawned = spawn(move || lead(request, walk_shared, &tx));
    WalkStream {
        rx,
        shared,
        under,
        failed: spawned.err(),
    }
}

/// The receiving end of a walk. Dropping it ends the walk's threads at their next entry.
pub(crate) struct WalkStream {
    rx: mpsc::Receiver<Listed>,
    shared: Arc<Shared>,
    under: OriginPath,
    /// Why there is no walk at all.
    failed: Option<std::io::Error>,
}

impl DirStream for WalkStream {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<DirListing>, OriginError>> {
        Box::pin(async move {
            if let Some(source) = self.failed.take() {
                return Err(io_error("start to list", &self.under, source));
            }
            match self.rx.recv().await {
                Some(listed) => listed.map(Some),
                None if self.shared.is_complete() => Ok(None),
                // Its threads are gone, but not because all was done: never let that pass for
                // "nothing else is there".
                None => Err(io_error(
                    "list",
                    &self.under,
                    std::io::ErrorKind::Interrupted,
                )),
            }
        })
    }
}

impl Drop for WalkStream {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

/// A walk as its threads see it.
pub(crate) struct Walk {
    pub(crate) root: Root,
    pub(crate) origin: OriginId,
    pub(crate) watcher: Weak<Watcher>,
    pub(crate) depth: Depth,
    pub(crate) shared: Arc<Shared>,
}

/// Stops all threads of a walk when one of them panics.
struct StopOnPanic<'a>(&'a Shared);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.stop();
        }
    }
}

/// The first thread: opens the root, lists the first directory, and calls for help.
fn lead(request: Request, shared: Arc<Shared>, tx: &mpsc::Sender<Listed>) {
    let root = match Root::open(&request.place) {
        Ok(root) => root,
        Err(error) => return drop(tx.blocking_send(Err(error))),
    };
    let walk = Arc::new(Walk {
        root,
        origin: request.origin,
        watcher: request.watcher,
        depth: request.depth,
        shared,
    });
    let _guard = StopOnPanic(&walk.shared);
    let group = match walk.list_first(&request.under) {
        Ok((listing, group)) => {
            if tx.blocking_send(Ok(listing)).is_err() {
                return;
            }
            group
        }
        Err(error) => return drop(tx.blocking_send(Err(error))),
    };
    if let Some(group) = group {
        walk.shared.add(group);
        for _ in 1..threads_count() {
            let (walk, tx) = (Arc::clone(&walk), tx.clone());
            // Fewer threads do as well.
            let _ = spawn(move || walk.work(&tx));
        }
    }
    walk.work(tx);
}

impl Walk {
    fn work(&self, tx: &mpsc::Sender<Listed>) {
        let _guard = StopOnPanic(&self.shared);
        while let Some(item) = self.shared.take() {
            let (listing, group) = self.list_or_excuse(item);
            self.shared.finish(group);
            if tx.blocking_send(Ok(listing)).is_err() {
                self.shared.stop();
            }
        }
    }

    /// Lists the directory that was asked for. Unlike those found on the way, it must be there.
    pub(crate) fn list_first(
        &self,
        under: &OriginPath,
    ) -> Result<(DirListing, Option<Group>), OriginError> {
        if under.as_bytes().split(|&byte| byte == b'/').any(is_ignored) {
            return Err(OriginError::NotFound {
                path: under.clone(),
            });
        }
        if under.is_root() {
            self.root.check()?;
        }
        let mut item = Item {
            path: under.clone(),
            real: under.clone(),
        };
        let opened = match self.open(&item.real) {
            Err(Errno::LOOP) => {
                item.real = self
                    .root
                    .locate(&OriginPath::default(), under.as_bytes())
                    .map_err(|why| unresolved(why, under))?;
                self.open(&item.real)
            }
            done => done,
        };
        match opened {
            Ok(dir) => Ok(self.list(item, &dir)),
            Err(errno @ (Errno::ACCESS | Errno::PERM)) if !under.is_root() => {
                Ok((self.excuse(&item, errno), None))
            }
            Err(errno) => Err(refused(errno, under)),
        }
    }

    /// Lists a directory that was found on the way; one that cannot be read is incomplete.
    pub(crate) fn list_or_excuse(&self, item: Item) -> (DirListing, Option<Group>) {
        match self.open(&item.real) {
            Ok(dir) => self.list(item, &dir),
            Err(errno) => (self.excuse(&item, errno), None),
        }
    }

    fn open(&self, real: &OriginPath) -> Result<OwnedFd, Errno> {
        self.root.open_at(real, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// The listing of a directory that cannot be read.
    fn excuse(&self, item: &Item, errno: Errno) -> DirListing {
        self.warn_unread(&item.path, errno);
        DirListing {
            path: item.path.clone(),
            device: None,
            files: Vec::new(),
            dirs: Vec::new(),
            complete: false,
        }
    }

    fn warn_unread(&self, path: &OriginPath, errno: Errno) {
        if matches!(errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP) {
            tracing::debug!(origin = %self.origin, dir = %path, "directory went away while it was listed");
            return;
        }
        tracing::warn!(
            origin = %self.origin, dir = %path, error = %errno,
            "directory cannot be read; what is known of it is kept"
        );
    }

    /// Lists an open directory, watching it first.
    fn list(&self, item: Item, dir: &OwnedFd) -> (DirListing, Option<Group>) {
        if let Some(watcher) = self.watcher.upgrade() {
            watcher.add(dir.as_fd(), &item.path);
        }
        let mut contents = Contents::default();
        if let Err(errno) = self.read(&item, dir.as_fd(), &mut contents) {
            self.warn_unread(&item.path, errno);
            contents.is_partial = true;
        }
        contents.sort();
        let device = Facts::of_fd(dir.as_fd()).ok();
        let listing = DirListing {
            path: item.path.clone(),
            device: device.map(|facts| facts.identity.device),
            files: contents.files,
            dirs: contents.dirs.iter().map(|dir| dir.name.clone()).collect(),
            complete: !contents.is_partial,
        };
        let goes_on = self.depth == Depth::All && !contents.dirs.is_empty();
        let group = goes_on.then_some(Group {
            parent: item,
            children: contents.dirs,
        });
        (listing, group)
    }

    /// Reads all entries.
    ///
    /// # Errors
    /// The first error; what was read before and after it is in `contents`.
    fn read(&self, item: &Item, dir: BorrowedFd<'_>, contents: &mut Contents) -> Result<(), Errno> {
        let mut buffer = Vec::with_capacity(ENTRIES_BYTES);
        let mut entries = RawDir::new(dir, buffer.spare_capacity_mut());
        let mut first_error = Ok(());
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno),
            };
            self.shared.note_entry();
            if self.shared.is_stopped() {
                contents.is_partial = true;
                return Ok(());
            }
            let added = self.add_entry(item, dir, (entry.file_name(), entry.file_type()), contents);
            if let Err(errno) = added {
                first_error = first_error.and(Err(errno));
            }
        }
        first_error
    }

    fn add_entry(
        &self,
        item: &Item,
        dir: BorrowedFd<'_>,
        (c_name, mut kind): (&CStr, FileType),
        contents: &mut Contents,
    ) -> Result<(), Errno> {
        let name = c_name.to_bytes();
        // "." and ".." are hidden like any other name with a dot.
        if is_ignored(name) || self.root.excludes_entry(&item.real, name) {
            return Ok(());
        }
        if item.path.join(name).is_err() || item.real.join(name).is_err() {
            tracing::debug!(origin = %self.origin, dir = %item.path, "entry left out: its path is too long");
            return Ok(());
        }
        let mut facts = None;
        if matches!(kind, FileType::RegularFile | FileType::Unknown) {
            match Facts::of_entry(dir, c_name) {
                Ok(found) => {
                    kind = found.kind;
                    facts = Some(found);
                }
                Err(Errno::NOENT) => return Ok(()),
                Err(errno) => return Err(errno),
            }
        }
        match (kind, facts) {
            (FileType::RegularFile, Some(facts)) => contents.files.push(file(name, facts)),
            (FileType::Directory, _) => contents.dirs.push(Child {
                name: name.to_vec(),
                target: None,
            }),
            (FileType::Symlink, _) => match self.follow(item, name)? {
                Some(Target::File(facts)) => contents.files.push(file(name, facts)),
                Some(Target::Dir(real)) => contents.dirs.push(Child {
                    name: name.to_vec(),
                    target: Some(real),
                }),
                None => {}
            },
            _ => {}
        }
        Ok(())
    }

    /// What the link `name` leads to, if that is to be listed.
    fn follow(&self, item: &Item, name: &[u8]) -> Result<Option<Target>, Errno> {
        let left_out = |reason: &str| {
            let name = String::from_utf8_lossy(name);
            tracing::debug!(origin = %self.origin, dir = %item.path, ?name, reason, "link left out");
            Ok(None)
        };
        let real = match self.root.locate(&item.real, name) {
            Ok(real) => real,
            Err(Unresolved::Outside) => return left_out("it leads out of the origin"),
            Err(Unresolved::Missing) => return left_out("it leads nowhere"),
            Err(Unresolved::Excluded) => return left_out("it leads into the mount point"),
            Err(Unresolved::Failed(Errno::ACCESS)) => return left_out("permission denied"),
            Err(Unresolved::Failed(errno)) => return Err(errno),
        };
        let facts = match self.root.open_at(&real, OFlags::PATH) {
            Ok(target) => Facts::of_fd(target.as_fd())?,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return left_out("it leads nowhere"),
            Err(errno) => return Err(errno),
        };
        match facts.kind {
            FileType::RegularFile => Ok(Some(Target::File(facts))),
            FileType::Directory if item.is_through_link() => left_out("a link below a link"),
            FileType::Directory if item.real.is_within(&real) => left_out("it leads back up"),
            FileType::Directory => Ok(Some(Target::Dir(real))),
            _ => left_out("no file or directory"),
        }
    }
}

/// What a followed link leads to.
enum Target {
    File(Facts),
    Dir(OriginPath),
}

/// The entries of one directory.
#[derive(Default)]
struct Contents {
    files: Vec<ListedFile>,
    dirs: Vec<Child>,
    is_partial: bool,
}

impl Contents {
    /// Sorts by name and drops names that came twice: a directory that changes while it is read
    /// may show one entry again (readdir(3)).
    fn sort(&mut self) {
        self.files.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        self.files.dedup_by(|a, b| a.name == b.name);
        // The last child is listed first: reversed, the walk goes in order of names.
        self.dirs.sort_unstable_by(|a, b| b.name.cmp(&a.name));
        self.dirs.dedup_by(|a, b| a.name == b.name);
    }
}

fn file(name: &[u8], facts: Facts) -> ListedFile {
    ListedFile {
        name: name.to_vec(),
        version: facts.version,
        mtime_ns: facts.mtime_ns,
        mode: facts.mode,
        identity: Some(facts.identity),
    }
}

fn threads_count() -> usize {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    (cores * THREADS_PER_CORE).min(THREADS_MAX)
}

fn spawn(work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    thread::Builder::new()
        .name("origin-walk".into())
        .spawn(work)
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn a_dropped_stream_ends_all_threads() {
        let base = tempfile::tempdir().unwrap();
        // More than the channel and all threads hold.
        for number in 0..3 * LISTINGS_MAX {
            std::fs::create_dir(base.path().join(number.to_string())).unwrap();
        }
        let mut stream = start(Request {
            origin: OriginId::new("o").unwrap(),
            place: Arc::new(Place::new(base.path(), &[])),
            watcher: Weak::new(),
            under: OriginPath::default(),
            depth: Depth::All,
        });
        assert!(stream.rx.blocking_recv().unwrap().is_ok());
        let threads = Arc::downgrade(&stream.shared);
        drop(stream);
        let start = Instant::now();
        while threads.strong_count() > 0 {
            assert!(start.elapsed() < Duration::from_secs(10), "threads live on");
            thread::yield_now();
        }
    }

    #[tokio::test]
    async fn a_walk_that_broke_off_is_no_complete_one() {
        let (tx, rx) = mpsc::channel(1);
        let mut stream = WalkStream {
            rx,
            shared: Arc::default(),
            under: OriginPath::default(),
            failed: None,
        };
        drop(tx);
        assert!(stream.next().await.is_err());
    }
}
