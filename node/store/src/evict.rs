//! Making room: who goes first, and how bytes go without a moment in which a map tells of them.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::TryLockError;
use std::sync::atomic::Ordering;

use musicfs_core::version::VersionKey;

use crate::blocks::Blocks;
use crate::budget::{Charge, Lack};
use crate::disk::DiskFile;
use crate::error::{Attempt, Error, if_there};
use crate::inner::{Inner, State, lock};
use crate::lookup::Found;
use crate::object::Object;
use crate::store::Store;
use crate::types::{Class, Why};
use crate::write::{Granted, is_full};

/// How many candidates one look at the ledger yields.
const CANDIDATES_COUNT: usize = 256;
/// How many looks at the ledger one call makes.
const LOOKS_MAX: usize = 2;
/// How many objects one write may evict. A write brings some MiB, an object frees a block at least.
const GRANT_TRIES_MAX: usize = 4096;

/// Candidates, in the order in which they go. What changed since they were chosen is looked at again.
#[derive(Default)]
pub(crate) struct Evictor {
    bodies: VecDeque<Candidate>,
    headers: VecDeque<Candidate>,
}

/// First those that nobody has open, each group by last access; a retired one's is 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    is_open: bool,
    accessed: u64,
    version: VersionKey,
}

/// Which blocks go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shed {
    Class(Class),
    All,
}

impl Store {
    /// Reserves what an object may come to take, and evicts others until that fits.
    ///
    /// The caller holds the object's `io`, and releases what it got once the files are settled.
    pub(crate) fn grant(
        &self,
        inner: &Inner,
        projected: impl Fn(&Inner) -> Charge,
    ) -> Result<Granted, Why> {
        for _ in 0..GRANT_TRIES_MAX {
            let projected = projected(inner);
            let (need, reserved) = {
                let mut ledger = lock(&self.ledger);
                let now = ledger.entry(inner.version).map(|entry| entry.charge());
                let need = projected.beyond(now.unwrap_or_default());
                (need, ledger.reserve(need))
            };
            match reserved {
                Ok(()) => match self.check_free_space() {
                    Ok(true) => return Ok(need),
                    Ok(false) => {
                        lock(&self.ledger).release(need);
                        if !self.make_room(Lack::Bodies, None) {
                            return Err(Why::FreeSpace);
                        }
                    }
                    Err(error) => {
                        lock(&self.ledger).release(need);
                        self.disk_failed(&error);
                        return Err(Why::DiskFailing);
                    }
                },
                Err(lack) => {
                    if !self.make_room(lack, Some(need)) {
                        return Err(match lack {
                            Lack::Headers => Why::HeaderQuota,
                            Lack::Bodies => Why::NoRoom,
                        });
                    }
                }
            }
        }
        Err(Why::NoRoom)
    }

    /// Evicts until the limits hold, or nothing is left that may go.
    pub(crate) fn enforce(&self) {
        loop {
            let lack = lock(&self.ledger).lack(Charge::default());
            let Some(lack) = lack else { return };
            if !self.make_room(lack, Some(Charge::default())) {
                return;
            }
        }
    }

    /// True if what is reserved still leaves free on the disk what must stay free.
    fn check_free_space(&self) -> Result<bool, Error> {
        let dir = &self.layout.dir;
        let free = self.disk.free_bytes(dir).attempt("look at", dir)?;
        let ledger = lock(&self.ledger);
        Ok(free >= ledger.limits.free_min.saturating_add(ledger.reserved()))
    }

    /// Evicts one object, if `need` still does not fit. False if none may go.
    fn make_room(&self, lack: Lack, need: Option<Charge>) -> bool {
        let mut evictor = lock(&self.evictor);
        let is_hopeless = |charge| lock(&self.ledger).is_hopeless(charge);
        if need.is_some_and(is_hopeless) {
            return false;
        }
        let fits = |charge| lock(&self.ledger).lack(charge).is_none();
        if need.is_some_and(fits) {
            return true;
        }
        let class = match lack {
            Lack::Headers => Class::Header,
            Lack::Bodies => Class::Body,
        };
        // Where no body is left, headers may be what is too much for both quotas together.
        let is_headers_turn =
            |need: Charge| need.body == 0 && lock(&self.ledger).exceeds_both(need);
        self.evict_one(&mut evictor, class)
            || (class == Class::Body
                && need.is_some_and(is_headers_turn)
                && self.evict_one(&mut evictor, Class::Header))
    }

    fn evict_one(&self, evictor: &mut Evictor, class: Class) -> bool {
        for look in 0..=LOOKS_MAX {
            while let Some(candidate) = evictor.queue(class).pop_front() {
                match self.evict(candidate, class) {
                    Ok(0) => {}
                    Ok(_) => {
                        self.count_eviction(class);
                        let now = self.disk.monotonic();
                        lock(&self.health).freed(now);
                        return true;
                    }
                    Err(error) => {
                        self.disk_failed(&error);
                        return false;
                    }
                }
            }
            if look < LOOKS_MAX {
                *evictor.queue(class) = self.candidates(class);
            }
        }
        false
    }

    fn count_eviction(&self, class: Class) {
        let counter = match class {
            Class::Header => &self.counters.header_evictions,
            Class::Body => &self.counters.body_evictions,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// The first to go, in order.
    fn candidates(&self, class: Class) -> VecDeque<Candidate> {
        let (open, held) = self.open_objects();
        let ledger = lock(&self.ledger);
        let mut first: BinaryHeap<Candidate> = BinaryHeap::new();
        for (version, entry) in ledger.entries() {
            let charge = entry.charge();
            let bytes = match class {
                Class::Header => charge.header,
                Class::Body => charge.body,
            };
            let is_open = open.contains(&version);
            let is_excluded = bytes == 0
                || entry.is_alias
                || held.contains(&version)
                || (is_open && class == Class::Header)
                || ledger.is_pinned(version);
            if is_excluded {
                continue;
            }
            first.push(Candidate {
                is_open,
                accessed: ledger.accessed(version),
                version,
            });
            if first.len() > CANDIDATES_COUNT {
                first.pop();
            }
        }
        first.into_sorted_vec().into()
    }

    /// The objects with a handle, and those among them that the kernel reads by itself.
    fn open_objects(&self) -> (BTreeSet<VersionKey>, BTreeSet<VersionKey>) {
        let open: BTreeMap<VersionKey, Arc<Inner>> = lock(&self.live).open().collect();
        let held = open
            .iter()
            .filter(|(_, inner)| inner.state().passthroughs_count > 0)
            .map(|(version, _)| *version)
            .collect();
        (open.into_keys().collect(), held)
    }

    /// Evicts one candidate, if it still is one. How many bytes that gave back.
    fn evict(&self, candidate: Candidate, class: Class) -> Result<u64, Error> {
        let version = candidate.version;
        {
            let ledger = lock(&self.ledger);
            let is_same = ledger.entry(version).is_some()
                && ledger.accessed(version) == candidate.accessed
                && !ledger.is_pinned(version);
            if !is_same {
                return Ok(0);
            }
        }
        let inner = match self.find(version, None)? {
            Found::Inner(inner) => inner,
            // The lookup removed what was left of it.
            Found::Alias { .. } | Found::Nothing => return Ok(0),
        };
        let is_open = inner.handles.load(Ordering::Relaxed) > 0;
        if inner.version != version || (is_open && !candidate.is_open) {
            return Ok(0);
        }
        let _io = match inner.io.try_lock() {
            Ok(io) => io,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(0),
        };
        self.shed(&inner, Shed::Class(class))
    }

    /// Takes blocks away: the map first, then the bytes. How many bytes that gave back.
    ///
    /// The caller holds the object's `io`. Nothing happens to an object that the kernel reads by
    /// itself.
    pub(crate) fn shed(&self, inner: &Arc<Inner>, what: Shed) -> Result<u64, Error> {
        let manifest = {
            let mut state = inner.state();
            if state.passthroughs_count > 0 || state.is_superseded {
                return Ok(0);
            }
            state.blocks.remove_where(|_, block| match what {
                Shed::Class(class) => block.class == class,
                Shed::All => true,
            });
            state.suspects.clear();
            state.is_punch_due = true;
            self.lost_blocks(inner.version, &mut state);
            state.manifest.take()
        };
        let before = self.charged(inner);
        if let Some(manifest) = manifest {
            self.index.remove(inner.version, Some(&manifest));
        }
        if inner.state().blocks.is_empty() {
            self.remove_files(inner)?;
            return Ok(before.saturating_sub(self.charged(inner)));
        }
        match self.commit(inner) {
            // No room for a smaller map: without any there is.
            Err(error) if is_full(&error) => self.discard_files(inner)?,
            committed => committed?,
        }
        self.tell(inner.version);
        Ok(before.saturating_sub(self.charged(inner)))
    }

    /// Takes everything away, whatever the disk says.
    pub(crate) fn discard(&self, inner: &Arc<Inner>) {
        if let Err(error) = self.shed(inner, Shed::All) {
            self.disk_failed(&error);
        }
    }

    fn charged(&self, inner: &Inner) -> u64 {
        let entry = lock(&self.ledger).entry(inner.version);
        entry.map_or(0, |entry| entry.charge().total())
    }

    fn discard_files(&self, inner: &Arc<Inner>) -> Result<(), Error> {
        {
            let mut state = inner.state();
            state.blocks.remove_where(|_, _| true);
            self.lost_blocks(inner.version, &mut state);
        }
        self.remove_files(inner)
    }

    /// Removes the files of an object of which no block is left, and the aliases that shared it.
    pub(crate) fn remove_files(&self, inner: &Arc<Inner>) -> Result<(), Error> {
        let version = inner.version;
        let map = self.layout.map(version);
        let dir = self.layout.shard(version.0[0]);
        let had_map = if_there(self.disk.remove(&map))
            .attempt("remove", &map)?
            .is_some();
        if had_map {
            self.disk.sync_dir(&dir).attempt("sync", &dir)?;
        }
        let path = self.layout.object(version);
        self.unlink(version, &path)?;
        {
            let mut state = inner.state();
            let before = std::mem::replace(&mut *state, State::empty(inner.size));
            state.epoch = before.epoch + 1;
            state.passthroughs_count = before.passthroughs_count;
            state.hurt = before.hurt;
        }
        lock(&self.live).dirty.remove(&version);
        let aliases = lock(&self.ledger).aliases_of(version);
        for alias in aliases {
            self.remove_alias(alias)?;
            let handle = lock(&self.live).handle(alias);
            if let Some(handle) = handle {
                self.detach(&handle);
            }
        }
        lock(&self.ledger).remove(version);
        self.tell(version);
        Ok(())
    }

    /// Lets the handle of an alias go on with an object of its own, of which nothing is there.
    pub(crate) fn detach(&self, handle: &Object) {
        let (version, size) = (handle.version(), handle.size());
        let empty = Inner::new(version, size, State::empty(size));
        lock(&self.live).set_inner(version, &empty);
        handle.set_inner(&empty);
    }
}

/// Gives back what lies between the blocks that are there.
pub(crate) fn punch_absent(file: &dyn DiskFile, blocks: &Blocks) -> io::Result<()> {
    for hole in blocks.absent(0..blocks.size()) {
        // Allocation goes by pages: the last one goes whole.
        let end = hole.end.next_multiple_of(4096);
        file.punch(hole.start, end - hole.start)?;
    }
    // So that the space stays given back once it is accounted for.
    file.sync(false)
}

impl Evictor {
    fn queue(&mut self, class: Class) -> &mut VecDeque<Candidate> {
        match class {
            Class::Header => &mut self.headers,
            Class::Body => &mut self.bodies,
        }
    }
}
