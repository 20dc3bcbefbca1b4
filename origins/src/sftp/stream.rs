//! Reading a range of a file: READs in batches, with an FSTAT behind each.
//!
//! A server answers the requests of one connection in their order, at least those for one handle
//! (OpenSSH: all). Thus a batch whose bytes lie between two FSTATs that both tell the version
//! opened is of that version; the second one is the first one of the next batch.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use musicfs_core::origin::{BoxFuture, ByteStream, OriginError};

use super::failure::Failure;
use super::file::{self, SftpFile};
use super::pool::Lease;
use super::session::{OpenHandle, Pending, Session, unexpected};
use super::wire::{Reply, Request, status};

/// The first batch: what a reader of tags asks for, so that it comes without anything behind it.
const FIRST_BATCH_BYTES: u64 = 64 << 10;
/// Every other batch: an FSTAT each costs next to nothing, and no piece is larger.
const BATCH_BYTES: u64 = 256 << 10;
/// Asked for and not yet delivered: fills 1 Gbit/s at 32 ms, and bounds a stream's memory.
const AHEAD_BYTES_MAX: u64 = 4 << 20;
/// Requests of one stream under way.
const REQUESTS_MAX: usize = 64;
/// How often the missing end of one answer is asked for again.
const REPAIRS_MAX: usize = 64;

/// A range on its way.
pub(crate) struct Pieces<'a> {
    file: &'a SftpFile,
    /// What is not delivered yet.
    range: Range<u64>,
    /// Up to where it was asked for.
    asked: u64,
    /// Under way.
    batches: VecDeque<Batch>,
    requests_count: usize,
    /// Known to be right.
    ready: VecDeque<Bytes>,
    source: Option<Source>,
    /// False until something of an answer has come.
    has_begun: bool,
    /// Why nothing more will come.
    failed: Option<Failure>,
}

/// Where the bytes come from.
struct Source {
    lease: Lease,
    handle: Option<Arc<OpenHandle>>,
}

/// Consecutive READs and the FSTATs around them.
struct Batch {
    range: Range<u64>,
    /// Only in front of the first batch.
    before: Option<Pending>,
    reads: Vec<(u32, Pending)>,
    after: Pending,
}

impl Drop for Source {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            self.lease.session.release(handle);
        }
    }
}

impl Source {
    fn new((lease, handle): (Lease, Arc<OpenHandle>)) -> Self {
        Self {
            lease,
            handle: Some(handle),
        }
    }

    fn session(&self) -> &Arc<Session> {
        &self.lease.session
    }

    fn handle(&self) -> &[u8] {
        self.handle
            .as_ref()
            .map_or(&[], |handle| handle.handle.as_ref())
    }

    /// Asks for `range`.
    async fn ask(&self, range: Range<u64>, is_first: bool) -> Result<Batch, Failure> {
        let handle = self.handle();
        let mut requests = Vec::new();
        if is_first {
            requests.push(Request::Fstat(handle));
        }
        let mut lens = Vec::new();
        let mut offset = range.start;
        while offset < range.end {
            let len = (range.end - offset).min(self.session().read_bytes.into());
            let len = u32::try_from(len).expect("the shorter one is a u32");
            requests.push(Request::Read {
                handle,
                offset,
                len,
            });
            lens.push(len);
            offset += u64::from(len);
        }
        requests.push(Request::Fstat(handle));
        let mut pending = self.session().send(&requests, None).await?.into_iter();
        let before = is_first.then(|| pending.next()).flatten();
        let reads = lens.into_iter().zip(pending.by_ref()).collect();
        let after = pending.next().expect("the last request is an FSTAT");
        Ok(Batch {
            range,
            before,
            reads,
            after,
        })
    }

    /// The answer to one READ; short if the server sent less, empty at the end of the file.
    async fn data(&self, len: u32, pending: Pending) -> Result<Bytes, Failure> {
        match self.session().reply(pending).await? {
            Reply::Data(data) if data.len() > len as usize => {
                Err(Failure::Malformed("it sent more than was asked for"))
            }
            Reply::Data(data) => Ok(data),
            Reply::Status(status::EOF) => Ok(Bytes::new()),
            other => Err(unexpected(&other)),
        }
    }
}

impl<'a> Pieces<'a> {
    /// Nothing is asked for yet.
    pub(crate) fn new(file: &'a SftpFile, range: Range<u64>) -> Self {
        Self {
            file,
            asked: range.start,
            range,
            batches: VecDeque::new(),
            requests_count: 0,
            ready: VecDeque::new(),
            source: None,
            has_begun: false,
            failed: None,
        }
    }

    async fn advance(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            if let Some(failure) = &self.failed {
                return Err(failure.clone());
            }
            if let Some(piece) = self.ready.pop_front() {
                self.range.start += piece.len() as u64;
                return Ok(Some(piece));
            }
            if self.range.is_empty() {
                self.source = None;
                return Ok(None);
            }
            match self.settle_next().await {
                Err(failure) if self.is_stale(&failure) => self.start_over().await?,
                Err(failure) if self.has_begun => return Err(failure.midway()),
                done => done?,
            }
        }
    }

    /// Asks for as much as may be under way, and waits for the first batch of it.
    async fn settle_next(&mut self) -> Result<(), Failure> {
        if self.source.is_none() {
            self.source = Some(Source::new(self.file.handle().await?));
        }
        self.ask_ahead().await?;
        let batch = self.batches.pop_front().expect("something is left to read");
        self.requests_count -= batch.requests_count();
        self.settle(batch).await
    }

    async fn ask_ahead(&mut self) -> Result<(), Failure> {
        let source = self.source.as_ref().expect("just opened");
        while self.asked < self.range.end {
            let is_first =
                self.asked == self.range.start && self.batches.is_empty() && !self.has_begun;
            let bytes = match is_first {
                true => FIRST_BATCH_BYTES,
                false => BATCH_BYTES,
            };
            let range = self.asked..self.range.end.min(self.asked + bytes);
            let reads_count =
                (range.end - range.start).div_ceil(source.session().read_bytes.into());
            let is_full = range.end - self.range.start > AHEAD_BYTES_MAX
                || self.requests_count + reads_count as usize + 1 > REQUESTS_MAX;
            if is_full && !self.batches.is_empty() {
                break;
            }
            self.asked = range.end;
            let batch = source.ask(range, is_first).await?;
            self.requests_count += batch.requests_count();
            self.batches.push_back(batch);
        }
        Ok(())
    }

    /// Waits for a batch, and takes its bytes if they are of the right version.
    async fn settle(&mut self, batch: Batch) -> Result<(), Failure> {
        let source = self.source.as_ref().expect("the batch came from it");
        if let Some(before) = batch.before {
            self.check(source, before).await?;
            self.has_begun = true;
        }
        let mut pieces = Vec::with_capacity(batch.reads.len());
        let mut offset = batch.range.start;
        for (len, pending) in batch.reads {
            let data = source.data(len, pending).await?;
            pieces.push((offset, len, data));
            offset += u64::from(len);
        }
        self.check(source, batch.after).await?;
        let mut ready = Vec::with_capacity(pieces.len());
        for (offset, len, data) in pieces {
            let missing = offset + data.len() as u64..offset + u64::from(len);
            ready.push(data);
            if !missing.is_empty() {
                self.repair(source, missing, &mut ready).await?;
            }
        }
        // An empty piece would end the stream for its reader.
        self.ready
            .extend(ready.into_iter().filter(|piece| !piece.is_empty()));
        Ok(())
    }

    /// Asks for what an answer was too short for.
    async fn repair(
        &self,
        source: &Source,
        mut missing: Range<u64>,
        ready: &mut Vec<Bytes>,
    ) -> Result<(), Failure> {
        for _ in 0..REPAIRS_MAX {
            let batch = source.ask(missing.clone(), false).await?;
            for (len, pending) in batch.reads {
                let data = source.data(len, pending).await?;
                if data.is_empty() {
                    // The file ends before the size that it says it has.
                    return Err(Failure::Changed);
                }
                missing.start += data.len() as u64;
                ready.push(data);
            }
            self.check(source, batch.after).await?;
            if missing.is_empty() {
                return Ok(());
            }
        }
        Err(Failure::Malformed("it sends too little at once"))
    }

    /// # Errors
    /// [`Failure::Changed`] if an FSTAT tells of another version.
    async fn check(&self, source: &Source, fstat: Pending) -> Result<(), Failure> {
        let attrs = source.session().attrs(fstat).await?;
        match file::version(&attrs)? == self.file.version {
            true => Ok(()),
            false => Err(Failure::Changed),
        }
    }

    fn is_stale(&self, failure: &Failure) -> bool {
        let source = self.source.as_ref();
        !self.has_begun && source.is_some_and(|source| source.lease.was_stale(failure))
    }

    /// Forgets what was asked for, and asks again on a connection made now.
    async fn start_over(&mut self) -> Result<(), Failure> {
        self.batches.clear();
        self.requests_count = 0;
        self.asked = self.range.start;
        self.source = None;
        self.source = Some(Source::new(self.file.fresh_handle().await?));
        Ok(())
    }
}

impl Batch {
    fn requests_count(&self) -> usize {
        usize::from(self.before.is_some()) + self.reads.len() + 1
    }
}

impl ByteStream for Pieces<'_> {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, OriginError>> {
        Box::pin(async move {
            match self.advance().await {
                Ok(piece) => Ok(piece),
                Err(failure) => {
                    // Whatever else is under way is of no use.
                    self.batches.clear();
                    self.source = None;
                    self.failed = Some(failure.clone());
                    Err(self.file.error(failure))
                }
            }
        })
    }
}
