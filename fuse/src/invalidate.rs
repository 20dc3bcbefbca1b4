//! Tells the kernel which names and directories changed.
//!
//! A notification takes kernel locks that a request in flight may hold, so it is sent from a thread
//! of its own that holds nothing and answers no request. Data is never invalidated: an inode names
//! one content for ever, and a full invalidation of an open file can deadlock.

use std::ffi::OsStr;
use std::io;
use std::sync::Arc;
use std::thread;

use fuser::{INodeNo, Notifier};
use musicfs_library::{TreeChange, TreeChanges};
use tokio::sync::watch;
use tracing::debug;

use crate::stats::FuseStats;

/// A negative offset asks for attributes only (fs/fuse/inode.c, `fuse_reverse_inval_inode`).
const ATTRIBUTES_ONLY: i64 = -1;

/// Starts the thread. It ends when the library does, or with the first change after the session.
///
/// # Errors
/// The operating system has no thread to give.
pub(crate) fn start(
    mut changes: TreeChanges,
    notifier: Notifier,
    ended: watch::Receiver<bool>,
    stats: Arc<FuseStats>,
) -> io::Result<()> {
    let run = move || {
        while let Some(change) = changes.blocking_next() {
            if *ended.borrow() {
                return;
            }
            notify(&notifier, &change, &stats);
        }
    };
    // Nobody joins it: it waits for the library, which outlives the mount.
    thread::Builder::new()
        .name("fuse-invalidate".to_owned())
        .spawn(run)
        .map(drop)
}

fn notify(notifier: &Notifier, change: &TreeChange, stats: &FuseStats) {
    for (parent, name) in &change.entries {
        let result = notifier.inval_entry(INodeNo(parent.0), OsStr::new(name));
        stats.count_invalidation(result.is_ok());
        if let Err(error) = result {
            debug!(ino = %parent, name, %error, "the kernel refused to drop an entry");
        }
    }
    for ino in &change.directories {
        let result = notifier.inval_inode(INodeNo(ino.0), ATTRIBUTES_ONLY, 0);
        stats.count_invalidation(result.is_ok());
        if let Err(error) = result {
            debug!(%ino, %error, "the kernel refused to drop a directory's attributes");
        }
    }
}
