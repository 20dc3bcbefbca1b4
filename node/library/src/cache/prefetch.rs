//! Fetching ahead of use, on request.

use std::sync::Arc;
use std::time::Duration;

use musicfs_core::error::with_causes;
use musicfs_core::extents::Extents;
use musicfs_index::Found;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::STEPS_MAX;
use super::below::FilesBelow;
use crate::error::Error;
use crate::fetch::{Fetcher, blocking};
use crate::library::Library;
use crate::shared::Shared;

/// Files that one request has fetched at once; the budget for flights is shared with all others.
const FILES_AT_ONCE_MAX: usize = 4;

/// How often the progress of a file is told.
const STEP_EVERY: Duration = Duration::from_millis(250);

/// How much of each file to fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// What the index holds: there is nothing left to fetch.
    Metadata,
    /// What tag readers touch.
    Headers,
    /// All of it.
    Full,
}

/// How far the prefetch of one file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrefetchStep {
    /// Its path in the tree.
    pub path: String,
    /// Bytes that are there, of those wanted.
    pub bytes_fetched: u64,
    /// Bytes wanted.
    pub bytes_total: u64,
    /// This file is done with.
    pub complete: bool,
    /// Why it could not be fetched.
    pub error: Option<String>,
}

impl Library {
    /// Fetches all files at or below the paths, behind everything that somebody waits for.
    /// Dropping the receiver ends it; what came stays.
    ///
    /// # Errors
    /// [`Error::NoPath`] if a path does not exist: then nothing is fetched.
    pub fn prefetch(
        &self,
        paths: Vec<String>,
        strategy: Strategy,
    ) -> Result<mpsc::Receiver<PrefetchStep>, Error> {
        for path in &paths {
            FilesBelow::new(&self.shared.index.reader, path)?;
        }
        let (sender, receiver) = mpsc::channel(STEPS_MAX);
        let (shared, stop) = (self.shared.clone(), self.stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = sender.closed() => {}
                () = fetch_all(&shared, paths, strategy, sender.clone()) => {}
            }
        });
        Ok(receiver)
    }
}

async fn fetch_all(
    shared: &Arc<Shared>,
    paths: Vec<String>,
    strategy: Strategy,
    steps: mpsc::Sender<PrefetchStep>,
) {
    let (files, mut found) = mpsc::channel(STEPS_MAX);
    let walker = shared.clone();
    let walk = blocking(move || walk(&walker, &paths, &files));
    let work = async {
        let slots = Arc::new(Semaphore::new(FILES_AT_ONCE_MAX));
        let mut jobs = JoinSet::new();
        while let Some((file, path)) = found.recv().await {
            let Ok(slot) = slots.clone().acquire_owned().await else {
                return;
            };
            let (shared, steps) = (shared.clone(), steps.clone());
            jobs.spawn(async move {
                fetch_one(&shared, file, path, strategy, &steps).await;
                drop(slot);
            });
            while jobs.try_join_next().is_some() {}
        }
        while jobs.join_next().await.is_some() {}
    };
    let (outcome, ()) = tokio::join!(walk, work);
    if let Err(error) | Ok(Err(error)) = outcome {
        tracing::warn!(error = %with_causes(&error), "a prefetch ended early");
    }
}

/// Finds the files, as fast as they are taken.
fn walk(
    shared: &Shared,
    paths: &[String],
    files: &mpsc::Sender<(Found, String)>,
) -> Result<(), Error> {
    for path in paths {
        let mut below = FilesBelow::new(&shared.index.reader, path)?;
        while let Some(file) = below.next()? {
            if files.blocking_send((file.found, file.path)).is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

async fn fetch_one(
    shared: &Shared,
    found: Found,
    path: String,
    strategy: Strategy,
    steps: &mpsc::Sender<PrefetchStep>,
) {
    let step = |fetched, total, complete, error| PrefetchStep {
        path: path.clone(),
        bytes_fetched: fetched,
        bytes_total: total,
        complete,
        error,
    };
    let remote = shared
        .fetcher
        .as_ref()
        .filter(|fetcher| fetcher.serves(&found.origin));
    let (Some(fetcher), Strategy::Headers | Strategy::Full) = (remote, strategy) else {
        // What is local, or in the index, is there.
        let _ = steps.send(step(0, 0, true, None)).await;
        return;
    };
    let ranges = match strategy {
        Strategy::Full => Extents::from(0..found.version.size),
        _ => fetcher.header(&found),
    };
    let total = ranges.len();
    let outcome = fetch_ranges(shared, fetcher, found, &ranges, |fetched| {
        // A listener that is behind gets the next one.
        let _ = steps.try_send(step(fetched, total, false, None));
    })
    .await;
    let last = match outcome {
        Ok(()) => step(total, total, true, None),
        Err(error) => step(0, total, true, Some(with_causes(&error))),
    };
    // Whoever listened may have gone.
    let _ = steps.send(last).await;
}

/// Fetches what is absent of the ranges of a file, telling now and then how much is there.
pub(super) async fn fetch_ranges(
    shared: &Shared,
    fetcher: &Arc<Fetcher>,
    found: Found,
    ranges: &Extents,
    mut tell: impl FnMut(u64),
) -> Result<(), Error> {
    let others = shared.equal_copies(&found)?;
    let file = fetcher.file(found, others).await?;
    let object = file.object().clone();
    let present = || {
        let absent = |range: std::ops::Range<u64>| {
            let parts = object.absent(range.clone()).into_iter();
            let within = |part: std::ops::Range<u64>| {
                part.end
                    .min(range.end)
                    .saturating_sub(part.start.max(range.start))
            };
            parts.map(within).sum::<u64>()
        };
        ranges.len() - ranges.iter().map(absent).sum::<u64>()
    };
    let fetch = file.prefetch(ranges);
    tokio::pin!(fetch);
    let mut ticks = tokio::time::interval(STEP_EVERY);
    loop {
        tokio::select! {
            outcome = &mut fetch => return outcome,
            _ = ticks.tick() => tell(present()),
        }
    }
}
