//! Mounting and serving: what `musicfs mount` does once its configuration stands.

use std::sync::Arc;
use std::time::Duration;

use musicfs_control::ShutdownOrder;
use musicfs_core::error::ErrorKind;
use musicfs_core::id::OriginId;
use musicfs_core::origin::OriginError;
use musicfs_fuse::Mounted;
use musicfs_library::{Library, Phase, Progress};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::wire;

/// Why mounting or serving failed. Messages read after "cannot".
#[derive(Debug, thiserror::Error)]
pub(crate) enum MountError {
    /// There is no mount.
    #[error(transparent)]
    Mount(#[from] musicfs_fuse::MountError),
    /// The mount cannot be undone.
    #[error(transparent)]
    Unmount(#[from] musicfs_fuse::UnmountError),
    /// The index cannot be used.
    #[error(transparent)]
    Index(#[from] musicfs_index::Error),
    /// An origin cannot be used, and nothing is known of it yet.
    #[error("use origin {id}")]
    Origin {
        /// Its id.
        id: OriginId,
        /// What is wrong with it.
        source: OriginError,
    },
    /// The library cannot start.
    #[error(transparent)]
    Library(#[from] musicfs_library::Error),
    /// The control socket cannot be served.
    #[error(transparent)]
    Control(#[from] musicfs_control::ControlError),
}

impl MountError {
    /// What the user can do, where the message does not say it.
    pub(crate) fn fix(&self) -> Option<&'static str> {
        match self {
            Self::Origin { .. } => Some("mount its disk, or correct its path"),
            Self::Index(error) => match error.kind() {
                ErrorKind::Denied => {
                    Some("make the state directory writable, or name another in XDG_STATE_HOME")
                }
                ErrorKind::Exhausted => Some("make room on that disk"),
                _ => None,
            },
            Self::Mount(_) | Self::Unmount(_) | Self::Library(_) | Self::Control(_) => None,
        }
    }
}

/// A mount that serves.
pub(crate) struct Running {
    pub(crate) library: Arc<Library>,
    pub(crate) mounted: Mounted,
    pub(crate) control: JoinHandle<()>,
    pub(crate) stopping: CancellationToken,
    pub(crate) orders: mpsc::Receiver<ShutdownOrder>,
    pub(crate) drain: Duration,
}

/// Mounts and serves until a signal, the control API, or an unmount from outside ends it.
///
/// Tells a service manager when the mount answers, and when it begins to end.
///
/// # Errors
/// [`MountError`] if it never served, or ended badly.
pub(crate) async fn run(config: Config) -> Result<(), MountError> {
    // Caught from here on: a signal that comes while it mounts ends it right after.
    let mut signals = Signals::catch();
    let mut running = start(config).await?;
    tell(sd_notify::NotifyState::Ready);
    let drain = loop {
        tokio::select! {
            order = running.orders.recv() => {
                break order.map_or(running.drain, |order| order.drain);
            }
            signal = signals.next() => match signal {
                Caught::End => break running.drain,
                Caught::Hangup => running.library.rescan_all(),
            },
            () = running.mounted.wait() => break Duration::ZERO,
        }
    };
    tell(sd_notify::NotifyState::Stopping);
    running.end(drain).await
}

/// Mounts and returns as soon as the first readdir would answer.
///
/// # Errors
/// [`MountError`] if it cannot.
pub(crate) async fn start(config: Config) -> Result<Running, MountError> {
    wire::start(&config).await
}

impl Running {
    /// Waits until every origin has been listed once.
    ///
    /// # Errors
    /// [`MountError`] if the index cannot be read.
    pub(crate) async fn wait_scanned(&self) -> Result<(), MountError> {
        for origin in self.library.origins()? {
            let Ok(id) = OriginId::new(&origin.row.name) else {
                continue;
            };
            // One that is not configured any more is not scanned.
            let Ok(mut progress) = self.library.progress(&id) else {
                continue;
            };
            let complete = |now: &Progress| now.phase == Phase::Complete;
            // An error means that the library has closed: there is nothing to wait for.
            let _ = progress.wait_for(complete).await;
        }
        Ok(())
    }

    /// Unmounts and ends, giving open files the configured time.
    ///
    /// # Errors
    /// [`MountError`] if something could not be brought to a good end.
    pub(crate) async fn shutdown(self) -> Result<(), MountError> {
        let drain = self.drain;
        self.end(drain).await
    }

    /// Refuses new work, lets open files drain, unmounts, closes the stores.
    async fn end(self, drain: Duration) -> Result<(), MountError> {
        self.stopping.cancel();
        let unmounted = self.mounted.unmount(drain).await;
        self.library.close().await;
        if let Err(panic) = self.control.await {
            tracing::error!(%panic, "the control socket ended in a panic");
        }
        Ok(unmounted?)
    }
}

/// What a signal asks for.
#[derive(Clone, Copy)]
enum Caught {
    /// SIGTERM or SIGINT: end.
    End,
    /// SIGHUP: look at all origins again.
    Hangup,
}

/// SIGTERM, SIGINT and SIGHUP, caught. `None` if the system refuses to have them caught.
struct Signals(Option<[Signal; 3]>);

impl Signals {
    fn catch() -> Self {
        let kinds = [
            SignalKind::terminate(),
            SignalKind::interrupt(),
            SignalKind::hangup(),
        ];
        match kinds.map(signal) {
            [Ok(terminate), Ok(interrupt), Ok(hangup)] => {
                Self(Some([terminate, interrupt, hangup]))
            }
            [Err(error), _, _] | [_, Err(error), _] | [_, _, Err(error)] => {
                tracing::error!(
                    %error,
                    "signals cannot be caught; `musicfs umount` ends the daemon"
                );
                Self(None)
            }
        }
    }

    /// Waits for the next. Cancellation-safe.
    async fn next(&mut self) -> Caught {
        let Some([terminate, interrupt, hangup]) = &mut self.0 else {
            return std::future::pending().await;
        };
        tokio::select! {
            _ = terminate.recv() => Caught::End,
            _ = interrupt.recv() => Caught::End,
            _ = hangup.recv() => Caught::Hangup,
        }
    }
}

/// Tells the service manager, if there is one.
fn tell(state: sd_notify::NotifyState<'_>) {
    // Who started a daemon in the background listens until it is ready, and no longer.
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!(%error, "nobody listens for the state of the service");
    }
}
