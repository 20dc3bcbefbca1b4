//! Members that come by themselves: they ask without end, do not listen, or talk nonsense.

use std::fs;
use std::thread;
use std::time::Duration;

use musicfs_core::version::VersionKey;
use musicfs_tests::Random;
use musicfs_tests::rogue::{Vice, get_ranges};

use crate::CAUGHT;
use crate::house::House;

/// What the daemon may take in memory, whatever others do.
const RSS_BYTES_MAX: u64 = 300 << 20;
/// Requests that nobody takes the answer of.
const UNREAD: usize = 400;
const MIB: u64 = 1 << 20;

#[test]
fn a_member_that_never_reads_hinders_nobody() {
    let house = House::with(Vice::None, |bytes| bytes);
    house.play();
    // Proven by now, so that it is given to others.
    let version = house.tracks[0].2;
    musicfs_tests::wait_until("the track to be proven", || is_given(&house));
    let request = get_ranges(version, &[(0, 4 * MIB)]);
    // The daemon dialled the first member: of two connections with that one it would close one.
    house.another().visit(house.address, async |visit| {
        let mut kept = Vec::new();
        while kept.len() < UNREAD {
            let open = visit.connection.open_bi();
            // The daemon may allow no more streams: then this one waits, and that is that.
            let opened = match kept.is_empty() {
                true => Ok(open.await),
                false => tokio::time::timeout(Duration::from_millis(50), open).await,
            };
            let Ok(opened) = opened else {
                break;
            };
            let (mut send, recv) = opened.unwrap();
            send.write_all(&request).await.unwrap();
            send.finish().unwrap();
            kept.push((send, recv));
        }
        house.play();
        assert!(house.daemon.rss_bytes() < RSS_BYTES_MAX);
        // Another node is served meanwhile.
        thread::scope(|scope| scope.spawn(|| reads(&house, version)).join().unwrap());
        assert_eq!(visit.connection.close_reason(), None);
        drop(kept);
    });
    house.daemon.stop_expecting(CAUGHT);
}

/// A second member asks for a piece, and gets it.
fn reads(house: &House, version: VersionKey) {
    let other = house.another();
    let len = 100_000;
    let request = get_ranges(version, &[(0, len)]);
    other.visit(house.address, async |visit| {
        let (mut send, mut recv) = visit.connection.open_bi().await.unwrap();
        send.write_all(&request).await.unwrap();
        send.finish().unwrap();
        let answer = recv.read_to_end(1 << 20).await.unwrap();
        let original = fs::read(&house.tracks[0].1).unwrap();
        assert!(answer.ends_with(&original[..len as usize]));
    });
}

#[test]
fn nonsense_ends_the_connection_and_nothing_else() {
    let house = House::with(Vice::None, |bytes| bytes);
    house.play();
    let mut random = Random(7);
    let visitor = house.another();
    for round in 0..60 {
        let len = random.below(3000);
        let mut noise: Vec<u8> = (0..len).map(|_| random.number() as u8).collect();
        if round % 3 == 0 {
            // A frame that says it is longer than any may be.
            noise.splice(0..0, u32::MAX.to_le_bytes());
        }
        visitor.visit(house.address, async |mut visit| {
            // Whatever fails: the daemon may have had enough.
            match round % 2 {
                0 => drop(visit.news.write_all(&noise).await),
                _ => {
                    if let Ok((mut send, mut recv)) = visit.connection.open_bi().await {
                        drop(send.write_all(&noise).await);
                        drop(send.finish());
                        drop(recv.read_to_end(1 << 20).await);
                    }
                }
            }
            visit.connection.close(0_u8.into(), b"");
        });
    }
    house.play();
    assert!(house.daemon.rss_bytes() < RSS_BYTES_MAX);
    house.daemon.stop_expecting(CAUGHT);
}

/// True if the daemon says that its own copy of the first track is the origin's.
fn is_given(house: &House) -> bool {
    let path = house.tracks[0]
        .0
        .strip_prefix(house.daemon.mount_point())
        .unwrap();
    let located = crate::house::json(&house.remote.home, &["locate", path.to_str().unwrap()]);
    let own = &located["holders"][0];
    own["complete"] == true && own["trust"] == "anchored"
}
