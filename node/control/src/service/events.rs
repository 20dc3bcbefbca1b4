//! The call that tells events.

use std::collections::HashMap;

use musicfs_core::id::OriginId;
use musicfs_library::{Event, EventKind, Events, Heard};
use musicfs_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Response, Status};

use super::{Answer, Streamed};

/// Events on their way to one client. The bus holds those that wait for a slow one.
const EVENTS_MAX: usize = 16;

/// The name of the fact that says how many events were lost.
const LOST: &str = "lagged";

/// Which events a client wants. Empty sets mean all.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    kinds: Vec<EventKind>,
    origin: Option<String>,
}

/// Tells `events` until the client goes, or `stopping` is cancelled.
pub(super) fn subscribe(
    events: Events,
    filter: v1::EventFilter,
    stopping: CancellationToken,
) -> Answer<Streamed<v1::Event>> {
    let wanted = Wanted::new(filter)?;
    let (sender, receiver) = mpsc::channel(EVENTS_MAX);
    tokio::spawn(async move {
        tokio::select! {
            () = stopping.cancelled() => {}
            () = sender.closed() => {}
            () = tell(events, &wanted, &sender) => {}
        }
    });
    Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
}

async fn tell(
    mut events: Events,
    wanted: &Wanted,
    sender: &mpsc::Sender<Result<v1::Event, Status>>,
) {
    while let Some(heard) = events.next().await {
        let told = match heard {
            Heard::Event(event) if wanted.has(&event) => to_proto(&event),
            Heard::Event(_) => continue,
            Heard::Lost(count) => lost(count),
        };
        if sender.send(Ok(told)).await.is_err() {
            return;
        }
    }
}

impl Wanted {
    /// # Errors
    /// INVALID_ARGUMENT for a type that this version does not know.
    fn new(filter: v1::EventFilter) -> Result<Self, Status> {
        let mut kinds = Vec::new();
        let mut is_all = false;
        for number in filter.types {
            let unknown = |_| super::unknown("event type", number);
            match kind_of(v1::EventType::try_from(number).map_err(unknown)?) {
                Some(kind) => kinds.push(kind),
                None => is_all = true,
            }
        }
        if is_all {
            kinds.clear();
        }
        Ok(Self {
            kinds,
            origin: filter.origin_id,
        })
    }

    fn has(&self, event: &Event) -> bool {
        let is_kind = self.kinds.is_empty() || self.kinds.contains(&event.kind);
        let of = event.origin.as_ref().map(OriginId::as_str);
        is_kind && self.origin.as_deref().is_none_or(|id| of == Some(id))
    }
}

/// `None` for every kind.
fn kind_of(event: v1::EventType) -> Option<EventKind> {
    Some(match event {
        v1::EventType::All => return None,
        v1::EventType::FileAdded => EventKind::FileAdded,
        v1::EventType::FileRemoved => EventKind::FileRemoved,
        v1::EventType::FileModified => EventKind::FileModified,
        v1::EventType::OriginConnected => EventKind::OriginConnected,
        v1::EventType::OriginDisconnected => EventKind::OriginDisconnected,
        v1::EventType::SyncStarted => EventKind::SyncStarted,
        v1::EventType::SyncCompleted => EventKind::SyncCompleted,
        v1::EventType::CacheEviction => EventKind::CacheEviction,
        v1::EventType::FileAccessed => EventKind::FileAccessed,
        v1::EventType::PeerConnected => EventKind::PeerConnected,
        v1::EventType::PeerDisconnected => EventKind::PeerDisconnected,
        v1::EventType::ChunkCorrupt => EventKind::ChunkCorrupt,
    })
}

fn type_of(kind: EventKind) -> v1::EventType {
    match kind {
        EventKind::FileAdded => v1::EventType::FileAdded,
        EventKind::FileRemoved => v1::EventType::FileRemoved,
        EventKind::FileModified => v1::EventType::FileModified,
        EventKind::FileAccessed => v1::EventType::FileAccessed,
        EventKind::OriginConnected => v1::EventType::OriginConnected,
        EventKind::OriginDisconnected => v1::EventType::OriginDisconnected,
        EventKind::SyncStarted => v1::EventType::SyncStarted,
        EventKind::SyncCompleted => v1::EventType::SyncCompleted,
        EventKind::CacheEviction => v1::EventType::CacheEviction,
        EventKind::ChunkCorrupt => v1::EventType::ChunkCorrupt,
        EventKind::PeerConnected => v1::EventType::PeerConnected,
        EventKind::PeerDisconnected => v1::EventType::PeerDisconnected,
    }
}

fn to_proto(event: &Event) -> v1::Event {
    let fact = |(name, value): &(&str, String)| ((*name).to_owned(), value.clone());
    let origin = event.origin.as_ref();
    v1::Event {
        r#type: type_of(event.kind).into(),
        timestamp_unix: event.unix,
        origin_id: origin.map_or_else(String::new, ToString::to_string),
        path: event.path.clone(),
        metadata: event.facts.iter().map(fact).collect(),
    }
}

/// What stands for events that are not told. It has no type: they may have been of any.
fn lost(count: u64) -> v1::Event {
    v1::Event {
        r#type: v1::EventType::All.into(),
        timestamp_unix: crate::unix_now(),
        metadata: HashMap::from([(LOST.to_owned(), count.to_string())]),
        ..v1::Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: EventKind, origin: Option<&str>) -> Event {
        Event {
            kind,
            unix: 7,
            origin: origin.map(|id| OriginId::new(id).unwrap()),
            path: Some("A/1.flac".into()),
            facts: vec![("previous_path", "B/1.flac".into())],
        }
    }

    #[test]
    fn every_kind_has_its_type_and_no_other() {
        for kind in EventKind::ALL {
            assert_eq!(kind_of(type_of(kind)), Some(kind));
        }
        assert_eq!(kind_of(v1::EventType::All), None);
    }

    #[test]
    fn an_event_keeps_all_that_it_says() {
        let told = to_proto(&event(EventKind::FileModified, Some("nas")));
        assert_eq!(told.r#type(), v1::EventType::FileModified);
        assert_eq!((told.timestamp_unix, &*told.origin_id), (7, "nas"));
        assert_eq!(told.path.as_deref(), Some("A/1.flac"));
        assert_eq!(told.metadata["previous_path"], "B/1.flac");
        assert_eq!(to_proto(&event(EventKind::SyncStarted, None)).origin_id, "");
        let marker = lost(5);
        assert_eq!(marker.r#type(), v1::EventType::All);
        assert_eq!(marker.metadata["lagged"], "5");
    }

    #[test]
    fn a_filter_is_of_types_and_of_an_origin() {
        use v1::EventType::{All, FileAdded, FileRemoved};
        let wanted = |types: &[v1::EventType], origin: Option<&str>| {
            Wanted::new(v1::EventFilter {
                types: types.iter().map(|kind| (*kind).into()).collect(),
                origin_id: origin.map(Into::into),
            })
            .unwrap()
        };
        let check = |wanted: &Wanted, kind, origin, expect: bool| {
            assert_eq!(wanted.has(&event(kind, origin)), expect, "{wanted:?}");
        };
        let (added, removed) = (EventKind::FileAdded, EventKind::FileRemoved);
        for everything in [&[][..], &[All], &[FileAdded, All]] {
            check(&wanted(everything, None), removed, Some("nas"), true);
        }
        check(&wanted(&[FileAdded], None), added, None, true);
        check(&wanted(&[FileAdded], None), removed, None, false);
        check(
            &wanted(&[FileAdded, FileRemoved], None),
            removed,
            None,
            true,
        );
        check(&wanted(&[], Some("nas")), added, Some("nas"), true);
        check(&wanted(&[], Some("nas")), added, Some("attic"), false);
        check(&wanted(&[], Some("nas")), added, None, false);
        let unknown = v1::EventFilter {
            types: vec![99],
            origin_id: None,
        };
        let refused = Wanted::new(unknown).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    }
}
