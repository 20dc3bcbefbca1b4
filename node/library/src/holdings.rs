//! What this node lets others have: the proven bytes of its cache.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use musicfs_core::error::with_causes;
use musicfs_core::manifest::Manifest;
use musicfs_core::origin::BoxFuture;
use musicfs_core::peer::{Held, HoldingChanges, Holdings, WatchHoldings};
use musicfs_core::version::VersionKey;
use musicfs_store::{Kept, Loan, Provenance, Store};
use tokio::sync::Notify;

use crate::fetch::{Fetcher, blocking};

/// Versions that are looked at in one step.
const STEP_LEN: usize = 512;

/// Versions that others read now: each of 64 nodes reads a file or two at a time.
const LOANS_MAX: usize = 128;

/// What the cache lets others have.
pub(crate) struct Shelf {
    /// `None` without a cache: there is nothing to share then.
    fetcher: Option<Arc<Fetcher>>,
    /// Those read last, the last at the end.
    loans: Mutex<VecDeque<(VersionKey, Arc<Loan>)>>,
}

/// Versions that changed since somebody last looked.
#[derive(Default)]
pub(crate) struct Changes {
    is_watched: AtomicBool,
    versions: Mutex<BTreeSet<VersionKey>>,
    woken: Notify,
}

/// One who is told.
struct Watch {
    fetcher: Arc<Fetcher>,
    /// Where the first tour through everything stands; `None` when it is done.
    tour: Option<Option<VersionKey>>,
    /// Taken from what changed, and not told yet.
    taken: Vec<VersionKey>,
}

impl Changes {
    /// A version changed. Never waits; the set is no larger than the store's list of versions.
    pub(crate) fn note(&self, version: VersionKey) {
        if self.is_watched.load(Ordering::Relaxed) {
            self.set().insert(version);
            self.woken.notify_one();
        }
    }

    fn set(&self) -> MutexGuard<'_, BTreeSet<VersionKey>> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Vec<VersionKey> {
        let mut versions = self.set();
        let taken: Vec<_> = versions.iter().copied().take(STEP_LEN).collect();
        for version in &taken {
            versions.remove(version);
        }
        taken
    }
}

impl Shelf {
    pub(crate) fn new(fetcher: Option<Arc<Fetcher>>) -> Self {
        Self {
            fetcher,
            loans: Mutex::default(),
        }
    }

    /// The version, for reading on behalf of others.
    async fn loan(&self, version: VersionKey) -> Option<Arc<Loan>> {
        if let Some(loan) = self.known(version) {
            return Some(loan);
        }
        let store = self.fetcher.as_ref()?.store.clone();
        let loan = blocking(move || store.lend(version)).await.ok()?;
        let loan = loan
            .inspect_err(|error| {
                tracing::debug!(%version, error = %with_causes(error), "it cannot be lent");
            })
            .ok()??;
        let loan = Arc::new(loan);
        let mut loans = self.loans();
        loans.retain(|(known, _)| *known != version);
        if loans.len() >= LOANS_MAX {
            loans.pop_front();
        }
        loans.push_back((version, loan.clone()));
        Some(loan)
    }

    fn known(&self, version: VersionKey) -> Option<Arc<Loan>> {
        let mut loans = self.loans();
        let at = loans.iter().position(|(known, _)| *known == version)?;
        let last = loans.remove(at)?;
        let loan = last.1.clone();
        loans.push_back(last);
        Some(loan)
    }

    fn forget(&self, version: VersionKey) {
        self.loans().retain(|(known, _)| *known != version);
    }

    fn loans(&self) -> MutexGuard<'_, VecDeque<(VersionKey, Arc<Loan>)>> {
        self.loans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Holdings for Shelf {
    fn watch(&self) -> Box<dyn WatchHoldings> {
        match &self.fetcher {
            Some(fetcher) => {
                fetcher.changes.is_watched.store(true, Ordering::Relaxed);
                Box::new(Watch {
                    fetcher: fetcher.clone(),
                    tour: Some(None),
                    taken: Vec::new(),
                })
            }
            None => Box::new(Nothing),
        }
    }

    fn manifest(&self, version: VersionKey) -> BoxFuture<'_, Option<Arc<Manifest>>> {
        Box::pin(async move {
            let manifest = self.loan(version).await?.manifest();
            if manifest.is_none() {
                // It may lie elsewhere by now.
                self.forget(version);
            }
            manifest
        })
    }

    fn read(&self, version: VersionKey, range: Range<u64>) -> BoxFuture<'_, Option<Bytes>> {
        Box::pin(async move {
            let loan = self.loan(version).await?;
            let read = blocking(move || loan.read(range)).await.ok()?;
            let bytes = read.unwrap_or_else(|error| {
                tracing::warn!(error = %with_causes(&error), "the cache cannot be read");
                None
            });
            if bytes.is_none() {
                self.forget(version);
            }
            bytes
        })
    }
}

impl WatchHoldings for Watch {
    fn next(&mut self) -> BoxFuture<'_, Option<HoldingChanges>> {
        Box::pin(async move {
            tokio::select! {
                () = self.fetcher.stop.clone().cancelled_owned() => None,
                changes = self.changes() => changes,
            }
        })
    }
}

impl Watch {
    async fn changes(&mut self) -> Option<HoldingChanges> {
        self.fetcher.recovered.wait().await;
        loop {
            let is_tour = self.tour.is_some();
            self.gather().await;
            let (store, versions) = (self.fetcher.store.clone(), self.taken.clone());
            let looked = move || -> HoldingChanges {
                let held = |version| (version, held(&store, version));
                versions.into_iter().map(held).collect()
            };
            let mut changes = blocking(looked).await.ok()?;
            self.taken.clear();
            if is_tour {
                changes.retain(|(_, held)| held.is_some());
            }
            if !changes.is_empty() {
                return Some(changes);
            }
        }
    }

    /// Takes what is looked at next, and waits until there is something. What was taken stays taken
    /// if the caller goes away meanwhile.
    async fn gather(&mut self) {
        if !self.taken.is_empty() {
            return;
        }
        if let Some(after) = self.tour {
            self.taken = self.fetcher.store.versions(after, STEP_LEN);
            self.tour = self.taken.last().map(|last| Some(*last));
            return;
        }
        loop {
            let woken = self.fetcher.changes.woken.notified();
            self.taken = self.fetcher.changes.take();
            if !self.taken.is_empty() {
                return;
            }
            woken.await;
        }
    }
}

/// Tells nothing, ever: there is no cache.
struct Nothing;

impl WatchHoldings for Nothing {
    fn next(&mut self) -> BoxFuture<'_, Option<HoldingChanges>> {
        Box::pin(std::future::pending())
    }
}

/// What may be told of a version.
fn held(store: &Store, version: VersionKey) -> Option<Held> {
    let kept = store.kept(version).unwrap_or_else(|error| {
        tracing::debug!(%version, error = %with_causes(&error), "it cannot be told of");
        None
    });
    announced(&kept?)
}

/// What others are told of: what is proven, and more than tag readers touch.
fn announced(kept: &Kept) -> Option<Held> {
    match kept.provenance {
        Provenance::Member(_) | Provenance::Provisional(_) => None,
        Provenance::Proven if kept.is_complete => Some(Held::Complete),
        Provenance::Proven if kept.body.is_empty() => None,
        Provenance::Proven => Some(Held::Ranges(kept.body.clone())),
    }
}

#[cfg(test)]
mod tests {
    use musicfs_core::extents::Extents;
    use musicfs_core::id::NodeId;

    use super::*;

    #[test]
    fn only_proven_bodies_are_told_of() {
        let some = Extents::from(0..65536);
        let kept = |is_complete, body: &Extents, provenance| Kept {
            size: 1 << 20,
            is_complete,
            blocks: some.clone(),
            body: body.clone(),
            provenance,
        };
        let node = NodeId::from_bytes([1; 16]);
        let none = Extents::new();
        for (kept, expect) in [
            (kept(true, &some, Provenance::Proven), Some(Held::Complete)),
            (kept(true, &none, Provenance::Proven), Some(Held::Complete)),
            (kept(false, &none, Provenance::Proven), None),
            (
                kept(false, &some, Provenance::Proven),
                Some(Held::Ranges(some.clone())),
            ),
            (kept(true, &some, Provenance::Member(node)), None),
            (kept(false, &some, Provenance::Provisional(node)), None),
        ] {
            assert_eq!(announced(&kept), expect, "{kept:?}");
        }
    }
}
