//! Listing what lies below a directory of the server.

mod entries;

use std::sync::Arc;

use musicfs_core::id::OriginId;
use musicfs_core::origin::{BoxFuture, Depth, DirListing, DirStream, OriginError};
use musicfs_core::path::OriginPath;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::failure::Failure;
use super::pool::{Lease, Pool};
use super::wire::status;
use entries::{Child, Contents};

/// Directories under way at once: each waits for round trips more than for anything else.
const DIRS_AT_ONCE: usize = 16;
/// Directories listed ahead of the receiver.
const LISTINGS_MAX: usize = 64;
/// Directories within directories; more is a loop that the server does not show as one.
const DEPTH_MAX: usize = 64;
/// Directories found and not listed yet: 4 M of them take half a gigabyte.
const PENDING_MAX: usize = 4 << 20;

/// What to list.
pub(crate) struct Request {
    pub(crate) origin: OriginId,
    pub(crate) pool: Arc<Pool>,
    /// The origin's name for people.
    pub(crate) root: Arc<str>,
    pub(crate) under: OriginPath,
    pub(crate) depth: Depth,
}

/// A walk, which starts at the first [`DirStream::next`]. Dropping it ends its tasks.
pub(crate) struct WalkStream {
    request: Arc<Request>,
    /// `None` behind the last listing.
    listings: Option<mpsc::Receiver<Result<Option<DirListing>, OriginError>>>,
    tasks: JoinSet<()>,
}

impl WalkStream {
    pub(crate) fn new(request: Request) -> Self {
        Self {
            request: Arc::new(request),
            listings: None,
            tasks: JoinSet::new(),
        }
    }

    fn start(&mut self) -> &mut mpsc::Receiver<Result<Option<DirListing>, OriginError>> {
        let (request, tasks) = (&self.request, &mut self.tasks);
        self.listings.get_or_insert_with(|| {
            let (tx, rx) = mpsc::channel(LISTINGS_MAX);
            let request = Arc::clone(request);
            tasks.spawn(async move {
                let walked = request.walk(&tx).await;
                let last = walked
                    .map(|()| None)
                    .map_err(|(failure, path)| failure.at("list", &path, &request.root));
                // Whoever dropped the receiver wants no more.
                let _ = tx.send(last).await;
            });
            rx
        })
    }
}

impl DirStream for WalkStream {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<DirListing>, OriginError>> {
        Box::pin(async move {
            match self.start().recv().await {
                Some(listed) => listed,
                // Its task is gone, but not because all was done: never let that pass for
                // "nothing else is there".
                None => {
                    let failure = Failure::lost(std::io::ErrorKind::Interrupted);
                    Err(failure.at("list", &self.request.under, &self.request.root))
                }
            }
        })
    }
}

/// A directory to list.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Item {
    /// The path that it is listed under.
    path: OriginPath,
    /// Where it really lies: another path for what is reached through a link.
    real: OriginPath,
}

impl Item {
    fn is_through_link(&self) -> bool {
        self.path != self.real
    }

    fn child(&self, child: Child) -> Option<Self> {
        Some(Self {
            path: self.path.join(&child.name).ok()?,
            real: match child.target {
                Some(real) => real,
                None => self.real.join(&child.name).ok()?,
            },
        })
    }
}

type Listed = (DirListing, Vec<Item>);

impl Request {
    async fn walk(
        self: &Arc<Self>,
        tx: &mpsc::Sender<Result<Option<DirListing>, OriginError>>,
    ) -> Result<(), (Failure, OriginPath)> {
        let under = || self.under.clone();
        let first = self.list_first().await;
        let (listing, mut pending) = first.map_err(|failure| (failure, under()))?;
        let mut next = Some(listing);
        let mut running = JoinSet::new();
        if self.depth == Depth::One {
            pending.clear();
        }
        loop {
            if let Some(listing) = next.take()
                && tx.send(Ok(Some(listing))).await.is_err()
            {
                return Ok(());
            }
            while running.len() < DIRS_AT_ONCE
                && let Some(item) = pending.pop()
            {
                let request = Arc::clone(self);
                running.spawn(async move {
                    let listed = request.list_found(&item).await;
                    listed.map_err(|failure| (failure, item.path))
                });
            }
            let Some(done) = running.join_next().await else {
                return Ok(());
            };
            let broken = |_| (Failure::lost(std::io::ErrorKind::Interrupted), under());
            let (listing, found) = done.map_err(broken)??;
            if pending.len() + found.len() > PENDING_MAX {
                return Err((Failure::Malformed("it has too many directories"), under()));
            }
            pending.extend(found);
            next = Some(listing);
        }
    }

    /// Lists the directory that was asked for. Unlike those found on the way, it must be there.
    async fn list_first(&self) -> Result<Listed, Failure> {
        let mut parts = self.under.as_bytes().split(|&byte| byte == b'/');
        if parts.any(crate::local::is_ignored) {
            return Err(Failure::NotFound);
        }
        let lease = self.pool.lease().await?;
        let read = match self.read_first(&lease).await {
            Err(failure) if lease.was_stale(&failure) => {
                self.read_first(&self.pool.fresh().await?).await
            }
            done => done,
        };
        match read {
            Ok((item, contents)) => Ok(self.listed(&item, contents)),
            Err(failure) if self.under.is_root() => Err(super::session::missing(failure)),
            Err(Failure::Status(code @ status::PERMISSION_DENIED)) => {
                let excuse = self.excuse(&self.under, code);
                Ok((excuse, Vec::new()))
            }
            Err(failure) => Err(failure),
        }
    }

    async fn read_first(&self, lease: &Lease) -> Result<(Item, Contents), Failure> {
        let item = Item {
            path: self.under.clone(),
            real: self.locate(lease).await?,
        };
        let contents = self.read(lease, &item).await?;
        Ok((item, contents))
    }

    /// Where the directory that was asked for really lies.
    async fn locate(&self, lease: &Lease) -> Result<OriginPath, Failure> {
        if self.under.is_root() {
            return Ok(OriginPath::default());
        }
        let session = &lease.session;
        let full = session.full_path(&self.under);
        let pending = session
            .send(&[super::wire::Request::RealPath(&full)], None)
            .await?;
        let pending = pending.into_iter().next().expect("one for each request");
        let real = session.real_path(pending).await?;
        session.below_root(&real).ok_or(Failure::Outside)
    }

    /// Lists a directory found on the way. What the server says against it is no failure.
    async fn list_found(&self, item: &Item) -> Result<Listed, Failure> {
        let lease = self.pool.lease().await?;
        let read = match self.read(&lease, item).await {
            Err(failure) if lease.was_stale(&failure) => {
                self.read(&self.pool.fresh().await?, item).await
            }
            done => done,
        };
        match read {
            Ok(contents) => Ok(self.listed(item, contents)),
            Err(Failure::Status(code)) => Ok((self.excuse(&item.path, code), Vec::new())),
            Err(failure) => Err(failure),
        }
    }

    fn listed(&self, item: &Item, mut contents: Contents) -> Listed {
        contents.sort();
        let depth = item.path.as_bytes().split(|&byte| byte == b'/').count();
        if depth >= DEPTH_MAX && !contents.dirs.is_empty() {
            tracing::warn!(origin = %self.origin, dir = %item.path, "directories this deep are not listed");
            contents.dirs.clear();
        }
        let listing = DirListing {
            path: item.path.clone(),
            device: None,
            files: contents.files,
            dirs: contents.dirs.iter().map(|dir| dir.name.clone()).collect(),
            complete: !contents.is_partial,
        };
        let children = contents.dirs.into_iter();
        let items = children.filter_map(|child| item.child(child)).collect();
        (listing, items)
    }

    /// The listing of a directory that cannot be read.
    fn excuse(&self, dir: &OriginPath, code: u32) -> DirListing {
        self.warn_unread(dir, code);
        DirListing {
            path: dir.clone(),
            device: None,
            files: Vec::new(),
            dirs: Vec::new(),
            complete: false,
        }
    }

    fn warn_unread(&self, dir: &OriginPath, code: u32) {
        let origin = &self.origin;
        if code == status::NO_SUCH_FILE {
            tracing::debug!(%origin, %dir, "directory went away while it was listed");
            return;
        }
        tracing::warn!(%origin, %dir, code, "directory cannot be read; what is known of it is kept");
    }
}
