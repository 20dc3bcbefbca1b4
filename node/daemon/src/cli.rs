//! The command line: commands, flags and the environment variables behind them.

mod settings;
mod watch;

use std::convert::Infallible;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};

use crate::paths::DEFAULT_NAME;

pub(crate) use settings::SettingsArgs;
use settings::template;
pub(crate) use watch::{EventType, EventsArgs, LocateArgs, PeersCommand};

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
    /// Show what the cache holds, or clear it
    #[command(subcommand)]
    Cache(CacheCommand),
    /// Bring files into the cache ahead of their first read
    Prefetch(PrefetchArgs),
    /// Keep files in the cache until they are unpinned
    Pin(PinArgs),
    /// Let pinned files leave the cache again
    Unpin(PinArgs),
    /// List what is pinned
    Pins,
    /// Read cached data again and compare it with its checksums
    Verify(VerifyArgs),
    /// Print events as they happen
    Events(EventsArgs),
    /// List, show or ping the other nodes of the cluster
    #[command(subcommand)]
    Peers(PeersCommand),
    /// Show which nodes hold the content of a file
    Locate(LocateArgs),
    /// Make, join, show or leave the cluster of nodes that this one shares with
    #[command(subcommand)]
    Cluster(ClusterCommand),
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

/// `musicfs cache`.
#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// Show how full the cache is and how often it helped
    Stats,
    /// Drop cached data; files, entries and pins stay
    Clear {
        /// Only data of this origin
        #[arg(long, value_name = "ID")]
        origin: Option<String>,
        /// What to drop
        #[arg(long, value_enum, default_value_t = Tier::All)]
        tier: Tier,
        /// Tell what would be dropped and drop nothing
        #[arg(long)]
        dry_run: bool,
    },
}

/// A tier of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tier {
    /// All of them
    All,
    /// The attributes and names held in memory
    Metadata,
    /// The parts of files that tag readers touch
    Headers,
    /// The bodies of files
    Chunks,
}

/// `musicfs prefetch`.
#[derive(Args, Debug)]
pub(crate) struct PrefetchArgs {
    /// Files and directories: paths below the mount point, or relative to it
    #[arg(value_name = "PATH", required_unless_present = "query", value_hint = ValueHint::AnyPath)]
    pub(crate) paths: Vec<PathBuf>,
    /// Every track that a search finds
    #[arg(long, value_name = "QUERY")]
    pub(crate) query: Option<String>,
    /// Whole files; the default
    #[arg(long, group = "strategy")]
    pub(crate) full: bool,
    /// Only the parts that tag readers touch
    #[arg(long, group = "strategy")]
    pub(crate) headers: bool,
    /// Nothing but what the tree shows
    #[arg(long, group = "strategy")]
    pub(crate) metadata_only: bool,
}

/// `musicfs pin` and `musicfs unpin`.
#[derive(Args, Debug)]
pub(crate) struct PinArgs {
    /// Files and directories: paths below the mount point, or relative to it
    #[arg(value_name = "PATH", required_unless_present = "query", value_hint = ValueHint::AnyPath)]
    pub(crate) paths: Vec<PathBuf>,
    /// Every track that a search finds, now and later
    #[arg(long, value_name = "QUERY")]
    pub(crate) query: Option<String>,
}

/// `musicfs verify`.
#[derive(Args, Debug)]
pub(crate) struct VerifyArgs {
    /// Only data of this origin
    #[arg(long, value_name = "ID")]
    pub(crate) origin: Option<String>,
    /// Only tell what is damaged, and mend nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `musicfs cluster`.
#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Make a cluster whose first node is this one
    Init,
    /// Join the cluster that a join code is for
    Join {
        /// What `musicfs cluster show --join-code` prints on a member; `-` reads it from standard
        /// input, which keeps it out of `ps` and the shell's history
        #[arg(required = true, value_name = "CODE", value_parser = secret)]
        code: Vec<Secret>,
    },
    /// Show the cluster and this node's place in it
    Show {
        /// Show the join code as well: whoever reads it can join
        #[arg(long)]
        join_code: bool,
    },
    /// Forget the cluster key and this node's own key
    Leave,
    /// Give the cluster a new key: all other nodes are out until they join again
    Rotate,
}

/// A text that is shown nowhere.
#[derive(Clone)]
pub(crate) struct Secret(String);

impl Secret {
    /// The text.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
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

/// Takes any text: an error of the command line would repeat it.
fn secret(text: &str) -> Result<Secret, Infallible> {
    Ok(Secret(text.to_owned()))
}

fn instance_name(text: &str) -> Result<String, &'static str> {
    match musicfs_core::id::OriginId::new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("use 1 to 64 letters, digits, '.', '_' or '-', not starting with '.'"),
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

    #[test]
    fn values_are_checked_where_they_are_typed() {
        for bad in [
            ["--umask", "8"],
            ["--names", "dos"],
            ["--passthrough", "on"],
            ["--origin", "s3://key@bucket"],
            ["--origin", "ftp://host/m"],
            ["--cache-limit", "lots"],
            ["--header-limit", "1.5G"],
            ["--cache-free-min", "-1"],
            ["--scanner-profile", "xmms"],
            ["--template", "$titel"],
            ["--name", "a/b"],
            ["--root", "../b"],
            ["--metrics-listen", "9464"],
        ] {
            let error = parse(["musicfs", "mount", "/mnt"].iter().chain(&bad)).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{bad:?}");
        }
    }

    #[test]
    fn files_are_named_by_paths_or_a_query_and_one_strategy() {
        let check = |args: &[&str], expect: bool| {
            let got = parse(["musicfs"].iter().chain(args));
            assert_eq!(got.is_ok(), expect, "{args:?}: {got:?}");
        };
        check(&["prefetch", "a", "b"], true);
        check(&["prefetch", "--headers", "a"], true);
        check(&["prefetch", "--query", "artist:x"], true);
        check(&["prefetch"], false);
        check(&["prefetch", "--headers", "--full", "a"], false);
        check(&["pin"], false);
        check(&["unpin", "/mnt/a"], true);
        check(&["cache", "clear", "--tier", "chunks", "--dry-run"], true);
        check(&["cache", "clear", "--tier", "l3"], false);
        check(&["cache"], false);
        check(&["cluster"], false);
        check(&["cluster", "join"], false);
        check(&["cluster", "join", "-"], true);
        check(&["cluster", "join", "ABCDE", "FGHJK"], true);
        check(&["cluster", "show", "--join-code"], true);
        check(&["verify", "--origin", "nas", "--dry-run"], true);
        check(
            &["events", "--type=file_added", "--type", "sync_started"],
            true,
        );
        check(&["events", "--type", "all"], false);
        check(&["peers"], false);
        check(&["peers", "show"], false);
        check(&["peers", "ping", "den"], true);
        check(&["locate"], false);
    }

    #[test]
    fn a_join_code_shows_in_no_error_and_no_debug_text() {
        let cli = parse(["musicfs", "cluster", "join", "HUNTE-R2", "HUNTER"]).unwrap();
        let told = format!("{cli:?}");
        assert!(
            told.contains("Secret(..)") && !told.contains("HUNTE"),
            "{told}"
        );
    }
}
