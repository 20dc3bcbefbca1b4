//! What this node gives others, over all sessions.

use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, PoisonError};

use musicfs_core::time::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::limits::SERVED_ALL_MAX;
use crate::policy::bucket::Bucket;

/// The limits of all sessions together.
pub(crate) struct Uploads {
    slots: Arc<Semaphore>,
    paced: Option<Paced>,
}

struct Paced {
    bucket: Mutex<Bucket>,
    start: Instant,
    share_bytes: usize,
}

impl Uploads {
    /// Uploads of at most `rate` bytes of content per second in all, or as fast as can be.
    pub(crate) fn new(rate: Option<NonZeroU64>) -> Arc<Self> {
        let paced = rate.map(|rate| {
            let bucket = Bucket::new(rate);
            Paced {
                share_bytes: bucket.share_bytes(),
                bucket: Mutex::new(bucket),
                start: Instant::now(),
            }
        });
        Arc::new(Self {
            slots: Arc::new(Semaphore::new(SERVED_ALL_MAX)),
            paced,
        })
    }

    /// A place among the requests that are served at once; `None` if all are taken.
    pub(super) fn slot(&self) -> Option<OwnedSemaphorePermit> {
        self.slots.clone().try_acquire_owned().ok()
    }

    /// How many bytes to ask for at a time; `None` for any number.
    pub(super) fn share_bytes(&self) -> Option<usize> {
        self.paced.as_ref().map(|paced| paced.share_bytes)
    }

    /// Waits until `bytes` may be sent.
    pub(super) async fn turn(&self, bytes: usize) {
        let Some(paced) = &self.paced else {
            return;
        };
        let wait = {
            // Its state is whole at every point that can panic.
            let mut bucket = paced.bucket.lock().unwrap_or_else(PoisonError::into_inner);
            bucket.take(Timestamp(paced.start.elapsed()), bytes as u64)
        };
        tokio::time::sleep(wait).await;
    }
}
