//! The ledger: what every object takes, what all take together, and what may come on top. Pure.
//!
//! It holds one entry of some 50 bytes per version, so a header tier of 160,000 tracks (40 GiB)
//! costs 9 MB. Each entry is charged what its files really take; while a write is under way, what it
//! may come to take is *reserved*, so that the sum on disk never is more than the ledger's.

use std::collections::{BTreeMap, BTreeSet};

use musicfs_core::version::VersionKey;

use crate::types::{Class, ClassStats, Limits};

/// Kept back for files that are there for a moment: the map of an object that is being evicted, an
/// alias, a marker.
pub(crate) const SLACK_BYTES: u64 = 256 << 10;
/// What an entry takes in the marker of a clean close.
pub(crate) const MARKER_ENTRY_BYTES: u64 = 64;
/// Of the limit for bodies, what pins may take.
const PINNED_PERCENT: u64 = 80;
/// The unit of charges: what `st_blocks` counts in.
const UNIT_BYTES: u64 = 512;

/// Bytes on disk, by class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Charge {
    pub(crate) header: u64,
    pub(crate) body: u64,
}

impl Charge {
    /// What is charged for `total` bytes of files that hold `header` and `body` bytes of blocks.
    ///
    /// What the files take beyond their blocks counts to the bodies, unless there are only headers.
    pub(crate) fn new(header: u64, body: u64, total: u64) -> Self {
        let rest = total.saturating_sub(header + body);
        match (header, body) {
            (1.., 0) => Self {
                header: header + rest,
                body,
            },
            _ => Self {
                header,
                body: body + rest,
            },
        }
    }

    /// What `self` is more than `other`.
    pub(crate) fn beyond(self, other: Self) -> Self {
        Self {
            header: self.header.saturating_sub(other.header),
            body: self.body.saturating_sub(other.body),
        }
    }

    pub(crate) fn total(self) -> u64 {
        self.header + self.body
    }

    fn add(&mut self, other: Self) {
        self.header += other.header;
        self.body += other.body;
    }

    fn take(&mut self, other: Self) {
        self.header -= other.header;
        self.body -= other.body;
    }
}

/// What is known of one version without looking at its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    header_units: u32,
    body_units: u32,
    /// Nanoseconds since 1970, made unique; 0 when the version is retired.
    pub(crate) accessed: u64,
    pub(crate) is_alias: bool,
}

impl Entry {
    pub(crate) fn charge(&self) -> Charge {
        Charge {
            header: u64::from(self.header_units) * UNIT_BYTES,
            body: u64::from(self.body_units) * UNIT_BYTES,
        }
    }
}

/// What keeps a write from going ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lack {
    Headers,
    Bodies,
}

/// All entries and their sums.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) limits: Limits,
    entries: BTreeMap<VersionKey, Entry>,
    sums: Charge,
    reserved: Charge,
    header_objects: u64,
    body_objects: u64,
    /// Directories, markers, the chunk index: by name.
    fixed: BTreeMap<Fixed, u64>,
    pins: BTreeSet<VersionKey>,
    /// Which versions share the object of another.
    aliases: BTreeMap<VersionKey, Vec<VersionKey>>,
    alias_of: BTreeMap<VersionKey, VersionKey>,
    /// Accesses that no file knows of yet.
    pub(crate) touched: BTreeSet<VersionKey>,
    /// Shards from which names were removed that may come back after a power loss.
    pub(crate) unsynced_shards: BTreeSet<u8>,
    accessed_last: u64,
}

/// What takes space besides objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fixed {
    /// The directory of the objects whose version starts with this byte.
    Shard(u8),
    /// Everything in the cache directory but `objects`, the index and the marker.
    Top,
    /// The chunk index.
    Index,
    /// Files in the shards that are not the store's.
    Foreign,
}

impl Ledger {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            entries: BTreeMap::new(),
            sums: Charge::default(),
            reserved: Charge::default(),
            header_objects: 0,
            body_objects: 0,
            fixed: BTreeMap::new(),
            pins: BTreeSet::new(),
            aliases: BTreeMap::new(),
            alias_of: BTreeMap::new(),
            touched: BTreeSet::new(),
            unsynced_shards: BTreeSet::new(),
            accessed_last: 0,
        }
    }

    pub(crate) fn entry(&self, version: VersionKey) -> Option<Entry> {
        self.entries.get(&version).copied()
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = (VersionKey, Entry)> + '_ {
        self.entries
            .iter()
            .map(|(version, entry)| (*version, *entry))
    }

    /// The first `count` versions behind `after`.
    pub(crate) fn page(&self, after: Option<VersionKey>, count: usize) -> Vec<(VersionKey, Entry)> {
        self.behind(after).take(count).collect()
    }

    /// The versions behind `after`, in order.
    pub(crate) fn behind(
        &self,
        after: Option<VersionKey>,
    ) -> impl Iterator<Item = (VersionKey, Entry)> + '_ {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        let behind = self.entries.range((from, Unbounded));
        behind.map(|(version, entry)| (*version, *entry))
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Puts an entry in, or changes its charge. A new one was accessed at `wall`.
    pub(crate) fn set(&mut self, version: VersionKey, charge: Charge, wall: u64) {
        let accessed = match self.entries.get(&version) {
            Some(entry) => entry.accessed,
            None => self.stamp(wall),
        };
        let is_alias = self.alias_of.contains_key(&version);
        self.put(version, charge, accessed, is_alias);
    }

    /// Puts an entry in as it was found.
    pub(crate) fn put(
        &mut self,
        version: VersionKey,
        charge: Charge,
        accessed: u64,
        is_alias: bool,
    ) {
        self.forget(version);
        let units = |bytes: u64| u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
        let entry = Entry {
            header_units: units(charge.header),
            body_units: units(charge.body),
            accessed,
            is_alias,
        };
        self.sums.add(entry.charge());
        self.header_objects += u64::from(entry.header_units > 0);
        self.body_objects += u64::from(entry.body_units > 0 && !is_alias);
        self.accessed_last = self.accessed_last.max(accessed);
        self.entries.insert(version, entry);
    }

    /// Takes an entry out, and it from the aliases of what it stood for.
    pub(crate) fn remove(&mut self, version: VersionKey) {
        self.forget(version);
        self.touched.remove(&version);
        if let Some(of) = self.alias_of.remove(&version)
            && let Some(others) = self.aliases.get_mut(&of)
        {
            others.retain(|other| *other != version);
            if others.is_empty() {
                self.aliases.remove(&of);
            }
        }
    }

    fn forget(&mut self, version: VersionKey) {
        if let Some(entry) = self.entries.remove(&version) {
            self.sums.take(entry.charge());
            self.header_objects -= u64::from(entry.header_units > 0);
            self.body_objects -= u64::from(entry.body_units > 0 && !entry.is_alias);
        }
    }

    /// Notes that `version` shares the object of `of`. Its entry follows by [`Ledger::set`].
    pub(crate) fn set_alias(&mut self, version: VersionKey, of: VersionKey) {
        self.alias_of.insert(version, of);
        let others = self.aliases.entry(of).or_default();
        if !others.contains(&version) {
            others.push(version);
        }
    }

    pub(crate) fn aliases_of(&self, version: VersionKey) -> Vec<VersionKey> {
        self.aliases.get(&version).cloned().unwrap_or_default()
    }

    pub(crate) fn target_of(&self, alias: VersionKey) -> Option<VersionKey> {
        self.alias_of.get(&alias).copied()
    }

    pub(crate) fn set_fixed(&mut self, what: Fixed, bytes: u64) {
        self.fixed.insert(what, bytes);
    }

    /// Counts files that could not be removed.
    pub(crate) fn add_foreign(&mut self, bytes: u64) {
        *self.fixed.entry(Fixed::Foreign).or_insert(0) += bytes;
    }

    pub(crate) fn touch(&mut self, version: VersionKey, wall: u64) {
        let accessed = self.stamp(wall);
        if let Some(entry) = self.entries.get_mut(&version)
            && entry.accessed != 0
        {
            entry.accessed = accessed;
            self.touched.insert(version);
        }
    }

    /// First to be evicted from now on, and never pinned.
    pub(crate) fn retire(&mut self, version: VersionKey) {
        if let Some(entry) = self.entries.get_mut(&version) {
            entry.accessed = 0;
            self.touched.insert(version);
        }
    }

    /// Used again after all.
    pub(crate) fn unretire(&mut self, version: VersionKey, wall: u64) {
        let accessed = self.stamp(wall);
        if let Some(entry) = self
            .entries
            .get_mut(&version)
            .filter(|entry| entry.accessed == 0)
        {
            entry.accessed = accessed;
            self.touched.insert(version);
        }
    }

    pub(crate) fn set_pins(&mut self, versions: Vec<VersionKey>) {
        self.pins = versions.into_iter().collect();
    }

    /// True if the object of `version` is pinned, under this name or another.
    pub(crate) fn is_pinned(&self, version: VersionKey) -> bool {
        let pinned = |version: &VersionKey| {
            self.pins.contains(version)
                && self
                    .entries
                    .get(version)
                    .is_none_or(|entry| entry.accessed != 0)
        };
        pinned(&version)
            || self
                .aliases
                .get(&version)
                .is_some_and(|all| all.iter().any(pinned))
    }

    /// When the object of `version` was last used, under any of its names; 0 if all are retired.
    pub(crate) fn accessed(&self, version: VersionKey) -> u64 {
        let of = |version: &VersionKey| self.entries.get(version).map_or(0, |entry| entry.accessed);
        let others = self.aliases.get(&version).into_iter().flatten();
        others.map(of).fold(of(&version), u64::max)
    }

    pub(crate) fn pin_capacity(&self) -> u64 {
        self.limits.bodies / 100 * PINNED_PERCENT
    }

    /// Takes `charge` in advance, if it fits.
    pub(crate) fn reserve(&mut self, charge: Charge) -> Result<(), Lack> {
        let lack = self.lack(charge);
        if lack.is_none() {
            self.reserved.add(charge);
        }
        lack.map_or(Ok(()), Err)
    }

    /// Gives back what was reserved.
    pub(crate) fn release(&mut self, charge: Charge) {
        self.reserved.take(charge);
    }

    /// All that is reserved and not yet written.
    pub(crate) fn reserved(&self) -> u64 {
        self.reserved.total()
    }

    /// What has to be evicted before `charge` fits; with nothing to add, before the limits hold.
    pub(crate) fn lack(&self, charge: Charge) -> Option<Lack> {
        let (header, body) = self.with(charge);
        let is_wanted = |part: u64| part > 0 || charge.total() == 0;
        if is_wanted(charge.header) && header > self.limits.headers {
            Some(Lack::Headers)
        } else if is_wanted(charge.body) && body > self.limits.bodies {
            Some(Lack::Bodies)
        } else {
            self.exceeds_both(charge).then_some(Lack::Bodies)
        }
    }

    /// True if with `charge` all together would be more than both quotas together.
    pub(crate) fn exceeds_both(&self, charge: Charge) -> bool {
        let (header, body) = self.with(charge);
        let Limits {
            bodies, headers, ..
        } = self.limits;
        header.saturating_add(body) > bodies.saturating_add(headers)
    }

    /// True if `charge` would not fit into an empty store either.
    pub(crate) fn is_hopeless(&self, charge: Charge) -> bool {
        let body = charge.body + self.fixed_bytes();
        charge.header > self.limits.headers || (charge.body > 0 && body > self.limits.bodies)
    }

    /// What counts to each quota once `charge` came on top.
    fn with(&self, charge: Charge) -> (u64, u64) {
        let header = self.sums.header + self.reserved.header + charge.header;
        let body = self.sums.body + self.reserved.body + charge.body + self.fixed_bytes();
        (header, body)
    }

    /// Bytes on disk of everything.
    pub(crate) fn size_bytes(&self) -> u64 {
        let fixed: u64 = self.fixed.values().sum();
        self.sums.total() + fixed
    }

    /// What the classes hold; the counters of the stats are the caller's.
    pub(crate) fn class_stats(&self, class: Class) -> ClassStats {
        let (objects, bytes) = match class {
            Class::Header => (self.header_objects, self.sums.header),
            Class::Body => (self.body_objects, self.sums.body),
        };
        ClassStats {
            objects,
            bytes,
            ..ClassStats::default()
        }
    }

    fn fixed_bytes(&self) -> u64 {
        let fixed: u64 = self.fixed.values().sum();
        fixed + SLACK_BYTES + self.entries.len() as u64 * MARKER_ENTRY_BYTES
    }

    /// A moment of access that no other entry has.
    fn stamp(&mut self, wall: u64) -> u64 {
        self.accessed_last = wall.max(self.accessed_last + 1);
        self.accessed_last
    }
}
