//! The facade.

mod opening;
mod origins;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use musicfs_core::id::{Ino, OriginId};
use musicfs_core::names;
use musicfs_core::peer::{Holdings, Peers};
use musicfs_index::{Child, Found, Node, NodeKind, Provenance, Totals, TreeChange};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::events;
use crate::fetch::Fetcher;
use crate::holdings::Shelf;
use crate::keeper;
use crate::shared::{Membership, Shared};
use crate::upstream::Upstream;
pub use origins::{OriginStatus, Reloaded};

/// Commits whose changes wait for the kernel adapter; then ingest waits for it.
const TREE_CHANGES_MAX: usize = 64;

/// How long an open waits for a file that changed to be indexed again.
const REFRESH_WAIT_MAX: Duration = Duration::from_secs(2);

/// A music library: its tree, its files, and the origins that they come from.
pub struct Library {
    pub(crate) shared: Arc<Shared>,
    pub(crate) stop: CancellationToken,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    /// One change of the origins at a time.
    reloading: tokio::sync::Mutex<()>,
}

/// The exchange with other nodes, from one cluster to the next.
pub struct PeersChanges(watch::Receiver<Membership>);

impl PeersChanges {
    /// Waits until the node joined a cluster or left one: the exchange from then on, at once the
    /// first time. Never comes back once the library is gone. Cancellation-safe.
    pub async fn next(&mut self) -> Option<Arc<dyn Peers>> {
        if self.0.changed().await.is_err() {
            return std::future::pending().await;
        }
        let now = self.0.borrow_and_update();
        now.as_ref().map(|(peers, _)| peers.clone())
    }
}

/// The changes of the tree, for the kernel adapter.
pub struct TreeChanges(mpsc::Receiver<TreeChange>);

impl TreeChanges {
    /// Waits for the next change; `None` when the library has closed. Not for async code.
    pub fn blocking_next(&mut self) -> Option<TreeChange> {
        self.0.blocking_recv()
    }
}

impl Library {
    /// The entry called `name` in `parent`. One indexed query.
    ///
    /// # Errors
    /// [`Error::Index`], here and in the other queries.
    pub fn lookup(&self, parent: Ino, name: &str) -> Result<Option<Node>, Error> {
        self.query(|reader| reader.lookup(parent, name))
    }

    /// The entry with a number; `None` if it is no longer in the tree.
    ///
    /// # Errors
    /// As above.
    pub fn node(&self, ino: Ino) -> Result<Option<Node>, Error> {
        self.query(|reader| reader.node(ino))
    }

    /// The directory that holds an entry; the root's is the root.
    ///
    /// # Errors
    /// [`Error::NoEntry`] if it is gone.
    pub fn parent(&self, ino: Ino) -> Result<Ino, Error> {
        self.query(|reader| reader.parent(ino))?
            .ok_or(Error::NoEntry { ino })
    }

    /// Up to `limit` entries of a directory in the order of their numbers, those after `after`.
    ///
    /// # Errors
    /// [`Error::NoEntry`] if the directory is gone, [`Error::WrongKind`] if it is a file.
    pub fn children(&self, dir: Ino, after: Ino, limit: usize) -> Result<Vec<Child>, Error> {
        let children = self.query(|reader| reader.children(dir, after, limit))?;
        if children.is_empty() {
            match self.node(dir)? {
                None => return Err(Error::NoEntry { ino: dir }),
                Some(node) if node.kind == NodeKind::File => {
                    return Err(Error::WrongKind {
                        ino: dir,
                        is: "a file",
                    });
                }
                Some(_) => {}
            }
        }
        Ok(children)
    }

    /// Where the content of an entry comes from; `None` for a directory.
    ///
    /// # Errors
    /// As for the other queries.
    pub fn real_path(&self, ino: Ino) -> Result<Option<Provenance>, Error> {
        let found = self.query(|reader| reader.find(ino))?;
        Ok(found.map(|Found { origin, path, .. }| Provenance {
            origin,
            real_path: path.as_bytes().to_vec(),
            format: names::extension_of(path.name()),
        }))
    }

    /// Sums for `statfs`, from memory.
    pub fn totals(&self) -> Totals {
        *self.shared.totals.borrow()
    }

    /// Waits until there is a file to show, for `patience` at most.
    ///
    /// A media server that finds an empty library may forget all that it knew of it.
    pub async fn wait_for_files(&self, patience: Duration) {
        let mut totals = self.shared.totals.subscribe();
        let some = totals.wait_for(|totals| totals.files > 0);
        // Without any file in time, an empty tree is the truth as far as it is known.
        let _ = tokio::time::timeout(patience, some).await;
    }

    /// The changes of the tree from now on. One subscriber at a time: a second ends the first.
    pub fn subscribe_tree(&self) -> TreeChanges {
        let (sender, receiver) = mpsc::channel(TREE_CHANGES_MAX);
        *self
            .shared
            .tree
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(sender);
        TreeChanges(receiver)
    }

    /// Has other nodes be asked for content from now on.
    ///
    /// Must be called within a tokio runtime.
    pub fn join(&self, peers: Arc<dyn Peers>) {
        let stop = self.stop.child_token();
        self.shared.peers.set(Some((peers.clone(), stop.clone())));
        let events = self.shared.events.clone();
        let follow = tokio::spawn(events::follow(peers, events, stop));
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.retain(|task| !task.is_finished());
        tasks.push(follow);
    }

    /// Has nobody else be asked from now on.
    pub fn part(&self) {
        self.shared.peers.set(None);
    }

    /// What this node lets others have. One at a time is told of changes.
    pub fn holdings(&self) -> Arc<dyn Holdings> {
        Arc::new(Shelf::new(self.shared.fetcher.clone()))
    }

    /// The other nodes; `None` while this one is alone.
    pub fn peers(&self) -> Option<Arc<dyn Peers>> {
        self.shared.peers.get()
    }

    /// The other nodes from now on, whatever clusters this one joins and leaves.
    pub fn watch_peers(&self) -> PeersChanges {
        let mut receiver = self.shared.peers.subscribe();
        receiver.mark_changed();
        PeersChanges(receiver)
    }

    /// Ends all tasks; what they had committed stays. Lookups and open files go on working.
    pub async fn close(&self) {
        self.stop.cancel();
        for upstream in self.shared.roster.all() {
            upstream.end().await;
        }
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            if let Err(panic) = task.await {
                tracing::error!(%panic, "a task of the library ended in a panic");
            }
        }
        keeper::close(&self.shared).await;
        *self
            .shared
            .tree
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn upstream(&self, id: &OriginId) -> Result<Arc<Upstream>, Error> {
        let upstream = self.shared.roster.get(id);
        upstream.ok_or_else(|| Error::NoOrigin { origin: id.clone() })
    }

    /// What fetches remote content.
    pub(crate) fn fetcher(&self, origin: &OriginId) -> Result<&Arc<Fetcher>, Error> {
        let none = || Error::NoCache {
            origin: origin.clone(),
        };
        self.shared.fetcher.as_ref().ok_or_else(none)
    }

    pub(crate) fn query<T>(
        &self,
        query: impl FnOnce(&musicfs_index::Reader) -> Result<T, musicfs_index::Error>,
    ) -> Result<T, Error> {
        query(&self.shared.index.reader).map_err(|error| {
            self.shared.note_damage(&error);
            error.into()
        })
    }
}
