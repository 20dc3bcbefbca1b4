//! The state machine of one open remote object.

mod guess;

use std::collections::{BTreeMap, VecDeque};
use std::iter;
use std::ops::Range;

use super::flights::Flights;
use super::pause::Pause;
use super::reader::Reader;
use super::wish::{Wish, holds_some};
use super::{
    CUT_AFTER_BYTES, Command, Ended, FlightId, HandleId, Options, PrefetchId, PrefetchState,
    Priority, ReadId,
};
use crate::extents::{BLOCK_BYTES, Extents, to_blocks};
use crate::time::Timestamp;

/// Decides what is fetched of one open remote object.
///
/// Every byte that a read waits for is in one flight; no byte is in two. A byte that arrived is
/// asked for again only if a read, or a sequential reader for the first time since it passed it,
/// finds it absent.
///
/// After every call the driver performs all of [`Planner::poll_command`]; a command for a flight
/// whose end it is about to tell of may be dropped. It calls [`Planner::plan`] after `observe`,
/// `demand`, `prefetch` and `ended`, and at [`Planner::poll_deadline`]. Of the bytes that a flight
/// brings, it holds one piece ([`crate::origin::PIECE_BYTES_MAX`]) at most that it has not told of
/// with [`Planner::arrived`].
///
/// How many handles, reads and prefetches there are is for the caller to bound. Flights are
/// bounded by those: each range of a demand starts one at most, and what is fetched on a guess is
/// limited by [`super::GUESSED_FLIGHTS_COUNT_MAX`].
#[derive(Clone, Debug)]
pub struct Planner {
    size: u64,
    options: Options,
    readers: BTreeMap<HandleId, Reader>,
    /// What each read waits for: all of it is in flights.
    reads: BTreeMap<ReadId, Extents>,
    flights: Flights,
    prefetches: BTreeMap<PrefetchId, Wish>,
    /// The rest of the file, while there is a player.
    fill: Option<Wish>,
    /// The blocks that were read ahead and that nobody has used. It is not read ahead again, even if it is gone: a
    /// store that cannot keep it would make that a loop.
    unused: Extents,
    pause: Pause,
    commands: VecDeque<Command>,
    next_handle: u32,
    next_read: u64,
    next_prefetch: u64,
}

impl Planner {
    /// The planner of an object of `size` bytes that nobody has open.
    pub fn new(size: u64, options: Options) -> Self {
        Self {
            size,
            options,
            readers: BTreeMap::new(),
            reads: BTreeMap::new(),
            flights: Flights::default(),
            prefetches: BTreeMap::new(),
            fill: None,
            unused: Extents::new(),
            pause: Pause::default(),
            commands: VecDeque::new(),
            next_handle: 0,
            next_read: 0,
            next_prefetch: 0,
        }
    }

    /// Somebody opened the object. It is a probe at first.
    pub fn open(&mut self, now: Timestamp) -> HandleId {
        while self.readers.contains_key(&HandleId(self.next_handle)) {
            self.next_handle = self.next_handle.wrapping_add(1);
        }
        let id = HandleId(self.next_handle);
        self.next_handle = self.next_handle.wrapping_add(1);
        self.readers.insert(id, Reader::new(now));
        id
    }

    /// Whoever opened it has just read another file whole: it is taken for one who will read this
    /// one so too, and is read ahead of from its first request on, until it seeks.
    pub fn trust(&mut self, handle: HandleId) {
        if let Some(reader) = self.readers.get_mut(&handle) {
            reader.trust();
        }
    }

    /// True once for a handle that has read the file from its start to its end; `header` as for
    /// [`Planner::observe`].
    pub fn take_whole(&mut self, handle: HandleId, header: &Extents) -> bool {
        let reader = self.readers.get_mut(&handle);
        reader.is_some_and(|reader| reader.take_whole(self.size, header))
    }

    /// A handle was closed: nothing is fetched for it any more, but for the flight of a fill that
    /// is under way.
    pub fn close(&mut self, now: Timestamp, handle: HandleId) {
        let Some(reader) = self.readers.remove(&handle) else {
            return;
        };
        if let Some(ahead) = reader.ahead() {
            self.unused.remove(to_blocks(ahead, self.size));
        }
        if self.readers.is_empty() {
            self.unused = Extents::new();
        }
        self.classify(now);
        self.stop_unwanted();
    }

    /// A handle read `range`, cached or not. Bytes in `header`, the file's header extents, count
    /// neither as sequential play nor against it.
    pub fn observe(
        &mut self,
        now: Timestamp,
        handle: HandleId,
        range: Range<u64>,
        header: &Extents,
    ) {
        let end = range.end.min(self.size);
        let range = range.start.min(end)..end;
        let Some(reader) = self.readers.get_mut(&handle) else {
            return;
        };
        self.unused.remove(to_blocks(range.clone(), self.size));
        if let Some(left) = reader.observe(range, header) {
            let left = to_blocks(left, self.size);
            if holds_some(&self.unused, &left) {
                reader.wasted();
            }
            self.unused.remove(left);
        }
        self.classify(now);
        self.stop_unwanted();
    }

    /// Somebody waits for `absent`: ranges of whole blocks that the store lacks, sorted and
    /// disjoint. What is on its way is waited for, and becomes a demand; the rest is started. A
    /// flight that would not get there soon is cut before what is waited for.
    ///
    /// Ends with [`Planner::settle`], or when [`Planner::ended`] returns it.
    pub fn demand(&mut self, _now: Timestamp, absent: &[Range<u64>]) -> ReadId {
        let id = ReadId(self.next_read);
        self.next_read += 1;
        let aligned = absent
            .iter()
            .map(|range| to_blocks(range.clone(), self.size));
        let wanted: Extents = aligned.collect();
        for range in wanted.iter() {
            self.join(&range);
        }
        self.reads.insert(id, wanted);
        self.start_demands();
        id
    }

    /// A read got its bytes, failed, or nobody waits for it any more. Called after
    /// [`Planner::arrived`] has told of what it got.
    pub fn settle(&mut self, _now: Timestamp, read: ReadId) {
        if self.reads.remove(&read).is_some() {
            self.stop_unwanted();
        }
    }

    /// Starts what readers in sequence, fills and prefetches want. `absent` asks the store which
    /// parts of a range of whole blocks it lacks.
    pub fn plan(&mut self, now: Timestamp, absent: &mut dyn FnMut(Range<u64>) -> Vec<Range<u64>>) {
        self.classify(now);
        self.stop_unwanted();
        self.pause.end(now);
        if !self.pause.is_over(now) {
            return;
        }
        let handles: Vec<_> = self.readers.keys().copied().collect();
        for handle in handles {
            self.plan_readahead(handle, absent);
        }
        self.plan_fill(absent);
        self.plan_prefetches(absent);
    }

    /// Asks for `ranges` ahead of time. [`Planner::plan`] starts them, one flight at a time.
    pub fn prefetch(&mut self, ranges: &[Range<u64>]) -> PrefetchId {
        let id = PrefetchId(self.next_prefetch);
        self.next_prefetch += 1;
        let aligned = ranges
            .iter()
            .map(|range| to_blocks(range.clone(), self.size));
        self.prefetches.insert(id, Wish::new(aligned));
        id
    }

    /// Forgets a prefetch, whatever its state, and ends its flight if nobody else wants it.
    pub fn cancel_prefetch(&mut self, id: PrefetchId) {
        if self.prefetches.remove(&id).is_some() {
            self.stop_unwanted();
        }
    }

    /// How far a prefetch is; `None` if it was cancelled.
    pub fn prefetch_state(&self, id: PrefetchId) -> Option<PrefetchState> {
        self.prefetches.get(&id).map(Wish::state)
    }

    /// True once all that was asked for is there.
    pub fn prefetch_done(&self, id: PrefetchId) -> bool {
        self.prefetch_state(id) == Some(PrefetchState::Done)
    }

    /// What `flight` brings below `upto` has been stored or handed out. Blocks count as a whole:
    /// one that is broken off is fetched again.
    pub fn arrived(&mut self, _now: Timestamp, flight: FlightId, upto: u64) {
        let Some(flight) = self.flights.get_mut(flight) else {
            return;
        };
        let whole = if upto < flight.end {
            upto / BLOCK_BYTES * BLOCK_BYTES
        } else {
            flight.end
        };
        let new = flight.at..whole;
        if new.is_empty() {
            return;
        }
        flight.at = new.end;
        let is_unused = flight.kind == Priority::Readahead;
        self.pause.arrived();
        if is_unused {
            self.unused.insert(new.clone());
        }
        for missing in self.reads.values_mut() {
            for used in missing.within(new.clone()).collect::<Vec<_>>() {
                self.unused.remove(used);
            }
            missing.remove(new.clone());
        }
        for wish in self.prefetches.values_mut().chain(&mut self.fill) {
            wish.arrived(new.clone());
        }
    }

    /// A flight ended; what it has not brought is on its way no more. [`Ended::Complete`] implies
    /// that all of it arrived.
    ///
    /// After [`Ended::Failed`], returns the reads that waited for bytes it has not brought: they
    /// fail, and are settled by this. After [`Ended::Stopped`], what reads wait for is started
    /// anew.
    pub fn ended(&mut self, now: Timestamp, flight: FlightId, how: Ended) -> Vec<ReadId> {
        if how == Ended::Complete {
            self.arrived(now, flight, self.size);
        }
        let Some(flight) = self.flights.remove(flight) else {
            return Vec::new();
        };
        let left = flight.left();
        if left.is_empty() {
            return Vec::new();
        }
        if how != Ended::Failed {
            self.start_demands();
            return Vec::new();
        }
        self.pause.failed(now);
        if flight.kind == Priority::Prefetch {
            let prefetches = self.prefetches.values_mut();
            prefetches.for_each(|wish| wish.failed(&left));
        }
        let waits = |missing: &Extents| holds_some(missing, &left);
        let waiting = self.reads.iter().filter(|(_, missing)| waits(missing));
        let failed: Vec<_> = waiting.map(|(id, _)| *id).collect();
        for id in &failed {
            self.reads.remove(id);
        }
        self.stop_unwanted();
        failed
    }

    /// The next thing to do, in order.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// When to call [`Planner::plan`] although nothing happened: a reader becomes a player, or a
    /// pause after a failure ends.
    pub fn poll_deadline(&self) -> Option<Timestamp> {
        let player = self.readers.values().filter_map(Reader::player_at).min();
        let pause = self.pause.until().filter(|_| self.wants_guesses());
        player.into_iter().chain(pause).min()
    }

    /// True without flights and reads. A prefetch may still have something to start.
    pub fn is_idle(&self) -> bool {
        self.flights.is_empty() && self.reads.is_empty()
    }

    /// True if a handle plays the object: it read [`super::PLAY_AFTER_BYTES`] in sequence, and is
    /// open for [`super::PLAY_AFTER`].
    pub fn is_player(&self, handle: HandleId) -> bool {
        self.readers.get(&handle).is_some_and(Reader::is_player)
    }

    fn classify(&mut self, now: Timestamp) {
        for reader in self.readers.values_mut() {
            reader.classify(now);
        }
        let is_played = self.readers.values().any(Reader::is_player);
        if !self.options.complete_on_play || !is_played {
            self.fill = None;
        } else if self.fill.is_none() {
            self.fill = Some(Wish::new(iter::once(0..self.size)));
        }
    }

    /// Raises the flights that bring `range`, and cuts those that would bring it late.
    ///
    /// To cut keeps the stream that is under way for what it will soon bring: nothing is fetched
    /// again, as it would be if it were stopped and its front started anew.
    fn join(&mut self, range: &Range<u64>) {
        for (id, flight) in self.flights.iter_mut() {
            let joined = flight.left_of(range);
            if joined.is_empty() || flight.stopping {
                continue;
            }
            if joined.start - flight.at > CUT_AFTER_BYTES {
                flight.end = joined.start;
                self.commands.push_back(Command::Shorten {
                    flight: id,
                    end: joined.start,
                });
            } else if flight.priority > Priority::Demand {
                flight.priority = Priority::Demand;
                self.commands.push_back(Command::Raise {
                    flight: id,
                    priority: Priority::Demand,
                });
            }
        }
    }

    /// Starts all that reads wait for and that is not on its way.
    fn start_demands(&mut self) {
        let missing = self.reads.values().flat_map(Extents::iter);
        for range in self.flights.not_on_way(missing).iter() {
            self.start(range, Priority::Demand, None);
        }
    }

    fn start(&mut self, range: Range<u64>, kind: Priority, owner: Option<HandleId>) {
        let flight = self.flights.start(range.clone(), kind, owner);
        self.commands.push_back(Command::Start {
            flight,
            range,
            priority: kind,
        });
    }

    /// Stops flights that bring nothing that anybody wants. The flight of a fill goes on.
    fn stop_unwanted(&mut self) {
        let near: Extents = self.readers.values().filter_map(Reader::near).collect();
        let (reads, prefetches) = (&self.reads, &self.prefetches);
        for (id, flight) in self.flights.iter_mut() {
            let left = flight.left();
            if flight.stopping || left.is_empty() || flight.kind == Priority::Fill {
                continue;
            }
            let is_wanted = holds_some(&near, &left)
                || reads.values().any(|missing| holds_some(missing, &left))
                || prefetches.values().any(|wish| wish.wants(&left));
            if !is_wanted {
                flight.stopping = true;
                self.commands.push_back(Command::Stop { flight: id });
            }
        }
    }
}
