//! The answer to one request, on its way out.

use std::time::Duration;

use bytes::Bytes;
use quinn::SendStream;

use super::close::StreamCode;
use super::write::{Fault, write_all};
use crate::wire::{Answer, Status};

/// The sending half of a request's stream.
///
/// What is not finished is reset when this is dropped: half a payload must not look like a whole one.
pub(super) struct Reply {
    stream: SendStream,
    stall_max: Duration,
    /// What a reset says.
    code: StreamCode,
    is_finished: bool,
}

impl Reply {
    pub(super) fn new(stream: SendStream, stall_max: Duration) -> Self {
        Self {
            stream,
            stall_max,
            code: StreamCode::NotHeld,
            is_finished: false,
        }
    }

    /// Ends the stream with no word, or in the middle of them.
    pub(super) fn reset(mut self, code: StreamCode) {
        self.code = code;
    }

    /// Answers without a payload; gives itself back, to be finished.
    pub(super) async fn status(mut self, status: Status) -> Option<Self> {
        self.write(Answer::of(status).to_frame()).await.ok()?;
        Some(self)
    }

    /// Sends a part of the answer.
    ///
    /// # Errors
    /// [`Fault`]; nothing more can be sent.
    pub(super) async fn write(&mut self, bytes: Bytes) -> Result<(), Fault> {
        let written = write_all(&mut self.stream, bytes, self.stall_max).await;
        written.inspect_err(|fault| {
            self.code = match fault {
                Fault::Stalled => StreamCode::Stalled,
                Fault::Stopped | Fault::Lost => StreamCode::Unwanted,
            }
        })
    }

    /// Ends when the other end does not want any of it.
    pub(super) fn unwanted(&self) -> impl Future<Output = ()> + Send + use<> {
        let stopped = self.stream.stopped();
        async move {
            // Also at the end of the connection.
            let _ = stopped.await;
        }
    }

    /// All was sent. The future ends when it has arrived, or is not wanted.
    pub(super) fn finish(mut self) -> impl Future<Output = ()> + Send + use<> {
        self.is_finished = true;
        // Fails only where the other end stopped it, and then `stopped` says so.
        let _ = self.stream.finish();
        self.unwanted()
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if !self.is_finished {
            // Fails only where the stream is over anyway.
            let _ = self.stream.reset(self.code.number());
        }
    }
}
