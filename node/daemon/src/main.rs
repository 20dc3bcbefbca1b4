//! The `musicfs` binary.

mod cli;
mod client;
mod commands;
mod config;
mod daemonize;
mod demo;
mod doctor;
mod error;
mod logging;
mod mount;
mod node_name;
mod output;
mod paths;
mod wire;

use std::process::ExitCode;

fn main() -> ExitCode {
    error::report(commands::run(std::env::args_os()))
}
