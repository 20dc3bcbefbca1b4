//! One pass over an origin or some places of it: list, compare, read, commit.

mod reading;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use musicfs_core::error::with_causes;
use musicfs_core::names;
use musicfs_core::origin::{Depth, DirListing, Origin, OriginError};
use musicfs_core::path::OriginPath;
use musicfs_core::version::VersionKey;
use musicfs_index::{Batch, FileChange, FileKind};
use tokio::task::JoinSet;

use super::debounce::Places;
use super::extract::Extracted;
use super::reconcile::{self, Fresh, Missing};
use super::{Phase, Progress, unix_nanos_now, unix_now};
use crate::shared::Shared;
use crate::upstream::Upstream;

/// Changes committed together: large enough that the commit costs little, small enough that new
/// files show soon and a kill loses little.
const BATCH_CHANGES_MAX: usize = 512;

/// The age at which a smaller batch is committed all the same.
const BATCH_AGE_MAX: Duration = Duration::from_millis(100);

/// New files held back until the end of a listing, to tell moves; beyond, moves count as new files.
const HELD_MAX: usize = 100_000;

/// How close to its listing a file's last change makes its time doubtful: the coarsest clock of a
/// server (FAT over SMB) ticks every 2 s, and what is written twice between ticks looks like once.
pub(crate) const RACY_NS: u64 = 2_000_000_000;

/// Missing files remembered in one pass; those beyond are found by the next.
const MISSING_MAX: usize = 100_000;

/// Why a pass ended early. What was committed until then stays.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PassError {
    #[error("list the origin: {}", with_causes(.0))]
    Origin(#[from] OriginError),
    #[error("update the index: {}", with_causes(.0))]
    Index(#[from] musicfs_index::Error),
}

/// What a pass did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) files_scanned: u64,
    pub(crate) files_changed: u64,
    pub(crate) bytes_read: u64,
    pub(crate) away: u64,
    /// Bytes of the header tier that found no room in its quota.
    pub(crate) header_bytes_unkept: u64,
}

/// What is to be looked at again after a pass.
#[derive(Debug, Default)]
pub(crate) struct Again {
    /// Files that changed while they were read: when it is quiet.
    pub(crate) stale: Vec<OriginPath>,
    /// Files that were written so shortly before they were listed that one more change might not
    /// show in their time: once [`RACY_NS`] are over.
    pub(crate) racy: Vec<OriginPath>,
}

/// A pass under way.
pub(crate) struct Pass {
    upstream: Arc<Upstream>,
    origin: Arc<dyn Origin>,
    row: i64,
    shared: Arc<Shared>,
    summary: Summary,
    progress: Progress,
    /// Directories listed, by the hash of their path, with their device.
    listed: HashMap<[u8; 16], Option<u64>>,
    /// Directories that could not be read to their end: nothing below them is concluded.
    incomplete: Vec<OriginPath>,
    devices_alive: BTreeSet<u64>,
    missing: Vec<Missing>,
    held: Vec<Fresh>,
    /// New files wait for the end of the listing, for they may be moved ones.
    holds: bool,
    jobs: JoinSet<(Fresh, Result<Extracted, OriginError>)>,
    batch: Vec<FileChange>,
    batch_since: Instant,
    commit: Option<tokio::task::JoinHandle<Result<(), musicfs_index::Error>>>,
    look_again: Again,
    /// Files in a row that could not be read because the origin did not answer.
    unreachable: usize,
    /// More was missing than is remembered.
    again: bool,
}

impl Pass {
    pub(crate) fn new(upstream: Arc<Upstream>, shared: Arc<Shared>) -> Self {
        Self {
            origin: upstream.origin().clone(),
            row: upstream.row,
            upstream,
            shared,
            summary: Summary::default(),
            progress: Progress::default(),
            listed: HashMap::new(),
            incomplete: Vec::new(),
            devices_alive: BTreeSet::new(),
            missing: Vec::new(),
            held: Vec::new(),
            holds: true,
            jobs: JoinSet::new(),
            batch: Vec::new(),
            batch_since: Instant::now(),
            commit: None,
            look_again: Again::default(),
            unreachable: 0,
            again: false,
        }
    }

    /// Lists the whole origin and makes the index agree with it.
    pub(crate) async fn everything(&mut self) -> Result<Summary, PassError> {
        let root = OriginPath::default();
        loop {
            // Nothing can have moved if nothing was known.
            self.holds = self
                .shared
                .index
                .reader
                .next_dir(self.row, &root, None)?
                .is_some();
            self.list(&root, Depth::All).await?;
            self.sweep(&root)?;
            self.settle().await?;
            if !std::mem::take(&mut self.again) {
                break;
            }
            self.listed.clear();
        }
        if self.incomplete.is_empty() {
            self.shared
                .index
                .writer
                .mark_synced(self.row, unix_now())
                .await?;
        }
        Ok(self.summary)
    }

    /// Lists the places where something changed and makes the index agree with them.
    pub(crate) async fn places(&mut self, places: Places) -> Result<Summary, PassError> {
        let parents: BTreeSet<OriginPath> = places.entries.iter().map(OriginPath::parent).collect();
        let mut directories = BTreeSet::new();
        for parent in &parents {
            directories.extend(self.list(parent, Depth::One).await?);
        }
        let mut walked: Vec<&OriginPath> = Vec::new();
        for entry in places.entries.intersection(&directories) {
            // A directory that is new, or said to be, is listed with all below it; one below
            // another that was listed so already is not listed twice.
            let reader = &self.shared.index.reader;
            let is_new = places.directories.contains(entry)
                || reader.next_dir(self.row, entry, None)?.is_none();
            if is_new && !walked.iter().any(|above| entry.is_within(above)) {
                self.list(entry, Depth::All).await?;
                self.sweep(entry)?;
                walked.push(entry);
            }
        }
        for entry in &places.entries {
            // What was a directory and is not there any more takes with it all that was below it.
            let parent_listed = self.listed.contains_key(&hash(&entry.parent()));
            if parent_listed && !directories.contains(entry) {
                self.sweep(entry)?;
            }
        }
        self.settle().await?;
        Ok(self.summary)
    }

    /// Publishes the outcome; returns the files that are to be looked at again.
    pub(crate) fn finish(self, outcome: &Result<Summary, PassError>) -> Again {
        let mut progress = self.progress;
        progress.phase = Phase::Complete;
        progress.current = None;
        progress.error = outcome.as_ref().err().map(ToString::to_string);
        self.upstream.progress.send_replace(progress);
        self.look_again
    }

    /// Lists `under` and compares as it goes; returns the directories seen in the listings.
    async fn list(
        &mut self,
        under: &OriginPath,
        depth: Depth,
    ) -> Result<BTreeSet<OriginPath>, PassError> {
        let mut directories = BTreeSet::new();
        let mut stream = self.origin.list(under, depth);
        loop {
            let listing = match stream.next().await {
                Ok(Some(listing)) => listing,
                Ok(None) => return Ok(directories),
                // It went away since it was reported; its parent's listing shows that.
                Err(OriginError::NotFound { .. }) if !under.is_root() => return Ok(directories),
                Err(error) => return Err(error.into()),
            };
            if depth == Depth::One {
                let joined = listing
                    .dirs
                    .iter()
                    .filter_map(|name| listing.path.join(name).ok());
                directories.extend(joined);
            }
            self.listing(&listing).await?;
        }
    }

    async fn listing(&mut self, listing: &DirListing) -> Result<(), PassError> {
        self.listed.insert(hash(&listing.path), listing.device);
        if !listing.complete {
            self.incomplete.push(listing.path.clone());
        }
        let known = match self.holds {
            true => self.shared.index.reader.files_in(self.row, &listing.path)?,
            false => Vec::new(),
        };
        let difference = reconcile::compare(listing, known, classify);
        self.devices_alive.extend(difference.devices_alive);
        self.remember(difference.missing);
        for change in difference.touched {
            self.push(change).await?;
        }
        let listed_ns = unix_nanos_now();
        for fresh in difference.fresh {
            if self.is_racy(&fresh, listed_ns) {
                self.look_again.racy.extend(fresh.path());
            } else if self.holds && self.held.len() < HELD_MAX {
                self.held.push(fresh);
            } else {
                self.read(fresh).await?;
            }
        }
        self.summary.files_scanned += listing.files.len() as u64;
        self.progress.current = Some(listing.path.to_string());
        self.publish();
        self.commit_if_old().await
    }

    fn remember(&mut self, missing: Vec<Missing>) {
        for file in missing {
            if self.missing.len() < MISSING_MAX {
                self.missing.push(file);
            } else {
                self.again = true;
            }
        }
    }

    /// Finds the known directories below `under` that were not listed: their files are missing.
    fn sweep(&mut self, under: &OriginPath) -> Result<(), PassError> {
        let mut after = None;
        loop {
            let next = self
                .shared
                .index
                .reader
                .next_dir(self.row, under, after.as_ref())?;
            let Some(dir) = next else { return Ok(()) };
            let unknowable = self
                .incomplete
                .iter()
                .any(|incomplete| dir.is_within(incomplete));
            if !self.listed.contains_key(&hash(&dir)) && !unknowable {
                let device = self.device_above(&dir);
                let known = self.shared.index.reader.files_in(self.row, &dir)?;
                let missing = known.into_iter();
                self.remember(
                    missing
                        .map(|file| reconcile::missing(file, &dir, device))
                        .collect(),
                );
            }
            after = Some(dir);
        }
    }

    /// The device of the nearest listed directory at or above `dir`.
    fn device_above(&self, dir: &OriginPath) -> Option<u64> {
        let mut at = dir.clone();
        loop {
            if let Some(device) = self.listed.get(&hash(&at)) {
                return *device;
            }
            if at.is_root() {
                return None;
            }
            at = at.parent();
        }
    }

    /// Judges what is missing, reads what is new, and waits until all is committed.
    async fn settle(&mut self) -> Result<(), PassError> {
        self.progress.phase = Phase::Indexing;
        let (missing, held) = (
            std::mem::take(&mut self.missing),
            std::mem::take(&mut self.held),
        );
        let origin = self.origin.clone();
        let key = |fresh: &Fresh| version_key(&*origin, fresh);
        let verdict = reconcile::judge(missing, &held, &self.devices_alive, key);
        self.summary.away = verdict.away;
        for change in verdict.changes {
            self.push(change).await?;
        }
        for fresh in verdict.fresh {
            self.read(fresh).await?;
        }
        while !self.jobs.is_empty() {
            self.join_one().await?;
        }
        self.commit_batch().await?;
        self.wait_for_commit().await?;
        self.publish();
        Ok(())
    }

    async fn push(&mut self, change: FileChange) -> Result<(), PassError> {
        if self.batch.is_empty() {
            self.batch_since = Instant::now();
        }
        self.batch.push(change);
        self.summary.files_changed += 1;
        self.upstream.files_changed.fetch_add(1, Ordering::Relaxed);
        if self.batch.len() >= BATCH_CHANGES_MAX {
            return self.commit_batch().await;
        }
        self.commit_if_old().await
    }

    async fn commit_if_old(&mut self) -> Result<(), PassError> {
        if self.batch.is_empty() || self.batch_since.elapsed() < BATCH_AGE_MAX {
            return Ok(());
        }
        self.commit_batch().await
    }

    /// Hands the batch to the writer; at most one batch is on its way.
    async fn commit_batch(&mut self) -> Result<(), PassError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.wait_for_commit().await?;
        let batch = Batch {
            origin: self.row,
            changes: std::mem::take(&mut self.batch),
            now_ns: unix_nanos_now(),
        };
        let shared = self.shared.clone();
        // To its end whatever becomes of this pass: the kernel has to hear of each commit.
        self.commit = Some(self.upstream.finish(async move {
            let commit = shared.index.writer.apply(batch).await?;
            shared.committed(commit).await;
            Ok(())
        }));
        self.publish();
        Ok(())
    }

    async fn wait_for_commit(&mut self) -> Result<(), PassError> {
        if let Some(commit) = self.commit.take() {
            commit.await.unwrap_or(Err(musicfs_index::Error::Closed))?;
        }
        Ok(())
    }

    fn publish(&mut self) {
        self.progress.files_scanned = self.summary.files_scanned;
        self.progress.files_changed = self.summary.files_changed;
        self.progress.bytes_read = self.summary.bytes_read;
        self.upstream.progress.send_replace(self.progress.clone());
    }
}

/// What a file of this name is to the library.
fn classify(name: &[u8]) -> Option<FileKind> {
    let extension = names::extension_of(name);
    if musicfs_media::is_audio(&extension) {
        return Some(FileKind::Track);
    }
    musicfs_media::is_companion(&extension).then_some(FileKind::Companion)
}

fn version_key(origin: &dyn Origin, fresh: &Fresh) -> VersionKey {
    let path = fresh.path().unwrap_or_default();
    let key = origin
        .key()
        .expect("an origin that has listed knows its key");
    VersionKey::new(&key, &origin.key_path(&path), &fresh.listed.version)
}

/// A short name of a path: at 16 bytes, a million directories never share one by chance.
fn hash(path: &OriginPath) -> [u8; 16] {
    let mut short = [0; 16];
    short.copy_from_slice(&blake3::hash(path.as_bytes()).as_bytes()[..16]);
    short
}
