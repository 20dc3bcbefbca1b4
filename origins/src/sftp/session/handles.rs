//! What is open on the server, and how much of it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::super::failure::Failure;
use super::super::lock;
use super::Session;

/// Files and directories open on one connection. A server allows as many as its process may open,
/// often 1024 less a few; some allow 100.
pub(super) const HANDLES_MAX: usize = 64;

/// An open file or directory of the server. Dropping it closes it, without waiting.
pub(crate) struct OpenHandle {
    pub(crate) session: Arc<Session>,
    pub(crate) handle: Bytes,
    place: Option<OwnedSemaphorePermit>,
}

/// A handle to be closed, and the place that it leaves.
pub(super) struct Closing {
    pub(super) handle: Bytes,
    pub(super) place: Option<OwnedSemaphorePermit>,
}

impl OpenHandle {
    pub(super) fn new(
        session: Arc<Session>,
        handle: Bytes,
        place: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Self {
            session,
            handle,
            place,
        }
    }
}

impl Drop for OpenHandle {
    fn drop(&mut self) {
        if self.session.is_ended() {
            return;
        }
        // Bounded by the places.
        lock(&self.session.closing).push(Closing {
            handle: std::mem::take(&mut self.handle),
            place: self.place.take(),
        });
        self.session.has_closing.notify_one();
    }
}

/// Where a file keeps its open handle between reads. The connection takes it back when it needs
/// the place for another file.
#[derive(Default)]
pub(crate) struct Slot {
    kept: Mutex<Option<(Arc<OpenHandle>, Instant)>>,
}

impl Slot {
    /// The handle, if it can still be used.
    pub(crate) fn take(&self) -> Option<Arc<OpenHandle>> {
        let mut kept = lock(&self.kept);
        if let Some((handle, used)) = kept.as_mut().filter(|kept| !kept.0.session.is_ended()) {
            *used = Instant::now();
            return Some(Arc::clone(handle));
        }
        let gone = kept.take();
        drop(kept);
        drop(gone);
        None
    }

    /// Keeps a handle in place of the one before.
    pub(crate) fn put(self: &Arc<Self>, handle: Arc<OpenHandle>) {
        let session = Arc::clone(&handle.session);
        let before = lock(&self.kept).replace((handle, Instant::now()));
        drop(before);
        let mut slots = lock(&session.slots);
        slots.retain(|slot| slot.upgrade().is_some_and(|slot| slot.is_of(&session)));
        if !slots.iter().any(|slot| slot.as_ptr() == Arc::as_ptr(self)) {
            slots.push(Arc::downgrade(self));
        }
        drop(slots);
        session.make_room();
    }

    fn is_of(&self, session: &Arc<Session>) -> bool {
        let kept = lock(&self.kept);
        kept.as_ref()
            .is_some_and(|(handle, _)| Arc::ptr_eq(&handle.session, session))
    }

    /// Since when nobody reads through the handle; `None` while someone does.
    fn idle_since(&self) -> Option<Instant> {
        let kept = lock(&self.kept);
        let (handle, used) = kept.as_ref()?;
        (Arc::strong_count(handle) == 1).then_some(*used)
    }
}

/// Counts one that waits for a place.
struct Wanted<'a>(&'a AtomicUsize);

impl<'a> Wanted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Session {
    /// A place for one more open file or directory. If all are taken, the file that was not read
    /// for longest is closed.
    ///
    /// # Errors
    /// [`Failure::Silent`] if all stay in use.
    pub(crate) async fn place(self: &Arc<Self>) -> Result<OwnedSemaphorePermit, Failure> {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Ok(place);
        }
        let _wanted = Wanted::new(&self.places_wanted);
        self.make_room();
        let place = self.in_time(Arc::clone(&self.places).acquire_owned());
        place.await?.map_err(|_| self.failure())
    }

    /// To be called when a file is no longer read through `handle`.
    pub(crate) fn release(&self, handle: Arc<OpenHandle>) {
        drop(handle);
        self.make_room();
    }

    /// Closes an idle file if someone waits for its place.
    fn make_room(&self) {
        if self.places_wanted.load(Ordering::SeqCst) > 0 {
            self.close_idle();
        }
    }

    fn close_idle(&self) {
        let mut slots: Vec<_> = {
            let slots = lock(&self.slots);
            slots.iter().filter_map(Weak::upgrade).collect()
        };
        slots.retain(|slot| {
            let kept = lock(&slot.kept);
            kept.as_ref()
                .is_some_and(|(handle, _)| std::ptr::eq(Arc::as_ptr(&handle.session), self))
        });
        let oldest = slots
            .iter()
            .filter_map(|slot| Some((slot.idle_since()?, slot)))
            .min_by_key(|(since, _)| *since);
        if let Some((_, slot)) = oldest {
            let handle = lock(&slot.kept).take();
            drop(handle);
        }
    }
}
