//! Open files: what a handle stands for, and how each open inode is read.
//!
//! The kernel reads an inode either through passthrough or through its page cache, never both at
//! once, and with one backing file only; an open that breaks this fails with EIO
//! (fs/fuse/iomode.c). So the first open of an inode chooses, and its choice holds until the last
//! close. The choice is made under one lock, so that two first opens cannot differ.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use musicfs_core::id::Ino;
use musicfs_library::Node;

use crate::stats::FuseStats;

/// The most handles open at a time; another open answers ENFILE.
///
/// Three times what a busy household needs (10,000 is promised). A handle may hold a file
/// descriptor, so the process's own limit is often met first.
pub(crate) const HANDLES_MAX: usize = 32_768;

/// How the kernel reads an open inode.
#[derive(Debug)]
pub(crate) enum Mode<B> {
    /// Through its page cache, filled by the daemon.
    Cached,
    /// From this backing file, without the daemon.
    Passthrough(Arc<B>),
}

// Derived, it would ask that `B` can be cloned.
impl<B> Clone for Mode<B> {
    fn clone(&self) -> Self {
        match self {
            Self::Cached => Self::Cached,
            Self::Passthrough(backing) => Self::Passthrough(Arc::clone(backing)),
        }
    }
}

/// A file as one open(2) sees it.
#[derive(Debug)]
pub(crate) struct Handle<F> {
    pub(crate) node: Node,
    pub(crate) file: F,
}

/// What the kernel is told about an open.
#[derive(Debug)]
pub(crate) struct Opened<B> {
    pub(crate) fh: u64,
    pub(crate) mode: Mode<B>,
}

/// No more than [`HANDLES_MAX`] files can be open.
#[derive(Debug)]
pub(crate) struct TableFull;

/// Every open handle and every open inode of the mount.
///
/// `F` is an open file, `B` the kernel's registration of a backing file, given up when dropped.
#[derive(Debug)]
pub(crate) struct OpenTable<F, B> {
    /// Taken before `slots`, never after.
    inodes: Mutex<HashMap<Ino, OpenInode<B>>>,
    slots: RwLock<Slots<F>>,
    handles_max: usize,
    stats: Arc<FuseStats>,
}

#[derive(Debug)]
struct OpenInode<B> {
    node: Node,
    mode: Mode<B>,
    opens: usize,
}

#[derive(Debug)]
struct Slots<F> {
    /// A handle's number is its index.
    handles: Vec<Option<Arc<Handle<F>>>>,
    free: Vec<usize>,
}

impl<F, B> OpenTable<F, B> {
    pub(crate) fn new(handles_max: usize, stats: Arc<FuseStats>) -> Self {
        Self {
            inodes: Mutex::default(),
            slots: RwLock::new(Slots {
                handles: Vec::new(),
                free: Vec::new(),
            }),
            handles_max,
            stats,
        }
    }

    /// Enters an open file. `open_backing` is asked only if this is the inode's first open; `None`
    /// means to read through the page cache.
    ///
    /// # Errors
    /// [`TableFull`]; nothing was entered.
    pub(crate) fn insert(
        &self,
        handle: Handle<F>,
        open_backing: impl FnOnce(&F) -> Option<B>,
    ) -> Result<Opened<B>, TableFull> {
        let node = handle.node;
        let mut inodes = self.inodes();
        if self.len() >= self.handles_max {
            return Err(TableFull);
        }
        let inode = inodes.entry(node.ino).or_insert_with(|| {
            let backing = open_backing(&handle.file);
            let mode = backing.map_or(Mode::Cached, |id| Mode::Passthrough(Arc::new(id)));
            OpenInode {
                node,
                mode,
                opens: 0,
            }
        });
        inode.opens += 1;
        let mode = inode.mode.clone();
        let fh = self.enter(Arc::new(handle));
        Ok(Opened { fh, mode })
    }

    /// The open file behind a handle.
    pub(crate) fn handle(&self, fh: u64) -> Option<Arc<Handle<F>>> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.handles.get(usize::try_from(fh).ok()?)?.clone()
    }

    /// The attributes of an inode that is open, whether or not the tree still has it.
    pub(crate) fn node(&self, ino: Ino) -> Option<Node> {
        self.inodes().get(&ino).map(|inode| inode.node)
    }

    /// Forgets a handle, and its inode's mode if it was the last. False if there is no such handle.
    pub(crate) fn remove(&self, fh: u64) -> bool {
        let mut inodes = self.inodes();
        let Some(handle) = self.leave(fh) else {
            return false;
        };
        let ino = handle.node.ino;
        let inode = inodes
            .get_mut(&ino)
            .expect("an inode is entered while it has a handle");
        inode.opens -= 1;
        let closed = if inode.opens == 0 {
            inodes.remove(&ino)
        } else {
            None
        };
        // Closing files takes system calls, which nobody need wait for.
        drop(inodes);
        drop(closed);
        drop(handle);
        true
    }

    /// How many handles are open.
    fn len(&self) -> usize {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.handles.len() - slots.free.len()
    }

    fn inodes(&self) -> MutexGuard<'_, HashMap<Ino, OpenInode<B>>> {
        self.inodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, handle: Arc<Handle<F>>) -> u64 {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        let index = match slots.free.pop() {
            Some(index) => {
                slots.handles[index] = Some(handle);
                index
            }
            None => {
                slots.handles.push(Some(handle));
                slots.handles.len() - 1
            }
        };
        self.stats
            .set_open_handles(slots.handles.len() - slots.free.len());
        index as u64
    }

    fn leave(&self, fh: u64) -> Option<Arc<Handle<F>>> {
        let index = usize::try_from(fh).ok()?;
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        let handle = slots.handles.get_mut(index)?.take()?;
        slots.free.push(index);
        self.stats
            .set_open_handles(slots.handles.len() - slots.free.len());
        Some(handle)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::thread;

    use musicfs_library::NodeKind;

    use super::*;

    /// A backing file that counts how many of its kind are registered.
    struct Backing(Arc<AtomicUsize>);

    impl Drop for Backing {
        fn drop(&mut self) {
            self.0.fetch_sub(1, SeqCst);
        }
    }

    struct World {
        table: OpenTable<u32, Backing>,
        stats: Arc<FuseStats>,
        registered: Arc<AtomicUsize>,
    }

    fn world(handles_max: usize) -> World {
        let stats = Arc::new(FuseStats::default());
        let table = OpenTable::new(handles_max, Arc::clone(&stats));
        World {
            table,
            stats,
            registered: Arc::default(),
        }
    }

    impl World {
        fn open(&self, ino: u64, wants_passthrough: bool) -> Result<Opened<Backing>, TableFull> {
            let ino = Ino(ino);
            let node = Node {
                ino,
                kind: NodeKind::File,
                size: 7,
                mtime_ns: 0,
                mode: 0o444,
            };
            self.table.insert(Handle { node, file: 0 }, |_| {
                wants_passthrough.then(|| {
                    self.registered.fetch_add(1, SeqCst);
                    Backing(Arc::clone(&self.registered))
                })
            })
        }

        fn registered(&self) -> usize {
            self.registered.load(SeqCst)
        }
    }

    fn is_passthrough(opened: &Opened<Backing>) -> bool {
        matches!(opened.mode, Mode::Passthrough(_))
    }

    #[test]
    fn the_first_open_chooses_the_mode_until_the_last_close() {
        for first in [true, false] {
            let world = world(10);
            let a = world.open(300, first).unwrap();
            let b = world.open(300, !first).unwrap();
            assert_eq!([is_passthrough(&a), is_passthrough(&b)], [first; 2]);
            assert!(world.table.remove(a.fh));
            let c = world.open(300, !first).unwrap();
            assert_eq!(is_passthrough(&c), first, "b is still open");
            assert!(world.table.remove(b.fh) && world.table.remove(c.fh));
            let d = world.open(300, !first).unwrap();
            assert_eq!(is_passthrough(&d), !first);
        }
    }

    #[test]
    fn all_opens_share_one_backing_file_which_the_last_close_gives_up() {
        let world = world(10);
        let opened: Vec<_> = (0..3).map(|_| world.open(300, true).unwrap().fh).collect();
        assert_eq!(world.registered(), 1);
        world.open(301, true).unwrap();
        assert_eq!(world.registered(), 2);
        assert!(opened.iter().all(|fh| world.table.remove(*fh)));
        assert_eq!(world.registered(), 1);
    }

    #[test]
    fn simultaneous_first_opens_agree() {
        let world = world(100);
        let barrier = Barrier::new(8);
        let modes: Vec<_> = thread::scope(|scope| {
            let open = |i: usize| {
                let (world, barrier) = (&world, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    is_passthrough(&world.open(300, i.is_multiple_of(2)).unwrap())
                })
            };
            let threads: Vec<_> = (0..8).map(open).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert!(modes.iter().all(|mode| *mode == modes[0]), "{modes:?}");
        assert_eq!(world.registered(), usize::from(modes[0]));
    }

    #[test]
    fn a_handle_is_found_until_it_is_closed_and_its_number_used_again() {
        let world = world(10);
        let (a, b) = (
            world.open(300, false).unwrap().fh,
            world.open(301, false).unwrap().fh,
        );
        assert_eq!(world.table.handle(a).unwrap().node.ino, Ino(300));
        assert_eq!(world.table.handle(b).unwrap().node.ino, Ino(301));
        assert!(world.table.remove(a));
        assert!(!world.table.remove(a), "closed once only");
        assert!(world.table.handle(a).is_none());
        assert!(world.table.handle(u64::MAX).is_none());
        assert_eq!(world.open(302, false).unwrap().fh, a);
        assert_eq!(world.stats.open_handles(), 2);
    }

    #[test]
    fn an_open_inode_keeps_its_attributes() {
        let world = world(10);
        assert!(world.table.node(Ino(300)).is_none());
        let fh = world.open(300, false).unwrap().fh;
        assert_eq!(world.table.node(Ino(300)).unwrap().size, 7);
        world.table.remove(fh);
        assert!(world.table.node(Ino(300)).is_none());
    }

    #[test]
    fn the_table_has_a_limit() {
        let world = world(3);
        let handles: Vec<_> = (0..3)
            .map(|i| world.open(300 + i, true).unwrap().fh)
            .collect();
        assert!(world.open(300, true).is_err());
        assert!(world.open(400, true).is_err());
        assert_eq!(world.registered(), 3);
        world.table.remove(handles[0]);
        assert!(world.open(400, true).is_ok());
    }

    #[test]
    fn ten_thousand_handles_are_open_at_once() {
        const { assert!(HANDLES_MAX >= 10_000) };
        let world = world(HANDLES_MAX);
        let handles: Vec<_> = (0..10_000)
            .map(|i| world.open(300 + i, false).unwrap().fh)
            .collect();
        assert_eq!(world.stats.open_handles(), 10_000);
        assert!(handles.into_iter().all(|fh| world.table.remove(fh)));
        assert_eq!(world.stats.open_handles(), 0);
    }
}
