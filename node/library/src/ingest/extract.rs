//! Reads the tags of one file of an origin; of a remote one, what it reads stays in the store.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use musicfs_core::error::ErrorKind;
use musicfs_core::extents::{Extents, to_blocks};
use musicfs_core::origin::{Origin, OriginError, OriginFile, collect};
use musicfs_core::path::OriginPath;
use musicfs_core::tags::{AudioLayout, TrackInfo};
use musicfs_core::version::{ContentVersion, Sample, VersionKey};
use musicfs_media::{HeaderProfile, RangedRead};
use musicfs_store::{Class, Object, Store, Written};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::delta::Delta;
use crate::upstream::{OriginBytes, Reason};

/// What reading a track gave.
pub(crate) struct Extracted {
    /// The version that was read.
    pub(crate) version: ContentVersion,
    /// The tags; an error if the bytes make no sense.
    pub(crate) info: Result<TrackInfo, musicfs_media::ExtractError>,
    /// How its bytes are arranged.
    pub(crate) layout: AudioLayout,
    /// What its copies have in common with it.
    pub(crate) sample: Sample,
    /// Content bytes that the origin sent for it.
    pub(crate) bytes_read: u64,
    /// Bytes of the header tier that found no room in it.
    pub(crate) header_bytes_unkept: u64,
}

/// What to read.
pub(crate) struct Job {
    pub(crate) origin: Arc<dyn Origin>,
    pub(crate) path: OriginPath,
    /// Where what the origin sends is counted.
    pub(crate) bytes: Arc<OriginBytes>,
    pub(crate) listed: ContentVersion,
    pub(crate) extension: String,
    /// Where what is read is kept; `None` for an origin that needs no cache.
    pub(crate) keep: Option<Keep>,
    /// What it takes the place of, where that may help.
    pub(crate) delta: Option<Delta>,
}

/// Where the header tier of a file goes.
pub(crate) struct Keep {
    pub(crate) store: Arc<Store>,
    pub(crate) key: VersionKey,
    pub(crate) profile: HeaderProfile,
}

/// Opens the file and reads its tags on the blocking pool.
///
/// # Errors
/// The origin's, if it fails or the file changes meanwhile: try again later.
pub(crate) async fn extract(job: Job) -> Result<Extracted, OriginError> {
    let file = job.origin.open(&job.path, &job.listed).await?;
    let runtime = Handle::current();
    let path = job.path.clone();
    let work = move || read(job, file.into(), runtime);
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|panic| {
            Err(OriginError::Io {
                action: "read tags of",
                path,
                source: io::Error::other(panic),
            })
        })
}

fn read(job: Job, file: Arc<dyn OriginFile>, runtime: Handle) -> Result<Extracted, OriginError> {
    let version = file.version().clone();
    let size = version.size;
    let kept = job
        .keep
        .filter(|_| version == job.listed)
        .and_then(|keep| Kept::new(&keep, size));
    let mut source = Ranged {
        file,
        runtime,
        kept,
        front: Vec::new(),
        failure: None,
        bytes: job.bytes,
        bytes_read: 0,
    };
    if source.kept.is_some() {
        let first = musicfs_media::first_extents(size, &job.extension);
        source.fetch(&first, Class::Header)?;
    }
    let extraction = musicfs_media::extract(&mut source, &job.extension);
    if let Some(failure) = source.failure.take() {
        return Err(failure);
    }
    let layout = extraction.as_ref().map_or_else(
        |_| musicfs_media::fallback_layout(size, &job.extension),
        |extraction| extraction.layout,
    );
    source.complete(&layout)?;
    let sample = source.sample()?;
    if let Some(delta) = job.delta.filter(|_| extraction.is_ok()) {
        delta.apply(&mut source, &layout)?;
    }
    Ok(Extracted {
        version,
        info: extraction.map(|extraction| extraction.info),
        layout,
        sample,
        bytes_read: source.bytes_read,
        header_bytes_unkept: source.kept.map_or(0, |kept| kept.unkept()),
    })
}

/// The blocks of one file, as far as they have been fetched.
pub(super) struct Kept {
    pub(super) object: Arc<Object>,
    profile: HeaderProfile,
    /// What the store did not keep, by offset: only for as long as the tags are read.
    pub(super) beside: Vec<(u64, Bytes)>,
}

impl Kept {
    /// `None` if the cache cannot be used: then the file is read as if there was none.
    fn new(keep: &Keep, size: u64) -> Option<Self> {
        let object = keep.store.object(keep.key, size);
        let object = object.inspect_err(|error| {
            tracing::debug!(
                error = %musicfs_core::error::with_causes(error),
                "the cache cannot be used for a header"
            );
        });
        Some(Self {
            object: object.ok()?,
            profile: keep.profile,
            beside: Vec::new(),
        })
    }

    pub(super) fn absent(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut absent: Extents = self.object.absent(range).into_iter().collect();
        for (at, bytes) in &self.beside {
            absent.remove(*at..at + bytes.len() as u64);
        }
        absent.iter().collect()
    }

    fn keep(&mut self, at: u64, bytes: Bytes, class: Class) {
        match self.object.write(at, &bytes, class) {
            Ok(Written::Kept) => {}
            Ok(Written::Refused(_)) | Err(_) => self.beside.push((at, bytes)),
        }
    }

    fn unkept(&self) -> u64 {
        self.beside
            .iter()
            .map(|(_, bytes)| bytes.len() as u64)
            .sum()
    }

    /// Copies what is kept of `range` to `buf`; false if some of it is lost by now.
    pub(super) fn copy(&self, range: Range<u64>, buf: &mut [u8]) -> bool {
        let mut missing: Extents = Extents::from(range.clone());
        let place = |at: u64| usize::try_from(at - range.start).unwrap_or(usize::MAX);
        for (at, bytes) in &self.beside {
            let overlap = range.start.max(*at)..range.end.min(at + bytes.len() as u64);
            if !overlap.is_empty() {
                let from = usize::try_from(overlap.start - at).unwrap_or(usize::MAX);
                let len = usize::try_from(overlap.end - overlap.start).unwrap_or(0);
                buf[place(overlap.start)..][..len].copy_from_slice(&bytes[from..from + len]);
                missing.remove(overlap);
            }
        }
        for part in missing.iter().collect::<Vec<_>>() {
            let Ok(Some(bytes)) = self.object.read(part.clone()) else {
                return false;
            };
            buf[place(part.start)..place(part.end)].copy_from_slice(&bytes);
        }
        true
    }
}

/// An origin's file as the tag readers see it.
pub(super) struct Ranged {
    file: Arc<dyn OriginFile>,
    pub(super) runtime: Handle,
    pub(super) kept: Option<Kept>,
    /// What the tag readers have read from the start on, as far as a sample needs it.
    front: Vec<u8>,
    /// The first failure, for the tag readers may swallow it.
    failure: Option<OriginError>,
    bytes: Arc<OriginBytes>,
    bytes_read: u64,
}

impl Ranged {
    pub(super) fn version(&self) -> &ContentVersion {
        self.file.version()
    }

    /// Has all of `extents` in the store, as far as it takes them; asks for the ranges at once.
    pub(super) fn fetch(&mut self, extents: &Extents, class: Class) -> Result<(), OriginError> {
        let Some(kept) = &self.kept else {
            return Ok(());
        };
        let absent: Vec<_> = extents
            .iter()
            .flat_map(|range| kept.absent(range))
            .collect();
        let mut requests = JoinSet::new();
        for range in absent {
            let file = self.file.clone();
            requests.spawn_on(
                async move { (range.start, collect(file.stream(range)).await) },
                &self.runtime,
            );
        }
        while let Some(done) = self.runtime.block_on(requests.join_next()) {
            let (at, bytes) = done.map_err(|stopped| OriginError::Io {
                action: "read",
                path: OriginPath::default(),
                source: io::Error::other(stopped),
            })?;
            let bytes = bytes?;
            self.received(bytes.len());
            if let Some(kept) = &mut self.kept {
                kept.keep(at, bytes, class);
            }
        }
        Ok(())
    }

    /// Completes the header tier of the file, now that its layout is known; what was read beyond it
    /// is kept like any other content.
    fn complete(&mut self, layout: &AudioLayout) -> Result<(), OriginError> {
        let Some(kept) = &self.kept else {
            return Ok(());
        };
        let size = self.file.version().size;
        let header = musicfs_media::header_extents(layout, size, kept.profile);
        let mut others: Extents = Extents::from(0..size);
        for range in kept.object.absent(0..size) {
            others.remove(range);
        }
        header.iter().for_each(|range| others.remove(range));
        for range in others.iter() {
            // A class that cannot be changed costs room in the quota, nothing else.
            let _ = kept.object.set_class(range, Class::Body);
        }
        self.fetch(&header, Class::Header)
    }

    /// The sample, of what was read already: tag readers begin at the front. Whatever they left out
    /// is read now.
    fn sample(&mut self) -> Result<Sample, OriginError> {
        let size = self.file.version().size;
        let wanted = usize::try_from(size).map_or(Sample::FRONT_BYTES_MAX, |size| {
            size.min(Sample::FRONT_BYTES_MAX)
        });
        let mut front = std::mem::take(&mut self.front);
        let known = front.len();
        if known < wanted {
            front.resize(wanted, 0);
            self.read_bytes(known as u64..wanted as u64, &mut front[known..])?;
        }
        Ok(Sample::new(size, &front))
    }

    /// Remembers what `bytes`, read from `offset` on, adds to the front.
    fn note_front(&mut self, offset: u64, bytes: &[u8]) {
        let known = self.front.len();
        let wanted = Sample::FRONT_BYTES_MAX - known;
        let skip = usize::try_from((known as u64).saturating_sub(offset)).unwrap_or(usize::MAX);
        if offset <= known as u64
            && let Some(new) = bytes.get(skip..)
        {
            self.front.extend_from_slice(&new[..new.len().min(wanted)]);
        }
    }

    fn received(&mut self, len: usize) {
        self.bytes_read += len as u64;
        self.bytes.count(Reason::Scan, len as u64);
    }

    fn read_bytes(&mut self, range: Range<u64>, buf: &mut [u8]) -> Result<(), OriginError> {
        let blocks = to_blocks(range.clone(), self.file.version().size);
        if self.kept.is_some() {
            self.fetch(&Extents::from(blocks), Class::Header)?;
        }
        if let Some(kept) = &self.kept
            && kept.copy(range.clone(), buf)
        {
            return Ok(());
        }
        let bytes = self
            .runtime
            .block_on(self.file.read_at(range.start, buf.len()))?;
        self.received(bytes.len());
        if bytes.len() != buf.len() {
            return Err(OriginError::Malformed {
                action: "read",
                path: OriginPath::default(),
                what: "it holds fewer bytes than it says",
            });
        }
        buf.copy_from_slice(&bytes);
        Ok(())
    }
}

impl RangedRead for Ranged {
    fn len(&self) -> u64 {
        self.file.version().size
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let end = offset.saturating_add(buf.len() as u64).min(self.len());
        let range = offset.min(end)..end;
        let len = usize::try_from(range.end - range.start).unwrap_or(0);
        if len == 0 {
            return Ok(0);
        }
        match self.read_bytes(range, &mut buf[..len]) {
            Ok(()) => {
                self.note_front(offset, &buf[..len]);
                Ok(len)
            }
            Err(error) => {
                let kind = match error.kind() {
                    ErrorKind::NotFound => io::ErrorKind::NotFound,
                    _ => io::ErrorKind::Other,
                };
                let copy = io::Error::new(kind, error.to_string());
                self.failure.get_or_insert(error);
                Err(copy)
            }
        }
    }
}

#[cfg(test)]
mod tests;
