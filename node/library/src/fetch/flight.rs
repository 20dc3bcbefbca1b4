//! One flight: a range on its way from a source into the store and to the reads that wait.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use musicfs_core::error::with_causes;
use musicfs_core::extents::BLOCK_BYTES;
use musicfs_core::fetch::{Ended, FlightId, Latency, Next, Priority, Rota};
use musicfs_core::origin::PIECE_BYTES_MAX;
use musicfs_store::{Class, Written};
use tokio::sync::mpsc::{self, error::TryRecvError};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::gate::Ticket;
use super::source::{Cause, Source, Stream};
use super::{RemoteFile, blocking};
use crate::upstream::Reason;

/// What a flight is told while it is on its way.
#[derive(Clone)]
pub(super) struct Orders {
    pub(super) stop: CancellationToken,
    /// Where it ends; only ever lowered, and never below what it has brought.
    pub(super) end: Arc<AtomicU64>,
    /// What it is for.
    pub(super) reason: Reason,
}

/// Pieces that wait for the disk; what they hold is bounded by bytes.
const PIECES_WAITING_MAX: usize = 64;

/// No more is received while this much has not been told of: with the next piece, which is half as
/// long as it may be at most, a flight holds no more than [`musicfs_core::fetch::CUT_AFTER_BYTES`].
const UNTOLD_BYTES_MAX: usize = PIECE_BYTES_MAX / 2;

/// How far a flight has come.
struct Progress {
    /// Up to where it has brought everything.
    at: u64,
    /// What an origin sent behind that, and is no whole block yet. It outlives the try that brought it:
    /// on a line that breaks again and again, little is still something.
    pending: BytesMut,
    /// Up to where it had come when a peer's connection was lost.
    lost_at: Option<u64>,
}

/// How a try to fetch ended without having failed.
enum Landing {
    Complete,
    /// The source has no more of it, or is gone: whoever has the rest is looked up anew.
    Short,
    Stopped,
}

impl RemoteFile {
    /// Fetches `range`, with retries, and tells the planner how it went.
    pub(super) async fn fly(
        self: Arc<Self>,
        flight: FlightId,
        range: Range<u64>,
        mut ticket: Ticket,
        orders: Orders,
    ) {
        let outcome = tokio::select! {
            biased;
            () = orders.stop.cancelled() => Ok(Landing::Stopped),
            () = ticket.granted() => {
                let mut progress = Progress::new(range.start);
                let fetched = self.fetch(flight, &mut progress, &ticket, &orders).await;
                fetched.map_err(|cause| (progress.at, cause))
            }
        };
        drop(ticket);
        match outcome {
            Ok(Landing::Complete | Landing::Short) => self.landed(flight, Ended::Complete, None),
            Ok(Landing::Stopped) => self.landed(flight, Ended::Stopped, None),
            Err((at, cause)) => {
                tracing::debug!(
                    file = %self.leading().path(),
                    error = %with_causes(&*cause),
                    "a fetch failed"
                );
                self.landed(flight, Ended::Failed, Some((at..range.end, cause)));
            }
        }
        self.finish_if_complete().await;
    }

    /// Fetches part after part, each from whoever has it, until all is there.
    async fn fetch(
        self: &Arc<Self>,
        flight: FlightId,
        progress: &mut Progress,
        ticket: &Ticket,
        orders: &Orders,
    ) -> Result<Landing, Arc<Cause>> {
        loop {
            match self.fetch_part(flight, progress, ticket, orders).await? {
                // It has come further, or is lost here for the first time: this ends.
                Landing::Short => {}
                landing => return Ok(landing),
            }
        }
    }

    /// Asks one source after the other until one brings all that it has, it is stopped, or no try is
    /// left.
    async fn fetch_part(
        self: &Arc<Self>,
        flight: FlightId,
        progress: &mut Progress,
        ticket: &Ticket,
        orders: &Orders,
    ) -> Result<Landing, Arc<Cause>> {
        let sources = self.candidates(progress.end());
        let standings = || sources.iter().map(Source::standing).collect::<Vec<_>>();
        let mut rota = Rota::new(&standings());
        let mut next = rota.first(&standings());
        let mut last = None;
        while let Next::Ask {
            source: asked,
            delay,
            has_other,
        } = next
        {
            tokio::select! {
                () = orders.stop.cancelled() => return Ok(Landing::Stopped),
                () = tokio::time::sleep(delay), if !delay.is_zero() => {}
                () = std::future::ready(()), if delay.is_zero() => {}
            }
            let source = &sources[asked];
            let before = progress.end();
            let patience = source.patience(match has_other {
                true => Latency::PATIENCE_MIN,
                false => Latency::PATIENCE_SOLE_MIN,
            });
            let cause = match self
                .attempt(source, patience, flight, progress, ticket, orders)
                .await
            {
                Ok(landing) => return Ok(landing),
                Err(cause) => cause,
            };
            tracing::debug!(
                file = %self.leading().path(),
                at = progress.end(),
                error = %with_causes(&cause),
                "a source failed"
            );
            source.failed(&cause).await;
            if cause.is_gone() && progress.is_lost_anew() {
                // The node may be there over another connection by now.
                return Ok(Landing::Short);
            }
            let meaning = source.meaning(&cause, patience).await;
            next = rota.failed(asked, meaning, progress.end() > before, &standings());
            last = Some(cause);
        }
        let last = last.expect("a file has a source, and it was asked");
        Err(Arc::new(last))
    }

    /// One request.
    async fn attempt(
        self: &Arc<Self>,
        source: &Source,
        patience: Duration,
        flight: FlightId,
        progress: &mut Progress,
        ticket: &Ticket,
        orders: &Orders,
    ) -> Result<Landing, Cause> {
        let asked = Instant::now();
        progress.part(source);
        let start = progress.end();
        let limit = source.limit(start);
        let opened = tokio::select! {
            () = orders.stop.cancelled() => return Ok(Landing::Stopped),
            opened = tokio::time::timeout(patience, source.open(self, start)) => {
                opened.map_err(|_| source.late(patience))??
            }
        };
        // The end may lie before what has been received: then only that is left to be stored.
        let end = orders.end().min(limit);
        let range = start..end.max(start);
        // What comes in while the disk takes what came before waits here, and goes to it together.
        let (sender, pieces) = mpsc::channel(PIECES_WAITING_MAX);
        let room = Room::new(progress.pending.len());
        let mut landing = Ok(Landing::Complete);
        {
            let stream = source.stream(&opened, range.clone());
            let sink = (sender, &room);
            let receiving = receive(source, stream, patience, asked, sink, orders, range);
            let storing = self.store(flight, progress, end, (pieces, &room), ticket, orders);
            tokio::pin!(receiving, storing);
            tokio::select! {
                biased;
                () = &mut storing => {}
                received = &mut receiving => {
                    landing = received;
                    storing.await;
                }
            }
        }
        progress.part(source);
        match landing? {
            Landing::Stopped => Ok(Landing::Stopped),
            Landing::Complete | Landing::Short => Ok(orders.landing(progress.at)),
        }
    }

    /// Stores what comes in, as much at once as there is, until all up to `end` is there or no more
    /// comes.
    async fn store(
        self: &Arc<Self>,
        flight: FlightId,
        progress: &mut Progress,
        end: u64,
        (mut pieces, room): (mpsc::Receiver<Bytes>, &Room),
        ticket: &Ticket,
        orders: &Orders,
    ) {
        let Progress { at, pending, .. } = progress;
        let mut is_open = true;
        loop {
            while is_open && pending.len() < PIECE_BYTES_MAX {
                match pieces.try_recv() {
                    Ok(piece) => pending.extend_from_slice(&piece),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => is_open = false,
                }
            }
            // The end may be lowered meanwhile: it is looked at again.
            let left = orders.end().min(end).saturating_sub(*at);
            let left = usize::try_from(left).unwrap_or(usize::MAX);
            let len = ready(pending.len(), *at..end)
                .min(PIECE_BYTES_MAX)
                .min(left);
            if len > 0 {
                self.take_in(flight, *at, pending.split_to(len).freeze())
                    .await;
                ticket.arrived(len as u64);
                room.give_back(len);
                *at += len as u64;
            } else if left == 0 || !is_open {
                return;
            } else {
                match pieces.recv().await {
                    Some(piece) => pending.extend_from_slice(&piece),
                    None => is_open = false,
                }
            }
        }
    }

    /// Stores whole blocks and hands them out.
    async fn take_in(self: &Arc<Self>, flight: FlightId, at: u64, bytes: Bytes) {
        let file = self.clone();
        let copy = bytes.clone();
        // If the runtime ends, nobody waits any more.
        let is_refused = blocking(move || file.keep(at, &copy)).await.unwrap_or(true);
        self.fetcher.dirty.notify_one();
        let mut state = self.state();
        state.is_refused = is_refused;
        self.hand_out(&mut state, at, &bytes);
        let upto = at + bytes.len() as u64;
        state.planner.arrived(self.fetcher.now(), flight, upto);
        drop(state);
        self.progress.notify_waiters();
    }

    /// Writes blocks into the store, each in its class; true if it did not keep them all.
    fn keep(&self, at: u64, bytes: &Bytes) -> bool {
        let end = at + bytes.len() as u64;
        let mut is_refused = false;
        let mut start = at;
        while start < end {
            let is_header = |block: u64| {
                let range = block..block + BLOCK_BYTES;
                self.header.within(range).next().is_some()
            };
            let class = is_header(start);
            let mut stop = (start / BLOCK_BYTES + 1) * BLOCK_BYTES;
            while stop < end && is_header(stop) == class {
                stop += BLOCK_BYTES;
            }
            let stop = stop.min(end);
            let slice = |offset: u64| usize::try_from(offset - at).unwrap_or(usize::MAX);
            let part = &bytes[slice(start)..slice(stop)];
            is_refused |= !self.keep_as(start, part, class);
            start = stop;
        }
        is_refused
    }

    fn keep_as(&self, at: u64, bytes: &[u8], is_header: bool) -> bool {
        let write = |class| match self.object.write(at, bytes, class) {
            Ok(Written::Kept) => true,
            Ok(Written::Refused(_)) => false,
            Err(error) => {
                tracing::debug!(error = %with_causes(&error), "the cache did not keep a block");
                false
            }
        };
        // A header that does not fit its quota is at least kept like what is played.
        (is_header && write(Class::Header)) || write(Class::Body)
    }

    /// Cuts and hashes the content once it is all there.
    async fn finish_if_complete(self: &Arc<Self>) {
        if !self.object.is_complete() || std::mem::replace(&mut self.state().is_finished, true) {
            return;
        }
        let object = self.object.clone();
        match blocking(move || object.finish()).await {
            Ok(Ok(_)) => {
                if !self.settle_claim().await {
                    return;
                }
                self.fetcher.dirty.notify_one();
                self.fetcher.proofs.complete(self.object.version());
            }
            Ok(Err(error)) => {
                self.state().is_finished = false;
                tracing::warn!(
                    file = %self.leading().path(),
                    error = %with_causes(&error),
                    "a complete file could not be hashed; it is tried again when it is next fetched"
                );
            }
            Err(_) => {}
        }
    }
}

/// Passes on what a source sends of `range`, until that is all.
async fn receive(
    source: &Source,
    mut stream: Stream<'_>,
    patience: Duration,
    asked: Instant,
    (pieces, room): (mpsc::Sender<Bytes>, &Room),
    orders: &Orders,
    range: Range<u64>,
) -> Result<Landing, Cause> {
    let (mut at, mut is_first) = (range.start, true);
    while at < range.end.min(orders.end()) {
        tokio::select! {
            () = orders.stop.cancelled() => return Ok(Landing::Stopped),
            () = room.wait() => {}
        }
        let piece = tokio::select! {
            () = orders.stop.cancelled() => return Ok(Landing::Stopped),
            piece = tokio::time::timeout(patience, stream.next()) => piece,
        };
        let piece = piece.map_err(|_| source.late(patience))??;
        let Some(piece) = piece.filter(|piece| !piece.is_empty()) else {
            return Err(source.ended_early());
        };
        if std::mem::take(&mut is_first) {
            source.answered(asked.elapsed());
        }
        if let Source::Origin(origin) = source {
            origin.upstream().count(orders.reason, piece.len() as u64);
        }
        at += piece.len() as u64;
        room.take(piece.len());
        if pieces.send(piece).await.is_err() {
            break;
        }
    }
    Ok(Landing::Complete)
}

impl Progress {
    fn new(at: u64) -> Self {
        Self {
            at,
            pending: BytesMut::new(),
            lost_at: None,
        }
    }

    /// A connection was lost; false if one was lost at this very place before.
    fn is_lost_anew(&mut self) -> bool {
        let here = self.end();
        self.lost_at.replace(here) != Some(here)
    }

    /// A request to `source` begins, or is over. What a peer sent is dropped should it turn out to be
    /// false: none of it may lie here then, and go into a block with what an origin sent.
    fn part(&mut self, source: &Source) {
        if matches!(source, Source::Peer(_)) {
            self.pending.clear();
        }
    }

    /// Up to where it has received everything.
    fn end(&self) -> u64 {
        self.at + self.pending.len() as u64
    }
}

/// How much of what a flight received has not been told of.
struct Room {
    untold: watch::Sender<usize>,
}

impl Room {
    fn new(untold: usize) -> Self {
        let untold = watch::Sender::new(untold);
        Self { untold }
    }

    /// Waits until more may be received.
    async fn wait(&self) {
        let mut untold = self.untold.subscribe();
        // The sender lies beside it.
        let _ = untold.wait_for(|untold| *untold <= UNTOLD_BYTES_MAX).await;
    }

    fn take(&self, len: usize) {
        self.untold.send_modify(|untold| *untold += len);
    }

    fn give_back(&self, len: usize) {
        self.untold.send_modify(|untold| *untold -= len);
    }
}

/// What a flight counts as: by its priority, unless the content was all there before.
pub(super) fn reason(priority: Priority, was_complete: bool) -> Reason {
    match priority {
        _ if was_complete => Reason::Heal,
        Priority::Demand | Priority::Readahead => Reason::Play,
        Priority::Fill => Reason::Fill,
        Priority::Prefetch => Reason::Prefetch,
    }
}

impl Orders {
    fn end(&self) -> u64 {
        self.end.load(Ordering::Relaxed)
    }

    /// What it means that a source brought everything up to `at`.
    fn landing(&self, at: u64) -> Landing {
        match at >= self.end() {
            true => Landing::Complete,
            false => Landing::Short,
        }
    }
}

/// How many of the first `len` bytes of `range` are whole blocks, or end it.
fn ready(len: usize, range: Range<u64>) -> usize {
    let end = range.start + len as u64;
    if end >= range.end {
        return len;
    }
    let whole = (end / BLOCK_BYTES * BLOCK_BYTES).saturating_sub(range.start);
    usize::try_from(whole).unwrap_or(len)
}
