//! Watching: one inotify descriptor, with a watch on each directory that was listed.
//!
//! One thread turns events into changes. While its channel is full it waits, and events wait in the
//! kernel's queue, which is bounded (fs.inotify.max_queued_events) and says so when it overflows.
//! Opening and reading files makes no event at all.

use std::collections::{HashMap, HashSet};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::inotify::{self, CreateFlags, Event, ReadFlags, WatchFlags};
use rustix::io::Errno;
use tokio::sync::mpsc;

use musicfs_core::id::OriginId;
use musicfs_core::origin::{BoxFuture, Change, LostReason, OriginError, Watch};
use musicfs_core::path::OriginPath;

use super::is_ignored;
use super::root::{Place, io_error};

/// Events read at once: about 2000 with usual names, which also bounds the changes held here.
const EVENTS_BYTES: usize = 64 * 1024;

/// Changes that wait for the receiver; it takes them as fast as it can sort paths.
const CHANGES_MAX: usize = 1024;

/// What a directory is watched for. Not for opening and reading: that is what players and this
/// origin itself do all day. Not for `DELETE_SELF`: the end of the watch tells the same.
const WATCHED: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::EXCL_UNLINK)
    .union(WatchFlags::ONLYDIR);

/// Places watches; shared by the walks, which add them, and the [`LocalWatch`], which owns it.
#[derive(Debug)]
pub(crate) struct Watcher {
    origin: OriginId,
    inotify: OwnedFd,
    /// Names in these directories are reported by nobody.
    excluded: Vec<OriginPath>,
    /// Held while a watch is added, so that no event is read before its directory is known.
    state: Mutex<State>,
    /// Wakes the reader for what does not come from the kernel.
    wake: OwnedFd,
}

#[derive(Debug, Default)]
struct State {
    dirs: WatchedDirs,
    /// Some watch could not be placed, and the reader was not told yet.
    is_limit_untold: bool,
    /// Some watch could not be placed, ever: warned of once.
    was_limit_hit: bool,
    is_ended: bool,
}

impl Watcher {
    /// Starts with no directory watched.
    ///
    /// # Errors
    /// [`OriginError::Io`] if this user has too many inotify descriptors already.
    pub(crate) fn new(origin: OriginId, place: &Place) -> Result<Self, OriginError> {
        let failed = |errno| io_error("watch", &OriginPath::default(), errno);
        let wake = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).map_err(failed)?;
        let flags = CreateFlags::NONBLOCK | CreateFlags::CLOEXEC;
        let inotify = inotify::init(flags).map_err(|errno| {
            if errno == Errno::MFILE {
                tracing::warn!(
                    %origin,
                    "cannot watch for changes: raise fs.inotify.max_user_instances or the limit of open files"
                );
            }
            failed(errno)
        })?;
        Ok(Self {
            origin,
            inotify,
            excluded: place.excluded_below_root(),
            state: Mutex::default(),
            wake,
        })
    }

    /// Watches the open directory `dir`, which listings show at `path`.
    ///
    /// Failure is reported to the reader and logged, once.
    pub(crate) fn add(&self, dir: BorrowedFd<'_>, path: &OriginPath) {
        // Through the descriptor: what is watched is what will be listed, whatever its path leads
        // to by now, and the lock is never held for a disk.
        let name = format!("/proc/self/fd/{}", dir.as_raw_fd());
        let mut state = self.lock();
        let errno = match inotify::add_watch(&self.inotify, name, WATCHED) {
            Ok(id) => return state.dirs.add(id, path),
            Err(errno) => errno,
        };
        if state.was_limit_hit {
            return;
        }
        state.was_limit_hit = true;
        state.is_limit_untold = true;
        drop(state);
        self.wake();
        if errno == Errno::NOSPC {
            tracing::warn!(
                origin = %self.origin, dir = %path,
                "not all directories can be watched, changes are found by walking: raise fs.inotify.max_user_watches"
            );
        } else {
            tracing::warn!(
                origin = %self.origin, dir = %path, error = %errno,
                "not all directories can be watched, changes are found by walking"
            );
        }
    }

    /// Ends the watch: its receiver gets what is in the channel, then the end.
    pub(crate) fn end(&self) {
        self.lock().is_ended = true;
        self.wake();
    }

    fn wake(&self) {
        // Fails only when the counter is full, and then the reader wakes anyway.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread's whole life: ends with the watch.
    fn report(&self, tx: &mpsc::Sender<Change>) {
        let mut buffer = Vec::with_capacity(EVENTS_BYTES);
        let mut changes = Vec::new();
        loop {
            let woken = self.wait().and_then(|()| {
                let mut state = self.lock();
                if std::mem::take(&mut state.is_limit_untold) {
                    changes.push(Change::Lost(LostReason::Limit));
                }
                if state.is_ended {
                    return Ok(false);
                }
                self.read(&mut state.dirs, buffer.spare_capacity_mut(), &mut changes)?;
                Ok(true)
            });
            match woken {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::warn!(origin = %self.origin, %error, "watching for changes failed, it ends");
                    return;
                }
            }
            for change in changes.drain(..) {
                if tx.blocking_send(change).is_err() {
                    return;
                }
            }
        }
    }

    /// Waits for an event or a wake-up.
    fn wait(&self) -> Result<(), Errno> {
        let mut fds = [
            PollFd::new(&self.inotify, PollFlags::IN),
            PollFd::new(&self.wake, PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        // Takes the wake-up back; there may be none.
        let _ = rustix::io::read(&self.wake, &mut [0; 8]);
        Ok(())
    }

    /// Turns the events that are waiting now, up to a buffer full, into changes.
    fn read(
        &self,
        dirs: &mut WatchedDirs,
        buffer: &mut [MaybeUninit<u8>],
        changes: &mut Vec<Change>,
    ) -> Result<(), Errno> {
        let mut events = inotify::Reader::new(&self.inotify, buffer);
        let mut gone = HashSet::new();
        loop {
            match events.next() {
                Ok(event) => self.digest(dirs, &event, changes, &mut gone),
                Err(Errno::AGAIN | Errno::INTR) => break,
                Err(errno) => return Err(errno),
            }
            if events.is_buffer_empty() {
                break;
            }
        }
        for id in dirs.forget_within(&gone) {
            // It may be gone by itself already.
            let _ = inotify::remove_watch(&self.inotify, id);
        }
        Ok(())
    }

    /// Turns one event into changes. Directories that were moved away are added to `gone`.
    fn digest(
        &self,
        dirs: &mut WatchedDirs,
        event: &Event<'_>,
        changes: &mut Vec<Change>,
        gone: &mut HashSet<OriginPath>,
    ) {
        let flags = event.events();
        if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            return push(changes, Change::Lost(LostReason::Overflow));
        }
        if flags.intersects(ReadFlags::IGNORED | ReadFlags::UNMOUNT) {
            // What was mounted below shows what it hid: all of that is new.
            let is_unmount = flags.contains(ReadFlags::UNMOUNT);
            for path in dirs.forget(event.wd()) {
                let change = match is_unmount {
                    true => Change::Directory(path),
                    false => Change::Entry(path),
                };
                push(changes, change);
            }
            return;
        }
        let Some(name) = event.file_name().map(std::ffi::CStr::to_bytes) else {
            if flags.contains(ReadFlags::MOVE_SELF) {
                for path in dirs.paths(event.wd()) {
                    if path.is_root() {
                        gone.insert(path.clone());
                    }
                    push(changes, Change::Entry(path.clone()));
                }
            }
            return;
        };
        if is_ignored(name) {
            return;
        }
        let is_dir = flags.contains(ReadFlags::ISDIR);
        // A directory's attributes decide whether it can be read.
        let appeared = ReadFlags::CREATE | ReadFlags::MOVED_TO | ReadFlags::ATTRIB;
        for dir in dirs.paths(event.wd()) {
            let Ok(path) = dir.join(name) else { continue };
            if self.excluded.contains(&path) {
                continue;
            }
            if is_dir && flags.contains(ReadFlags::MOVED_FROM) {
                gone.insert(path.clone());
            }
            let change = match is_dir && flags.intersects(appeared) {
                true => Change::Directory(path),
                false => Change::Entry(path),
            };
            push(changes, change);
        }
    }
}

/// The watched directories by watch descriptor.
///
/// A directory that is moved keeps its watches, with stale paths. That is harmless: who hears of the
/// move lists the new place, which gives each watch its new path before it lists. The old paths are
/// forgotten when the event of the move is read, and any directory that took their place in the
/// meantime is reported behind it.
#[derive(Debug, Default)]
struct WatchedDirs {
    paths: HashMap<i32, OriginPath>,
    /// Further paths of directories that links lead to; most have none.
    aliases: HashMap<i32, Vec<OriginPath>>,
}

impl WatchedDirs {
    fn add(&mut self, id: i32, path: &OriginPath) {
        match self.paths.get(&id) {
            None => drop(self.paths.insert(id, path.clone())),
            Some(known) if known == path => {}
            Some(_) => {
                let aliases = self.aliases.entry(id).or_default();
                if !aliases.contains(path) {
                    aliases.push(path.clone());
                }
            }
        }
    }

    fn paths(&self, id: i32) -> impl Iterator<Item = &OriginPath> {
        let aliases = self.aliases.get(&id).into_iter().flatten();
        self.paths.get(&id).into_iter().chain(aliases)
    }

    fn forget(&mut self, id: i32) -> Vec<OriginPath> {
        let mut forgotten = Vec::from_iter(self.paths.remove(&id));
        forgotten.extend(self.aliases.remove(&id).unwrap_or_default());
        forgotten
    }

    /// Forgets all paths at or below those in `gone`; returns the watches that are left with none.
    fn forget_within(&mut self, gone: &HashSet<OriginPath>) -> Vec<i32> {
        if gone.is_empty() {
            return Vec::new();
        }
        let gone: HashSet<&[u8]> = gone.iter().map(OriginPath::as_bytes).collect();
        let is_gone = |path: &OriginPath| {
            let bytes = path.as_bytes();
            let slashes = bytes.iter().enumerate().filter(|&(_, &byte)| byte == b'/');
            let mut ends = slashes.map(|(at, _)| at).chain([0, bytes.len()]);
            ends.any(|end| gone.contains(&bytes[..end]))
        };
        for aliases in self.aliases.values_mut() {
            aliases.retain(|path| !is_gone(path));
        }
        let mut orphans = Vec::new();
        let Self { paths, aliases } = self;
        paths.retain(|id, path| {
            if !is_gone(path) {
                return true;
            }
            match aliases.get_mut(id).and_then(Vec::pop) {
                Some(alias) => *path = alias,
                None => {
                    orphans.push(*id);
                    return false;
                }
            }
            true
        });
        aliases.retain(|_, paths| !paths.is_empty());
        orphans
    }
}

/// The changes of a local origin. Dropping it ends the watch and frees the system's watches.
pub(crate) struct LocalWatch {
    watcher: Arc<Watcher>,
    rx: mpsc::Receiver<Change>,
}

impl LocalWatch {
    /// Starts the thread that reads events.
    ///
    /// # Errors
    /// There is no room for another thread.
    pub(crate) fn start(watcher: Arc<Watcher>) -> std::io::Result<Self> {
        let (tx, rx) = mpsc::channel(CHANGES_MAX);
        let reader = Arc::clone(&watcher);
        thread::Builder::new()
            .name("origin-watch".into())
            .spawn(move || reader.report(&tx))?;
        Ok(Self { watcher, rx })
    }
}

impl Watch for LocalWatch {
    /// Cancel safe.
    fn next(&mut self) -> BoxFuture<'_, Option<Change>> {
        Box::pin(self.rx.recv())
    }
}

impl Drop for LocalWatch {
    fn drop(&mut self) {
        self.watcher.end();
    }
}

/// Adds a change unless it repeats the last: writing a file makes many events in a row.
fn push(changes: &mut Vec<Change>, change: Change) {
    if changes.last() != Some(&change) {
        changes.push(change);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> OriginPath {
        OriginPath::new(text.as_bytes()).unwrap()
    }

    fn gone(texts: &[&str]) -> HashSet<OriginPath> {
        texts.iter().map(|text| path(text)).collect()
    }

    #[test]
    fn a_moved_directory_takes_all_below_it_along() {
        let mut dirs = WatchedDirs::default();
        for (id, text) in [(1, ""), (2, "a"), (3, "a/b"), (4, "ab"), (5, "c/a")] {
            dirs.add(id, &path(text));
        }
        let mut orphans = dirs.forget_within(&gone(&["a"]));
        orphans.sort_unstable();
        assert_eq!(orphans, [2, 3]);
        assert_eq!(dirs.paths.len(), 3);
        assert_eq!(dirs.forget_within(&gone(&[""])).len(), 3);
    }

    #[test]
    fn a_directory_listed_at_its_new_place_stays_watched() {
        let mut dirs = WatchedDirs::default();
        dirs.add(1, &path("old/x"));
        // The walk of the new place was faster than the event of the move.
        dirs.add(1, &path("new/x"));
        dirs.add(1, &path("new/x"));
        assert!(dirs.forget_within(&gone(&["old"])).is_empty());
        assert_eq!(Vec::from_iter(dirs.paths(1)), [&path("new/x")]);
        assert!(dirs.aliases.is_empty());
        assert_eq!(dirs.forget(1), [path("new/x")]);
        assert_eq!(dirs.paths(1).count(), 0);
    }

    #[tokio::test]
    async fn a_watch_that_cannot_be_placed_is_told_once() {
        let base = tempfile::tempdir().unwrap();
        let origin = OriginId::new("o").unwrap();
        let watcher = Arc::new(Watcher::new(origin, &Place::new(base.path(), &[])).unwrap());
        let mut watch = LocalWatch::start(Arc::clone(&watcher)).unwrap();
        // No directory: the system refuses, as it does at its limit.
        let file = std::fs::File::create(base.path().join("f")).unwrap();
        watcher.add(std::os::fd::AsFd::as_fd(&file), &path("d"));
        watcher.add(std::os::fd::AsFd::as_fd(&file), &path("e"));
        assert_eq!(watch.next().await, Some(Change::Lost(LostReason::Limit)));
        watcher.end();
        assert_eq!(watch.next().await, None);
    }
}
