//! What stands behind the callbacks: the library, open files, and tasks for what may wait.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use fuser::{BackingId, Errno, FileHandle, FopenFlags, ReplyData, ReplyOpen};
use musicfs_core::error::with_causes;
use musicfs_core::id::Ino;
use musicfs_library::{Child, Library, Node, OpenFile};
use tokio::runtime;
use tokio::sync::Semaphore;
use tracing::{debug, info, warn};

use crate::attr::Owner;
use crate::errno;
use crate::handles::{HANDLES_MAX, Handle, Mode, OpenTable};
use crate::rate_limit::RateLimit;
use crate::readdir::Directory;
use crate::stats::{FuseStats, Timing};

/// The largest read that the kernel asks for: 256 pages, which is its own limit too
/// (`fc->max_pages_limit`). A FUSE thread keeps a buffer of this size at most.
pub(crate) const READ_BYTES_MAX: u32 = 1 << 20;

/// Opens under way at a time; others wait. Apart from reads, so that a hanging origin whose
/// readers hold every permit does not keep files of another from being opened.
const OPENS_MAX: usize = 256;

/// Reads that may wait, under way at a time; others wait. Each has a buffer of mostly 128 KiB, so
/// this is about 32 MiB, and as many readers as a hanging origin may have before others queue up.
const READS_MAX: usize = 256;

/// At most one line in the log about failed reads in this time.
const READ_FAILURE_LOG_INTERVAL: Duration = Duration::from_secs(1);

thread_local! {
    static READ_BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The state of one mount, shared by its FUSE threads and tasks.
pub(crate) struct Server {
    pub(crate) library: Arc<Library>,
    pub(crate) owner: Owner,
    pub(crate) stats: Arc<FuseStats>,
    table: OpenTable<OpenFile, BackingId>,
    runtime: runtime::Handle,
    open_permits: Semaphore,
    read_permits: Semaphore,
    /// Wanted by the user, offered by the kernel, and not refused for want of a privilege.
    passthrough: AtomicBool,
    passthrough_refusal_logged: AtomicBool,
    read_failures: RateLimit,
}

impl Server {
    pub(crate) fn new(library: Arc<Library>, runtime: runtime::Handle, owner: Owner) -> Self {
        let stats = Arc::new(FuseStats::default());
        Self {
            library,
            owner,
            table: OpenTable::new(HANDLES_MAX, Arc::clone(&stats)),
            stats,
            runtime,
            open_permits: Semaphore::new(OPENS_MAX),
            read_permits: Semaphore::new(READS_MAX),
            passthrough: AtomicBool::new(false),
            passthrough_refusal_logged: AtomicBool::new(false),
            read_failures: RateLimit::new(READ_FAILURE_LOG_INTERVAL),
        }
    }

    /// Lets files be opened in passthrough mode from now on.
    pub(crate) fn allow_passthrough(&self) {
        self.passthrough.store(true, Relaxed);
    }

    /// The entry that has inode `ino`; one that left the tree is known while it is open.
    pub(crate) fn node(&self, ino: Ino) -> Result<Node, Errno> {
        match self.library.node(ino) {
            Ok(Some(node)) => Ok(node),
            Ok(None) => self.table.node(ino).ok_or(Errno::ESTALE),
            Err(error) => Err(errno::of_kind_by_inode(error.kind())),
        }
    }

    /// Opens `ino` in a task.
    pub(crate) fn open(self: &Arc<Self>, ino: Ino, timing: Timing<'_>, reply: ReplyOpen) {
        let (server, started) = (Arc::clone(self), timing.hand_over());
        self.runtime.spawn(async move {
            let _timing = started.map(|started| server.stats.resume(started));
            server.finish_open(ino, reply).await;
        });
    }

    async fn finish_open(&self, ino: Ino, reply: ReplyOpen) {
        let Ok(_permit) = self.open_permits.acquire().await else {
            return reply.error(Errno::EIO); // never closed
        };
        let file = match self.library.open(ino).await {
            Ok(file) => file,
            Err(error) => {
                debug!(%ino, %error, "open failed");
                return reply.error(errno::of_kind_by_inode(error.kind()));
            }
        };
        let keeps_cache = file.keeps_cache();
        let handle = Handle {
            node: *file.node(),
            file,
        };
        let Ok(opened) = self
            .table
            .insert(handle, |file| self.open_backing(file, &reply))
        else {
            return reply.error(Errno::ENFILE);
        };
        let fh = FileHandle(opened.fh);
        // Nothing is ever written, so close(2) need not ask. A passthrough open does not use the
        // page cache; the kernel refuses it together with KEEP_CACHE.
        let flags = FopenFlags::FOPEN_NOFLUSH;
        match &opened.mode {
            Mode::Cached if keeps_cache => {
                reply.opened(fh, flags | FopenFlags::FOPEN_KEEP_CACHE);
            }
            Mode::Cached => reply.opened(fh, flags),
            Mode::Passthrough(backing) => reply.opened_passthrough(fh, flags, backing),
        }
    }

    /// Registers the file below for passthrough, if there is one and the kernel takes it.
    fn open_backing(&self, file: &OpenFile, reply: &ReplyOpen) -> Option<BackingId> {
        if !self.passthrough.load(Relaxed) {
            return None;
        }
        let error = match reply.open_backing(file.passthrough_fd()?) {
            Ok(backing) => return Some(backing),
            Err(error) => error,
        };
        // EPERM is about this process; ELOOP, say, about the filesystem that this file is on.
        if error.kind() == io::ErrorKind::PermissionDenied {
            self.passthrough.store(false, Relaxed);
        }
        if !self.passthrough_refusal_logged.swap(true, Relaxed) {
            info!(%error, "the kernel refused passthrough: files are read through the daemon");
        }
        None
    }

    /// Closes a handle.
    pub(crate) fn release(&self, fh: FileHandle) {
        if !self.table.remove(fh.0) {
            debug!(
                fh = fh.0,
                "the kernel closed a handle that was never opened"
            );
        }
    }

    /// Reads at once what is in the page cache, and anything else in a task.
    ///
    /// The answer is never shorter than what was asked for, but at the end of the file: the kernel
    /// would take it for the end.
    pub(crate) fn read(
        self: &Arc<Self>,
        fh: FileHandle,
        offset: u64,
        size: u32,
        timing: Timing<'_>,
        reply: ReplyData,
    ) {
        let Some(handle) = self.table.handle(fh.0) else {
            return reply.error(Errno::EBADF);
        };
        let len = u64::from(size).min(handle.node.size.saturating_sub(offset)) as usize;
        if len == 0 {
            return reply.data(&[]);
        }
        let reply = if len <= READ_BYTES_MAX as usize {
            match self.read_now(&handle.file, offset, len, reply) {
                Some(reply) => reply,
                None => return,
            }
        } else {
            reply
        };
        let (server, started) = (Arc::clone(self), timing.hand_over());
        self.runtime.spawn(async move {
            let _timing = started.map(|started| server.stats.resume(started));
            server.finish_read(&handle, offset, len, reply).await;
        });
    }

    /// Answers if all of the range is at hand; else gives the reply back.
    fn read_now(
        &self,
        file: &OpenFile,
        offset: u64,
        len: usize,
        reply: ReplyData,
    ) -> Option<ReplyData> {
        READ_BUFFER.with_borrow_mut(|buffer| {
            if buffer.len() < len {
                buffer.resize(len, 0);
            }
            let bytes = &mut buffer[..len];
            match file.read_now(offset, bytes) {
                Some(read) if read == len => {
                    self.stats.count_read(len);
                    reply.data(bytes);
                    None
                }
                // A part or nothing: the task reads again, and names what is wrong if something is.
                Some(_) | None => Some(reply),
            }
        })
    }

    async fn finish_read(
        &self,
        handle: &Handle<OpenFile>,
        offset: u64,
        len: usize,
        reply: ReplyData,
    ) {
        let Ok(_permit) = self.read_permits.acquire().await else {
            return reply.error(Errno::EIO); // never closed
        };
        let ino = handle.node.ino;
        match handle.file.read(offset, len).await {
            Ok(bytes) if bytes.len() >= len => {
                self.stats.count_read(len);
                reply.data(&bytes[..len]);
            }
            Ok(bytes) => {
                if let Some(suppressed) = self.read_failures.pass() {
                    let got = bytes.len();
                    warn!(%ino, offset, len, got, suppressed, "read failed: the file ends early");
                }
                reply.error(Errno::EIO);
            }
            Err(error) => {
                if let Some(suppressed) = self.read_failures.pass() {
                    let cause = std::error::Error::source(&error).map(with_causes);
                    warn!(%ino, offset, len, %error, cause, suppressed, "read failed");
                }
                reply.error(errno::of_kind(error.kind()));
            }
        }
    }
}

/// A directory as [`crate::readdir`] lists it.
pub(crate) struct Listing<'a> {
    pub(crate) server: &'a Server,
    pub(crate) ino: Ino,
}

impl Directory for Listing<'_> {
    type Error = Errno;

    fn itself(&mut self) -> Result<Node, Errno> {
        let node = self.server.library.node(self.ino);
        node.map_err(|error| errno::of_kind(error.kind()))?
            .ok_or(Errno::ENOENT)
    }

    fn parent(&mut self) -> Result<Node, Errno> {
        let parent = self.server.library.parent(self.ino);
        let ino = parent.map_err(|error| errno::of_kind(error.kind()))?;
        Listing {
            server: self.server,
            ino,
        }
        .itself()
    }

    fn children(&mut self, after: Ino, limit: usize) -> Result<Vec<Child>, Errno> {
        let children = self.server.library.children(self.ino, after, limit);
        children.map_err(|error| errno::of_kind(error.kind()))
    }
}
