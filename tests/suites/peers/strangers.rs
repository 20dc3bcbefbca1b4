//! What those learn who do not have the cluster's key.

use musicfs_tests::servers::capture::{Capture, mention};
use musicfs_tests::{sh, wait_until};

use super::house::{CONNECTED, House, Place};

/// Where the daemons of these tests listen, to be named by others.
const PORT: u16 = 25_998;
/// More than one handshake takes, and less than two.
const HANDSHAKES_BYTES: u64 = 6_000;

#[test]
fn a_stranger_is_never_let_in_and_hears_no_name() {
    let mut house = House::without_cluster(4, Place::S3);
    let lab = &house.lab;
    lab.cli(1, &["--json", "cluster", "init"]);
    lab.cli(2, &["--json", "cluster", "join", &lab.join_code()]);
    // The third has a key of its own, the fourth none.
    lab.cli(3, &["--json", "cluster", "init"]);
    let capture = Capture::start(lab.host(1));
    let listen = PORT.to_string();
    let target = format!("{}:{PORT}", lab.host(1).address());
    let listen = ["--peer-listen", &listen];
    house.start(1, &listen);
    house.start(2, &listen);
    house.wait_indexed();
    let insisting = [&listen[..], &["--peer-addresses", &target]].concat();
    house.start(3, &insisting);
    house.start(4, &insisting);
    wait_until("the members to be connected", || {
        house.state(1, 2) == CONNECTED && house.state(2, 1) == CONNECTED
    });
    wait_until("the stranger to have tried", || {
        house.lab.traffic(3, 1) > HANDSHAKES_BYTES
    });
    house.play(1);
    house.wait_announced(2, 1);
    house.play(2);
    let peer = house.peer(2, 1);
    assert!(
        peer["bytes_in"].as_u64().unwrap() > house.album_bytes() / 2,
        "{peer}"
    );
    for (node, known) in [(1, 1), (2, 1), (3, 0)] {
        let list = house.peers(node);
        let ids: Vec<_> = list
            .iter()
            .filter(|peer| peer["state"] == CONNECTED)
            .collect();
        assert_eq!(ids.len(), known, "node {node} lists {list:?}");
        assert_eq!(house.state(node, 3), "", "node {node} knows the stranger");
    }
    assert_eq!(
        sockets(house.daemon(4).pid()),
        0,
        "without a key there is no port"
    );
    // The names of the library, and of the nodes, went over this line, and nobody could read them.
    let packets = capture.packets();
    assert!(
        packets.len() as u64 > house.album_bytes() / 2,
        "the capture has holes"
    );
    assert!(mention(&packets, "_musicfs"), "mDNS is in it");
    for name in ["Noise", "Track1", "album/1.flac", "1.flac", "name-of-"] {
        assert!(!mention(&packets, name), "{name} is to be read");
    }
    house.stop_expecting(&["peer"]);
}

/// The UDP sockets of a process.
fn sockets(pid: u32) -> usize {
    let count = sh(&format!(
        "cat /proc/{pid}/net/udp /proc/{pid}/net/udp6 | grep -c ':' || true"
    ));
    count.trim().parse().unwrap()
}
