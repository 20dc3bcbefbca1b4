//! `musicfs demo`: a small messy library, mounted, shown, and compared with its originals.

pub(crate) mod library;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::DemoArgs;
use crate::commands::Context;
use crate::config::{Config, ConfigFile, OriginEntry, Purpose};
use crate::error::Error;
use crate::mount;
use crate::output;
use crate::paths::InstancePaths;

/// The name of the demo's instance, in a directory of its own.
const NAME: &str = "demo";

/// What the demo logs unless `MUSICFS_LOG` says otherwise: its own output tells the rest.
const LOG: &str = "warn";

/// How long threads may hold up the end of the process.
const THREADS_END_TIMEOUT: Duration = Duration::from_secs(1);

/// Writes, mounts and compares a library; leaves nothing behind.
///
/// # Errors
/// Whatever keeps the library from being mounted, or [`Error::DemoMissing`] if it does not read
/// back as it was written.
pub(crate) fn run(context: &Context, args: &DemoArgs) -> Result<(), Error> {
    let system = |action| move |source| Error::System { action, source };
    let dir = tempfile::Builder::new().prefix("musicfs-demo-").tempdir();
    let dir = dir.map_err(system("make a directory for the demo"))?;
    let runtime = Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(system("start the runtime"))?;
    let outcome = runtime.block_on(Box::pin(play(context, args, dir.path())));
    runtime.shutdown_timeout(THREADS_END_TIMEOUT);
    outcome
}

async fn play(context: &Context, args: &DemoArgs, dir: &Path) -> Result<(), Error> {
    let music = dir.join("music");
    let tracks = library::write(&music)?;
    let config = config(context, dir, &music)?;
    crate::logging::init(&config.log);
    let mount_point = config.mount_point.clone();
    let running = mount::start(config).await?;
    let shown = async {
        running.wait_scanned().await?;
        show(context, music, mount_point, tracks).await?;
        if !args.once {
            stay().await?;
        }
        Ok(())
    };
    // Unmount whatever came of it.
    let shown: Result<(), Error> = shown.await;
    let ended = running.shutdown().await;
    shown?;
    Ok(ended?)
}

fn config(context: &Context, dir: &Path, music: &Path) -> Result<Config, Error> {
    let mount_point = dir.join("mnt");
    fs::create_dir(&mount_point).map_err(|source| Error::Io {
        action: "make directory",
        path: mount_point.clone(),
        source,
    })?;
    let typed = ConfigFile {
        mount_point: Some(mount_point),
        log: Some(std::env::var("MUSICFS_LOG").unwrap_or_else(|_| LOG.into())),
        origins: Some(vec![OriginEntry {
            id: Some(NAME.into()),
            path: Some(music.to_string_lossy().into_owned()),
            ..OriginEntry::default()
        }]),
        ..ConfigFile::default()
    };
    let config = Config::resolve(&typed, NAME, &context.environment, Purpose::Mount)?;
    Ok(Config {
        paths: InstancePaths::under(dir, NAME)?,
        ..config
    })
}

/// Prints the tree and vouches for its bytes.
async fn show(
    context: &Context,
    music: PathBuf,
    mount_point: PathBuf,
    tracks: Vec<PathBuf>,
) -> Result<(), Error> {
    let count = tracks.len();
    let root = mount_point.clone();
    // The mount is served by this very process: its files are read where that may wait.
    let looked = tokio::task::spawn_blocking(move || {
        let files = walk(&root)?;
        compare(&files, &tracks)?;
        Ok::<_, Error>(files)
    });
    let files = looked.await.map_err(|error| Error::System {
        action: "read the mount",
        source: io::Error::other(error),
    })??;
    let relative = |path: &PathBuf| {
        let path = path.strip_prefix(&mount_point).unwrap_or(path);
        path.to_string_lossy().into_owned()
    };
    let names: Vec<String> = files.iter().map(relative).collect();
    let value: Value = json!({
        "mount_point": mount_point.to_string_lossy(),
        "library": music.to_string_lossy(),
        "files": names,
        "tracks_compared": count,
        "identical": true,
    });
    context.format.print(&value, || {
        let (tree, music, mount_point) = (tree(&names), music.display(), mount_point.display());
        format!(
            "{music} is mounted at {mount_point}:\n\n{tree}\n\
             {count} tracks read back, every byte as in the original.\n"
        )
    })
}

/// Waits for Ctrl-C or a request to end.
async fn stay() -> Result<(), Error> {
    let system = |source| Error::System {
        action: "wait for a signal",
        source,
    };
    let mut interrupted = signal(SignalKind::interrupt()).map_err(system)?;
    let mut terminated = signal(SignalKind::terminate()).map_err(system)?;
    output::write_note("Ctrl-C unmounts it and removes everything.\n");
    tokio::select! {
        _ = interrupted.recv() => {}
        _ = terminated.recv() => {}
    }
    Ok(())
}

/// Every regular file below `dir`, in the order of their paths.
fn walk(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let fail = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Io {
            action: "list",
            path,
            source,
        }
    };
    let mut files = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).map_err(fail(&dir))? {
            let path = entry.map_err(fail(&dir))?.path();
            match path.is_dir() {
                true => dirs.push(path),
                false => files.push(path),
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Finds the bytes of every original among the files of the mount.
fn compare(mounted: &[PathBuf], originals: &[PathBuf]) -> Result<(), Error> {
    let mut found: BTreeMap<[u8; 32], usize> = BTreeMap::new();
    for path in mounted {
        *found.entry(digest(path)?).or_default() += 1;
    }
    for path in originals {
        match found.get_mut(&digest(path)?) {
            Some(count) if *count > 0 => *count -= 1,
            _ => return Err(Error::DemoMissing { path: path.clone() }),
        }
    }
    Ok(())
}

fn digest(path: &Path) -> Result<[u8; 32], Error> {
    let hash = || {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(File::open(path)?)?;
        io::Result::Ok(hasher.finalize().into())
    };
    hash().map_err(|source| Error::Io {
        action: "read",
        path: path.to_owned(),
        source,
    })
}

/// Paths as a tree: what a line shares with the one before is left out.
fn tree(paths: &[String]) -> String {
    let mut text = String::new();
    let mut before: Vec<&str> = Vec::new();
    for path in paths {
        let parts: Vec<&str> = path.split('/').collect();
        let shared = parts.iter().zip(&before).take_while(|(a, b)| a == b);
        for (depth, part) in parts.iter().enumerate().skip(shared.count()) {
            let slash = if depth + 1 < parts.len() { "/" } else { "" };
            let indent = 2 + 2 * depth;
            text += &format!("{:indent$}{}{slash}\n", "", output::plain(part));
        }
        before = parts;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_names_each_directory_once() {
        let paths = ["A/x/1.flac", "A/x/2.flac", "A/y/1.flac", "B.wav"];
        let got = tree(&paths.map(String::from));
        let expect = "  A/\n    x/\n      1.flac\n      2.flac\n    y/\n      1.flac\n  B.wav\n";
        assert_eq!(got, expect);
    }

    #[test]
    fn every_original_must_be_found_as_often_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            fs::write(&path, bytes).unwrap();
            path
        };
        let (a, b, c) = (file("a", b"1"), file("b", b"1"), file("c", b"2"));
        let all = walk(dir.path()).unwrap();
        assert_eq!(all, [a.clone(), b.clone(), c.clone()]);
        compare(&all, &[c.clone(), b.clone(), a.clone()]).unwrap();
        assert!(compare(&[a.clone(), c.clone()], &[a.clone(), b]).is_err());
        assert!(compare(&[a], &[c]).is_err());
    }
}
