//! The control surface: gRPC on a unix socket, with standard health and reflection; for monitors also
//! health and metrics on a TCP port, if one is configured.
//!
//! The socket is the permission: mode 0600 in a directory 0700. What the daemon can do today answers
//! for real; the rest of the contract says UNIMPLEMENTED.

mod error;
mod health;
mod metrics;
mod monitor;
mod mount_check;
mod peers;
mod service;
mod socket;
#[cfg(test)]
mod testing;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use musicfs_library::{Library, Reloaded};
use musicfs_proto::v1;
use musicfs_proto::v1::music_fs_server::MusicFsServer;
use musicfs_proto::v1::peers_server::PeersServer;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

pub use error::ControlError;
pub use metrics::Operation;
pub use monitor::MetricsListener;
pub use socket::Socket;

/// How long calls may go on after the end was asked for. A stream that its client keeps open, of
/// health for one, would keep the daemon from ending; everything else is over at once.
const END_WAIT_MAX: Duration = Duration::from_secs(2);

/// What the control surface is told of the mount.
pub trait MountView: Send + Sync {
    /// Where the library is mounted.
    fn mount_point(&self) -> &Path;
    /// Files that programs have open now.
    fn open_file_handles(&self) -> u64;
    /// Requests that the kernel made since the mount.
    fn fuse_ops_total(&self) -> u64;
    /// The same by kind, with how long the answers took.
    fn operations(&self) -> Vec<Operation>;
}

/// A request to end the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShutdownOrder {
    /// How long open files may keep it; none when forced.
    pub drain: Duration,
}

/// A request to read the configuration again.
pub struct ReloadOrder {
    /// Where the outcome goes; an error is told as it is.
    pub reply: oneshot::Sender<Result<ReloadOutcome, String>>,
}

/// What reading the configuration again came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReloadOutcome {
    /// What became of the origins.
    pub reloaded: Reloaded,
    /// Other keys that changed; they wait for the next start.
    pub keys_deferred: Vec<String>,
}

/// What the services answer from.
#[derive(Clone)]
pub struct ControlContext {
    /// The library.
    pub library: Arc<Library>,
    /// The mount.
    pub mount: Arc<dyn MountView>,
    /// Where requests to shut down go.
    pub shutdown: mpsc::Sender<ShutdownOrder>,
    /// Where requests to reload go.
    pub reload: mpsc::Sender<ReloadOrder>,
    /// The drain time of a request that names none.
    pub drain_default: Duration,
    /// When the daemon started.
    pub started: Instant,
    /// Cancelled when the daemon begins to shut down.
    pub stopping: CancellationToken,
}

/// Serves the control API until `context.stopping` is cancelled; the socket goes with it. Monitors are
/// served on `metrics`.
///
/// # Errors
/// [`ControlError`] if reflection cannot be built: a fault of the program.
pub fn serve(
    socket: Socket,
    metrics: Option<MetricsListener>,
    context: ControlContext,
) -> Result<JoinHandle<()>, ControlError> {
    let (reporter, health_service) = tonic_health::server::health_reporter();
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(v1::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let reflection_v1 = reflection().build_v1().map_err(ControlError::Reflection)?;
    let reflection_v1alpha = reflection()
        .build_v1alpha()
        .map_err(ControlError::Reflection)?;
    let stopping = context.stopping.clone();
    let health = tokio::spawn(health::report(reporter, context.clone()));
    let monitor = metrics.map(|metrics| metrics.serve(context.clone(), health_service.clone()));
    let router = Server::builder()
        .add_service(PeersServer::new(peers::PeersService::new(context.clone())))
        .add_service(MusicFsServer::new(service::Service::new(context)))
        .add_service(health_service)
        .add_service(reflection_v1)
        .add_service(reflection_v1alpha);
    let control = async move {
        let (listener, guard) = socket.into_parts();
        let incoming = UnixListenerStream::new(listener);
        let ending = stopping.clone().cancelled_owned();
        let too_late = async {
            stopping.cancelled().await;
            tokio::time::sleep(END_WAIT_MAX).await;
        };
        tokio::select! {
            served = router.serve_with_incoming_shutdown(incoming, ending) => {
                if let Err(error) = served {
                    tracing::error!(%error, "the control socket failed");
                }
            }
            () = too_late => tracing::debug!("clients that still listen are cut off"),
        }
        guard
    };
    Ok(tokio::spawn(async move {
        let monitor = async {
            if let Some(monitor) = monitor {
                monitor.await;
            }
        };
        let (guard, ()) = tokio::join!(control, monitor);
        health.abort();
        drop(guard);
    }))
}

/// Where the socket of an instance lies, and the link that stands for the default instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketPath {
    /// The socket.
    pub socket: PathBuf,
    /// A link to it, for the instance called `default`.
    pub link: Option<PathBuf>,
}

/// Seconds since 1970; a clock before that counts as 1970.
fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}
