//! Random work, random power losses, from seeds: never a wrong byte, never a repair by hand,
//! everything committed is there, and the limits hold.
//!
//! `MUSICFS_STORE_SEEDS` says how many seeds are run, `MUSICFS_SEED` which is the first (by itself:
//! the only one).

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use musicfs_core::extents::{BLOCK_BYTES, block_range, blocks_count};
use musicfs_store::{Class, Config, Limits, Object, Store};

use crate::fault::{Fault, FaultDisk};
use crate::support::{Random, content, version};

const SEEDS_COUNT: u64 = 150;
/// Versions from this number on have the content of the ones before.
const CONTENTS_COUNT: u64 = 7;
const VERSIONS_COUNT: u64 = 11;
/// An object that loses its body has its map counted to the headers from then on.
const MAP_BYTES: u64 = 4096;
const LIVES_COUNT: u64 = 4;
const OPS_COUNT: u64 = 50;
const LIMITS: Limits = Limits {
    bodies: 1600 << 10,
    headers: 320 << 10,
    free_min: 0,
};

#[test]
fn a_crash_at_any_point_loses_only_what_was_not_committed() {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .map(|text| text.parse::<u64>().unwrap())
    };
    let seeds = match number("MUSICFS_SEED") {
        Some(seed) => seed..seed + number("MUSICFS_STORE_SEEDS").unwrap_or(1),
        None => 0..number("MUSICFS_STORE_SEEDS").unwrap_or(SEEDS_COUNT),
    };
    let contents: Vec<Vec<u8>> = (0..CONTENTS_COUNT)
        .map(|number| content(number, 1 + (number * number * 11_111) as usize % 600_000))
        .collect();
    let mut totals = BTreeMap::new();
    for seed in seeds {
        let run = AssertUnwindSafe(|| World::new(seed, &contents).run());
        match catch_unwind(run) {
            Ok(counts) => counts.into_iter().for_each(|(what, count)| {
                *totals.entry(what).or_insert(0) += count;
            }),
            Err(_) => panic!("seed {seed} fails: MUSICFS_SEED={seed}"),
        }
    }
    // A test that never came to what it is about would not fail.
    if totals["lives"] > 100 {
        for what in [
            "kept", "evicted", "shared", "clean", "crashed", "flipped", "checked",
        ] {
            assert!(totals[what] > 10, "{what}: {totals:?}");
        }
    }
}

struct World<'a> {
    contents: &'a [Vec<u8>],
    random: Random,
    disk: Arc<FaultDisk>,
    /// Blocks that a commit made durable and that were there ever since.
    committed: BTreeMap<u64, BTreeSet<u64>>,
    /// Bits were flipped: blocks may be lost, and found so again after each crash.
    is_flipped: bool,
    /// The disk refused things in this life: what is too much may not go.
    is_faulty: bool,
    open: Vec<Arc<Object>>,
    pins: Vec<u64>,
    limits: Limits,
    counts: BTreeMap<&'static str, u64>,
}

impl<'a> World<'a> {
    fn new(seed: u64, contents: &'a [Vec<u8>]) -> Self {
        Self {
            contents,
            random: Random(seed ^ 0x5eed),
            disk: FaultDisk::new(seed, 64 << 20),
            committed: BTreeMap::new(),
            is_flipped: false,
            is_faulty: false,
            open: Vec::new(),
            pins: Vec::new(),
            limits: LIMITS,
            counts: BTreeMap::new(),
        }
    }

    fn run(mut self) -> BTreeMap<&'static str, u64> {
        for _ in 0..LIVES_COUNT {
            self.live();
        }
        self.counts
    }

    /// From a start to a crash or a close.
    fn live(&mut self) {
        self.count("lives", 1);
        self.is_faulty = false;
        self.pins.clear();
        if self.random.one_in(5) {
            let suffix = ["", ".map", "clean"][self.random.below(3) as usize];
            let is_object = |name: &str| name.len() == 32;
            let is_flipped = self.disk.flip_bit(|name| match suffix {
                "" => is_object(name),
                suffix => name.ends_with(suffix),
            });
            self.is_flipped |= is_flipped;
            self.count("flipped", u64::from(is_flipped));
        }
        let store = self.start();
        if self.random.one_in(2) {
            let count = 1 + self.random.below(150);
            self.disk.lose_power_after(count);
        }
        for _ in 0..self.random.below(OPS_COUNT) + 5 {
            if self.disk.is_dead() {
                break;
            }
            self.step(&store);
            self.check_limits(&store);
            self.forget_removed(&store);
        }
        self.open.clear();
        let is_clean = self.random.one_in(4) && store.close().is_ok() && !self.disk.is_dead();
        if is_clean {
            self.count("clean", 1);
            if !self.is_faulty {
                self.note_committed(&store);
            }
        }
        let evictions = store.stats();
        self.count(
            "evicted",
            evictions.body.evictions + evictions.header.evictions,
        );
        drop(store);
        self.count("crashed", u64::from(!is_clean));
        self.disk = self.disk.crash();
    }

    fn start(&mut self) -> Arc<Store> {
        let config = Config {
            dir: PathBuf::from("/cache"),
            limits: self.limits,
        };
        let store = Store::open(config, self.disk.clone()).unwrap();
        if self.random.one_in(2) {
            self.read_all(&store);
        }
        store.recover().unwrap();
        self.disk.take_peak();
        self.check_limits(&store);
        self.read_all(&store);
        let stats = store.stats();
        if !self.is_flipped {
            assert_eq!(
                stats.blocks_damaged, 0,
                "a map told of bytes that were not durable"
            );
            let is_whole = stats.body.evictions + stats.header.evictions == 0;
            for (number, blocks) in self.committed.clone().into_iter().filter(|_| is_whole) {
                let there = self.present(&store, number);
                let lost: Vec<_> = blocks.difference(&there).collect();
                assert!(
                    lost.is_empty(),
                    "version {number} lost committed blocks {lost:?}"
                );
                self.count("checked", blocks.len() as u64);
            }
        }
        self.committed.clear();
        self.note_committed(&store);
        store
    }

    fn step(&mut self, store: &Arc<Store>) {
        let number = self.random.below(VERSIONS_COUNT);
        match self.random.below(24) {
            0..9 => self.write(store, number),
            9..12 => self.read(store, number),
            12 | 13 => {
                if store.commit_all().is_ok() && !self.disk.is_dead() && !self.is_faulty {
                    self.note_committed(store);
                }
            }
            14 => {
                self.disk.pass(Duration::from_millis(300));
                let _ = store.commit_due();
            }
            15 | 16 => {
                let object = self.object(store, number);
                let before = store.stats().objects_shared;
                object.finish().unwrap();
                self.count("shared", store.stats().objects_shared - before);
            }
            17 => {
                let object = self.object(store, number);
                self.open.push(object);
                let drop_at = self.random.below(3) as usize;
                if drop_at < self.open.len() {
                    self.open.remove(drop_at);
                }
            }
            18 => {
                self.pins = (0..self.random.below(3)).collect();
                store.set_pinned(self.pins.iter().copied().map(version).collect());
            }
            19 => store.retire(version(number)),
            20 => {
                let class = [None, Some(Class::Header), Some(Class::Body)];
                let class = class[self.random.below(3) as usize];
                let _ = store.clear(&|asked| asked == version(number), class, false);
            }
            21 => {
                let range = self.blocks(number);
                let class = self.class();
                self.object(store, number).set_class(range, class).unwrap();
            }
            22 => self.change_fault(store),
            _ => self.change_limits(store),
        }
    }

    fn change_fault(&mut self, store: &Arc<Store>) {
        let faults = [Fault::Failing, Fault::Full, Fault::Sync];
        if self.random.one_in(2) {
            self.disk
                .set_fault(Some(faults[self.random.below(3) as usize]));
            self.is_faulty = true;
            let number = self.random.below(VERSIONS_COUNT);
            self.write(store, number);
            let _ = store.commit_all();
        }
        self.disk.set_fault(None);
        // Long enough for any trial.
        self.disk.pass(Duration::from_secs(301));
    }

    fn change_limits(&mut self, store: &Arc<Store>) {
        let share = 60 + self.random.below(60);
        self.limits = Limits {
            bodies: LIMITS.bodies / 100 * share,
            ..LIMITS
        };
        if self.pins.is_empty() && !self.is_faulty {
            store.set_limits(self.limits);
            self.disk.take_peak();
        } else {
            self.limits = store.stats().limits;
        }
    }

    fn write(&mut self, store: &Arc<Store>, number: u64) {
        let range = self.blocks(number);
        let class = self.class();
        let object = self.object(store, number);
        let bytes = &self.contents[(number % CONTENTS_COUNT) as usize];
        let part = &bytes[range.start as usize..range.end as usize];
        let written = object.write(range.start, part, class).unwrap();
        self.count("kept", u64::from(written == musicfs_store::Written::Kept));
        if written == musicfs_store::Written::Kept && !self.disk.is_dead() {
            let read = object.read(range.clone()).unwrap();
            assert!(read.is_some() || self.is_flipped || self.is_faulty);
        }
    }

    fn read(&mut self, store: &Arc<Store>, number: u64) {
        let object = self.object(store, number);
        let (start, end) = (
            self.random.below(object.size()),
            self.random.below(object.size()),
        );
        let range = start.min(end)..start.max(end) + 1;
        let bytes = &self.contents[(number % CONTENTS_COUNT) as usize];
        let expected = &bytes[range.start as usize..range.end as usize];
        if let Some(read) = object.read(range.clone()).unwrap() {
            assert!(
                read == expected,
                "version {number}: wrong bytes in {range:?}"
            );
        }
        let mut buffer = vec![0; expected.len()];
        if let Some(count) = object.read_now(range.start, &mut buffer) {
            assert!(
                buffer[..count] == *expected,
                "version {number}: wrong bytes at once"
            );
        }
        object.touch();
    }

    fn read_all(&mut self, store: &Arc<Store>) {
        for number in 0..VERSIONS_COUNT {
            let bytes = &self.contents[(number % CONTENTS_COUNT) as usize];
            let object = self.object(store, number);
            for block in 0..blocks_count(object.size()) {
                let range = block_range(block, object.size());
                let expected = &bytes[range.start as usize..range.end as usize];
                if let Some(read) = object.read(range).unwrap() {
                    assert!(read == expected, "version {number}: block {block} is wrong");
                }
            }
        }
    }

    fn check_limits(&mut self, store: &Store) {
        let used = self.disk.take_peak();
        let Limits {
            bodies, headers, ..
        } = self.limits;
        let stats = store.stats();
        if !self.is_faulty && self.pins.is_empty() {
            assert!(used <= bodies + headers, "{used} bytes on disk: {stats:?}");
            let maps = VERSIONS_COUNT * MAP_BYTES;
            assert!(stats.header.bytes <= headers + maps, "{stats:?}");
            assert!(stats.body.bytes <= bodies || self.is_flipped, "{stats:?}");
        }
        if !self.disk.is_dead() {
            let now = self.disk.used();
            assert!(
                now <= stats.size_bytes + (16 << 10),
                "{now} on disk: {stats:?}"
            );
        }
    }

    /// After a commit that succeeded: what is there has to stay.
    fn note_committed(&mut self, store: &Arc<Store>) {
        for number in 0..VERSIONS_COUNT {
            let there = self.present(store, number);
            self.committed.insert(number, there);
        }
    }

    fn forget_removed(&mut self, store: &Arc<Store>) {
        for number in 0..VERSIONS_COUNT {
            let there = self.present(store, number);
            if let Some(blocks) = self.committed.get_mut(&number) {
                blocks.retain(|block| there.contains(block));
            }
        }
    }

    fn present(&self, store: &Arc<Store>, number: u64) -> BTreeSet<u64> {
        let object = self.object(store, number);
        let absent = object.absent(0..object.size());
        (0..blocks_count(object.size()))
            .filter(|block| {
                let start = block * BLOCK_BYTES;
                !absent.iter().any(|range| range.contains(&start))
            })
            .collect()
    }

    fn object(&self, store: &Arc<Store>, number: u64) -> Arc<Object> {
        let size = self.contents[(number % CONTENTS_COUNT) as usize].len() as u64;
        store.object(version(number), size).unwrap()
    }

    fn blocks(&mut self, number: u64) -> std::ops::Range<u64> {
        let size = self.contents[(number % CONTENTS_COUNT) as usize].len() as u64;
        let count = blocks_count(size);
        let first = self.random.below(count);
        let last = match self.random.one_in(2) {
            true => count - 1,
            false => first + self.random.below(count - first),
        };
        let first = if self.random.one_in(3) { 0 } else { first };
        block_range(first, size).start..block_range(last, size).end
    }

    fn class(&mut self) -> Class {
        match self.random.one_in(3) {
            true => Class::Header,
            false => Class::Body,
        }
    }

    fn count(&mut self, what: &'static str, count: u64) {
        *self.counts.entry(what).or_insert(0) += count;
    }
}
