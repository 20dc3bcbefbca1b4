//! What is asked for.

use std::ops::Range;

use bytes::Bytes;
use musicfs_core::manifest::ChunkHash;
use musicfs_core::version::VersionKey;
use musicfs_proto::peer::v1;
use musicfs_proto::peer::v1::request::What;
use prost::Message;

use super::frame::to_frame;
use super::{Violation, news};

/// Chunks that one request names: 8 MiB of average ones.
pub(crate) const CHUNKS_COUNT_MAX: usize = 128;
/// Ranges that one request names: each may cost a seek.
pub(crate) const RANGES_COUNT_MAX: usize = 16;
/// Bytes that one request brings at most: a share of what is on its way that others can wait for.
pub(crate) const REQUEST_PAYLOAD_BYTES_MAX: u64 = 8 << 20;

const HASH_BYTES: usize = 32;

/// A request that this node understands, within all bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Is the other end alive?
    Ping,
    /// The manifest of a version.
    Manifest(VersionKey),
    /// Chunks of a version.
    Chunks {
        /// Which.
        version: VersionKey,
        /// 1 to [`CHUNKS_COUNT_MAX`].
        hashes: Vec<ChunkHash>,
    },
    /// Ranges of a version.
    Ranges {
        /// Which.
        version: VersionKey,
        /// 1 to [`RANGES_COUNT_MAX`], none empty, [`REQUEST_PAYLOAD_BYTES_MAX`] together.
        ranges: Vec<Range<u64>>,
    },
}

/// What a message asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decoded {
    /// A request.
    Request(Request),
    /// Something that this node does not do, perhaps of a later version; answered REFUSED.
    Refused(&'static str),
}

impl Request {
    /// Its frame.
    pub(crate) fn to_frame(&self) -> Bytes {
        let what = match self {
            Self::Ping => What::Ping(v1::Ping {}),
            Self::Manifest(version) => What::Manifest(v1::GetManifest {
                version: Bytes::copy_from_slice(&version.0),
            }),
            Self::Chunks { version, hashes } => What::Chunks(v1::GetChunks {
                version: Bytes::copy_from_slice(&version.0),
                hashes: hashes.iter().flat_map(|hash| hash.0).collect(),
            }),
            Self::Ranges { version, ranges } => What::Ranges(v1::GetRanges {
                version: Bytes::copy_from_slice(&version.0),
                spans: ranges.iter().map(span_of).collect(),
            }),
        };
        to_frame(&v1::Request { what: Some(what) })
    }

    /// What a message asks for.
    ///
    /// # Errors
    /// [`Violation`] if it is no request at all; the caller resets the stream.
    pub(crate) fn decode(message: Bytes) -> Result<Decoded, Violation> {
        let request =
            v1::Request::decode(message).map_err(|_| Violation("a request that is none"))?;
        let request = match request.what {
            None => Err("a request that this node does not know"),
            Some(What::Ping(_)) => Ok(Self::Ping),
            Some(What::Manifest(asked)) => Ok(Self::Manifest(news::version(&asked.version)?)),
            Some(What::Chunks(asked)) => Self::chunks(&asked)?,
            Some(What::Ranges(asked)) => Self::ranges(&asked)?,
        };
        Ok(request.map_or_else(Decoded::Refused, Decoded::Request))
    }

    fn chunks(asked: &v1::GetChunks) -> Result<Result<Self, &'static str>, Violation> {
        let version = news::version(&asked.version)?;
        let (hashes, rest) = asked.hashes.as_chunks::<HASH_BYTES>();
        if !rest.is_empty() {
            return Err(Violation("a part of a hash"));
        }
        if hashes.is_empty() || hashes.len() > CHUNKS_COUNT_MAX {
            return Ok(Err("no chunks, or more than 128"));
        }
        let hashes = hashes.iter().copied().map(ChunkHash).collect();
        Ok(Ok(Self::Chunks { version, hashes }))
    }

    fn ranges(asked: &v1::GetRanges) -> Result<Result<Self, &'static str>, Violation> {
        let version = news::version(&asked.version)?;
        if asked.spans.is_empty() || asked.spans.len() > RANGES_COUNT_MAX {
            return Ok(Err("no ranges, or more than 16"));
        }
        let range = |span: &v1::Span| {
            let end = span.offset.checked_add(span.len);
            let end = end.ok_or(Violation("a range behind the end of all files"))?;
            Ok(span.offset..end)
        };
        let ranges: Vec<Range<u64>> = asked.spans.iter().map(range).collect::<Result<_, _>>()?;
        let lens = ranges.iter().map(|range| range.end - range.start);
        let sum = lens.fold(0, u64::saturating_add);
        if ranges.iter().any(Range::is_empty) || sum > REQUEST_PAYLOAD_BYTES_MAX {
            return Ok(Err("an empty range, or more than 8 MiB"));
        }
        Ok(Ok(Self::Ranges { version, ranges }))
    }
}

fn span_of(range: &Range<u64>) -> v1::Span {
    v1::Span {
        offset: range.start,
        len: range.end - range.start,
    }
}
