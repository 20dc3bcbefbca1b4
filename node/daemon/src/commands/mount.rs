//! `musicfs mount`.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tokio::runtime::Builder;

use super::{Context, block_on};
use crate::cli::MountArgs;
use crate::client;
use crate::config::{Config, Purpose};
use crate::error::Error;
use crate::{daemonize, logging, mount};

/// How long threads that wait for a dead origin may hold up the end of the process.
const THREADS_END_TIMEOUT: Duration = Duration::from_secs(1);

/// Mounts, and serves until the end or leaves that to a process in the background.
pub(super) fn run(context: &Context, args: &MountArgs) -> Result<(), Error> {
    let (typed, _) = context.typed(&args.settings, args.mount_point.clone())?;
    let config = context.resolve(&typed, Purpose::Mount)?;
    if !args.daemon_child {
        block_on(refuse_second(&config))?;
    }
    if args.daemon && !args.daemon_child {
        let process = daemonize::run(&config)?;
        let value = json!({
            "name": config.name,
            "mount_point": config.mount_point.to_string_lossy(),
            "pid": process,
        });
        return context.format.print(&value, || {
            let mount_point = config.mount_point.display();
            format!("mounted at {mount_point}, served by process {process}\n")
        });
    }
    if args.daemon_child {
        daemonize::settle()?;
    }
    logging::init(&config.log);
    serve(config, || {
        let (typed, _) = context.typed(&args.settings, args.mount_point.clone())?;
        context.resolve(&typed, Purpose::Mount)
    })
}

/// Tells a second mount of the same instance what to do, before it gets in the way of the first.
///
/// Two that start at the same moment pass both; the instance's lock decides between them.
async fn refuse_second(config: &Config) -> Result<(), Error> {
    if !client::answers(&config.paths.socket).await {
        return Ok(());
    }
    let mut client = client::connect(&config.paths.socket).await?;
    let status = client
        .get_status(())
        .await
        .map_err(client::refused("ask the running instance"))?;
    Err(Error::AlreadyRunning {
        name: config.name.clone(),
        mount_point: Path::new(&status.into_inner().mount_point).to_owned(),
    })
}

fn serve(config: Config, read_again: impl Fn() -> Result<Config, Error>) -> Result<(), Error> {
    let runtime = Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|source| Error::System {
        action: "start the runtime",
        source,
    })?;
    let outcome = runtime.block_on(Box::pin(mount::run(config, read_again)));
    runtime.shutdown_timeout(THREADS_END_TIMEOUT);
    Ok(outcome?)
}
