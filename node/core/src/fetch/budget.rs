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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;

    type Flights = Budget<u32>;

    fn granted(budget: &mut Flights) -> Vec<u32> {
        std::iter::from_fn(|| budget.poll_granted()).collect()
    }

    fn with(requests: &[(u32, u64, Priority)]) -> Flights {
        let mut budget = Flights::new();
        for (id, bytes, priority) in requests {
            budget.request(*id, *bytes, *priority);
        }
        budget
    }

    #[test]
    fn the_most_urgent_goes_first_and_among_equals_the_first() {
        use Priority::{Demand, Fill, Prefetch, Readahead};
        let mut budget = with(&[
            (1, 1, Prefetch),
            (2, 1, Fill),
            (3, 1, Demand),
            (4, 1, Readahead),
            (5, 1, Demand),
            (6, 1, Fill),
        ]);
        assert_eq!(granted(&mut budget), [3, 5, 4, 2, 6, 1]);
    }

    #[test]
    fn all_but_demands_wait_for_bytes_to_arrive() {
        let mut budget = with(&[(1, 60 * MIB, Priority::Readahead)]);
        budget.request(2, 8 * MIB, Priority::Readahead);
        budget.request(3, 1, Priority::Fill);
        assert_eq!(granted(&mut budget), [1], "a small one does not overtake");
        budget.request(4, 20 * MIB, Priority::Demand);
        assert_eq!(granted(&mut budget), [4]);
        budget.arrived(1, 20 * MIB);
        assert_eq!(granted(&mut budget), [0; 0]);
        budget.arrived(1, 4 * MIB);
        assert_eq!(granted(&mut budget), [2]);
        budget.release(4);
        assert_eq!(granted(&mut budget), [3]);
        assert_eq!(budget.bytes(), 44 * MIB + 1);
    }

    #[test]
    fn one_larger_than_the_budget_goes_alone() {
        let mut budget = with(&[
            (1, 100 * MIB, Priority::Prefetch),
            (2, 1, Priority::Prefetch),
        ]);
        assert_eq!(granted(&mut budget), [1]);
        budget.arrived(1, 36 * MIB);
        assert_eq!(granted(&mut budget), [0; 0]);
        budget.arrived(1, u64::MAX);
        assert_eq!(granted(&mut budget), [2]);
        assert_eq!(budget.bytes(), 1);
    }

    #[test]
    fn counts_are_limited() {
        let check = |priority, max: usize| {
            let all: Vec<_> = (0..600).map(|id| (id, 1, priority)).collect();
            let mut budget = with(&all);
            assert_eq!(granted(&mut budget).len(), max);
            budget.release(0);
            assert_eq!(granted(&mut budget), [max as u32]);
        };
        check(Priority::Demand, Flights::DEMANDS_COUNT_MAX);
        check(Priority::Readahead, Flights::FLIGHTS_COUNT_MAX);
        check(Priority::Fill, Flights::IDLE_FLIGHTS_COUNT_MAX);
        check(Priority::Prefetch, Flights::IDLE_FLIGHTS_COUNT_MAX);
    }

    #[test]
    fn fills_and_prefetches_leave_room_for_readahead() {
        let mut budget = Flights::new();
        (0..6).for_each(|id| budget.request(id, MIB, Priority::Fill));
        budget.request(6, MIB, Priority::Prefetch);
        budget.request(7, MIB, Priority::Readahead);
        assert_eq!(granted(&mut budget), [7, 0, 1, 2, 3]);
        budget.raise(0, Priority::Readahead);
        assert_eq!(granted(&mut budget), [4], "a raised one counts no more");
        budget.raise(6, Priority::Demand);
        assert_eq!(granted(&mut budget), [6]);
        budget.raise(6, Priority::Fill);
        budget.release(1);
        assert_eq!(granted(&mut budget), [5], "nothing is lowered");
    }

    #[test]
    fn only_what_waits_is_cancelled() {
        let all: Vec<_> = (0..6).map(|id| (id, 1, Priority::Fill)).collect();
        let mut budget = with(&all);
        assert_eq!(granted(&mut budget), [0, 1, 2, 3]);
        assert!(budget.cancel(4));
        assert!(!budget.cancel(4) && !budget.cancel(0) && !budget.cancel(9));
        budget.release(0);
        assert_eq!(granted(&mut budget), [5]);
        assert_eq!((budget.admitted_count(), budget.waiting_count()), (4, 0));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Request(u64, Priority),
        Raise(usize, Priority),
        Arrived(usize, u64),
        Release(usize),
        Cancel(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        use Priority::{Demand, Fill, Prefetch, Readahead};
        let priority = || prop::sample::select(vec![Demand, Readahead, Fill, Prefetch]);
        let index = 0..200_usize;
        prop_oneof![
            4 => (1..12 * MIB, priority()).prop_map(|(a, b)| Step::Request(a, b)),
            1 => (index.clone(), priority()).prop_map(|(a, b)| Step::Raise(a, b)),
            2 => (index.clone(), 1..12 * MIB).prop_map(|(a, b)| Step::Arrived(a, b)),
            1 => index.clone().prop_map(Step::Release),
            1 => index.prop_map(Step::Cancel),
        ]
    }

    /// A flight of the naive model: a list that is searched for everything.
    #[derive(Clone, Debug)]
    struct Naive {
        id: u32,
        priority: Priority,
        bytes: u64,
        is_admitted: bool,
    }

    fn naive_next(flights: &[Naive]) -> Option<u32> {
        let waiting = flights.iter().filter(|flight| !flight.is_admitted);
        let first = waiting.min_by_key(|flight| (flight.priority, flight.id))?;
        let admitted = || flights.iter().filter(|flight| flight.is_admitted);
        let bytes: u64 = admitted().map(|flight| flight.bytes).sum();
        let idle = admitted()
            .filter(|flight| flight.priority >= Priority::Fill)
            .count();
        let fits = admitted().count() < 64 && (bytes == 0 || bytes + first.bytes <= 64 * MIB);
        let may = match first.priority {
            Priority::Demand => admitted().count() < 512,
            Priority::Readahead => fits,
            Priority::Fill | Priority::Prefetch => fits && idle < 4,
        };
        may.then_some(first.id)
    }

    proptest! {
        #[test]
        fn it_does_what_a_list_would(steps in prop::collection::vec(step(), 1..200)) {
            let (mut budget, mut naive) = (Flights::new(), Vec::<Naive>::new());
            let mut next = 0;
            for step in steps {
                match step {
                    Step::Request(bytes, priority) => {
                        budget.request(next, bytes, priority);
                        naive.push(Naive { id: next, priority, bytes, is_admitted: false });
                        next += 1;
                    }
                    Step::Raise(index, priority) => {
                        if let Some(flight) = naive.get_mut(index) {
                            budget.raise(flight.id, priority);
                            flight.priority = flight.priority.min(priority);
                        }
                    }
                    Step::Arrived(index, bytes) => {
                        if let Some(flight) = naive.get_mut(index) {
                            budget.arrived(flight.id, bytes);
                            flight.bytes = flight.bytes.saturating_sub(bytes);
                        }
                    }
                    Step::Release(index) => {
                        if index < naive.len() {
                            budget.release(naive.remove(index).id);
                        }
                    }
                    Step::Cancel(index) => {
                        if let Some(flight) = naive.get(index) {
                            prop_assert_eq!(budget.cancel(flight.id), !flight.is_admitted);
                            let id = flight.id;
                            naive.retain(|other| other.is_admitted || other.id != id);
                        }
                    }
                }
                while let Some(expect) = naive_next(&naive) {
                    prop_assert_eq!(budget.poll_granted(), Some(expect));
                    let flight = naive.iter_mut().find(|flight| flight.id == expect);
                    flight.unwrap().is_admitted = true;
                }
                prop_assert_eq!(budget.poll_granted(), None);
                let (admitted, waiting): (Vec<_>, Vec<_>) =
                    naive.iter().partition(|flight| flight.is_admitted);
                prop_assert_eq!(budget.admitted_count(), admitted.len());
                prop_assert_eq!(budget.waiting_count(), waiting.len());
                let bytes: u64 = admitted.iter().map(|flight| flight.bytes).sum();
                prop_assert_eq!(budget.bytes(), bytes);
            }
        }
    }
}
