//! What this node lets others have: as it is announced, and where the chunks of it lie.

mod spans;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use musicfs_core::peer::{HoldingChanges, Holdings};
use tokio::sync::watch;

use crate::policy::announce::{Announcer, Bounds, ListenerId, Overrun};
use crate::wire::{HAVE_BYTES_MAX, HAVE_OBJECTS_MAX, HAVE_RANGES_MAX, cost_of};

pub(crate) use spans::Spans;

/// Ranges that are announced of all versions together: 16 MiB of them, far more than a cache that is not
/// mostly fragments has.
const RANGES_ALL_MAX: usize = 1 << 20;

/// What this node holds, as the other nodes are to know it; one for all sessions.
pub(crate) struct Have {
    holdings: Arc<dyn Holdings>,
    announcer: Mutex<Announcer>,
    /// Counts the changes.
    changed: watch::Sender<u64>,
    spans: Spans,
}

/// One session's view of what is to be told. Dropping it ends that.
pub(crate) struct Listener<'a> {
    have: &'a Have,
    id: ListenerId,
    changed: watch::Receiver<u64>,
}

impl Have {
    /// Announces what `holdings` holds once [`Have::run`] runs.
    pub(crate) fn new(holdings: Arc<dyn Holdings>) -> Arc<Self> {
        let bounds = Bounds {
            objects_count_max: HAVE_OBJECTS_MAX,
            ranges_count_max: RANGES_ALL_MAX,
            version_ranges_count_max: HAVE_RANGES_MAX,
        };
        Arc::new(Self {
            spans: Spans::new(holdings.clone()),
            holdings,
            announcer: Mutex::new(Announcer::new(bounds)),
            changed: watch::Sender::new(0),
        })
    }

    /// Follows the holdings until the library closes. Runs once, in a task of its own; what was announced
    /// stays so when it is dropped.
    pub(crate) async fn run(&self) {
        let mut watch = self.holdings.watch();
        let mut has_warned = false;
        while let Some(changes) = watch.next().await {
            // First, for who asks later than it is told must not be served by an old table.
            for (version, _) in &changes {
                self.spans.forget(*version);
            }
            let refused_count = self.announcer().change(changes);
            if refused_count > 0 && !std::mem::replace(&mut has_warned, true) {
                tracing::warn!(
                    announced = HAVE_OBJECTS_MAX,
                    "more is cached than can be announced: other nodes will not be told of the rest"
                );
            }
            self.changed.send_modify(|count| *count += 1);
        }
    }

    /// Where the chunks of complete versions lie.
    pub(crate) fn spans(&self) -> &Spans {
        &self.spans
    }

    /// Starts to listen; the listener knows nothing.
    pub(crate) fn listen(&self) -> Listener<'_> {
        let changed = self.changed.subscribe();
        let id = self.announcer().listen();
        let have = self;
        Listener { have, id, changed }
    }

    fn announcer(&self) -> MutexGuard<'_, Announcer> {
        // Its state is whole at every point that can panic.
        self.announcer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener<'_> {
    /// What to tell next, as much as fits one frame; nothing if all was told.
    ///
    /// # Errors
    /// [`Overrun`]: too much changed since the last call; the session has to end.
    pub(crate) fn next(&mut self) -> Result<HoldingChanges, Overrun> {
        self.changed.mark_unchanged();
        self.have.announcer().next(self.id, HAVE_BYTES_MAX, cost_of)
    }

    /// Waits until there may be something to tell. Cancellation-safe.
    pub(crate) async fn changed(&mut self) {
        self.changed
            .changed()
            .await
            .expect("the sender lies in `have`, which is borrowed");
    }
}

impl Drop for Listener<'_> {
    fn drop(&mut self) {
        self.have.announcer().leave(self.id);
    }
}
