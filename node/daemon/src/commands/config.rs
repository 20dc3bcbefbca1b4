//! `musicfs config init | check | show`.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use serde_json::json;

use super::Context;
use crate::cli::{ConfigCommand, SettingsArgs};
use crate::config::{Purpose, STARTER};
use crate::error::Error;

/// Writes, checks or shows the configuration.
pub(super) fn run(context: &Context, command: &ConfigCommand) -> Result<(), Error> {
    match command {
        ConfigCommand::Init { force } => init(context, *force),
        ConfigCommand::Check(settings) => check(context, settings),
        ConfigCommand::Show(settings) => show(context, settings),
    }
}

fn init(context: &Context, force: bool) -> Result<(), Error> {
    let path = match &context.config {
        Some(path) => path.clone(),
        None => context.environment.config_file()?,
    };
    write_new(&path, force).map_err(|source| Error::Io {
        action: "write",
        path: path.clone(),
        source,
    })?;
    let value = json!({ "path": path.to_string_lossy() });
    context
        .format
        .print(&value, || format!("wrote {}\n", path.display()))
}

fn write_new(path: &PathBuf, force: bool) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut options = fs::OpenOptions::new();
    options.write(true);
    match force {
        true => options.create(true).truncate(true),
        false => options.create_new(true),
    };
    options.open(path)?.write_all(STARTER.as_bytes())
}

fn check(context: &Context, settings: &SettingsArgs) -> Result<(), Error> {
    let (typed, path) = context.typed(settings, None)?;
    let config = context.resolve(&typed, Purpose::Check)?;
    let path = path.map(|path| path.to_string_lossy().into_owned());
    let origins = config.origins.len();
    let value = json!({ "ok": true, "path": path, "origins": origins });
    context.format.print(&value, || {
        let place = path.as_deref().unwrap_or("no configuration file");
        format!("{place}: ok, {origins} origins\n")
    })
}

fn show(context: &Context, settings: &SettingsArgs) -> Result<(), Error> {
    let mount_point = std::env::var_os("MUSICFS_MOUNT_POINT").map(PathBuf::from);
    let (typed, _) = context.typed(settings, mount_point)?;
    let file = context.resolve(&typed, Purpose::Check)?.to_file();
    context.format.print(&json!(file), || {
        toml::to_string(&file).expect("texts, numbers and tables of them are TOML")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_there_is_only_replaced_by_force() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("musicfs/config.toml");
        write_new(&path, false).unwrap();
        fs::write(&path, "mine").unwrap();
        let error = write_new(&path, false).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
        write_new(&path, true).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), STARTER);
    }
}
