//! One content version of a remote file, in use: its planner, its flights, the reads that wait.

mod drive;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use musicfs_core::extents::{Extents, to_blocks};
use musicfs_core::fetch::{
    FlightId, HandleId, Options, Planner, PrefetchId, PrefetchState, ReadId,
};
use musicfs_core::time::Timestamp;
use musicfs_store::Object;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::peers::Hearsay;
use super::source::{Cause, OriginSource, Source};
use super::{Counters, Fetcher, RemoteHandle, blocking};
use crate::error::Error;

/// How often a read looks again when the store loses what it had: eviction under pressure, or
/// damage that shows at the first read.
const ATTEMPTS_MAX: usize = 8;

/// How long a failed range is answered with the same error. The kernel asks again for each page of
/// a readahead that failed; without this, one failure would be waited for twice.
const FAILURE_REMEMBERED: Duration = Duration::from_millis(300);

/// A content version that is open, or on its way.
pub(crate) struct RemoteFile {
    pub(super) fetcher: Arc<Fetcher>,
    pub(super) object: Arc<Object>,
    /// All hold the same bytes; at least one, that of the entry at the front.
    sources: RwLock<Vec<Arc<OriginSource>>>,
    /// What peers say of the content.
    pub(super) hearsay: Hearsay,
    pub(super) header: Extents,
    /// Something came in or ended: whoever waits for a prefetch looks again.
    pub(super) progress: Notify,
    state: Mutex<State>,
}

/// What changes while a file is in use.
pub(super) struct State {
    pub(super) planner: Planner,
    waiters: BTreeMap<ReadId, Waiter>,
    flights: BTreeMap<FlightId, Control>,
    failure: Option<Failure>,
    /// When the planner is asked again, though nothing happens.
    alarm: Option<Timestamp>,
    /// The store did not keep what came last: nothing is fetched ahead that would come twice.
    pub(super) is_refused: bool,
    /// The content has been cut and hashed, or is about to be.
    pub(super) is_finished: bool,
}

/// How a flight is spoken to.
struct Control {
    stop: CancellationToken,
    ticket: u64,
    /// Where it ends; only ever lowered.
    end: Arc<AtomicU64>,
}

/// What failed last.
struct Failure {
    at: Instant,
    range: Range<u64>,
    cause: Arc<Cause>,
}

/// Bytes that came in, each piece with its place in the file; or why they did not.
type Arrival = Result<Vec<(u64, Bytes)>, Arc<Cause>>;

/// A read that waits for bytes on their way.
struct Waiter {
    missing: Extents,
    pieces: Vec<(u64, Bytes)>,
    reply: oneshot::Sender<Arrival>,
}

impl RemoteFile {
    pub(super) fn new(
        fetcher: Arc<Fetcher>,
        object: Arc<Object>,
        sources: Vec<Arc<OriginSource>>,
        header: Extents,
        options: Options,
    ) -> Self {
        let state = State {
            planner: Planner::new(object.size(), options),
            waiters: BTreeMap::new(),
            flights: BTreeMap::new(),
            failure: None,
            alarm: None,
            is_refused: false,
            is_finished: object.manifest().is_some(),
        };
        Self {
            fetcher,
            object,
            sources: RwLock::new(sources),
            hearsay: Hearsay::default(),
            header,
            progress: Notify::new(),
            state: Mutex::new(state),
        }
    }

    /// The stored content.
    pub(crate) fn object(&self) -> &Arc<Object> {
        &self.object
    }

    /// Whom to ask for what lies at `at`.
    pub(super) fn candidates(&self, at: u64) -> Vec<Source> {
        let origins = self.sources().into_iter().map(Source::Origin);
        let peers = self.holders(at).into_iter().map(Source::Peer);
        peers.chain(origins).collect()
    }

    /// The origins as they are now.
    pub(super) fn sources(&self) -> Vec<Arc<OriginSource>> {
        self.sources
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The source whose entry was opened.
    pub(super) fn leading(&self) -> Arc<OriginSource> {
        let sources = self.sources.read().unwrap_or_else(PoisonError::into_inner);
        sources.first().expect("a file has a source").clone()
    }

    /// Takes in sources that were found to hold the same bytes.
    pub(super) fn add_sources(&self, more: Vec<Arc<OriginSource>>) {
        let mut sources = self.sources.write().unwrap_or_else(PoisonError::into_inner);
        for source in more {
            if !sources.iter().any(|known| known.is_at(&source)) {
                sources.push(source);
            }
        }
    }

    /// Opens it for one more reader.
    pub(crate) fn open(self: &Arc<Self>) -> RemoteHandle {
        let now = self.fetcher.now();
        let id = self.state().planner.open(now);
        let handle = RemoteHandle::new(self.clone(), id);
        // Of a complete file nothing is fetched: the trust is for one that lacks something.
        if !self.object.is_complete() && self.fetcher.streak().take(now) {
            self.state().planner.trust(id);
        }
        handle
    }

    /// Fetches what the store lacks of `ranges`, behind everything else, and waits for it.
    ///
    /// # Errors
    /// [`Error::Fetch`] if the origin fails; what came until then is kept.
    pub(crate) async fn prefetch(self: &Arc<Self>, ranges: &Extents) -> Result<(), Error> {
        let size = self.object.size();
        let absent: Vec<_> = ranges
            .iter()
            .flat_map(|range| self.object.absent(to_blocks(range, size)))
            .collect();
        if absent.is_empty() {
            return Ok(());
        }
        let id = {
            let mut state = self.state();
            let id = state.planner.prefetch(&absent);
            self.plan(&mut state);
            self.pump(&mut state);
            id
        };
        let wish = Wish { file: self, id };
        loop {
            let changed = self.progress.notified();
            tokio::pin!(changed);
            // Before the question, so that an answer in between is not missed.
            changed.as_mut().enable();
            {
                let state = self.state();
                match (state.planner.prefetch_state(wish.id), &state.failure) {
                    (Some(PrefetchState::Done), _) => return Ok(()),
                    (Some(PrefetchState::Failed), Some(failure)) => {
                        return Err(failure.cause.to_error());
                    }
                    _ if state.is_refused => return Err(self.unstable()),
                    _ => {}
                }
            }
            tokio::select! {
                () = &mut changed => {}
                () = self.fetcher.stop.cancelled() => return Err(Error::Closing),
            }
        }
    }

    /// Reads `range`, which lies within the file, for a handle.
    pub(super) async fn read(
        self: &Arc<Self>,
        handle: HandleId,
        range: Range<u64>,
    ) -> Result<Bytes, Error> {
        self.observe(handle, &range);
        if self.object.absent(range.clone()).is_empty()
            && let Some(bytes) = self.read_stored(range.clone()).await?
        {
            Counters::add(&self.fetcher.counters.hits, 1);
            return Ok(bytes);
        }
        Counters::add(&self.fetcher.counters.misses, 1);
        let deadline = self.fetcher.options.read_deadline;
        match tokio::time::timeout(deadline, self.gather(range)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::Timeout {
                origin: self.leading().origin().clone(),
            }),
        }
    }

    /// Puts a read together: what is stored from the store, the rest from flights.
    async fn gather(self: &Arc<Self>, range: Range<u64>) -> Result<Bytes, Error> {
        let len = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let mut buffer = BytesMut::zeroed(len);
        let mut missing: Extents = Extents::from(range.clone());
        for _ in 0..ATTEMPTS_MAX {
            let fetched = self.demand(&missing)?;
            for part in self.stored(&missing) {
                if let Some(bytes) = self.read_stored(part.clone()).await? {
                    place(&mut buffer, &range, part.start, &bytes);
                    missing.remove(part);
                }
            }
            if let Some(fetched) = fetched {
                for (at, bytes) in fetched.arrived().await? {
                    place(&mut buffer, &range, at, &bytes);
                    missing.remove(at..at + bytes.len() as u64);
                }
            }
            if missing.is_empty() {
                return Ok(buffer.freeze());
            }
        }
        Err(self.unstable())
    }

    /// Has fetched what the store lacks of `missing`; `None` if it lacks nothing.
    fn demand(self: &Arc<Self>, missing: &Extents) -> Result<Option<Demand>, Error> {
        let mut state = self.state();
        // Under the lock: what arrives is stored before it is announced here, so a block is either
        // present by now, or on its way for all who ask.
        let absent: Vec<_> = missing
            .iter()
            .flat_map(|range| self.object.absent(range))
            .collect();
        if absent.is_empty() {
            return Ok(None);
        }
        if let Some(failure) = &state.failure
            && failure.at.elapsed() < FAILURE_REMEMBERED
            && absent.iter().any(|range| overlaps(range, &failure.range))
        {
            return Err(failure.cause.to_error());
        }
        let read = state.planner.demand(self.fetcher.now(), &absent);
        let (reply, answer) = oneshot::channel();
        let wanted = absent
            .iter()
            .flat_map(|range| missing.within(range.clone()))
            .collect();
        let waiter = Waiter {
            missing: wanted,
            pieces: Vec::new(),
            reply,
        };
        state.waiters.insert(read, waiter);
        self.plan(&mut state);
        self.pump(&mut state);
        Ok(Some(Demand {
            file: self.clone(),
            read,
            answer,
        }))
    }

    /// The parts of `missing` that the store has now.
    fn stored(&self, missing: &Extents) -> Vec<Range<u64>> {
        let mut stored = missing.clone();
        for range in missing.iter() {
            for absent in self.object.absent(range) {
                stored.remove(absent);
            }
        }
        stored.iter().collect()
    }

    async fn read_stored(&self, range: Range<u64>) -> Result<Option<Bytes>, Error> {
        let object = self.object.clone();
        let every = self.fetcher.options.check_every_read;
        let read = blocking(move || match every {
            true => object.read_and_check(range),
            false => object.read(range),
        });
        // A disk that fails is no reason to fail: the origin has the bytes.
        Ok(read.await?.unwrap_or_else(|error| {
            tracing::warn!(error = %musicfs_core::error::with_causes(&error), "the cache cannot be read");
            None
        }))
    }

    pub(super) fn observe(self: &Arc<Self>, handle: HandleId, range: &Range<u64>) {
        let mut state = self.state();
        let now = self.fetcher.now();
        state
            .planner
            .observe(now, handle, range.clone(), &self.header);
        let is_whole = state.planner.take_whole(handle, &self.header);
        if is_whole {
            self.fetcher.streak().ended(now);
        }
        self.plan(&mut state);
        self.pump(&mut state);
    }

    fn unstable(&self) -> Error {
        Error::Unstable {
            origin: self.leading().origin().clone(),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for RemoteFile {
    fn drop(&mut self) {
        self.fetcher.forget(self.object.version());
    }
}

/// A read that is registered with the planner until it is dropped.
struct Demand {
    file: Arc<RemoteFile>,
    read: ReadId,
    answer: oneshot::Receiver<Arrival>,
}

impl Demand {
    async fn arrived(mut self) -> Result<Vec<(u64, Bytes)>, Error> {
        match (&mut self.answer).await {
            Ok(Ok(pieces)) => Ok(pieces),
            Ok(Err(cause)) => Err(cause.to_error()),
            Err(_) => Err(Error::Closing),
        }
    }
}

impl Drop for Demand {
    fn drop(&mut self) {
        let mut state = self.file.state();
        state.waiters.remove(&self.read);
        state.planner.settle(self.file.fetcher.now(), self.read);
        self.file.pump(&mut state);
    }
}

/// A prefetch that is called off when it is dropped.
struct Wish<'a> {
    file: &'a Arc<RemoteFile>,
    id: PrefetchId,
}

impl Drop for Wish<'_> {
    fn drop(&mut self) {
        let mut state = self.file.state();
        state.planner.cancel_prefetch(self.id);
        self.file.pump(&mut state);
    }
}

fn overlaps(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

/// Copies `bytes`, which belong at `at` of the file, to their place in the buffer of `range`.
fn place(buffer: &mut BytesMut, range: &Range<u64>, at: u64, bytes: &[u8]) {
    let start = usize::try_from(at - range.start).unwrap_or(usize::MAX);
    buffer[start..start + bytes.len()].copy_from_slice(bytes);
}
