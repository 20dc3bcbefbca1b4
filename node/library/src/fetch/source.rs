//! Where the bytes of one content version come from.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use musicfs_core::fetch::Latency;
use musicfs_core::id::OriginId;
use musicfs_core::origin::{Origin, OriginError, OriginFile};
use musicfs_core::path::OriginPath;
use musicfs_core::version::ContentVersion;

/// One content version at one path of one origin.
pub(crate) struct Source {
    origin: Arc<dyn Origin>,
    path: OriginPath,
    version: ContentVersion,
    /// Shared by all files of the origin.
    latency: Arc<Mutex<Latency>>,
    file: tokio::sync::Mutex<Option<Arc<dyn OriginFile>>>,
}

impl Source {
    pub(crate) fn new(
        origin: Arc<dyn Origin>,
        latency: Arc<Mutex<Latency>>,
        path: OriginPath,
        version: ContentVersion,
    ) -> Self {
        Self {
            origin,
            path,
            version,
            latency,
            file: tokio::sync::Mutex::new(None),
        }
    }

    pub(crate) fn origin(&self) -> &OriginId {
        self.origin.id()
    }

    pub(crate) fn path(&self) -> &OriginPath {
        &self.path
    }

    /// The open file: opened at the first use, kept while it works.
    ///
    /// # Errors
    /// As [`Origin::open`]; [`OriginError::Changed`] if another version lies there.
    pub(crate) async fn file(&self) -> Result<Arc<dyn OriginFile>, OriginError> {
        let mut slot = self.file.lock().await;
        if let Some(file) = &*slot {
            return Ok(file.clone());
        }
        let file = self.origin.open(&self.path, &self.version).await?;
        if *file.version() != self.version {
            return Err(OriginError::Changed {
                path: self.path.clone(),
            });
        }
        let file: Arc<dyn OriginFile> = file.into();
        *slot = Some(file.clone());
        Ok(file)
    }

    /// Has the next use open the file anew.
    pub(crate) async fn reopen(&self) {
        *self.file.lock().await = None;
    }

    /// How long to wait for the next bytes before this source is given up.
    pub(crate) fn patience(&self) -> Duration {
        self.latency().patience(Latency::PATIENCE_SOLE_MIN)
    }

    /// The first bytes of a request came after so long.
    pub(crate) fn answered(&self, after: Duration) {
        self.latency().sample(after);
    }

    fn latency(&self) -> std::sync::MutexGuard<'_, Latency> {
        self.latency.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
