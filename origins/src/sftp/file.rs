//! A file of an SFTP server, open for reading.

use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use musicfs_core::origin::{ByteStream, OriginError, OriginFile};
use musicfs_core::path::OriginPath;
use musicfs_core::version::{ContentVersion, Validator};

use super::failure::Failure;
use super::pool::{Lease, Pool};
use super::session::{OpenHandle, Session, Slot};
use super::stream::Pieces;
use super::wire::{Attrs, FileType, Request, status};

/// A regular file. Its handle may be closed and opened again behind it; its version stays.
pub(crate) struct SftpFile {
    pub(crate) pool: Arc<Pool>,
    /// The origin's name for people.
    pub(crate) root: Arc<str>,
    pub(crate) path: OriginPath,
    pub(crate) version: ContentVersion,
    pub(crate) slot: Arc<Slot>,
}

impl SftpFile {
    /// Opens what lies at `path` now, in one round trip: the version is that of the path, asked
    /// for right behind the OPEN. If the path was replaced in between, the first read finds that
    /// the handle has another version.
    pub(crate) async fn open(
        pool: &Arc<Pool>,
        root: &Arc<str>,
        path: &OriginPath,
    ) -> Result<Self, Failure> {
        let mut lease = pool.lease().await?;
        let (handle, attrs) = match open_on(&lease.session, path).await {
            Err(failure) if lease.was_stale(&failure) => {
                lease = pool.fresh().await?;
                open_on(&lease.session, path).await?
            }
            done => done?,
        };
        let version = version(&attrs)?;
        let slot = Arc::new(Slot::default());
        slot.put(Arc::new(handle));
        Ok(Self {
            pool: Arc::clone(pool),
            root: Arc::clone(root),
            path: path.clone(),
            version,
            slot,
        })
    }

    /// The handle, opened again if it was closed meanwhile; and the connection that it is on.
    pub(crate) async fn handle(&self) -> Result<(Lease, Arc<OpenHandle>), Failure> {
        if let Some(handle) = self.slot.take() {
            return Ok((Lease::old(Arc::clone(&handle.session)), handle));
        }
        let lease = self.pool.lease().await?;
        match self.reopen(&lease).await {
            Err(failure) if lease.was_stale(&failure) => self.fresh_handle().await,
            done => Ok((lease, done?)),
        }
    }

    /// A handle on a connection made now.
    pub(crate) async fn fresh_handle(&self) -> Result<(Lease, Arc<OpenHandle>), Failure> {
        let lease = self.pool.fresh().await?;
        let handle = self.reopen(&lease).await?;
        Ok((lease, handle))
    }

    async fn reopen(&self, lease: &Lease) -> Result<Arc<OpenHandle>, Failure> {
        // What it has now is seen when it is read.
        let (handle, _) = open_on(&lease.session, &self.path).await.map_err(gone)?;
        let handle = Arc::new(handle);
        self.slot.put(Arc::clone(&handle));
        Ok(handle)
    }

    pub(crate) fn error(&self, failure: Failure) -> OriginError {
        failure.at("read", &self.path, &self.root)
    }
}

impl OriginFile for SftpFile {
    fn version(&self) -> &ContentVersion {
        &self.version
    }

    fn stream(&self, range: Range<u64>) -> Box<dyn ByteStream + '_> {
        Box::new(Pieces::new(self, range))
    }

    /// There is no descriptor to read through; each piece of a stream is checked by itself.
    fn is_unchanged(&self) -> bool {
        true
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// Opens `path`, which must be a regular file inside the root, and asks what it is.
async fn open_on(
    session: &Arc<Session>,
    path: &OriginPath,
) -> Result<(OpenHandle, Attrs), Failure> {
    let full = session.full_path(path);
    let place = session.place().await?;
    let requests = [
        Request::RealPath(&full),
        Request::Open(&full),
        Request::Stat(&full),
    ];
    let mut pending = session.send(&requests, Some(place)).await?.into_iter();
    let mut next = || pending.next().expect("one for each request");
    let real = session.real_path(next()).await;
    let handle = session.opened(next()).await;
    let attrs = session.attrs(next()).await;
    if session.below_root(&real?).is_none() {
        return Err(Failure::Outside);
    }
    // Said before an error of the OPEN: a directory or FIFO cannot be opened everywhere.
    let attrs = attrs?;
    match attrs.file_type() {
        FileType::File | FileType::Unknown => Ok((handle?, attrs)),
        _ => Err(Failure::NotFound),
    }
}

/// A file that was there and is no longer is one that changed.
fn gone(failure: Failure) -> Failure {
    match failure {
        Failure::Status(status::NO_SUCH_FILE) | Failure::NotFound | Failure::Outside => {
            Failure::Changed
        }
        other => other,
    }
}

/// The version that attributes tell.
///
/// # Errors
/// [`Failure::Malformed`] if they tell none.
pub(crate) fn version(attrs: &Attrs) -> Result<ContentVersion, Failure> {
    let (Some(size), Some(mtime)) = (attrs.size, attrs.mtime) else {
        return Err(Failure::Malformed("a file has no size or time"));
    };
    Ok(ContentVersion {
        size,
        validator: Validator::Mtime(mtime_ns(mtime)),
    })
}

/// Nanoseconds since 1970: this version of SFTP knows seconds (draft §5).
pub(crate) fn mtime_ns(mtime: u32) -> i64 {
    i64::from(mtime) * 1_000_000_000
}
