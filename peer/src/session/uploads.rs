//! What this node gives others, over all sessions.

use std::num::NonZeroU64;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::limits::SERVED_ALL_MAX;

/// The limits of all sessions together.
pub(crate) struct Uploads {
    slots: Arc<Semaphore>,
    rate: Option<NonZeroU64>,
}

impl Uploads {
    /// Uploads of at most `rate` bytes per second in all, or as fast as can be.
    pub(crate) fn new(rate: Option<NonZeroU64>) -> Arc<Self> {
        Arc::new(Self {
            slots: Arc::new(Semaphore::new(SERVED_ALL_MAX)),
            rate,
        })
    }

    /// A place among the requests that are served at once; `None` if all are taken.
    pub(super) fn slot(&self) -> Option<OwnedSemaphorePermit> {
        self.slots.clone().try_acquire_owned().ok()
    }
}
