//! A naive driver: blocks in sets, flights that move when told, and the rules checked at every
//! command.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use super::super::{
    CUT_AFTER_BYTES, Command, Ended, FlightId, GUESSED_FLIGHTS_COUNT_MAX, HandleId, Options,
    Planner, Priority, ReadId,
};
use crate::extents::{BLOCK_BYTES, Extents, block_range, blocks_count};
use crate::time::Timestamp;

pub(super) const MIB: u64 = 1 << 20;

/// A request of the kernel.
pub(super) const REQUEST: u64 = 128 << 10;

#[derive(Clone, Debug)]
pub(super) struct Flown {
    pub(super) range: Range<u64>,
    pub(super) at: u64,
    pub(super) priority: Priority,
    pub(super) kind: Priority,
    pub(super) is_stopping: bool,
}

impl Flown {
    fn blocks(&self) -> Range<u64> {
        self.at / BLOCK_BYTES..self.range.end.div_ceil(BLOCK_BYTES)
    }
}

pub(super) struct World {
    pub(super) planner: Planner,
    pub(super) size: u64,
    pub(super) now: Timestamp,
    pub(super) header: Extents,
    pub(super) stored: BTreeSet<u64>,
    /// False for a store that loses what it is given at once.
    pub(super) keeps: bool,
    pub(super) flights: BTreeMap<FlightId, Flown>,
    /// The blocks that each read still waits for.
    pub(super) reads: BTreeMap<ReadId, BTreeSet<u64>>,
    pub(super) failed: BTreeSet<ReadId>,
    /// How often each block arrived.
    pub(super) arrivals: BTreeMap<u64, u32>,
    pub(super) log: Vec<Command>,
}

impl World {
    pub(super) fn new(size: u64, complete_on_play: bool) -> Self {
        Self {
            planner: Planner::new(size, Options { complete_on_play }),
            size,
            now: Timestamp(Duration::from_secs(100)),
            header: Extents::new(),
            stored: BTreeSet::new(),
            keeps: true,
            flights: BTreeMap::new(),
            reads: BTreeMap::new(),
            failed: BTreeSet::new(),
            arrivals: BTreeMap::new(),
            log: Vec::new(),
        }
    }

    pub(super) fn open(&mut self) -> HandleId {
        self.planner.open(self.now)
    }

    pub(super) fn close(&mut self, handle: HandleId) {
        self.planner.close(self.now, handle);
        self.perform();
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now = self.now.plus(time);
    }

    /// The blocks that `range` touches.
    pub(super) fn blocks(&self, range: &Range<u64>) -> Range<u64> {
        let end = range.end.min(self.size);
        if range.start >= end {
            return 0..0;
        }
        range.start / BLOCK_BYTES..end.div_ceil(BLOCK_BYTES)
    }

    pub(super) fn absent(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        absent(&self.stored, self.size, self.blocks(range))
    }

    /// A read as a driver does it: demand, observe, plan. `None` if all was there.
    pub(super) fn read(&mut self, handle: HandleId, range: Range<u64>) -> Option<ReadId> {
        let absent = self.absent(&range);
        let read = (!absent.is_empty()).then(|| self.demand(&absent));
        self.planner.observe(self.now, handle, range, &self.header);
        self.perform();
        self.plan();
        read
    }

    pub(super) fn demand(&mut self, absent: &[Range<u64>]) -> ReadId {
        let blocks = absent.iter().flat_map(|range| self.blocks(range)).collect();
        let read = self.planner.demand(self.now, absent);
        assert!(self.reads.insert(read, blocks).is_none(), "a new id");
        self.perform();
        read
    }

    pub(super) fn settle(&mut self, read: ReadId) {
        self.reads.remove(&read);
        self.planner.settle(self.now, read);
        self.perform();
    }

    pub(super) fn plan(&mut self) {
        let (stored, size) = (&self.stored, self.size);
        let mut ask = |range: Range<u64>| {
            assert!(
                range.start.is_multiple_of(BLOCK_BYTES) && range.end <= size && !range.is_empty()
            );
            assert!(range.end.is_multiple_of(BLOCK_BYTES) || range.end == size);
            absent(
                stored,
                size,
                range.start / BLOCK_BYTES..range.end.div_ceil(BLOCK_BYTES),
            )
        };
        self.planner.plan(self.now, &mut ask);
        self.perform();
        let due = self.planner.poll_deadline();
        assert!(
            due.is_none_or(|due| due > self.now),
            "a deadline is never over"
        );
    }

    /// Moves a flight on by up to `bytes`; ends it when all arrived.
    pub(super) fn fly(&mut self, id: FlightId, bytes: u64) {
        let Some(flight) = self.flights.get_mut(&id) else {
            return;
        };
        let from = flight.at;
        flight.at = flight.range.end.min(from.saturating_add(bytes));
        let (to, end) = (flight.at, flight.range.end);
        let whole = if to == end {
            end.div_ceil(BLOCK_BYTES)
        } else {
            to / BLOCK_BYTES
        };
        for block in from / BLOCK_BYTES..whole {
            *self.arrivals.entry(block).or_default() += 1;
            if self.keeps {
                self.stored.insert(block);
            }
            for waits in self.reads.values_mut() {
                waits.remove(&block);
            }
        }
        self.planner.arrived(self.now, id, to);
        self.perform();
        let done: Vec<_> = self
            .reads
            .iter()
            .filter(|(_, waits)| waits.is_empty())
            .collect();
        for read in done.into_iter().map(|(id, _)| *id).collect::<Vec<_>>() {
            self.settle(read);
        }
        if to == end {
            self.end(id, Ended::Complete);
        }
    }

    /// Ends a flight where it is.
    pub(super) fn end(&mut self, id: FlightId, how: Ended) {
        let Some(flight) = self.flights.remove(&id) else {
            return;
        };
        let lost: BTreeSet<_> = flight.blocks().collect();
        let failed = self.planner.ended(self.now, id, how);
        let waited = |waits: &BTreeSet<u64>| how == Ended::Failed && !waits.is_disjoint(&lost);
        let expect: Vec<_> = self
            .reads
            .iter()
            .filter(|(_, waits)| waited(waits))
            .collect();
        let expect: Vec<_> = expect.into_iter().map(|(id, _)| *id).collect();
        assert_eq!(failed, expect, "the reads that waited for it fail");
        for read in failed {
            self.reads.remove(&read);
            self.failed.insert(read);
        }
        self.perform();
        self.check();
        self.plan();
    }

    /// Lets all flights come in, the most urgent first, until nothing is under way.
    pub(super) fn run(&mut self) {
        for _ in 0..10_000 {
            let urgent = |(_, flight): &(&FlightId, &Flown)| flight.priority;
            let Some((&id, flight)) = self.flights.iter().min_by_key(urgent) else {
                return;
            };
            if flight.is_stopping {
                self.end(id, Ended::Stopped);
            } else {
                self.fly(id, u64::MAX);
            }
        }
        panic!("it never comes to rest");
    }

    /// Lets demands come in until `read` is settled, but nothing else.
    pub(super) fn run_until(&mut self, read: Option<ReadId>) {
        while let Some(waits) = read.and_then(|read| self.reads.get(&read)) {
            let block = *waits.first().expect("what waits for nothing is settled");
            let brings = |flight: &Flown| flight.blocks().contains(&block);
            let found = self.flights.iter().find(|(_, flight)| brings(flight));
            let (&id, flight) = found.expect("what is waited for is on its way");
            if flight.is_stopping {
                self.end(id, Ended::Stopped);
            } else {
                self.fly(id, BLOCK_BYTES);
            }
        }
    }

    /// What was asked for in one go, and how urgent it was then.
    pub(super) fn starts(&self) -> Vec<(Range<u64>, Priority)> {
        let start = |command: &Command| match command {
            Command::Start {
                range, priority, ..
            } => Some((range.clone(), *priority)),
            _ => None,
        };
        self.log.iter().filter_map(start).collect()
    }

    /// The bytes of `range` that are there or on their way.
    pub(super) fn covered(&self, range: &Range<u64>) -> u64 {
        let on_way = |block: &u64| self.flights.values().any(|f| f.blocks().contains(block));
        let covered = |block: &u64| self.stored.contains(block) || on_way(block);
        let blocks = self.blocks(range).filter(covered);
        blocks
            .map(|block| block_range(block, self.size))
            .map(|r| r.end - r.start)
            .sum()
    }

    /// True if every block arrived exactly once, and no other did.
    pub(super) fn each_arrived_once(&self, blocks: impl IntoIterator<Item = u64>) -> bool {
        let expect: BTreeMap<_, _> = blocks.into_iter().map(|block| (block, 1)).collect();
        self.arrivals == expect
    }

    pub(super) fn all_blocks(&self) -> Range<u64> {
        0..blocks_count(self.size)
    }

    fn perform(&mut self) {
        let before = self.log.len();
        while let Some(command) = self.planner.poll_command() {
            self.log.push(command.clone());
            match command {
                Command::Start {
                    flight,
                    range,
                    priority,
                } => self.start(flight, range, priority),
                Command::Raise { flight, priority } => {
                    let flight = self.flights.get_mut(&flight).expect("it flies");
                    assert!(priority < flight.priority && !flight.is_stopping);
                    flight.priority = priority;
                }
                Command::Shorten { flight, end } => {
                    let flight = self.flights.get_mut(&flight).expect("it flies");
                    assert!(end > flight.at + CUT_AFTER_BYTES && end < flight.range.end);
                    assert!(end.is_multiple_of(BLOCK_BYTES) && !flight.is_stopping);
                    flight.range.end = end;
                }
                Command::Stop { flight } => {
                    let flight = self.flights.get_mut(&flight).expect("it flies");
                    assert!(!flight.is_stopping, "told once");
                    flight.is_stopping = true;
                    let left: BTreeSet<_> = flight.blocks().collect();
                    assert!(self.reads.values().all(|waits| waits.is_disjoint(&left)));
                }
            }
        }
        if self.log.len() > before {
            self.check();
        }
        let is_idle = self.flights.is_empty() && self.reads.is_empty();
        assert_eq!(self.planner.is_idle(), is_idle);
    }

    fn start(&mut self, id: FlightId, range: Range<u64>, priority: Priority) {
        assert!(!range.is_empty() && range.end <= self.size);
        assert!(range.start.is_multiple_of(BLOCK_BYTES));
        assert!(range.end.is_multiple_of(BLOCK_BYTES) || range.end == self.size);
        for block in self.blocks(&range) {
            assert!(!self.stored.contains(&block), "{block} is there");
            let is_waited_for = self.reads.values().any(|waits| waits.contains(&block));
            assert!(
                is_waited_for || priority > Priority::Demand,
                "{block} is not demanded"
            );
        }
        let flight = Flown {
            at: range.start,
            range,
            priority,
            kind: priority,
            is_stopping: false,
        };
        assert!(self.flights.insert(id, flight).is_none(), "a new id");
    }

    /// What holds at all times.
    fn check(&self) {
        let mut on_way = BTreeSet::new();
        for flight in self.flights.values() {
            for block in flight.blocks() {
                assert!(on_way.insert(block), "{block} is on its way twice");
            }
        }
        for (read, waits) in &self.reads {
            assert!(
                waits.is_subset(&on_way),
                "{read:?} waits for what nobody brings"
            );
        }
        let guessed = self.flights.values().filter(|f| f.kind > Priority::Demand);
        assert!(guessed.count() <= GUESSED_FLIGHTS_COUNT_MAX);
        for kind in [Priority::Fill, Priority::Prefetch] {
            assert!(self.flights.values().filter(|f| f.kind == kind).count() <= 1);
        }
    }
}

fn absent(stored: &BTreeSet<u64>, size: u64, blocks: Range<u64>) -> Vec<Range<u64>> {
    let lacking = blocks.filter(|block| !stored.contains(block));
    let ranges: Extents = lacking.map(|block| block_range(block, size)).collect();
    ranges.iter().collect()
}
