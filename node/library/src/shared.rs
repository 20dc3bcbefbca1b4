//! What the facade and the tasks of the origins have in common.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use musicfs_core::error::with_causes;
use musicfs_core::peer::Peers;
use musicfs_index::{Commit, Found, Index, Totals, TreeChange, same_content};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::copies::Choices;
use crate::events::Bus;
use crate::fetch::{Fetcher, blocking};
use crate::proof::Proofs;
use crate::upstream::Roster;

/// What the tasks of the origins and the facade have in common.
pub(crate) struct Shared {
    pub(crate) index: Index,
    /// Files of a local origin whose tags are read at once.
    pub(crate) readers_max: usize,
    /// The origins in use.
    pub(crate) roster: Arc<Roster>,
    /// Which of several copies open files are read from.
    pub(crate) choices: Arc<Choices>,
    /// What fetches and keeps remote content; `None` without a cache.
    pub(crate) fetcher: Option<Arc<Fetcher>>,
    /// Where copies are compared.
    pub(crate) proofs: Arc<Proofs>,
    /// What is pinned, or what lies under a pin, may be something else by now.
    pub(crate) pins_changed: Notify,
    /// How long a read of a local file may take.
    pub(crate) read_deadline: Duration,
    pub(crate) tree: Mutex<Option<mpsc::Sender<TreeChange>>>,
    pub(crate) totals: watch::Sender<Totals>,
    /// Where what happens is told.
    pub(crate) events: Arc<Bus>,
    pub(crate) peers: Arc<Neighbours>,
}

/// The other nodes, while this one takes part in a cluster.
#[derive(Default)]
pub(crate) struct Neighbours(watch::Sender<Membership>);

/// The exchange, and what tells those who follow it that it is over.
pub(crate) type Membership = Option<(Arc<dyn Peers>, CancellationToken)>;

impl Neighbours {
    pub(crate) fn get(&self) -> Option<Arc<dyn Peers>> {
        let now = self.0.borrow();
        now.as_ref().map(|(peers, _)| peers.clone())
    }

    /// Takes others, or none; what followed those before is told to end by their token.
    pub(crate) fn set(&self, peers: Membership) {
        if let Some((_, stop)) = self.0.send_replace(peers) {
            stop.cancel();
        }
    }

    /// The others now and from now on.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Membership> {
        self.0.subscribe()
    }
}

impl Shared {
    /// The other copies of a file that are proven to have the same bytes.
    pub(crate) fn equal_copies(&self, found: &Found) -> Result<Vec<Found>, musicfs_index::Error> {
        let mut copies = self.index.reader.replicas(found.node.ino)?;
        let is_self = |copy: &Found| copy.origin == found.origin && copy.path == found.path;
        copies.retain(|copy| !is_self(copy) && same_content(copy, found));
        Ok(copies)
    }

    /// Draws the consequences of a commit for the cache, then for the kernel adapter, and tells of it.
    pub(crate) async fn committed(&self, commit: Commit) {
        let Commit { tree, retired, .. } = commit;
        if let Some(fetcher) = &self.fetcher {
            if !retired.is_empty() {
                let store = fetcher.store.clone();
                let retire = move || retired.into_iter().for_each(|key| store.retire(key));
                // An error means that the runtime ends: what was not retired is evicted later.
                let _ = blocking(retire).await;
            }
            self.pins_changed.notify_one();
        }
        self.publish(tree).await;
        self.events.publish_files(commit.files, commit.names_untold);
    }

    /// Tells the kernel adapter what changed, and waits while it is behind.
    async fn publish(&self, change: TreeChange) {
        self.refresh_totals();
        if change.entries.is_empty() && change.directories.is_empty() {
            return;
        }
        let sender = self
            .tree
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(sender) = sender {
            // A closed channel means that nothing is mounted: nobody has cached anything.
            let _ = sender.send(change).await;
        }
    }

    /// Sees to it that a damaged index is set aside at the next start.
    pub(crate) fn note_damage(&self, error: &musicfs_index::Error) {
        if error.is_corruption() {
            match self.index.mark_damaged() {
                Ok(()) => tracing::error!(
                    "the index is damaged; restart musicfs: it sets the file aside and scans again"
                ),
                Err(error) => tracing::error!(%error, "the damage of the index cannot be noted"),
            }
        }
    }

    pub(crate) fn refresh_totals(&self) {
        match self.index.reader.totals() {
            Ok(totals) => drop(self.totals.send_replace(totals)),
            Err(error) => tracing::warn!(%error, "the totals cannot be read"),
        }
    }
}

/// Brings the tree in line with the configuration: layout, and which origins are shown.
///
/// `reordered` is what the origins' priorities have changed already.
pub(crate) async fn rearrange(shared: Arc<Shared>, configured: Vec<i64>, reordered: Commit) {
    let writer = &shared.index.writer;
    shared.committed(reordered).await;
    let outcome = async {
        for row in shared.index.reader.origins()? {
            let hidden = !configured.contains(&row.id);
            if hidden != row.hidden {
                let commit = writer.set_hidden(row.id, hidden).await?;
                shared.committed(commit).await;
            }
        }
        if let Some(commit) = writer.rebuild_if_changed().await? {
            shared.committed(commit).await;
        }
        Ok::<(), musicfs_index::Error>(())
    };
    if let Err(error) = outcome.await {
        tracing::error!(
            error = %with_causes(&error),
            "the tree still has its old layout; it is tried again at the next start"
        );
        shared.note_damage(&error);
    }
}
