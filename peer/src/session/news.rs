//! The two streams of news: what this node tells, and what it is told.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use quinn::{ReadError, RecvStream, SendStream};
use tokio::sync::{Notify, mpsc};

use super::write::{Fault, write_all};
use super::{Ended, Heard, KnownNode, Session};
use crate::have::Listener;
use crate::policy::announce::Overrun;
use crate::wire::{self, FrameError, KNOWN_ADDRESSES_MAX, KNOWN_NODES_MAX, News, Violation};

/// What waits to be told beside what is held.
#[derive(Debug, Default)]
pub(super) struct Telling {
    known: Mutex<Option<Vec<KnownNode>>>,
    is_leaving: AtomicBool,
    /// One of them changed.
    changed: Notify,
}

impl Telling {
    /// Replaces whom this node knows, within bounds.
    pub(super) fn know(&self, mut known: Vec<KnownNode>) {
        known.truncate(KNOWN_NODES_MAX);
        for node in &mut known {
            node.addresses.retain(wire::is_dialable);
            node.addresses.truncate(KNOWN_ADDRESSES_MAX);
        }
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(known);
        self.changed.notify_one();
    }

    /// This node is ending.
    pub(super) fn leave(&self) {
        self.is_leaving.store(true, Ordering::Release);
        self.changed.notify_one();
    }

    /// True once this node is ending.
    pub(super) fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Acquire)
    }

    fn next(&self, listener: &mut Listener<'_>) -> Result<Option<News>, Overrun> {
        if self.is_leaving() {
            return Ok(Some(News::Goodbye));
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.take() {
            return Ok(Some(News::Known(known)));
        }
        let changes = listener.next()?;
        Ok((!changes.is_empty()).then_some(News::Have(changes)))
    }
}

impl Session {
    /// Tells the other end what this node holds and knows. Ends only if the other end takes nothing of it.
    pub(super) async fn tell(&self, stream: &mut SendStream) -> Ended {
        let mut listener = self.local.have.listen();
        loop {
            let news = match self.telling.next(&mut listener) {
                Err(Overrun) => return Ended::Slow,
                Ok(Some(news)) => news,
                Ok(None) => {
                    tokio::select! {
                        biased;
                        () = self.telling.changed.notified() => {}
                        () = listener.changed() => {}
                    }
                    continue;
                }
            };
            let is_last = news == News::Goodbye;
            let stall_max = self.local.limits.news_stall_max;
            match write_all(stream, news.to_frame(), stall_max).await {
                Ok(()) => {}
                Err(Fault::Stalled) => return Ended::Slow,
                Err(Fault::Stopped) => {
                    return Ended::Violation(Violation("a stop of the stream of news"));
                }
                Err(Fault::Lost) => return self.over().await,
            }
            if is_last {
                // Fails only where it has ended already.
                let _ = stream.finish();
                return self.over().await;
            }
        }
    }

    /// Takes what the other end tells. Ends only if that breaks the protocol.
    pub(super) async fn hear(&self, stream: &mut RecvStream, heard: mpsc::Sender<Heard>) -> Ended {
        loop {
            let message = match wire::read_frame(stream).await {
                Ok(Some(message)) => message,
                Ok(None) => {
                    return Ended::Violation(Violation("an end of news without a goodbye"));
                }
                Err(FrameError::Violation(what)) => return Ended::Violation(what),
                Err(FrameError::Read(ReadError::Reset(_))) => {
                    return Ended::Violation(Violation("a reset of the stream of news"));
                }
                Err(FrameError::Read(_)) => return self.over().await,
            };
            match self.take(message, &heard) {
                Ok(true) => {}
                Ok(false) => return self.over().await,
                Err(what) => return Ended::Violation(what),
            }
        }
    }

    /// Takes one message; false if it was the last.
    fn take(&self, message: Bytes, heard: &mpsc::Sender<Heard>) -> Result<bool, Violation> {
        match News::decode(message)? {
            News::Hello(_) => return Err(Violation("a second Hello")),
            News::Have(changes) => self.table().apply(changes)?,
            News::Known(mut known) => {
                for node in &mut known {
                    node.addresses.retain(wire::is_dialable);
                }
                // If nobody has time for it, the next one tells all again.
                let from = self.node;
                let _ = heard.try_send(Heard { from, known });
            }
            News::Goodbye => {
                self.has_left.store(true, Ordering::Release);
                self.table().clear();
                return Ok(false);
            }
            News::Unknown => {}
        }
        Ok(true)
    }

    /// Waits until the connection has ended.
    pub(super) async fn over(&self) -> Ended {
        Ended::of(self.connection.closed().await)
    }
}
