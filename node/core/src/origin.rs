//! The port to a place where music comes from.

use std::future::Future;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::pin::Pin;

use bytes::Bytes;

use crate::error::ErrorKind;
use crate::id::OriginId;
use crate::path::OriginPath;
use crate::version::{ContentVersion, OriginKey};

/// A future of a port: boxed, so that ports stay object-safe.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What kind of place an origin is; decides its caching and health rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OriginKind {
    /// A directory on a disk of this machine: watched, never copied into the cache.
    Local,
}

impl OriginKind {
    /// The name used in configuration and in the control API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
        }
    }

    /// The priority of an origin whose configuration names none; lower is tried first.
    pub fn default_priority(self) -> u32 {
        match self {
            Self::Local => 1,
        }
    }
}

/// Read-only access to one origin. Nothing here can change what lies there.
///
/// Shared by all that use the origin; every method may be called from several tasks at once.
pub trait Origin: Send + Sync {
    /// The id from the configuration.
    fn id(&self) -> &OriginId;

    /// What kind of place it is.
    fn kind(&self) -> OriginKind;

    /// The place itself, for version keys.
    fn key(&self) -> &OriginKey;

    /// What a person calls it: a path or URL without secrets.
    fn display_name(&self) -> String;

    /// Finds out whether the origin answers at all.
    ///
    /// # Errors
    /// Why it does not. The caller counts it as unhealthy and tries again later.
    fn check(&self) -> BoxFuture<'_, Result<(), OriginError>>;

    /// Lists directory by directory, in no promised order.
    ///
    /// Names that no listing should show (hidden ones, what is no file or directory, links out of
    /// the root) are left out by the origin.
    fn list(&self, under: &OriginPath, depth: Depth) -> Box<dyn DirStream>;

    /// Opens one file for reading.
    ///
    /// # Errors
    /// [`OriginError::NotFound`] if nothing (or no regular file) lies at `path`.
    fn open<'a>(
        &'a self,
        path: &'a OriginPath,
    ) -> BoxFuture<'a, Result<Box<dyn OriginFile>, OriginError>>;

    /// Starts to report changes, where the origin can tell of them by itself; else `None`.
    ///
    /// A directory is watched from the moment that [`Origin::list`] lists it, watch first: a change
    /// is either in the listing or reported.
    ///
    /// # Errors
    /// [`OriginError::Io`] if the system refuses; the caller falls back to walks.
    fn watch(&self) -> Result<Option<Box<dyn Watch>>, OriginError>;
}

/// How deep a listing goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// The directory itself.
    One,
    /// The directory and everything below it.
    All,
}

/// A listing under way. Dropping it ends it.
pub trait DirStream: Send {
    /// The next directory; `None` when all are listed.
    ///
    /// # Errors
    /// The listing as a whole failed and is incomplete: nothing may be concluded from what is
    /// missing. A single directory that cannot be read is no error: see [`DirListing::complete`].
    fn next(&mut self) -> BoxFuture<'_, Result<Option<DirListing>, OriginError>>;
}

/// The files and directories in one directory of an origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirListing {
    /// The directory.
    pub path: OriginPath,
    /// The device that the directory lies on, where there is such a thing.
    pub device: Option<u64>,
    /// Regular files; no name twice.
    pub files: Vec<ListedFile>,
    /// The names of sub-directories that a listing of [`Depth::All`] goes on with.
    pub dirs: Vec<Vec<u8>>,
    /// False if the directory could not be read to its end: what is missing may still exist.
    pub complete: bool,
}

/// One file of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedFile {
    /// Its name in the directory.
    pub name: Vec<u8>,
    /// Its content's version.
    pub version: ContentVersion,
    /// When it was last modified, in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// The read bits of its mode (a subset of 0444).
    pub mode: u16,
    /// Device and inode, where the origin has stable ones; recognises a moved file.
    pub identity: Option<FileIdentity>,
}

/// Device and inode number of a file on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileIdentity {
    /// st_dev. Not stable across reboots on every filesystem.
    pub device: u64,
    /// st_ino.
    pub inode: u64,
}

/// An open file of an origin: the content that the path had when it was opened.
pub trait OriginFile: Send + Sync {
    /// The version that was opened.
    fn version(&self) -> &ContentVersion;

    /// Reads up to `len` bytes at `offset`; shorter only at the end of the file.
    ///
    /// # Errors
    /// [`OriginError::Changed`] if the file no longer has [`OriginFile::version`]; no byte of
    /// another version is ever returned.
    fn read_at(&self, offset: u64, len: usize) -> BoxFuture<'_, Result<Bytes, OriginError>>;

    /// True while the file behind [`OriginFile::as_fd`] still has [`OriginFile::version`]. Asked
    /// after each read through the descriptor: if it is false, the bytes are thrown away.
    fn is_unchanged(&self) -> bool;

    /// The descriptor of a file on a disk of this machine, for passthrough and for reads that do
    /// not wait. `None` where reads can hang.
    fn as_fd(&self) -> Option<BorrowedFd<'_>>;
}

/// Changes reported by an origin. Dropping it ends the watch.
pub trait Watch: Send {
    /// Waits for the next change; `None` when the watch has ended for good.
    fn next(&mut self) -> BoxFuture<'_, Option<Change>>;
}

/// Something that happened on an origin. It says where to look, never what will be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// An entry appeared, changed or went away: list its directory again. It may be a link to a
    /// directory, which only the listing shows.
    Entry(OriginPath),
    /// A directory appeared under this path: list all of it.
    Directory(OriginPath),
    /// Changes were lost, or cannot all be watched: list everything again.
    Lost(LostReason),
}

/// Why changes were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LostReason {
    /// More happened at once than the system queues.
    Overflow,
    /// There are more directories than the system lets this user watch.
    Limit,
}

/// Why an origin could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum OriginError {
    /// The root itself is not there.
    #[error("reach origin root {root:?}: {reason}")]
    RootMissing {
        /// The configured root.
        root: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Nothing, or nothing readable as a file, lies at the path.
    #[error("find {path:?} on the origin")]
    NotFound {
        /// The path asked for.
        path: OriginPath,
    },
    /// The path leads out of the origin's root, through a symbolic link for one.
    #[error("open {path:?}: it leads out of the origin's root")]
    OutsideRoot {
        /// The path asked for.
        path: OriginPath,
    },
    /// The file changed since it was listed or opened.
    #[error("read {path:?}: it changed on the origin")]
    Changed {
        /// The path opened.
        path: OriginPath,
    },
    /// The system or the network failed.
    #[error("{action} {path:?}")]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// Where.
        path: OriginPath,
        /// Why it failed.
        source: std::io::Error,
    },
}

impl OriginError {
    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::OutsideRoot { .. } => ErrorKind::Denied,
            Self::Changed { .. } => ErrorKind::Stale,
            Self::RootMissing { .. } => ErrorKind::Unavailable,
            Self::Io { source, .. } => match source.kind() {
                std::io::ErrorKind::PermissionDenied => ErrorKind::Denied,
                _ => ErrorKind::Unavailable,
            },
        }
    }
}
