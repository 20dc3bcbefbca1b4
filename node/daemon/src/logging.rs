//! Where log lines go: standard error, one line each.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

/// What libraries say that helps nobody. The tag library's remarks name no file; what they lead to is
/// logged with its name. The FUSE library calls it an error when the kernel no longer waits for a
/// reply, as it does for interrupted requests and for those that an unmount cuts off. The UDP library warns
/// of every address that this host has no way to; which of them are tried is not up to the user.
const SILENT: &str = "lofty=off,fuser::reply=off,quinn_udp=off";

/// Starts logging with a filter that the configuration has checked.
///
/// Only the first call in a process counts.
pub(crate) fn init(filter: &str) {
    let filter = EnvFilter::try_new(format!("{SILENT},{filter}")).unwrap_or_default();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false);
    // A second subscriber is refused, which leaves the first in force.
    let _ = subscriber.try_init();
}
