//! The facade.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use musicfs_core::error::ErrorKind;
use musicfs_core::id::{Ino, OriginId};
use musicfs_core::names;
use musicfs_core::origin::Origin;
use musicfs_core::path::OriginPath;
use musicfs_index::{
    Child, FORGET_FILES_MAX, Found, Index, Node, NodeKind, OriginRow, OriginSpec, Provenance,
    Totals, TreeChange,
};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::fetch::{FetchOptions, Fetcher};
use crate::ingest::{self, Health, HealthState, Monitor, Phase, Progress, Request, Requests};
use crate::keeper::{self, Cache};
use crate::open::{Content, OpenFile};
use crate::shared::{Shared, rearrange};

/// Commits whose changes wait for the kernel adapter; then ingest waits for it.
const TREE_CHANGES_MAX: usize = 64;

/// How long an open waits for a file that changed to be indexed again.
const REFRESH_WAIT_MAX: Duration = Duration::from_secs(2);

/// A music library: its tree, its files, and the origins that they come from.
pub struct Library {
    pub(crate) shared: Arc<Shared>,
    origins: BTreeMap<OriginId, Source>,
    pub(crate) stop: CancellationToken,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

struct Source {
    origin: Arc<dyn Origin>,
    monitor: Arc<Monitor>,
    requests: Requests,
}

/// What is known of an origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginStatus {
    /// What the index says.
    pub row: OriginRow,
    /// What the last check said; unknown for an origin that is no longer configured.
    pub health: Option<Health>,
    /// How far the last pass is.
    pub progress: Option<Progress>,
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
    /// Starts a library on an index, with these origins in the order of their priority: it serves at
    /// once and scans behind. Remote origins need a cache.
    ///
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Index`] if the origins cannot be written to the index, [`Error::NoCache`] if an
    /// origin needs one.
    pub async fn start(
        index: Index,
        origins: Vec<Arc<dyn Origin>>,
        cache: Option<Cache>,
    ) -> Result<Self, Error> {
        let needs_cache = |origin: &&Arc<dyn Origin>| origin.kind().is_cached();
        if cache.is_none()
            && let Some(origin) = origins.iter().find(needs_cache)
        {
            let origin = origin.id().clone();
            return Err(Error::NoCache { origin });
        }
        let specs = (0..).zip(&origins).map(|(priority, origin)| OriginSpec {
            name: origin.id().to_string(),
            kind: origin.kind().as_str().to_owned(),
            display_name: origin.display_name(),
            priority,
        });
        let (rows, reordered) = index.writer.configure(specs.collect()).await?;
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let stop = CancellationToken::new();
        let options = cache
            .as_ref()
            .map_or_else(FetchOptions::default, |cache| cache.options);
        let fetcher = cache.map(|cache| {
            Arc::new(Fetcher::new(
                cache.store,
                cache.options,
                &origins,
                stop.clone(),
            ))
        });
        let shared = Arc::new(Shared {
            index,
            readers_max: cores * 2,
            fetcher,
            pins_changed: Notify::new(),
            read_deadline: options.read_deadline,
            tree: Mutex::new(None),
            totals: watch::Sender::default(),
        });
        shared.refresh_totals();
        let rearranged = rearrange(shared.clone(), rows.clone(), reordered);
        let mut tasks = vec![tokio::spawn(rearranged)];
        tasks.extend(keeper::spawn(&shared, &stop));
        let mut sources = BTreeMap::new();
        for (origin, row) in origins.into_iter().zip(rows) {
            let monitor = Arc::new(Monitor::new());
            let (requests, task) = ingest::spawn(
                origin.clone(),
                row,
                shared.clone(),
                monitor.clone(),
                stop.clone(),
            );
            tasks.push(task);
            sources.insert(
                origin.id().clone(),
                Source {
                    origin,
                    monitor,
                    requests,
                },
            );
        }
        Ok(Self {
            shared,
            origins: sources,
            stop,
            tasks: Mutex::new(tasks),
        })
    }

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

    /// Opens a file: resolves everything that its reads will need.
    ///
    /// # Errors
    /// [`Error::Stale`] if its content is no longer what the inode stands for: by then the index
    /// knows the new content, and a lookup of the name finds it. [`Error::Away`] if the origin seems
    /// to be out of reach.
    pub async fn open(&self, ino: Ino) -> Result<OpenFile, Error> {
        let Some(found) = self.query(|reader| reader.find(ino))? else {
            return Err(match self.node(ino)? {
                Some(_) => Error::WrongKind {
                    ino,
                    is: "a directory",
                },
                None => Error::NoEntry { ino },
            });
        };
        let source = self
            .origins
            .get(&found.origin)
            .ok_or_else(|| Error::NoOrigin {
                origin: found.origin.clone(),
            })?;
        match source.origin.kind().is_cached() {
            true => self.open_remote(source, found).await,
            false => self.open_local(source, found).await,
        }
    }

    /// Opens a file that is read through the cache: nothing is asked of its origin.
    async fn open_remote(&self, source: &Source, found: Found) -> Result<OpenFile, Error> {
        let (node, path) = (found.node, found.path.clone());
        let file = self.fetcher(&found.origin)?.file(found).await?;
        let content = Content::Remote {
            handle: file.open(),
            path,
            requests: source.requests.clone(),
        };
        Ok(OpenFile::new(node, content))
    }

    /// Opens a file on a disk of this machine, and looks whether it is the one that was indexed.
    async fn open_local(&self, source: &Source, found: Found) -> Result<OpenFile, Error> {
        let Found {
            node,
            origin: id,
            path,
            version,
            ..
        } = found;
        let ino = node.ino;
        let deadline = self.shared.read_deadline;
        match tokio::time::timeout(deadline, source.origin.open(&path, &version)).await {
            Ok(Ok(file)) if *file.version() == version => {
                let content = Content::Local {
                    origin: id,
                    file,
                    deadline,
                };
                Ok(OpenFile::new(node, content))
            }
            Ok(Ok(_)) => {
                self.refresh(source, path).await;
                Err(Error::Stale { ino })
            }
            Ok(Err(error)) if error.kind() == ErrorKind::NotFound => {
                self.refresh(source, path).await;
                match self.node(ino)? {
                    Some(_) => Err(Error::Away { ino, origin: id }),
                    None => Err(Error::Stale { ino }),
                }
            }
            Ok(Err(error)) => Err(Error::Origin {
                origin: id,
                source: error,
            }),
            Err(_) => Err(Error::Timeout { origin: id }),
        }
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

    /// All origins that the index knows.
    ///
    /// # Errors
    /// As for the other queries.
    pub fn origins(&self) -> Result<Vec<OriginStatus>, Error> {
        let rows = self.query(musicfs_index::Reader::origins)?;
        let status = |row: OriginRow| {
            let source = self.origins.iter().find(|(id, _)| id.as_str() == row.name);
            OriginStatus {
                health: source.map(|(_, source)| source.monitor.health()),
                progress: source.map(|(_, source)| source.monitor.progress.borrow().clone()),
                row,
            }
        };
        Ok(rows.into_iter().map(status).collect())
    }

    /// True while any origin is being scanned.
    pub fn is_syncing(&self) -> bool {
        let mut sources = self.origins.values();
        sources.any(|source| source.monitor.progress.borrow().phase != Phase::Complete)
    }

    /// True if any origin, or part of one, is out of reach.
    pub fn is_degraded(&self) -> bool {
        self.origins.values().any(|source| {
            matches!(
                source.monitor.health().state,
                HealthState::Unhealthy | HealthState::Degraded
            )
        })
    }

    /// The progress of an origin's passes, from now on.
    ///
    /// # Errors
    /// [`Error::NoOrigin`] if it is not configured.
    pub fn progress(&self, id: &OriginId) -> Result<watch::Receiver<Progress>, Error> {
        Ok(self.source(id)?.monitor.progress.subscribe())
    }

    /// Lists an origin anew and makes the index agree with it; returns when that is done.
    ///
    /// # Errors
    /// [`Error::NoOrigin`] if it is not configured. The inner result says why the scan failed.
    pub async fn rescan(&self, id: &OriginId) -> Result<Result<(), String>, Error> {
        ingest::ask(&self.source(id)?.requests, Request::Rescan).await
    }

    /// Has every origin listed anew, and does not wait for it.
    pub fn rescan_all(&self) {
        for (id, source) in &self.origins {
            let (reply, _) = tokio::sync::oneshot::channel();
            if source.requests.try_send(Request::Rescan(reply)).is_err() {
                tracing::warn!(origin = %id, "too much is asked of the origin already; no rescan");
            }
        }
    }

    /// Removes all that is known of an origin that is no longer configured.
    ///
    /// # Errors
    /// [`Error::InUse`] if it is configured, [`Error::NoOrigin`] if the index does not know it.
    pub async fn forget(&self, id: &OriginId) -> Result<u64, Error> {
        if self.origins.contains_key(id) {
            return Err(Error::InUse { origin: id.clone() });
        }
        let rows = self.query(musicfs_index::Reader::origins)?;
        let row = rows.into_iter().find(|row| row.name == id.as_str());
        let row = row.ok_or_else(|| Error::NoOrigin { origin: id.clone() })?;
        loop {
            let writer = &self.shared.index.writer;
            let (commit, done) = writer.forget_some(row.id, FORGET_FILES_MAX).await?;
            self.shared.committed(commit).await;
            if done {
                return Ok(row.file_count);
            }
        }
    }

    /// Ends all tasks; what they had committed stays. Lookups and open files go on working.
    pub async fn close(&self) {
        self.stop.cancel();
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

    fn source(&self, id: &OriginId) -> Result<&Source, Error> {
        self.origins
            .get(id)
            .ok_or_else(|| Error::NoOrigin { origin: id.clone() })
    }

    /// What fetches remote content.
    fn fetcher(&self, origin: &OriginId) -> Result<&Arc<Fetcher>, Error> {
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

    /// Has a path looked at again, and waits a little for the outcome.
    async fn refresh(&self, source: &Source, path: OriginPath) {
        let request = |reply| Request::Refresh(path, reply);
        // Late or not at all: the caller looks at the index either way.
        let _ =
            tokio::time::timeout(REFRESH_WAIT_MAX, ingest::ask(&source.requests, request)).await;
    }
}
