//! Listing a mounted share: the local walk, one directory at a time, on the share's threads.

use std::sync::{Arc, Weak};

use musicfs_core::origin::{BoxFuture, Depth, DirListing, DirStream, OriginError};
use musicfs_core::path::OriginPath;

use super::Share;
use super::pool::{OnPool, Pool};
use crate::local::root::{Root, io_error};
use crate::local::walk::Walk;
use crate::local::walk::queue::Shared;

/// A listing under way. Dropping it ends a directory that is being read at its next entry.
pub(super) struct MountedList {
    share: Arc<Share>,
    pool: Arc<Pool>,
    under: OriginPath,
    depth: Depth,
    queue: Arc<Shared>,
    stage: Stage,
}

enum Stage {
    /// Nothing was asked for yet.
    New,
    Walking(Arc<OnPool<Walk>>),
    /// The last directory was not waited for to its end, or failed.
    Broken,
    Done,
}

/// What one call on the share finds: a directory, if one was left, and the walk that goes on.
type Found = (Arc<OnPool<Walk>>, Option<DirListing>);

impl MountedList {
    pub(super) fn new(
        share: &Arc<Share>,
        pool: &Arc<Pool>,
        under: &OriginPath,
        depth: Depth,
    ) -> Self {
        Self {
            share: Arc::clone(share),
            pool: Arc::clone(pool),
            under: under.clone(),
            depth,
            queue: Arc::default(),
            stage: Stage::New,
        }
    }

    async fn list_next(&mut self) -> Result<Option<DirListing>, OriginError> {
        // Broken until this directory is listed: also if nobody waits for that.
        let call = match std::mem::replace(&mut self.stage, Stage::Broken) {
            Stage::New => {
                let (share, pool) = (Arc::clone(&self.share), Arc::clone(&self.pool));
                let (under, depth) = (self.under.clone(), self.depth);
                let queue = Arc::clone(&self.queue);
                let first = move || list_first(&share, &pool, &under, depth, queue);
                self.pool.start("list", &self.under, first)?
            }
            Stage::Walking(walk) => {
                let next = move || Ok(list_next(walk));
                self.pool.start("list", &self.under, next)?
            }
            Stage::Broken => {
                let broken = std::io::ErrorKind::Interrupted;
                return Err(io_error("list", &self.under, broken));
            }
            Stage::Done => {
                self.stage = Stage::Done;
                return Ok(None);
            }
        };
        let (walk, listing) = call.wait_while(|| self.queue.entries_count()).await?;
        self.stage = match listing {
            Some(_) => Stage::Walking(walk),
            None => Stage::Done,
        };
        Ok(listing)
    }
}

impl DirStream for MountedList {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<DirListing>, OriginError>> {
        Box::pin(self.list_next())
    }
}

impl Drop for MountedList {
    fn drop(&mut self) {
        self.queue.stop();
    }
}

/// Opens the root and lists the directory that was asked for.
fn list_first(
    share: &Share,
    pool: &Arc<Pool>,
    under: &OriginPath,
    depth: Depth,
    queue: Arc<Shared>,
) -> Result<Found, OriginError> {
    let walk = Walk {
        root: Root::open(share.place())?,
        origin: share.id.clone(),
        watcher: Weak::new(),
        depth,
        shared: queue,
    };
    let (listing, group) = walk.list_first(under)?;
    if let Some(group) = group {
        walk.shared.add(group);
    }
    share.learn_key();
    Ok((Arc::new(OnPool::new(walk, pool)), Some(listing)))
}

/// Lists the next directory. It never waits for another one: nobody else takes from the queue.
fn list_next(walk: Arc<OnPool<Walk>>) -> Found {
    let queue = &walk.value().shared;
    let listing = queue.take().map(|item| {
        let (listing, group) = walk.value().list_or_excuse(item);
        queue.finish(group);
        listing
    });
    (walk, listing)
}
