//! What is fetched although nobody waits for it: readahead, fill and prefetch.

use std::ops::Range;
use std::slice;

use super::super::wish::{Absent, Wish};
use super::super::{
    GUESSED_FLIGHTS_COUNT_MAX, HandleId, PrefetchState, Priority, READAHEAD_FLIGHTS_COUNT_MAX,
};
use super::{Command, Planner};
use crate::extents::{BLOCK_BYTES, to_blocks};

impl Planner {
    /// True if something would be fetched that nobody waits for.
    pub(super) fn wants_guesses(&self) -> bool {
        let is_running = |wish: &Wish| wish.state() == PrefetchState::Running;
        self.readers.values().any(|reader| reader.ahead().is_some())
            || self.prefetches.values().chain(&self.fill).any(is_running)
    }

    /// Keeps the window of a sequential reader full.
    pub(super) fn plan_readahead(&mut self, handle: HandleId, absent: Absent<'_>) {
        let Some(reader) = self.readers.get(&handle) else {
            return;
        };
        let Some(ahead) = reader.ahead() else {
            return;
        };
        let refill_below = ahead.start.saturating_add(reader.window() / 2);
        let ahead = to_blocks(ahead, self.size);
        if ahead.is_empty() {
            return;
        }
        self.raise_readahead(&ahead);
        let mut lacking = self.flights.not_on_way(absent(ahead));
        for unused in self.unused.iter() {
            lacking.remove(unused);
        }
        let first = lacking.iter().next();
        if first.is_none_or(|first| first.start >= refill_below) {
            return;
        }
        for range in lacking.iter() {
            let is_full = self.flights.owned_count(handle) >= READAHEAD_FLIGHTS_COUNT_MAX;
            if is_full || self.flights.guessed_count() >= GUESSED_FLIGHTS_COUNT_MAX {
                return;
            }
            self.start(range, Priority::Readahead, Some(handle));
        }
    }

    /// Makes readahead of what fills and prefetches bring there.
    fn raise_readahead(&mut self, ahead: &Range<u64>) {
        for (id, flight) in self.flights.iter_mut() {
            let is_slower = flight.priority > Priority::Readahead && !flight.stopping;
            if is_slower && !flight.left_of(ahead).is_empty() {
                flight.priority = Priority::Readahead;
                self.commands.push_back(Command::Raise {
                    flight: id,
                    priority: flight.priority,
                });
            }
        }
    }

    /// Goes on with a fill: from the player to the end, then from the start.
    pub(super) fn plan_fill(&mut self, absent: Absent<'_>) {
        let player = self.readers.values().find(|reader| reader.is_player());
        let (Some(player), Some(fill)) = (player, &mut self.fill) else {
            return;
        };
        let is_full = self.flights.guessed_count() >= GUESSED_FLIGHTS_COUNT_MAX;
        if is_full || self.flights.count_of(Priority::Fill) > 0 {
            return;
        }
        let from = player.position().min(self.size) / BLOCK_BYTES * BLOCK_BYTES;
        let parts = [from..self.size, 0..from];
        if let Some(range) = fill.next_piece(&parts, &self.flights, absent) {
            self.start(range, Priority::Fill, None);
        }
    }

    /// Goes on with the first prefetch that lacks something.
    pub(super) fn plan_prefetches(&mut self, absent: Absent<'_>) {
        let is_full = self.flights.guessed_count() >= GUESSED_FLIGHTS_COUNT_MAX;
        if is_full || self.flights.count_of(Priority::Prefetch) > 0 {
            return;
        }
        let whole = 0..self.size;
        let parts = slice::from_ref(&whole);
        let next = |wish: &mut Wish| wish.next_piece(parts, &self.flights, absent);
        if let Some(range) = self.prefetches.values_mut().find_map(next) {
            self.start(range, Priority::Prefetch, None);
        }
    }
}
