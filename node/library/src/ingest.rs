//! Keeps the index true to an origin: one task per origin that walks, watches and answers requests.

mod debounce;
mod delta;
mod extract;
mod pass;
mod progress;
mod reconcile;

use std::sync::Arc;
use std::time::{Duration, Instant};

use musicfs_core::error::with_causes;
use musicfs_core::health::HealthState;
use musicfs_core::origin::{Change, LostReason, OriginError, Watch};
use musicfs_core::path::OriginPath;
use tokio::sync::{mpsc, oneshot};

use crate::events::{Event, EventKind};
use crate::shared::Shared;
use crate::upstream::Upstream;
use debounce::{Debounce, Places};
use pass::{Again, Pass, PassError, RACY_NS};
pub use progress::{Phase, Progress};

/// How often an origin is walked whose changes cannot all be watched, or of which a part is away.
const WALK_EVERY: Duration = Duration::from_secs(60);

/// Files remembered to be looked at again; beyond, everything is listed again.
const RACY_MAX: usize = 10_000;

/// How long a pass that failed is left alone before the next try.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// What others ask of an origin's task.
pub(crate) enum Request {
    /// List everything; the reply comes when it is done.
    Rescan(oneshot::Sender<Result<(), String>>),
    /// List the directory of this path, for what was found there is not what the index says.
    Refresh(OriginPath, oneshot::Sender<()>),
}

/// The way to an origin's task.
pub(crate) type Requests = mpsc::Sender<Request>;

/// Keeps the index true to an origin for as long as it is polled.
pub(crate) async fn run(
    upstream: Arc<Upstream>,
    shared: Arc<Shared>,
    inbox: mpsc::Receiver<Request>,
) {
    let ingest = Ingest {
        upstream,
        shared,
        inbox,
        watch: None,
        debounce: Debounce::default(),
        next_walk: Some(Instant::now()),
        walks_only: false,
        racy: Vec::new(),
        racy_due: None,
    };
    ingest.run().await;
}

/// The task of one origin.
struct Ingest {
    upstream: Arc<Upstream>,
    shared: Arc<Shared>,
    inbox: mpsc::Receiver<Request>,
    watch: Option<Box<dyn Watch>>,
    debounce: Debounce,
    /// When everything is to be listed next, if at all.
    next_walk: Option<Instant>,
    /// Not all changes can be watched, so walks have to find them.
    walks_only: bool,
    /// Files to look at again at `racy_due`.
    racy: Vec<OriginPath>,
    racy_due: Option<Instant>,
}

/// What woke the task.
enum Wake {
    Request(Request),
    Change(Option<Change>),
    Debounced,
    Racy,
    Walk,
    Back,
    Closed,
}

impl Ingest {
    async fn run(mut self) {
        loop {
            match self.wait().await {
                Wake::Closed => return,
                Wake::Walk => {
                    self.walk().await.ok();
                }
                // What happened while it was away was not seen.
                Wake::Back => self.next_walk = Some(Instant::now()),
                Wake::Debounced => {
                    let places = self.debounce.take();
                    self.look_at(places).await;
                }
                Wake::Racy => {
                    self.racy_due = None;
                    for path in std::mem::take(&mut self.racy) {
                        self.debounce.handle(Instant::now(), Change::Entry(path));
                    }
                }
                Wake::Change(Some(change)) => self.changed(change),
                Wake::Change(None) => {
                    tracing::warn!(origin = %self.upstream.id(), "the watch ended; walking instead");
                    self.watch = None;
                    self.next_walk = Some(Instant::now());
                }
                Wake::Request(Request::Rescan(reply)) => {
                    let outcome = self.walk().await;
                    // Whoever asked may have gone.
                    let _ = reply.send(outcome);
                }
                Wake::Request(Request::Refresh(path, reply)) => {
                    let places = Places {
                        entries: [path].into(),
                        ..Places::default()
                    };
                    self.look_at(places).await;
                    let _ = reply.send(());
                }
            }
        }
    }

    async fn wait(&mut self) -> Wake {
        let sleep = |at: Option<Instant>| async move {
            match at {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        let watch = &mut self.watch;
        let change = async {
            match watch {
                Some(watch) => watch.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = sleep(self.next_walk) => Wake::Walk,
            request = self.inbox.recv() => request.map_or(Wake::Closed, Wake::Request),
            () = sleep(self.debounce.due()) => Wake::Debounced,
            () = sleep(self.racy_due) => Wake::Racy,
            change = change => Wake::Change(change),
            () = self.upstream.back.notified() => Wake::Back,
        }
    }

    fn changed(&mut self, change: Change) {
        if let Change::Lost(reason) = &change {
            let origin = self.upstream.id();
            match reason {
                LostReason::Overflow => {
                    tracing::warn!(%origin, "changes came faster than they could be watched; walking");
                }
                LostReason::Limit => {
                    self.walks_only = true;
                    tracing::warn!(
                        %origin,
                        "not every directory can be watched; walking every {} s instead: raise \
                         fs.inotify.max_user_watches",
                        WALK_EVERY.as_secs()
                    );
                }
            }
        }
        self.debounce.handle(Instant::now(), change);
    }

    /// Lists everything, with the watch placed first. A failure has been logged and noted as health;
    /// its text is for whoever asked for the walk.
    async fn walk(&mut self) -> Result<(), String> {
        self.next_walk = None;
        self.debounce.take();
        if self.watch.is_none() {
            match self.upstream.origin().watch() {
                Ok(Some(watch)) => self.watch = Some(watch),
                Ok(None) => self.walks_only = true,
                Err(error) => {
                    self.walks_only = true;
                    self.warn("changes cannot be watched; walking instead", &error);
                }
            }
        }
        let started = Instant::now();
        let upstream = self.upstream.clone();
        upstream
            .events
            .publish(|| upstream.event(EventKind::SyncStarted));
        let mut pass = self.pass();
        let outcome = pass.everything().await;
        let again = pass.finish(&outcome);
        upstream.events.publish(|| synced(&upstream, &outcome));
        self.concluded(&outcome, started, true);
        self.look_again(again);
        if self.walks_only && outcome.is_ok() && self.next_walk.is_none() {
            let every = match self.upstream.origin().kind().is_cached() {
                true => self.upstream.setup.rescan_every,
                false => WALK_EVERY,
            };
            self.next_walk = Some(Instant::now() + every);
        }
        outcome.map(drop).map_err(|error| error.to_string())
    }

    /// Lists the places where something changed.
    async fn look_at(&mut self, places: Places) {
        if places.everything {
            self.walk().await.ok();
            return;
        }
        let started = Instant::now();
        let mut pass = self.pass();
        let outcome = pass.places(places).await;
        let again = pass.finish(&outcome);
        self.concluded(&outcome, started, false);
        self.look_again(again);
    }

    fn pass(&self) -> Pass {
        Pass::new(self.upstream.clone(), self.shared.clone())
    }

    /// Files that changed while they were read are looked at again when it is quiet, those whose
    /// time proves nothing yet a little later.
    fn look_again(&mut self, again: Again) {
        for path in again.stale {
            self.debounce.handle(Instant::now(), Change::Entry(path));
        }
        if again.racy.is_empty() {
            return;
        }
        self.racy.extend(again.racy);
        self.racy_due = Some(Instant::now() + Duration::from_nanos(RACY_NS));
        if self.racy.len() > RACY_MAX {
            self.racy.clear();
            self.racy_due = None;
            self.next_walk = Some(Instant::now() + WALK_EVERY);
        }
    }

    /// Draws the consequences of a pass: health, the next try, one line in the log.
    fn concluded(
        &mut self,
        outcome: &Result<pass::Summary, PassError>,
        started: Instant,
        whole: bool,
    ) {
        match outcome {
            Ok(summary) => {
                let partial =
                    (summary.away > 0).then(|| format!("{} files are out of reach", summary.away));
                if summary.away > 0 {
                    // Nothing tells when a file system is mounted over a directory.
                    self.next_walk = Some(Instant::now() + WALK_EVERY);
                }
                let is_known = self.upstream.health().state == HealthState::Degraded;
                if summary.away > 0 && !is_known {
                    tracing::warn!(
                        origin = %self.upstream.id(),
                        files = summary.away,
                        "files are missing together with their file system: they stay listed; \
                         mount it again, or forget the origin"
                    );
                }
                if summary.header_bytes_unkept > 0 {
                    tracing::warn!(
                        origin = %self.upstream.id(),
                        bytes = summary.header_bytes_unkept,
                        "the headers of some files find no room: raise header_limit by so much, \
                         or scans by other programs will read them from the origin"
                    );
                }
                if whole {
                    tracing::info!(
                        origin = %self.upstream.id(),
                        files = summary.files_scanned,
                        changed = summary.files_changed,
                        bytes_read = summary.bytes_read,
                        seconds = started.elapsed().as_secs_f32(),
                        "scanned"
                    );
                }
                self.upstream.listed(partial);
                if whole {
                    self.shared.proofs.listed();
                }
            }
            Err(PassError::Origin(error)) => {
                self.upstream.lost(error);
                // The watch hangs on a root that is gone; a check finds it when it returns.
                self.watch = None;
            }
            Err(PassError::Index(error)) => {
                let message = format!("the index cannot be used: {}", with_causes(error));
                tracing::error!(
                    origin = %self.upstream.id(),
                    error = %with_causes(error),
                    "the index cannot be used; trying again in {} s: make room or mend the disk",
                    RETRY_AFTER.as_secs()
                );
                self.upstream.listed(Some(message));
                self.shared.note_damage(error);
                self.next_walk = Some(Instant::now() + RETRY_AFTER);
            }
        }
    }

    fn warn(&self, what: &str, error: &OriginError) {
        tracing::warn!(origin = %self.upstream.id(), error = %with_causes(error), "{what}");
    }
}

/// The end of a walk, as an event.
fn synced(upstream: &Upstream, outcome: &Result<pass::Summary, PassError>) -> Event {
    let event = upstream.event(EventKind::SyncCompleted);
    match outcome {
        Ok(summary) => event
            .with("files_scanned", &summary.files_scanned)
            .with("files_changed", &summary.files_changed)
            .with("bytes_read", &summary.bytes_read),
        Err(error) => event.with("error", error),
    }
}

/// Seconds since 1970.
pub(crate) fn unix_now() -> i64 {
    unix_nanos_now() / 1_000_000_000
}

/// Nanoseconds since 1970; a clock before that counts as 1970.
pub(crate) fn unix_nanos_now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
    })
}
