//! What can go wrong in a command, the line that tells it, and the exit code that follows.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use musicfs_core::error::with_causes;

use crate::config::ConfigError;
use crate::mount::MountError;
use crate::paths::PathsError;

/// Something went wrong.
const EXIT_ERROR: u8 = 1;
/// The command line is wrong.
const EXIT_USAGE: u8 = 2;
/// There is no daemon to talk to.
const EXIT_NOT_RUNNING: u8 = 3;

/// Why a command failed. Messages read after "cannot".
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The command line is wrong, or asked for help.
    #[error(transparent)]
    CommandLine(#[from] clap::Error),
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is no place for the instance.
    #[error(transparent)]
    Paths(#[from] PathsError),
    /// Nobody listens on the instance's socket.
    #[error("no musicfs daemon answers on {}", socket.display())]
    NotRunning {
        /// The socket.
        socket: PathBuf,
    },
    /// The instance is there already.
    #[error("mount: instance `{name}` is running already, mounted at {}", mount_point.display())]
    AlreadyRunning {
        /// Its name.
        name: String,
        /// Where it is mounted.
        mount_point: PathBuf,
    },
    /// The socket is there and cannot be used.
    #[error("connect to {}", socket.display())]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The daemon refused, or went away.
    #[error("{action}: {}", status.message())]
    Rpc {
        /// What was asked.
        action: &'static str,
        /// What it said.
        status: Box<tonic::Status>,
    },
    /// The daemon could not finish a scan.
    #[error("rescan origin `{origin}`: {reason}")]
    Rescan {
        /// The origin.
        origin: String,
        /// What it said.
        reason: String,
    },
    /// Files were to be found by what later versions will have.
    #[error("{action} by query: search is not in this version")]
    NoSearch {
        /// What was asked.
        action: &'static str,
    },
    /// A path is not one of the mount.
    #[error("find {} below {}", path.display(), mount_point.display())]
    OutsideMount {
        /// As typed.
        path: PathBuf,
        /// Where the instance is mounted.
        mount_point: PathBuf,
    },
    /// No peer is called so.
    #[error("find peer {typed:?}")]
    NoPeer {
        /// As typed.
        typed: String,
    },
    /// Several peers are called so.
    #[error("find peer {typed:?}: it may be any of {}", ids.join(", "))]
    SeveralPeers {
        /// As typed.
        typed: String,
        /// Whom it may mean.
        ids: Vec<String>,
    },
    /// Some files are not in the cache.
    #[error("prefetch {failed} of {files} files")]
    Prefetch {
        /// How many failed; each has been told.
        failed: u64,
        /// How many there were.
        files: u64,
    },
    /// The daemon could not finish a verification.
    #[error("verify the cache: {reason}")]
    Verify {
        /// What it said.
        reason: String,
    },
    /// Cached data is damaged.
    #[error("vouch for the cache: {blocks} damaged blocks were not fetched again")]
    Damaged {
        /// How many.
        blocks: u64,
    },
    /// The keys of the cluster cannot be read or changed.
    #[error(transparent)]
    Keys(#[from] musicfs_peer::KeysError),
    /// What was given is no join code.
    #[error(transparent)]
    JoinCode(#[from] musicfs_peer::JoinCodeError),
    /// The system refused.
    #[error("{action} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Standard output or the runtime failed.
    #[error("{action}")]
    System {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// There is no MusicFS mount to end.
    #[error("unmount {}: no musicfs filesystem is mounted there", path.display())]
    NotMounted {
        /// The path given.
        path: PathBuf,
    },
    /// A mount is alive whose daemon cannot be asked.
    #[error("unmount {}: it is in use and its daemon does not answer here", path.display())]
    Foreign {
        /// The mount point.
        path: PathBuf,
    },
    /// The mount stayed.
    #[error("unmount {}: it is still there after {seconds} s", path.display())]
    StillMounted {
        /// The mount point.
        path: PathBuf,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The system refused to unmount.
    #[error("unmount {}", path.display())]
    Detach {
        /// The mount point.
        path: PathBuf,
        /// What fusermount3 or the system said.
        source: io::Error,
    },
    /// Mounting or serving failed.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// The daemon in the background failed; it has said why.
    #[error("{message}")]
    Background {
        /// Its line, without `musicfs: cannot`.
        message: String,
        /// Its exit code.
        code: u8,
    },
    /// The daemon in the background did not get ready.
    #[error("mount: the daemon is not ready after {seconds} s")]
    NotReady {
        /// How long it was waited for.
        seconds: u64,
    },
    /// A demo track could not be made.
    #[error("write the demo library")]
    DemoLibrary(#[from] crate::demo::library::LibraryError),
    /// The bytes of a track are not in the mount.
    #[error("vouch for the demo: the mount has no file with the bytes of {}", path.display())]
    DemoMissing {
        /// The original.
        path: PathBuf,
    },
    /// A file for which `template test` was asked cannot be read.
    #[error("read the tags of {}", path.display())]
    Tags {
        /// The file.
        path: PathBuf,
        /// Why.
        source: musicfs_media::ExtractError,
    },
    /// The doctor found something that must be mended.
    #[error("vouch for this machine: {errors} of the findings must be mended first")]
    Findings {
        /// How many.
        errors: usize,
    },
}

impl Error {
    /// What the process returns.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::CommandLine(error) => match error.exit_code() {
                0 => 0,
                _ => EXIT_USAGE,
            },
            Self::Config(error) if error.is_usage() => EXIT_USAGE,
            Self::JoinCode(_) => EXIT_USAGE,
            Self::NotRunning { .. } => EXIT_NOT_RUNNING,
            Self::Background { code, .. } => *code,
            _ => EXIT_ERROR,
        }
    }

    /// What the user can do, as a sentence without its full stop.
    pub(crate) fn fix(&self) -> Option<String> {
        let fix = match self {
            Self::Config(error) => return error.fix(),
            Self::Keys(error) => return error.fix(),
            Self::JoinCode(error) => error.fix(),
            Self::Mount(error) => return error.fix().map(str::to_owned),
            Self::NoSearch { .. } => "name the files or directories",
            Self::OutsideMount { .. } => "give a path below the mount point, or one relative to it",
            Self::Damaged { .. } => "they are fetched again when they are read next",
            Self::NoPeer { .. } => "`musicfs peers list` shows those that are known",
            Self::SeveralPeers { .. } => "give more of its id",
            Self::AlreadyRunning { .. } => "give this one another name with --name",
            Self::Connect { .. } => "`musicfs doctor` tells more",
            Self::Foreign { .. } => {
                "run this as the user that mounted it, or take it away with --force"
            }
            Self::StillMounted { .. } => {
                "end the programs that use it (`fuser -vm` names them), or take it away with --force"
            }
            Self::NotReady { .. } => "its log is musicfs.log in the instance's state directory",
            _ => return None,
        };
        Some(fix.to_owned())
    }

    /// The one line for a person: what could not be done, why, and what to do.
    pub(crate) fn line(&self) -> String {
        if let Self::NotRunning { .. } = self {
            return format!("musicfs: {self}: start one with `musicfs mount`");
        }
        let mut line = format!("musicfs: cannot {}", with_causes(self));
        if let Some(fix) = self.fix() {
            line.push_str(". ");
            line.push_str(&fix);
        }
        // Names on disk may hold anything; the error stays one line.
        line.replace(|c: char| c.is_control(), "\u{fffd}")
    }
}

/// Tells what went wrong and maps it to the exit code.
pub(crate) fn report(result: Result<(), Error>) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    if let Error::CommandLine(error) = &error {
        // Help and version go to standard output, the rest to standard error. That nobody reads
        // it any more changes nothing about the outcome.
        let _ = error.print();
    } else {
        // Not eprintln!, which panics when standard error is closed.
        let _ = writeln!(io::stderr(), "{}", error.line());
    }
    ExitCode::from(error.exit_code())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_as_documented() {
        let check = |error: Error, expect: u8| {
            assert_eq!(error.exit_code(), expect, "{error}");
        };
        let socket = PathBuf::from("/run/x.sock");
        check(Error::NotRunning { socket }, 3);
        check(Error::Config(ConfigError::NoOrigin), 2);
        check(Error::Config(ConfigError::NoMountPoint), 2);
        check(Error::Findings { errors: 1 }, 1);
        check(Error::NoSearch { action: "pin" }, 1);
        check(Error::Damaged { blocks: 1 }, 1);
        let action = "leave the cluster";
        check(
            Error::Keys(musicfs_peer::KeysError::NoCluster { action }),
            1,
        );
        check(Error::JoinCode(musicfs_peer::JoinCodeError::Version), 2);
        let (failed, files) = (1, 2);
        check(Error::Prefetch { failed, files }, 1);
        let bad = crate::config::parse_umask("9").unwrap_err();
        check(Error::Config(bad), 1);
        let (message, code) = (String::new(), 2);
        check(Error::Background { message, code }, 2);
        let parse = |args: &[&str]| crate::cli::parse(args).unwrap_err();
        check(Error::CommandLine(parse(&["musicfs", "mont"])), 2);
        check(
            Error::CommandLine(parse(&["musicfs", "mount", "--umask", "9"])),
            2,
        );
        check(Error::CommandLine(parse(&["musicfs", "--help"])), 0);
        check(Error::CommandLine(parse(&["musicfs"])), 2);
    }

    #[test]
    fn an_error_is_one_line_with_cause_and_fix() {
        let line = Error::NotRunning {
            socket: "/run/musicfs/default.sock".into(),
        }
        .line();
        let expect = "musicfs: no musicfs daemon answers on /run/musicfs/default.sock: \
                      start one with `musicfs mount`";
        assert_eq!(line, expect);
        let line = Error::Io {
            action: "open",
            path: "/a\nb".into(),
            source: io::Error::from(io::ErrorKind::NotFound),
        }
        .line();
        assert_eq!(line, "musicfs: cannot open /a\u{fffd}b: entity not found");
        let line = Error::Config(ConfigError::NoOrigin).line();
        assert!(
            line.starts_with("musicfs: cannot mount: no origin is given. add "),
            "{line}"
        );
    }
}
