//! Builds the graph: index, origins, library, mount, control socket. The one place that names all.

mod cache;
mod cluster;
mod origins;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use musicfs_control::{
    ControlContext, MetricsListener, MountView, Operation, ReloadOutcome, Socket, SocketPath,
};
use musicfs_fuse::{FuseStats, LATENCY_BOUNDS, Latency, MountOptions, Op};
use musicfs_index::{Index, Layout, Opened};
use musicfs_library::Library;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::mount::{MountError, Running};
use cluster::Cluster;
use origins::Origins;

/// Threads that take requests from the kernel: what they do takes microseconds, so a few serve all.
const FUSE_THREADS_MAX: usize = 4;

/// How long a mount without an index waits for the first files of the first scan, so as not to show
/// an empty library; within the half second that a mount may take.
const FIRST_FILES_WAIT_MAX: Duration = Duration::from_millis(300);

/// Requests to shut down that wait: one is enough, for they all mean the same.
const SHUTDOWN_ORDERS_MAX: usize = 1;

/// Requests to reload that wait for one another.
const RELOAD_ORDERS_MAX: usize = 4;

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

    fn operations(&self) -> Vec<Operation> {
        let operation = |op: Op| {
            let Latency { buckets, sum } = self.stats.latency(op);
            let slower = buckets.last().copied().unwrap_or(0);
            Operation {
                name: op.name(),
                begun: self.stats.ops(op),
                buckets: LATENCY_BOUNDS.into_iter().zip(buckets).collect(),
                slower,
                sum,
            }
        };
        Op::ALL.into_iter().map(operation).collect()
    }
}

/// Starts an instance: when this returns, the mount answers from the index, and scans go on.
pub(crate) async fn start(config: &Config) -> Result<Running, MountError> {
    let started = Instant::now();
    raise_open_files_limit();
    let options = mount_options(config);
    // Before anything is made: most mistakes are about the mount point.
    musicfs_fuse::preflight(&options.mount_point, options.allow_other)
        .map_err(musicfs_fuse::MountError::from)?;
    let (index, opened) = Index::open(&config.paths.state, layout(config))?;
    if let Opened::SetAside(kept) = &opened {
        tracing::error!(
            ?kept,
            "the index was damaged; it is kept under this name, and the origins are scanned again"
        );
    }
    let installation = index.reader.installation()?;
    let origins = Origins::default().make(config, installation)?;
    let ports = origins.ports();
    if opened == Opened::New {
        // With an index, an origin that is away stays listed. Without one there is nothing to show.
        origins::check(&ports, origins::CHECK_TIMEOUT).await?;
    }
    let (socket, metrics) = listeners(config).await?;
    let cache = cache::open(config, &ports)?;
    let library = Arc::new(Library::start(index, origins.setups(), cache).await?);
    if opened != Opened::Existing {
        library.wait_for_files(FIRST_FILES_WAIT_MAX).await;
    }
    let mounted = match musicfs_fuse::mount(library.clone(), Handle::current(), &options) {
        Ok(mounted) => mounted,
        Err(error) => {
            library.close().await;
            return Err(error.into());
        }
    };
    let stopping = CancellationToken::new();
    let (shutdown, orders) = mpsc::channel(SHUTDOWN_ORDERS_MAX);
    let (reload, reloads) = mpsc::channel(RELOAD_ORDERS_MAX);
    let view = View {
        mount_point: mounted.mount_point().to_owned(),
        stats: mounted.stats(),
    };
    let context = ControlContext {
        library: library.clone(),
        mount: Arc::new(view),
        shutdown,
        reload,
        drain_default: config.drain_timeout,
        started,
        stopping: stopping.clone(),
    };
    let control = musicfs_control::serve(socket, metrics, context)?;
    let milliseconds = started.elapsed().as_millis();
    tracing::info!(instance = %config.name, milliseconds, "ready");
    let drain = config.drain_timeout;
    Ok(Running {
        library,
        mounted,
        control,
        stopping,
        orders,
        reloads,
        drain,
        wired: Wired::new(config.clone(), origins, installation),
    })
}

/// What a running instance was made from.
pub(crate) struct Wired {
    config: Config,
    origins: Origins,
    installation: [u8; 16],
    cluster: Cluster,
}

impl Wired {
    fn new(config: Config, origins: Origins, installation: [u8; 16]) -> Self {
        Self {
            config,
            origins,
            installation,
            cluster: Cluster::default(),
        }
    }

    /// Starts to talk to other nodes, if this one is in a cluster.
    pub(crate) async fn meet(&mut self, library: &Library) {
        self.cluster.follow(&self.config, library).await;
    }

    /// Ends what talks to other nodes.
    pub(crate) async fn end(&mut self, library: &Library) {
        self.cluster.end(library).await;
    }
}

/// Has a running library use the origins of `config` from now on, and meet other nodes as its keys
/// say; says what else in it waits for the
/// next start.
///
/// # Errors
/// [`MountError`] if an origin cannot be used; all is as it was then.
pub(crate) async fn reload(
    library: &Library,
    wired: &mut Wired,
    config: Config,
) -> Result<ReloadOutcome, MountError> {
    let origins = wired.origins.make(&config, wired.installation)?;
    let reloaded = library.reload(origins.setups()).await?;
    wired.cluster.follow(&config, library).await;
    let keys_deferred = differences(&wired.config, &config);
    wired.origins = origins;
    Ok(ReloadOutcome {
        reloaded,
        keys_deferred,
    })
}

/// The keys, but for those that are in force by now, whose values differ.
fn differences(old: &Config, new: &Config) -> Vec<String> {
    let values = |config: &Config| match serde_json::json!(config.to_file()) {
        serde_json::Value::Object(values) => values,
        _ => unreachable!("a file is a table of keys"),
    };
    let (old, new) = (values(old), values(new));
    let is_in_force = |key: &str| key == "origins" || key.starts_with("peer_");
    let differs = |key: &&String| !is_in_force(key) && old.get(*key) != new.get(*key);
    let mut keys: Vec<String> = old
        .keys()
        .chain(new.keys())
        .filter(differs)
        .cloned()
        .collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// Listens for clients, and for monitors if that is configured.
async fn listeners(config: &Config) -> Result<(Socket, Option<MetricsListener>), MountError> {
    let socket = Socket::bind(SocketPath {
        socket: config.paths.socket.clone(),
        link: config.paths.socket_link.clone(),
    })?;
    let Some(address) = config.metrics_listen else {
        return Ok((socket, None));
    };
    let metrics = MetricsListener::bind(address).await?;
    tracing::info!(address = %metrics.address(), "monitors are answered");
    Ok((socket, Some(metrics)))
}

fn layout(config: &Config) -> Layout {
    Layout {
        template: config.template.clone(),
        root: config
            .root
            .iter()
            .flat_map(|root| root.split('/'))
            .map(str::to_owned)
            .collect(),
        profile: config.names,
    }
}

fn mount_options(config: &Config) -> MountOptions {
    let cores = thread::available_parallelism().map_or(2, usize::from);
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

/// Lifts this process's own limit of open files to what the system allows it: each open track of a
/// mount takes a descriptor.
fn raise_open_files_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files cannot be raised; `musicfs doctor` tells it");
    }
}
