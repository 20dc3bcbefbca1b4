//! Those who do not belong to the cluster.

use musicfs_core::peer::PeerState;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use super::*;
use crate::credentials::Credentials;
use crate::tls::SERVER_NAME;

#[tokio::test]
async fn a_node_of_another_cluster_learns_nothing_and_is_not_listed() {
    let one = start(1, &[]).await;
    let mut options = options();
    options.addresses = vec![one.local_address().to_string()];
    let stranger = Mesh::start(member(2, 9), options, nothing()).await.unwrap();
    // It learns that somebody is there, and tries again.
    eventually("it was turned away twice", || {
        one.endpoint.stats().accepted_handshakes >= 2 && one.endpoint.open_connections() == 0
    })
    .await;
    assert!(one.list().is_empty() && stranger.list().is_empty());
    let friend = start(2, &[one.local_address()]).await;
    together((&one, 1), (&friend, 2)).await;
    assert!(stranger.list().is_empty());
    soon(async { tokio::join!(one.close(), stranger.close(), friend.close()) }).await;
}

/// Dials as fast as it can; how many connections were made.
async fn flood(target: SocketAddr, count: usize) -> usize {
    let tls = member(2, 9).tls().unwrap();
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let mut dials = tokio::task::JoinSet::new();
    for _ in 0..count {
        let dialled = endpoint
            .connect_with(tls.client.clone(), target, SERVER_NAME)
            .unwrap();
        dials.spawn(dialled);
    }
    let outcomes = soon(dials.join_all()).await;
    outcomes.iter().filter(|outcome| outcome.is_ok()).count()
}

#[tokio::test]
async fn a_flood_of_strangers_gets_few_handshakes_and_keeps_nobody_out() {
    let one = start(1, &[]).await;
    let place = one.local_address();
    let flood = tokio::spawn(flood(place, 400));
    let friend = start(2, &[]).await;
    // It is known here, so that its handshakes have a share of their own, though it comes from the same
    // host.
    tell(&one, friend.local_address()).await;
    tell(&friend, place).await;
    together((&one, 1), (&friend, 2)).await;
    assert_eq!(soon(flood).await.unwrap(), 0);
    let stats = one.endpoint.stats();
    assert!(stats.accepted_handshakes < 150, "{stats:?}");
    assert!(stats.refused_handshakes > 200, "{stats:?}");
    soon(async { tokio::join!(one.close(), friend.close()) }).await;
}

#[tokio::test]
async fn nobody_is_heard_on_an_interface_that_was_not_chosen() {
    let mut elsewhere = options();
    elsewhere.interfaces = vec!["nowhere0".to_owned()];
    let one = Mesh::start(member(1, 1), elsewhere, nothing())
        .await
        .unwrap();
    let other = start(2, &[one.local_address()]).await;
    eventually("it is ignored", || {
        one.endpoint.stats().ignored_handshakes > 0
    })
    .await;
    assert_eq!(one.endpoint.stats().accepted_handshakes, 0);
    let mut here = options();
    here.interfaces = vec!["nowhere0".to_owned(), "lo".to_owned()];
    here.addresses = vec![other.local_address().to_string()];
    let three = Mesh::start(member(1, 3), here, nothing()).await.unwrap();
    together((&three, 3), (&other, 2)).await;
    assert!(one.list().is_empty());
    soon(async { tokio::join!(one.close(), other.close(), three.close()) }).await;
}

/// Nodes of a PKI of one's own, all with one certificate.
fn pki() -> impl Fn(u8) -> Membership {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::from_params(&params, &ca_key);
    let key = KeyPair::generate().unwrap();
    let node = CertificateParams::new([SERVER_NAME.to_owned()]).unwrap();
    let certificate = node.signed_by(&key, &issuer).unwrap().pem();
    let key = key.serialize_pem();
    move |seed| Membership::Pki {
        credentials: Credentials::from_pem(ca.as_bytes(), certificate.as_bytes(), key.as_bytes())
            .unwrap(),
        node_key: node_key(seed),
    }
}

#[tokio::test]
async fn nodes_of_an_own_pki_meet_and_those_of_a_cluster_do_not_join_them() {
    let pki = pki();
    let one = Mesh::start(pki(1), options(), nothing()).await.unwrap();
    let mut reach = options();
    reach.addresses = vec![one.local_address().to_string()];
    let other = Mesh::start(pki(2), reach.clone(), nothing()).await.unwrap();
    let stranger = Mesh::start(member(1, 3), reach, nothing()).await.unwrap();
    together((&one, 1), (&other, 2)).await;
    eventually("it was turned away", || {
        one.endpoint.stats().accepted_handshakes >= 3
    })
    .await;
    assert_eq!((one.list().len(), stranger.list().len()), (1, 0));
    soon(other.close()).await;
    eventually("it left", || state(&one, 2) == Some(PeerState::Lost)).await;
    soon(async { tokio::join!(one.close(), stranger.close()) }).await;
}

#[tokio::test]
async fn a_start_that_cannot_succeed_says_why_and_opens_nothing() {
    let one = start(1, &[]).await;
    let mut taken = options();
    taken.listen = Some(one.local_address());
    let error = Mesh::start(member(1, 2), taken, nothing())
        .await
        .err()
        .unwrap();
    assert!(matches!(&error, MeshError::Listen { address, .. } if *address == one.local_address()));
    let mut wrong = options();
    wrong.addresses = vec!["nas:".to_owned()];
    let error = Mesh::start(member(1, 2), wrong, nothing())
        .await
        .err()
        .unwrap();
    assert!(
        error.to_string().contains("\"nas:\"") && !error.fix().is_empty(),
        "{error}"
    );
    soon(one.close()).await;
}
