//! What looks after the cache while the library runs: start, durability, pins, end.

use std::sync::Arc;
use std::time::Duration;

use musicfs_core::error::with_causes;
use musicfs_store::Store;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::cache::keep_pins;
use crate::events::{Bus, Noticed};
use crate::fetch::{FetchOptions, Fetcher, blocking};
use crate::proof;
use crate::shared::Shared;

/// How long what was fetched may wait to become durable.
const COMMIT_AFTER: Duration = Duration::from_millis(500);

/// What a library needs for remote origins.
#[derive(Clone)]
pub struct Cache {
    /// Where content is kept.
    pub store: Arc<Store>,
    /// How it is fetched.
    pub options: FetchOptions,
}

/// Starts the tasks that look after the cache.
pub(crate) fn spawn(shared: &Arc<Shared>, stop: &CancellationToken) -> Vec<JoinHandle<()>> {
    let Some(fetcher) = &shared.fetcher else {
        return Vec::new();
    };
    let commits = {
        let (shared, fetcher, stop) = (shared.clone(), fetcher.clone(), stop.clone());
        async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = commit(&shared.events, &fetcher) => {}
            }
        }
    };
    let pins = {
        let (shared, fetcher, stop) = (shared.clone(), fetcher.clone(), stop.clone());
        async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = keep_pins(&shared, &fetcher) => {}
            }
        }
    };
    let proofs = {
        let (shared, fetcher, stop) = (shared.clone(), fetcher.clone(), stop.clone());
        async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = proof::run(shared, fetcher) => {}
            }
        }
    };
    vec![
        tokio::spawn(proofs),
        tokio::spawn(recover(fetcher.clone())),
        tokio::spawn(commits),
        tokio::spawn(pins),
    ]
}

/// Makes all that was fetched durable, and notes that the cache was left in order.
pub(crate) async fn close(shared: &Shared) {
    let Some(fetcher) = &shared.fetcher else {
        return;
    };
    let store = fetcher.store.clone();
    match blocking(move || store.close()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(
            error = %with_causes(&error),
            "the cache was not closed in order; the next start looks through it"
        ),
        Err(_) => {}
    }
}

/// Learns what the cache holds; until then nothing is written to it.
async fn recover(fetcher: Arc<Fetcher>) {
    let store = fetcher.store.clone();
    match blocking(move || store.recover()).await {
        Ok(Ok(found)) => tracing::debug!(?found, "the cache is ready"),
        Ok(Err(error)) => tracing::error!(
            error = %with_causes(&error),
            "the cache cannot be looked through: what is fetched is not kept"
        ),
        Err(_) => {}
    }
    // It is set here alone.
    let _ = fetcher.recovered.set(());
}

/// Makes what was fetched durable soon, and tells what became of other content meanwhile.
async fn commit(events: &Bus, fetcher: &Fetcher) {
    let mut noticed = Noticed::new(&fetcher.store.stats());
    loop {
        fetcher.dirty.notified().await;
        tokio::time::sleep(COMMIT_AFTER).await;
        let store = fetcher.store.clone();
        match blocking(move || store.commit_due()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(error = %with_causes(&error), "the cache's disk refuses");
            }
            Err(_) => return,
        }
        // What is evicted makes room for what is written, and damage is written over.
        let now = Noticed::new(&fetcher.store.stats());
        for event in noticed.events(now) {
            events.publish(|| event);
        }
        noticed = now;
    }
}
