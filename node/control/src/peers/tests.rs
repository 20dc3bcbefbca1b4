//! The service over a library without origins and an exchange that is scripted.

use std::net::SocketAddr;
use std::time::Duration;

use musicfs_core::peer::{FoundBy, Trust};
use musicfs_core::version::VersionKey;
use musicfs_library::{EventKind, Heard};
use musicfs_proto::v1::music_fs_server::MusicFs;
use musicfs_proto::v1::peers_server::Peers as _;
use tokio_stream::StreamExt;
use tonic::Code;

use super::*;
use crate::service::Service;
use crate::testing::{ScriptedPeers, context, peer};

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

fn request(id: &str) -> Request<v1::PeerRequest> {
    Request::new(v1::PeerRequest { id: id.to_owned() })
}

fn id(number: u8) -> String {
    NodeId::from_bytes([number; 16]).to_string()
}

async fn next(stream: &mut Streamed<v1::Peer>) -> Option<v1::Peer> {
    let next = tokio::time::timeout(PATIENCE, stream.next()).await;
    next.expect("no answer for a long time").map(Result::unwrap)
}

#[tokio::test]
async fn a_node_in_no_cluster_has_no_peers() {
    let (context, _dir) = context().await;
    let service = PeersService::new(context.clone());
    let list = service.list_peers(Request::new(())).await.unwrap();
    assert_eq!(list.into_inner().peers, []);
    for id in [&id(1), "", "x"] {
        let none = service.get_peer(request(id)).await.unwrap_err();
        assert_eq!(none.code(), Code::NotFound);
        let none = service.ping_peer(request(id)).await.unwrap_err();
        assert_eq!(none.code(), Code::NotFound);
    }
    let mut watch = service.watch_peers(Request::new(())).await.unwrap();
    context.stopping.cancel();
    assert_eq!(next(watch.get_mut()).await, None);
}

#[tokio::test]
async fn peers_are_listed_found_and_measured() {
    let (context, _dir) = context().await;
    let list = vec![peer(1, PeerState::Connected), peer(2, PeerState::Lost)];
    context.library.join(ScriptedPeers::new(list));
    let service = PeersService::new(context);
    let answer = service.list_peers(Request::new(())).await.unwrap();
    let peers = answer.into_inner().peers;
    let ids: Vec<_> = peers.iter().map(|peer| peer.id.clone()).collect();
    assert_eq!(ids, [id(1), id(2)]);
    let one = service.get_peer(request(&id(1))).await.unwrap();
    assert_eq!(one.into_inner(), peers[0]);
    let rtt = service.ping_peer(request(&id(1))).await.unwrap();
    assert_eq!(rtt.into_inner().rtt_us, 3_200);
    let gone = service.ping_peer(request(&id(2))).await.unwrap_err();
    assert_eq!(gone.code(), Code::Unavailable);
    assert!(gone.message().contains(&id(2)), "{gone}");
    let unknown = service.ping_peer(request(&id(3))).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
}

#[tokio::test]
async fn who_watches_hears_of_all_then_of_what_changed_until_the_end() {
    let (context, _dir) = context().await;
    let (one, two) = (
        peer(1, PeerState::Connected),
        peer(2, PeerState::Connecting),
    );
    let peers = ScriptedPeers::new(vec![one.clone(), two.clone()]);
    context.library.join(peers.clone());
    let service = PeersService::new(context.clone());
    let watch = service.watch_peers(Request::new(())).await.unwrap();
    let mut watch = watch.into_inner();
    for number in [1, 2] {
        assert_eq!(next(&mut watch).await.unwrap().id, id(number));
    }
    let counted = PeerStatus {
        bytes_in: 5_000,
        rtt: Duration::from_millis(9),
        ..one
    };
    let joined = PeerStatus {
        state: PeerState::Connected,
        ..two
    };
    peers.set(vec![counted, joined]);
    let changed = next(&mut watch).await.unwrap();
    assert_eq!(
        (changed.id.clone(), changed.state()),
        (id(2), v1::PeerState::Connected)
    );
    context.stopping.cancel();
    assert_eq!(next(&mut watch).await, None);
}

#[tokio::test]
async fn who_watches_stays_while_the_node_joins_and_leaves_clusters() {
    let (context, _dir) = context().await;
    let library = context.library.clone();
    let service = PeersService::new(context.clone());
    let watch = service.watch_peers(Request::new(())).await.unwrap();
    let mut watch = watch.into_inner();
    let peers = |number| ScriptedPeers::new(vec![peer(number, PeerState::Connected)]);
    library.join(peers(1));
    assert_eq!(next(&mut watch).await.unwrap().id, id(1));
    library.part();
    library.join(peers(1));
    assert_eq!(next(&mut watch).await.unwrap().id, id(1));
    library.join(peers(2));
    assert_eq!(next(&mut watch).await.unwrap().id, id(2));
    context.stopping.cancel();
    assert_eq!(next(&mut watch).await, None);
}

#[tokio::test]
async fn peers_that_come_and_go_are_events_and_so_is_leaving_the_cluster() {
    let (context, _dir) = context().await;
    let library = context.library.clone();
    let mut events = library.events();
    let peers = ScriptedPeers::new(vec![peer(1, PeerState::Connected)]);
    library.join(peers.clone());
    let mut expect = async |kind: EventKind, number: u8| {
        let heard = tokio::time::timeout(PATIENCE, events.next()).await;
        let Ok(Some(Heard::Event(event))) = heard else {
            panic!("{heard:?}");
        };
        let of = event.origin.as_ref().unwrap().to_string();
        assert_eq!((event.kind, of), (kind, id(number)));
    };
    expect(EventKind::PeerConnected, 1).await;
    let both = [peer(1, PeerState::Lost), peer(2, PeerState::Connected)];
    peers.set(both.to_vec());
    expect(EventKind::PeerDisconnected, 1).await;
    expect(EventKind::PeerConnected, 2).await;
    library.part();
    expect(EventKind::PeerDisconnected, 2).await;
}

#[tokio::test]
async fn a_peer_is_one_of_the_origins_and_looks_after_itself() {
    let (context, _dir) = context().await;
    context
        .library
        .join(ScriptedPeers::new(vec![peer(1, PeerState::Demoted)]));
    let service = Service::new(context);
    let origins = service.list_origins(Request::new(())).await.unwrap();
    let origins = origins.into_inner().origins;
    assert_eq!(origins.len(), 1);
    assert_eq!(
        (&*origins[0].id, &*origins[0].origin_type),
        (&*id(1), "peer")
    );
    let request = |origin_id: String| Request::new(v1::OriginRequest { origin_id });
    let health = service.get_origin_health(request(id(1))).await.unwrap();
    assert_eq!(
        health.into_inner().status(),
        v1::HealthStatus::HealthDegraded
    );
    let none = service.get_origin_health(request(id(2))).await.unwrap_err();
    assert_eq!(none.code(), Code::NotFound);
    let rescan = service.rescan_origin(request(id(1))).await.map(drop);
    let forget = service.forget_origin(request(id(1))).await.map(drop);
    for refused in [rescan.unwrap_err(), forget.unwrap_err()] {
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert!(refused.message().contains("is a peer"), "{refused}");
    }
}

#[tokio::test]
async fn what_is_not_in_the_tree_is_not_located() {
    let (context, _dir) = context().await;
    let service = PeersService::new(context);
    for (path, expect) in [
        ("A/1.flac", Code::NotFound),
        ("/", Code::FailedPrecondition),
    ] {
        let request = Request::new(v1::LocateRequest { path: path.into() });
        let refused = service.locate(request).await.unwrap_err();
        assert_eq!(refused.code(), expect, "{path}: {refused}");
    }
}

#[test]
fn all_that_is_known_of_a_peer_is_told() {
    let told = to_proto(peer(1, PeerState::Lost));
    let expect = v1::Peer {
        id: "01".repeat(16),
        name: "node-1".into(),
        address: "192.0.2.1:4242".into(),
        found_by: "mdns".into(),
        state: v1::PeerState::Lost.into(),
        rtt_us: 3_200,
        bytes_in: 100,
        bytes_out: 200,
        chunks_in: 1,
        chunks_out: 2,
        errors: 3,
        version: "1.2.3".into(),
        objects: 12,
        connected_since_unix: 1_700_000_000,
        last_error: Some("it is gone".into()),
    };
    assert_eq!(told, expect);
    let mut fresh = peer(1, PeerState::Connecting);
    fresh.address = None;
    fresh.last_error = None;
    let told = to_proto(fresh);
    assert_eq!((&*told.address, told.last_error), ("", None));
}

#[test]
fn news_is_whatever_lasts_and_is_another() {
    type Change = fn(&mut PeerStatus);
    let check = |change: Change, expect: bool| {
        let old = peer(1, PeerState::Connected);
        let mut new = old.clone();
        change(&mut new);
        assert_ne!(old, new);
        let mut known = BTreeMap::from([(old.id, old)]);
        assert_eq!(
            news(&mut known, vec![new.clone()]).len(),
            usize::from(expect)
        );
        assert_eq!(known.into_values().collect::<Vec<_>>(), [new]);
    };
    let lasting: [Change; 7] = [
        |peer| peer.name.push('x'),
        |peer| peer.address = Some(SocketAddr::from(([192, 0, 2, 2], 1))),
        |peer| peer.found_by = FoundBy::Dns,
        |peer| peer.state = PeerState::Demoted,
        |peer| peer.version.push('x'),
        |peer| peer.connected_since_unix += 1,
        |peer| peer.last_error = Some("x".into()),
    ];
    let moving: [Change; 7] = [
        |peer| peer.rtt += Duration::from_millis(1),
        |peer| peer.bytes_in += 1,
        |peer| peer.bytes_out += 1,
        |peer| peer.chunks_in += 1,
        |peer| peer.chunks_out += 1,
        |peer| peer.errors += 1,
        |peer| peer.objects += 1,
    ];
    lasting.into_iter().for_each(|change| check(change, true));
    moving.into_iter().for_each(|change| check(change, false));
}

#[test]
fn holders_are_told_with_their_ranges() {
    let holder = |node: Option<u8>, ranges: Vec<std::ops::Range<u64>>, is_complete| Holder {
        node: node.map(|number| NodeId::from_bytes([number; 16])),
        ranges,
        is_complete,
        trust: Trust::Anchored,
    };
    let told = located_to_proto(Located {
        version: VersionKey([0xab; 16]),
        size: 300,
        holders: vec![
            holder(None, vec![0..100, 200..300], false),
            holder(Some(1), std::iter::once(0..300).collect(), true),
        ],
    });
    assert_eq!((told.version_key, told.size), ("ab".repeat(16), 300));
    let [own, other] = &told.holders[..] else {
        panic!("{:?}", told.holders);
    };
    let range = |offset, len| v1::Range { offset, len };
    assert_eq!(
        (&*own.peer_id, own.complete, &*own.trust),
        ("", false, "anchored")
    );
    assert_eq!(own.ranges, [range(0, 100), range(200, 100)]);
    assert_eq!((&other.peer_id, other.complete), (&id(1), true));
    assert_eq!(other.ranges, [range(0, 300)]);
}
