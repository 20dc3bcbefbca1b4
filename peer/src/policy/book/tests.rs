use super::*;

const NEVER: fn(NodeId) -> bool = |_| false;

fn at(ms: u64) -> Timestamp {
    Timestamp(Duration::from_millis(ms))
}

fn node(number: u8) -> NodeId {
    NodeId::from_bytes([number; 16])
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn service(name: &str) -> Source {
    Source::Service(name.into())
}

fn told(by: u8, about: u8) -> Source {
    Source::Told {
        by: node(by),
        node: node(about),
    }
}

/// A book that one source told of these addresses at the start.
fn book_of(source: &Source, addresses: &[&str]) -> Book {
    let mut book = Book::new(7);
    tell(&mut book, 0, source, addresses);
    book
}

fn tell(book: &mut Book, ms: u64, source: &Source, addresses: &[&str]) {
    let addresses: Vec<_> = addresses.iter().map(|text| address(text)).collect();
    book.tell(at(ms), source, &addresses);
}

/// All that is due at a moment.
fn due(book: &mut Book, ms: u64) -> Vec<String> {
    std::iter::from_fn(|| book.due(at(ms), NEVER))
        .map(|address| address.to_string())
        .collect()
}

#[test]
fn each_address_is_tried_once_until_its_outcome_is_known() {
    let mut book = book_of(
        &Source::Name(0),
        &["10.0.0.1:1", "10.0.0.2:1", "[::ffff:10.0.0.1]:1"],
    );
    assert_eq!(due(&mut book, 0), ["10.0.0.1:1", "10.0.0.2:1"]);
    assert_eq!(book.deadline(NEVER), None);
    book.failed(at(5000), &address("10.0.0.1:1"));
    let again = book.deadline(NEVER).unwrap();
    assert!(again > at(5000) && again <= at(5500), "{again:?}");
    assert_eq!(book.due(again, NEVER), Some(address("10.0.0.1:1")));
}

#[test]
fn pauses_grow_to_a_minute_and_begin_anew_after_a_connection_that_lasted() {
    let mut book = book_of(&Source::Static(0), &["10.0.0.1:1"]);
    let one = address("10.0.0.1:1");
    let mut now = at(0);
    let mut longest = Duration::ZERO;
    for _ in 0..100 {
        assert_eq!(book.due(now, NEVER), Some(one));
        book.failed(now, &one);
        let next = book.deadline(NEVER).unwrap();
        longest = longest.max(next.since(now));
        now = next;
    }
    assert!(longest > Duration::from_secs(50) && longest <= Duration::from_secs(60));
    let mut pause_after = |lasted| {
        assert_eq!(book.due(now, NEVER), Some(one));
        book.answered(&one, node(1));
        book.lost(now, node(1), lasted);
        let next = book.deadline(NEVER).unwrap();
        let pause = next.since(now);
        now = next;
        pause
    };
    let short: Vec<_> = (0..20)
        .map(|_| pause_after(Duration::from_secs(9)))
        .collect();
    assert!(
        short.iter().max() > Some(&Duration::from_secs(20)),
        "{short:?}"
    );
    for _ in 0..20 {
        assert!(pause_after(Duration::from_secs(10)) <= Duration::from_millis(500));
    }
}

#[test]
fn at_most_eight_are_tried_at_once() {
    let all: Vec<_> = (0..20).map(|last| format!("10.0.0.{last}:1")).collect();
    let all: Vec<_> = all.iter().map(String::as_str).collect();
    let mut book = book_of(&Source::Name(0), &all);
    let first = due(&mut book, 0);
    assert_eq!(first.len(), DIALS_COUNT_MAX);
    assert_eq!(
        book.deadline(NEVER),
        None,
        "the next one waits for an outcome"
    );
    book.failed(at(10), &address(&first[0]));
    assert_eq!(due(&mut book, 10).len(), 1);
    // Nobody speaks of them any more, and yet they are under way.
    tell(&mut book, 20, &Source::Name(0), &["10.0.1.1:1"]);
    assert!(due(&mut book, 20).is_empty());
    for old in first.iter().skip(1) {
        book.failed(at(30), &address(old));
    }
    assert_eq!(due(&mut book, 30), ["10.0.1.1:1"]);
    assert_eq!(book.addresses().count(), 2, "one is still under way");
}

#[test]
fn one_address_of_a_node_is_enough() {
    let both = ["10.0.0.1:1", "[2001:db8::1]:1"];
    for source in [service("a"), Source::Static(0), told(2, 1)] {
        let mut book = book_of(&source, &both);
        assert_eq!(due(&mut book, 0), both[..1], "one after the other");
        assert_eq!(due(&mut book, 249), [""; 0]);
        assert_eq!(
            due(&mut book, 250),
            both[1..],
            "the first one takes its time"
        );
        book.tell(at(300), &Source::Met(node(1)), &[address(both[0])]);
        book.answered(&address(both[0]), node(1));
        book.failed(at(300), &address(both[1]));
        assert_eq!(book.addresses_of(node(1)).len(), 2, "{source:?}");
        assert_eq!(book.deadline(|id| id == node(1)), None);
        assert!(book.deadline(NEVER).is_some());
    }
    let mut book = book_of(&Source::Name(0), &both);
    assert_eq!(
        due(&mut book, 0),
        both,
        "behind a name each is another node"
    );
    book.answered(&address(both[0]), node(1));
    book.failed(at(300), &address(both[1]));
    assert_eq!(book.addresses_of(node(1)).len(), 1);
    assert!(book.deadline(|id| id == node(1)).is_some());
}

#[test]
fn a_node_that_moved_is_found_where_it_is_now() {
    let mut book = book_of(&service("a"), &["10.0.0.1:1"]);
    due(&mut book, 0);
    book.tell(at(0), &Source::Met(node(1)), &[address("10.0.0.1:1")]);
    book.answered(&address("10.0.0.1:1"), node(1));
    book.lost(at(60_000), node(1), Duration::from_secs(60));
    tell(&mut book, 60_000, &service("a"), &[]);
    tell(&mut book, 60_000, &service("b"), &["10.0.0.9:1"]);
    assert_eq!(due(&mut book, 60_000)[..1], ["10.0.0.9:1"]);
    book.tell(at(60_000), &Source::Met(node(1)), &[address("10.0.0.9:1")]);
    book.answered(&address("10.0.0.9:1"), node(1));
    assert_eq!(
        book.addresses().collect::<Vec<_>>(),
        [address("10.0.0.9:1")]
    );
    // Another node at the old address is another node.
    tell(&mut book, 61_000, &Source::Static(0), &["10.0.0.1:1"]);
    assert_eq!(book.deadline(|id| id == node(1)), Some(at(61_000)));
}

#[test]
fn a_service_that_appears_is_tried_at_once_whatever_failed_before() {
    let mut book = book_of(&Source::Static(0), &["10.0.0.1:1"]);
    for ms in 0..10 {
        let now = book
            .deadline(NEVER)
            .unwrap()
            .plus(Duration::from_millis(ms));
        assert!(book.due(now, NEVER).is_some());
        book.failed(now, &address("10.0.0.1:1"));
    }
    let now = book.deadline(NEVER).unwrap().0.as_millis() as u64 - 1;
    assert!(due(&mut book, now).is_empty());
    tell(&mut book, now, &service("new"), &["10.0.0.1:1"]);
    assert_eq!(due(&mut book, now).len(), 1);
    book.failed(at(now), &address("10.0.0.1:1"));
    tell(&mut book, now, &service("new"), &["10.0.0.1:1"]);
    assert!(due(&mut book, now).is_empty(), "once");
}

#[test]
fn this_node_itself_is_left_alone_for_a_while() {
    let mut book = book_of(&Source::Static(0), &["10.0.0.1:1"]);
    due(&mut book, 0);
    book.is_own(at(0), &address("10.0.0.1:1"));
    tell(&mut book, 1, &service("a"), &["10.0.0.1:1"]);
    assert_eq!(book.deadline(NEVER), Some(Timestamp(OWN_AGAIN_AFTER)));
}

#[test]
fn what_members_claim_of_others_is_believed_last() {
    let mut book = book_of(&told(2, 1), &["10.0.0.1:1"]);
    assert_eq!(book.told(), [(node(1), address("10.0.0.1:1"))].into());
    assert_eq!(book.deadline(|id| id == node(1)), None);
    tell(&mut book, 0, &told(3, 4), &["10.0.0.1:1"]);
    assert!(
        book.deadline(|id| id == node(1)).is_some(),
        "they contradict each other"
    );
    let mut book = book_of(&told(2, 1), &["10.0.0.1:1"]);
    tell(&mut book, 0, &Source::Static(0), &["10.0.0.1:1"]);
    assert!(
        book.deadline(|id| id == node(1)).is_some(),
        "what is configured is tried"
    );
    due(&mut book, 0);
    book.answered(&address("10.0.0.1:1"), node(5));
    assert_eq!(book.addresses_of(node(5)).len(), 1);
    assert!(book.told().is_empty());
}

#[test]
fn the_best_way_to_be_found_is_named() {
    let mut book = book_of(&Source::Met(node(1)), &["10.0.0.1:1"]);
    assert_eq!(book.found_by(node(1)), Some(FoundBy::Peer));
    tell(&mut book, 0, &Source::Static(0), &["10.0.0.1:1"]);
    assert_eq!(book.found_by(node(1)), Some(FoundBy::Static));
    assert!(book.is_static(node(1)));
    tell(&mut book, 0, &service("a"), &["10.0.0.1:1"]);
    assert_eq!(book.found_by(node(1)), Some(FoundBy::Mdns));
    book.forget(node(1));
    assert_eq!(book.found_by(node(1)), None, "nobody answered there");
}

#[test]
fn thousands_of_announcements_are_neither_kept_nor_tried() {
    let mut book = book_of(&Source::Static(0), &["10.0.0.1:1"]);
    tell(&mut book, 0, &Source::Met(node(1)), &["10.0.0.2:1"]);
    for index in 0..5000u32 {
        let [_, a, b, c] = index.to_be_bytes();
        tell(
            &mut book,
            u64::from(index),
            &service(&index.to_string()),
            &[&format!("10.{a}.{b}.{c}:2")],
        );
    }
    assert_eq!(book.addresses().count(), TOLD_COUNT_MAX + 1);
    assert!(
        book.addresses().any(|kept| kept == address("10.0.0.1:1")),
        "configured"
    );
    assert!(
        book.addresses().any(|kept| kept == address("10.0.0.2:1")),
        "met"
    );
    assert!(
        book.addresses()
            .any(|kept| kept == address("10.0.19.135:2")),
        "the newest"
    );
    assert_eq!(due(&mut book, 5000).len(), DIALS_COUNT_MAX);
    let many: Vec<_> = (0..100).map(|last| format!("10.9.0.{last}:1")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    let book = book_of(&service("a"), &many);
    assert_eq!(book.addresses().count(), ADDRESSES_OF_NODE_MAX);
}

#[test]
fn addresses_that_are_none_are_not_kept() {
    let book = book_of(
        &service("a"),
        &["0.0.0.0:1", "10.0.0.1:0", "[ff02::fb]:1", "[fe80::1]:1"],
    );
    assert_eq!(book.addresses().count(), 0);
}

proptest::proptest! {
    /// Whatever is told and tried, nothing is lost and nothing grows.
    #[test]
    fn a_book_keeps_its_bounds(steps in proptest::collection::vec((0u8..6, 0u8..8, 0u8..40), 1..300)) {
        let mut book = Book::new(1);
        let mut now = at(0);
        let mut under_way = BTreeSet::new();
        for (what, who, place) in steps {
            now = now.plus(Duration::from_millis(u64::from(place) * 20));
            let one = address(&format!("10.0.0.{place}:1"));
            match what {
                0 => book.tell(now, &service(&who.to_string()), &[one]),
                1 => book.tell(now, &service(&who.to_string()), &[]),
                2 => book.tell(now, &told(who, place), &[one]),
                3 => {
                    book.tell(now, &Source::Met(node(who)), &[one]);
                    if under_way.remove(&one) {
                        book.answered(&one, node(who));
                    }
                }
                4 => if under_way.remove(&one) {
                    book.failed(now, &one);
                },
                _ => book.forget(node(who)),
            }
            while let Some(next) = book.due(now, |id| id == node(0)) {
                proptest::prop_assert!(under_way.insert(next), "tried twice at once");
            }
            proptest::prop_assert!(under_way.len() <= DIALS_COUNT_MAX);
            let is_idle = under_way.len() < DIALS_COUNT_MAX;
            let deadline = book.deadline(|id| id == node(0));
            proptest::prop_assert!(deadline.is_none_or(|deadline| deadline > now));
            let wanted = book.addresses().filter(|one| !under_way.contains(one) && book.node_at(one) != Some(node(0)));
            proptest::prop_assert_eq!(deadline.is_some(), is_idle && wanted.count() > 0);
            proptest::prop_assert!(book.owners.keys().all(|source| matches!(source, Source::Service(_))));
        }
    }
}
