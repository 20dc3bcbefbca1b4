//! The reading half of a pass: tags of new files, several at once.

use musicfs_core::error::{ErrorKind, with_causes};
use musicfs_core::names;
use musicfs_core::origin::OriginError;
use musicfs_core::tags::{AudioLayout, TrackInfo};
use musicfs_core::version::{Sample, Validator};
use musicfs_index::{FileChange, FileKind, FileRecord};

use super::{Fresh, Pass, PassError, RACY_NS, version_key};
use crate::ingest::delta::Delta;
use crate::ingest::extract::{Extracted, Job, Keep, extract};

/// Files of a remote origin whose tags are read at once: a round trip is what they wait for.
const REMOTE_READERS_MAX: usize = 16;

/// Files in a row that may fail to answer before the origin counts as unreachable and the pass ends:
/// a hundred thousand timeouts would take days.
const UNREACHABLE_MAX: usize = 8;

impl Pass {
    /// True if the file was written so recently that its time does not prove its content.
    pub(super) fn is_racy(&self, fresh: &Fresh, listed_ns: i64) -> bool {
        self.origin.kind().is_cached()
            && matches!(fresh.listed.version.validator, Validator::Mtime(_))
            && fresh.listed.mtime_ns.abs_diff(listed_ns) < RACY_NS
    }

    /// Reads the tags of a new file, soon; a companion has none.
    pub(super) async fn read(&mut self, fresh: Fresh) -> Result<(), PassError> {
        let Some(path) = fresh.path() else {
            return Ok(());
        };
        if fresh.kind == FileKind::Companion {
            return self.push(self.record(fresh, None, None, None)).await;
        }
        let is_remote = self.origin.kind().is_cached();
        let readers_max = match is_remote {
            true => REMOTE_READERS_MAX,
            false => self.shared.readers_max,
        };
        while self.jobs.len() >= readers_max {
            self.join_one().await?;
        }
        let fetcher = self.shared.fetcher.as_ref().filter(|_| is_remote);
        let delta = fetcher
            .zip(fresh.replaces)
            .map(|(fetcher, replaced)| Delta {
                fetcher: fetcher.clone(),
                origin: self.origin.clone(),
                path: path.clone(),
                replaced,
            });
        let job = Job {
            origin: self.origin.clone(),
            path,
            bytes: self.upstream.bytes.clone(),
            listed: fresh.listed.version.clone(),
            extension: names::extension_of(&fresh.listed.name),
            keep: fetcher.map(|fetcher| Keep {
                store: fetcher.store.clone(),
                key: version_key(&*self.origin, &fresh),
                profile: fetcher.options.header_profile,
            }),
            delta,
        };
        let fetcher = fetcher.cloned();
        self.jobs.spawn(async move {
            if let Some(fetcher) = fetcher {
                // A header that comes before the store takes it would have to come again.
                fetcher.recovered.wait().await;
            }
            (fresh, extract(job).await)
        });
        Ok(())
    }

    pub(super) async fn join_one(&mut self) -> Result<(), PassError> {
        let (fresh, outcome) = match self.jobs.join_next().await {
            Some(Ok(done)) => done,
            Some(Err(panic)) => {
                tracing::error!(%panic, "reading tags ended in a panic; the file is left out");
                return Ok(());
            }
            None => return Ok(()),
        };
        let Some(path) = fresh.path() else {
            return Ok(());
        };
        match outcome {
            Ok(extracted) if extracted.version == fresh.listed.version => {
                self.unreachable = 0;
                self.take_in(fresh, extracted).await
            }
            Ok(_) | Err(OriginError::Changed { .. } | OriginError::NotFound { .. }) => {
                self.look_again.stale.push(path);
                Ok(())
            }
            Err(error) => {
                tracing::warn!(
                    origin = %self.origin.id(),
                    file = %path,
                    error = %with_causes(&error),
                    "the file cannot be read; it is left out until it can"
                );
                let kind = error.kind();
                if matches!(kind, ErrorKind::Unavailable | ErrorKind::DeadlineExceeded) {
                    self.unreachable += 1;
                }
                match self.unreachable < UNREACHABLE_MAX {
                    true => Ok(()),
                    false => Err(error.into()),
                }
            }
        }
    }

    async fn take_in(&mut self, fresh: Fresh, extracted: Extracted) -> Result<(), PassError> {
        self.summary.bytes_read += extracted.bytes_read;
        self.summary.header_bytes_unkept += extracted.header_bytes_unkept;
        if let Some(fetcher) = &self.shared.fetcher {
            fetcher.dirty.notify_one();
        }
        let info = extracted.info.inspect_err(|error| {
            tracing::warn!(
                origin = %self.origin.id(),
                file = %fresh.path().unwrap_or_default(),
                error = %with_causes(error),
                "the tags cannot be read; the file is listed under its own name"
            );
        });
        let (layout, sample) = (Some(extracted.layout), Some(extracted.sample));
        let change = self.record(fresh, info.ok(), layout, sample);
        self.push(change).await
    }

    fn record(
        &self,
        fresh: Fresh,
        info: Option<TrackInfo>,
        layout: Option<AudioLayout>,
        sample: Option<Sample>,
    ) -> FileChange {
        let version_key = version_key(&*self.origin, &fresh);
        FileChange::Put(Box::new(FileRecord {
            dir: fresh.dir,
            listed: fresh.listed,
            kind: fresh.kind,
            version_key,
            info,
            layout,
            sample,
        }))
    }
}
