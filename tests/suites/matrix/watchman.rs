//! Looks at a cache all the time.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often it looks.
const EVERY: Duration = Duration::from_millis(50);

/// A thread that measures what a directory takes on its disk, until this is dropped.
pub(crate) struct Watchman {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    dir: PathBuf,
    most: AtomicU64,
    is_over: AtomicBool,
}

impl Watchman {
    /// Starts to look.
    pub(crate) fn start(dir: PathBuf) -> Self {
        let shared = Arc::new(Shared {
            dir,
            most: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        });
        let looking = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            while !looking.is_over.load(Ordering::Relaxed) {
                let used = used(&looking.dir);
                looking.most.fetch_max(used, Ordering::Relaxed);
                std::thread::sleep(EVERY);
            }
        });
        Self {
            shared,
            thread: Some(thread),
        }
    }

    /// The most that it took so far.
    pub(crate) fn most(&self) -> u64 {
        let used = used(&self.shared.dir);
        self.shared
            .most
            .fetch_max(used, Ordering::Relaxed)
            .max(used)
    }
}

impl Drop for Watchman {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Bytes on disk that everything at and below `path` takes, as `du` counts. What goes away while it
/// counts is not counted.
fn used(path: &Path) -> u64 {
    let Ok(stat) = fs::symlink_metadata(path) else {
        return 0;
    };
    let own = stat.blocks() * 512;
    if !stat.is_dir() {
        return own;
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    own + entries.map(|entry| used(&entry.path())).sum::<u64>()
}
