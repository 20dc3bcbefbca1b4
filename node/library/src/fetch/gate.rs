//! Admission of flights: which of them may be on their way now, over all files.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use musicfs_core::fetch::{Budget, Priority};
use tokio::sync::oneshot;

/// Lets flights start in the order of their priority, within the budget for bytes on their way.
#[derive(Default)]
pub(crate) struct Gate {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    budget: Budget<u64>,
    waiting: HashMap<u64, oneshot::Sender<()>>,
    tickets: u64,
}

/// A flight's place in the queue, and later its share of the budget. Dropping it gives up both.
pub(crate) struct Ticket {
    gate: Arc<Gate>,
    number: u64,
    granted: Option<oneshot::Receiver<()>>,
}

impl Gate {
    /// Queues a flight of `bytes`.
    pub(crate) fn request(self: &Arc<Self>, bytes: u64, priority: Priority) -> Ticket {
        let (sender, granted) = oneshot::channel();
        let mut inner = self.inner();
        inner.tickets += 1;
        let number = inner.tickets;
        inner.waiting.insert(number, sender);
        inner.budget.request(number, bytes, priority);
        inner.grant();
        Ticket {
            gate: self.clone(),
            number,
            granted: Some(granted),
        }
    }

    /// Somebody waits for the flight by now.
    pub(crate) fn raise(&self, number: u64, priority: Priority) {
        let mut inner = self.inner();
        inner.budget.raise(number, priority);
        inner.grant();
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn grant(&mut self) {
        while let Some(number) = self.budget.poll_granted() {
            if let Some(sender) = self.waiting.remove(&number) {
                // Whoever waited may have gone: its ticket's drop gives the share back.
                let _ = sender.send(());
            }
        }
    }
}

impl Ticket {
    /// What [`Gate::raise`] knows it by.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Waits for the flight's turn. Cancellation-safe.
    pub(crate) async fn granted(&mut self) {
        if let Some(granted) = &mut self.granted {
            // The sender is dropped only after it has sent, or with the gate.
            let _ = granted.await;
        }
        self.granted = None;
    }

    /// So many bytes are on their way no more.
    pub(crate) fn arrived(&self, bytes: u64) {
        let mut inner = self.gate.inner();
        inner.budget.arrived(self.number, bytes);
        inner.grant();
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut inner = self.gate.inner();
        if inner.waiting.remove(&self.number).is_some() {
            inner.budget.cancel(self.number);
        } else {
            inner.budget.release(self.number);
        }
        inner.grant();
    }
}
