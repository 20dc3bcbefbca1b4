//! Carries out what the planner decides, and tells it what became of it.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use musicfs_core::fetch::{Command, Ended, FlightId};
use tokio::time::Instant;

use super::{Cause, Control, Failure, RemoteFile, State};
use crate::fetch::flight::{Orders, reason};

impl RemoteFile {
    /// Asks the planner what else would be good to have.
    pub(in crate::fetch) fn plan(&self, state: &mut State) {
        if !state.is_refused {
            let mut absent = |range| self.object.absent(range);
            state.planner.plan(self.fetcher.now(), &mut absent);
        }
    }

    /// Carries out what the planner decided.
    pub(in crate::fetch) fn pump(self: &Arc<Self>, state: &mut State) {
        while let Some(command) = state.planner.poll_command() {
            match command {
                Command::Start {
                    flight,
                    range,
                    priority,
                } => {
                    let bytes = range.end - range.start;
                    let ticket = self.fetcher.gate.request(bytes, priority);
                    let control = Control {
                        stop: self.fetcher.stop.child_token(),
                        ticket: ticket.number(),
                        end: Arc::new(AtomicU64::new(range.end)),
                    };
                    let orders = Orders {
                        stop: control.stop.clone(),
                        end: control.end.clone(),
                        reason: reason(priority, self.object.manifest().is_some()),
                    };
                    state.flights.insert(flight, control);
                    self.fetcher
                        .runtime
                        .spawn(self.clone().fly(flight, range, ticket, orders));
                }
                Command::Shorten { flight, end } => {
                    if let Some(control) = state.flights.get(&flight) {
                        control.end.fetch_min(end, Ordering::Relaxed);
                    }
                }
                Command::Raise { flight, priority } => {
                    if let Some(control) = state.flights.get(&flight) {
                        self.fetcher.gate.raise(control.ticket, priority);
                    }
                }
                Command::Stop { flight } => {
                    if let Some(control) = state.flights.get(&flight) {
                        control.stop.cancel();
                    }
                }
            }
        }
        self.schedule(state);
    }

    /// Has the planner asked again when it wants to be.
    fn schedule(self: &Arc<Self>, state: &mut State) {
        let Some(due) = state.planner.poll_deadline() else {
            return;
        };
        if state.alarm.is_some_and(|alarm| alarm <= due) {
            return;
        }
        state.alarm = Some(due);
        let file = Arc::downgrade(self);
        let wait = due.since(self.fetcher.now());
        self.fetcher.runtime.spawn(async move {
            tokio::time::sleep(wait).await;
            let Some(file) = file.upgrade() else { return };
            let mut state = file.state();
            state.alarm = None;
            file.plan(&mut state);
            file.pump(&mut state);
        });
    }

    /// Hands bytes that have come in to the reads that wait for them.
    pub(in crate::fetch) fn hand_out(&self, state: &mut State, at: u64, bytes: &Bytes) {
        let range = at..at + bytes.len() as u64;
        let mut done = Vec::new();
        for (read, waiter) in &mut state.waiters {
            let parts: Vec<_> = waiter.missing.within(range.clone()).collect();
            for part in parts {
                let start = usize::try_from(part.start - at).unwrap_or(usize::MAX);
                let end = usize::try_from(part.end - at).unwrap_or(usize::MAX);
                waiter.pieces.push((part.start, bytes.slice(start..end)));
                waiter.missing.remove(part);
            }
            if waiter.missing.is_empty() {
                done.push(*read);
            }
        }
        for read in done {
            if let Some(waiter) = state.waiters.remove(&read) {
                // Whoever waited may have gone.
                let _ = waiter.reply.send(Ok(waiter.pieces));
            }
        }
    }

    /// A flight is over, for better or worse.
    pub(in crate::fetch) fn landed(
        self: &Arc<Self>,
        flight: FlightId,
        how: Ended,
        failure: Option<(Range<u64>, Arc<Cause>)>,
    ) {
        let mut state = self.state();
        state.flights.remove(&flight);
        let failed = state.planner.ended(self.fetcher.now(), flight, how);
        if let Some((range, cause)) = failure {
            for read in failed {
                if let Some(waiter) = state.waiters.remove(&read) {
                    let _ = waiter.reply.send(Err(cause.clone()));
                }
            }
            state.failure = Some(Failure {
                at: Instant::now(),
                range,
                cause,
            });
        }
        self.plan(&mut state);
        self.pump(&mut state);
        drop(state);
        self.progress.notify_waiters();
    }
}
