//! Finds out which copies are equal: by the MD5 of what is cached completely, and by checksums that
//! origins tell.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use md5::{Digest, Md5};
use musicfs_core::checksum::Checksum;
use musicfs_core::error::with_causes;
use musicfs_core::extents::Extents;
use musicfs_core::id::{FileId, NodeId};
use musicfs_core::manifest::ContentHash;
use musicfs_core::origin::{OriginError, OriginKind};
use musicfs_core::version::{Validator, VersionKey};
use musicfs_index::Found;
use musicfs_store::{Object, Provenance};
use tokio::sync::Notify;

use crate::error::Error;
use crate::fetch::{Fetcher, blocking};
use crate::shared::Shared;
use crate::upstream::{Reason, Upstream};

/// Versions that wait to be hashed; one beyond is hashed when it is next fetched.
const COMPLETE_MAX: usize = 256;

/// The largest file that is fetched only to learn whether a bucket's ETags are MD5s. What is fetched
/// is kept, so it is no more than a file played early.
const PROBE_BYTES_MAX: u64 = 16 << 20;

/// Files that are looked up at once.
const PAGE_LEN: usize = 256;

/// How much of an object is read at once.
const PIECE_BYTES: u64 = 1 << 20;

/// What there may be something to learn from.
#[derive(Default)]
pub(crate) struct Proofs {
    complete: Mutex<BTreeSet<VersionKey>>,
    completed: Notify,
    listed: Notify,
}

impl Proofs {
    /// All of this version is in the store.
    pub(crate) fn complete(&self, version: VersionKey) {
        let mut complete = self.waiting();
        if complete.len() < COMPLETE_MAX {
            complete.insert(version);
        }
        drop(complete);
        self.completed.notify_one();
    }

    /// An origin was listed.
    pub(crate) fn listed(&self) {
        self.listed.notify_one();
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeSet<VersionKey>> {
        self.complete.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Learns for as long as it is polled.
pub(crate) async fn run(shared: Arc<Shared>, fetcher: Arc<Fetcher>) {
    let from_cache = async {
        loop {
            shared.proofs.completed.notified().await;
            let versions = std::mem::take(&mut *shared.proofs.waiting());
            for version in versions {
                tell(complete(&shared, &fetcher, version).await);
            }
        }
    };
    let from_origins = async {
        loop {
            shared.proofs.listed.notified().await;
            tell(listed(&shared, &fetcher).await);
        }
    };
    tokio::join!(from_cache, from_origins);
}

fn tell(outcome: Result<(), Error>) {
    if let Err(error) = outcome {
        tracing::debug!(error = %with_causes(&error), "copies could not be compared");
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
    if let Some(by) = unproven(fetcher, &found).await? {
        settle(shared, fetcher, &found, by).await?;
        if unproven(fetcher, &found).await?.is_some() {
            return Ok(());
        }
    }
    let is_unknown_etag =
        matches!(found.version.validator, Validator::ETag(_)) && !found.etag_is_md5;
    let has_copies = || Ok::<_, Error>(shared.index.reader.replicas(found.node.ino)?.len() > 1);
    if found.md5.is_none() && (is_unknown_etag || has_copies()?) {
        note(shared, fetcher, &found).await?;
    }
    Ok(())
}

/// Who sent what is cached of a file, if all of it is and its origin has not proven it.
async fn unproven(fetcher: &Arc<Fetcher>, found: &Found) -> Result<Option<NodeId>, Error> {
    let (store, version) = (fetcher.store.clone(), found.version_key);
    let kept = blocking(move || store.kept(version)).await??;
    Ok(kept.and_then(|kept| match kept.provenance {
        Provenance::Proven => None,
        Provenance::Member(node) | Provenance::Provisional(node) => Some(node),
    }))
}

/// Compares what another node sent with the origin's own checksum, where there is one. Without one it
/// stays at that node's word.
async fn settle(
    shared: &Arc<Shared>,
    fetcher: &Arc<Fetcher>,
    found: &Found,
    by: NodeId,
) -> Result<(), Error> {
    let Some(upstream) = shared.roster.get(&found.origin) else {
        return Ok(());
    };
    let asked = upstream.origin().checksum(&found.path, &found.version);
    let checksum = match asked.await {
        Ok(Some(checksum)) => checksum,
        Ok(None) => return Ok(()),
        Err(error) => {
            tracing::debug!(
                origin = %upstream.id(),
                file = %found.path,
                error = %with_causes(&error),
                "what a peer sent cannot be compared with the origin's checksum now"
            );
            return Ok(());
        }
    };
    let (store, version, size) = (fetcher.store.clone(), found.version_key, found.version.size);
    let compared = blocking(move || -> Result<Option<bool>, Error> {
        let object = store.object(version, size)?;
        let mut check = checksum.check();
        if !read_all(&object, |bytes| check.update(bytes))? {
            return Ok(None);
        }
        let holds = check.holds();
        if holds {
            object.prove()?;
        }
        Ok(Some(holds))
    });
    let is_digest = match found.version.validator {
        // A tag can look like a digest and be none.
        Validator::ETag(_) => found.etag_is_md5,
        Validator::Mtime(_) => true,
    };
    match compared.await?? {
        Some(true) => fetcher.dirty.notify_one(),
        Some(false) if is_digest => fetcher.disprove(version, by).await,
        Some(false) if !upstream.has_opaque_tags() => {
            read_again(shared, fetcher, &upstream, found, by).await?;
        }
        Some(false) | None => {}
    }
    Ok(())
}

/// The tag of a file says that what a peer sent is wrong, if it is a digest: reads the file from its
/// origin, which shows both. Where tags are none, that happens once.
async fn read_again(
    shared: &Arc<Shared>,
    fetcher: &Arc<Fetcher>,
    upstream: &Upstream,
    found: &Found,
    by: NodeId,
) -> Result<(), Error> {
    let (whole, md5) = match digests(upstream, found).await {
        Ok(digests) => digests,
        Err(error) => {
            tracing::debug!(
                origin = %upstream.id(),
                file = %found.path,
                error = %with_causes(&error),
                "what a peer sent cannot be compared with the origin's bytes now"
            );
            return Ok(());
        }
    };
    let (store, version, size) = (fetcher.store.clone(), found.version_key, found.version.size);
    let is_same = blocking(move || -> Result<Option<bool>, Error> {
        let object = store.object(version, size)?;
        let Some(manifest) = object.manifest() else {
            return Ok(None);
        };
        let is_same = manifest.whole == whole;
        if is_same {
            object.prove()?;
        }
        Ok(Some(is_same))
    });
    match is_same.await?? {
        Some(true) => {
            upstream.note_opaque_tags();
            fetcher.dirty.notify_one();
        }
        Some(false) => {
            shared.index.writer.note_md5(version, md5).await?;
            fetcher.disprove(version, by).await;
        }
        None => {}
    }
    Ok(())
}

/// The digests of a file's content as its origin has it.
async fn digests(
    upstream: &Upstream,
    found: &Found,
) -> Result<(ContentHash, [u8; 16]), OriginError> {
    let origin = upstream.origin();
    let file = origin.open(&found.path, &found.version).await?;
    let mut stream = file.stream(0..found.version.size);
    let (mut whole, mut md5) = (blake3::Hasher::new(), Md5::new());
    while let Some(piece) = stream.next().await? {
        upstream.count(Reason::Heal, piece.len() as u64);
        whole.update(&piece);
        md5.update(&piece);
    }
    let whole = ContentHash(*whole.finalize().as_bytes());
    Ok((whole, md5.finalize().into()))
}

/// Reads a whole object, piece by piece; false if not all of it is there.
fn read_all(object: &Object, mut take: impl FnMut(&[u8])) -> Result<bool, Error> {
    let size = object.size();
    let mut at = 0;
    while at < size {
        let end = size.min(at + PIECE_BYTES);
        let Some(bytes) = object.read(at..end)? else {
            return Ok(false);
        };
        take(&bytes);
        at = end;
    }
    Ok(true)
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
        let is_whole = read_all(&object, |bytes| hash.update(bytes))?;
        Ok::<_, Error>(is_whole.then(|| hash.finalize().into()))
    });
    if let Some(md5) = md5.await?? {
        shared.index.writer.note_md5(version, md5).await?;
    }
    Ok(())
}
