//! Content on its way from the other end.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use musicfs_core::manifest::ChunkHash;
use musicfs_core::origin::BoxFuture;
use musicfs_core::peer::{PeerError, PeerStream, WantedChunk};
use musicfs_core::version::VersionKey;
use quinn::RecvStream;
use tokio::sync::OwnedSemaphorePermit;

use super::Session;
use super::limits::{ASKED_BYTES_MAX, ASKED_MAX};
use crate::policy::batch::first_batch;
use crate::wire::{CHUNKS_COUNT_MAX, Request};

/// Requests that one stream has on their way at once: 1 Gbit/s at 20 ms. More interleave, and gain nothing.
const FLIGHTS_MAX: usize = 3;
/// Requests of a session that are left for streams that have none on its way.
const FLIGHTS_SPARED: usize = ASKED_MAX / 2;
/// What of a range is handed out at a time, at least: whoever takes it keeps whole blocks.
const PIECE_BYTES: usize = 64 << 10;

/// What was asked for with one call, in order.
///
/// Requests are sent ahead of the one that is read from; what they bring waits in the window of their
/// streams. So this holds at most [`FLIGHTS_MAX`] times [`ASKED_BYTES_MAX`], and one chunk.
pub(super) struct Fetch {
    session: Arc<Session>,
    version: VersionKey,
    wanted: Wanted,
    flights: VecDeque<Flight>,
    has_failed: bool,
}

/// What has not been asked for yet.
enum Wanted {
    Chunks(std::vec::IntoIter<WantedChunk>),
    Range(Range<u64>),
}

/// One request that was sent.
struct Flight {
    stream: RecvStream,
    is_answered: bool,
    /// What has not been read yet.
    parts: VecDeque<Part>,
    _slot: OwnedSemaphorePermit,
}

#[derive(Clone, Copy)]
struct Part {
    len: u32,
    /// Of a chunk.
    hash: Option<ChunkHash>,
}

impl Fetch {
    pub(super) fn chunks(
        session: Arc<Session>,
        version: VersionKey,
        wanted: Vec<WantedChunk>,
    ) -> Self {
        Self::new(session, version, Wanted::Chunks(wanted.into_iter()))
    }

    pub(super) fn range(session: Arc<Session>, version: VersionKey, range: Range<u64>) -> Self {
        Self::new(session, version, Wanted::Range(range))
    }

    fn new(session: Arc<Session>, version: VersionKey, wanted: Wanted) -> Self {
        Self {
            session,
            version,
            wanted,
            flights: VecDeque::new(),
            has_failed: false,
        }
    }

    async fn advance(&mut self) -> Result<Option<Bytes>, PeerError> {
        loop {
            self.depart().await?;
            let Some(flight) = self.flights.front_mut() else {
                return Ok(None);
            };
            if !flight.is_answered {
                flight.answered(&self.session).await?;
            }
            if let Some(bytes) = flight.read(&self.session).await? {
                return Ok(Some(bytes));
            }
            self.session.end_of(&mut flight.stream).await?;
            self.flights.pop_front();
        }
    }

    /// Sends requests, as many as may be on their way.
    async fn depart(&mut self) -> Result<(), PeerError> {
        while self.flights.len() < FLIGHTS_MAX && !self.wanted.is_empty() {
            let asked = &self.session.asked;
            let slot = match self.flights.is_empty() {
                true => Some(self.session.slot(asked.clone().acquire_owned()).await?),
                false if asked.available_permits() <= FLIGHTS_SPARED => None,
                false => asked.clone().try_acquire_owned().ok(),
            };
            let Some(slot) = slot else {
                return Ok(());
            };
            let (request, parts) = self.wanted.next(self.version);
            let stream = self.session.ask(&request);
            let stream = self.session.within("fetch from", stream).await?;
            self.flights.push_back(Flight {
                stream,
                is_answered: false,
                parts,
                _slot: slot,
            });
        }
        Ok(())
    }
}

impl PeerStream for Fetch {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, PeerError>> {
        Box::pin(async {
            if self.has_failed {
                return Err(self.session.gone());
            }
            let next = self.advance().await;
            if next.is_err() {
                self.has_failed = true;
                self.flights.clear();
            }
            next
        })
    }
}

impl Wanted {
    fn is_empty(&self) -> bool {
        match self {
            Self::Chunks(chunks) => chunks.as_slice().is_empty(),
            Self::Range(range) => range.is_empty(),
        }
    }

    /// The next request, and what it brings. There is something left.
    fn next(&mut self, version: VersionKey) -> (Request, VecDeque<Part>) {
        match self {
            Self::Chunks(chunks) => {
                let count = first_batch(chunks.as_slice(), ASKED_BYTES_MAX, CHUNKS_COUNT_MAX);
                let batch: Vec<WantedChunk> = chunks.take(count).collect();
                let hashes = batch.iter().map(|chunk| chunk.hash).collect();
                let part = |chunk: &WantedChunk| Part {
                    len: chunk.len,
                    hash: Some(chunk.hash),
                };
                let parts = batch.iter().map(part).collect();
                (Request::Chunks { version, hashes }, parts)
            }
            Self::Range(range) => {
                let end = range.end.min(range.start.saturating_add(ASKED_BYTES_MAX));
                let asked = range.start..end;
                range.start = end;
                let len = u32::try_from(asked.end - asked.start);
                let len = len.expect("a request asks for 1 MiB at most");
                let ranges = vec![asked];
                let parts = [Part { len, hash: None }].into();
                (Request::Ranges { version, ranges }, parts)
            }
        }
    }
}

impl Flight {
    /// Waits for the frame in front of the payload.
    async fn answered(&mut self, session: &Session) -> Result<(), PeerError> {
        let answer = session.answer_of(&mut self.stream);
        let answer = session.within("fetch from", answer).await?;
        if !self.parts.iter().map(|part| part.len).eq(answer.lens) {
            return Err(session.malformed("an answer of other lengths"));
        }
        self.is_answered = true;
        Ok(())
    }

    /// The next bytes; `None` when all that it brings was read.
    async fn read(&mut self, session: &Session) -> Result<Option<Bytes>, PeerError> {
        let Some(part) = self.parts.pop_front() else {
            return Ok(None);
        };
        let len = match part.hash {
            Some(_) => part.len as usize,
            None => PIECE_BYTES.min(part.len as usize),
        };
        let mut bytes = BytesMut::with_capacity(len);
        session.read_into(&mut self.stream, &mut bytes, len).await?;
        let bytes = bytes.freeze();
        match part.hash {
            Some(hash) if ChunkHash::of(&bytes) != hash => {
                return Err(PeerError::Corrupt {
                    peer: session.node,
                    chunk: hash,
                });
            }
            Some(_) => session.counters.received(bytes.len(), 1),
            None => {
                let left = part.len - len as u32;
                if left > 0 {
                    let hash = None;
                    self.parts.push_front(Part { len: left, hash });
                }
                session.counters.received(bytes.len(), 0);
            }
        }
        Ok(Some(bytes))
    }
}
