//! Asking the other end for something.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use musicfs_core::manifest::{CHUNK_BYTES_MIN, Manifest};
use musicfs_core::peer::PeerError;
use musicfs_core::version::VersionKey;
use quinn::{ReadError, RecvStream};
use tokio::io::AsyncReadExt;
use tokio::sync::AcquireError;
use tokio::time::Instant;

use super::close::StreamCode;
use super::{Session, proof};
use crate::wire::{self, Answer, FrameError, MANIFEST_BYTES_MAX, Request, Status};

impl Session {
    pub(super) async fn ping_once(&self) -> Result<Duration, PeerError> {
        let start = Instant::now();
        self.within("ping", async {
            let mut stream = self.ask(&Request::Ping).await?;
            self.answer_of(&mut stream).await
        })
        .await?;
        Ok(start.elapsed())
    }

    pub(super) async fn fetch_manifest(
        &self,
        version: VersionKey,
        size: u64,
    ) -> Result<Arc<Manifest>, PeerError> {
        let _slot = self.slot(self.manifests.acquire()).await?;
        let asking = async {
            let mut stream = self.ask(&Request::Manifest(version)).await?;
            let answer = self.answer_of(&mut stream).await?;
            Ok((stream, answer))
        };
        let (mut stream, answer) = self.within("fetch from", asking).await?;
        let ([len], Some(proof)) = (&answer.lens[..], answer.proof) else {
            return Err(self.malformed("a manifest without a length or a signature"));
        };
        // What would be longer than chunks of this size can make it is not even received.
        let chunks_max = usize::try_from(size.div_ceil(u64::from(CHUNK_BYTES_MIN)));
        let bytes_max = Manifest::encoded_bytes(chunks_max.unwrap_or(usize::MAX / 64)) as u64;
        if u64::from(*len) > bytes_max.min(MANIFEST_BYTES_MAX) {
            return Err(self.malformed("a manifest that is too long for its file"));
        }
        let mut encoded = BytesMut::new();
        self.read_into(&mut stream, &mut encoded, *len as usize)
            .await?;
        self.end_of(&mut stream).await?;
        if !proof::is_of(&proof, self.node, version, &encoded) {
            return Err(self.malformed("a manifest that it did not sign"));
        }
        match Manifest::decode(&encoded) {
            Some(manifest) if manifest.len == size => Ok(Arc::new(manifest)),
            Some(_) => Err(self.malformed("a manifest of another size")),
            None => Err(self.malformed("a manifest that is none")),
        }
    }

    /// Waits for a place among the requests that are on their way.
    pub(super) async fn slot<T>(
        &self,
        place: impl Future<Output = Result<T, AcquireError>>,
    ) -> Result<T, PeerError> {
        let waiting = async {
            tokio::select! {
                biased;
                // Those who hold the places may not look at them again.
                _ = self.connection.closed() => Err(self.gone()),
                place = place => Ok(place.expect("it is never closed")),
            }
        };
        self.within("fetch from", waiting).await
    }

    /// Sends a request; its answer comes on the stream.
    pub(super) async fn ask(&self, request: &Request) -> Result<RecvStream, PeerError> {
        if self.has_left.load(Ordering::Acquire) {
            return Err(self.busy());
        }
        let opened = self.connection.open_bi().await;
        let (mut send, stream) = opened.map_err(|_| self.gone())?;
        // If it was stopped, the answer says why.
        match send.write_chunk(request.to_frame()).await {
            Err(quinn::WriteError::ConnectionLost(_)) => Err(self.gone()),
            Ok(()) | Err(_) => Ok(stream),
        }
    }

    /// The frame in front of a payload. What is no payload is an error.
    pub(super) async fn answer_of(&self, stream: &mut RecvStream) -> Result<Answer, PeerError> {
        let message = match wire::read_frame(stream).await {
            Ok(Some(message)) => message,
            Ok(None) => return Err(self.malformed("no answer")),
            Err(FrameError::Violation(what)) => return Err(self.malformed(what.0)),
            Err(FrameError::Read(error)) => return Err(self.ended(&error)),
        };
        let answer = Answer::decode(message).map_err(|what| self.malformed(what.0))?;
        match answer.status {
            Status::Ok => Ok(answer),
            // A request that it does not know, or within bounds that it does not have: for what it is
            // asked for, it is as if it did not hold it.
            Status::NotHeld | Status::Refused => Err(self.not_held()),
            Status::Busy => Err(self.busy()),
        }
    }

    /// Reads until `bytes` holds `len` bytes. It takes no more memory than what has come.
    pub(super) async fn read_into(
        &self,
        stream: &mut RecvStream,
        bytes: &mut BytesMut,
        len: usize,
    ) -> Result<(), PeerError> {
        /// What is set aside before it has come: the longest chunk.
        const RESERVED_BYTES_MAX: usize = 256 << 10;
        while bytes.len() < len {
            let left = len - bytes.len();
            bytes.reserve(left.min(RESERVED_BYTES_MAX));
            let mut limited = (&mut *bytes).limit(left);
            let reading = async {
                let read = stream.read_buf(&mut limited).await;
                read.map_err(|error| self.ended_io(&error))
            };
            if self.within("fetch from", reading).await? == 0 {
                return Err(self.malformed("less than it promised"));
            }
        }
        Ok(())
    }

    /// Makes sure that nothing follows.
    pub(super) async fn end_of(&self, stream: &mut RecvStream) -> Result<(), PeerError> {
        let reading = async {
            let read = stream.read_chunk(1, true).await;
            read.map_err(|error| self.ended(&error))
        };
        match self.within("fetch from", reading).await? {
            None => Ok(()),
            Some(_) => Err(self.malformed("more than it promised")),
        }
    }

    /// Waits for something of an answer, for so long and no longer.
    pub(super) async fn within<T>(
        &self,
        action: &'static str,
        future: impl Future<Output = Result<T, PeerError>>,
    ) -> Result<T, PeerError> {
        let after = self.local.limits.answer_wait_max;
        let peer = self.node;
        let in_time = tokio::time::timeout(after, future).await;
        in_time.unwrap_or(Err(PeerError::TimedOut {
            peer,
            action,
            after,
        }))
    }

    pub(super) fn gone(&self) -> PeerError {
        PeerError::Gone { peer: self.node }
    }

    pub(super) fn malformed(&self, what: &'static str) -> PeerError {
        let peer = self.node;
        PeerError::Malformed { peer, what }
    }

    fn busy(&self) -> PeerError {
        PeerError::Busy { peer: self.node }
    }

    fn not_held(&self) -> PeerError {
        PeerError::NotHeld { peer: self.node }
    }

    /// Why an answer does not go on.
    fn ended(&self, error: &ReadError) -> PeerError {
        let ReadError::Reset(code) = error else {
            return self.gone();
        };
        match StreamCode::from_number(*code) {
            Some(StreamCode::NotHeld | StreamCode::Violation | StreamCode::Unsupported) => {
                self.not_held()
            }
            Some(StreamCode::Stalled | StreamCode::Unwanted) | None => self.busy(),
        }
    }

    fn ended_io(&self, error: &std::io::Error) -> PeerError {
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
        cause.map_or_else(|| self.gone(), |cause| self.ended(cause))
    }
}
