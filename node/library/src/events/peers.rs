//! Other nodes that come and go, from what the exchange says of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use musicfs_core::id::{NodeId, OriginId};
use musicfs_core::peer::{PeerStatus, Peers};
use tokio_util::sync::CancellationToken;

use super::{Bus, Event, EventKind};

/// Tells of peers that come and go, until `stop`: then all of them are gone.
///
/// One that goes and comes back between two looks may not be noticed.
pub(crate) async fn follow(peers: Arc<dyn Peers>, bus: Arc<Bus>, stop: CancellationToken) {
    let mut connected = BTreeSet::new();
    let mut revision = 0;
    let mut is_over = false;
    while !is_over {
        tokio::select! {
            changed = peers.changed(revision) => revision = changed,
            () = stop.cancelled() => is_over = true,
        }
        let list = if is_over { Vec::new() } else { peers.list() };
        for event in turns(&mut connected, &list) {
            bus.publish(|| event);
        }
    }
}

/// Who came and who went, of those that were `connected`, which is brought up to date. Pure.
fn turns(connected: &mut BTreeSet<NodeId>, list: &[PeerStatus]) -> Vec<Event> {
    let mut events = Vec::new();
    let mut now = BTreeSet::new();
    for peer in list {
        let was = connected.contains(&peer.id);
        if peer.state.is_connected() {
            now.insert(peer.id);
            if !was {
                events.push(event(EventKind::PeerConnected, peer));
            }
        } else if was {
            let event = event(EventKind::PeerDisconnected, peer);
            events.push(match &peer.last_error {
                Some(error) => event.with("reason", error),
                None => event,
            });
        }
    }
    for id in connected.iter() {
        if !list.iter().any(|peer| peer.id == *id) {
            events.push(Event::new(EventKind::PeerDisconnected, origin_id(*id)));
        }
    }
    *connected = now;
    events
}

fn event(kind: EventKind, peer: &PeerStatus) -> Event {
    let mut event = Event::new(kind, origin_id(peer.id));
    if !peer.name.is_empty() {
        event = event.with("name", &peer.name);
    }
    if let Some(address) = peer.address {
        event = event.with("address", &address);
    }
    event
}

/// A peer is an origin whose id is its node id.
fn origin_id(id: NodeId) -> Option<OriginId> {
    OriginId::new(&id.to_string()).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use musicfs_core::peer::{FoundBy, PeerState};

    use super::*;

    fn peer(number: u8, state: PeerState) -> PeerStatus {
        PeerStatus {
            id: NodeId::from_bytes([number; 16]),
            name: format!("node-{number}"),
            address: "192.0.2.1:4242".parse().ok(),
            found_by: FoundBy::Mdns,
            state,
            rtt: Duration::ZERO,
            bytes_in: 0,
            bytes_out: 0,
            chunks_in: 0,
            chunks_out: 0,
            errors: 0,
            version: String::new(),
            objects: 0,
            connected_since_unix: 0,
            last_error: (state == PeerState::Lost).then(|| "it is gone".into()),
        }
    }

    #[test]
    fn a_peer_that_comes_or_goes_is_an_event_and_nothing_else_is() {
        use EventKind::{PeerConnected, PeerDisconnected};
        use PeerState::{Connected, Connecting, Demoted, Lost};
        let mut connected = BTreeSet::new();
        let mut check = |list: &[(u8, PeerState)], expect: &[(EventKind, u8)]| {
            let list: Vec<_> = list.iter().map(|(n, state)| peer(*n, *state)).collect();
            let told: Vec<_> = turns(&mut connected, &list)
                .into_iter()
                .map(|event| (event.kind, event.origin.unwrap().to_string()))
                .collect();
            let expect: Vec<_> = expect
                .iter()
                .map(|(kind, n)| (*kind, NodeId::from_bytes([*n; 16]).to_string()))
                .collect();
            assert_eq!(told, expect);
        };
        check(&[(1, Connecting), (2, Connected)], &[(PeerConnected, 2)]);
        check(&[(1, Connected), (2, Demoted)], &[(PeerConnected, 1)]);
        check(&[(1, Connected), (2, Connected)], &[]);
        check(&[(1, Lost), (2, Connected)], &[(PeerDisconnected, 1)]);
        check(&[(1, Lost)], &[(PeerDisconnected, 2)]);
        check(&[], &[]);
    }

    #[test]
    fn the_event_names_the_peer_and_says_why_it_went() {
        let mut connected = BTreeSet::from([NodeId::from_bytes([1; 16])]);
        let events = turns(&mut connected, &[peer(1, PeerState::Lost)]);
        let expect = [
            ("name", "node-1".to_owned()),
            ("address", "192.0.2.1:4242".to_owned()),
            ("reason", "it is gone".to_owned()),
        ];
        assert_eq!(events[0].facts, expect);
    }
}
