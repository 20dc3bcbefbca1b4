//! Finds out which copies are equal: by the MD5 of what is cached completely, and by checksums that
//! origins tell.

use std::sync::Arc;

use md5::{Digest, Md5};
use musicfs_core::checksum::Checksum;
use musicfs_core::error::with_causes;
use musicfs_core::extents::Extents;
use musicfs_core::id::FileId;
use musicfs_core::origin::OriginKind;
use musicfs_core::version::{Validator, VersionKey};
use musicfs_index::Found;
use tokio::sync::mpsc;

use crate::error::Error;
use crate::fetch::{Fetcher, blocking};
use crate::shared::Shared;
use crate::upstream::Upstream;

/// What waits to be looked at; more is looked at after the next listing.
const JOBS_MAX: usize = 256;

/// The largest file that is fetched only to learn whether a bucket's ETags are MD5s. What is fetched
/// is kept, so it is no more than a file played early.
const PROBE_BYTES_MAX: u64 = 16 << 20;

/// Files that are looked up at once.
const PAGE_LEN: usize = 256;

/// How much of an object is read at once.
const PIECE_BYTES: u64 = 1 << 20;

/// What there may be something to learn from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Job {
    /// All of this version is in the store.
    Complete(VersionKey),
    /// An origin was listed.
    Listed,
}

/// The way to the task that learns.
pub(crate) type Jobs = mpsc::Sender<Job>;

pub(crate) fn channel() -> (Jobs, mpsc::Receiver<Job>) {
    mpsc::channel(JOBS_MAX)
}

/// Learns for as long as it is polled.
pub(crate) async fn run(shared: Arc<Shared>, fetcher: Arc<Fetcher>, mut jobs: mpsc::Receiver<Job>) {
    while let Some(job) = jobs.recv().await {
        let outcome = match job {
            Job::Complete(version) => complete(&shared, &fetcher, version).await,
            Job::Listed => listed(&shared, &fetcher).await,
        };
        if let Err(error) = outcome {
            tracing::debug!(error = %with_causes(&error), "copies could not be compared");
        }
    }
}

async fn complete(
    shared: &Arc<Shared>,
    fetcher: &Arc<Fetcher>,
    version: VersionKey,
) -> Result<(), Error> {
    let Some(found) = shared.index.reader.find_version(version)? else {
        return Ok(());
    };
    let is_unknown_etag =
        matches!(found.version.validator, Validator::ETag(_)) && !found.etag_is_md5;
    let has_copies = || Ok::<_, Error>(shared.index.reader.replicas(found.node.ino)?.len() > 1);
    if found.md5.is_none() && (is_unknown_etag || has_copies()?) {
        note(shared, fetcher, &found).await?;
    }
    Ok(())
}

async fn listed(shared: &Arc<Shared>, fetcher: &Arc<Fetcher>) -> Result<(), Error> {
    for upstream in shared.roster.all() {
        if upstream.standing().is_away() {
            continue;
        }
        match upstream.origin().kind() {
            OriginKind::S3 => probe(shared, fetcher, &upstream).await?,
            _ => ask(shared, &upstream).await?,
        }
    }
    Ok(())
}

/// Learns whether a bucket's ETags are MD5s, from the smallest file, if any copy depends on it.
async fn probe(
    shared: &Arc<Shared>,
    fetcher: &Arc<Fetcher>,
    upstream: &Upstream,
) -> Result<(), Error> {
    let (reader, row) = (shared.clone(), upstream.row);
    let found = blocking(move || reader.index.reader.etag_probe(row, PROBE_BYTES_MAX)).await??;
    let Some(found) = found else { return Ok(()) };
    let file = fetcher.file(found.clone(), Vec::new()).await?;
    file.prefetch(&Extents::from(0..found.version.size)).await?;
    note(shared, fetcher, &found).await
}

/// Asks an origin for the checksums of all copies on it that nothing is proven of.
async fn ask(shared: &Arc<Shared>, upstream: &Upstream) -> Result<(), Error> {
    let mut after = FileId(0);
    loop {
        let (reader, row) = (shared.clone(), upstream.row);
        let page = move || reader.index.reader.unproven(row, after, PAGE_LEN);
        let page = blocking(page).await??;
        let Some((last, _)) = page.last() else {
            return Ok(());
        };
        after = *last;
        for (_, found) in page {
            let asked = upstream.origin().checksum(&found.path, &found.version);
            match asked.await {
                Ok(Some(Checksum::Md5(md5))) => {
                    let writer = &shared.index.writer;
                    writer.note_md5(found.version_key, md5).await?;
                }
                Ok(Some(_)) => {}
                // It has none of any file.
                Ok(None) => return Ok(()),
                Err(error) if error.kind().may_pass() => {
                    upstream.failed(&error);
                    return Ok(());
                }
                Err(error) => tracing::debug!(
                    origin = %upstream.id(),
                    file = %found.path,
                    error = %with_causes(&error),
                    "a checksum could not be had"
                ),
            }
        }
    }
}

/// Hashes what is cached of a file, if that is all of it, and remembers the MD5.
async fn note(shared: &Arc<Shared>, fetcher: &Arc<Fetcher>, found: &Found) -> Result<(), Error> {
    let (version, size) = (found.version_key, found.version.size);
    let store = fetcher.store.clone();
    let md5 = blocking(move || {
        let object = store.object(version, size)?;
        let mut hash = Md5::new();
        let mut at = 0;
        while at < size {
            let end = size.min(at + PIECE_BYTES);
            let Some(bytes) = object.read(at..end)? else {
                return Ok(None);
            };
            hash.update(&bytes);
            at = end;
        }
        Ok::<_, Error>(Some(hash.finalize().into()))
    });
    if let Some(md5) = md5.await?? {
        shared.index.writer.note_md5(version, md5).await?;
    }
    Ok(())
}
