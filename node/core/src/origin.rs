//! The port to a place where music comes from.

use std::future::Future;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::checksum::Checksum;
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
    /// A mounted NFS share: read like a directory, cached like a network.
    Nfs,
    /// A mounted SMB share: the same.
    Smb,
    /// A bucket of an S3 service.
    S3,
    /// A directory of an SFTP server.
    Sftp,
}

impl OriginKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Local, Self::Nfs, Self::Smb, Self::S3, Self::Sftp];

    /// The name used in configuration and in the control API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Nfs => "nfs",
            Self::Smb => "smb",
            Self::S3 => "s3",
            Self::Sftp => "sftp",
        }
    }

    /// The kind of a name; `None` for any other text.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// The priority of an origin whose configuration names none; lower is tried first.
    pub fn default_priority(self) -> u32 {
        match self {
            Self::Local => 1,
            Self::Nfs | Self::Smb => 5,
            Self::S3 | Self::Sftp => 20,
        }
    }

    /// True if content is kept in the chunk store: every byte that a network brought.
    pub fn is_cached(self) -> bool {
        self != Self::Local
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

    /// The place itself, for version keys; `None` until the origin has answered once, where only
    /// its answer tells (SFTP: the host key, the real root).
    fn key(&self) -> Option<OriginKey>;

    /// The path that goes into version keys. An S3 object's is its full key, so that origins with
    /// different prefixes of one bucket agree.
    fn key_path(&self, path: &OriginPath) -> OriginPath {
        path.clone()
    }

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

    /// Opens one file for reading, which `expected` says the version of.
    ///
    /// What is there may be another version: [`OriginFile::version`] tells. Where every read is
    /// conditional (S3), opening costs nothing and believes the caller; a read then fails with
    /// [`OriginError::Changed`].
    ///
    /// # Errors
    /// [`OriginError::NotFound`] if nothing (or no regular file) lies at `path`.
    fn open<'a>(
        &'a self,
        path: &'a OriginPath,
        expected: &'a ContentVersion,
    ) -> BoxFuture<'a, Result<Box<dyn OriginFile>, OriginError>>;

    /// A checksum that the origin itself has of the whole content of `expected` at `path`: what has
    /// it is that content. `None` if the origin has none that can prove anything; one that it gives
    /// may still agree with no content at all, where a server's digests are not what they seem.
    ///
    /// May let the server read the whole file; never transfers it.
    ///
    /// # Errors
    /// [`OriginError::Changed`] if another version lies there; else why the origin cannot be asked.
    fn checksum<'a>(
        &'a self,
        _path: &'a OriginPath,
        _expected: &'a ContentVersion,
    ) -> BoxFuture<'a, Result<Option<Checksum>, OriginError>> {
        Box::pin(std::future::ready(Ok(None)))
    }

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
    fn read_at(&self, offset: u64, len: usize) -> BoxFuture<'_, Result<Bytes, OriginError>> {
        let end = offset.saturating_add(len as u64).min(self.version().size);
        let range = offset.min(end)..end;
        Box::pin(collect(self.stream(range)))
    }

    /// Fetches `range`, which lies within the file and is not empty, piece by piece and in order,
    /// with one request where the protocol allows that. Nothing is asked for before the first
    /// [`ByteStream::next`]; dropping the stream ends it.
    fn stream(&self, range: Range<u64>) -> Box<dyn ByteStream + '_>;

    /// True while the file behind [`OriginFile::as_fd`] still has [`OriginFile::version`]. Asked
    /// after each read through the descriptor: if it is false, the bytes are thrown away.
    fn is_unchanged(&self) -> bool;

    /// The descriptor of a file on a disk of this machine, for passthrough and for reads that do
    /// not wait. `None` where reads can hang.
    fn as_fd(&self) -> Option<BorrowedFd<'_>>;
}

/// Bytes on their way from an origin.
pub trait ByteStream: Send {
    /// The next piece, not empty and of at most [`PIECE_BYTES_MAX`]; `None` once the whole range
    /// has been delivered. Every piece is known to be of the version opened.
    ///
    /// Not cancellation-safe: after a `next` that was dropped, drop the stream.
    ///
    /// # Errors
    /// As [`OriginFile::read_at`]; what came before stays good, and another stream can go on
    /// behind it. A server that sends too little or too much is an error here, not short data.
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, OriginError>>;
}

/// The largest piece of a [`ByteStream`]: bounds what one stream holds in memory.
pub const PIECE_BYTES_MAX: usize = 1 << 20;

/// Everything that is left of a stream, in one piece.
///
/// # Errors
/// Those of [`ByteStream::next`].
pub async fn collect(mut stream: Box<dyn ByteStream + '_>) -> Result<Bytes, OriginError> {
    let Some(first) = stream.next().await? else {
        return Ok(Bytes::new());
    };
    let Some(second) = stream.next().await? else {
        return Ok(first);
    };
    let mut all = BytesMut::from(first);
    all.extend_from_slice(&second);
    while let Some(piece) = stream.next().await? {
        all.extend_from_slice(&piece);
    }
    Ok(all.freeze())
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

/// Why a server refuses, and what its user can do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There are no credentials to show.
    #[error("no credentials were found: {hint}")]
    NoCredentials {
        /// Where they are looked for.
        hint: &'static str,
    },
    /// The credentials are not known there, or do not match.
    #[error("the server does not accept the credentials: correct them, or renew them")]
    Credentials,
    /// They are known, and may not do this.
    #[error("these credentials may not do this: allow them to list and to read")]
    Forbidden,
    /// The bucket does not exist.
    #[error("there is no such bucket: correct its name or the endpoint")]
    NoBucket,
    /// The bucket lies elsewhere.
    #[error("the bucket is in another region: set the right one")]
    Region,
    /// The clocks are too far apart for signed requests.
    #[error("this machine's clock and the server's differ too much: set it right")]
    Clock,
    /// Nothing is known of the host's key.
    #[error(
        "the host key {fingerprint} is not in known_hosts: connect once with ssh, compare the \
         fingerprint, and accept it"
    )]
    UnknownHostKey {
        /// Of the key that the host showed.
        fingerprint: String,
    },
    /// Another key is known.
    #[error(
        "the host key {fingerprint} is not the one in known_hosts: someone may be in between; if \
         the host was set up anew, remove its old line with ssh-keygen -R"
    )]
    ChangedHostKey {
        /// Of the key that the host showed.
        fingerprint: String,
    },
    /// The server asks for patience.
    #[error("the server is busy")]
    Busy,
    /// The server failed by itself.
    #[error("the server failed with code {0}")]
    Server(u32),
    /// The server refuses for a reason of its own.
    #[error("the server refuses with code {0}")]
    Other(u32),
}

impl Refusal {
    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoCredentials { .. }
            | Self::Credentials
            | Self::Forbidden
            | Self::UnknownHostKey { .. }
            | Self::ChangedHostKey { .. } => ErrorKind::Denied,
            Self::NoBucket
            | Self::Region
            | Self::Clock
            | Self::Busy
            | Self::Server(_)
            | Self::Other(_) => ErrorKind::Unavailable,
        }
    }
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
    /// The server understood, and refuses.
    #[error("{action} {path:?}: {refusal}")]
    Refused {
        /// What was tried, as a verb.
        action: &'static str,
        /// Where.
        path: OriginPath,
        /// Why, and what to do.
        refusal: Refusal,
    },
    /// The server did not answer, or stopped in the middle.
    #[error("{action} {path:?}: no answer within {} s", after.as_secs())]
    TimedOut {
        /// What was tried, as a verb.
        action: &'static str,
        /// Where.
        path: OriginPath,
        /// How long it was waited for.
        after: Duration,
    },
    /// The server breaks its protocol.
    #[error("{action} {path:?}: the server's answer is wrong: {what}")]
    Malformed {
        /// What was tried, as a verb.
        action: &'static str,
        /// Where.
        path: OriginPath,
        /// What is wrong with it.
        what: &'static str,
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
            Self::RootMissing { .. } | Self::Malformed { .. } => ErrorKind::Unavailable,
            Self::TimedOut { .. } => ErrorKind::DeadlineExceeded,
            Self::Refused { refusal, .. } => refusal.kind(),
            Self::Io { source, .. } => match source.kind() {
                std::io::ErrorKind::PermissionDenied => ErrorKind::Denied,
                _ => ErrorKind::Unavailable,
            },
        }
    }
}
