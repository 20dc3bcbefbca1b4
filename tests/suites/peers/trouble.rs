//! Floods, copied keys, full disks: what goes wrong beside the exchange, and must not hinder it.

use std::process::Command;

use musicfs_tests::small_disk::SmallDisk;
use musicfs_tests::{sh, wait_until};

use super::house::{CONNECTED, House, Place};

/// Services that nobody offers, and how often each is announced.
const FORGED: [u32; 2] = [3_000, 3];
/// What a daemon that heard of them may take more than before: it keeps some, and forgets all of them
/// when there are too many.
const GROWTH_BYTES_MAX: u64 = 96 << 20;
/// A disk that holds the album, and little else.
const DISK: &str = "32m";

/// Announces services (RFC 6762, RFC 6763) that look like nodes, with tags that are none.
const ANNOUNCE: &str = r#"
import socket, struct, sys, time
address, count, times = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
def name(*labels):
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
def record(name, kind, data):
    return name + struct.pack(">HHIH", kind, 1, 4096, len(data)) + data
def announcement(number):
    label = b"%032x" % number
    service, host = name(b"_musicfs", b"_udp", b"local"), name(label, b"local")
    instance = name(label, b"_musicfs", b"_udp", b"local")
    texts = [b"v=1", b"port=666", b"mac=" + label]
    return b"\0\0\x84\0\0\0\0\x04\0\0\0\0" + b"".join([
        record(service, 12, instance),
        record(instance, 33, struct.pack(">HHH", 0, 0, 666) + host),
        record(instance, 16, b"".join(bytes([len(text)]) + text for text in texts)),
        record(host, 1, socket.inet_aton(address)),
    ])
out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
out.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address))
out.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
for _ in range(times):
    for number in range(count):
        out.sendto(announcement(number), ("224.0.0.251", 5353))
        # A burst would only be lost.
        if number % 10 == 0:
            time.sleep(0.005)
"#;

/// Starts the first two nodes; the first has the album then, and the second knows that.
fn share(house: &mut House) {
    house.start(1, &[]);
    house.start(2, &[]);
    house.wait_indexed();
    house.wait_connected();
    house.play(1);
    house.wait_announced(2, 1);
}

/// The second node plays the album, and the origin sends nothing of it.
fn plays_from_the_other(house: &House) {
    let before = house.served(2).content;
    house.play(2);
    assert_eq!(house.served(2).content, before, "content from the origin");
}

#[test]
fn thousands_of_forged_announcements_change_nothing() {
    let mut house = House::new(3, Place::S3);
    share(&mut house);
    let memory = [1, 2].map(|node| house.daemon(node).rss_bytes());
    let mut announce = Command::new("/usr/bin/python3");
    let address = house.lab.servers().address().to_string();
    announce.args(["-c", ANNOUNCE, &address]);
    announce.args(FORGED.map(|number| number.to_string()));
    let mut announcing = house.lab.servers().wrap(&announce).spawn().unwrap();
    plays_from_the_other(&house);
    assert!(announcing.wait().unwrap().success());
    for (node, other) in [(1, 2), (2, 1)] {
        assert_eq!(house.peers(node).len(), 1, "{:?}", house.peers(node));
        assert_eq!(house.state(node, other), CONNECTED);
        let growth = house
            .daemon(node)
            .rss_bytes()
            .saturating_sub(memory[node - 1]);
        println!("node {node} takes {growth} bytes more");
        assert!(growth < GROWTH_BYTES_MAX, "{growth} bytes");
    }
    // Whoever comes afterwards is found.
    house.start(3, &[]);
    println!("connected after {:?}", house.wait_connected());
    house.stop_expecting(&["multicast DNS cannot be used for a while"]);
}

#[test]
fn a_node_with_copied_keys_is_turned_away_and_hinders_nobody() {
    let mut house = House::new(3, Place::S3);
    let [first, third] = [1, 3].map(|node| house.lab.node(node).state());
    sh(&format!("rm -rf {third:?}; cp -a {first:?} {third:?}"));
    assert_eq!(house.lab.node_id(3), house.lab.node_id(1));
    share(&mut house);
    house.start(3, &[]);
    let says = |node: usize, what: &str| house.daemon(node).log().contains(what);
    wait_until("all of them to say so", || {
        says(2, "two programs use the key of one node")
            && says(3, "another program uses the key of this node")
    });
    house.daemon(3).wait_scanned(1);
    house.play(3);
    plays_from_the_other(&house);
    assert_eq!(house.state(2, 1), CONNECTED);
    house.assert_reached_directly(2, 1);
    assert!(says(2, "musicfs cluster leave"), "and what to do about it");
    house.stop_expecting(&["use the key of one node", "uses the key of this node"]);
}

/// A disk of its own for the cache of a node.
fn small_disk(house: &House, node: usize) -> SmallDisk {
    SmallDisk::mount(&house.lab.node(node).path("cache"), DISK)
}

#[test]
fn a_holder_whose_disk_is_full_gives_what_it_has() {
    let mut house = House::new(2, Place::S3);
    let disk = small_disk(&house, 1);
    share(&mut house);
    disk.fill();
    plays_from_the_other(&house);
    house.play(1);
    house.stop_expecting(&["the cache"]);
}

#[test]
fn a_node_whose_disk_is_full_plays_what_others_hold() {
    let mut house = House::new(2, Place::S3);
    let disk = small_disk(&house, 2);
    share(&mut house);
    disk.fill();
    plays_from_the_other(&house);
    house.stop_expecting(&["the cache"]);
}
