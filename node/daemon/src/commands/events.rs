//! `musicfs events`.

use std::collections::BTreeMap;

use musicfs_proto::v1::{self, Event, EventFilter};
use serde_json::{Value, json};

use super::Context;
use crate::cli::{EventType, EventsArgs};
use crate::client;
use crate::error::Error;
use crate::output::{plain, utc};

/// What is asked, for errors.
const ACTION: &str = "listen to events";

/// Prints events as they happen, until the daemon ends or nobody reads any more.
pub(super) async fn run(context: &Context, args: &EventsArgs) -> Result<(), Error> {
    let mut client = client::connect(&context.paths()?.socket).await?;
    let refused = client::refused(ACTION);
    let answer = client.subscribe_events(filter(args)).await;
    let mut stream = answer.map_err(&refused)?.into_inner();
    while let Some(event) = stream.message().await.map_err(&refused)? {
        let is_read = context.format.stream(&to_json(&event), || line(&event))?;
        if !is_read {
            break;
        }
    }
    Ok(())
}

fn filter(args: &EventsArgs) -> EventFilter {
    let types = args.types.iter().map(|kind| type_of(*kind).into());
    EventFilter {
        types: types.collect(),
        origin_id: args.origin.clone(),
    }
}

fn type_of(kind: EventType) -> v1::EventType {
    match kind {
        EventType::FileAdded => v1::EventType::FileAdded,
        EventType::FileRemoved => v1::EventType::FileRemoved,
        EventType::FileModified => v1::EventType::FileModified,
        EventType::FileAccessed => v1::EventType::FileAccessed,
        EventType::OriginConnected => v1::EventType::OriginConnected,
        EventType::OriginDisconnected => v1::EventType::OriginDisconnected,
        EventType::SyncStarted => v1::EventType::SyncStarted,
        EventType::SyncCompleted => v1::EventType::SyncCompleted,
        EventType::CacheEviction => v1::EventType::CacheEviction,
        EventType::ChunkCorrupt => v1::EventType::ChunkCorrupt,
        EventType::PeerConnected => v1::EventType::PeerConnected,
        EventType::PeerDisconnected => v1::EventType::PeerDisconnected,
    }
}

/// The type as it is written: `all` stands for events that are not told.
fn type_name(event: &Event) -> String {
    let name = event.r#type().as_str_name();
    let name = name.strip_prefix("EVENT_TYPE_").unwrap_or(name);
    name.to_lowercase()
}

/// The facts in one order, whatever that of the map.
fn facts(event: &Event) -> BTreeMap<&str, &str> {
    let facts = event.metadata.iter();
    facts.map(|(name, value)| (&**name, &**value)).collect()
}

fn line(event: &Event) -> String {
    let mut words = vec![utc(event.timestamp_unix)];
    if let Some(count) = event.metadata.get("lagged") {
        words.push(format!("{count} events are not shown: they were too many"));
        return format!("{}\n", plain(&words.join(" ")));
    }
    words.push(type_name(event));
    if !event.origin_id.is_empty() {
        words.push(event.origin_id.clone());
    }
    words.extend(event.path.clone());
    let fact = |(name, value): (&str, &str)| format!("{name}={value}");
    words.extend(facts(event).into_iter().map(fact));
    format!("{}\n", plain(&words.join(" ")))
}

fn to_json(event: &Event) -> Value {
    json!({
        "type": type_name(event),
        "timestamp_unix": event.timestamp_unix,
        "origin_id": event.origin_id,
        "path": event.path,
        "metadata": facts(event),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use clap::ValueEnum;

    use super::*;

    #[test]
    fn a_type_is_typed_as_it_is_printed() {
        let types = EventType::value_variants();
        // All but the one for every type.
        assert_eq!(types.len(), 12);
        for kind in types {
            let event = Event {
                r#type: type_of(*kind).into(),
                ..Event::default()
            };
            let typed = kind.to_possible_value().unwrap();
            assert_eq!(typed.get_name(), type_name(&event));
        }
    }

    #[test]
    fn an_event_is_a_line() {
        let event = Event {
            r#type: v1::EventType::FileModified.into(),
            timestamp_unix: 1_700_000_000,
            origin_id: "nas".into(),
            path: Some("A/1\n.flac".into()),
            metadata: HashMap::from([("previous_path".into(), "B/1.flac".into())]),
        };
        let expect = "2023-11-14T22:13:20Z file_modified nas A/1\u{fffd}.flac \
                      previous_path=B/1.flac\n";
        assert_eq!(line(&event), expect);
        let value = to_json(&event);
        assert_eq!(value["type"], "file_modified");
        assert_eq!(value["metadata"]["previous_path"], "B/1.flac");
        let lost = Event {
            metadata: HashMap::from([("lagged".into(), "5".into())]),
            ..Event::default()
        };
        let expect = "1970-01-01T00:00:00Z 5 events are not shown: they were too many\n";
        assert_eq!(line(&lost), expect);
        assert_eq!(to_json(&lost)["type"], "all");
    }
}
