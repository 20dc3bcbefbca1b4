//! Nodes of a cluster on one network: real daemons, real mounts, real servers.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail like tests")]

#[path = "peers/discovery.rs"]
mod discovery;
#[path = "peers/house.rs"]
mod house;
#[path = "peers/outages.rs"]
mod outages;
#[path = "peers/strangers.rs"]
mod strangers;
#[path = "peers/trouble.rs"]
mod trouble;

use musicfs_tests::{knob, sh, tree, wait_until};

use house::{House, Place, play};

/// What a server may say to a node that is fetched nothing from: checks and listings.
const CHATTER_BYTES_MAX: u64 = 64 << 10;
/// Nodes where one more shows nothing new, but more work.
const NODES: u64 = 2;

fn an_album_is_fetched_from_the_origin_once(place: Place) {
    let nodes = usize::try_from(knob("MUSICFS_LAB_NODES", NODES)).unwrap();
    let house = House::living(nodes, place);
    let album = house.album_bytes();
    let first = house.served(1).content;
    house.play(1);
    assert!(house.served(1).content > first, "the first fetches it");
    for node in 2..=nodes {
        house.wait_announced(node, 1);
        let before = house.served(node);
        house.play(node);
        let after = house.served(node);
        println!("node {node}: {before:?} when indexed, {after:?} when played");
        assert_eq!(after.content, before.content, "content from the origin");
        let chatter = after.packets - before.packets;
        assert!(chatter < CHATTER_BYTES_MAX, "{chatter} bytes of packets");
        let peers = house.peers(node).into_iter();
        let received: u64 = peers.map(|peer| peer["bytes_in"].as_u64().unwrap()).sum();
        // The headers were there. Chunks at the ends of parts that are fetched apart come twice.
        let missing = album - before.content;
        assert!(
            (missing..=album + album / 8).contains(&received),
            "{received} bytes from peers, {missing} of {album} missing"
        );
    }
    // What one says that it sent is what the others say that they received.
    for node in 1..=nodes {
        for other in (1..=nodes).filter(|other| *other != node) {
            let count = |node, other, what| house.peer(node, other)[what].as_u64().unwrap();
            let (sent, chunks) = (
                count(node, other, "bytes_out"),
                count(node, other, "chunks_out"),
            );
            assert_eq!(
                sent,
                count(other, node, "bytes_in"),
                "from {node} to {other}"
            );
            assert_eq!(
                chunks,
                count(other, node, "chunks_in"),
                "from {node} to {other}"
            );
            assert!(house.lab.traffic(node, other) > sent);
        }
    }
    house.stop_expecting(&[]);
}

#[test]
fn an_album_on_s3_is_fetched_from_the_origin_once() {
    an_album_is_fetched_from_the_origin_once(Place::S3);
}

#[test]
fn an_album_on_sftp_is_fetched_from_the_origin_once() {
    an_album_is_fetched_from_the_origin_once(Place::Sftp);
}

#[test]
fn a_file_that_changed_never_comes_from_a_node_that_has_it_as_it_was() {
    let house = House::living(2, Place::S3);
    house.play(1);
    house.wait_announced(2, 1);
    // Another file in the place of the first, as long and with the same tags.
    let (file, original) = house.pairs(2).remove(0);
    let old = tree::hash(&original);
    let audio_from_its_end = "import sys; path = sys.argv[1]; data = bytearray(open(path, 'rb').read()); \
                              half = len(data) // 2; data[half:] = data[half:][::-1]; \
                              open(path, 'wb').write(data)";
    sh(&format!(
        "/usr/bin/python3 -c {audio_from_its_end:?} {original:?}"
    ));
    let new = tree::hash(&original);
    assert_ne!(new, old);
    let name = original.strip_prefix(house.remote.home.origin()).unwrap();
    house.remote.upload(name.to_str().unwrap());
    let id = house.lab.node(2).origin_id();
    let before = house.served(2).content;
    let rescan = house.lab.node(2).run(&["origin", "rescan", &id]);
    assert!(rescan.status.success(), "{rescan:?}");
    // Node 1 has not been told, and still shows and announces the file as it was.
    assert_eq!(tree::hash(&house.pairs(1)[0].0), old);
    wait_until("the new version", || {
        house.pairs(2)[0].0 == file && !house.holds(2, 1, &file)
    });
    assert_eq!(tree::hash(&file), new);
    let fetched = house.served(2).content - before;
    assert!(fetched > 0, "the new bytes are the origin's");
    // The others are as they were, and come from node 1.
    let before = house.served(2).content;
    for pair in &house.pairs(2)[1..] {
        play(pair);
    }
    assert_eq!(house.served(2).content, before);
    house.stop_expecting(&[]);
}
