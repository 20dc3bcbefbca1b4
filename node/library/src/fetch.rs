//! Remote content: cached ranges come from the store, the rest from the origin, each byte once.
//!
//! [`Fetcher`] keeps one [`RemoteFile`] for each content version in use. Its pure planner decides
//! which ranges to fetch; flights fetch them, store them, and hand them to the reads that wait.

mod flight;
mod gate;
mod handle;
mod peers;
mod remote;
mod source;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use musicfs_core::extents::Extents;
use musicfs_core::fetch::{Options, Streak};
use musicfs_core::id::OriginId;
use musicfs_core::time::Timestamp;
use musicfs_core::version::VersionKey;
use musicfs_index::Found;
use musicfs_media::HeaderProfile;
use musicfs_store::{Provenance, Store};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::copies::Choices;
use crate::error::Error;
use crate::holdings::Changes;
use crate::proof::Proofs;
use crate::shared::Neighbours;
use crate::upstream::Roster;
use gate::Gate;
pub(crate) use handle::RemoteHandle;
pub(crate) use remote::RemoteFile;
use source::OriginSource;

/// Changed files of all origins that are compared with their checksums at once: each takes a
/// processor, here or, where a server computes the checksum, there.
const DELTAS_MAX: usize = 2;

/// How remote content is fetched.
#[derive(Clone, Copy, Debug)]
pub struct FetchOptions {
    /// A read ends within this time, with bytes or with an error.
    pub read_deadline: Duration,
    /// Which programs' scans the header tier serves.
    pub header_profile: HeaderProfile,
    /// What is played is fetched to its end.
    pub complete_on_play: bool,
    /// Blocks are compared with their checksums at every read instead of at the first.
    pub check_every_read: bool,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self {
            read_deadline: Duration::from_secs(10),
            header_profile: HeaderProfile::Default,
            complete_on_play: true,
            check_every_read: false,
        }
    }
}

/// Fetches remote content for all that read it.
pub(crate) struct Fetcher {
    pub(crate) store: Arc<Store>,
    pub(crate) options: FetchOptions,
    roster: Arc<Roster>,
    /// Where copies are compared.
    proofs: Arc<Proofs>,
    pub(crate) counters: Counters,
    peers: Arc<Neighbours>,
    /// Where it is told that what readers got was false.
    choices: Arc<Choices>,
    /// What others are to be told of.
    pub(crate) changes: Arc<Changes>,
    /// Something was written to the store that is not durable yet.
    pub(crate) dirty: Notify,
    /// Set once the store takes what is written to it, or never will.
    pub(crate) recovered: tokio::sync::SetOnce<()>,
    gate: Arc<Gate>,
    /// Files that were read whole one after the other.
    streak: Mutex<Streak>,
    files: Mutex<HashMap<VersionKey, Weak<RemoteFile>>>,
    started: Instant,
    pub(crate) stop: CancellationToken,
    /// Held while a candidate for a changed file is compared with its checksum.
    pub(crate) delta_slots: tokio::sync::Semaphore,
    /// Where flights run: reads and closes may come from threads that are not the runtime's.
    runtime: Handle,
}

/// What was read, and from where.
#[derive(Default)]
pub(crate) struct Counters {
    /// Reads that the store answered alone.
    pub(crate) hits: AtomicU64,
    /// Reads that an origin was needed for.
    pub(crate) misses: AtomicU64,
    /// Changed files whose content was put together from their old one, and proven.
    pub(crate) deltas: AtomicU64,
    /// Bytes of them that were not fetched for that.
    pub(crate) delta_bytes_saved: AtomicU64,
    /// Changed files that might have been, but nothing proved it.
    pub(crate) deltas_unproven: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }
}

impl Fetcher {
    /// Must be called within a tokio runtime.
    pub(crate) fn new(
        store: Arc<Store>,
        options: FetchOptions,
        roster: Arc<Roster>,
        proofs: Arc<Proofs>,
        peers: Arc<Neighbours>,
        choices: Arc<Choices>,
        stop: CancellationToken,
    ) -> Self {
        let changes = Arc::<Changes>::default();
        let noted = changes.clone();
        store.watch(Box::new(move |version| noted.note(version)));
        Self {
            store,
            options,
            roster,
            proofs,
            counters: Counters::default(),
            peers,
            choices,
            changes,
            dirty: Notify::new(),
            recovered: tokio::sync::SetOnce::new(),
            gate: Arc::default(),
            streak: Mutex::default(),
            files: Mutex::default(),
            started: Instant::now(),
            stop,
            delta_slots: tokio::sync::Semaphore::new(DELTAS_MAX),
            runtime: Handle::current(),
        }
    }

    /// True if content of this origin is kept in the store.
    pub(crate) fn serves(&self, origin: &OriginId) -> bool {
        let upstream = self.roster.get(origin);
        upstream.is_some_and(|upstream| upstream.origin().kind().is_cached())
    }

    /// The ranges of a file that tag readers touch.
    pub(crate) fn header(&self, found: &Found) -> Extents {
        let profile = self.options.header_profile;
        found.layout.as_ref().map_or_else(Extents::new, |layout| {
            musicfs_media::header_extents(layout, found.version.size, profile)
        })
    }

    /// The file of an entry: the one in use, or a new one. Asks nothing of an origin. `others` are
    /// rows proven to have the same content as `found`, on other origins.
    ///
    /// # Errors
    /// [`Error::NoOrigin`] if it is not a remote one, [`Error::Store`] if the cache's disk fails in
    /// a way that reads cannot go around.
    pub(crate) async fn file(
        self: &Arc<Self>,
        found: Found,
        others: Vec<Found>,
    ) -> Result<Arc<RemoteFile>, Error> {
        let key = found.version_key;
        let header = self.header(&found);
        let (store, size) = (self.store.clone(), found.version.size);
        let none = Error::NoOrigin {
            origin: found.origin.clone(),
        };
        let mut sources: Vec<_> = std::iter::once(found)
            .chain(others)
            .filter_map(|found| self.source(found))
            .collect();
        if let Some(file) = self.in_use(key) {
            file.add_sources(sources);
            return Ok(file);
        }
        if sources.is_empty() {
            return Err(none);
        }
        let object = blocking(move || store.object(key, size)).await??;
        let mut files = self.files();
        // Somebody else may have been faster.
        if let Some(file) = files.get(&key).and_then(Weak::upgrade) {
            file.add_sources(std::mem::take(&mut sources));
            return Ok(file);
        }
        let options = Options {
            complete_on_play: self.options.complete_on_play,
        };
        let file = RemoteFile::new(self.clone(), object, sources, header, options);
        let file = Arc::new(file);
        files.insert(key, Arc::downgrade(&file));
        if file.object().is_complete() && file.object().provenance() != Provenance::Proven {
            // Its origin could not be asked when it came.
            self.proofs.complete(key);
        }
        Ok(file)
    }

    fn source(&self, found: Found) -> Option<Arc<OriginSource>> {
        let upstream = self.roster.get(&found.origin)?;
        let is_cached = upstream.origin().kind().is_cached();
        is_cached.then(|| Arc::new(OriginSource::new(upstream, found.path, found.version)))
    }

    fn streak(&self) -> MutexGuard<'_, Streak> {
        self.streak.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.started.elapsed())
    }

    fn in_use(&self, key: VersionKey) -> Option<Arc<RemoteFile>> {
        self.files().get(&key).and_then(Weak::upgrade)
    }

    /// Forgets a file that nobody uses any more.
    fn forget(&self, key: VersionKey) {
        let mut files = self.files();
        if files.get(&key).is_some_and(|file| file.strong_count() == 0) {
            files.remove(&key);
        }
    }

    fn files(&self) -> MutexGuard<'_, HashMap<VersionKey, Weak<RemoteFile>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs `work` where it may wait for a disk.
///
/// # Errors
/// [`Error::Closing`] if the runtime ends first.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => Ok(outcome),
        Err(stopped) if stopped.is_panic() => std::panic::resume_unwind(stopped.into_panic()),
        Err(_) => Err(Error::Closing),
    }
}
