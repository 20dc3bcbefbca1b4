//! A mount from its beginning to its end.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use fuser::{Config, Session, SessionACL};
use musicfs_core::error::ErrorKind;
use musicfs_library::Library;
use tokio::runtime;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use crate::attach::{self, AttachError};
use crate::attr::Owner;
use crate::detach::{Attachment, UnmountError};
use crate::filesystem::MusicFilesystem;
use crate::invalidate;
use crate::mountinfo;
use crate::preflight::{self, PreflightError};
use crate::serve::Server;
use crate::stats::FuseStats;

/// How long the session may take to end by itself after the unmount. It has nothing left to do,
/// unless somebody still uses the mount, or another mount namespace has it.
const SESSION_END_GRACE: Duration = Duration::from_millis(500);

/// How long the session may take to end after its connection was ended.
const SESSION_END_TIMEOUT: Duration = Duration::from_secs(3);

/// Where and how to mount.
#[derive(Clone, Debug)]
pub struct MountOptions {
    /// An empty directory.
    pub mount_point: PathBuf,
    /// The instance's name, shown as the source `musicfs:<instance>`.
    pub instance: String,
    /// The owner of every entry.
    pub uid: u32,
    /// The group of every entry.
    pub gid: u32,
    /// Permission bits that nobody gets, as umask(2) has them.
    pub umask: u32,
    /// Whether users other than the mounting one may use the mount.
    pub allow_other: bool,
    /// Whether the kernel may read local files without the daemon. Needs privileges; without them
    /// the mount works all the same.
    pub passthrough: bool,
    /// Threads that answer the kernel, at least 1. Each answers one request at a time, in
    /// microseconds; what may wait does not stay on them.
    pub threads: usize,
}

/// Why there is no mount.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The mount would not have worked; the message says what to do.
    #[error(transparent)]
    Preflight(#[from] PreflightError),
    /// The kernel or the mount helper refused.
    #[error("mount on {path:?}")]
    Attach {
        /// The mount point.
        path: PathBuf,
        /// What refused, and why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The mount was gone as soon as it was made.
    #[error("mount on {path:?}: it disappeared at once; is something else unmounting it?")]
    Vanished {
        /// The mount point.
        path: PathBuf,
    },
    /// The kernel and this program did not agree on a protocol.
    #[error("agree with the kernel on the FUSE protocol")]
    Handshake {
        /// What went wrong.
        source: io::Error,
    },
    /// The system has no thread to give.
    #[error("start a thread of the mount")]
    Thread {
        /// What the system says.
        source: io::Error,
    },
}

impl MountError {
    /// What the caller can do. Exhaustive on purpose: a new variant must choose.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Preflight(error) => error.kind(),
            Self::Attach { .. } | Self::Vanished { .. } => ErrorKind::Unavailable,
            Self::Handshake { .. } => ErrorKind::Unsupported,
            Self::Thread { .. } => ErrorKind::Exhausted,
        }
    }
}

/// A filesystem that is mounted. Dropping it unmounts at once, in use or not.
#[derive(Debug)]
pub struct Mounted {
    attachment: Attachment,
    stats: Arc<FuseStats>,
    ended: watch::Receiver<bool>,
    /// `None` once it was joined, or left behind.
    session: Option<thread::JoinHandle<()>>,
}

/// Mounts `library` and starts to answer; the mount is usable when this returns.
///
/// Blocks for the checks and the handshake: milliseconds, or a second beside a mount that hangs.
/// `runtime` runs what may wait, so it must outlive the mount.
///
/// # Errors
/// [`MountError`]; nothing stays mounted.
pub fn mount(
    library: Arc<Library>,
    runtime: runtime::Handle,
    options: &MountOptions,
) -> Result<Mounted, MountError> {
    let path = preflight::check(&options.mount_point, options.allow_other)?;
    let changes = library.subscribe_tree();
    let owner = Owner {
        uid: options.uid,
        gid: options.gid,
        umask: (options.umask & 0o777) as u16,
    };
    let server = Arc::new(Server::new(library, runtime, owner));
    let stats = Arc::clone(&server.stats);
    let filesystem = MusicFilesystem {
        server,
        wants_passthrough: options.passthrough,
        opens_directories_itself: false,
    };

    let source = mountinfo::source_of(&options.instance);
    let device = attach::attach(&path, &source, options.allow_other).map_err(|error| {
        let path = path.clone();
        match error {
            AttachError::Mount(source) => MountError::Attach {
                path,
                source: source.into(),
            },
            error => MountError::Attach {
                path,
                source: error.into(),
            },
        }
    })?;
    let mounts = mountinfo::read().unwrap_or_default();
    let Some(entry) = mountinfo::at(&mounts, &path).filter(|entry| entry.is_ours()) else {
        return Err(MountError::Vanished { path });
    };
    let (ended_sender, ended) = watch::channel(false);
    // From here on, leaving early drops it, which unmounts.
    let attachment = Attachment::new(entry);
    let mut mounted = Mounted {
        attachment,
        stats,
        ended,
        session: None,
    };

    let mut config = Config::default();
    config.n_threads = Some(options.threads.max(1));
    config.clone_fd = true;
    let acl = if options.allow_other {
        SessionACL::All
    } else {
        SessionACL::Owner
    };
    let session = Session::from_fd(filesystem, device, acl, config)
        .map_err(|source| MountError::Handshake { source })?;
    let stats = Arc::clone(&mounted.stats);
    invalidate::start(changes, session.notifier(), mounted.ended.clone(), stats)
        .map_err(|source| MountError::Thread { source })?;
    let run = move || {
        if let Err(error) = session.run() {
            warn!(%error, "the FUSE session ended with an error");
        }
        ended_sender.send_replace(true);
    };
    let session = thread::Builder::new()
        .name("fuse-session".to_owned())
        .spawn(run);
    mounted.session = Some(session.map_err(|source| MountError::Thread { source })?);
    debug!(?path, source, "mounted");
    Ok(mounted)
}

impl Mounted {
    /// The mount's counters, which go on existing after it.
    pub fn stats(&self) -> Arc<FuseStats> {
        Arc::clone(&self.stats)
    }

    /// Where it is mounted: the path of the options, absolute and without symbolic links.
    pub fn mount_point(&self) -> &std::path::Path {
        &self.attachment.mount_point
    }

    /// Waits until the session is over, because of [`Mounted::unmount`] or of an unmount from
    /// outside, such as `fusermount3 -u`. Cancellation-safe.
    pub async fn wait(&self) {
        let mut ended = self.ended.clone();
        // An error means that the session's thread is gone.
        let _ = ended.wait_for(|ended| *ended).await;
    }

    /// Unmounts once no file is open, after `drain` at the latest, and waits for the session's end.
    ///
    /// Files that are still open then, and directories in use, give errors from then on. Does not
    /// end early: dropping the future leaves the unmount to a background thread.
    ///
    /// # Errors
    /// [`UnmountError`]; the session goes on.
    pub async fn unmount(mut self, drain: Duration) -> Result<(), UnmountError> {
        let drained = timeout(drain, async {
            tokio::select! {
                () = self.stats.idle() => {}
                () = self.wait() => {}
            }
        });
        if drained.await.is_err() {
            let handles = self.stats.open_handles();
            info!(handles, "files are still open after the time to drain");
        }
        let attachment = self.attachment.clone();
        let detached = tokio::task::spawn_blocking(move || attachment.detach());
        match detached.await {
            Ok(result) => result?,
            Err(error) => warn!(%error, "the unmount was called off"),
        }
        if timeout(SESSION_END_GRACE, self.wait()).await.is_err() {
            self.attachment.abort();
        }
        let session = self.session.take();
        if timeout(SESSION_END_TIMEOUT, self.wait()).await.is_err() {
            warn!(path = ?self.mount_point(), "unmounted, but its open files still keep it alive");
        } else if let Some(session) = session {
            // It has said its last word, so this does not wait.
            let _ = session.join();
        }
        debug!(path = ?self.mount_point(), "unmounted");
        Ok(())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if *self.ended.borrow() {
            return;
        }
        match self.attachment.detach() {
            Ok(()) => debug!(path = ?self.attachment.mount_point, "unmounted"),
            Err(error) => warn!(%error, "failed to unmount"),
        }
    }
}
