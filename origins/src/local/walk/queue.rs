//! Which directories of a walk are still to list, shared by its threads.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use musicfs_core::path::OriginPath;

/// What the threads of a walk and its stream share.
#[derive(Default)]
pub(crate) struct Shared {
    queue: Mutex<Queue>,
    /// Wakes threads that wait for a directory.
    more: Condvar,
    is_stopped: AtomicBool,
    /// Set when no directory is left to list.
    is_finished: AtomicBool,
    /// Entries read: grows while a directory is listed, and stops where that hangs.
    entries_count: AtomicU64,
}

/// Directories still to list. A stack: going down first keeps it as small as the widest few
/// directories on one way down.
#[derive(Default)]
struct Queue {
    groups: Vec<Group>,
    /// Threads that list a directory at this moment and may add to `groups`.
    busy_count: usize,
}

/// Sub-directories of one directory.
pub(crate) struct Group {
    pub(crate) parent: Item,
    pub(crate) children: Vec<Child>,
}

/// A sub-directory.
pub(crate) struct Child {
    pub(crate) name: Vec<u8>,
    /// Where it really lies, if `name` is a link.
    pub(crate) target: Option<OriginPath>,
}

/// A directory to list.
#[derive(Clone)]
pub(crate) struct Item {
    /// Where the listing shows it.
    pub(crate) path: OriginPath,
    /// Where it lies: `path` with links resolved.
    pub(crate) real: OriginPath,
}

impl Item {
    /// True below a followed link to a directory. There no further one is followed: one level
    /// serves every collection sorted by links, while two can multiply a tree without end.
    pub(crate) fn is_through_link(&self) -> bool {
        self.path != self.real
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends all threads at their next entry, with their work undone.
    pub(crate) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
        // With the lock held no thread is between its check and its wait.
        let _queue = self.lock();
        self.more.notify_all();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Acquire)
    }

    /// Counts one entry of a directory.
    pub(crate) fn note_entry(&self) {
        self.entries_count.fetch_add(1, Ordering::Relaxed);
    }

    /// How many entries were read so far.
    pub(crate) fn entries_count(&self) -> u64 {
        self.entries_count.load(Ordering::Relaxed)
    }

    /// True once all is listed and no thread failed on its way.
    pub(crate) fn is_complete(&self) -> bool {
        self.is_finished.load(Ordering::Acquire) && !self.is_stopped()
    }

    /// Adds directories found by a thread that took none.
    pub(crate) fn add(&self, found: Group) {
        self.lock().groups.push(found);
    }

    /// The next directory; waits while others may still find one. `None` ends the thread.
    pub(crate) fn take(&self) -> Option<Item> {
        let mut queue = self.lock();
        loop {
            if self.is_stopped() {
                return None;
            }
            if let Some(item) = queue.pop() {
                queue.busy_count += 1;
                return Some(item);
            }
            if queue.busy_count == 0 {
                self.is_finished.store(true, Ordering::Release);
                self.more.notify_all();
                return None;
            }
            queue = self
                .more
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ends what [`Shared::take`] began.
    pub(crate) fn finish(&self, found: Option<Group>) {
        let mut queue = self.lock();
        queue.busy_count -= 1;
        queue.groups.extend(found);
        self.more.notify_all();
    }
}

impl Queue {
    fn pop(&mut self) -> Option<Item> {
        while let Some(group) = self.groups.last_mut() {
            let Some(child) = group.children.pop() else {
                self.groups.pop();
                continue;
            };
            // Both were joined once already, when the directory was listed.
            let Ok(path) = group.parent.path.join(&child.name) else {
                continue;
            };
            let real = match child.target {
                Some(target) => Ok(target),
                None => group.parent.real.join(&child.name),
            };
            let Ok(real) = real else { continue };
            return Some(Item { path, real });
        }
        None
    }
}
