//! Pins: what is kept whatever else is played, and fetched if need be.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use musicfs_core::error::with_causes;
use musicfs_core::extents::Extents;
use musicfs_core::version::VersionKey;
use musicfs_index::{FileBelow, Reader};

use super::below::FilesBelow;
use super::prefetch::fetch_ranges;
use crate::error::Error;
use crate::fetch::{Fetcher, blocking};
use crate::ingest::unix_now;
use crate::library::Library;
use crate::shared::Shared;

/// How long the tree must be left alone before the pins are looked up in it anew.
const SETTLE: Duration = Duration::from_millis(500);

/// How long a fetch of pinned content that failed is left alone.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// A pin, and what it holds now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinStatus {
    /// A path in the tree; everything below it is pinned.
    pub path: String,
    /// Remote files there; local ones need no cache.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Of these, cached.
    pub bytes_cached: u64,
    /// When it was pinned, in seconds since 1970.
    pub created_unix: i64,
}

/// The outcome of pinning or unpinning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// The pin.
    pub pin: PinStatus,
    /// False if it was so already.
    pub is_new: bool,
}

impl Library {
    /// Pins everything at or below a path of the tree: it is fetched, and stays.
    ///
    /// # Errors
    /// [`Error::NoPath`] if it does not exist, [`Error::PinTooLarge`] if all pins together would
    /// hold more than they may.
    pub async fn pin(&self, path: &str) -> Result<Pinned, Error> {
        let path = normal(path);
        let (shared, wanted) = (self.shared.clone(), path.clone());
        let capacity = self.pin_capacity();
        let fits = move || {
            let reader = &shared.index.reader;
            FilesBelow::new(reader, &wanted)?;
            let mut paths = pinned_paths(reader)?;
            paths.push(wanted.clone());
            let bytes = versions(&shared, &paths)?.values().sum();
            match bytes <= capacity {
                true => Ok(()),
                false => Err(Error::PinTooLarge {
                    path: wanted,
                    bytes,
                    capacity,
                }),
            }
        };
        blocking(fits).await??;
        let created_unix = unix_now();
        let is_new = self
            .shared
            .index
            .writer
            .pin(path.clone(), created_unix)
            .await?;
        self.shared.pins_changed.notify_one();
        let shared = self.shared.clone();
        let pin = blocking(move || status(&shared, path, created_unix)).await??;
        Ok(Pinned { pin, is_new })
    }

    /// Ends a pin; what it held stays until room is needed.
    ///
    /// # Errors
    /// [`Error::Index`].
    pub async fn unpin(&self, path: &str) -> Result<Pinned, Error> {
        let path = normal(path);
        let is_new = self.shared.index.writer.unpin(&path).await?;
        self.shared.pins_changed.notify_one();
        let shared = self.shared.clone();
        let pin = blocking(move || status(&shared, path, 0)).await??;
        Ok(Pinned { pin, is_new })
    }

    /// All pins. One whose path is gone holds nothing until the path is back.
    ///
    /// # Errors
    /// [`Error::Index`].
    pub async fn pins(&self) -> Result<Vec<PinStatus>, Error> {
        let shared = self.shared.clone();
        let all = move || {
            let pins = shared.index.reader.pins()?;
            let status = |pin: musicfs_index::Pin| status(&shared, pin.path, pin.created_unix);
            pins.into_iter().map(status).collect()
        };
        blocking(all).await?
    }
}

/// Tells the store what is pinned, and fetches it, whenever that may have changed.
pub(crate) async fn keep_pins(shared: &Arc<Shared>, fetcher: &Arc<Fetcher>) {
    loop {
        let changed = shared.pins_changed.notified();
        match apply(shared, fetcher).await {
            Ok(()) => changed.await,
            Err(error) => {
                tracing::warn!(
                    error = %with_causes(&error),
                    "not all that is pinned could be fetched; trying again in {} s",
                    RETRY_AFTER.as_secs()
                );
                // Late or changed: both mean to look again.
                let _ = tokio::time::timeout(RETRY_AFTER, changed).await;
            }
        }
        tokio::time::sleep(SETTLE).await;
    }
}

async fn apply(shared: &Arc<Shared>, fetcher: &Arc<Fetcher>) -> Result<(), Error> {
    let (reader, store) = (shared.clone(), fetcher.store.clone());
    let paths = blocking(move || {
        let paths = pinned_paths(&reader.index.reader)?;
        let pinned = versions(&reader, &paths)?.into_keys().collect();
        store.set_pinned(pinned);
        Ok::<_, Error>(paths)
    })
    .await??;
    for path in paths {
        let (files, mut found) = tokio::sync::mpsc::channel(1);
        let reader = shared.clone();
        let walk = blocking(move || {
            let Ok(mut below) = FilesBelow::new(&reader.index.reader, &path) else {
                return Ok(());
            };
            while let Some(FileBelow { found: file, .. }) = below.next()? {
                if files.blocking_send(file).is_err() {
                    break;
                }
            }
            Ok::<_, Error>(())
        });
        let fetch = async {
            while let Some(file) = found.recv().await {
                if fetcher.serves(&file.origin) {
                    let all = Extents::from(0..file.version.size);
                    fetch_ranges(shared, fetcher, file, &all, |_| {}).await?;
                }
            }
            Ok::<_, Error>(())
        };
        let (walked, fetched) = tokio::join!(walk, fetch);
        walked??;
        fetched?;
    }
    Ok(())
}

fn pinned_paths(reader: &Reader) -> Result<Vec<String>, Error> {
    Ok(reader.pins()?.into_iter().map(|pin| pin.path).collect())
}

/// The remote content at or below paths, each version once, with its size.
fn versions(shared: &Shared, paths: &[String]) -> Result<BTreeMap<VersionKey, u64>, Error> {
    let mut versions = BTreeMap::new();
    for path in paths {
        let mut below = match FilesBelow::new(&shared.index.reader, path) {
            Ok(below) => below,
            Err(Error::NoPath { .. }) => continue,
            Err(error) => return Err(error),
        };
        while let Some(FileBelow { found, .. }) = below.next()? {
            let fetcher = shared.fetcher.as_ref();
            if fetcher.is_some_and(|fetcher| fetcher.serves(&found.origin)) {
                versions.insert(found.version_key, found.version.size);
            }
        }
    }
    Ok(versions)
}

fn status(shared: &Shared, path: String, created_unix: i64) -> Result<PinStatus, Error> {
    let held = versions(shared, std::slice::from_ref(&path))?;
    let mut bytes_cached = 0;
    if let Some(fetcher) = &shared.fetcher {
        for (key, size) in &held {
            let holding = fetcher.store.peek(*key)?;
            let on_disk = |held: musicfs_store::Holding| held.header_bytes + held.body_bytes;
            // The disk's blocks may reach past the end.
            bytes_cached += holding.map_or(0, on_disk).min(*size);
        }
    }
    Ok(PinStatus {
        path,
        files: held.len() as u64,
        bytes: held.values().sum(),
        bytes_cached,
        created_unix,
    })
}

/// A path as the index knows it: without slashes at its ends.
fn normal(path: &str) -> String {
    path.trim_matches('/').to_owned()
}
