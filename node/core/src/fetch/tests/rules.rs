//! Single rules of the planner, one by one.

use std::time::Duration;

use super::super::{Command, Ended, PAUSE_MIN, PrefetchState, Priority};
use super::world::{MIB, REQUEST, World};
use crate::extents::BLOCK_BYTES;

const B: u64 = BLOCK_BYTES;

#[test]
fn a_probe_fetches_exactly_its_blocks() {
    let mut world = World::new(10 * MIB + 5, true);
    let handle = world.open();
    world.read(handle, 0..10);
    world.read(handle, 10 * MIB - 1..10 * MIB + 5);
    world.read(handle, 3 * B + 1..5 * B + 1);
    let expect = [
        (0..B, Priority::Demand),
        (10 * MIB - B..10 * MIB + 5, Priority::Demand),
        (3 * B..6 * B, Priority::Demand),
    ];
    assert_eq!(world.starts(), expect);
    world.run();
    assert!(world.each_arrived_once([0, 3, 4, 5, 159, 160]));
    world.read(handle, 0..10);
    world.pass(Duration::from_secs(10));
    world.plan();
    assert_eq!(world.log.len(), 3, "what is there is not asked for");
    assert_eq!(world.planner.poll_deadline(), None);
}

#[test]
fn an_empty_file_needs_nothing() {
    let mut world = World::new(0, true);
    let handle = world.open();
    assert_eq!(world.read(handle, 0..4096), None);
    let read = world.demand(&[]);
    world.settle(read);
    let prefetch = world.planner.prefetch(&[0..1]);
    world.plan();
    assert!(world.planner.prefetch_done(prefetch) && world.planner.is_idle());
    assert!(world.log.is_empty());
}

#[test]
fn reads_of_the_same_bytes_share_a_flight() {
    let mut world = World::new(10 * MIB, true);
    let (a, b) = (world.open(), world.open());
    world.read(a, 0..2 * B);
    world.read(b, B..3 * B);
    let expect = [
        (0..2 * B, Priority::Demand),
        (2 * B..3 * B, Priority::Demand),
    ];
    assert_eq!(world.starts(), expect);
    world.run();
    assert!(world.each_arrived_once(0..3) && world.failed.is_empty());
}

#[test]
fn a_failure_fails_those_who_wait_for_what_is_missing() {
    let mut world = World::new(10 * MIB, true);
    let handle = world.open();
    let front = world.read(handle, 0..8 * B).unwrap();
    let flight = *world.flights.keys().next().unwrap();
    world.fly(flight, 4 * B + 100); // a part of a block is nothing
    let behind = world.demand(&[4 * B..5 * B]);
    let other = world.demand(&[9 * B..10 * B]);
    world.end(flight, Ended::Failed);
    assert_eq!(
        world.failed.iter().copied().collect::<Vec<_>>(),
        [front, behind]
    );
    assert!(
        world.reads.contains_key(&other),
        "it waits for another flight"
    );
    let again = world.read(handle, 3 * B..6 * B).unwrap();
    assert_eq!(world.starts().last().unwrap().0, 4 * B..6 * B);
    world.run();
    assert!(!world.failed.contains(&again));
    assert_eq!(world.arrivals.values().max(), Some(&1));
}

#[test]
fn a_read_that_got_its_bytes_is_not_failed() {
    let mut world = World::new(10 * MIB, true);
    let done = world.demand(&[0..8 * B]);
    let flight = *world.flights.keys().next().unwrap();
    let early = world.planner.demand(world.now, &[0..B]);
    world.planner.arrived(world.now, flight, 2 * B);
    let failed = world.planner.ended(world.now, flight, Ended::Failed);
    assert_eq!(failed, [done]);
    world.planner.settle(world.now, early);
    assert!(world.planner.is_idle());
}

#[test]
fn a_flight_that_nobody_waits_for_any_more_is_stopped() {
    let mut world = World::new(10 * MIB, true);
    let (a, b) = (world.demand(&[0..4 * B]), world.demand(&[0..2 * B]));
    world.settle(a);
    assert_eq!(world.log.len(), 1, "the other still waits");
    world.settle(b);
    let flight = *world.flights.keys().next().unwrap();
    assert_eq!(world.log.last(), Some(&Command::Stop { flight }));
    let late = world.demand(&[B..2 * B]);
    assert_eq!(world.log.len(), 2, "it may still bring them");
    world.end(flight, Ended::Stopped);
    assert_eq!(world.starts().last(), Some(&(B..2 * B, Priority::Demand)));
    world.run();
    assert!(!world.failed.contains(&late) && world.planner.is_idle());
}

/// A prefetch of 8 MiB from the start of a file, of which 1 MiB arrived.
fn prefetching() -> World {
    let mut world = World::new(20 * MIB, true);
    world.planner.prefetch(&[0..8 * MIB]);
    world.plan();
    assert_eq!(world.starts(), [(0..8 * MIB, Priority::Prefetch)]);
    let flight = *world.flights.keys().next().unwrap();
    world.fly(flight, MIB);
    world
}

#[test]
fn a_demand_near_ahead_joins_and_raises_the_flight() {
    let mut world = prefetching();
    let flight = *world.flights.keys().next().unwrap();
    world.demand(&[2 * MIB..2 * MIB + B]);
    let priority = Priority::Demand;
    assert_eq!(world.log[1..], [Command::Raise { flight, priority }]);
    world.demand(&[MIB..MIB + B]);
    assert_eq!(world.log.len(), 2, "once");
}

#[test]
fn a_demand_far_ahead_cuts_the_flight() {
    let mut world = prefetching();
    let flight = *world.flights.keys().next().unwrap();
    let at = 4 * MIB;
    world.demand(&[at..at + B]);
    assert_eq!(world.log[1], Command::Shorten { flight, end: at });
    assert_eq!(world.starts()[1..], [(at..at + B, Priority::Demand)]);
    assert_eq!(world.log.len(), 3);
    world.run();
    assert!(
        world.each_arrived_once(0..128),
        "the prefetch goes on behind it"
    );
}

#[test]
fn who_waits_behind_a_cut_is_served_too() {
    let mut world = World::new(20 * MIB, true);
    world.demand(&[0..8 * MIB]);
    world.demand(&[4 * MIB..4 * MIB + B]);
    let expect = [
        (0..8 * MIB, Priority::Demand),
        (4 * MIB..8 * MIB, Priority::Demand),
    ];
    assert_eq!(world.starts(), expect);
    world.run();
    assert!(world.each_arrived_once(0..128) && world.reads.is_empty());
}

#[test]
fn ranges_of_one_demand_are_cut_one_by_one() {
    let mut world = prefetching();
    let flight = *world.flights.keys().next().unwrap();
    world.demand(&[MIB..MIB + B, 3 * MIB..3 * MIB + B, 6 * MIB..6 * MIB + B]);
    let priority = Priority::Demand;
    assert_eq!(world.log[1], Command::Raise { flight, priority });
    assert_eq!(
        world.log[2],
        Command::Shorten {
            flight,
            end: 3 * MIB
        }
    );
    let expect = [3 * MIB..3 * MIB + B, 6 * MIB..6 * MIB + B];
    assert!(
        world.starts()[1..]
            .iter()
            .map(|(range, _)| range)
            .eq(&expect)
    );
}

#[test]
fn a_prefetch_runs_until_it_is_done() {
    let mut world = World::new(30 * MIB, false);
    world.stored.extend(8..16);
    let id = world.planner.prefetch(&[0..MIB, 10 * MIB..30 * MIB]);
    world.plan();
    assert_eq!(
        world.planner.prefetch_state(id),
        Some(PrefetchState::Running)
    );
    world.run();
    assert!(world.planner.prefetch_done(id));
    let ranges: Vec<_> = world.starts().into_iter().map(|(range, _)| range).collect();
    let expect = [
        0..8 * B,
        10 * MIB..18 * MIB,
        18 * MIB..26 * MIB,
        26 * MIB..30 * MIB,
    ];
    assert_eq!(ranges, expect);
    world.planner.cancel_prefetch(id);
    assert_eq!(world.planner.prefetch_state(id), None);
}

#[test]
fn a_cancelled_prefetch_is_stopped_and_a_broken_one_fails() {
    let mut world = prefetching();
    let flight = *world.flights.keys().next().unwrap();
    let other = world.planner.prefetch(&[12 * MIB..13 * MIB]);
    world.end(flight, Ended::Failed);
    assert_eq!(
        world.planner.prefetch_state(other),
        Some(PrefetchState::Running)
    );
    assert!(world.flights.is_empty(), "a pause");
    world.now = world.planner.poll_deadline().unwrap();
    world.plan();
    assert_eq!(
        world.starts().last().unwrap().0,
        12 * MIB..13 * MIB,
        "not the broken one"
    );
    world.planner.cancel_prefetch(other);
    assert!(matches!(
        world.planner.poll_command(),
        Some(Command::Stop { .. })
    ));
}

#[test]
fn nothing_is_guessed_for_a_while_after_a_failure() {
    let mut world = World::new(30 * MIB, false);
    let handle = world.open();
    for at in (0..2 * MIB - REQUEST).step_by(REQUEST as usize) {
        let read = world.read(handle, at..at + REQUEST);
        world.run_until(read);
    }
    world.run();
    let starts = world.starts().len();
    let read = world.demand(&[20 * MIB..20 * MIB + B]);
    let flight = *world.flights.keys().next().unwrap();
    world.end(flight, Ended::Failed);
    assert!(world.failed.contains(&read));
    world.stored.retain(|block| *block < 32);
    world.plan();
    assert_eq!(world.starts().len(), starts + 1);
    assert_eq!(
        world.planner.poll_deadline(),
        Some(world.now.plus(PAUSE_MIN))
    );
    world.pass(PAUSE_MIN);
    world.plan();
    assert_eq!(world.planner.poll_deadline(), None);
}
