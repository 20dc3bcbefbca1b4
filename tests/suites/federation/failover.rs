//! A source that stops in the middle of a read, in every way, and comes back.

use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use musicfs_tests::{knob, wait_for};

use super::*;

/// What a player reads at once.
const STEP: usize = 64 << 10;
/// How much is played before the source stops: the rest is still on its way.
const PLAYED: u64 = 1 << 20;

/// Plays a track at some 12 MB/s, calls `at_once` after the first [`PLAYED`] bytes, and compares.
/// Returns the longest time that a read took.
fn play(track: &(PathBuf, PathBuf), at_once: impl FnOnce()) -> Duration {
    let file = fs::File::open(&track.0).unwrap();
    let expected = fs::read(&track.1).unwrap();
    let mut at_once = Some(at_once);
    let mut longest = Duration::ZERO;
    let mut at = 0;
    while at < expected.len() as u64 {
        if at >= PLAYED
            && let Some(stop) = at_once.take()
        {
            stop();
        }
        let mut buffer = vec![0; STEP.min(expected.len() - usize::try_from(at).unwrap())];
        let started = Instant::now();
        file.read_exact_at(&mut buffer, at)
            .unwrap_or_else(|error| panic!("{:?} at {at}: {error}", track.0));
        longest = longest.max(started.elapsed());
        let start = usize::try_from(at).unwrap();
        assert!(buffer == expected[start..start + buffer.len()], "at {at}");
        at += buffer.len() as u64;
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(at_once.is_none(), "the track is too short");
    longest
}

/// Reads what is not cached yet of a track until a server sends some of it.
fn is_used_again(pair: &Pair, server: usize, track: &(PathBuf, PathBuf)) -> Duration {
    let file = fs::File::open(&track.0).unwrap();
    let expected = fs::read(&track.1).unwrap();
    let before = pair.servers[server].content_bytes();
    let mut at = expected.len() as u64 / 2;
    let ((), waited) = wait_for("new reads to use the source again", || {
        let mut buffer = vec![0; STEP];
        file.read_exact_at(&mut buffer, at).unwrap();
        let start = usize::try_from(at).unwrap();
        assert!(buffer == expected[start..start + STEP], "at {at}");
        // Each read a block of its own, and none in sequence.
        at += 4 * STEP as u64 % (expected.len() as u64 / 2 - STEP as u64);
        at = if at + STEP as u64 > expected.len() as u64 {
            expected.len() as u64 / 3
        } else {
            at
        };
        std::thread::sleep(Duration::from_millis(500));
        (pair.servers[server].content_bytes() > before).then_some(())
    });
    waited
}

fn reads_go_on(places: [Place; 2]) {
    let pair = Pair::new(places);
    let daemon = pair.mount_scanned();
    wait_until("the copies to be proven equal", || pair.are_proven());
    pair.note_indexed();
    let first = &pair.servers[0];
    let process = first.process();
    let mut stalls = Vec::new();
    // Killed.
    stalls.push(play(&pair.track(1), || process.kill()));
    assert!(
        pair.servers[1].content_bytes() > pair.indexed(1),
        "the other was asked"
    );
    process.restart();
    let mut returns = vec![is_used_again(&pair, 0, &pair.track(2))];
    // Silent.
    stalls.push(play(&pair.track(2), || process.pause()));
    process.resume();
    returns.push(is_used_again(&pair, 0, &pair.track(3)));
    // Cut off.
    let mut cut = None;
    stalls.push(play(&pair.track(3), || cut = Some(first.drop_packets())));
    drop(cut);
    if knob("MUSICFS_FAILOVER_TELL", 0) > 0 {
        eprintln!("{places:?}: stalls {stalls:?}, used again after {returns:?}");
    }
    daemon.stop_expecting(&["the origin does not answer"]);
}

#[test]
fn reads_go_on_between_two_buckets() {
    reads_go_on([Place::S3, Place::S3]);
}

#[test]
fn reads_go_on_between_two_names_of_one_place() {
    reads_go_on([Place::SftpWithIdentity, Place::SftpWithIdentity]);
}

#[test]
fn reads_go_on_between_a_server_that_computes_hashes_and_a_bucket() {
    reads_go_on([Place::SftpWithHashes, Place::S3]);
}
