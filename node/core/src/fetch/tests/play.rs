//! Readers in sequence, players and fills.

use std::time::Duration;

use super::super::{
    Command, Ended, HandleId, PIECE_OF_FILE_BYTES_MAX, PLAY_AFTER, Priority, READAHEAD_AFTER_BYTES,
    WINDOW_BYTES_MAX, WINDOW_BYTES_MIN, WINDOW_BYTES_TRUSTED,
};
use super::world::{MIB, REQUEST, World};
use crate::extents::{BLOCK_BYTES, Extents};

/// Reads `from..to` in requests of the kernel, each of which ends before the next.
fn read_in_sequence(world: &mut World, handle: HandleId, from: u64, to: u64) {
    for at in (from..to).step_by(REQUEST as usize) {
        let read = world.read(handle, at..(at + REQUEST).min(to));
        world.run_until(read);
    }
}

/// Fails what is under way, and not what that brings about.
fn fail_all(world: &mut World) {
    for id in world.flights.keys().copied().collect::<Vec<_>>() {
        world.end(id, Ended::Failed);
    }
    assert!(world.flights.is_empty(), "a pause");
}

fn stops(world: &World) -> usize {
    let is_stop = |command: &&Command| matches!(command, Command::Stop { .. });
    world.log.iter().filter(is_stop).count()
}

#[test]
fn readahead_begins_after_a_sequence_of_body() {
    let mut world = World::new(40 * MIB, true);
    let handle = world.open();
    read_in_sequence(&mut world, handle, 0, READAHEAD_AFTER_BYTES - REQUEST);
    assert!(
        world
            .starts()
            .iter()
            .all(|(_, priority)| *priority == Priority::Demand)
    );
    read_in_sequence(
        &mut world,
        handle,
        READAHEAD_AFTER_BYTES - REQUEST,
        READAHEAD_AFTER_BYTES,
    );
    let ahead = READAHEAD_AFTER_BYTES..READAHEAD_AFTER_BYTES + WINDOW_BYTES_MIN;
    assert_eq!(world.starts().last(), Some(&(ahead, Priority::Readahead)));
}

#[test]
fn bytes_of_the_header_do_not_count() {
    let mut world = World::new(40 * MIB, true);
    world.header = [0..5 * MIB, 39 * MIB..40 * MIB].into_iter().collect();
    let handle = world.open();
    read_in_sequence(&mut world, handle, 0, 5 * MIB);
    world.pass(PLAY_AFTER);
    world.plan();
    assert!(!world.planner.is_player(handle));
    assert!(
        world
            .starts()
            .iter()
            .all(|(_, priority)| *priority == Priority::Demand)
    );
    read_in_sequence(&mut world, handle, 5 * MIB, 6 * MIB);
    read_in_sequence(&mut world, handle, 39 * MIB, 40 * MIB); // not against it either
    read_in_sequence(&mut world, handle, 6 * MIB, 7 * MIB);
    assert!(world.planner.is_player(handle));
}

#[test]
fn a_file_read_in_sequence_is_fetched_once_with_a_window_ahead() {
    let size = 60 * MIB + 123;
    let mut world = World::new(size, false);
    let handle = world.open();
    for (step, at) in (0..size).step_by(REQUEST as usize).enumerate() {
        let at = if step % 2 == 0 {
            at + REQUEST
        } else {
            at - REQUEST
        }; // out of order
        if at >= size {
            continue;
        }
        let read = world.read(handle, at..at + REQUEST);
        world.run_until(read);
        let position = at + 2 * REQUEST;
        if position > 12 * MIB {
            let ahead = position..(position + WINDOW_BYTES_MAX / 2).min(size);
            let lacks =
                (ahead.end.saturating_sub(ahead.start)).saturating_sub(world.covered(&ahead));
            assert!(lacks <= 2 * REQUEST, "{lacks} lacking at {at}");
        }
    }
    let last = world.read(handle, size - 200..size);
    world.run_until(last);
    world.run();
    assert!(world.each_arrived_once(world.all_blocks()));
    let ahead = world
        .starts()
        .into_iter()
        .filter(|(_, kind)| *kind == Priority::Readahead);
    assert!(ahead.count() <= 10 + 15, "long streams");
    assert_eq!(stops(&world), 0);
}

#[test]
fn a_random_reader_gets_the_blocks_it_asks_for() {
    let mut world = World::new(64 * MIB, true);
    let handle = world.open();
    let mut touched = std::collections::BTreeSet::new();
    let mut at = 12_345;
    for _ in 0..400 {
        at = (at * 1_103_515_245 + 12_345) % (63 * MIB);
        touched.extend(world.blocks(&(at..at + 4096)));
        let read = world.read(handle, at..at + 4096);
        world.run_until(read);
        world.pass(Duration::from_secs(1));
    }
    world.plan();
    world.run();
    assert!(world.each_arrived_once(touched));
    assert!(!world.planner.is_player(handle));
}

#[test]
fn one_who_samples_a_file_in_steps_gets_nothing_more() {
    let mut world = World::new(64 * MIB, true);
    let handle = world.open();
    for at in (0..64 * MIB).step_by(REQUEST as usize) {
        let read = world.read(handle, at..at + 32 * 1024);
        world.run_until(read);
    }
    world.pass(PLAY_AFTER);
    world.plan();
    world.run();
    assert!(world.each_arrived_once((0..1024).step_by(2)));
    assert!(!world.planner.is_player(handle));
}

#[test]
fn a_seek_stops_what_is_read_ahead_and_starts_over() {
    let mut world = World::new(64 * MIB, false);
    let handle = world.open();
    read_in_sequence(&mut world, handle, 0, 12 * MIB);
    let flying = world.flights.len();
    assert!(flying > 0);
    let read = world.read(handle, 40 * MIB..40 * MIB + REQUEST);
    assert_eq!(stops(&world), flying);
    world.run_until(read);
    let before = world.starts().len();
    read_in_sequence(
        &mut world,
        handle,
        40 * MIB,
        40 * MIB + READAHEAD_AFTER_BYTES,
    );
    let starts = world.starts();
    let (last, demands) = starts[before..].split_last().unwrap();
    assert!(demands.iter().all(|(_, kind)| *kind == Priority::Demand));
    let from = 40 * MIB + READAHEAD_AFTER_BYTES;
    assert_eq!(*last, (from..from + WINDOW_BYTES_MIN, Priority::Readahead));
    world.run();
    assert_eq!(world.arrivals.values().max(), Some(&1));
}

#[test]
fn a_probe_becomes_a_player_in_time() {
    let mut world = World::new(64 * MIB, true);
    let opened = world.now;
    let handle = world.open();
    read_in_sequence(&mut world, handle, 0, 2 * MIB);
    assert!(!world.planner.is_player(handle));
    assert_eq!(world.planner.poll_deadline(), Some(opened.plus(PLAY_AFTER)));
    world.pass(PLAY_AFTER);
    world.plan();
    assert!(world.planner.is_player(handle));
    assert_eq!(world.planner.poll_deadline(), None);
}

#[test]
fn a_fill_completes_the_file_from_the_player_on() {
    let size = 50 * MIB + 7;
    let mut world = World::new(size, true);
    let handle = world.open();
    let from = 20 * MIB;
    read_in_sequence(&mut world, handle, from, from + 2 * MIB);
    world.pass(PLAY_AFTER);
    world.plan();
    world.run();
    assert!(world.each_arrived_once(world.all_blocks()));
    let fills = world
        .starts()
        .into_iter()
        .filter(|(_, kind)| *kind == Priority::Fill);
    let fills: Vec<_> = fills.map(|(range, _)| range).collect();
    assert!(
        fills
            .iter()
            .all(|range| range.end - range.start <= PIECE_OF_FILE_BYTES_MAX)
    );
    let turn = fills.iter().position(|range| range.start == 0).unwrap();
    assert!(fills[..turn].is_sorted_by_key(|range| range.start) && fills[0].start > from);
    assert!(fills[turn..].is_sorted_by_key(|range| range.start));
    assert_eq!(fills[turn - 1].end, size, "to the end, then from the start");
    assert_eq!(fills.last().unwrap().end, from);
}

#[test]
fn without_the_option_the_rest_stays_where_it_is() {
    let mut world = World::new(50 * MIB, false);
    let handle = world.open();
    read_in_sequence(&mut world, handle, 0, 2 * MIB);
    world.pass(PLAY_AFTER);
    world.plan();
    assert!(world.planner.is_player(handle));
    world.run();
    assert!(world.arrivals.len() as u64 * BLOCK_BYTES < 4 * MIB);
}

#[test]
fn the_last_close_stops_readahead_and_lets_a_fill_flight_end() {
    let mut world = World::new(50 * MIB, true);
    let (one, two) = (world.open(), world.open());
    for handle in [one, two] {
        read_in_sequence(&mut world, handle, 0, 3 * MIB);
    }
    world.pass(PLAY_AFTER);
    world.plan();
    let kinds = |world: &World, stopping| {
        let flights = world.flights.values();
        let kinds = flights.filter(|flight| flight.is_stopping == stopping);
        kinds.map(|flight| flight.kind).collect::<Vec<_>>()
    };
    assert!(kinds(&world, false).contains(&Priority::Readahead));
    world.close(one);
    assert_eq!(stops(&world), 0, "the other wants the same");
    world.close(two);
    assert_eq!(kinds(&world, false), [Priority::Fill]);
    let starts = world.starts().len();
    world.run();
    assert_eq!(world.starts().len(), starts, "nothing new");
}

#[test]
fn a_fill_ahead_of_its_player_is_raised() {
    let mut world = World::new(50 * MIB, true);
    let handle = world.open();
    read_in_sequence(&mut world, handle, 0, 2 * MIB);
    world.pass(PLAY_AFTER);
    world.plan();
    let fill = world
        .flights
        .iter()
        .find(|(_, flight)| flight.kind == Priority::Fill);
    let flight = *fill.unwrap().0;
    read_in_sequence(&mut world, handle, 2 * MIB, 3 * MIB);
    let priority = Priority::Readahead;
    assert!(world.log.contains(&Command::Raise { flight, priority }));
}

#[test]
fn a_store_that_keeps_nothing_is_not_filled_in_a_loop() {
    let mut world = World::new(30 * MIB, true);
    world.keeps = false;
    let handle = world.open();
    read_in_sequence(&mut world, handle, 0, 3 * MIB);
    world.pass(PLAY_AFTER);
    for _ in 0..20 {
        world.plan();
        world.run();
    }
    assert_eq!(world.arrivals.len() as u64, world.all_blocks().end);
    assert!(
        *world.arrivals.values().max().unwrap() <= 3,
        "read, read ahead, filled"
    );
}

#[test]
fn readers_in_sequence_share_what_comes() {
    let mut world = World::new(40 * MIB, false);
    let handles: Vec<_> = (0..20).map(|_| world.open()).collect();
    for at in (0..40 * MIB).step_by(REQUEST as usize) {
        for handle in &handles {
            let read = world.read(*handle, at..at + REQUEST);
            world.run_until(read);
        }
    }
    world.run();
    assert!(world.each_arrived_once(world.all_blocks()));
}

#[test]
fn a_failed_fill_goes_on_after_a_pause() {
    let mut world = World::new(30 * MIB, true);
    let handle = world.open();
    read_in_sequence(&mut world, handle, 0, 2 * MIB);
    world.pass(PLAY_AFTER);
    world.plan();
    fail_all(&mut world);
    for pause in [1, 2, 4] {
        let due = world.planner.poll_deadline().unwrap();
        assert_eq!(due, world.now.plus(Duration::from_secs(pause)));
        world.now = due;
        world.plan();
        fail_all(&mut world);
    }
    world.now = world.planner.poll_deadline().unwrap();
    world.plan();
    world.run();
    assert!(world.each_arrived_once(world.all_blocks()));
}

#[test]
fn regression_a_read_of_half_a_block_uses_up_the_block() {
    let mut world = World::new(30 * MIB, false);
    let handle = world.open();
    let at = READAHEAD_AFTER_BYTES + MIB / 2;
    read_in_sequence(&mut world, handle, 0, at);
    world.run();
    world.read(handle, at..at + BLOCK_BYTES / 2);
    world.stored.retain(|block| *block < at / BLOCK_BYTES);
    world.plan();
    let block = at..at + BLOCK_BYTES;
    assert_eq!(world.starts().last(), Some(&(block, Priority::Readahead)));
}

#[test]
fn a_trusted_handle_is_read_ahead_of_from_its_first_request() {
    let mut world = World::new(40 * MIB, true);
    world.header = [0..MIB].into_iter().collect();
    let handle = world.open();
    world.planner.trust(handle);
    world.read(handle, 0..REQUEST);
    let ahead = REQUEST..REQUEST + WINDOW_BYTES_TRUSTED;
    assert!(world.starts().contains(&(ahead, Priority::Readahead)));
}

#[test]
fn a_trusted_handle_that_seeks_has_to_show_again_how_it_reads() {
    for first in [0, 20 * MIB] {
        let mut world = World::new(40 * MIB, true);
        let handle = world.open();
        world.planner.trust(handle);
        read_in_sequence(&mut world, handle, first, first + REQUEST);
        let guessed = |world: &World| {
            let starts = world.starts().into_iter();
            let guessed = starts.filter(|(_, priority)| *priority != Priority::Demand);
            guessed.count()
        };
        let before = guessed(&world);
        assert_eq!(before > 0, first == 0);
        let from = 30 * MIB;
        read_in_sequence(
            &mut world,
            handle,
            from,
            from + READAHEAD_AFTER_BYTES - REQUEST,
        );
        assert_eq!(guessed(&world), before);
    }
}

#[test]
fn a_file_read_whole_is_told_once() {
    let header: Extents = [0..192 << 10, 4 * MIB - 4096..4 * MIB]
        .into_iter()
        .collect();
    let told = |from: u64, to: u64| {
        let mut world = World::new(4 * MIB, true);
        world.header = header.clone();
        let handle = world.open();
        read_in_sequence(&mut world, handle, from, to);
        let told = world.planner.take_whole(handle, &header);
        assert!(!world.planner.take_whole(handle, &header), "once");
        told
    };
    assert!(told(0, 4 * MIB));
    assert!(told(0, 4 * MIB - 4096), "but for its tail of tags");
    assert!(!told(0, 3 * MIB));
    assert!(!told(MIB, 4 * MIB));
}
