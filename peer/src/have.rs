//! What this node announces to others.

use std::sync::Arc;

use musicfs_core::peer::Holdings;

/// What this node holds, as the other nodes are to know it; one for all sessions.
pub(crate) struct Have {
    holdings: Arc<dyn Holdings>,
}

impl Have {
    /// Announces what `holdings` holds once [`Have::run`] runs.
    pub(crate) fn new(holdings: Arc<dyn Holdings>) -> Arc<Self> {
        Arc::new(Self { holdings })
    }

    /// Follows the holdings until the library closes. Runs once, in a task of its own.
    pub(crate) async fn run(&self) {
        let mut watch = self.holdings.watch();
        while watch.next().await.is_some() {}
    }
}
