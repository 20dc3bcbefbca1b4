//! Where the bytes of one content version come from.

use std::sync::Arc;
use std::time::Duration;

use musicfs_core::error::ErrorKind;
use musicfs_core::id::OriginId;
use musicfs_core::origin::{OriginError, OriginFile, OriginKind};
use musicfs_core::path::OriginPath;
use musicfs_core::version::ContentVersion;

use crate::upstream::Upstream;

/// One content version at one path of one origin.
pub(crate) struct Source {
    upstream: Arc<Upstream>,
    path: OriginPath,
    version: ContentVersion,
    file: tokio::sync::Mutex<Option<Arc<dyn OriginFile>>>,
}

impl Source {
    pub(crate) fn new(upstream: Arc<Upstream>, path: OriginPath, version: ContentVersion) -> Self {
        Self {
            upstream,
            path,
            version,
            file: tokio::sync::Mutex::new(None),
        }
    }

    pub(crate) fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    pub(crate) fn origin(&self) -> &OriginId {
        self.upstream.id()
    }

    pub(crate) fn path(&self) -> &OriginPath {
        &self.path
    }

    /// True if both mean the same place.
    pub(crate) fn is_at(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.upstream, &other.upstream)
            && self.path == other.path
            && self.version == other.version
    }

    /// The open file: opened at the first use, kept while it works.
    ///
    /// # Errors
    /// As [`Origin::open`](musicfs_core::origin::Origin::open); [`OriginError::Changed`] if another
    /// version lies there.
    pub(crate) async fn file(&self) -> Result<Arc<dyn OriginFile>, OriginError> {
        let mut slot = self.file.lock().await;
        if let Some(file) = &*slot {
            return Ok(file.clone());
        }
        let origin = self.upstream.origin();
        let file = origin.open(&self.path, &self.version).await?;
        if *file.version() != self.version {
            return Err(OriginError::Changed {
                path: self.path.clone(),
            });
        }
        let file: Arc<dyn OriginFile> = file.into();
        *slot = Some(file.clone());
        Ok(file)
    }

    /// A try failed: the next opens the file anew, and whoever looks after the origin is told.
    pub(crate) async fn failed(&self, error: &OriginError) {
        *self.file.lock().await = None;
        self.upstream.failed(error);
        if matches!(error.kind(), ErrorKind::Stale | ErrorKind::NotFound) {
            self.upstream.request_refresh(self.path.clone());
        }
    }

    /// What an error means for the next try. A share that loses its connection may say that an open
    /// file is gone or another one: then what lies at the path tells.
    pub(crate) async fn meaning(&self, error: &OriginError, patience: Duration) -> ErrorKind {
        let kind = error.kind();
        let is_share = matches!(
            self.upstream.origin().kind(),
            OriginKind::Nfs | OriginKind::Smb
        );
        if !is_share || !matches!(kind, ErrorKind::Stale | ErrorKind::NotFound) {
            return kind;
        }
        match tokio::time::timeout(patience, self.file()).await {
            Ok(Ok(_)) => ErrorKind::Unavailable,
            Ok(Err(error)) => error.kind(),
            Err(_) => ErrorKind::DeadlineExceeded,
        }
    }

    /// How long to wait for the next bytes before this source is given up; `min` is the least.
    pub(crate) fn patience(&self, min: Duration) -> Duration {
        self.upstream.patience(min)
    }
}
