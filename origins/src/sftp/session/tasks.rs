//! The two tasks of a connection: one takes in what the server sends, the other closes what is no
//! longer wanted, and the connection itself when nobody wants it.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use russh::{ChannelMsg, ChannelReadHalf};
use tokio::time::Instant;

use super::super::failure::Failure;
use super::super::lock;
use super::super::wire::{self, Framer, Reply, Request};
use super::{Answer, OpenHandle, Session};

/// A connection that nobody used for so many times the patience is closed: 60 s.
const IDLE_FACTOR: u32 = 2;

/// Takes in what comes, until the connection ends. Never waits for anything else: the connection's
/// own task waits for it.
pub(super) async fn receive(session: Arc<Session>, mut channel: ChannelReadHalf) {
    let mut framer = Framer::default();
    let failure = loop {
        let message = tokio::select! {
            biased;
            () = session.end.cancelled() => break Failure::lost(io::ErrorKind::ConnectionAborted),
            message = channel.wait() => message,
        };
        match message {
            Some(ChannelMsg::Data { data }) => {
                framer.push(data);
                if let Err(failure) = take(&session, &mut framer) {
                    break failure;
                }
            }
            Some(ChannelMsg::Eof | ChannelMsg::Close) | None => {
                break Failure::lost(io::ErrorKind::ConnectionReset);
            }
            // What a shell's start-up file prints to standard error, exit codes, and the like.
            Some(_) => {}
        }
    };
    session.end_with(failure);
}

/// Closes handles and, when idle, the connection.
pub(super) async fn keep(session: Arc<Session>) {
    let idle = session.patience * IDLE_FACTOR;
    loop {
        let deadline = {
            let state = lock(&session.state);
            match state.waiting.is_empty() && !session.runs_command() {
                true => state.progress + idle,
                false => Instant::now() + idle,
            }
        };
        tokio::select! {
            biased;
            () = session.end.cancelled() => return,
            () = session.has_closing.notified() => {
                if close(&session).await.is_err() {
                    return;
                }
            }
            () = tokio::time::sleep_until(deadline) => {
                let is_idle = {
                    let state = lock(&session.state);
                    let is_unused = state.waiting.is_empty() && !session.runs_command();
                    is_unused && state.progress.elapsed() >= idle
                };
                if is_idle {
                    session.end_with(Failure::lost(io::ErrorKind::ConnectionAborted));
                    return;
                }
            }
        }
    }
}

/// Sends a CLOSE for all that is to be closed. Nobody waits for the answers.
async fn close(session: &Arc<Session>) -> Result<(), Failure> {
    let closing = std::mem::take(&mut *lock(&session.closing));
    for gone in closing {
        drop(session.send(&[Request::Close(&gone.handle)], None).await?);
        // Whatever is opened from now on is behind it.
        drop(gone.place);
    }
    Ok(())
}

fn take(session: &Arc<Session>, framer: &mut Framer) -> Result<(), Failure> {
    while let Some(packet) = framer.next()? {
        answer(session, packet)?;
    }
    Ok(())
}

fn answer(session: &Arc<Session>, packet: Bytes) -> Result<(), Failure> {
    let (id, reply) = wire::decode(packet)?;
    let waiter = {
        let mut state = lock(&session.state);
        state.progress = Instant::now();
        state.waiting.remove(&id)
    };
    let Some(waiter) = waiter else {
        return Err(Failure::Malformed("an answer is to no request"));
    };
    let answer = match reply {
        Reply::Handle(handle) => {
            Answer::Opened(OpenHandle::new(Arc::clone(session), handle, waiter.place))
        }
        other => Answer::Reply(other),
    };
    // Whoever gave up waiting does not want it; a handle closes itself.
    drop(waiter.reply.send(answer));
    Ok(())
}
