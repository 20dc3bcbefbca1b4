//! Where log lines go: standard error, one line each.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

/// The tag library's own remarks name no file; what they lead to is logged with its name.
const SILENT: &str = "lofty=off";

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
