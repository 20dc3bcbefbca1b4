//! How nodes come to know each other.

use std::time::Instant;

use musicfs_tests::lab::SERVERS;
use musicfs_tests::servers::avahi::Avahi;
use musicfs_tests::wait_until;

use super::house::{CONNECTED, House, Place};

/// Where the daemons of these tests listen, to be named by others.
const PORT: u16 = 25_999;
/// What other programs call it.
const SERVICE: &str = "_musicfs._udp";

#[test]
fn nodes_find_each_other_and_tell_nobody_who_they_are() {
    let mut house = House::new(2, Place::S3);
    let onlooker = Avahi::start(house.lab.servers());
    house.start(1, &[]);
    house.start(2, &[]);
    let started = Instant::now();
    house.wait_connected();
    println!(
        "connected {} ms after the start",
        started.elapsed().as_millis()
    );
    for (node, other) in [(1, 2), (2, 1)] {
        // Who was met by its own call is found there a moment later.
        wait_until("the other to be found", || {
            house.peer(node, other)["found_by"] == "mdns"
        });
        let peer = house.peer(node, other);
        assert_eq!(peer["name"], format!("name-of-{other}"), "{peer}");
        house.assert_reached_directly(node, other);
        let ping = house.lab.cli(
            node,
            &["--json", "peers", "ping", &house.lab.node_id(other)],
        );
        assert!(ping["rtt_us"].as_u64().unwrap() > 0, "{ping}");
    }
    let mut seen = String::new();
    wait_until("both nodes to be seen by others", || {
        seen = onlooker.browse(SERVICE);
        let resolved = seen.lines().filter(|line| line.starts_with('='));
        let instances = resolved.map(|line| line.split(';').nth(3).unwrap());
        instances.collect::<std::collections::BTreeSet<_>>().len() == 2
    });
    let host_name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let mut secrets = vec![house.lab.join_code(), "name-of-".to_owned()];
    for node in [1, 2] {
        let id = house.lab.node_id(node);
        secrets.extend([id[..8].to_owned(), house.lab.node(node).name().to_owned()]);
    }
    // A host may be called by a letter, which says nothing.
    secrets.extend((host_name.trim().len() > 3).then(|| host_name.trim().to_owned()));
    for secret in secrets {
        let is_told = seen.to_lowercase().contains(&secret.to_lowercase());
        assert!(!is_told, "{secret:?} is in {seen}");
    }
    house.stop_expecting(&[]);
}

#[test]
fn an_address_is_enough_where_there_is_no_multicast() {
    let mut house = House::new(3, Place::S3);
    let listen = PORT.to_string();
    let addresses = |node: usize| format!("{}:{PORT}", house.lab.host(node).address());
    let (first, second) = (addresses(1), addresses(2));
    let silent = ["--peer-mdns=false", "--peer-listen", &listen];
    house.start(1, &silent);
    house.start(2, &[&silent[..], &["--peer-addresses", &first]].concat());
    house.start(3, &[&silent[..], &["--peer-addresses", &second]].concat());
    house.wait_connected();
    let found_by = |node, other| house.peer(node, other)["found_by"].clone();
    assert_eq!(found_by(2, 1), "static");
    assert_eq!(found_by(3, 2), "static");
    // It came by itself; and the third was told of by the second.
    assert_eq!(found_by(1, 2), "peer");
    assert_eq!(found_by(1, 3), "peer");
    assert_eq!(found_by(3, 1), "peer");
    house.stop_expecting(&[]);
}

#[test]
fn nodes_that_were_cut_off_list_each_other_again() {
    let house = House::living(2, Place::S3);
    house.lab.cut_pair(1, 2);
    wait_until("the loss", || {
        house.state(1, 2) != CONNECTED && house.state(2, 1) != CONNECTED
    });
    house.lab.heal(1);
    println!("connected again after {:?}", house.wait_connected());
    // A cable that is pulled takes the route with it.
    house.lab.cut(2);
    wait_until("the loss", || house.state(1, 2) != CONNECTED);
    house.lab.heal(2);
    println!("connected again after {:?}", house.wait_connected());
    house.play(1);
    house.wait_announced(2, 1);
    let before = house.served(2).content;
    house.play(2);
    assert_eq!(house.served(2).content, before);
    assert!(house.lab.traffic(SERVERS, 1) > house.album_bytes());
    house.stop_expecting(&["origin"]);
}

#[test]
fn a_node_whose_address_changes_is_reached_at_the_new_one() {
    let mut house = House::new(2, Place::S3);
    for node in [1, 2] {
        // Its addresses would stay.
        house
            .lab
            .on(node, "echo 1 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6");
    }
    house.start(1, &[]);
    house.start(2, &[]);
    house.wait_connected();
    let old = house.lab.host(2).address();
    let new = std::net::Ipv4Addr::from(u32::from(old) + 100);
    // As a DHCP client does it; the default route, which goes with the address, carries multicast.
    let moves = format!(
        "ip address del {old}/24 dev eth0; ip address add {new}/24 dev eth0; \
         ip route add 224.0.0.0/4 dev eth0"
    );
    house.lab.on(2, &moves);
    let took = wait_until("the other to be reached again", || {
        let peer = house.peer(1, 2);
        let address = peer["address"].as_str().unwrap_or_default();
        peer["state"] == CONNECTED && address.starts_with(&format!("{new}:"))
    });
    println!("reached at {new} after {took:?}");
    house.wait_indexed();
    let started = Instant::now();
    house.play(2);
    println!("played after {:?}", started.elapsed());
    house.wait_announced(1, 2);
    let before = house.served(1).content;
    house.play(1);
    assert_eq!(house.served(1).content, before);
    house.stop_expecting(&["origin"]);
}

#[test]
fn a_node_that_starts_again_is_found_again() {
    let mut house = House::living(2, Place::S3);
    house.take(1).stop();
    wait_until("the farewell", || house.state(2, 1) != CONNECTED);
    house.start(1, &[]);
    println!("connected again after {:?}", house.wait_connected());
    house.take(1).kill();
    house.start(1, &[]);
    println!("connected again after {:?}", house.wait_connected());
    house.take(1).stop_expecting(&["removed a mount"]);
    house.stop_expecting(&[]);
}
