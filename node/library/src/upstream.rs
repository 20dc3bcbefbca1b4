//! An origin in use: how it fares, how far its scan is, and the way to its tasks.

mod traffic;
mod watch;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use musicfs_core::error::with_causes;
use musicfs_core::health::{HealthState, Standing, Turn, Vitals};
use musicfs_core::id::OriginId;
use musicfs_core::origin::{Origin, OriginError};
use musicfs_core::path::OriginPath;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::events::{Bus, Event, EventKind};
use crate::ingest::{self, Progress, Request, Requests, unix_now};
use crate::shared::Shared;
pub(crate) use traffic::OriginBytes;
pub use traffic::Reason;

/// Requests that wait for the task of an origin.
const REQUESTS_MAX: usize = 64;

/// An origin and how it is used.
#[derive(Clone)]
pub struct OriginSetup {
    /// The origin.
    pub origin: Arc<dyn Origin>,
    /// Lower is asked first.
    pub priority: u32,
    /// How often a remote origin is listed: nothing tells of its changes.
    pub rescan_every: Duration,
}

impl PartialEq for OriginSetup {
    /// True if it is the very same origin, used in the same way.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.origin, &other.origin)
            && self.priority == other.priority
            && self.rescan_every == other.rescan_every
    }
}

/// What is known of an origin's health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// In one word.
    pub state: HealthState,
    /// How long the last answer took.
    pub latency: Duration,
    /// What is wrong.
    pub message: Option<String>,
    /// When it was last asked, in seconds since 1970.
    pub checked_unix: i64,
}

/// What an origin did since it was taken into use; counters only grow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginFigures {
    /// Its id.
    pub id: OriginId,
    /// How it fares.
    pub health: Health,
    /// Content bytes that it sent, for every reason. What the kernel reads of a local disk by itself,
    /// or the daemon for a program, is not among them.
    pub bytes: [(Reason, u64); Reason::ALL.len()],
    /// Files that passes found new, changed, moved or gone.
    pub files_changed: u64,
}

/// An origin in use.
pub(crate) struct Upstream {
    pub(crate) setup: OriginSetup,
    /// Its row in the index.
    pub(crate) row: i64,
    pub(crate) progress: tokio::sync::watch::Sender<Progress>,
    /// What it sent so far.
    pub(crate) bytes: Arc<OriginBytes>,
    has_opaque_tags: AtomicBool,
    /// Files that passes found new, changed, moved or gone.
    pub(crate) files_changed: AtomicU64,
    /// It answers again: there may be changes that nobody saw.
    pub(crate) back: Notify,
    requests: Requests,
    /// A use failed: it is checked soon.
    doubt: Notify,
    state: Mutex<State>,
    /// Where its turns are told.
    pub(crate) events: Arc<Bus>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

struct State {
    vitals: Vitals,
    latency: Duration,
    message: Option<String>,
    checked_unix: i64,
}

impl Upstream {
    /// Takes an origin into use: it is scanned, watched and checked until [`Upstream::end`], or until
    /// `stop` is cancelled.
    pub(crate) fn start(
        setup: OriginSetup,
        row: i64,
        shared: &Arc<Shared>,
        stop: &CancellationToken,
    ) -> Arc<Self> {
        let (upstream, inbox) = Self::with_events(setup, row, stop, shared.events.clone());
        let scan = ingest::run(upstream.clone(), shared.clone(), inbox);
        upstream.spawn(scan);
        upstream.spawn(watch::run(upstream.clone()));
        upstream.tasks.close();
        upstream
    }

    /// One whose tasks do not run, and of which nobody hears.
    #[cfg(test)]
    pub(crate) fn new(
        setup: OriginSetup,
        row: i64,
        stop: &CancellationToken,
    ) -> (Arc<Self>, mpsc::Receiver<Request>) {
        Self::with_events(setup, row, stop, Arc::default())
    }

    fn with_events(
        setup: OriginSetup,
        row: i64,
        stop: &CancellationToken,
        events: Arc<Bus>,
    ) -> (Arc<Self>, mpsc::Receiver<Request>) {
        let (requests, inbox) = mpsc::channel(REQUESTS_MAX);
        let state = State {
            vitals: Vitals::new(setup.origin.kind()),
            latency: Duration::ZERO,
            message: None,
            checked_unix: 0,
        };
        let upstream = Self {
            setup,
            row,
            progress: tokio::sync::watch::Sender::new(Progress::default()),
            bytes: Arc::default(),
            has_opaque_tags: AtomicBool::new(false),
            files_changed: AtomicU64::new(0),
            back: Notify::new(),
            requests,
            doubt: Notify::new(),
            state: Mutex::new(state),
            events,
            stop: stop.child_token(),
            tasks: TaskTracker::new(),
        };
        (Arc::new(upstream), inbox)
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = task => {}
            }
        });
    }

    /// Does `work` to its end, even if the origin goes out of use meanwhile.
    pub(crate) fn finish<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.tasks.spawn(work)
    }

    /// Ends its tasks and waits for them; what they had committed stays.
    pub(crate) async fn end(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    pub(crate) fn origin(&self) -> &Arc<dyn Origin> {
        &self.setup.origin
    }

    pub(crate) fn id(&self) -> &OriginId {
        self.setup.origin.id()
    }

    /// Sends a request and waits for its answer; `None` if it goes out of use first.
    pub(crate) async fn ask<T>(
        &self,
        request: impl FnOnce(tokio::sync::oneshot::Sender<T>) -> Request,
    ) -> Option<T> {
        let (reply, answer) = tokio::sync::oneshot::channel();
        self.requests.send(request(reply)).await.ok()?;
        answer.await.ok()
    }

    /// Has everything listed anew, soon. False if too much is asked of it already.
    pub(crate) fn request_rescan(&self) -> bool {
        let (reply, _) = tokio::sync::oneshot::channel();
        self.requests.try_send(Request::Rescan(reply)).is_ok()
    }

    /// Has a path looked at again, soon: what lies there is not what the index says.
    pub(crate) fn request_refresh(&self, path: OriginPath) {
        let (reply, _) = tokio::sync::oneshot::channel();
        // A task that is this busy finds out by itself.
        let _ = self.requests.try_send(Request::Refresh(path, reply));
    }

    /// Where it stands among other sources.
    pub(crate) fn standing(&self) -> Standing {
        self.state().vitals.standing(self.setup.priority)
    }

    /// How long to wait for bytes before it is given up.
    pub(crate) fn patience(&self, min: Duration) -> Duration {
        self.state().vitals.latency().patience(min)
    }

    pub(crate) fn health(&self) -> Health {
        let state = self.state();
        Health {
            state: state.vitals.state(),
            latency: state.latency,
            message: state.message.clone(),
            checked_unix: state.checked_unix,
        }
    }

    /// True if its entity tags are known to be no digests.
    pub(crate) fn has_opaque_tags(&self) -> bool {
        self.has_opaque_tags.load(Ordering::Relaxed)
    }

    /// A tag that looks like a digest was found to be none.
    pub(crate) fn note_opaque_tags(&self) {
        self.has_opaque_tags.store(true, Ordering::Relaxed);
    }

    /// So many content bytes more came from it.
    pub(crate) fn count(&self, reason: Reason, bytes: u64) {
        self.bytes.count(reason, bytes);
    }

    /// What it did since it was taken into use.
    pub(crate) fn figures(&self) -> OriginFigures {
        OriginFigures {
            id: self.id().clone(),
            health: self.health(),
            bytes: self.bytes.all(),
            files_changed: self.files_changed.load(Ordering::Relaxed),
        }
    }

    /// The first bytes of a request came after so long.
    pub(crate) fn answered(&self, after: Duration) {
        self.note(after, |vitals| vitals.answered(after));
    }

    /// It was listed; `partial` says what of it is out of reach.
    pub(crate) fn listed(&self, partial: Option<String>) {
        self.record("", |state| {
            let turn = state.vitals.checked(partial.is_some());
            state.message = partial;
            turn
        });
    }

    /// A use failed.
    pub(crate) fn failed(&self, error: &OriginError) {
        let kind = error.kind();
        if kind.may_pass() {
            self.blame(&with_causes(error), |vitals| vitals.failed(kind));
            self.doubt.notify_one();
        }
    }

    /// It could not be listed.
    pub(crate) fn lost(&self, error: &OriginError) {
        self.blame(&with_causes(error), Vitals::lost);
        self.doubt.notify_one();
    }

    fn note(&self, latency: Duration, event: impl FnOnce(&mut Vitals) -> Turn) {
        self.record("", |state| {
            let turn = event(&mut state.vitals);
            state.latency = latency;
            if state.vitals.state() == HealthState::Healthy {
                state.message = None;
            }
            turn
        });
    }

    fn blame(&self, reason: &str, event: impl FnOnce(&mut Vitals) -> Turn) {
        self.record(reason, |state| {
            let turn = event(&mut state.vitals);
            if state.vitals.state() == HealthState::Unhealthy {
                state.message = Some(reason.to_owned());
            }
            turn
        });
    }

    /// Takes in what was just learned, and tells of a turn.
    fn record(&self, reason: &str, event: impl FnOnce(&mut State) -> Turn) {
        let turn = {
            let mut state = self.state();
            state.checked_unix = unix_now();
            event(&mut state)
        };
        self.tell(turn, reason);
    }

    /// Logs and publishes a turn, once.
    fn tell(&self, turn: Turn, reason: &str) {
        match turn {
            Turn::None => {}
            Turn::Back => {
                tracing::info!(origin = %self.id(), "the origin is back");
                self.back.notify_one();
                self.events
                    .publish(|| self.event(EventKind::OriginConnected));
            }
            Turn::Away => {
                tracing::warn!(
                    origin = %self.id(),
                    reason,
                    "the origin does not answer; what is indexed stays listed"
                );
                let event = || {
                    self.event(EventKind::OriginDisconnected)
                        .with("reason", &reason)
                };
                self.events.publish(event);
            }
        }
    }

    /// Something that happens to it now.
    pub(crate) fn event(&self, kind: EventKind) -> Event {
        Event::new(kind, Some(self.id().clone()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The origins in use, by id.
#[derive(Default)]
pub(crate) struct Roster(RwLock<BTreeMap<OriginId, Arc<Upstream>>>);

impl Roster {
    pub(crate) fn get(&self, id: &OriginId) -> Option<Arc<Upstream>> {
        self.read(|origins| origins.get(id).cloned())
    }

    pub(crate) fn all(&self) -> Vec<Arc<Upstream>> {
        self.read(|origins| origins.values().cloned().collect())
    }

    pub(crate) fn insert(&self, upstream: Arc<Upstream>) {
        let mut origins = self.0.write().unwrap_or_else(PoisonError::into_inner);
        origins.insert(upstream.id().clone(), upstream);
    }

    pub(crate) fn remove(&self, id: &OriginId) {
        let mut origins = self.0.write().unwrap_or_else(PoisonError::into_inner);
        origins.remove(id);
    }

    fn read<T>(&self, look: impl FnOnce(&BTreeMap<OriginId, Arc<Upstream>>) -> T) -> T {
        look(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}
