//! Content on its way from the other end.

use std::sync::Arc;

use bytes::Bytes;
use musicfs_core::origin::BoxFuture;
use musicfs_core::peer::{PeerError, PeerStream};

use super::Session;

/// What was asked for with one call, in order.
pub(super) struct Fetch {
    pub(super) session: Arc<Session>,
}

impl PeerStream for Fetch {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, PeerError>> {
        Box::pin(async { Err(self.session.gone()) })
    }
}
