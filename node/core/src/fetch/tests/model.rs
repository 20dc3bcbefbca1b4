//! Any sequence of what can happen: the rules that [`World`] checks hold, and all comes to rest.

use std::time::Duration;

use proptest::prelude::*;

use super::super::{Command, Ended, HandleId, PrefetchId};
use super::world::{MIB, REQUEST, World};
use crate::extents::Extents;

/// Forty whole MiB and a piece of a block.
const SIZE: u64 = 40 * MIB + 777;

#[derive(Clone, Debug)]
enum Step {
    Open,
    Close(usize),
    /// A request anywhere.
    Read(usize, u64, u64),
    /// Requests in sequence; each waits for its bytes if the last says so.
    Play(usize, u64, bool),
    /// Demands several ranges at once.
    Scatter(Vec<u64>),
    /// A reader goes away.
    Abandon(usize),
    Fly(usize, u64),
    End(usize, bool),
    Evict(u64, u64),
    Pass(u64),
    Prefetch(u64, u64),
    Cancel(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let offset = || 0..SIZE;
    prop_oneof![
        1 => Just(Step::Open),
        1 => any::<usize>().prop_map(Step::Close),
        4 => (any::<usize>(), offset(), 1..2 * MIB).prop_map(|(a, b, c)| Step::Read(a, b, c)),
        4 => (any::<usize>(), 1..24_u64, any::<bool>()).prop_map(|(a, b, c)| Step::Play(a, b, c)),
        2 => prop::collection::vec(offset(), 1..6).prop_map(Step::Scatter),
        1 => any::<usize>().prop_map(Step::Abandon),
        8 => (any::<usize>(), 1..3 * MIB).prop_map(|(a, b)| Step::Fly(a, b)),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(a, b)| Step::End(a, b)),
        2 => (offset(), 1..4 * MIB).prop_map(|(a, b)| Step::Evict(a, b)),
        2 => (1..3_000_u64).prop_map(Step::Pass),
        1 => (offset(), 1..20 * MIB).prop_map(|(a, b)| Step::Prefetch(a, b)),
        1 => any::<usize>().prop_map(Step::Cancel),
    ]
}

struct Run {
    world: World,
    handles: Vec<(HandleId, u64)>,
    prefetches: Vec<PrefetchId>,
}

impl Run {
    fn take(&mut self, step: &Step) {
        let world = &mut self.world;
        let nth = |len: usize, index: usize| (len > 0).then(|| index % len.max(1));
        match step {
            Step::Open => self.handles.push((world.open(), 0)),
            Step::Close(index) => {
                if let Some(index) = nth(self.handles.len(), *index) {
                    world.close(self.handles.swap_remove(index).0);
                }
            }
            Step::Read(index, at, len) => {
                if let Some(index) = nth(self.handles.len(), *index) {
                    world.read(self.handles[index].0, *at..at + len);
                    self.handles[index].1 = at + len;
                }
            }
            Step::Play(index, count, waits) => {
                if let Some(index) = nth(self.handles.len(), *index) {
                    self.play(index, *count, *waits);
                }
            }
            Step::Scatter(offsets) => {
                let touched = offsets.iter().flat_map(|at| world.absent(&(*at..at + 1)));
                let ranges: Extents = touched.collect();
                world.demand(&ranges.iter().collect::<Vec<_>>());
                world.plan();
            }
            Step::Abandon(index) => {
                if let Some(index) = nth(world.reads.len(), *index) {
                    let read = *world.reads.keys().nth(index).unwrap();
                    world.settle(read);
                }
            }
            Step::Fly(index, bytes) => {
                if let Some(index) = nth(world.flights.len(), *index) {
                    let id = *world.flights.keys().nth(index).unwrap();
                    world.fly(id, *bytes);
                }
            }
            Step::End(index, fails) => self.end(*index, *fails),
            Step::Evict(at, len) => {
                for block in world.blocks(&(*at..at + len)) {
                    world.stored.remove(&block);
                }
            }
            Step::Pass(ms) => {
                world.pass(Duration::from_millis(*ms));
                world.plan();
            }
            Step::Prefetch(at, len) => {
                self.prefetches
                    .push(world.planner.prefetch(&[*at..at + len]));
                world.plan();
            }
            Step::Cancel(index) => {
                if let Some(index) = nth(self.prefetches.len(), *index) {
                    world
                        .planner
                        .cancel_prefetch(self.prefetches.swap_remove(index));
                    world.plan();
                }
            }
        }
    }

    fn play(&mut self, index: usize, count: u64, waits: bool) {
        let (handle, at) = &mut self.handles[index];
        for _ in 0..count {
            let read = self.world.read(*handle, *at..*at + REQUEST);
            if waits {
                self.world.run_until(read);
            }
            *at = (*at + REQUEST) % SIZE;
        }
    }

    fn end(&mut self, index: usize, fails: bool) {
        let count = self.world.flights.len();
        if count == 0 {
            return;
        }
        let id = *self.world.flights.keys().nth(index % count).unwrap();
        let how = if fails { Ended::Failed } else { Ended::Stopped };
        self.world.end(id, how);
    }
}

/// Takes the steps, then lets all that is under way come in.
fn run(steps: &[Step], complete_on_play: bool) -> Run {
    let mut run = Run {
        world: World::new(SIZE, complete_on_play),
        handles: Vec::new(),
        prefetches: Vec::new(),
    };
    run.take(&Step::Open);
    steps.iter().for_each(|step| run.take(step));
    run.world.run();
    run.world.pass(Duration::from_secs(100));
    run.world.plan();
    run.world.run();
    run
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_read_ends_and_nothing_is_fetched_twice(
        steps in prop::collection::vec(step(), 1..80),
        complete_on_play in any::<bool>(),
    ) {
        let run = run(&steps, complete_on_play);
        prop_assert!(run.world.reads.is_empty());
        prop_assert!(run.world.planner.is_idle());
        let is_played = run.handles.iter().any(|(id, _)| run.world.planner.is_player(*id));
        if is_played && complete_on_play {
            let arrived = run.world.arrivals.len() as u64;
            prop_assert_eq!(arrived, run.world.all_blocks().end, "the fill is complete");
        }
    }

    #[test]
    fn the_same_inputs_give_the_same_commands(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let (one, two): (Vec<Command>, _) = (run(&steps, true).world.log, run(&steps, true));
        prop_assert_eq!(one, two.world.log);
    }

    #[test]
    fn random_reads_bring_their_distinct_blocks(
        reads in prop::collection::vec((0..SIZE, 1..64_u64 << 10), 1..80),
    ) {
        let mut world = World::new(SIZE, true);
        let handle = world.open();
        let mut touched = std::collections::BTreeSet::new();
        // Seeks only: what lies near the place before is left out.
        let mut last = u64::MAX;
        for (at, len) in reads {
            if at.abs_diff(last) < MIB {
                continue;
            }
            last = at;
            touched.extend(world.blocks(&(at..at + len)));
            world.read(handle, at..at + len);
            world.pass(Duration::from_millis(100));
        }
        world.run();
        prop_assert!(world.each_arrived_once(touched));
    }
}
