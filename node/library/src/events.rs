//! The event bus: what happens in a library, told to whoever listens from then on.
//!
//! Bounded, and lossy for listeners that are slow: whoever publishes never waits for one. While
//! nobody listens an event is not even made.

mod cache;
mod peers;

use std::sync::Arc;

use musicfs_core::id::OriginId;
use musicfs_index::{Listening, ShownChange};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use crate::ingest::unix_now;
use crate::library::Library;

pub(crate) use cache::Noticed;
pub(crate) use peers::follow;

/// Events kept for listeners that are behind; who is further behind loses the oldest. Two full
/// batches of changed files, in half a megabyte at most.
const EVENTS_MAX: usize = 1024;

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventKind {
    /// A file joined the tree.
    FileAdded,
    /// A file left the tree.
    FileRemoved,
    /// A file's content or place in the tree changed.
    FileModified,
    /// A file was opened.
    FileAccessed,
    /// An origin answers again.
    OriginConnected,
    /// An origin stopped answering.
    OriginDisconnected,
    /// An origin is being listed.
    SyncStarted,
    /// An origin has been listed, or could not be.
    SyncCompleted,
    /// Cached data was dropped for want of room.
    CacheEviction,
    /// Cached data did not match its checksum.
    ChunkCorrupt,
    /// Another node is connected.
    PeerConnected,
    /// Another node is gone.
    PeerDisconnected,
}

impl EventKind {
    /// Every kind, in the order of their declaration.
    pub const ALL: [Self; 12] = [
        Self::FileAdded,
        Self::FileRemoved,
        Self::FileModified,
        Self::FileAccessed,
        Self::OriginConnected,
        Self::OriginDisconnected,
        Self::SyncStarted,
        Self::SyncCompleted,
        Self::CacheEviction,
        Self::ChunkCorrupt,
        Self::PeerConnected,
        Self::PeerDisconnected,
    ];
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What.
    pub kind: EventKind,
    /// When, in seconds since 1970.
    pub unix: i64,
    /// The origin concerned; of a peer, its node id.
    pub origin: Option<OriginId>,
    /// The path in the tree, where one is concerned.
    pub path: Option<String>,
    /// Further facts by name, none twice.
    pub facts: Vec<(&'static str, String)>,
}

impl Event {
    /// One that happens now.
    pub(crate) fn new(kind: EventKind, origin: Option<OriginId>) -> Self {
        Self {
            kind,
            unix: unix_now(),
            origin,
            path: None,
            facts: Vec::new(),
        }
    }

    /// The same with a fact more.
    #[must_use]
    pub(crate) fn with(mut self, name: &'static str, value: &impl ToString) -> Self {
        self.facts.push((name, value.to_string()));
        self
    }
}

/// What a listener hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// An event.
    Event(Arc<Event>),
    /// So many events, of whatever kind, are not told: the listener was too slow, or they were too
    /// many to tell.
    Lost(u64),
}

/// What happens from the moment on in which this was made. Dropping it ends that.
pub struct Events {
    receiver: broadcast::Receiver<Heard>,
    stop: CancellationToken,
    _listening: (Arc<()>, Listening),
}

impl Events {
    /// Waits for the next; `None` when the library has closed. Cancellation-safe.
    pub async fn next(&mut self) -> Option<Heard> {
        let received = tokio::select! {
            biased;
            received = self.receiver.recv() => received,
            () = self.stop.cancelled() => return None,
        };
        match received {
            Ok(heard) => Some(heard),
            Err(RecvError::Lagged(count)) => Some(Heard::Lost(count)),
            Err(RecvError::Closed) => None,
        }
    }
}

impl Library {
    /// Everything that happens from now on.
    pub fn events(&self) -> Events {
        let bus = &self.shared.events;
        Events {
            receiver: bus.sender.subscribe(),
            stop: self.stop.clone(),
            _listening: (bus.listeners.clone(), self.shared.index.writer.listen()),
        }
    }
}

/// Where events go.
pub(crate) struct Bus {
    sender: broadcast::Sender<Heard>,
    /// Held by each listener once more.
    listeners: Arc<()>,
}

impl Default for Bus {
    fn default() -> Self {
        Self {
            sender: broadcast::Sender::new(EVENTS_MAX),
            listeners: Arc::default(),
        }
    }
}

impl Bus {
    /// True if an event would be heard. One atomic load.
    pub(crate) fn has_listeners(&self) -> bool {
        Arc::strong_count(&self.listeners) > 1
    }

    /// Tells an event, which is made only if somebody listens. Never waits.
    pub(crate) fn publish(&self, event: impl FnOnce() -> Event) {
        if self.has_listeners() {
            self.tell(Heard::Event(Arc::new(event())));
        }
    }

    /// Tells what a commit did to files.
    pub(crate) fn publish_files(&self, files: Vec<ShownChange>, untold: u64) {
        for event in files.into_iter().filter_map(of_file) {
            self.tell(Heard::Event(Arc::new(event)));
        }
        if untold > 0 {
            self.tell(Heard::Lost(untold));
        }
    }

    fn tell(&self, heard: Heard) {
        // An error means that the last listener has just gone.
        let _ = self.sender.send(heard);
    }
}

/// What became of a file, as an event; `None` for a change of nothing.
fn of_file(change: ShownChange) -> Option<Event> {
    let origin = OriginId::new(&change.origin).ok();
    let event = |kind, path| Event {
        path: Some(path),
        ..Event::new(kind, origin)
    };
    Some(match (change.before, change.after) {
        (None, Some(path)) => event(EventKind::FileAdded, path),
        (Some(path), None) => event(EventKind::FileRemoved, path),
        (Some(before), Some(path)) if before == path => event(EventKind::FileModified, path),
        (Some(before), Some(path)) => {
            event(EventKind::FileModified, path).with("previous_path", &before)
        }
        (None, None) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(before: Option<&str>, after: Option<&str>) -> ShownChange {
        ShownChange {
            origin: "nas".into(),
            before: before.map(Into::into),
            after: after.map(Into::into),
        }
    }

    #[test]
    fn a_changed_file_is_one_event() {
        let check = |before: Option<&str>, after: Option<&str>, expect: (EventKind, &str)| {
            let event = of_file(change(before, after)).unwrap();
            assert_eq!((event.kind, event.path.as_deref().unwrap()), expect);
            assert_eq!(event.origin.unwrap().as_str(), "nas");
            let moved = before.filter(|before| after.is_some() && after != Some(before));
            let facts: Vec<_> = moved
                .map(|path| ("previous_path", path.to_owned()))
                .into_iter()
                .collect();
            assert_eq!(event.facts, facts);
        };
        check(None, Some("a"), (EventKind::FileAdded, "a"));
        check(Some("a"), None, (EventKind::FileRemoved, "a"));
        check(Some("a"), Some("a"), (EventKind::FileModified, "a"));
        check(Some("a"), Some("b"), (EventKind::FileModified, "b"));
        assert_eq!(of_file(change(None, None)), None);
    }

    fn listen(bus: &Bus) -> (broadcast::Receiver<Heard>, Arc<()>) {
        (bus.sender.subscribe(), bus.listeners.clone())
    }

    #[test]
    fn an_event_is_not_made_while_nobody_listens() {
        let bus = Bus::default();
        bus.publish(|| panic!("nobody listens"));
        let (mut receiver, held) = listen(&bus);
        bus.publish(|| Event::new(EventKind::SyncStarted, None));
        let heard = receiver.try_recv().unwrap();
        assert!(matches!(heard, Heard::Event(event) if event.kind == EventKind::SyncStarted));
        drop((receiver, held));
        bus.publish(|| panic!("nobody listens any more"));
    }

    #[tokio::test]
    async fn who_is_too_slow_loses_the_oldest_and_hears_how_many() {
        let bus = Bus::default();
        let (mut receiver, _held) = listen(&bus);
        for number in 0..EVENTS_MAX + 5 {
            bus.publish(|| Event::new(EventKind::FileAccessed, None).with("number", &number));
        }
        assert_eq!(receiver.recv().await, Err(RecvError::Lagged(5)));
        for number in 5..EVENTS_MAX + 5 {
            let Heard::Event(event) = receiver.recv().await.unwrap() else {
                panic!("an event was published");
            };
            assert_eq!(event.facts, [("number", number.to_string())]);
        }
        bus.publish_files(vec![], 7);
        assert_eq!(receiver.recv().await, Ok(Heard::Lost(7)));
    }
}
