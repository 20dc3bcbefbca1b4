//! Writes a large library of small tagged FLAC files: `make-library DIR COUNT`.
//!
//! The same count gives the same files, but for the encoder's version.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let (dir, count) = match &args[..] {
        [_, dir, count] => (dir, count.parse()),
        _ => {
            eprintln!("usage: make-library DIR COUNT");
            return ExitCode::from(2);
        }
    };
    let Ok(count) = count else {
        eprintln!("make-library: COUNT must be a number");
        return ExitCode::from(2);
    };
    match musicfs_tests::bulk::make_library(Path::new(dir), count) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("make-library: cannot write to {dir}: {error}");
            ExitCode::FAILURE
        }
    }
}
