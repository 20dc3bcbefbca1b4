//! `musicfs peers list | show | ping` and `musicfs locate`.

use musicfs_proto::v1::{Holder, LocateRequest, LocateResponse, Peer, PeerRequest, PeerState};
use serde_json::{Value, json};

use super::{Context, tree};
use crate::cli::{LocateArgs, PeersCommand};
use crate::client::{self, PeersClient};
use crate::error::Error;
use crate::output::{fields, plain, size, table, utc};

/// Digits of an id that are shown at least: two nodes of a cluster hardly ever share them.
const SHORT_ID_LEN: usize = 8;

/// What is shown where there is nothing to show.
const NONE: &str = "-";

/// Said when no peer is known.
const NO_PEERS: &str = "no other node is known: `musicfs cluster init` makes a cluster, `musicfs \
     cluster join` joins one, `musicfs cluster show` tells which one this node is in\n";

/// Lists, shows or measures peers.
pub(super) async fn run(context: &Context, command: &PeersCommand) -> Result<(), Error> {
    let mut client = client::connect_peers(&context.paths()?.socket).await?;
    let peers = list(&mut client, "list the peers").await?;
    match command {
        PeersCommand::List => {
            let value = json!({ "peers": peers.iter().map(to_json).collect::<Vec<_>>() });
            context.format.print(&value, || list_text(&peers))
        }
        PeersCommand::Show { id } => {
            let peer = find(&peers, id)?;
            context.format.print(&to_json(peer), || show_text(peer))
        }
        PeersCommand::Ping { id } => {
            let peer = find(&peers, id)?;
            let request = PeerRequest {
                id: peer.id.clone(),
            };
            let answer = client.ping_peer(request).await;
            let rtt_us = answer.map_err(client::refused("ping the peer"))?;
            let rtt_us = rtt_us.into_inner().rtt_us;
            let value = json!({ "id": peer.id, "name": peer.name, "rtt_us": rtt_us });
            context.format.print(&value, || {
                let time = milliseconds(rtt_us);
                format!("{} answers after {time}\n", plain(&called(peer, &peer.id)))
            })
        }
    }
}

/// Shows who holds the content of a file.
pub(super) async fn locate(context: &Context, args: &LocateArgs) -> Result<(), Error> {
    let socket = context.paths()?.socket;
    let mut client = client::connect(&socket).await?;
    let typed = std::slice::from_ref(&args.path);
    let paths = tree::tree_paths(&mut client, "locate the file", typed).await?;
    let path = paths.into_iter().next().unwrap_or_default();
    let mut client = client::connect_peers(&socket).await?;
    let request = LocateRequest { path: path.clone() };
    let answer = client.locate(request).await;
    let located = answer.map_err(client::refused("locate the file"))?;
    let located = located.into_inner();
    // For their names.
    let peers = list(&mut client, "list the peers").await?;
    let value = located_json(&path, &located);
    context
        .format
        .print(&value, || located_text(&located, &peers))
}

async fn list(client: &mut PeersClient, action: &'static str) -> Result<Vec<Peer>, Error> {
    let answer = client.list_peers(()).await;
    let answer = answer.map_err(client::refused(action))?;
    Ok(answer.into_inner().peers)
}

/// The peer that is meant: by its id, the start of it that no other shares, or its name that no
/// other has.
fn find<'a>(peers: &'a [Peer], typed: &str) -> Result<&'a Peer, Error> {
    let id = typed.to_lowercase();
    let by_id: Vec<&Peer> = peers
        .iter()
        .filter(|peer| !id.is_empty() && peer.id.starts_with(&id))
        .collect();
    let by_name: Vec<&Peer> = peers.iter().filter(|peer| peer.name == typed).collect();
    // Who is called like the start of another's id is meant by that name.
    match (&by_name[..], &by_id[..]) {
        ([peer], _) => Ok(peer),
        (_, [peer]) => Ok(peer),
        ([], []) => Err(Error::NoPeer {
            typed: typed.to_owned(),
        }),
        (several, _) if !several.is_empty() => Err(ambiguous(typed, several)),
        (_, several) => Err(ambiguous(typed, several)),
    }
}

fn ambiguous(typed: &str, peers: &[&Peer]) -> Error {
    Error::SeveralPeers {
        typed: typed.to_owned(),
        ids: peers.iter().map(|peer| peer.id.clone()).collect(),
    }
}

fn state_name(state: PeerState) -> &'static str {
    match state {
        PeerState::Unknown => "unknown",
        PeerState::Connecting => "connecting",
        PeerState::Connected => "connected",
        PeerState::Lost => "lost",
        PeerState::Demoted => "demoted",
    }
}

/// What a person calls a peer: its name, else its id as given.
fn called(peer: &Peer, id: &str) -> String {
    match peer.name.as_str() {
        "" => id.to_owned(),
        name => format!("{name} ({id})"),
    }
}

/// As many digits as tell all peers apart.
fn short_id_len(peers: &[Peer]) -> usize {
    let mut ids: Vec<&str> = peers.iter().map(|peer| &*peer.id).collect();
    ids.sort_unstable();
    let shared = |pair: &[&str]| {
        let pairs = pair[0].bytes().zip(pair[1].bytes());
        pairs.take_while(|(left, right)| left == right).count()
    };
    let longest = ids.windows(2).map(shared).max().unwrap_or(0);
    SHORT_ID_LEN.max(longest + 1)
}

fn short(id: &str, len: usize) -> &str {
    id.get(..len).unwrap_or(id)
}

fn or_none(text: &str) -> String {
    match text {
        "" => NONE.to_owned(),
        text => text.to_owned(),
    }
}

fn milliseconds(us: u64) -> String {
    match us {
        0 => NONE.to_owned(),
        us => format!("{:.1} ms", us as f64 / 1000.0),
    }
}

fn to_json(peer: &Peer) -> Value {
    json!({
        "id": peer.id,
        "name": peer.name,
        "address": peer.address,
        "found_by": peer.found_by,
        "state": state_name(peer.state()),
        "rtt_us": peer.rtt_us,
        "bytes_in": peer.bytes_in,
        "bytes_out": peer.bytes_out,
        "chunks_in": peer.chunks_in,
        "chunks_out": peer.chunks_out,
        "errors": peer.errors,
        "version": peer.version,
        "objects": peer.objects,
        "connected_since_unix": peer.connected_since_unix,
        "last_error": peer.last_error,
    })
}

fn list_text(peers: &[Peer]) -> String {
    if peers.is_empty() {
        return NO_PEERS.to_owned();
    }
    let len = short_id_len(peers);
    let row = |peer: &Peer| {
        [
            short(&peer.id, len).to_owned(),
            or_none(&peer.name),
            state_name(peer.state()).to_owned(),
            or_none(&peer.address),
            peer.found_by.clone(),
            milliseconds(peer.rtt_us),
            size(peer.bytes_in),
            size(peer.bytes_out),
            peer.errors.to_string(),
        ]
    };
    let rows: Vec<_> = peers.iter().map(row).collect();
    let head = [
        "ID", "NAME", "STATE", "ADDRESS", "FOUND BY", "RTT", "IN", "OUT", "ERRORS",
    ];
    table(head, &rows)
}

fn show_text(peer: &Peer) -> String {
    let since = match peer.connected_since_unix {
        0 => NONE.to_owned(),
        unix => utc(unix),
    };
    let content = |bytes, chunks| format!("{}, {chunks} chunks", size(bytes));
    fields(&[
        ("id", peer.id.clone()),
        ("name", or_none(&peer.name)),
        ("state", state_name(peer.state()).to_owned()),
        ("connected since", since),
        ("address", or_none(&peer.address)),
        ("found by", peer.found_by.clone()),
        ("version", or_none(&peer.version)),
        ("round trip", milliseconds(peer.rtt_us)),
        ("objects", peer.objects.to_string()),
        ("received", content(peer.bytes_in, peer.chunks_in)),
        ("sent", content(peer.bytes_out, peer.chunks_out)),
        ("errors", peer.errors.to_string()),
        ("last error", or_none(peer.last_error())),
    ])
}

fn located_json(path: &str, located: &LocateResponse) -> Value {
    let holder = |holder: &Holder| {
        let ranges = holder.ranges.iter();
        let ranges = ranges.map(|range| json!({ "offset": range.offset, "len": range.len }));
        json!({
            "peer_id": holder.peer_id,
            "ranges": ranges.collect::<Vec<_>>(),
            "complete": holder.complete,
            "trust": holder.trust,
        })
    };
    json!({
        "path": path,
        "version_key": located.version_key,
        "size": located.size,
        "holders": located.holders.iter().map(holder).collect::<Vec<_>>(),
    })
}

fn located_text(located: &LocateResponse, peers: &[Peer]) -> String {
    let mut text = fields(&[
        ("version key", located.version_key.clone()),
        ("size", size(located.size)),
    ]);
    text.push('\n');
    if located.holders.is_empty() {
        return text + "nobody holds a copy of it: it is read from its origin\n";
    }
    let len = short_id_len(peers);
    let row = |holder: &Holder| {
        let peer = peers.iter().find(|peer| peer.id == holder.peer_id);
        // This node is none of its own peers.
        let node = peer.map_or_else(
            || "this node".to_owned(),
            |peer| called(peer, short(&peer.id, len)),
        );
        let bytes: u64 = holder.ranges.iter().map(|range| range.len).sum();
        let held = match (holder.complete, holder.ranges.len()) {
            (true, _) => "all of it".to_owned(),
            (false, 1) => size(bytes),
            (false, count) => format!("{} in {count} ranges", size(bytes)),
        };
        [node, held, holder.trust.clone()]
    };
    let rows: Vec<_> = located.holders.iter().map(row).collect();
    text + &table(["NODE", "HOLDS", "TRUST"], &rows)
}

#[cfg(test)]
mod tests {
    use musicfs_proto::v1::Range;

    use super::*;

    fn peer(id: &str, name: &str) -> Peer {
        Peer {
            id: format!("{id:0<32}"),
            name: name.into(),
            address: "192.0.2.7:4242".into(),
            found_by: "mdns".into(),
            state: PeerState::Connected.into(),
            rtt_us: 1_250,
            bytes_in: 3 << 20,
            bytes_out: 512,
            chunks_in: 40,
            errors: 2,
            version: "1.2.3".into(),
            objects: 7,
            connected_since_unix: 1_700_000_000,
            last_error: Some("no answer\u{7}".into()),
            ..Peer::default()
        }
    }

    #[test]
    fn a_peer_is_found_by_what_tells_it_apart() {
        let peers = [
            peer("aa11", "den"),
            peer("aa22", "attic"),
            peer("bb33", "cellar"),
            peer("cc44", "cellar"),
            peer("dd55", "bb"),
        ];
        let check = |typed: &str, expect: Result<usize, usize>| {
            let got = match find(&peers, typed) {
                Ok(found) => Ok(peers.iter().position(|peer| peer.id == found.id).unwrap()),
                Err(Error::SeveralPeers { ids, .. }) => Err(ids.len()),
                Err(Error::NoPeer { .. }) => Err(0),
                Err(other) => panic!("{other}"),
            };
            assert_eq!(got, expect, "{typed:?}");
        };
        check("aa1", Ok(0));
        check("AA2", Ok(1));
        check(&peers[2].id, Ok(2));
        check("attic", Ok(1));
        check("bb3", Ok(2));
        // A name before the start of an id.
        check("bb", Ok(4));
        check("aa", Err(2));
        check("cellar", Err(2));
        check("kitchen", Err(0));
        check("", Err(0));
        check("Den", Err(0));
    }

    #[test]
    fn ids_are_as_short_as_they_can_be_told_apart() {
        assert_eq!(short_id_len(&[]), 8);
        assert_eq!(short_id_len(&[peer("a", ""), peer("b", "")]), 8);
        let alike = [peer("0123456789a", ""), peer("0123456789b", "")];
        assert_eq!(short_id_len(&alike), 11);
        assert_eq!(short(&alike[0].id, 11), "0123456789a");
    }

    #[test]
    fn peers_are_listed_and_none_says_what_to_do() {
        let text = list_text(&[peer("aa11", "den"), Peer::default()]);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("ID        NAME  STATE"), "{text}");
        assert!(
            lines[1].starts_with("aa110000  den   connected  192.0.2.7:4242  mdns"),
            "{text}"
        );
        assert!(lines[1].contains("1.2 ms  3.0 MiB  512 B  2"), "{text}");
        assert!(lines[2].contains("-     unknown    -"), "{text}");
        let text = list_text(&[]);
        assert!(
            text.contains("cluster init") && text.contains("cluster join"),
            "{text}"
        );
    }

    #[test]
    fn all_that_is_known_is_shown() {
        let peer = peer("aa11", "den");
        let text = show_text(&peer);
        for line in [
            "connected since  2023-11-14T22:13:20Z\n",
            "round trip       1.2 ms\n",
            "received         3.0 MiB, 40 chunks\n",
            "last error       no answer\u{fffd}\n",
        ] {
            assert!(text.contains(line), "{line:?}: {text}");
        }
        let value = to_json(&peer);
        assert_eq!(value["state"], "connected");
        assert_eq!(value.as_object().unwrap().len(), 15);
    }

    #[test]
    fn holders_are_shown_with_what_they_hold() {
        let range = |offset, len| Range { offset, len };
        let holder = |id: &str, ranges: Vec<Range>, complete| Holder {
            peer_id: id.into(),
            ranges,
            complete,
            trust: "anchored".into(),
        };
        let peers = [peer("aa11", "den")];
        let mut located = LocateResponse {
            version_key: "ab".repeat(16),
            size: 3 << 20,
            holders: vec![
                holder("", vec![range(0, 1 << 20), range(2 << 20, 1024)], false),
                holder(&peers[0].id, vec![range(0, 3 << 20)], true),
            ],
        };
        let text = located_text(&located, &peers);
        assert!(text.contains("size         3.0 MiB\n"), "{text}");
        assert!(
            text.contains("this node       1.0 MiB in 2 ranges  anchored\n"),
            "{text}"
        );
        assert!(text.contains("den (aa110000)  all of it"), "{text}");
        let value = located_json("A/1.flac", &located);
        assert_eq!(value["holders"][0]["ranges"][1]["offset"], 2 << 20);
        assert_eq!(value["holders"][1]["complete"], true);
        located.holders.clear();
        assert!(located_text(&located, &peers).contains("nobody holds"));
    }
}
