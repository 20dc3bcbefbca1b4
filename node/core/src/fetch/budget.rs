//! Which flights may be under way, over all objects.

use std::collections::BTreeMap;

use super::Priority;

/// Admits flights, so that what is on its way fits the memory and the links.
///
/// Strictly by [`Priority`], first come first served within one. A demand is admitted at once, up
/// to [`Budget::DEMANDS_COUNT_MAX`]; the others wait while [`Budget::BYTES_MAX`] have not arrived
/// or [`Budget::FLIGHTS_COUNT_MAX`] are under way. A flight that has to wait holds up all that come
/// after it: no stream of small flights keeps a large one out.
///
/// `I` names a flight over all objects. How many may wait is for the caller to bound, as planners
/// do.
#[derive(Clone, Debug)]
pub struct Budget<I> {
    flights: BTreeMap<I, Entry>,
    /// By priority, then by arrival.
    waiting: BTreeMap<(Priority, u64), I>,
    next_turn: u64,
    /// How many are admitted.
    admitted: usize,
    /// How many of those nobody waits for, nor will soon.
    idle: usize,
    /// What is to arrive of all that are admitted.
    bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    priority: Priority,
    /// What is to arrive.
    bytes: u64,
    /// Its place in the queue; `None` once admitted.
    turn: Option<u64>,
}

impl<I> Default for Budget<I> {
    fn default() -> Self {
        Self {
            flights: BTreeMap::new(),
            waiting: BTreeMap::new(),
            next_turn: 0,
            admitted: 0,
            idle: 0,
            bytes: 0,
        }
    }
}

impl<I: Ord + Copy> Budget<I> {
    /// How much may be on its way: bounds what streams hold in memory.
    pub const BYTES_MAX: u64 = 64 << 20;

    /// How many flights may be under way: connections and requests of their own.
    pub const FLIGHTS_COUNT_MAX: usize = 64;

    /// How many flights may be under way if somebody waits for all of them.
    pub const DEMANDS_COUNT_MAX: usize = 512;

    /// How many flights of fills and prefetches may be under way, so that a demand finds the link
    /// nearly free.
    pub const IDLE_FLIGHTS_COUNT_MAX: usize = 4;

    /// Nothing is under way.
    pub fn new() -> Self {
        Self::default()
    }

    /// Queues a flight of `bytes`. It may start when [`Budget::poll_granted`] names it. Does
    /// nothing if it is known already.
    pub fn request(&mut self, id: I, bytes: u64, priority: Priority) {
        if self.flights.contains_key(&id) {
            return;
        }
        let turn = Some(self.next_turn);
        self.waiting.insert((priority, self.next_turn), id);
        self.next_turn += 1;
        let entry = Entry {
            priority,
            bytes,
            turn,
        };
        self.flights.insert(id, entry);
    }

    /// Makes a flight more urgent, waiting or not. It keeps its turn among those as urgent. Does
    /// nothing if it is at least as urgent already.
    pub fn raise(&mut self, id: I, priority: Priority) {
        let Some(entry) = self.flights.get_mut(&id) else {
            return;
        };
        if priority >= entry.priority {
            return;
        }
        let was = entry.priority;
        entry.priority = priority;
        if let Some(turn) = entry.turn {
            self.waiting.remove(&(was, turn));
            self.waiting.insert((priority, turn), id);
        } else {
            self.idle -= usize::from(is_idle(was));
            self.idle += usize::from(is_idle(priority));
        }
    }

    /// `bytes` more of a flight arrived, or will not come since it was shortened.
    pub fn arrived(&mut self, id: I, bytes: u64) {
        let Some(entry) = self.flights.get_mut(&id) else {
            return;
        };
        let bytes = bytes.min(entry.bytes);
        entry.bytes -= bytes;
        if entry.turn.is_none() {
            self.bytes -= bytes;
        }
    }

    /// A flight ended, or never started: what it held is free.
    pub fn release(&mut self, id: I) {
        let Some(entry) = self.flights.remove(&id) else {
            return;
        };
        if let Some(turn) = entry.turn {
            self.waiting.remove(&(entry.priority, turn));
        } else {
            self.admitted -= 1;
            self.idle -= usize::from(is_idle(entry.priority));
            self.bytes -= entry.bytes;
        }
    }

    /// Takes a flight out of the queue. False if it was not there: it was admitted, and is
    /// released when it ends.
    pub fn cancel(&mut self, id: I) -> bool {
        let waits = self
            .flights
            .get(&id)
            .is_some_and(|entry| entry.turn.is_some());
        if waits {
            self.release(id);
        }
        waits
    }

    /// The next flight that may start; it is under way from now on. To be asked until `None`
    /// after every other call.
    pub fn poll_granted(&mut self) -> Option<I> {
        let (&key, &id) = self.waiting.first_key_value()?;
        let entry = self.flights.get_mut(&id).expect("what waits is known");
        let free = self.bytes == 0 || self.bytes.saturating_add(entry.bytes) <= Self::BYTES_MAX;
        let fits = self.admitted < Self::FLIGHTS_COUNT_MAX && free;
        let may = match entry.priority {
            Priority::Demand => self.admitted < Self::DEMANDS_COUNT_MAX,
            Priority::Readahead => fits,
            Priority::Fill | Priority::Prefetch => fits && self.idle < Self::IDLE_FLIGHTS_COUNT_MAX,
        };
        if !may {
            return None;
        }
        entry.turn = None;
        self.waiting.remove(&key);
        self.admitted += 1;
        self.idle += usize::from(is_idle(entry.priority));
        self.bytes = self.bytes.saturating_add(entry.bytes);
        Some(id)
    }

    /// What is to arrive of the flights under way, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many flights are under way.
    pub fn admitted_count(&self) -> usize {
        self.admitted
    }

    /// How many flights wait.
    pub fn waiting_count(&self) -> usize {
        self.waiting.len()
    }
}

/// True if nobody waits for such a flight, nor will soon.
fn is_idle(priority: Priority) -> bool {
    match priority {
        Priority::Demand | Priority::Readahead => false,
        Priority::Fill | Priority::Prefetch => true,
    }
}
