//! The callbacks of the kernel's requests.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, FileType, Filesystem,
    FopenFlags, Generation, INodeNo, InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenAccMode,
    OpenFlags, PollEvents, PollFlags, PollNotifier, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen,
    ReplyPoll, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use musicfs_core::id::Ino;
use musicfs_library::NodeKind;
use tracing::debug;

use crate::attr::{self, BLOCK_BYTES, TTL, TTL_NEGATIVE};
use crate::errno;
use crate::readdir;
use crate::serve::{Listing, READ_BYTES_MAX, Server};
use crate::stats::Op;
use crate::xattr;

/// Requests of the kernel's own, such as readahead, that may be in flight at a time. Its default of
/// 16 (fuser's too) lets a few sequential readers stall each other.
const BACKGROUND_MAX: u16 = 128;

/// Inodes are never reused, so no two files ever need to be told apart by generation.
const GENERATION: Generation = Generation(0);

/// The longest name (the index makes none longer).
const NAME_BYTES_MAX: u32 = 255;

/// The filesystem as fuser drives it: decodes, calls [`Server`], replies.
pub(crate) struct MusicFilesystem {
    pub(crate) server: Arc<Server>,
    pub(crate) wants_passthrough: bool,
    /// Whether the kernel can be told to open directories without asking; known after `init`.
    pub(crate) opens_directories_itself: bool,
}

impl MusicFilesystem {
    /// Counts a request that would change something, and says what it is answered.
    fn refuse(&self) -> Errno {
        drop(self.server.stats.time(Op::Write));
        Errno::EROFS
    }

    /// Counts a request that is not offered. The kernel does not ask again, and does what is right
    /// for a filesystem that need not know.
    fn decline(&self) -> Errno {
        drop(self.server.stats.time(Op::Other));
        Errno::ENOSYS
    }
}

impl Filesystem for MusicFilesystem {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // AUTO_INVAL_DATA makes a cached directory whose mtime changed be read again. READDIRPLUS
        // without its AUTO: attributes cost the index nothing more, scanners want all of them, and
        // the directory cache keeps the kernel from asking twice.
        let wanted = [
            InitFlags::FUSE_ASYNC_READ,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_AUTO_INVAL_DATA,
            InitFlags::FUSE_ASYNC_DIO,
        ];
        for capability in wanted {
            if config.add_capabilities(capability).is_err() {
                debug!(?capability, "not offered by the kernel");
            }
        }
        self.opens_directories_itself = config
            .add_capabilities(InitFlags::FUSE_NO_OPENDIR_SUPPORT)
            .is_ok();
        // A stack depth of 1 leaves room for an overlayfs on top of the mount.
        if self.wants_passthrough
            && config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_ok()
            && config.set_max_stack_depth(1).is_ok()
        {
            self.server.allow_passthrough();
        }
        // Refused values would leave fuser's defaults, which work too.
        let _ = config.set_max_background(BACKGROUND_MAX);
        let _ = config.set_time_granularity(Duration::from_nanos(1));
        // The largest request that reads may have as well (`max_pages`).
        let _ = config.set_max_write(READ_BYTES_MAX);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let _timing = self.server.stats.time(Op::Lookup);
        // Every name of the tree is UTF-8.
        let found = match name.to_str() {
            Some(name) => self.server.library.lookup(Ino(parent.0), name),
            None => Ok(None),
        };
        match found {
            Ok(Some(node)) => {
                reply.entry(&TTL, &attr::of_node(&node, self.server.owner), GENERATION);
            }
            Ok(None) => reply.entry(&TTL_NEGATIVE, &attr::negative(), GENERATION),
            Err(error) => reply.error(errno::of_kind(error.kind())),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let _timing = self.server.stats.time(Op::Getattr);
        match self.server.node(Ino(ino.0)) {
            Ok(node) => reply.attr(&TTL, &attr::of_node(&node, self.server.owner)),
            Err(errno) => reply.error(errno),
        }
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let _timing = self.server.stats.time(Op::Other);
        if self.opens_directories_itself {
            // Once, and the kernel opens directories by itself, and caches them.
            reply.error(Errno::ENOSYS);
        } else {
            let flags = FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE;
            reply.opened(FileHandle(0), flags);
        }
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let _timing = self.server.stats.time(Op::Readdir);
        let mut listing = Listing {
            server: &self.server,
            ino: Ino(ino.0),
        };
        let filled = readdir::fill_page(&mut listing, offset, |entry, node| {
            let kind = match node.kind {
                NodeKind::Directory => FileType::Directory,
                NodeKind::File => FileType::RegularFile,
            };
            reply
                .add(INodeNo(node.ino.0), entry.cookie, kind, entry.name)
                .into()
        });
        match filled {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    fn readdirplus(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let _timing = self.server.stats.time(Op::Readdir);
        let mut listing = Listing {
            server: &self.server,
            ino: Ino(ino.0),
        };
        let filled = readdir::fill_page(&mut listing, offset, |entry, node| {
            let attr = attr::of_node(node, self.server.owner);
            reply
                .add(attr.ino, entry.cookie, entry.name, &TTL, &attr, GENERATION)
                .into()
        });
        match filled {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    fn open(&self, _: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if flags.acc_mode() != OpenAccMode::O_RDONLY {
            return reply.error(self.refuse());
        }
        let timing = self.server.stats.time(Op::Open);
        self.server.open(Ino(ino.0), timing, reply);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let timing = self.server.stats.time(Op::Read);
        self.server.read(fh, offset, size, timing, reply);
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        fh: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        let _timing = self.server.stats.time(Op::Release);
        // Answered first: when the last handle is gone, an unmount that waits for that may end the
        // connection, and nothing can be answered any more. The kernel ignores the answer anyway.
        reply.ok();
        self.server.release(fh);
    }

    fn access(&self, _: &Request, ino: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        let _timing = self.server.stats.time(Op::Other);
        // Not asked under default_permissions: the kernel decides by the attributes.
        match self.server.node(Ino(ino.0)) {
            Ok(_) if mask.contains(AccessFlags::W_OK) => reply.error(Errno::EROFS),
            Ok(node) if mask.contains(AccessFlags::X_OK) && node.kind == NodeKind::File => {
                reply.error(Errno::EACCES);
            }
            Ok(_) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let _timing = self.server.stats.time(Op::Statfs);
        let totals = self.server.library.totals();
        let blocks = totals.bytes.div_ceil(u64::from(BLOCK_BYTES));
        let entries = totals.files + totals.directories;
        reply.statfs(
            blocks,
            0,
            0,
            entries,
            0,
            BLOCK_BYTES,
            NAME_BYTES_MAX,
            BLOCK_BYTES,
        );
    }

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let _timing = self.server.stats.time(Op::Xattr);
        let name = name.as_bytes();
        if !xattr::is_known(name) {
            return reply.error(Errno::ENODATA);
        }
        let provenance = match self.server.library.real_path(Ino(ino.0)) {
            Ok(provenance) => provenance,
            Err(error) => return reply.error(errno::of_kind_by_inode(error.kind())),
        };
        match provenance
            .as_ref()
            .and_then(|provenance| xattr::value(name, provenance))
        {
            Some(value) => xattr::answer(value, size).send(reply),
            None => reply.error(Errno::ENODATA),
        }
    }

    fn listxattr(&self, _: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let _timing = self.server.stats.time(Op::Xattr);
        match self.server.library.real_path(Ino(ino.0)) {
            Ok(Some(_)) => xattr::answer(&xattr::names(), size).send(reply),
            Ok(None) => xattr::answer(&[], size).send(reply),
            Err(error) => reply.error(errno::of_kind_by_inode(error.kind())),
        }
    }

    fn readlink(&self, _: &Request, _: INodeNo, reply: ReplyData) {
        let _timing = self.server.stats.time(Op::Other);
        reply.error(Errno::EINVAL);
    }

    fn ioctl(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: IoctlFlags,
        _: u32,
        _: &[u8],
        _: u32,
        reply: ReplyIoctl,
    ) {
        let _timing = self.server.stats.time(Op::Other);
        reply.error(Errno::ENOTTY);
    }

    // The kernel seeks by itself then: a file is one piece of data, with a hole at its end.
    fn lseek(&self, _: &Request, _: INodeNo, _: FileHandle, _: i64, _: i32, reply: ReplyLseek) {
        reply.error(self.decline());
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.error(self.decline());
    }

    // fsync(2) succeeds then, without asking.
    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.error(self.decline());
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.error(self.decline());
    }

    // A file is always ready then.
    fn poll(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: PollNotifier,
        _: PollEvents,
        _: PollFlags,
        reply: ReplyPoll,
    ) {
        reply.error(self.decline());
    }

    // What would change something. The mount is read-only, so the kernel refuses most by itself.

    fn setattr(
        &self,
        _: &Request,
        _: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        reply.error(self.refuse());
    }

    fn mknod(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(self.refuse());
    }

    fn mkdir(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(self.refuse());
    }

    fn unlink(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(self.refuse());
    }

    fn rmdir(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(self.refuse());
    }

    fn symlink(&self, _: &Request, _: INodeNo, _: &OsStr, _: &Path, reply: ReplyEntry) {
        reply.error(self.refuse());
    }

    fn rename(
        &self,
        _: &Request,
        _: INodeNo,
        _: &OsStr,
        _: INodeNo,
        _: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        reply.error(self.refuse());
    }

    fn link(&self, _: &Request, _: INodeNo, _: INodeNo, _: &OsStr, reply: ReplyEntry) {
        reply.error(self.refuse());
    }

    fn create(
        &self,
        _: &Request,
        _: INodeNo,
        _: &OsStr,
        _: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        reply.error(self.refuse());
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        reply.error(self.refuse());
    }

    fn setxattr(
        &self,
        _: &Request,
        _: INodeNo,
        _: &OsStr,
        _: &[u8],
        _: i32,
        _: u32,
        reply: ReplyEmpty,
    ) {
        reply.error(self.refuse());
    }

    fn removexattr(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(self.refuse());
    }

    fn fallocate(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: u64,
        _: i32,
        reply: ReplyEmpty,
    ) {
        reply.error(self.refuse());
    }

    fn copy_file_range(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: u64,
        _: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        reply.error(self.refuse());
    }
}
