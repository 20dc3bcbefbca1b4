//! `musicfs pin`, `unpin` and `pins`.

use std::time::{SystemTime, UNIX_EPOCH};

use musicfs_proto::v1::{PinEntry, PinRequest, PinsResponse, UnpinRequest};
use serde_json::{Value, json};

use super::{Context, tree};
use crate::cli::PinArgs;
use crate::client;
use crate::error::Error;
use crate::output::{duration, plain, size, table};

/// Keeps files in the cache.
pub(super) async fn pin(context: &Context, args: &PinArgs) -> Result<(), Error> {
    let action = "pin";
    if args.query.is_some() {
        return Err(Error::NoSearch { action });
    }
    let mut client = client::connect(&context.paths()?.socket).await?;
    let request = PinRequest {
        paths: tree::tree_paths(&mut client, action, &args.paths).await?,
        query: None,
    };
    let answer = client.pin(request).await;
    let pins = answer.map_err(client::refused(action))?.into_inner().pins;
    let value = json!({ "pins": pins.iter().map(pinned_json).collect::<Vec<_>>() });
    let format = context.format;
    format.print(&value, || pins.iter().map(pinned_text).collect())
}

/// Lets files leave the cache again.
pub(super) async fn unpin(context: &Context, args: &PinArgs) -> Result<(), Error> {
    let action = "unpin";
    if args.query.is_some() {
        return Err(Error::NoSearch { action });
    }
    let mut client = client::connect(&context.paths()?.socket).await?;
    let request = UnpinRequest {
        paths: tree::tree_paths(&mut client, action, &args.paths).await?,
        query: None,
    };
    let answer = client.unpin(request).await;
    let answer = answer.map_err(client::refused(action))?.into_inner();
    let value = json!({
        "pins_removed": answer.pins_removed,
        "bytes_released": answer.bytes_released,
    });
    context.format.print(&value, || {
        let released = size(answer.bytes_released);
        format!(
            "{} pins removed, {released} may be evicted\n",
            answer.pins_removed
        )
    })
}

/// Lists what is pinned.
pub(super) async fn list(context: &Context) -> Result<(), Error> {
    let mut client = client::connect(&context.paths()?.socket).await?;
    let answer = client.list_pins(()).await;
    let pins = answer
        .map_err(client::refused("list the pins"))?
        .into_inner();
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    });
    let value = json!({
        "pins": pins.pins.iter().map(to_json).collect::<Vec<_>>(),
        "bytes_pinned": pins.bytes_pinned,
        "bytes_limit": pins.bytes_limit,
    });
    context.format.print(&value, || to_text(&pins, now))
}

fn to_json(pin: &PinEntry) -> Value {
    json!({
        "path": pin.path,
        "query": pin.query,
        "files": pin.files,
        "bytes_total": pin.bytes_total,
        "bytes_cached": pin.bytes_cached,
        "created_unix": pin.created_unix,
    })
}

fn pinned_json(pin: &PinEntry) -> Value {
    let mut value = to_json(pin);
    value["added"] = pin.added.into();
    value
}

/// What a person calls a pin.
fn name(pin: &PinEntry) -> String {
    match (&pin.path, &pin.query) {
        (Some(path), _) if path.is_empty() => "everything".to_owned(),
        (Some(path), _) => path.clone(),
        (None, Some(query)) => format!("query {query:?}"),
        (None, None) => String::new(),
    }
}

fn pinned_text(pin: &PinEntry) -> String {
    let done = if pin.added {
        "pinned"
    } else {
        "pinned already"
    };
    let (name, files) = (name(pin), pin.files);
    let (cached, total) = (size(pin.bytes_cached), size(pin.bytes_total));
    plain(&format!(
        "{done}: {name}, {files} files, {cached} of {total} in the cache"
    )) + "\n"
}

fn to_text(pins: &PinsResponse, now_unix: i64) -> String {
    let row = |pin: &PinEntry| {
        let age = now_unix.saturating_sub(pin.created_unix);
        let age = duration(u64::try_from(age).unwrap_or(0));
        [
            pin.files.to_string(),
            size(pin.bytes_total),
            size(pin.bytes_cached),
            format!("{age} ago"),
            name(pin),
        ]
    };
    let rows: Vec<_> = pins.pins.iter().map(row).collect();
    let mut text = table(["FILES", "SIZE", "CACHED", "PINNED", "PATH"], &rows);
    let (pinned, limit) = (size(pins.bytes_pinned), size(pins.bytes_limit));
    text += &format!("{pinned} pinned of {limit} that pins may take\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> PinEntry {
        PinEntry {
            path: Some("A/B".into()),
            files: 2,
            bytes_total: 2048,
            bytes_cached: 1024,
            created_unix: 1000,
            added: true,
            ..PinEntry::default()
        }
    }

    #[test]
    fn a_pin_says_what_it_holds_and_whether_it_is_new() {
        let text = pinned_text(&entry());
        assert_eq!(
            text,
            "pinned: A/B, 2 files, 1.0 KiB of 2.0 KiB in the cache\n"
        );
        let again = PinEntry {
            added: false,
            path: Some(String::new()),
            ..entry()
        };
        assert!(pinned_text(&again).starts_with("pinned already: everything, "));
        assert_eq!(pinned_json(&entry())["added"], true);
        assert_eq!(pinned_json(&entry())["bytes_cached"], 1024);
    }

    #[test]
    fn pins_are_listed_with_what_they_may_take() {
        let pins = PinsResponse {
            pins: vec![entry()],
            bytes_pinned: 2048,
            bytes_limit: 8 << 30,
        };
        let text = to_text(&pins, 1061);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "2      2.0 KiB  1.0 KiB  1 min 1 s ago  A/B");
        assert_eq!(lines[2], "2.0 KiB pinned of 8.0 GiB that pins may take");
    }
}
