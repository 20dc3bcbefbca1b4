//! Builds the graph: index, origins, library, mount, control socket. The one place that names all.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use musicfs_control::{ControlContext, MountView, ShutdownOrder, Socket, SocketPath};
use musicfs_core::origin::Origin;
use musicfs_fuse::{FuseStats, MountOptions, Mounted};
use musicfs_index::{Index, Layout, Opened};
use musicfs_library::Library;
use musicfs_origins::{LocalConfig, LocalOrigin};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::error::CliError;

/// Threads that take requests from the kernel: what they do takes microseconds, so a few serve all.
const FUSE_THREADS_MAX: usize = 4;

/// Requests to shut down that wait: one is enough, for they all mean the same.
const SHUTDOWN_ORDERS_MAX: usize = 1;

/// A running instance.
pub(crate) struct Running {
    pub(crate) library: Arc<Library>,
    mounted: Mounted,
    control: JoinHandle<()>,
    stopping: CancellationToken,
    orders: mpsc::Receiver<ShutdownOrder>,
    drain: Duration,
}

/// The mount as the control socket sees it.
struct View {
    mount_point: PathBuf,
    stats: Arc<FuseStats>,
}

impl MountView for View {
    fn mount_point(&self) -> &Path {
        &self.mount_point
    }

    fn open_file_handles(&self) -> u64 {
        self.stats.open_handles()
    }

    fn fuse_ops_total(&self) -> u64 {
        self.stats.ops_total()
    }
}

/// Starts an instance: when this returns, the mount answers from the index, and scans go on.
///
/// # Errors
/// [`CliError`] for whatever keeps it from starting; nothing stays mounted then.
pub(crate) async fn start(config: Config) -> Result<Running, CliError> {
    let started = Instant::now();
    musicfs_fuse::preflight(&mount_options(&config))?;
    let layout = Layout {
        template: config.template.clone(),
        root: config.root.iter().flat_map(|root| root.split('/')).map(str::to_owned).collect(),
        profile: config.names,
    };
    let (index, opened) = Index::open(&config.paths.state, layout)?;
    if let Opened::SetAside(kept) = &opened {
        tracing::error!(
            ?kept,
            "the index was damaged; it is kept under this name, and the origins are scanned again"
        );
    }
    let is_new = opened != Opened::Existing;
    let origins = local_origins(&config, index.reader.installation()?);
    // With an index, an origin that is away stays listed. Without one there is nothing to show.
    if is_new {
        for origin in &origins {
            origin.check().await?;
        }
    }
    let socket = Socket::bind(SocketPath {
        socket: config.paths.socket.clone(),
        link: config.paths.socket_link.clone(),
    })?;
    let library = Arc::new(Library::start(index, origins).await?);
    let runtime = tokio::runtime::Handle::current();
    let mounting = musicfs_fuse::mount(library.clone(), runtime, &mount_options(&config));
    let mounted = match mounting {
        Ok(mounted) => mounted,
        Err(error) => {
            library.close().await;
            return Err(error.into());
        }
    };
    tracing::info!(
        mount_point = ?config.mount_point,
        instance = %config.name,
        milliseconds = started.elapsed().as_millis(),
        "mounted"
    );
    let stopping = CancellationToken::new();
    let (shutdown, orders) = mpsc::channel(SHUTDOWN_ORDERS_MAX);
    let control = musicfs_control::serve(
        socket,
        ControlContext {
            library: library.clone(),
            mount: Arc::new(View {
                mount_point: config.mount_point.clone(),
                stats: mounted.stats(),
            }),
            shutdown,
            drain_default: config.drain_timeout,
            started,
            stopping: stopping.clone(),
        },
    )?;
    Ok(Running { library, mounted, control, stopping, orders, drain: config.drain_timeout })
}

impl Running {
    /// Runs until a signal, an order over the control socket, or an unmount from outside; then
    /// leaves nothing behind.
    ///
    /// # Errors
    /// [`CliError`] if the mount cannot be undone.
    pub(crate) async fn until_shutdown(mut self) -> Result<(), CliError> {
        let drain = tokio::select! {
            order = self.orders.recv() => order.map_or(self.drain, |order| order.drain),
            () = signalled() => self.drain,
            () = self.mounted.wait() => Duration::ZERO,
        };
        self.shutdown(drain).await
    }

    /// Waits until every origin has been scanned once.
    pub(crate) async fn scanned(&self) {
        let ids: Vec<_> = match self.library.origins() {
            Ok(origins) => origins.into_iter().map(|origin| origin.row.name).collect(),
            Err(_) => return,
        };
        for id in ids {
            let Ok(id) = musicfs_core::id::OriginId::new(&id) else { continue };
            let Ok(mut progress) = self.library.progress(&id) else { continue };
            let complete = |now: &musicfs_library::Progress| {
                now.phase == musicfs_library::Phase::Complete
            };
            // An error means that the library has closed: there is nothing to wait for.
            let _ = progress.wait_for(complete).await;
        }
    }

    /// Ends the instance: refuses new work, lets open files drain, unmounts, closes the stores.
    ///
    /// # Errors
    /// [`CliError`] if the mount cannot be undone.
    pub(crate) async fn shutdown(self, drain: Duration) -> Result<(), CliError> {
        tracing::info!("shutting down");
        self.stopping.cancel();
        let unmounted = self.mounted.unmount(drain).await;
        self.library.close().await;
        if let Err(panic) = self.control.await {
            tracing::error!(%panic, "the control socket ended in a panic");
        }
        unmounted?;
        tracing::info!("unmounted");
        Ok(())
    }
}

fn mount_options(config: &Config) -> MountOptions {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    MountOptions {
        mount_point: config.mount_point.clone(),
        instance: config.name.clone(),
        uid: config.uid,
        gid: config.gid,
        umask: config.umask,
        allow_other: config.allow_other,
        passthrough: config.passthrough,
        threads: cores.clamp(2, FUSE_THREADS_MAX),
    }
}

fn local_origins(config: &Config, installation: [u8; 16]) -> Vec<Arc<dyn Origin>> {
    let local = |origin: &crate::config::OriginConfig| -> Arc<dyn Origin> {
        Arc::new(LocalOrigin::new(LocalConfig {
            id: origin.id.clone(),
            root: origin.path.clone(),
            identity: origin.identity.clone(),
            installation,
            excluded: vec![config.mount_point.clone()],
        }))
    };
    config.origins.iter().map(local).collect()
}

/// Waits for SIGTERM or SIGINT.
async fn signalled() {
    use tokio::signal::unix::{SignalKind, signal};
    let both = signal(SignalKind::terminate()).and_then(|t| Ok((t, signal(SignalKind::interrupt())?)));
    match both {
        Ok((mut terminate, mut interrupt)) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        Err(error) => {
            tracing::error!(%error, "signals cannot be caught; `musicfs umount` ends the daemon");
            std::future::pending().await
        }
    }
}
