//! Who says what unasked: introductions, what is held, who is known, goodbyes.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use musicfs_core::extents::BLOCK_BYTES;
use proptest::prelude::any;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use super::memory::{content, version};
use super::nodes::*;
use super::*;
use crate::binding::Binding;
use crate::wire::{HAVE_RANGES_MAX, Hello, News};

#[tokio::test]
async fn both_ends_learn_who_the_other_is() {
    let named = |name| Setting {
        name,
        ..Setting::default()
    };
    let one = Node::with(10, named("living room"));
    let two = Node::with(20, named("\u{202e}kitchen\u{7}"));
    let (ours, theirs) = one.meet(&two).await;
    assert_eq!(
        (ours.session.node(), theirs.session.node()),
        (two.id(), one.id())
    );
    let introduced = |name: &str, start| Introduced {
        name: name.to_owned(),
        version: "1.2.3".to_owned(),
        listen_port: 4242,
        minor: 0,
        start,
    };
    assert_eq!(
        *ours.session.hello(),
        introduced("kitchen", ours.session.hello().start)
    );
    assert_eq!(
        *theirs.session.hello(),
        introduced("living room", theirs.session.hello().start)
    );
}

#[tokio::test]
async fn nodes_that_share_a_certificate_prove_who_they_are() {
    let shared = shared_credentials();
    let setting = || Setting {
        credentials: Some(shared()),
        ..Setting::default()
    };
    let (one, two) = (Node::with(10, setting()), Node::with(20, setting()));
    let (ours, theirs) = one.meet(&two).await;
    assert_eq!(
        (ours.session.node(), theirs.session.node()),
        (two.id(), one.id())
    );
    // A manifest is still its maker's.
    let manifest = two.memory.put(version(1), content(1, 100_000));
    let got = soon(ours.session.manifest(version(1), 100_000))
        .await
        .unwrap();
    assert_eq!(got, manifest);
    // Without a proof, or with one that was made for another session, nobody is let in.
    let elsewhere = {
        let (ours, _theirs) = two.connect(&one).await;
        let exported = crate::binding::Exported::of(&ours).unwrap();
        Binding::sign(&key(20), Role::Server, &exported)
    };
    for binding in [None, Some(elsewhere)] {
        let (ours, theirs) = one.connect(&two).await;
        let hello = with(|hello| hello.binding = binding);
        let got = refused(&one, ours, &theirs, hello).await;
        match binding {
            None => assert!(matches!(got, SessionError::Unbound), "{got:?}"),
            Some(_) => assert!(matches!(got, SessionError::Unproven(_)), "{got:?}"),
        }
        assert_closed(&theirs, CloseCode::Unproven).await;
    }
}

#[tokio::test]
async fn a_node_does_not_meet_itself() {
    // With a certificate that says it, and with one that does not.
    let shared = shared_credentials();
    for credentials in [None, Some(shared())] {
        let setting = Setting {
            credentials,
            ..Setting::default()
        };
        let one = Node::with(10, setting);
        let (ours, theirs) = one.connect(&one).await;
        let (client, server) = soon(async {
            tokio::join!(
                one.introduce(ours, Role::Client),
                one.introduce(theirs, Role::Server)
            )
        })
        .await;
        let is_itself = |got: &Result<Arc<Session>, SessionError>| {
            // One end may hear of the other's refusal before it comes to its own.
            let told = Ended::Left(Left::For(CloseCode::Itself));
            match got {
                Err(SessionError::Itself) => true,
                Err(SessionError::Ended(ended)) => *ended == told,
                _ => false,
            }
        };
        assert!(is_itself(&client) && is_itself(&server));
    }
}

#[tokio::test]
async fn another_major_version_is_refused_and_a_minor_one_is_not() {
    let (one, two) = (Node::new(10), Node::new(20));
    let (ours, theirs) = one.connect(&two).await;
    let got = refused(&one, ours, &theirs, with(|hello| hello.major = 2)).await;
    assert!(matches!(got, SessionError::Version { major: 2 }), "{got:?}");
    assert_closed(&theirs, CloseCode::Version).await;
    let (ours, theirs) = one.connect(&two).await;
    let mut news = theirs.open_uni().await.unwrap();
    let hello = with(|hello| hello.minor = 7);
    news.write_all(&hello.to_frame()).await.unwrap();
    let session = soon(one.introduce(ours, Role::Client)).await.unwrap();
    assert_eq!(session.hello().minor, 7);
}

#[tokio::test]
async fn who_says_nothing_or_something_else_first_is_refused() {
    let limits = SessionLimits {
        hello_wait_max: Duration::from_millis(200),
        ..SessionLimits::default()
    };
    let setting = Setting {
        limits,
        ..Setting::default()
    };
    let (one, two) = (Node::with(10, setting), Node::new(20));
    let (ours, theirs) = one.connect(&two).await;
    let got = soon(one.introduce(ours, Role::Client)).await;
    assert!(matches!(got, Err(SessionError::Slow)));
    assert_closed(&theirs, CloseCode::Slow).await;
    let two_frames = [News::Goodbye, News::Unknown, News::Have(Vec::new())];
    for first in two_frames {
        let (ours, theirs) = one.connect(&two).await;
        let got = refused(&one, ours, &theirs, first).await;
        assert!(matches!(got, SessionError::Violation(_)), "{got:?}");
        assert_closed(&theirs, CloseCode::Violation).await;
    }
}

#[tokio::test]
async fn all_that_is_held_arrives_and_then_each_change() {
    let (one, two) = (Node::new(10), Node::new(20));
    for number in 0..20 {
        two.memory
            .put(version(number), content(number.into(), 1000));
    }
    let blocks = |numbers: &[u64]| {
        let range = |number: &u64| number * BLOCK_BYTES..(number + 1) * BLOCK_BYTES;
        numbers.iter().map(range).collect()
    };
    two.memory
        .put_ranges(version(20), content(20, 1 << 20), blocks(&[1, 2, 5]));
    let (ours, _theirs) = one.meet(&two).await;
    assert_knows(&ours.session, &two).await;
    two.memory
        .put_ranges(version(20), content(20, 1 << 20), blocks(&[1, 2, 3, 5]));
    two.memory.remove(version(3));
    two.memory.put(version(21), content(21, 1000));
    assert_knows(&ours.session, &two).await;
    assert_eq!(ours.session.objects_count(), 21);
    // Held in more pieces than are announced: the longest are, and all are held.
    let pieces: Vec<u64> = (0..100)
        .flat_map(|at| [5 * at, 5 * at + 1])
        .take(190)
        .collect();
    two.memory
        .announce(version(22), Held::Ranges(blocks(&pieces)));
    let session = ours.session.clone();
    eventually("it is announced", || session.held(version(22)).is_some()).await;
    let Some(Held::Ranges(told)) = ours.session.held(version(22)) else {
        panic!("it is held in part");
    };
    assert_eq!(told.iter().count(), HAVE_RANGES_MAX);
    assert!(
        told.iter()
            .all(|range| range.end - range.start == 2 * BLOCK_BYTES)
    );
}

#[tokio::test]
async fn changes_while_others_listen_reach_all_of_them() {
    let node = Node::new(1);
    let others: Vec<Node> = (2..6).map(Node::new).collect();
    let mut runner = TestRunner::deterministic();
    let mut chance = || any::<u8>().new_tree(&mut runner).unwrap().current();
    let mut ends = Vec::new();
    for other in &others {
        for _ in 0..50 {
            let number = chance() % 40;
            match chance() % 3 {
                0 => node.memory.remove(version(number)),
                1 => drop(node.memory.put(version(number), content(1, 10))),
                _ => {
                    let held = (0..BLOCK_BYTES * u64::from(1 + number)).into();
                    node.memory
                        .put_ranges(version(number), content(1, 10), held);
                }
            }
            tokio::task::yield_now().await;
        }
        ends.push(other.meet(&node).await);
    }
    for (end, _) in &ends {
        assert_knows(&end.session, &node).await;
    }
}

#[tokio::test]
async fn whom_a_node_knows_is_told_and_told_again() {
    let (one, two) = (Node::new(10), Node::new(20));
    let (ours, mut theirs) = one.meet(&two).await;
    let known = |count: u8| -> Vec<KnownNode> {
        let addresses = vec![
            (Ipv4Addr::new(192, 168, 1, 2), 4242).into(),
            (Ipv6Addr::LOCALHOST, 1).into(),
        ];
        let node = |number| KnownNode {
            id: NodeId::from_bytes([number; 16]),
            addresses: addresses.clone(),
        };
        (0..count).map(node).collect()
    };
    ours.session.tell_known(known(2));
    let heard = soon(theirs.heard.recv()).await.unwrap();
    assert_eq!((heard.from, heard.known), (one.id(), known(2)));
    // What nobody else can dial is not told.
    let mut some = known(1);
    let link_local = "[fe80::1]:5".parse().unwrap();
    let addresses = &mut some[0].addresses;
    addresses.push(link_local);
    addresses.push((Ipv4Addr::UNSPECIFIED, 5).into());
    addresses.push((Ipv4Addr::new(224, 0, 0, 251), 5).into());
    addresses.push((Ipv4Addr::new(192, 0, 2, 1), 0).into());
    ours.session.tell_known(some);
    let heard = soon(theirs.heard.recv()).await.unwrap();
    assert_eq!(heard.known, known(1));
    // More than may be told is not told.
    let mut many = known(100);
    many[0].addresses = vec![(Ipv4Addr::LOCALHOST, 1).into(); 9];
    ours.session.tell_known(many);
    let heard = soon(theirs.heard.recv()).await.unwrap();
    assert_eq!(heard.known.len(), 64);
    assert_eq!(heard.known[0].addresses.len(), 8);
    // Whoever has no time for it loses it, and the session lives.
    for _ in 0..20 {
        ours.session.tell_known(known(3));
        soon(ours.session.ping()).await.unwrap();
    }
    drop(theirs.heard);
    ours.session.tell_known(known(4));
    soon(ours.session.ping()).await.unwrap();
}

#[tokio::test]
async fn a_session_that_is_dropped_says_that_it_is_ending() {
    let (one, two) = (Node::new(10), Node::new(20));
    for _ in 0..20 {
        let (ours, theirs) = one.meet(&two).await;
        ours.abort();
        assert_eq!(
            theirs.ended().await,
            Ended::Left(Left::For(CloseCode::Ending))
        );
    }
}

#[tokio::test]
async fn a_listener_who_reads_nothing_holds_up_nobody() {
    let node = Node::new(1);
    let (quick, slow) = (Node::new(2), Node::new(3));
    let (end, _theirs) = quick.meet(&node).await;
    // It introduces itself, and never reads what it is told.
    let (stuck, _connection, _news) = node.meet_raw(&slow).await;
    for number in 0..=255 {
        let ranges =
            (0..HAVE_RANGES_MAX as u64).map(|at| 2 * at * BLOCK_BYTES..(2 * at + 1) * BLOCK_BYTES);
        let mut key = [number; 16];
        for part in 0..4 {
            key[0] = part;
            node.memory
                .announce(VersionKey(key), Held::Ranges(ranges.clone().collect()));
        }
    }
    eventually("the other is told", || end.session.objects_count() == 1024).await;
    let manifest = node.memory.put(version(1), content(1, 1_000_000));
    let got = collect(end.session.chunks(version(1), wanted(&manifest))).await;
    assert!(got.unwrap() == content(1, 1_000_000));
    drop(stuck);
}

/// A Hello that differs from the usual one.
fn with(change: impl FnOnce(&mut Hello)) -> News {
    let News::Hello(mut hello) = hello() else {
        panic!("it is a Hello");
    };
    change(&mut hello);
    News::Hello(hello)
}

/// Why `node` refuses somebody who begins with `first`.
async fn refused(node: &Node, ours: Connection, theirs: &Connection, first: News) -> SessionError {
    let mut news = theirs.open_uni().await.unwrap();
    news.write_all(&first.to_frame()).await.unwrap();
    let got = soon(node.introduce(ours, Role::Client)).await;
    got.err().unwrap()
}

async fn assert_closed(connection: &Connection, code: CloseCode) {
    let ended = Ended::of(soon(connection.closed()).await);
    assert_eq!(ended, Ended::Left(Left::For(code)));
}

/// The session comes to know exactly what `node` holds.
async fn assert_knows(session: &Session, node: &Node) {
    let held: BTreeMap<VersionKey, Held> = node.memory.table();
    eventually("all is known", || {
        let knows =
            |(version, held): (&VersionKey, &Held)| session.held(*version).as_ref() == Some(held);
        session.objects_count() == held.len() as u64 && held.iter().all(knows)
    })
    .await;
}
