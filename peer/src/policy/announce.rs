//! Which part of what is held each listener is told next.
//!
//! There is one table of what this node holds. A listener is told all of it in the order of the keys, as fast
//! as it takes it; of a version that changes behind the place where it is, only the latest state is told. So
//! a listener that takes nothing costs a set of keys, and holds up nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use musicfs_core::extents::{BLOCK_BYTES, Extents};
use musicfs_core::peer::{Held, HoldingChanges};
use musicfs_core::version::VersionKey;

/// How much is announced.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Versions in the table, and changed ones that one listener has still to be told.
    pub(crate) objects_count_max: usize,
    /// Ranges in the table, of all versions together.
    pub(crate) ranges_count_max: usize,
    /// Ranges of one version: the longest are announced.
    pub(crate) version_ranges_count_max: usize,
}

/// Names a listener for as long as it listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ListenerId(u64);

/// A listener has missed more changes than are remembered for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Overrun;

/// What is held, and what each listener knows of it.
#[derive(Debug)]
pub(crate) struct Announcer {
    bounds: Bounds,
    table: BTreeMap<VersionKey, Held>,
    ranges_count: usize,
    listeners: BTreeMap<ListenerId, Listener>,
    next_id: u64,
}

#[derive(Debug)]
struct Listener {
    place: Place,
    /// Versions that it may know of, and that are not held any more.
    gone: BTreeSet<VersionKey>,
    /// Versions up to its place of which it knows an old state, or none.
    changed: BTreeSet<VersionKey>,
    has_overrun: bool,
}

/// How far a listener has been told the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Start,
    After(VersionKey),
    End,
}

impl Announcer {
    /// A table of nothing.
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            table: BTreeMap::new(),
            ranges_count: 0,
            listeners: BTreeMap::new(),
            next_id: 0,
        }
    }

    /// Takes over changes; how many versions are not announced because the table is full.
    pub(crate) fn change(&mut self, changes: HoldingChanges) -> usize {
        let mut refused_count = 0;
        for (version, held) in changes {
            let held = held.and_then(|held| announced(held, self.bounds.version_ranges_count_max));
            let is_some = held.is_some();
            let held = held.filter(|held| self.has_room(version, held));
            refused_count += usize::from(is_some && held.is_none());
            self.set(version, held);
        }
        refused_count
    }

    /// A new listener, who knows nothing.
    pub(crate) fn listen(&mut self) -> ListenerId {
        let id = ListenerId(self.next_id);
        self.next_id += 1;
        self.listeners.insert(
            id,
            Listener {
                place: Place::Start,
                gone: BTreeSet::new(),
                changed: BTreeSet::new(),
                has_overrun: false,
            },
        );
        id
    }

    /// Forgets a listener.
    pub(crate) fn leave(&mut self, id: ListenerId) {
        self.listeners.remove(&id);
    }

    /// What to tell a listener next, of a `cost` of at most `cost_max` together; nothing if it knows all.
    ///
    /// What is gone comes first: so nobody ever knows of more versions than were held at one time.
    ///
    /// # Errors
    /// [`Overrun`]: what it knows cannot be mended; it has to start again.
    pub(crate) fn next(
        &mut self,
        id: ListenerId,
        cost_max: usize,
        cost: impl Fn(Option<&Held>) -> usize,
    ) -> Result<HoldingChanges, Overrun> {
        let mut told = HoldingChanges::new();
        let Some(listener) = self.listeners.get_mut(&id) else {
            return Ok(told);
        };
        if listener.has_overrun {
            return Err(Overrun);
        }
        let mut left = cost_max;
        while let Some(version) = listener.gone.first().copied() {
            let Some(rest) = left.checked_sub(cost(None)) else {
                return Ok(told);
            };
            left = rest;
            listener.gone.remove(&version);
            told.push((version, None));
        }
        while let Some(version) = listener.changed.first().copied() {
            let held = self.table.get(&version);
            let Some(rest) = left.checked_sub(cost(held)) else {
                return Ok(told);
            };
            left = rest;
            listener.changed.remove(&version);
            told.push((version, held.cloned()));
        }
        let from = match listener.place {
            Place::Start => Bound::Unbounded,
            Place::After(version) => Bound::Excluded(version),
            Place::End => return Ok(told),
        };
        for (version, held) in self.table.range((from, Bound::Unbounded)) {
            let Some(rest) = left.checked_sub(cost(Some(held))) else {
                return Ok(told);
            };
            left = rest;
            listener.place = Place::After(*version);
            told.push((*version, Some(held.clone())));
        }
        listener.place = Place::End;
        Ok(told)
    }

    fn has_room(&self, version: VersionKey, held: &Held) -> bool {
        let before = self.table.get(&version);
        let objects_count = self.table.len() + usize::from(before.is_none());
        let ranges_count = self.ranges_count - ranges_of(before) + ranges_of(Some(held));
        objects_count <= self.bounds.objects_count_max
            && ranges_count <= self.bounds.ranges_count_max
    }

    fn set(&mut self, version: VersionKey, held: Option<Held>) {
        let is_gone = held.is_none();
        let ranges_count = ranges_of(held.as_ref());
        let before = match held {
            Some(held) if self.table.get(&version) == Some(&held) => return,
            Some(held) => self.table.insert(version, held),
            None => match self.table.remove(&version) {
                None => return,
                before => before,
            },
        };
        self.ranges_count = self.ranges_count + ranges_count - ranges_of(before.as_ref());
        for listener in self.listeners.values_mut() {
            listener.note(version, is_gone, self.bounds.objects_count_max);
        }
    }
}

impl Listener {
    fn note(&mut self, version: VersionKey, is_gone: bool, count_max: usize) {
        let is_ahead = match self.place {
            Place::Start => true,
            Place::After(place) => version > place,
            Place::End => false,
        };
        // It will come to it, and knows nothing of it yet.
        if is_ahead || self.has_overrun {
            return;
        }
        let (into, out_of) = match is_gone {
            true => (&mut self.gone, &mut self.changed),
            false => (&mut self.changed, &mut self.gone),
        };
        into.insert(version);
        out_of.remove(&version);
        if self.gone.len() + self.changed.len() > count_max {
            self.has_overrun = true;
            self.gone.clear();
            self.changed.clear();
        }
    }
}

/// What of `held` is announced: whole blocks, and of many ranges the longest.
fn announced(held: Held, ranges_count_max: usize) -> Option<Held> {
    let Held::Ranges(ranges) = held else {
        return Some(Held::Complete);
    };
    let last = ranges.iter().next_back()?;
    let whole = |range: std::ops::Range<u64>| {
        let start = range.start.next_multiple_of(BLOCK_BYTES);
        // The last block of a file ends where the file does.
        let end = match range.end == last.end {
            true => range.end,
            false => range.end / BLOCK_BYTES * BLOCK_BYTES,
        };
        start..end
    };
    let mut ranges: Vec<_> = ranges
        .iter()
        .map(whole)
        .filter(|it| !it.is_empty())
        .collect();
    if ranges.len() > ranges_count_max {
        ranges.sort_by_key(|range| (std::cmp::Reverse(range.end - range.start), range.start));
        ranges.truncate(ranges_count_max);
    }
    let ranges: Extents = ranges.into_iter().collect();
    (!ranges.is_empty()).then_some(Held::Ranges(ranges))
}

fn ranges_of(held: Option<&Held>) -> usize {
    match held {
        Some(Held::Ranges(ranges)) => ranges.iter().count(),
        Some(Held::Complete) | None => 0,
    }
}

#[cfg(test)]
mod tests;
