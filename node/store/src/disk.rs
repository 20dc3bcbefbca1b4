//! The port for everything that the store does to a disk.
//!
//! What a call promises after a power loss is part of the port: nothing, until the matching sync.
//! Bytes become durable with [`DiskFile::sync`], names with [`Disk::sync_dir`] of their directory.

use std::fs::{self, File, TryLockError};
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{FallocateFlags, Timespec, Timestamps, XattrFlags};
use rustix::io::{Errno, ReadWriteFlags};

/// What a directory entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskStat {
    /// Length in bytes.
    pub len: u64,
    /// Bytes that it takes on the disk (`st_blocks`).
    pub allocated: u64,
    /// Modification time in nanoseconds since 1970; 0 for what is earlier.
    pub modified: u64,
    /// True for a directory.
    pub is_dir: bool,
}

/// A file system, as far as the store needs one.
///
/// [`RealDisk`] is the one that is there; tests bring one that forgets what was not synced.
pub trait Disk: Send + Sync {
    /// Makes `path` a directory that only this user may enter. False if it is another user's.
    ///
    /// # Errors
    /// What the disk says.
    fn claim_dir(&self, path: &Path) -> io::Result<bool>;

    /// Takes a lock that lasts until what is returned is dropped.
    ///
    /// # Errors
    /// `WouldBlock` if another process holds it, else what the disk says.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>>;

    /// Makes a directory. False if it was there.
    ///
    /// # Errors
    /// What the disk says.
    fn make_dir(&self, path: &Path) -> io::Result<bool>;

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// `NotFound`, or what the disk says.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Makes an empty file, for this user only, and opens it for reading and writing.
    ///
    /// # Errors
    /// `AlreadyExists`, or what the disk says.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Gives a file another name, in place of what had it: all at once or not at all.
    ///
    /// # Errors
    /// What the disk says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file's name.
    ///
    /// # Errors
    /// `NotFound`, or what the disk says.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes all changes of names in a directory durable.
    ///
    /// # Errors
    /// What the disk says; then nothing is known about any of them.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// The names in a directory, in no order.
    ///
    /// # Errors
    /// `NotFound`, or what the disk says.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;

    /// What a name stands for.
    ///
    /// # Errors
    /// `NotFound`, or what the disk says.
    fn stat(&self, path: &Path) -> io::Result<DiskStat>;

    /// Sets a file's modification time, in nanoseconds since 1970.
    ///
    /// # Errors
    /// What the disk says.
    fn set_modified(&self, path: &Path, nanos: u64) -> io::Result<()>;

    /// How many bytes this user can still write to the file system that holds `path`.
    ///
    /// # Errors
    /// What the disk says.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;

    /// Where SQLite may keep a database that can be lost at any time; `None` for memory.
    fn database(&self, path: &Path) -> Option<PathBuf>;

    /// 16 bytes that no one can guess.
    ///
    /// # Errors
    /// What the system says.
    fn random(&self) -> io::Result<[u8; 16]>;

    /// Time that never goes back, from any start.
    fn monotonic(&self) -> Duration;

    /// Time since 1970.
    fn wall(&self) -> Duration;
}

/// An open file. Dropping it closes it.
pub trait DiskFile: Send + Sync {
    /// Reads until `buffer` is full or the file ends, and says how much there was.
    ///
    /// # Errors
    /// What the disk says.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Like [`DiskFile::read_at`], only if no disk has to be waited for.
    fn read_now_at(&self, buffer: &mut [u8], offset: u64) -> Option<usize>;

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// What the disk says; then any part may have been written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes what was written durable (fdatasync); with `and_name_tags` the extended attributes too
    /// (fsync).
    ///
    /// # Errors
    /// What the disk says; then what was written since the last sync may be lost, even if a later
    /// one succeeds.
    fn sync(&self, and_name_tags: bool) -> io::Result<()>;

    /// Sets the length; what is added is a hole.
    ///
    /// # Errors
    /// What the disk says.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Length in bytes.
    ///
    /// # Errors
    /// What the disk says.
    fn size(&self) -> io::Result<u64>;

    /// Bytes that it takes on the disk (`st_blocks`).
    ///
    /// # Errors
    /// What the disk says.
    fn allocated(&self) -> io::Result<u64>;

    /// Gives the space of a range back; it reads as zeros from then on.
    ///
    /// # Errors
    /// What the disk says.
    fn punch(&self, offset: u64, len: u64) -> io::Result<()>;

    /// The 16 bytes of an extended attribute, `None` if there are none or not 16.
    ///
    /// # Errors
    /// What the disk says.
    fn tag(&self, name: &str) -> io::Result<Option<[u8; 16]>>;

    /// Sets an extended attribute.
    ///
    /// # Errors
    /// What the disk says.
    fn set_tag(&self, name: &str, value: [u8; 16]) -> io::Result<()>;

    /// Sets the modification time, in nanoseconds since 1970.
    ///
    /// # Errors
    /// What the disk says.
    fn set_modified(&self, nanos: u64) -> io::Result<()>;

    /// The descriptor, where there is one.
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;
}

/// The file system of this machine.
pub struct RealDisk {
    start: Instant,
}

impl RealDisk {
    /// The file system of this machine.
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
        }
    }
}

impl Default for RealDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl Disk for RealDisk {
    fn claim_dir(&self, path: &Path) -> io::Result<bool> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)?;
        let found = fs::metadata(path)?;
        if found.uid() != rustix::process::geteuid().as_raw() {
            return Ok(false);
        }
        if found.mode() & 0o077 != 0 {
            fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
        }
        Ok(true)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(file)),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn make_dir(&self, path: &Path) -> io::Result<bool> {
        match fs::DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        // A symbolic link is nothing that the store made.
        let flags = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
        let file = File::options()
            .read(true)
            .write(true)
            .custom_flags(flags)
            .open(path)?;
        Ok(Arc::new(RealFile(file)))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        Ok(Arc::new(RealFile(file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            // A name that is not UTF-8 is nothing that the store made.
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn stat(&self, path: &Path) -> io::Result<DiskStat> {
        let found = fs::symlink_metadata(path)?;
        let seconds = u64::try_from(found.mtime()).unwrap_or(0);
        let nanos = u64::try_from(found.mtime_nsec()).unwrap_or(0);
        Ok(DiskStat {
            len: found.len(),
            allocated: found.blocks() * 512,
            modified: seconds.saturating_mul(1_000_000_000).saturating_add(nanos),
            is_dir: found.is_dir(),
        })
    }

    fn set_modified(&self, path: &Path, nanos: u64) -> io::Result<()> {
        let times = modified_at(nanos);
        let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        Ok(rustix::fs::utimensat(rustix::fs::CWD, path, &times, flags)?)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let found = rustix::fs::statvfs(path)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    fn database(&self, path: &Path) -> Option<PathBuf> {
        Some(path.to_owned())
    }

    fn random(&self) -> io::Result<[u8; 16]> {
        let mut bytes = [0; 16];
        io::Read::read_exact(&mut File::open("/dev/urandom")?, &mut bytes)?;
        Ok(bytes)
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn wall(&self) -> Duration {
        SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
    }
}

struct RealFile(File);

impl DiskFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match self.0.read_at(&mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn read_now_at(&self, buffer: &mut [u8], offset: u64) -> Option<usize> {
        let mut parts = [IoSliceMut::new(buffer)];
        rustix::io::preadv2(&self.0, &mut parts, offset, ReadWriteFlags::NOWAIT).ok()
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync(&self, and_name_tags: bool) -> io::Result<()> {
        if and_name_tags {
            self.0.sync_all()
        } else {
            self.0.sync_data()
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn allocated(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.blocks() * 512)
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(rustix::fs::fallocate(&self.0, flags, offset, len)?)
    }

    fn tag(&self, name: &str) -> io::Result<Option<[u8; 16]>> {
        let mut value = [0_u8; 16];
        match rustix::fs::fgetxattr(&self.0, name, &mut value) {
            Ok(16) => Ok(Some(value)),
            Ok(_) | Err(Errno::NODATA | Errno::RANGE) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn set_tag(&self, name: &str, value: [u8; 16]) -> io::Result<()> {
        Ok(rustix::fs::fsetxattr(
            &self.0,
            name,
            &value,
            XattrFlags::empty(),
        )?)
    }

    fn set_modified(&self, nanos: u64) -> io::Result<()> {
        Ok(rustix::fs::futimens(&self.0, &modified_at(nanos))?)
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }
}

fn modified_at(nanos: u64) -> Timestamps {
    let seconds = (nanos / 1_000_000_000).try_into().unwrap_or(i64::MAX);
    let at = Timespec {
        tv_sec: seconds,
        tv_nsec: (nanos % 1_000_000_000).try_into().unwrap_or(0),
    };
    Timestamps {
        last_access: at,
        last_modification: at,
    }
}
