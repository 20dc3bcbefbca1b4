//! A seekable reader over ranged reads that fetches every byte at most once.

use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;

use crate::{ExtractError, RangedRead};

/// The most bytes that are fetched of one file: room for several large pictures (one of FLAC's
/// ends at 16 MiB), nothing like a whole recording.
pub const BYTES_READ_MAX: u64 = 48 << 20;

/// The most reads of one file; honest ones need fewer than thirty.
pub const READS_MAX: u32 = 1024;

/// The first read: all that most files without pictures need at their front.
const FIRST_READ_BYTES: u64 = 64 << 10;

/// The least that any other read fetches; a round trip costs more than these bytes.
const READ_AHEAD_BYTES_MIN: u64 = 16 << 10;

/// The most that a read fetches beyond what was asked for.
const READ_AHEAD_BYTES_MAX: u64 = 64 << 10;

/// The most bytes fetched for requests that are small, such as a search for a frame: a parser
/// that is lost must not pull in a whole file piece by piece.
const SCAN_BYTES_MAX: u64 = 2 << 20;

/// What all calls of a parser may cost together: each call 16 and each byte handed out 1.
/// It ends loops that a crafted file could make endless.
const WORK_MAX: u64 = 128 << 20;

/// Bytes fetched in one piece.
#[derive(Debug)]
struct Segment {
    start: u64,
    bytes: Vec<u8>,
}

impl Segment {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

/// The part of a file that a parser sees, with its position; keeps all that was fetched.
pub(crate) struct Window<'a> {
    source: &'a mut dyn RangedRead,
    file_len: u64,
    /// What the parser sees as its file.
    view: Range<u64>,
    position: u64,
    /// Sorted, disjoint, never touching.
    segments: Vec<Segment>,
    bytes_read: u64,
    reads: u32,
    scanned: u64,
    work: u64,
    failure: Option<ExtractError>,
}

impl<'a> Window<'a> {
    pub(crate) fn new(source: &'a mut dyn RangedRead) -> Self {
        let file_len = source.len();
        Self {
            source,
            file_len,
            view: 0..file_len,
            position: 0,
            segments: Vec::new(),
            bytes_read: 0,
            reads: 0,
            scanned: 0,
            work: 0,
            failure: None,
        }
    }

    pub(crate) fn file_len(&self) -> u64 {
        self.file_len
    }

    pub(crate) fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    pub(crate) fn reads(&self) -> u32 {
        self.reads
    }

    /// Makes `view` the whole file for whoever reads on, from its start.
    pub(crate) fn look_at(&mut self, view: Range<u64>) {
        self.view = view.start.min(self.file_len)..view.end.min(self.file_len);
        self.position = 0;
        self.work = 0;
    }

    /// Where the piece that was fetched at the file's start ends.
    pub(crate) fn front_end(&self) -> u64 {
        match self.segments.first() {
            Some(segment) if segment.start == 0 => segment.end(),
            _ => 0,
        }
    }

    /// The failure that a parser ran into, if any; it is handed out once.
    pub(crate) fn take_failure(&mut self) -> Option<ExtractError> {
        self.failure.take()
    }

    /// The bytes of `range`, as far as the file has them, in one piece.
    ///
    /// # Errors
    /// Those of the source, and the limits.
    pub(crate) fn bytes(&mut self, range: Range<u64>) -> Result<&[u8], ExtractError> {
        let end = range.end.min(self.file_len);
        let mut at = range.start.min(end);
        while at < end {
            let cached = self.cached_from(at).len() as u64;
            if cached == 0 {
                self.fetch(at, end - at)?;
            } else {
                at += cached;
            }
        }
        let wanted = usize::try_from(end.saturating_sub(range.start)).unwrap_or(usize::MAX);
        let cached = self.cached_from(range.start.min(end));
        Ok(&cached[..wanted.min(cached.len())])
    }

    /// All pieces that were fetched, with the offset of each.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.segments
            .iter()
            .map(|segment| (segment.start, segment.bytes.as_slice()))
    }

    /// Index of the first segment that starts behind `offset`.
    fn following(&self, offset: u64) -> usize {
        self.segments
            .partition_point(|segment| segment.start <= offset)
    }

    fn cached_from(&self, offset: u64) -> &[u8] {
        let Some(index) = self.following(offset).checked_sub(1) else {
            return &[];
        };
        let segment = &self.segments[index];
        let skip = usize::try_from(offset - segment.start).unwrap_or(usize::MAX);
        segment.bytes.get(skip..).unwrap_or(&[])
    }

    /// Fetches at least the first byte at `offset`, where nothing is cached, for a caller that
    /// wants `wanted` bytes.
    fn fetch(&mut self, offset: u64, wanted: u64) -> Result<(), ExtractError> {
        let range = self.plan(offset, wanted);
        let len = range.end - range.start;
        if wanted < READ_AHEAD_BYTES_MIN && offset > 0 {
            self.scanned += len;
        }
        if self.scanned > SCAN_BYTES_MAX {
            return Err(ExtractError::LimitExceeded {
                limit: "bytes searched",
            });
        }
        if self.bytes_read + len > BYTES_READ_MAX {
            return Err(ExtractError::LimitExceeded {
                limit: "bytes read",
            });
        }
        if self.reads >= READS_MAX {
            return Err(ExtractError::LimitExceeded { limit: "reads" });
        }
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
        self.reads += 1;
        let read = self
            .source
            .read_at(range.start, &mut bytes)
            .and_then(|read| match read as u64 == len {
                true => Ok(()),
                false => Err(io::ErrorKind::UnexpectedEof.into()),
            });
        read.map_err(|source| ExtractError::Io {
            offset: range.start,
            len,
            source,
        })?;
        self.bytes_read += len;
        self.insert(range.start, bytes);
        Ok(())
    }

    /// The range to fetch so that `offset` is in it: a gap between segments, or a part of one.
    fn plan(&self, offset: u64, wanted: u64) -> Range<u64> {
        let following = self.following(offset);
        let previous = following.checked_sub(1).map(|index| &self.segments[index]);
        let gap_start = previous.map_or(0, Segment::end);
        let gap_end = self
            .segments
            .get(following)
            .map_or(self.file_len, |segment| segment.start);
        let ahead = match previous {
            _ if offset == 0 => FIRST_READ_BYTES,
            Some(segment) if segment.end() == offset => {
                (segment.bytes.len() as u64 / 8).clamp(READ_AHEAD_BYTES_MIN, READ_AHEAD_BYTES_MAX)
            }
            _ => READ_AHEAD_BYTES_MIN,
        };
        let end = gap_end.min(offset.saturating_add(wanted.max(ahead)));
        // A search backwards meets what it has already: take a whole step of what lies before.
        let start = match end - offset < READ_AHEAD_BYTES_MIN {
            true => offset.min(end.saturating_sub(READ_AHEAD_BYTES_MIN)),
            false => offset,
        };
        start.max(gap_start)..end
    }

    fn insert(&mut self, start: u64, bytes: Vec<u8>) {
        let mut at = self.following(start);
        let joins_previous = at > 0 && self.segments[at - 1].end() == start;
        if joins_previous {
            at -= 1;
            self.segments[at].bytes.extend_from_slice(&bytes);
        } else {
            self.segments.insert(at, Segment { start, bytes });
        }
        let end = self.segments[at].end();
        if self
            .segments
            .get(at + 1)
            .is_some_and(|next| next.start == end)
        {
            let next = self.segments.remove(at + 1);
            self.segments[at].bytes.extend_from_slice(&next.bytes);
        }
    }

    /// Counts one call; an error once the parser has worked too long.
    fn charge(&mut self, bytes: usize) -> io::Result<()> {
        self.work += 16 + bytes as u64;
        if self.work > WORK_MAX {
            self.fail(ExtractError::LimitExceeded { limit: "work" })?;
        }
        Ok(())
    }

    /// Remembers `error` for [`Self::take_failure`] and gives the parser one of its own.
    fn fail(&mut self, error: ExtractError) -> io::Result<()> {
        let known_io = matches!(self.failure, Some(ExtractError::Io { .. }));
        if !known_io {
            self.failure = Some(error);
        }
        Err(io::Error::other("ranged read failed"))
    }
}

impl Read for Window<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.charge(buf.len())?;
        let Some(offset) = self.view.start.checked_add(self.position) else {
            return Ok(0);
        };
        let left = self.view.end.saturating_sub(offset);
        let wanted = left.min(buf.len() as u64);
        if wanted == 0 {
            return Ok(0);
        }
        if self.cached_from(offset).is_empty()
            && let Err(error) = self.fetch(offset, wanted)
        {
            self.fail(error)?;
        }
        let cached = self.cached_from(offset);
        let count = cached
            .len()
            .min(usize::try_from(wanted).unwrap_or(buf.len()));
        buf[..count].copy_from_slice(&cached[..count]);
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for Window<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.charge(0)?;
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => (self.view.end - self.view.start).checked_add_signed(by),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}
