//! Mounting and serving: what `musicfs mount` does once its configuration stands.

use std::sync::Arc;
use std::time::Duration;

use musicfs_control::{ControlError, ReloadOrder, ReloadOutcome, ShutdownOrder};
use musicfs_core::error::{ErrorKind, with_causes};
use musicfs_core::id::OriginId;
use musicfs_core::origin::{OriginError, OriginKind, Refusal};
use musicfs_fuse::Mounted;
use musicfs_library::{Library, Phase, Progress};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::error::Error;
use crate::wire::{self, Wired};

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
    /// No origin answers, and nothing is known of them yet.
    #[error("{}", told(silent))]
    Origins {
        /// All of them, as they would be tried.
        silent: Vec<SilentOrigin>,
    },
    /// An origin cannot be what its configuration says.
    #[error("use origin {id}")]
    Origin {
        /// Its id.
        id: OriginId,
        /// What is wrong with it.
        source: OriginError,
    },
    /// The cache cannot be used.
    #[error(transparent)]
    Store(#[from] musicfs_store::Error),
    /// The library cannot start.
    #[error(transparent)]
    Library(#[from] musicfs_library::Error),
    /// The control socket cannot be served.
    #[error(transparent)]
    Control(#[from] ControlError),
}

impl MountError {
    /// What the user can do, where the message does not say it.
    pub(crate) fn fix(&self) -> Option<&'static str> {
        match self {
            // What holds for the first is where to begin.
            Self::Origins { silent } => silent.first().and_then(SilentOrigin::fix),
            Self::Origin { .. } => Some("correct its settings"),
            Self::Store(error) => match error.kind() {
                ErrorKind::Denied => {
                    Some("make the cache directory writable, or name another with cache_dir")
                }
                ErrorKind::Exhausted => Some("make room on that disk"),
                _ => None,
            },
            Self::Index(error) => match error.kind() {
                ErrorKind::Denied => {
                    Some("make the state directory writable, or name another in XDG_STATE_HOME")
                }
                ErrorKind::Exhausted => Some("make room on that disk"),
                _ => None,
            },
            Self::Control(ControlError::Listen { .. }) => {
                Some("end what listens there, or name another address with metrics_listen")
            }
            Self::Mount(_) | Self::Unmount(_) | Self::Library(_) | Self::Control(_) => None,
        }
    }
}

/// An origin that does not answer.
#[derive(Debug)]
pub(crate) struct SilentOrigin {
    /// Its id.
    pub(crate) id: OriginId,
    /// What kind of place it is.
    pub(crate) kind: OriginKind,
    /// Why.
    pub(crate) why: Silence,
}

/// Why an origin does not answer.
#[derive(Debug)]
pub(crate) enum Silence {
    /// It was not waited for any longer.
    TimedOut(Duration),
    /// It says so.
    Error(OriginError),
}

impl SilentOrigin {
    /// What the user can do, where the reason does not say it.
    fn fix(&self) -> Option<&'static str> {
        if let Silence::Error(OriginError::Refused { refusal, .. }) = &self.why {
            return match refusal {
                Refusal::Busy | Refusal::Server(_) | Refusal::Other(_) => {
                    Some("try again later, or ask whoever runs the server")
                }
                Refusal::NoCredentials { .. }
                | Refusal::Credentials
                | Refusal::Forbidden
                | Refusal::NoBucket
                | Refusal::Region
                | Refusal::Clock
                | Refusal::UnknownHostKey { .. }
                | Refusal::ChangedHostKey { .. } => None,
            };
        }
        let no_root = matches!(self.why, Silence::Error(OriginError::RootMissing { .. }));
        Some(match self.kind {
            OriginKind::Local => "mount its disk, or correct its path",
            OriginKind::Nfs | OriginKind::Smb => "mount the share, or correct its path",
            OriginKind::S3 if no_root => "correct its endpoint, bucket or prefix",
            OriginKind::S3 => "correct its endpoint, or see whether the server is up",
            OriginKind::Sftp if no_root => "correct its path",
            OriginKind::Sftp => "correct its host and port, or see whether the server is up",
        })
    }
}

/// One line about origins of which none answers.
fn told(silent: &[SilentOrigin]) -> String {
    let why = |origin: &SilentOrigin| match &origin.why {
        Silence::TimedOut(after) => format!("no answer within {} s", after.as_secs()),
        Silence::Error(error) => with_causes(error),
    };
    let reason = |origin: &SilentOrigin| format!("{}: {}", origin.id, why(origin));
    let reasons: Vec<String> = silent.iter().map(reason).collect();
    match silent.len() {
        1 => format!("use origin {}", reasons.concat()),
        _ => format!("use any origin: {}", reasons.join("; ")),
    }
}

/// A mount that serves.
pub(crate) struct Running {
    pub(crate) library: Arc<Library>,
    pub(crate) mounted: Mounted,
    pub(crate) control: JoinHandle<()>,
    pub(crate) stopping: CancellationToken,
    pub(crate) orders: mpsc::Receiver<ShutdownOrder>,
    pub(crate) reloads: mpsc::Receiver<ReloadOrder>,
    pub(crate) drain: Duration,
    pub(crate) wired: Wired,
}

/// Mounts and serves until a signal, the control API, or an unmount from outside ends it.
///
/// Tells a service manager when the mount answers, and when it begins to end. `read_again` reads the
/// configuration anew, for a reload.
///
/// # Errors
/// [`MountError`] if it never served, or ended badly.
pub(crate) async fn run(
    config: Config,
    read_again: impl Fn() -> Result<Config, Error>,
) -> Result<(), MountError> {
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
                Caught::Hangup => {
                    // What went wrong has been logged.
                    let _ = running.reload(&read_again).await;
                    running.library.rescan_all();
                }
            },
            Some(order) = running.reloads.recv() => {
                // Whoever asked may have gone.
                let _ = order.reply.send(running.reload(&read_again).await);
            }
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
    let mut running = wire::start(&config).await?;
    running.wired.meet(&running.library).await;
    Ok(running)
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

    /// Takes the origins from the configuration as it is now. A mistake in it changes nothing.
    async fn reload(
        &mut self,
        read_again: impl Fn() -> Result<Config, Error>,
    ) -> Result<ReloadOutcome, String> {
        tell(sd_notify::NotifyState::Reloading);
        let outcome = match read_again() {
            Ok(config) => wire::reload(&self.library, &mut self.wired, config)
                .await
                .map_err(|error| with_causes(&error)),
            Err(error) => Err(with_causes(&error)),
        };
        match &outcome {
            Ok(ReloadOutcome {
                reloaded,
                keys_deferred,
            }) => {
                let names = |ids: &[OriginId]| {
                    let names: Vec<&str> = ids.iter().map(OriginId::as_str).collect();
                    names.join(" ")
                };
                tracing::info!(
                    added = names(&reloaded.added),
                    removed = names(&reloaded.removed),
                    changed = names(&reloaded.changed),
                    "the configuration was read again"
                );
                if !keys_deferred.is_empty() {
                    let keys = keys_deferred.join(" ");
                    tracing::warn!(keys, "these settings take effect at the next start");
                }
            }
            Err(error) => tracing::error!(
                error,
                "the configuration cannot be used; the origins stay as they were: correct it and \
                 send SIGHUP again"
            ),
        }
        tell(sd_notify::NotifyState::Ready);
        outcome
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
    async fn end(mut self, drain: Duration) -> Result<(), MountError> {
        self.stopping.cancel();
        let unmounted = self.mounted.unmount(drain).await;
        self.wired.end(&self.library).await;
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
    /// SIGHUP: read the configuration again and look at all origins.
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

#[cfg(test)]
mod tests {
    use musicfs_core::path::OriginPath;

    use super::*;

    #[test]
    fn the_advice_is_that_of_the_kind_unless_the_server_gave_it() {
        let check = |kind: OriginKind, why: Silence, expect: Option<&str>| {
            let id = OriginId::new("x").unwrap();
            let silent = vec![SilentOrigin { id, kind, why }];
            let fix = MountError::Origins { silent }.fix();
            match expect {
                Some(expect) => assert!(fix.unwrap().contains(expect), "{kind:?}: {fix:?}"),
                None => assert_eq!(fix, None, "{kind:?}"),
            }
        };
        let timed_out = || Silence::TimedOut(Duration::from_secs(10));
        let refused = |refusal| {
            Silence::Error(OriginError::Refused {
                action: "list",
                path: OriginPath::default(),
                refusal,
            })
        };
        let no_root = || {
            Silence::Error(OriginError::RootMissing {
                root: "/m".into(),
                reason: "no such directory",
            })
        };
        check(OriginKind::Local, no_root(), Some("disk"));
        check(OriginKind::Nfs, no_root(), Some("share"));
        check(OriginKind::Smb, timed_out(), Some("share"));
        check(OriginKind::S3, timed_out(), Some("is up"));
        check(OriginKind::S3, no_root(), Some("bucket"));
        check(OriginKind::S3, refused(Refusal::Credentials), None);
        check(OriginKind::S3, refused(Refusal::Busy), Some("later"));
        check(OriginKind::Sftp, timed_out(), Some("host and port"));
        check(OriginKind::Sftp, no_root(), Some("path"));
    }
}
