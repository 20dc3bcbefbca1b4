//! The ranges of one object that are on their way.

use std::collections::BTreeMap;
use std::ops::Range;

use super::{FlightId, HandleId, Priority};
use crate::extents::Extents;

/// A range on its way.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    /// What was fetched below this offset has arrived.
    pub(super) at: u64,
    /// Where it ends.
    pub(super) end: u64,
    /// What it was started as.
    pub(super) kind: Priority,
    /// The handle that it reads ahead for.
    pub(super) owner: Option<HandleId>,
    /// What it is served as: its kind, or more urgent.
    pub(super) priority: Priority,
    /// It was told to stop. What is left of it may or may not come.
    pub(super) stopping: bool,
}

impl Flight {
    /// What has not arrived.
    pub(super) fn left(&self) -> Range<u64> {
        self.at..self.end
    }

    /// What has not arrived of `range`; may be empty, and then starts anywhere.
    pub(super) fn left_of(&self, range: &Range<u64>) -> Range<u64> {
        self.at.max(range.start)..self.end.min(range.end)
    }
}

/// All flights of an object. What is left of any two never overlaps.
#[derive(Clone, Debug, Default)]
pub(super) struct Flights {
    flights: BTreeMap<FlightId, Flight>,
    next_id: u64,
}

impl Flights {
    /// Adds a flight of `range`, of which nothing is on its way.
    pub(super) fn start(
        &mut self,
        range: Range<u64>,
        kind: Priority,
        owner: Option<HandleId>,
    ) -> FlightId {
        debug_assert!(!range.is_empty(), "a flight brings something");
        debug_assert!(self.on_way(range.clone()).is_empty(), "single flight");
        let id = FlightId(self.next_id);
        self.next_id += 1;
        let flight = Flight {
            at: range.start,
            end: range.end,
            kind,
            owner,
            priority: kind,
            stopping: false,
        };
        self.flights.insert(id, flight);
        id
    }

    pub(super) fn get_mut(&mut self, id: FlightId) -> Option<&mut Flight> {
        self.flights.get_mut(&id)
    }

    pub(super) fn remove(&mut self, id: FlightId) -> Option<Flight> {
        self.flights.remove(&id)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (FlightId, &mut Flight)> {
        self.flights.iter_mut().map(|(id, flight)| (*id, flight))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.flights.is_empty()
    }

    /// The parts of `range` that are on their way.
    pub(super) fn on_way(&self, range: Range<u64>) -> Extents {
        let parts = self.flights.values().map(|flight| flight.left_of(&range));
        parts.collect()
    }

    /// The parts of `ranges` that are not on their way, in order.
    pub(super) fn not_on_way(&self, ranges: impl IntoIterator<Item = Range<u64>>) -> Extents {
        let mut rest: Extents = ranges.into_iter().collect();
        for flight in self.flights.values() {
            rest.remove(flight.left());
        }
        rest
    }

    /// How many were started as `kind`.
    pub(super) fn count_of(&self, kind: Priority) -> usize {
        self.flights
            .values()
            .filter(|flight| flight.kind == kind)
            .count()
    }

    /// How many nobody demanded when they were started.
    pub(super) fn guessed_count(&self) -> usize {
        self.flights.len() - self.count_of(Priority::Demand)
    }

    /// How many read ahead for `handle`.
    pub(super) fn owned_count(&self, handle: HandleId) -> usize {
        let owned = |flight: &&Flight| flight.owner == Some(handle) && !flight.stopping;
        self.flights.values().filter(owned).count()
    }
}
