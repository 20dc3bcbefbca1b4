//! The origins of a library: taking them into use and out of it, what is known of them, scans.

use std::sync::{Arc, Mutex};

use musicfs_core::health::HealthState;
use musicfs_core::id::OriginId;
use musicfs_index::{Commit, FORGET_FILES_MAX, Index, OriginRow, OriginSpec};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::Library;
use crate::copies::Choices;
use crate::error::Error;
use crate::fetch::{FetchOptions, Fetcher};
use crate::ingest::{Phase, Progress, Request};
use crate::keeper::{self, Cache};
use crate::proof::Proofs;
use crate::shared::{Neighbours, Shared, rearrange};
use crate::upstream::{Health, OriginFigures, OriginSetup, Roster, Upstream};

/// What is known of an origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginStatus {
    /// What the index says.
    pub row: OriginRow,
    /// What its use and checks said; `None` for an origin that is no longer configured.
    pub health: Option<Health>,
    /// How far the last pass is.
    pub progress: Option<Progress>,
}

/// What a change of the origins came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// New, or configured again.
    pub added: Vec<OriginId>,
    /// No longer configured: hidden, not forgotten.
    pub removed: Vec<OriginId>,
    /// Used in another way than before.
    pub changed: Vec<OriginId>,
}

impl Reloaded {
    /// True if all stays as it was.
    pub fn is_nothing(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

impl Library {
    /// Starts a library on an index with these origins: it serves at once and scans behind. Remote
    /// origins need a cache.
    ///
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Index`] if the origins cannot be written to the index, [`Error::NoCache`] if an
    /// origin needs one.
    pub async fn start(
        index: Index,
        origins: Vec<OriginSetup>,
        cache: Option<Cache>,
    ) -> Result<Self, Error> {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let stop = CancellationToken::new();
        let options = cache
            .as_ref()
            .map_or_else(FetchOptions::default, |cache| cache.options);
        let roster = Arc::<Roster>::default();
        let proofs = Arc::<Proofs>::default();
        let peers = Arc::<Neighbours>::default();
        let choices = Arc::<Choices>::default();
        let fetcher = cache.map(|cache| {
            let (roster, stop) = (roster.clone(), stop.clone());
            let Cache { store, options } = cache;
            let (proofs, peers, choices) = (proofs.clone(), peers.clone(), choices.clone());
            Arc::new(Fetcher::new(
                store, options, roster, proofs, peers, choices, stop,
            ))
        });
        let shared = Arc::new(Shared {
            index,
            readers_max: cores * 2,
            roster,
            choices,
            fetcher,
            proofs,
            pins_changed: Notify::new(),
            read_deadline: options.read_deadline,
            tree: Mutex::new(None),
            totals: watch::Sender::default(),
            events: Arc::default(),
            peers,
        });
        shared.refresh_totals();
        let library = Self {
            shared,
            stop,
            tasks: Mutex::default(),
            reloading: tokio::sync::Mutex::default(),
        };
        let (rows, reordered) = library.configure(&origins).await?;
        let arrange = rearrange(library.shared.clone(), rows.clone(), reordered);
        let arrange = tokio::spawn(arrange);
        library.take_into_use(origins, &rows);
        let mut tasks = keeper::spawn(&library.shared, &library.stop);
        tasks.push(arrange);
        Ok(Self {
            tasks: Mutex::new(tasks),
            ..library
        })
    }

    /// Uses these origins from now on instead of those so far. Those that stay as they are go on
    /// undisturbed; what is open stays open.
    ///
    /// # Errors
    /// As [`Library::start`]; nothing has changed then.
    pub async fn reload(&self, origins: Vec<OriginSetup>) -> Result<Reloaded, Error> {
        let _one = self.reloading.lock().await;
        let (rows, reordered) = self.configure(&origins).await?;
        let mut outcome = Reloaded::default();
        for upstream in self.shared.roster.all() {
            let id = upstream.id();
            let wanted = origins.iter().find(|setup| setup.origin.id() == id);
            if wanted.is_some_and(|setup| *setup == upstream.setup) {
                continue;
            }
            self.shared.roster.remove(id);
            upstream.end().await;
            match wanted {
                Some(_) => outcome.changed.push(id.clone()),
                None => outcome.removed.push(id.clone()),
            }
        }
        rearrange(self.shared.clone(), rows.clone(), reordered).await;
        let taken = self.take_into_use(origins, &rows);
        let is_new = |id: &OriginId| !outcome.changed.contains(id);
        outcome.added = taken.into_iter().filter(is_new).collect();
        Ok(outcome)
    }

    /// Tells the index of the origins; returns their rows in the same order, and what other
    /// priorities changed in the tree.
    async fn configure(&self, origins: &[OriginSetup]) -> Result<(Vec<i64>, Commit), Error> {
        let needs_cache = |setup: &&OriginSetup| setup.origin.kind().is_cached();
        if self.shared.fetcher.is_none()
            && let Some(setup) = origins.iter().find(needs_cache)
        {
            let origin = setup.origin.id().clone();
            return Err(Error::NoCache { origin });
        }
        let specs = origins.iter().map(|setup| OriginSpec {
            name: setup.origin.id().to_string(),
            kind: setup.origin.kind().as_str().to_owned(),
            display_name: setup.origin.display_name(),
            priority: setup.priority,
        });
        let specs = specs.collect();
        Ok(self.shared.index.writer.configure(specs).await?)
    }

    /// Takes those into use that are not; returns which.
    fn take_into_use(&self, origins: Vec<OriginSetup>, rows: &[i64]) -> Vec<OriginId> {
        let roster = &self.shared.roster;
        let mut taken = Vec::new();
        for (setup, row) in origins.into_iter().zip(rows) {
            let id = setup.origin.id().clone();
            if roster.get(&id).is_none() {
                roster.insert(Upstream::start(setup, *row, &self.shared, &self.stop));
                taken.push(id);
            }
        }
        taken
    }

    /// All origins that the index knows.
    ///
    /// # Errors
    /// As for the other queries.
    pub fn origins(&self) -> Result<Vec<OriginStatus>, Error> {
        let rows = self.query(musicfs_index::Reader::origins)?;
        let upstreams = self.shared.roster.all();
        let status = |row: OriginRow| {
            let of_row = |upstream: &&Arc<Upstream>| upstream.id().as_str() == row.name;
            let upstream = upstreams.iter().find(of_row);
            OriginStatus {
                health: upstream.map(|upstream| upstream.health()),
                progress: upstream.map(|upstream| upstream.progress.borrow().clone()),
                row,
            }
        };
        Ok(rows.into_iter().map(status).collect())
    }

    /// What the origins in use did since they were taken into use, by id. From memory.
    pub fn figures(&self) -> Vec<OriginFigures> {
        let upstreams = self.shared.roster.all();
        upstreams
            .iter()
            .map(|upstream| upstream.figures())
            .collect()
    }

    /// True while any origin is being scanned.
    pub fn is_syncing(&self) -> bool {
        let upstreams = self.shared.roster.all();
        let is_syncing =
            |upstream: &Arc<Upstream>| upstream.progress.borrow().phase != Phase::Complete;
        upstreams.iter().any(is_syncing)
    }

    /// True if any origin, or part of one, is out of reach.
    pub fn is_degraded(&self) -> bool {
        let upstreams = self.shared.roster.all();
        upstreams.iter().any(|upstream| {
            matches!(
                upstream.health().state,
                HealthState::Unhealthy | HealthState::Degraded
            )
        })
    }

    /// The progress of an origin's passes, from now on.
    ///
    /// # Errors
    /// [`Error::NoOrigin`] if it is not configured.
    pub fn progress(&self, id: &OriginId) -> Result<watch::Receiver<Progress>, Error> {
        Ok(self.upstream(id)?.progress.subscribe())
    }

    /// Lists an origin anew and makes the index agree with it; returns when that is done.
    ///
    /// # Errors
    /// [`Error::NoOrigin`] if it is not configured. The inner result says why the scan failed.
    pub async fn rescan(&self, id: &OriginId) -> Result<Result<(), String>, Error> {
        let outcome = self.upstream(id)?.ask(Request::Rescan).await;
        outcome.ok_or(Error::Closing)
    }

    /// Has every origin listed anew, and does not wait for it.
    pub fn rescan_all(&self) {
        for upstream in self.shared.roster.all() {
            if !upstream.request_rescan() {
                let id = upstream.id();
                tracing::warn!(origin = %id, "too much is asked of the origin already; no rescan");
            }
        }
    }

    /// Removes all that is known of an origin that is no longer configured.
    ///
    /// # Errors
    /// [`Error::InUse`] if it is configured, [`Error::NoOrigin`] if the index does not know it.
    pub async fn forget(&self, id: &OriginId) -> Result<u64, Error> {
        // Not while it is being taken into use.
        let _one = self.reloading.lock().await;
        if self.shared.roster.get(id).is_some() {
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
}
