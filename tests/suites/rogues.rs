//! Members that break the rules, at a real daemon: readers get the right bytes, in time, and people learn
//! who it was.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail like tests")]

#[path = "rogues/house.rs"]
mod house;
#[path = "rogues/visits.rs"]
mod visits;

use musicfs_tests::rogue::Vice;
use musicfs_tests::wait_until;

use house::House;

/// What a daemon says of a node that it caught.
const CAUGHT: &[&str] = &["wrong", "peer"];

#[test]
fn a_member_that_keeps_to_the_rules_spares_the_origin() {
    let house = House::with(Vice::None, |bytes| bytes);
    let before = house.remote.content_bytes();
    house.play();
    assert_eq!(house.remote.content_bytes(), before);
    assert!(house.rogue.asked() > 0);
    house.daemon.stop();
}

#[test]
fn a_member_of_a_later_version_is_understood() {
    let house = House::with(Vice::Newer, |bytes| bytes);
    let before = house.remote.content_bytes();
    house.play();
    assert_eq!(house.remote.content_bytes(), before);
    assert!(house.rogue.asked() > 0);
    wait_until("the refusal", || house.rogue.was_refused());
    assert_eq!(house.state(), "connected");
    house.daemon.stop();
}

/// It breaks a rule that no honest node breaks: it is caught at once and asked no more.
fn is_caught(vice: Vice) {
    let house = House::with(vice, |bytes| bytes);
    house.play();
    wait_until("the rogue to be named", || house.state() == "demoted");
    let told = house.peer()["last_error"].as_str().unwrap().to_owned();
    println!("{vice:?}: {told}");
    let asked = house.asked();
    house.forget();
    house.play();
    assert_eq!(house.asked(), asked, "it is asked once more");
    house.daemon.stop_expecting(CAUGHT);
}

#[test]
fn wrong_bytes_are_caught() {
    is_caught(Vice::WrongBytes);
}

#[test]
fn garbage_is_caught() {
    is_caught(Vice::Garbage);
}

#[test]
fn wrong_lengths_are_caught() {
    is_caught(Vice::WrongLengths);
}

#[test]
fn a_forged_signature_is_caught() {
    is_caught(Vice::Forges);
}

#[test]
fn a_manifest_of_other_headers_is_caught_before_anything_is_believed() {
    let house = House::with(Vice::None, |mut bytes| {
        bytes[40_000] ^= 1;
        bytes
    });
    house.play();
    assert_eq!(house.state(), "demoted");
    assert_eq!(house.rogue.asked(), 0);
    house.daemon.stop_expecting(CAUGHT);
}

#[test]
fn a_manifest_of_other_audio_is_caught_at_the_end_and_all_of_it_goes() {
    let house = House::with(Vice::None, |mut bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        bytes
    });
    // Only the whole shows it.
    house.read_first();
    wait_until("the rogue to be named", || house.state() == "demoted");
    wait_until("its bytes to be gone", || house.is_right());
    house.play();
    house.daemon.stop_expecting(CAUGHT);
}

#[test]
fn a_member_that_stalls_costs_a_second_and_no_error() {
    let house = House::with(Vice::Stalls, |bytes| bytes);
    let longest = house.play();
    println!("the longest read took {longest:?}");
    assert!(house.rogue.asked() > 0);
    let peer = house.peer();
    assert!(peer["errors"].as_u64().unwrap() > 0, "{peer}");
    assert!(peer["last_error"].is_string(), "{peer}");
    house.daemon.stop_expecting(CAUGHT);
}

#[test]
fn a_member_without_what_it_announces_costs_nothing_but_a_question() {
    let house = House::with(Vice::EmptyHanded, |bytes| bytes);
    house.play();
    assert!(house.rogue.asked() > 0);
    assert_ne!(house.state(), "demoted", "others evict what they had");
    house.daemon.stop_expecting(CAUGHT);
}
