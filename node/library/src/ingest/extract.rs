//! Reads the tags of one file of an origin.

use std::io;
use std::sync::Arc;

use musicfs_core::error::ErrorKind;
use musicfs_core::origin::{Origin, OriginError, OriginFile};
use musicfs_core::path::OriginPath;
use musicfs_core::tags::TrackInfo;
use musicfs_core::version::ContentVersion;
use musicfs_media::RangedRead;
use tokio::runtime::Handle;

/// What reading a track gave.
pub(crate) struct Extracted {
    /// The version that was read.
    pub(crate) version: ContentVersion,
    /// The tags; an error if the bytes make no sense.
    pub(crate) info: Result<TrackInfo, musicfs_media::ExtractError>,
    /// Content bytes that were read for it.
    pub(crate) bytes_read: u64,
}

/// Opens the file at `path` and reads its tags on the blocking pool.
///
/// # Errors
/// The origin's, if it fails or the file changes meanwhile: try again later.
pub(crate) async fn extract(
    origin: Arc<dyn Origin>,
    path: OriginPath,
    listed: ContentVersion,
    extension: String,
) -> Result<Extracted, OriginError> {
    let file = origin.open(&path, &listed).await?;
    let runtime = Handle::current();
    let work = move || {
        let version = file.version().clone();
        let mut source = Ranged {
            file,
            runtime,
            failure: None,
        };
        let extraction = musicfs_media::extract(&mut source, &extension);
        if let Some(failure) = source.failure {
            return Err(failure);
        }
        let bytes_read = extraction
            .as_ref()
            .map_or(0, |extraction| extraction.bytes_read);
        Ok(Extracted {
            version,
            info: extraction.map(|extraction| extraction.info),
            bytes_read,
        })
    };
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

/// An origin's file as the tag readers see it.
struct Ranged {
    file: Box<dyn OriginFile>,
    runtime: Handle,
    /// The first failure, for the tag readers may swallow it.
    failure: Option<OriginError>,
}

impl RangedRead for Ranged {
    fn len(&self) -> u64 {
        self.file.version().size
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        match self.runtime.block_on(self.file.read_at(offset, buf.len())) {
            Ok(bytes) => {
                let len = bytes.len().min(buf.len());
                buf[..len].copy_from_slice(&bytes[..len]);
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
