//! Answering the other end's requests, from what this node holds and nothing else.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use musicfs_core::manifest::ChunkHash;
use musicfs_core::version::VersionKey;
use quinn::RecvStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::close::StreamCode;
use super::proof;
use super::reply::Reply;
use super::write::Fault;
use super::{Ended, Session};
use crate::policy::batch::{Read, reads_of};
use crate::wire::{
    self, Answer, Decoded, FrameError, MANIFEST_BYTES_MAX, REQUEST_PAYLOAD_BYTES_MAX, Request,
    Status, Violation,
};

/// What is read from the store at a time, and twice of it is held for each request. More gains nothing,
/// and what is on its way is let go of by whole reads.
const READ_BYTES_MAX: u64 = 256 << 10;
/// What is read first: one chunk of the longest, so that the first bytes do not wait for more.
const FIRST_READ_BYTES_MAX: u64 = 128 << 10;

/// One request that is being served; counted until this is dropped.
struct Serving<'a>(&'a watch::Sender<usize>);

/// What can be sent at once, and what has to be read for it.
struct Payload {
    version: VersionKey,
    lens: Vec<u32>,
    reads: Vec<Read>,
    is_chunks: bool,
}

impl Session {
    /// Serves until the connection ends. `tasks` are the requests being served.
    pub(super) async fn serve(self: &Arc<Self>, tasks: &mut JoinSet<()>) -> Ended {
        loop {
            tokio::select! {
                biased;
                Some(ended) = tasks.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(peer = %self.node, %error, "serving a request failed");
                    }
                }
                accepted = self.connection.accept_bi() => match accepted {
                    Ok((send, recv)) => {
                        let reply = Reply::new(send, self.local.limits.stall_max);
                        tasks.spawn(self.clone().answer(reply, recv));
                    }
                    Err(error) => return Ended::of(error),
                },
            }
        }
    }

    /// Stops the streams that a later version might open.
    pub(super) async fn refuse_streams(&self) -> Ended {
        loop {
            match self.connection.accept_uni().await {
                // Fails only where it was reset.
                Ok(mut stream) => drop(stream.stop(StreamCode::Unsupported.number())),
                Err(error) => return Ended::of(error),
            }
        }
    }

    async fn answer(self: Arc<Self>, reply: Reply, stream: RecvStream) {
        let stall_max = self.local.limits.stall_max;
        let message = match tokio::time::timeout(stall_max, only_frame(stream)).await {
            Ok(Ok(message)) => message,
            Ok(Err(FrameError::Violation(_))) => return reply.reset(StreamCode::Violation),
            Ok(Err(FrameError::Read(_))) => return reply.reset(StreamCode::Unwanted),
            Err(_) => return reply.reset(StreamCode::Stalled),
        };
        match Request::decode(message) {
            Err(_) => reply.reset(StreamCode::Violation),
            Ok(Decoded::Refused(what)) => {
                tracing::debug!(peer = %self.node, what, "refused a request");
                self.end(reply, Status::Refused).await;
            }
            Ok(Decoded::Request(Request::Ping)) => self.end(reply, Status::Ok).await,
            Ok(Decoded::Request(request)) => self.answer_with_content(reply, request).await,
        }
    }

    /// Answers without a payload, and nothing more.
    async fn end(&self, reply: Reply, status: Status) {
        if let Some(reply) = reply.status(status).await {
            reply.finish().await;
        }
    }

    async fn answer_with_content(&self, reply: Reply, request: Request) {
        let (own, all) = (self.served.try_acquire(), self.local.uploads.slot());
        let (Ok(own), Some(all), false) = (own, all, self.telling.is_leaving()) else {
            return self.end(reply, Status::Busy).await;
        };
        let _serving = Serving::new(&self.serving);
        let unwanted = reply.unwanted();
        let sent = tokio::select! {
            biased;
            sent = self.give(reply, request) => sent,
            // However long the disk takes, nobody waits for it any more.
            () = unwanted => None,
        };
        // What is on its way takes memory, yet who asked may ask for more before it has arrived.
        drop(own);
        if let Some(reply) = sent {
            reply.finish().await;
        }
        drop(all);
    }

    /// Answers with what was asked for; gives the reply back if it is to be finished.
    async fn give(&self, reply: Reply, request: Request) -> Option<Reply> {
        let payload = match request {
            Request::Ping => Err(Status::Ok),
            Request::Manifest(version) => return self.send_manifest(reply, version).await,
            Request::Chunks { version, hashes } => self.chunks_payload(version, &hashes).await,
            Request::Ranges { version, ranges } => Ok(Payload::of_ranges(version, ranges)),
        };
        match payload {
            Ok(payload) => self.send(reply, payload).await,
            Err(status) => reply.status(status).await,
        }
    }

    async fn send_manifest(&self, mut reply: Reply, version: VersionKey) -> Option<Reply> {
        let Some(manifest) = self.local.holdings.manifest(version).await else {
            return reply.status(Status::NotHeld).await;
        };
        let encoded: Bytes = manifest.encode().into();
        let (Ok(len), true) = (
            u32::try_from(encoded.len()),
            encoded.len() as u64 <= MANIFEST_BYTES_MAX,
        ) else {
            return reply.status(Status::Refused).await;
        };
        let answer = Answer {
            proof: Some(proof::sign(&self.local.node_key, version, &encoded)),
            ..Answer::ok(vec![len])
        };
        reply.write(answer.to_frame()).await.ok()?;
        reply.write(encoded).await.ok()?;
        Some(reply)
    }

    async fn chunks_payload(
        &self,
        version: VersionKey,
        hashes: &[ChunkHash],
    ) -> Result<Payload, Status> {
        let table = self.local.have.spans().of(version).await;
        let table = table.ok_or(Status::NotHeld)?;
        let spans: Option<Vec<Range<u64>>> = hashes.iter().map(|hash| table.span(*hash)).collect();
        let spans = spans.ok_or(Status::NotHeld)?;
        let sum: u64 = spans.iter().map(|span| span.end - span.start).sum();
        if sum > REQUEST_PAYLOAD_BYTES_MAX {
            return Err(Status::Refused);
        }
        Ok(Payload {
            is_chunks: true,
            ..Payload::of_ranges(version, spans)
        })
    }

    async fn send(&self, mut reply: Reply, payload: Payload) -> Option<Reply> {
        let mut reads = payload.reads.iter();
        let first = reads.next()?;
        let Some(mut piece) = self.read(payload.version, first).await else {
            reply.status(Status::NotHeld).await;
            return None;
        };
        reply
            .write(Answer::ok(payload.lens).to_frame())
            .await
            .ok()?;
        let mut spans_count = first.spans_count;
        loop {
            let read = reads.next();
            let ahead = async {
                match read {
                    Some(read) => self.read(payload.version, read).await,
                    None => None,
                }
            };
            let len = piece.len();
            let (written, next) = tokio::join!(self.write(&mut reply, piece), ahead);
            written.ok()?;
            let chunks_count = if payload.is_chunks { spans_count } else { 0 };
            self.counters.sent(len, chunks_count);
            // Without `next` the reply is reset: what was promised is not held any more.
            match read {
                None => return Some(reply),
                Some(read) => (piece, spans_count) = (next?, read.spans_count),
            }
        }
    }

    async fn read(&self, version: VersionKey, read: &Read) -> Option<Bytes> {
        let bytes = self
            .local
            .holdings
            .read(version, read.range.clone())
            .await?;
        let is_whole = bytes.len() as u64 == read.range.end - read.range.start;
        debug_assert!(is_whole, "the holdings give all of a range, or nothing");
        is_whole.then_some(bytes)
    }

    async fn write(&self, reply: &mut Reply, mut piece: Bytes) -> Result<(), Fault> {
        let uploads = &self.local.uploads;
        let Some(share_bytes) = uploads.share_bytes() else {
            return reply.write(piece).await;
        };
        while !piece.is_empty() {
            let share = piece.split_to(share_bytes.min(piece.len()));
            uploads.turn(share.len()).await;
            reply.write(share).await?;
        }
        Ok(())
    }
}

impl Payload {
    /// `ranges` are what a request may ask for.
    fn of_ranges(version: VersionKey, ranges: Vec<Range<u64>>) -> Self {
        let len = |range: &Range<u64>| {
            u32::try_from(range.end - range.start).expect("a request asks for 8 MiB at most")
        };
        Self {
            version,
            lens: ranges.iter().map(len).collect(),
            reads: reads_of(ranges, FIRST_READ_BYTES_MAX, READ_BYTES_MAX),
            is_chunks: false,
        }
    }
}

impl<'a> Serving<'a> {
    fn new(count: &'a watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count)
    }
}

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// The one frame of a request's stream.
async fn only_frame(mut stream: RecvStream) -> Result<Bytes, FrameError> {
    let message = wire::read_frame(&mut stream).await?;
    let message = message.ok_or(Violation("no request"))?;
    match stream.read_chunk(1, true).await? {
        None => Ok(message),
        Some(_) => Err(Violation("more than one request on a stream").into()),
    }
}
