//! Nodes that find each other by multicast DNS, over loopback.

use musicfs_core::peer::{FoundBy, PeerState};

use super::*;

async fn announced(cluster: u8, seed: u8) -> Arc<Mesh> {
    let mut options = options();
    options.mdns = true;
    options.interfaces = vec!["lo".to_owned()];
    Mesh::start(member(cluster, seed), options, nothing())
        .await
        .unwrap()
}

#[tokio::test]
async fn nodes_of_a_cluster_find_each_other_and_no_others() {
    let stranger = announced(12, 3).await;
    let one = announced(11, 1).await;
    let other = announced(11, 2).await;
    together((&one, 1), (&other, 2)).await;
    let found_by = [
        status(&one, 2).unwrap().found_by,
        status(&other, 1).unwrap().found_by,
    ];
    assert!(found_by.contains(&FoundBy::Mdns), "{found_by:?}");
    assert_eq!([&one, &other].map(|mesh| mesh.list().len()), [1, 1]);
    assert!(stranger.list().is_empty());
    assert_eq!(
        stranger.endpoint.stats().outgoing_handshakes,
        0,
        "nobody was even dialled"
    );
    soon(other.close()).await;
    eventually("it left", || state(&one, 2) == Some(PeerState::Lost)).await;
    soon(async { tokio::join!(one.close(), stranger.close()) }).await;
}
