//! Which directories of a walk are still to list, shared by its threads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use musicfs_core::path::OriginPath;

/// What the threads of a walk and its stream share.
#[derive(Default)]
pub(super) struct Shared {
    queue: Mutex<Queue>,
    /// Wakes threads that wait for a directory.
    more: Condvar,
    is_stopped: AtomicBool,
    /// Set when no directory is left to list.
    is_finished: AtomicBool,
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
pub(super) struct Group {
    pub(super) parent: Item,
    pub(super) children: Vec<Child>,
}

/// A sub-directory.
pub(super) struct Child {
    pub(super) name: Vec<u8>,
    /// Where it really lies, if `name` is a link.
    pub(super) target: Option<OriginPath>,
}

/// A directory to list.
#[derive(Clone)]
pub(super) struct Item {
    /// Where the listing shows it.
    pub(super) path: OriginPath,
    /// Where it lies: `path` with links resolved.
    pub(super) real: OriginPath,
}

impl Item {
    /// True below a followed link to a directory. There no further one is followed: one level
    /// serves every collection sorted by links, while two can multiply a tree without end.
    pub(super) fn is_through_link(&self) -> bool {
        self.path != self.real
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends all threads at their next entry, with their work undone.
    pub(super) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
        // With the lock held no thread is between its check and its wait.
        let _queue = self.lock();
        self.more.notify_all();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Acquire)
    }

    /// True once all is listed and no thread failed on its way.
    pub(super) fn is_complete(&self) -> bool {
        self.is_finished.load(Ordering::Acquire) && !self.is_stopped()
    }

    /// Adds directories found by a thread that took none.
    pub(super) fn add(&self, found: Group) {
        self.lock().groups.push(found);
    }

    /// The next directory; waits while others may still find one. `None` ends the thread.
    pub(super) fn take(&self) -> Option<Item> {
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
    pub(super) fn finish(&self, found: Option<Group>) {
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
