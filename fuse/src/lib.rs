//! The kernel adapter: FUSE callbacks, handles, errno table, invalidation, mount.
//!
//! [`mount()`] checks the mount point, attaches the filesystem and starts its threads; the
//! [`Mounted`] it returns ends it. A callback answers at once from memory or by an index read;
//! opening a file, and reading what is not in the page cache, take a permit and move with their
//! reply into a task.
//!
//! The kernel caches attributes, names and directories for hours; the invalidation thread tells
//! it what changed. An inode names one content for ever, so data is never invalidated.

mod attach;
mod attr;
mod detach;
mod errno;
mod filesystem;
mod handles;
mod invalidate;
mod mount;
mod mountinfo;
pub mod mounts;
mod preflight;
mod rate_limit;
mod readdir;
mod serve;
mod stats;
mod xattr;

pub use self::detach::UnmountError;
pub use self::mount::{MountError, MountOptions, Mounted, mount};
pub use self::preflight::{PreflightError, check as preflight};
pub use self::stats::{FuseStats, LATENCY_BOUNDS, Latency, Op};
