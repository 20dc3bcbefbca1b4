mod together;
mod world;

use super::*;

fn at(ms: u64) -> Timestamp {
    Timestamp(Duration::from_millis(ms))
}

fn node(number: u8) -> NodeId {
    NodeId::from_bytes([number; 16])
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Node 5.
fn roster() -> Roster {
    Roster::new(node(5), 7)
}

fn commands(roster: &mut Roster) -> Vec<Command> {
    let all = std::iter::from_fn(|| roster.poll_command());
    all.filter(|command| *command != Command::Tell).collect()
}

/// A link with node `number`, which dialled.
fn inbound(link: u64, number: u8, start: u64, from: &str) -> Met {
    Met {
        link: LinkId(link),
        node: node(number),
        start,
        address: address(from),
        listen_port: address(from).port(),
        dialled: None,
    }
}

fn outbound(link: u64, number: u8, start: u64, to: &str) -> Met {
    Met {
        dialled: Some(address(to)),
        ..inbound(link, number, start, to)
    }
}

/// What is left to do with links, in short.
fn verdicts(roster: &mut Roster) -> Vec<String> {
    let short = commands(roster)
        .into_iter()
        .filter_map(|command| match command {
            Command::Open(link) => Some(format!("open {}", link.0)),
            Command::Close(link, reason) => Some(format!("close {} {reason:?}", link.0)),
            Command::Probe(link) => Some(format!("probe {}", link.0)),
            _ => None,
        });
    short.collect()
}

fn in_use(roster: &Roster, number: u8) -> Option<u64> {
    let view = roster
        .nodes()
        .into_iter()
        .find(|view| view.node == node(number));
    view.and_then(|view| view.link).map(|link| link.0)
}

#[test]
fn of_two_that_dialled_each_other_the_smaller_one_keeps_the_first_and_the_other_holds_both() {
    for (first, second, expect) in [
        (
            inbound(1, 4, 1, "10.0.0.4:1"),
            outbound(2, 4, 1, "10.0.0.4:1"),
            "open 2",
        ),
        (
            outbound(1, 4, 1, "10.0.0.4:1"),
            inbound(2, 4, 1, "10.0.0.4:1"),
            "open 2",
        ),
        // This one is smaller.
        (
            outbound(1, 6, 1, "10.0.0.6:1"),
            inbound(2, 6, 1, "10.0.0.6:1"),
            "close 2 Surplus",
        ),
        (
            inbound(1, 6, 1, "10.0.0.6:1"),
            outbound(2, 6, 1, "10.0.0.6:1"),
            "close 2 Surplus",
        ),
    ] {
        let mut roster = roster();
        let peer = first.node;
        roster.met(at(0), first);
        assert_eq!(verdicts(&mut roster), ["open 1"]);
        roster.met(at(100), second);
        assert_eq!(verdicts(&mut roster).join(", "), expect);
        let used = roster.nodes().into_iter().find(|view| view.node == peer);
        assert_eq!(
            used.unwrap().link,
            Some(LinkId(1)),
            "what is in use stays so"
        );
    }
}

#[test]
fn an_old_link_gives_way_to_one_that_the_smaller_one_dials_anew() {
    for (first, second) in [
        (
            outbound(1, 4, 1, "10.0.0.4:1"),
            inbound(2, 4, 1, "10.0.0.4:1"),
        ),
        (
            inbound(1, 6, 1, "10.0.0.6:1"),
            outbound(2, 6, 1, "10.0.0.6:1"),
        ),
    ] {
        let mut roster = roster();
        roster.met(at(0), first);
        verdicts(&mut roster);
        roster.met(at(60_000), second);
        assert_eq!(verdicts(&mut roster), ["open 2", "close 1 Surplus"]);
    }
}

#[test]
fn an_old_link_that_should_stay_is_asked_whether_it_lives() {
    for (is_alive, expect) in [
        (true, "close 2 Surplus"),
        (false, "open 2, close 1 Surplus"),
    ] {
        let mut roster = roster();
        roster.met(at(0), outbound(1, 6, 1, "10.0.0.6:1"));
        verdicts(&mut roster);
        roster.met(at(60_000), inbound(2, 6, 1, "10.0.0.66:1"));
        assert_eq!(verdicts(&mut roster), ["probe 1"]);
        roster.probed(at(61_000), LinkId(1), is_alive);
        let now = commands(&mut roster);
        assert!(
            !now.iter()
                .any(|command| matches!(command, Command::Report(_))),
            "no news"
        );
        let short: Vec<_> = now
            .iter()
            .filter_map(|command| match command {
                Command::Open(link) => Some(format!("open {}", link.0)),
                Command::Close(link, reason) => Some(format!("close {} {reason:?}", link.0)),
                _ => None,
            })
            .collect();
        assert_eq!(short.join(", "), expect);
    }
}

#[test]
fn of_two_dialled_by_one_end_that_end_keeps_the_first_and_the_other_holds_both() {
    let mut dialler = roster();
    dialler.met(at(0), outbound(1, 6, 1, "10.0.0.6:1"));
    dialler.met(at(10), outbound(2, 6, 1, "[2001:db8::6]:1"));
    assert_eq!(verdicts(&mut dialler), ["open 1", "close 2 Surplus"]);
    let mut other = roster();
    other.met(at(0), inbound(1, 6, 1, "10.0.0.6:1"));
    other.met(at(10), inbound(2, 6, 1, "[2001:db8::6]:1"));
    other.met(at(10), inbound(3, 6, 1, "[2001:db8::7]:1"));
    assert_eq!(
        verdicts(&mut other),
        ["open 1", "open 2", "close 3 Surplus"]
    );
    commands(&mut other);
    other.ended(at(20), LinkId(1), Ending::Surplus);
    assert_eq!(in_use(&other, 6), Some(2));
    assert_eq!(commands(&mut other), []);
}

#[test]
fn a_program_started_anew_takes_the_place_of_its_old_link() {
    let mut roster = roster();
    roster.met(at(0), inbound(1, 6, 1, "10.0.0.6:1"));
    verdicts(&mut roster);
    roster.met(at(1000), inbound(2, 6, 2, "10.0.0.6:1"));
    assert_eq!(
        verdicts(&mut roster),
        ["open 2", "close 1 Surplus"],
        "the same port"
    );
    roster.met(at(2000), inbound(3, 6, 3, "10.0.0.6:99"));
    assert_eq!(verdicts(&mut roster), ["probe 2"], "another port");
    roster.met(at(2001), inbound(4, 6, 3, "10.0.0.6:99"));
    assert_eq!(
        verdicts(&mut roster),
        ["close 4 Surplus"],
        "one question at a time"
    );
    roster.probed(at(4000), LinkId(2), false);
    assert_eq!(verdicts(&mut roster), ["open 3", "close 2 Surplus"]);
    roster.probed(at(4001), LinkId(2), false);
    assert_eq!(verdicts(&mut roster), [""; 0], "asked and answered");
}

#[test]
fn a_link_that_ends_while_it_is_asked_makes_room_without_a_word() {
    let mut roster = roster();
    roster.met(at(0), inbound(1, 6, 1, "10.0.0.6:1"));
    roster.met(at(2000), inbound(2, 6, 2, "10.0.0.6:99"));
    commands(&mut roster);
    roster.ended(at(2100), LinkId(1), Ending::Broken);
    assert_eq!(commands(&mut roster), [Command::Open(LinkId(2))]);
    roster.probed(at(2200), LinkId(1), false);
    assert_eq!(commands(&mut roster), []);
    assert_eq!(in_use(&roster, 6), Some(2));
}

#[test]
fn of_two_programs_with_one_key_the_first_stays_and_it_is_said_once() {
    let mut roster = roster();
    roster.met(at(0), inbound(1, 6, 1, "10.0.0.6:1"));
    commands(&mut roster);
    for (index, expected) in [1, 0, 0].into_iter().enumerate() {
        let link = index as u64 + 2;
        roster.met(at(2000 * link), inbound(link, 6, 2, "10.0.0.66:1"));
        roster.probed(at(2000 * link + 1), LinkId(1), true);
        let now = commands(&mut roster);
        assert!(now.contains(&Command::Close(LinkId(link), Reason::Twin)));
        let twins = Command::Report(Report::Twins {
            node: node(6),
            first: address("10.0.0.6:1"),
            second: address("10.0.0.66:1"),
        });
        assert_eq!(
            now.iter().filter(|command| **command == twins).count(),
            expected
        );
    }
    assert_eq!(in_use(&roster, 6), Some(1));
    // The one that is turned away hears it, and comes back seldom.
    let mut second = Roster::new(node(6), 3);
    second.found(at(0), &Source::Static(0), &[address("10.0.0.5:1")]);
    commands(&mut second);
    let mut now = at(0);
    let mut told = 0;
    let mut dials = 0;
    while now < at(600_000) {
        second.met(now, outbound(dials, 5, 50, "10.0.0.5:1"));
        second.ended(now, LinkId(dials), Ending::Twin);
        let all = commands(&mut second);
        told += all
            .iter()
            .filter(|command| matches!(command, Command::Report(Report::OwnTwin { .. })))
            .count();
        dials += 1;
        now = second.poll_deadline().unwrap();
        second.timeout(now);
        assert!(commands(&mut second).contains(&Command::Dial(address("10.0.0.5:1"))));
    }
    assert_eq!(told, 1);
    assert!(dials < 60, "{dials} in ten minutes");
}

#[test]
fn this_node_met_itself() {
    let mut roster = roster();
    let own = address("10.0.0.5:1");
    roster.found(at(0), &Source::Static(0), &[own]);
    assert_eq!(commands(&mut roster), [Command::Dial(own)]);
    roster.met_itself(at(10), &own);
    assert_eq!(commands(&mut roster), []);
    assert!(roster.nodes().is_empty());
    assert!(roster.poll_deadline() > Some(at(60_000)));
}

#[test]
fn another_program_with_the_key_of_this_node_is_told_of_once() {
    let mut roster = roster();
    let twin = address("10.0.0.55:1");
    roster.found(at(0), &Source::Static(0), &[twin]);
    commands(&mut roster);
    roster.met_twin(at(10), address("10.0.0.56:1"), None);
    let told = Report::OwnTwin {
        address: address("10.0.0.56:1"),
    };
    assert_eq!(commands(&mut roster), [Command::Report(told)]);
    let mut now = at(20);
    for _ in 0..20 {
        roster.met_twin(now, twin, Some(twin));
        assert_eq!(commands(&mut roster), []);
        now = roster.poll_deadline().unwrap();
        roster.timeout(now);
        assert_eq!(commands(&mut roster), [Command::Dial(twin)]);
    }
    assert!(now > at(300_000), "seldom: {now:?}");
}

#[test]
fn a_lost_node_is_listed_for_ten_minutes_or_as_long_as_it_is_configured() {
    let mut roster = roster();
    roster.met(at(0), inbound(1, 6, 1, "10.0.0.6:1"));
    roster.found(at(0), &Source::Static(0), &[address("10.0.0.7:1")]);
    roster.met(at(0), outbound(2, 7, 1, "10.0.0.7:1"));
    let connected = |number: u8, found_by| {
        let address = address(&format!("10.0.0.{number}:1"));
        Command::Report(Report::Connected {
            node: node(number),
            address,
            found_by,
        })
    };
    let all = commands(&mut roster);
    assert!(
        all.contains(&connected(6, FoundBy::Peer)) && all.contains(&connected(7, FoundBy::Static))
    );
    roster.ended(at(60_000), LinkId(1), Ending::Left);
    roster.ended(at(60_000), LinkId(2), Ending::Broken);
    let all = commands(&mut roster);
    for (number, left) in [(6, true), (7, false)] {
        let address = address(&format!("10.0.0.{number}:1"));
        let lost = Report::Lost {
            node: node(number),
            address,
            left,
        };
        assert!(all.contains(&Command::Report(lost)));
    }
    let listed = |roster: &Roster| {
        roster
            .nodes()
            .iter()
            .map(|view| (view.node, view.is_lost))
            .collect::<Vec<_>>()
    };
    assert_eq!(listed(&roster), [(node(6), true), (node(7), true)]);
    roster.timeout(at(659_999));
    assert_eq!(listed(&roster).len(), 2);
    roster.timeout(at(660_000));
    assert_eq!(listed(&roster), [(node(7), true)]);
    roster.failed(at(660_000), &address("10.0.0.6:1"));
    assert_eq!(roster.addresses().len(), 1, "and its address is forgotten");
}

#[test]
fn a_link_closed_for_a_better_one_is_no_loss_if_that_one_comes() {
    let met = |roster: &mut Roster| {
        roster.met(at(0), outbound(1, 4, 1, "10.0.0.4:1"));
        commands(roster);
        roster.ended(at(100), LinkId(1), Ending::Surplus);
        assert_eq!(commands(roster), [], "nothing is dialled, nothing is said");
        let views = roster.nodes();
        assert_eq!((views[0].link, views[0].is_lost), (None, false));
    };
    let mut roster = roster();
    met(&mut roster);
    roster.met(at(200), inbound(2, 4, 1, "10.0.0.4:1"));
    assert_eq!(commands(&mut roster), [Command::Open(LinkId(2))]);
    let mut roster = self::roster();
    met(&mut roster);
    assert_eq!(roster.poll_deadline(), Some(at(3100)));
    roster.timeout(at(3100));
    let lost = Report::Lost {
        node: node(4),
        address: address("10.0.0.4:1"),
        left: false,
    };
    assert!(commands(&mut roster).contains(&Command::Report(lost)));
}

#[test]
fn whom_a_node_knows_is_told_to_those_to_whom_it_means_something() {
    let mut roster = roster();
    roster.met(at(0), inbound(1, 1, 1, "10.0.0.1:7000"));
    roster.met(at(0), inbound(2, 2, 1, "127.0.0.1:7001"));
    roster.met(at(0), inbound(3, 3, 1, "[fe80::3%2]:7002"));
    let mut no_port = inbound(4, 4, 1, "10.0.0.4:7003");
    no_port.listen_port = 0;
    roster.met(at(0), no_port);
    let known = |roster: &Roster, link| {
        let known = roster.known(LinkId(link));
        known
            .into_iter()
            .map(|(id, all)| (id.as_bytes()[0], all[0].to_string()))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        known(&roster, 1),
        [],
        "loopback and link-local addresses mean nothing there"
    );
    assert_eq!(known(&roster, 2), [(1, "10.0.0.1:7000".to_owned())]);
    assert_eq!(known(&roster, 4), [(1, "10.0.0.1:7000".to_owned())]);
    assert_eq!(known(&roster, 9), []);
    roster.ended(at(10), LinkId(1), Ending::Left);
    assert_eq!(known(&roster, 4), [], "only who is connected");
}

#[test]
fn a_node_met_by_a_link_local_address_is_told_of_by_what_else_it_announces() {
    let mut roster = roster();
    let all = ["[fe80::3%2]:7002", "10.0.0.3:7002", "10.1.0.3:7002"].map(address);
    roster.found(at(0), &Source::Service("a".into()), &all);
    commands(&mut roster);
    roster.met(at(10), outbound(1, 3, 1, "[fe80::3%2]:7002"));
    roster.met(at(10), inbound(2, 1, 1, "10.0.0.1:7000"));
    let known = vec![(node(3), all[1..].to_vec())];
    assert_eq!(roster.known(LinkId(2)), known);
    // What others say of it is theirs to tell.
    roster.told(
        at(20),
        node(1),
        vec![(node(3), vec![address("10.2.0.3:7002")])],
    );
    assert_eq!(roster.known(LinkId(2)), known);
}

#[test]
fn what_another_node_tells_is_dialled_and_listed_until_it_says_otherwise() {
    let mut roster = roster();
    roster.met(at(0), inbound(1, 1, 1, "10.0.0.1:1"));
    commands(&mut roster);
    let told = |number: u8, to: &str| (node(number), vec![address(to)]);
    let all = vec![
        told(5, "10.0.0.5:1"),
        told(1, "10.0.0.1:1"),
        told(7, "127.0.0.1:22"),
        told(8, "10.0.0.8:1"),
    ];
    roster.told(at(0), node(1), all.clone());
    assert_eq!(
        commands(&mut roster),
        [Command::Dial(address("10.0.0.8:1"))]
    );
    let views = roster.nodes();
    assert_eq!(views.len(), 2);
    assert_eq!(
        (views[1].node, views[1].link, views[1].is_lost),
        (node(8), None, false)
    );
    roster.failed(at(5000), &address("10.0.0.8:1"));
    roster.told(at(6000), node(1), vec![]);
    assert_eq!(roster.nodes().len(), 1);
    roster.told(at(6000), node(9), all);
    assert_eq!(roster.nodes().len(), 1, "who is not known tells nothing");
}

#[test]
fn no_more_nodes_than_fit_are_let_in() {
    let mut roster = roster();
    for index in 0..NODES_COUNT_MAX as u64 + 6 {
        roster.met(
            at(index),
            inbound(index, 100 + index as u8, 1, &format!("10.0.0.{index}:1")),
        );
    }
    let all = verdicts(&mut roster);
    assert_eq!(
        all.iter().filter(|one| one.starts_with("open")).count(),
        NODES_COUNT_MAX
    );
    assert_eq!(all.iter().filter(|one| one.ends_with("Full")).count(), 6);
    assert_eq!(
        roster.addresses().len(),
        NODES_COUNT_MAX,
        "nothing of the others is kept"
    );
    for index in 0..NODES_COUNT_MAX as u64 {
        roster.ended(at(1000 + index), LinkId(index), Ending::Left);
    }
    for index in 0..100u64 {
        let link = 1000 + index;
        roster.met(
            at(2000),
            inbound(link, index as u8, 2, &format!("10.0.1.{index}:1")),
        );
        roster.ended(at(3000 + index), LinkId(link), Ending::Left);
    }
    assert_eq!(
        roster.nodes().len(),
        LOST_COUNT_MAX,
        "nor of all that were lost"
    );
}
