//! The command line: commands, flags and the environment variables behind them.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Args, Parser, Subcommand, ValueHint};

use crate::config::{self, ConfigFile, Integrity, OriginEntry, Passthrough};
use crate::paths::DEFAULT_NAME;

/// Separates the origins in `MUSICFS_ORIGIN`; a path that holds one belongs into the file.
const ORIGIN_SEPARATOR: char = ';';

/// Reads the command line, and the environment where a flag is absent.
///
/// # Errors
/// What is wrong with it; also the text of `--help` and `--version`.
pub(crate) fn parse<I, T>(args: I) -> Result<Cli, clap::Error>
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    Cli::try_parse_from(args)
}

/// Music libraries as a read-only filesystem laid out by tags.
#[derive(Debug, Parser)]
#[command(name = "musicfs", version, propagate_version = true)]
#[command(subcommand_required = true, arg_required_else_help = true)]
#[command(after_help = "Exit codes: 0 ok, 1 error, 2 usage, 3 no daemon is running.")]
pub(crate) struct Cli {
    /// Everywhere.
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Args, Clone, Debug)]
pub(crate) struct GlobalArgs {
    /// The instance: each name has its own mount, state, cache and socket
    #[arg(long, global = true, env = "MUSICFS_NAME", default_value = DEFAULT_NAME)]
    #[arg(value_parser = instance_name)]
    pub(crate) name: String,
    /// The configuration file [default: $XDG_CONFIG_HOME/musicfs/config.toml]
    #[arg(long, global = true, env = "MUSICFS_CONFIG", value_name = "FILE")]
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,
    /// Write JSON to standard output
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Mount a library and serve it
    Mount(Box<MountArgs>),
    /// Unmount a library and end its daemon
    Umount(UmountArgs),
    /// Show what the daemon is doing
    Status,
    /// List, rescan or forget origins
    #[command(subcommand)]
    Origin(OriginCommand),
    /// Try a path template
    #[command(subcommand)]
    Template(TemplateCommand),
    /// Write, check or show the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Find out what keeps MusicFS from working here, and how to mend it
    Doctor(Box<SettingsArgs>),
    /// Mount a small library made on the spot, and compare what is read with what was written
    Demo(DemoArgs),
    /// Write the completions of a shell to standard output
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the manual page to standard output, or all of them to a directory
    Man {
        /// Where to write musicfs.1, musicfs-mount.1 and so on
        #[arg(value_hint = ValueHint::DirPath)]
        dir: Option<PathBuf>,
    },
    /// Show the version
    Version,
}

/// `musicfs mount`.
#[derive(Args, Debug, Default)]
pub(crate) struct MountArgs {
    /// Where to mount: an empty directory
    #[arg(value_name = "MNT", env = "MUSICFS_MOUNT_POINT", value_hint = ValueHint::DirPath)]
    pub(crate) mount_point: Option<PathBuf>,
    /// Go on in the background once the mount is there; musicfs.log in the state directory is
    /// the log
    #[arg(long, env = "MUSICFS_DAEMON", value_parser = BoolishValueParser::new())]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(
        default_value = "false",
        hide_default_value = true,
        hide_possible_values = true
    )]
    pub(crate) daemon: bool,
    /// This process is the one in the background; set by `--daemon` alone.
    #[arg(long, hide = true, env = "MUSICFS_DAEMON_CHILD", hide_env = true)]
    #[arg(value_parser = BoolishValueParser::new(), num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "true", default_value = "false")]
    pub(crate) daemon_child: bool,
    /// Further settings.
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
}

/// Every key of the configuration as a flag.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct SettingsArgs {
    /// A directory with music, as a path or file:// URL; may be repeated. Replaces the origins of
    /// the configuration file [env: MUSICFS_ORIGIN, separated by ';']
    #[arg(long = "origin", value_name = "URL", value_hint = ValueHint::AnyPath)]
    #[arg(value_parser = origin_url)]
    pub(crate) origins: Vec<String>,
    /// Where each track appears, made of its tags
    #[arg(long, env = "MUSICFS_TEMPLATE", value_parser = template)]
    pub(crate) template: Option<String>,
    /// Put the whole tree into this directory
    #[arg(long, env = "MUSICFS_ROOT", value_name = "DIR", value_parser = root)]
    pub(crate) root: Option<String>,
    /// What names may hold
    #[arg(long, env = "MUSICFS_NAMES", value_name = "PROFILE")]
    #[arg(value_parser = ["posix", "windows", "fat"])]
    pub(crate) names: Option<String>,
    /// The owner shown [default: who mounts]
    #[arg(long, env = "MUSICFS_UID")]
    pub(crate) uid: Option<u32>,
    /// The group shown [default: that of who mounts]
    #[arg(long, env = "MUSICFS_GID")]
    pub(crate) gid: Option<u32>,
    /// Permission bits to take away, in octal [default: 000]
    #[arg(long, env = "MUSICFS_UMASK", value_name = "OCTAL", value_parser = umask)]
    pub(crate) umask: Option<String>,
    /// Let other users in
    #[arg(long, env = "MUSICFS_ALLOW_OTHER", value_name = "BOOL")]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) allow_other: Option<bool>,
    /// Whether the kernel may read local files itself [default: auto]
    #[arg(long, env = "MUSICFS_PASSTHROUGH", value_name = "WHEN")]
    pub(crate) passthrough: Option<Passthrough>,
    /// How often data is checked [default: first-read]
    #[arg(long, env = "MUSICFS_INTEGRITY", value_name = "HOW")]
    pub(crate) integrity: Option<Integrity>,
    /// How long reads may go on after the end was asked for [default: 5000]
    #[arg(long, env = "MUSICFS_DRAIN_TIMEOUT_MS", value_name = "MS")]
    pub(crate) drain_timeout_ms: Option<u32>,
    /// What is logged: error, warn, info, debug, trace, or a filter [default: info]
    #[arg(long, env = "MUSICFS_LOG", value_name = "FILTER", value_parser = log)]
    pub(crate) log: Option<String>,
}

/// `musicfs umount`.
#[derive(Args, Debug)]
pub(crate) struct UmountArgs {
    /// The mount point; without it the instance that --name names
    #[arg(value_name = "MNT", value_hint = ValueHint::DirPath)]
    pub(crate) mount_point: Option<PathBuf>,
    /// Do not wait for reads under way, and take the mount away even if its daemon does not answer
    #[arg(long)]
    pub(crate) force: bool,
    /// How long open files may go on [default: what the daemon is configured for]
    #[arg(long, env = "MUSICFS_DRAIN_TIMEOUT_MS", value_name = "MS")]
    pub(crate) drain_timeout_ms: Option<u32>,
}

/// `musicfs origin`.
#[derive(Debug, Subcommand)]
pub(crate) enum OriginCommand {
    /// List the origins and what is known of them
    List,
    /// List an origin again and take over what changed
    Rescan {
        /// Its id; without it, one origin after the other
        id: Option<String>,
    },
    /// Remove what is known of an origin that is no longer configured
    Forget {
        /// Its id
        id: String,
    },
}

/// `musicfs template`.
#[derive(Debug, Subcommand)]
pub(crate) enum TemplateCommand {
    /// Print where files would appear
    Test {
        /// The template; without it that of the configuration
        #[arg(long, env = "MUSICFS_TEMPLATE", value_parser = template)]
        template: Option<String>,
        /// What names may hold
        #[arg(long, env = "MUSICFS_NAMES", value_name = "PROFILE")]
        #[arg(value_parser = ["posix", "windows", "fat"])]
        names: Option<String>,
        /// Tracks; without any, a sample
        #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
        files: Vec<PathBuf>,
    },
}

/// `musicfs config`.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Write a configuration file with every key explained
    Init {
        /// Replace the file if there is one
        #[arg(long)]
        force: bool,
    },
    /// Tell whether the configuration is right
    Check(Box<SettingsArgs>),
    /// Show the configuration that flags, environment, file and defaults give together
    Show(Box<SettingsArgs>),
}

/// `musicfs demo`.
#[derive(Args, Debug)]
pub(crate) struct DemoArgs {
    /// End after the comparison instead of staying until Ctrl-C
    #[arg(long)]
    pub(crate) once: bool,
}

impl SettingsArgs {
    /// The flags and variables as a configuration that was typed.
    ///
    /// `environment_origins` is `MUSICFS_ORIGIN`; relative paths of origins become absolute here,
    /// for on the command line they mean the current directory.
    ///
    /// # Errors
    /// An origin that does not exist: typed by hand, it is a mistake rather than an absence.
    pub(crate) fn to_file(
        &self,
        environment_origins: Option<&str>,
    ) -> Result<ConfigFile, config::ConfigError> {
        let of_environment = environment_origins.unwrap_or_default();
        let of_environment: Vec<String> = of_environment
            .split(ORIGIN_SEPARATOR)
            .map(|url| url.trim().to_owned())
            .filter(|url| !url.is_empty())
            .collect();
        let origins = match &self.origins[..] {
            [] => &of_environment[..],
            flags => flags,
        };
        let origins: Vec<OriginEntry> = origins
            .iter()
            .map(|url| origin_entry(url))
            .collect::<Result<_, _>>()?;
        Ok(ConfigFile {
            mount_point: None,
            template: self.template.clone(),
            root: self.root.clone(),
            names: self.names.clone(),
            uid: self.uid,
            gid: self.gid,
            umask: self.umask.clone(),
            allow_other: self.allow_other,
            passthrough: self.passthrough,
            integrity: self.integrity,
            drain_timeout_ms: self.drain_timeout_ms,
            log: self.log.clone(),
            origins: (!origins.is_empty()).then_some(origins),
        })
    }
}

fn origin_entry(url: &str) -> Result<OriginEntry, config::ConfigError> {
    let path = config::parse_location(url)?;
    let missing = |source| config::ConfigError::OriginMissing {
        path: path.clone(),
        source,
    };
    let canonical = std::fs::canonicalize(&path).map_err(missing)?;
    if !canonical.is_dir() {
        return Err(missing(std::io::ErrorKind::NotADirectory.into()));
    }
    let path = canonical.into_os_string().into_string();
    let path = path.map_err(|path| config::ConfigError::OriginUrl {
        url: path.to_string_lossy().into_owned(),
        reason: "its path is not UTF-8",
    })?;
    Ok(OriginEntry {
        path: Some(path),
        ..OriginEntry::default()
    })
}

fn instance_name(text: &str) -> Result<String, &'static str> {
    match musicfs_core::id::OriginId::new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("use 1 to 64 letters, digits, '.', '_' or '-', not starting with '.'"),
    }
}

fn origin_url(text: &str) -> Result<String, String> {
    match config::parse_location(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(told(&error)),
    }
}

fn template(text: &str) -> Result<String, String> {
    match musicfs_core::template::Template::parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn root(text: &str) -> Result<String, String> {
    config::parse_root(text).map_err(|error| told(&error))
}

fn umask(text: &str) -> Result<String, String> {
    match config::parse_umask(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(told(&error)),
    }
}

fn log(text: &str) -> Result<String, String> {
    config::parse_log(text).map_err(|error| told(&error))
}

/// The error as clap shows it behind the flag and the value.
fn told(error: &config::ConfigError) -> String {
    match error.fix() {
        Some(fix) => format!("cannot {error}; {fix}"),
        None => format!("cannot {error}"),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    fn settings(args: &[&str]) -> SettingsArgs {
        let args = ["musicfs", "mount", "/mnt"].iter().chain(args);
        match parse(args).unwrap().command {
            Command::Mount(mount) => mount.settings,
            other => panic!("parsed as {other:?}"),
        }
    }

    #[test]
    fn a_switch_may_say_no() {
        assert_eq!(settings(&[]).allow_other, None);
        assert_eq!(settings(&["--allow-other"]).allow_other, Some(true));
        assert_eq!(settings(&["--allow-other=no"]).allow_other, Some(false));
    }

    #[test]
    fn origins_of_flags_replace_those_of_the_environment() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        for path in [&one, &two] {
            std::fs::create_dir(path).unwrap();
        }
        let (one, two) = (one.to_str().unwrap(), two.to_str().unwrap());
        let paths = |args: &[&str], environment: Option<&str>| -> Option<Vec<String>> {
            let file = settings(args).to_file(environment).unwrap();
            let origins = file.origins?;
            Some(origins.into_iter().filter_map(|entry| entry.path).collect())
        };
        let both = format!("{one}; {two}");
        assert_eq!(paths(&[], None), None);
        assert_eq!(paths(&[], Some("")), None);
        assert_eq!(paths(&[], Some(&both)), Some(vec![one.into(), two.into()]));
        let flag = format!("file://{two}");
        assert_eq!(
            paths(&["--origin", &flag], Some(&both)),
            Some(vec![two.into()])
        );
        let missing = format!("{one}/missing");
        assert!(settings(&["--origin", &missing]).to_file(None).is_err());
    }

    #[test]
    fn values_are_checked_where_they_are_typed() {
        for bad in [
            ["--umask", "8"],
            ["--names", "dos"],
            ["--passthrough", "on"],
            ["--origin", "s3://bucket"],
            ["--template", "$titel"],
            ["--name", "a/b"],
            ["--root", "../b"],
        ] {
            let error = parse(["musicfs", "mount", "/mnt"].iter().chain(&bad)).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{bad:?}");
        }
    }
}
