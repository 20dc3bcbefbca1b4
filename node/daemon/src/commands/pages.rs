//! `musicfs completions`, `man` and `version`: what the binary says about itself.

use std::fs;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;
use serde_json::json;

use crate::cli::Cli;
use crate::error::Error;
use crate::output::{self, Format};

/// Prints the completions of a shell.
pub(super) fn completions(shell: Shell) -> Result<(), Error> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "musicfs", &mut script);
    output::write(&script)
}

/// Prints the manual page, or writes one for every command to `dir`.
pub(super) fn man(dir: Option<&Path>) -> Result<(), Error> {
    let Some(dir) = dir else {
        let mut page = Vec::new();
        let rendered = clap_mangen::Man::new(Cli::command()).render(&mut page);
        return match rendered {
            Ok(()) => output::write(&page),
            Err(source) => Err(Error::System {
                action: "render the manual",
                source,
            }),
        };
    };
    let written = fs::create_dir_all(dir);
    let written = written.and_then(|()| clap_mangen::generate_to(Cli::command(), dir));
    written.map_err(|source| Error::Io {
        action: "write the manual to",
        path: dir.to_owned(),
        source,
    })
}

/// Prints the version.
pub(super) fn version(format: Format) -> Result<(), Error> {
    let version = env!("CARGO_PKG_VERSION");
    let value = json!({ "name": "musicfs", "version": version });
    format.print(&value, || format!("musicfs {version}\n"))
}
