//! Nodes of one cluster.

use musicfs_core::manifest::ChunkHash;
use musicfs_core::peer::{FoundBy, PeerState};

use super::*;

/// Much longer than a test: nothing that it waits for comes from a connection that fell silent.
const NEVER_IDLE: Duration = Duration::from_secs(600);

#[tokio::test]
async fn two_nodes_meet_and_list_each_other() {
    let mut holder = options();
    holder.name = "the other".to_owned();
    let promises = Arc::new(Promises(vec![version(1), version(2)]));
    let other = Mesh::start(member(1, 2), holder, promises).await.unwrap();
    assert_eq!(other.node(), id(2));
    let one = start(1, &[other.local_address()]).await;
    together((&one, 1), (&other, 2)).await;
    eventually("its versions are known", || {
        status(&one, 2).unwrap().objects == 2
    })
    .await;
    let seen = status(&one, 2).unwrap();
    assert_eq!(
        (seen.name.as_str(), seen.version.as_str()),
        ("the other", "1.2.3")
    );
    assert_eq!(seen.address, Some(other.local_address()));
    assert_eq!(seen.found_by, FoundBy::Static);
    assert!(seen.connected_since_unix > 1_700_000_000);
    assert_eq!(seen.last_error, None);
    let seen = status(&other, 1).unwrap();
    assert_eq!(
        seen.address,
        Some(one.local_address()),
        "it dials from where it listens"
    );
    assert_eq!(seen.found_by, FoundBy::Peer);
    let ids = |version| {
        one.holders(version)
            .iter()
            .map(|peer| peer.id())
            .collect::<Vec<_>>()
    };
    assert_eq!((ids(version(1)), ids(version(3))), (vec![id(2)], vec![]));
    let round_trip = soon(one.ping(id(2))).await.unwrap();
    assert!(round_trip > Duration::ZERO);
    let nobody = soon(one.ping(id(9))).await;
    assert!(matches!(nobody, Err(PeerError::Gone { peer }) if peer == id(9)));
    soon(async { tokio::join!(one.close(), other.close()) }).await;
}

#[tokio::test]
async fn who_leaves_is_missed_at_once_and_comes_back_as_the_same() {
    let anywhere = options().listen.unwrap();
    let one = start_at(1, anywhere, &[], NEVER_IDLE);
    let own = one.local_address();
    let other = start_at(2, anywhere, &[own], NEVER_IDLE);
    let place = other.local_address();
    together((&one, 1), (&other, 2)).await;
    let seen = soon(one.changed(0)).await;
    soon(other.close()).await;
    assert!(soon(one.changed(seen)).await != seen);
    eventually("it left", || state(&one, 2) == Some(PeerState::Lost)).await;
    let lost = status(&one, 2).unwrap();
    assert_eq!(lost.connected_since_unix, 0);
    assert_eq!(lost.name, "a node", "what is known of it stays");
    assert!(matches!(
        soon(one.ping(id(2))).await,
        Err(PeerError::Gone { .. })
    ));
    assert!(other.list().is_empty());
    soon(other.close()).await;
    drop(other);
    free(place).await;
    let again = start_at(2, place, &[own], NEVER_IDLE);
    together((&one, 1), (&again, 2)).await;
    assert_eq!(one.list().len(), 1);
    soon(async { tokio::join!(one.close(), again.close()) }).await;
}

/// Runs a node in a runtime of its own, which [`kill`] ends without a word.
fn apart(start: impl FnOnce() -> Arc<Mesh>) -> (Arc<Mesh>, tokio::runtime::Runtime) {
    let runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = { runtime }.worker_threads(1).enable_all().build().unwrap();
    let mesh = {
        let _inside = runtime.enter();
        start()
    };
    (mesh, runtime)
}

async fn kill((mesh, runtime): (Arc<Mesh>, tokio::runtime::Runtime)) {
    // First, or what is dropped with the mesh would still say goodbye.
    let ended = tokio::task::spawn_blocking(|| runtime.shutdown_timeout(PATIENCE));
    ended.await.unwrap();
    drop(mesh);
}

#[tokio::test]
async fn who_falls_silent_is_lost() {
    let anywhere = options().listen.unwrap();
    let one = start_at(1, anywhere, &[], Duration::from_secs(1));
    let own = one.local_address();
    let other = apart(|| start_at(2, anywhere, &[own], NEVER_IDLE));
    together((&one, 1), (&other.0, 2)).await;
    kill(other).await;
    eventually("it is lost", || state(&one, 2) == Some(PeerState::Lost)).await;
    assert_eq!(
        status(&one, 2).unwrap().last_error.as_deref(),
        Some("it stopped answering")
    );
    soon(one.close()).await;
}

#[tokio::test]
async fn who_was_killed_and_started_anew_is_connected_again_long_before_the_silence_is_noticed() {
    let anywhere = options().listen.unwrap();
    let one = start_at(1, anywhere, &[], NEVER_IDLE);
    let own = one.local_address();
    for is_at_the_same_port in [true, false] {
        let other = apart(|| start_at(2, anywhere, &[own], NEVER_IDLE));
        let place = other.0.local_address();
        together((&one, 1), (&other.0, 2)).await;
        let since = one.shared.view().nodes[0].member.clone().unwrap();
        kill(other).await;
        free(place).await;
        let place = if is_at_the_same_port { place } else { anywhere };
        let again = start_at(2, place, &[own], NEVER_IDLE);
        together((&one, 1), (&again, 2)).await;
        eventually("it is another connection", || {
            let now = one.shared.view().nodes[0].member.clone();
            now.is_some_and(|now| !Arc::ptr_eq(&since, &now))
        })
        .await;
        soon(one.ping(id(2))).await.unwrap();
        soon(again.close()).await;
        eventually("it left", || !is_connected(&one, 2)).await;
    }
    soon(one.close()).await;
}

#[tokio::test]
async fn two_that_dial_each_other_keep_one_connection() {
    for round in 0..4 {
        let (one, other) = (start(1, &[]).await, start(2, &[]).await);
        let (one_at, other_at) = (one.local_address(), other.local_address());
        tokio::join!(tell(&one, other_at), tell(&other, one_at));
        together((&one, 1), (&other, 2)).await;
        eventually("one connection is left", || {
            let counts = [&one, &other].map(|mesh| mesh.endpoint.open_connections());
            counts == [1, 1] && is_connected(&one, 2) && is_connected(&other, 1)
        })
        .await;
        soon(one.ping(id(2))).await.unwrap();
        soon(other.ping(id(1))).await.unwrap();
        let found_by = [
            status(&one, 2).unwrap().found_by,
            status(&other, 1).unwrap().found_by,
        ];
        assert_eq!(found_by, [FoundBy::Mdns; 2], "round {round}");
        soon(async { tokio::join!(one.close(), other.close()) }).await;
    }
}

#[tokio::test]
async fn nodes_tell_each_other_whom_they_know() {
    let two = start(2, &[]).await;
    let three = start(3, &[]).await;
    let one = start(1, &[two.local_address(), three.local_address()]).await;
    together((&one, 1), (&two, 2)).await;
    together((&one, 1), (&three, 3)).await;
    together((&two, 2), (&three, 3)).await;
    assert_eq!(status(&two, 3).unwrap().found_by, FoundBy::Peer);
    assert_eq!(two.list().len(), 2);
    // Without the one that brought them together they stay together.
    soon(one.close()).await;
    eventually("it left", || state(&two, 1) == Some(PeerState::Lost)).await;
    assert!(is_connected(&two, 3));
    soon(async { tokio::join!(two.close(), three.close()) }).await;
}

#[tokio::test]
async fn who_lies_is_asked_last_and_everybody_sees_why() {
    let hold = || Arc::new(Promises(vec![version(1)]));
    let liar = Mesh::start(member(1, 2), options(), hold()).await.unwrap();
    let honest = Mesh::start(member(1, 3), options(), hold()).await.unwrap();
    let (place, liar_at) = (honest.local_address(), liar.local_address());
    let one = start(1, &[liar_at, place]).await;
    let holder = |seed| {
        one.holders(version(1))
            .into_iter()
            .find(|peer| peer.id() == id(seed))
    };
    eventually("both hold it", || {
        holder(2).is_some() && holder(3).is_some()
    })
    .await;
    let (bad, good) = (holder(2).unwrap(), holder(3).unwrap());
    good.answered(Duration::from_millis(500));
    bad.answered(Duration::from_millis(1));
    assert!(bad.standing() < good.standing());
    let seen = soon(one.changed(0)).await;
    bad.failed(&PeerError::Corrupt {
        peer: id(2),
        chunk: ChunkHash::of(b"x"),
    });
    assert!(bad.standing() > good.standing());
    assert!(soon(one.changed(seen)).await > seen);
    let listed = status(&one, 2).unwrap();
    assert_eq!((listed.state, listed.errors), (PeerState::Demoted, 1));
    let why = listed.last_error.unwrap();
    assert!(why.contains("digest differs"), "{why}");
    // What goes wrong later does not hide it, and neither does another connection.
    bad.failed(&PeerError::Gone { peer: id(2) });
    soon(liar.close()).await;
    eventually("it left", || state(&one, 2) == Some(PeerState::Lost)).await;
    drop(liar);
    free(liar_at).await;
    let again = start_at(2, liar_at, &[one.local_address()], NEVER_IDLE);
    eventually("it is back", || state(&one, 2) == Some(PeerState::Demoted)).await;
    let listed = status(&one, 2).unwrap();
    assert_eq!(
        (listed.last_error.as_deref(), listed.errors),
        (Some(why.as_str()), 2)
    );
    assert!(is_connected(&one, 3));
    soon(async { tokio::join!(one.close(), again.close(), honest.close()) }).await;
}

#[tokio::test]
async fn requests_under_way_make_others_come_first() {
    let hold = || Arc::new(Promises(vec![version(1)]));
    let two = Mesh::start(member(1, 2), options(), hold()).await.unwrap();
    let three = Mesh::start(member(1, 3), options(), hold()).await.unwrap();
    let one = start(1, &[two.local_address(), three.local_address()]).await;
    let holder = |seed| {
        one.holders(version(1))
            .into_iter()
            .find(|peer| peer.id() == id(seed))
    };
    eventually("both hold it", || {
        holder(2).is_some() && holder(3).is_some()
    })
    .await;
    let (busy, idle) = (holder(2).unwrap(), holder(3).unwrap());
    assert_eq!(busy.standing(), idle.standing());
    let stream = busy.range(version(1), 0..10);
    assert!(busy.standing() > idle.standing());
    drop(stream);
    assert_eq!(busy.standing(), idle.standing());
    soon(async { tokio::join!(one.close(), two.close(), three.close()) }).await;
}

#[tokio::test]
async fn a_node_that_is_told_its_own_address_stays_alone() {
    let one = start(1, &[]).await;
    tell(&one, one.local_address()).await;
    eventually("it met itself", || {
        one.endpoint.stats().accepted_handshakes == 1 && one.endpoint.open_connections() == 0
    })
    .await;
    assert!(one.list().is_empty());
    soon(one.close()).await;
}

#[tokio::test]
async fn of_two_programs_with_one_key_the_first_one_stays() {
    let one = start(1, &[]).await;
    let first = start(2, &[one.local_address()]).await;
    together((&one, 1), (&first, 2)).await;
    let kept = one.shared.view().nodes[0].member.clone().unwrap();
    let second = start(2, &[one.local_address()]).await;
    let turned_away = || {
        let status = status(&second, 1)?;
        (status.state == PeerState::Lost).then_some(status.last_error?)
    };
    eventually("the second is turned away", || turned_away().is_some()).await;
    assert_eq!(
        turned_away().unwrap(),
        "it knows another program with the key of this node"
    );
    tell(&second, first.local_address()).await;
    eventually("they see each other", || {
        second.endpoint.stats().outgoing_handshakes >= 2
    })
    .await;
    soon(one.ping(id(2))).await.unwrap();
    let now = one.shared.view().nodes[0].member.clone().unwrap();
    assert!(Arc::ptr_eq(&kept, &now), "nothing flapped");
    assert!(is_connected(&first, 1));
    assert_eq!(
        (first.list().len(), second.list().len()),
        (1, 1),
        "neither lists itself"
    );
    soon(async { tokio::join!(one.close(), first.close(), second.close()) }).await;
}

#[tokio::test]
async fn nodes_find_each_other_by_name() {
    let other = start(2, &[]).await;
    let mut options = options();
    options.dns_names = vec![format!("localhost:{}", other.local_address().port())];
    let one = Mesh::start(member(1, 1), options, nothing()).await.unwrap();
    together((&one, 1), (&other, 2)).await;
    assert_eq!(status(&one, 2).unwrap().found_by, FoundBy::Dns);
    soon(async { tokio::join!(one.close(), other.close()) }).await;
}

#[tokio::test]
async fn to_close_is_quick_and_frees_the_port() {
    let one = start(1, &[]).await;
    let place = one.local_address();
    let mut others = Vec::new();
    for seed in 2..6 {
        others.push(start(seed, &[place]).await);
    }
    eventually("all are there", || {
        (2..6).all(|seed| is_connected(&one, seed))
    })
    .await;
    soon(async { tokio::join!(one.close(), one.close()) }).await;
    drop(one);
    free(place).await;
    for other in others {
        soon(other.close()).await;
    }
}
