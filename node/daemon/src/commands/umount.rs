//! `musicfs umount`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use musicfs_fuse::mounts::{self, MusicMount};
use musicfs_proto::v1::ShutdownRequest;
use serde_json::json;
use tonic::Code;

use super::Context;
use crate::cli::UmountArgs;
use crate::client::{self, Client};
use crate::error::Error;
use crate::paths::InstancePaths;

/// The drain time that stands for the daemon's own.
const DRAIN_OF_DAEMON_MS: u32 = 0;

/// How long the daemon may take to end once the drain that this command knows of is over. It covers
/// the daemon's default drain of 5 s as well.
const END_TIMEOUT: Duration = Duration::from_secs(15);

/// How long a daemon that listens no more may take to remove its socket.
const SOCKET_TIMEOUT: Duration = Duration::from_secs(2);

/// How often to look whether the mount is gone. The kernel tells nobody who is not polling.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Ends the instance behind a mount point or a name, or takes away the mount that a crash left.
pub(super) async fn run(context: &Context, args: &UmountArgs) -> Result<(), Error> {
    let mount = find(context, args.mount_point.as_deref())?;
    let instance = mount.as_ref().and_then(|mount| mount.instance.clone());
    let name = instance.unwrap_or_else(|| context.name.clone());
    let paths = InstancePaths::new(&context.environment, &name)?;
    let how = match (client::connect(&paths.socket).await, mount) {
        (Ok(client), mount) => {
            let mount = mount.map(|mount| mount.path);
            end(client, &paths, mount, args).await?
        }
        (Err(_), Some(mount)) if mounts::is_dead(&mount.path) => take_away(mount.path)?,
        (Err(_), Some(mount)) if args.force => take_away(mount.path)?,
        (Err(Error::NotRunning { .. }), Some(mount)) => {
            return Err(Error::Foreign { path: mount.path });
        }
        (Err(error), _) => return Err(error),
    };
    let value = json!({
        "mount_point": how.mount_point.to_string_lossy(),
        "stale": how.stale,
    });
    context.format.print(&value, || {
        let mount_point = how.mount_point.display();
        match how.stale {
            true => format!("unmounted {mount_point}, whose daemon was gone\n"),
            false => format!("unmounted {mount_point}\n"),
        }
    })
}

/// What was unmounted.
struct Unmounted {
    mount_point: PathBuf,
    /// It was taken away without its daemon.
    stale: bool,
}

/// The mount at `path`, or the one that the named instance made.
fn find(context: &Context, path: Option<&Path>) -> Result<Option<MusicMount>, Error> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Io {
            action: "unmount",
            path,
            source,
        }
    };
    let mounted = mounts::list().map_err(io(Path::new("/proc/self/mountinfo")))?;
    let Some(path) = path else {
        let name = Some(context.name.as_str());
        let mut ours = mounted.into_iter();
        return Ok(ours.rfind(|mount| mount.instance.as_deref() == name));
    };
    let path = mounts::mount_path(path);
    // A symbolic link to the mount point is as good as the mount point, unless that is stale.
    let real = std::fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
    let mut all = mounted.into_iter();
    match all.rfind(|mount| mount.path == path || mount.path == real) {
        Some(mount) => Ok(Some(mount)),
        None => Err(Error::NotMounted { path }),
    }
}

/// Asks the daemon to end and waits until its mount and its socket are gone.
async fn end(
    mut client: Client,
    paths: &InstancePaths,
    mount: Option<PathBuf>,
    args: &UmountArgs,
) -> Result<Unmounted, Error> {
    let refused = client::refused("unmount");
    let status = client.get_status(()).await.map_err(&refused)?.into_inner();
    let mount_point = mount.unwrap_or_else(|| PathBuf::from(status.mount_point));
    let drain_timeout_ms = args.drain_timeout_ms.unwrap_or(DRAIN_OF_DAEMON_MS);
    let request = ShutdownRequest {
        force: args.force || args.drain_timeout_ms == Some(0),
        drain_timeout_ms,
    };
    match client.shutdown(request).await {
        Ok(_) => {}
        // The daemon was so quick that its answer did not come through.
        Err(status) if matches!(status.code(), Code::Unavailable | Code::Unknown) => {}
        Err(status) => return Err(refused(status)),
    }
    drop(client);
    let timeout = Duration::from_millis(drain_timeout_ms.into()) + END_TIMEOUT;
    let deadline = Instant::now() + timeout;
    let mut silent_since = None;
    loop {
        let mounted = mounts::list().is_ok_and(|all| all.iter().any(|m| m.path == mount_point));
        if !mounted && !client::answers(&paths.socket).await {
            let silent_since: &mut Instant = silent_since.get_or_insert_with(Instant::now);
            // The daemon removes its socket a moment after it stops listening; one that died never.
            if is_there(&paths.socket) && silent_since.elapsed() < SOCKET_TIMEOUT {
                tokio::time::sleep(LOOK_INTERVAL).await;
                continue;
            }
            return Ok(Unmounted {
                mount_point,
                stale: false,
            });
        }
        if Instant::now() >= deadline {
            return Err(Error::StillMounted {
                path: mount_point,
                seconds: timeout.as_secs(),
            });
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

fn is_there(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok()
}

fn take_away(path: PathBuf) -> Result<Unmounted, Error> {
    match mounts::detach(&path) {
        Ok(()) => Ok(Unmounted {
            mount_point: path,
            stale: true,
        }),
        Err(source) => Err(Error::Detach { path, source }),
    }
}
