//! What is read while an origin or a peer is away, or goes.

use std::fs::File;
use std::io::Read;
use std::time::{Duration, Instant};

use musicfs_tests::{tree, wait_until};

use super::house::{CONNECTED, House, Pair, Place, TRACKS, play};

/// A read ends within its time limit of 10 s; the machine may be slow to say so.
const READ_ENDS_WITHIN: Duration = Duration::from_secs(15);
/// What a holder's line carries, so that a track takes seconds.
const SLOW: &str = "16mbit";
/// Less than what is left of a track when the holder goes.
const SOME_BYTES: usize = 512 << 10;

#[test]
fn what_a_peer_has_plays_without_the_origin_and_the_rest_fails_in_time() {
    let mut house = House::living(2, Place::S3);
    let shared = house.pairs(1).remove(0);
    play(&shared);
    wait_until("the announcement", || {
        house.holds(2, 1, &house.pairs(2)[0].0)
    });
    house.remote.process().kill();
    let pairs = house.pairs(2);
    play(&pairs[0]);
    house.take(1).stop_expecting(&["origin"]);
    wait_until("the farewell", || house.state(2, 1) != CONNECTED);
    play(&pairs[0]);
    let started = Instant::now();
    let read = std::fs::read(&pairs[1].0);
    println!("failed after {:?}: {read:?}", started.elapsed());
    assert!(read.is_err() && started.elapsed() < READ_ENDS_WITHIN);
    assert_eq!(tree::files(house.daemon(2).mount_point()).len(), TRACKS);
    house.stop_expecting(&["origin"]);
}

/// Plays a track whose holder goes in the middle; returns the longest time that a read took.
fn play_while((file, original): &Pair, goes: impl FnOnce()) -> Duration {
    let expected = std::fs::read(original).unwrap();
    let mut file = File::open(file).unwrap();
    let mut bytes = vec![0; SOME_BYTES];
    file.read_exact(&mut bytes).unwrap();
    goes();
    let mut longest = Duration::ZERO;
    let mut piece = vec![0; 128 << 10];
    loop {
        let started = Instant::now();
        let len = file.read(&mut piece).unwrap();
        longest = longest.max(started.elapsed());
        if len == 0 {
            break;
        }
        bytes.extend(&piece[..len]);
    }
    assert!(bytes == expected, "other bytes than the original's");
    longest
}

/// A house whose first node holds the album, and is slow to give it.
fn slow_holder() -> House {
    let house = House::living(2, Place::S3);
    house.play(1);
    house.wait_announced(2, 1);
    house.lab.rate(1, SLOW);
    house
}

fn both_delivered(house: &House, before: u64) {
    let from_origin = house.served(2).content - before;
    let from_peer = house.peer(2, 1)["bytes_in"].as_u64().unwrap();
    println!("{from_origin} bytes from the origin, {from_peer} from the peer");
    assert!(from_origin > 0 && from_peer > 0);
}

#[test]
fn a_track_plays_on_when_its_holder_is_killed() {
    let mut house = slow_holder();
    let before = house.served(2).content;
    let track = house.pairs(2).remove(0);
    let holder = house.take(1);
    let longest = play_while(&track, || holder.kill());
    println!("the longest read took {longest:?}");
    both_delivered(&house, before);
    house.stop_expecting(&[]);
}

#[test]
fn a_track_plays_on_when_its_holder_hangs() {
    let house = slow_holder();
    let before = house.served(2).content;
    let track = house.pairs(2).remove(0);
    let longest = play_while(&track, || house.daemon(1).pause());
    println!("the longest read took {longest:?}");
    both_delivered(&house, before);
    house.daemon(1).resume();
    house.lab.rate(1, "off");
    house.wait_connected();
    house.stop_expecting(&[]);
}

#[test]
fn a_track_plays_on_when_its_holder_is_cut_off() {
    let house = slow_holder();
    let before = house.served(2).content;
    let track = house.pairs(2).remove(0);
    let longest = play_while(&track, || house.lab.cut_pair(1, 2));
    println!("the longest read took {longest:?}");
    both_delivered(&house, before);
    house.lab.heal(1);
    house.wait_connected();
    house.stop_expecting(&[]);
}
