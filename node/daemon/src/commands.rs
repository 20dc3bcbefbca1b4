//! The commands: each reads its arguments, asks whom it must, and prints.

mod cache;
mod cluster;
mod config;
mod events;
mod mount;
mod origin;
mod pages;
mod peers;
mod pin;
mod prefetch;
mod status;
mod template;
mod tree;
mod umount;
mod verify;

use std::ffi::OsString;
use std::future::Future;
use std::path::PathBuf;

use tokio::runtime::Builder;

use crate::cli::{self, Command, GlobalArgs, SettingsArgs};
use crate::config::{self as configuration, Config, ConfigFile, Purpose};
use crate::error::Error;
use crate::output::Format;
use crate::paths::{Environment, InstancePaths};
use crate::{demo, doctor};

/// Holds origins where no flag does.
const ORIGIN_VARIABLE: &str = "MUSICFS_ORIGIN";

/// What every command knows.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// The user's directories.
    pub(crate) environment: Environment,
    /// The instance.
    pub(crate) name: String,
    /// The configuration file, if one was named.
    pub(crate) config: Option<PathBuf>,
    /// What to print.
    pub(crate) format: Format,
}

/// Does what the command line says.
///
/// # Errors
/// Why it could not.
pub(crate) fn run(args: impl IntoIterator<Item = OsString>) -> Result<(), Error> {
    let cli = cli::parse(args)?;
    let context = Context::new(cli.global);
    match cli.command {
        Command::Mount(args) => mount::run(&context, &args),
        Command::Umount(args) => block_on(umount::run(&context, &args)),
        Command::Status => block_on(status::run(&context)),
        Command::Origin(command) => block_on(origin::run(&context, &command)),
        Command::Cache(command) => block_on(cache::run(&context, &command)),
        Command::Prefetch(args) => block_on(prefetch::run(&context, &args)),
        Command::Pin(args) => block_on(pin::pin(&context, &args)),
        Command::Unpin(args) => block_on(pin::unpin(&context, &args)),
        Command::Pins => block_on(pin::list(&context)),
        Command::Verify(args) => block_on(verify::run(&context, &args)),
        Command::Events(args) => block_on(events::run(&context, &args)),
        Command::Peers(command) => block_on(peers::run(&context, &command)),
        Command::Locate(args) => block_on(peers::locate(&context, &args)),
        Command::Cluster(command) => block_on(cluster::run(&context, &command)),
        Command::Template(command) => template::run(&context, &command),
        Command::Config(command) => config::run(&context, &command),
        Command::Doctor(settings) => doctor::run(&context, &settings),
        Command::Demo(args) => demo::run(&context, &args),
        Command::Completions { shell } => pages::completions(shell),
        Command::Man { dir } => pages::man(dir.as_deref()),
        Command::Version => pages::version(context.format),
    }
}

impl Context {
    fn new(global: GlobalArgs) -> Self {
        Self {
            environment: Environment::read(),
            name: global.name,
            config: global.config,
            format: Format::new(global.json),
        }
    }

    /// The places of the instance.
    ///
    /// # Errors
    /// [`Error::Paths`] if there are none.
    pub(crate) fn paths(&self) -> Result<InstancePaths, Error> {
        Ok(InstancePaths::new(&self.environment, &self.name)?)
    }

    /// What flags, environment and file say together, and which file it was.
    ///
    /// # Errors
    /// [`Error::Config`] for the first thing that is wrong.
    pub(crate) fn typed(
        &self,
        settings: &SettingsArgs,
        mount_point: Option<PathBuf>,
    ) -> Result<(ConfigFile, Option<PathBuf>), Error> {
        let origins = std::env::var(ORIGIN_VARIABLE).ok();
        let mut flags = settings.to_file(origins.as_deref())?;
        flags.mount_point = mount_point;
        let (file, path) = configuration::load(self.config.as_deref(), &self.environment)?;
        Ok((flags.over(file), path))
    }

    /// The configuration that flags, environment, file and defaults give.
    ///
    /// # Errors
    /// [`Error::Config`] for the first thing that is wrong or missing.
    pub(crate) fn resolve(&self, typed: &ConfigFile, purpose: Purpose) -> Result<Config, Error> {
        let config = Config::resolve(typed, &self.name, &self.environment, purpose)?;
        Ok(config)
    }
}

/// Runs a command that only talks to the daemon.
fn block_on(work: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|source| Error::System {
        action: "start the runtime",
        source,
    })?;
    runtime.block_on(work)
}

#[cfg(test)]
mod tests;
