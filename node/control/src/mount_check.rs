//! Asks the mount whether it answers, from a thread that holds no file open.
//!
//! A daemon that asks its own mount waits for itself. Killed in that moment, the thread that waits
//! cannot end before the kernel's connection does, and the connection ends only when its last
//! descriptor is closed, which the dying process does when its last thread lets go of the table of
//! descriptors. A thread that shares the table would hold it, its process, the mount and the locks
//! on its files for ever. So this one has a table of its own, and it is empty.

#![expect(
    unsafe_code,
    reason = "closing the descriptors of a table that only this thread has"
)]

use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, StatxFlags};
use rustix::thread::UnshareFlags;

/// Questions that wait: the asker waits for each answer before it asks again.
const QUESTIONS_MAX: usize = 1;

/// How often an answer is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The way to the thread that asks.
pub(crate) struct MountCheck {
    questions: mpsc::SyncSender<()>,
    answers: Arc<Answers>,
}

/// What the thread has found out. It is looked for, for the thread cannot wake a task: that takes a
/// descriptor.
#[derive(Default)]
struct Answers {
    count: AtomicU64,
    is_good: AtomicBool,
}

impl MountCheck {
    /// Starts the thread; it ends when this is dropped and the mount answers.
    ///
    /// # Errors
    /// The system's, if it allows no more threads.
    pub(crate) fn start(mount_point: PathBuf) -> std::io::Result<Self> {
        let (questions, inbox) = mpsc::sync_channel::<()>(QUESTIONS_MAX);
        let answers = Arc::new(Answers::default());
        let found = answers.clone();
        let work = move || {
            let_go_of_descriptors();
            for () in inbox {
                // Forced past the kernel's cache of attributes, which answers for a daemon that
                // hangs.
                let flags = AtFlags::STATX_FORCE_SYNC;
                let mask = StatxFlags::BASIC_STATS;
                let is_good = rustix::fs::statx(CWD, &mount_point, flags, mask).is_ok();
                found.is_good.store(is_good, Ordering::Relaxed);
                found.count.fetch_add(1, Ordering::Release);
            }
        };
        thread::Builder::new()
            .name("mount-check".into())
            .spawn(work)?;
        Ok(Self { questions, answers })
    }

    /// True if the mount answers within `patience`.
    pub(crate) async fn ask(&self, patience: Duration) -> bool {
        let before = self.answers.count.load(Ordering::Acquire);
        // If an older question is still open, its answer will do.
        let _ = self.questions.try_send(());
        let answered = async {
            while self.answers.count.load(Ordering::Acquire) == before {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::time::timeout(patience, answered).await.is_ok()
            && self.answers.is_good.load(Ordering::Relaxed)
    }
}

/// Gives this thread a table of descriptors of its own, and empties it.
fn let_go_of_descriptors() {
    // SAFETY: the flag parts only the table of descriptors, and nothing on this thread uses one
    // that was opened elsewhere: it waits on a channel and calls statx(2) with a path.
    if unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FILES) }.is_err() {
        // Refused by a sandbox: then the table stays shared, and must not be emptied.
        return;
    }
    let listed = std::fs::read_dir("/proc/thread-self/fd");
    let numbers: Vec<i32> = listed
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for number in numbers {
        // SAFETY: it is only asked whether it is open; that of the listing is not any more.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        if rustix::io::fcntl_getfd(descriptor).is_ok() {
            // SAFETY: the table is this thread's alone, so no one else's descriptor is closed.
            unsafe { rustix::io::close(number) };
        }
    }
}
