//! What a listener knows in the end is what is held, and on the way never too much.

use proptest::prelude::*;

use super::*;

const BOUNDS: Bounds = Bounds {
    objects_count_max: 8,
    ranges_count_max: 12,
    version_ranges_count_max: 3,
};

fn version(number: u8) -> VersionKey {
    VersionKey([number; 16])
}

fn blocks(numbers: impl IntoIterator<Item = u64>) -> Extents {
    let range = |number: u64| number * BLOCK_BYTES..(number + 1) * BLOCK_BYTES;
    numbers.into_iter().map(range).collect()
}

fn cost(held: Option<&Held>) -> usize {
    1 + ranges_of(held)
}

/// A listener, as it is at the other end.
struct Ear {
    id: ListenerId,
    knows: BTreeMap<VersionKey, Held>,
}

impl Ear {
    fn new(announcer: &mut Announcer) -> Self {
        let id = announcer.listen();
        let knows = BTreeMap::new();
        Self { id, knows }
    }

    /// Takes one frame; false if there is nothing to be told.
    fn take(&mut self, announcer: &mut Announcer, cost_max: usize) -> Result<bool, Overrun> {
        let told = announcer.next(self.id, cost_max, cost)?;
        let spent: usize = told.iter().map(|(_, held)| cost(held.as_ref())).sum();
        assert!(spent <= cost_max);
        let is_some = !told.is_empty();
        for (version, held) in told {
            match held {
                Some(held) => self.knows.insert(version, held),
                None => self.knows.remove(&version),
            };
            assert!(self.knows.len() <= BOUNDS.objects_count_max);
        }
        Ok(is_some)
    }

    fn take_all(&mut self, announcer: &mut Announcer) -> Result<(), Overrun> {
        while self.take(announcer, 5)? {}
        Ok(())
    }
}

#[derive(Clone, Debug)]
enum Step {
    Hold(u8, Option<Held>),
    Take(usize, usize),
    Join,
    Leave,
}

fn held() -> impl Strategy<Value = Option<Held>> {
    prop_oneof![
        Just(None),
        Just(Some(Held::Complete)),
        prop::collection::btree_set(0_u64..8, 1..5).prop_map(|it| Some(Held::Ranges(blocks(it)))),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0_u8..12, held()).prop_map(|(version, held)| Step::Hold(version, held)),
        4 => (0_usize..3, 4_usize..9).prop_map(|(ear, cost)| Step::Take(ear, cost)),
        1 => Just(Step::Join),
        1 => Just(Step::Leave),
    ]
}

proptest! {
    #[test]
    fn a_listener_comes_to_know_what_is_held(steps in prop::collection::vec(step(), 0..80)) {
        let mut announcer = Announcer::new(BOUNDS);
        let mut ears: Vec<Ear> = Vec::new();
        for step in steps {
            match step {
                Step::Hold(number, held) => {
                    announcer.change(vec![(version(number), held)]);
                }
                Step::Join => ears.push(Ear::new(&mut announcer)),
                Step::Leave if !ears.is_empty() => announcer.leave(ears.remove(0).id),
                Step::Take(number, cost_max) if number < ears.len() => {
                    if ears[number].take(&mut announcer, cost_max).is_err() {
                        announcer.leave(ears.remove(number).id);
                    }
                }
                Step::Leave | Step::Take(..) => {}
            }
            prop_assert!(announcer.table.len() <= BOUNDS.objects_count_max);
            let counted: usize = announcer.table.values().map(|held| ranges_of(Some(held))).sum();
            prop_assert_eq!(announcer.ranges_count, counted);
            prop_assert!(counted <= BOUNDS.ranges_count_max);
            for listener in announcer.listeners.values() {
                let waiting = listener.gone.len() + listener.changed.len();
                prop_assert!(waiting <= BOUNDS.objects_count_max);
            }
        }
        for mut ear in ears {
            if ear.take_all(&mut announcer).is_ok() {
                prop_assert_eq!(&ear.knows, &announcer.table);
            }
        }
        let mut fresh = Ear::new(&mut announcer);
        prop_assert_eq!(fresh.take_all(&mut announcer), Ok(()));
        prop_assert_eq!(&fresh.knows, &announcer.table);
    }

    #[test]
    fn what_is_announced_is_held_and_whole(
        bytes in prop::collection::vec((0_u64..1_000_000, 1_u64..300_000), 1..8),
    ) {
        let ranges: Extents = bytes.iter().map(|(start, len)| *start..start + len).collect();
        let last = ranges.iter().next_back().unwrap().end;
        let Some(Held::Ranges(announced)) = announced(Held::Ranges(ranges.clone()), 3) else {
            let longest = ranges.iter().map(|range| range.end - range.start).max();
            prop_assert!(longest < Some(2 * BLOCK_BYTES));
            return Ok(());
        };
        prop_assert!((1..=3).contains(&announced.iter().count()));
        for range in announced.iter() {
            prop_assert!(ranges.covers(range.clone()));
            prop_assert_eq!(range.start % BLOCK_BYTES, 0);
            prop_assert!(range.end % BLOCK_BYTES == 0 || range.end == last);
        }
    }
}

#[test]
fn of_many_changes_of_a_version_only_the_last_is_told() {
    let mut announcer = Announcer::new(BOUNDS);
    let mut ear = Ear::new(&mut announcer);
    ear.take_all(&mut announcer).unwrap();
    for number in 0..100 {
        let held = Held::Ranges(blocks(0..=number));
        announcer.change(vec![(version(1), Some(held))]);
    }
    let told = announcer.next(ear.id, 100, cost).unwrap();
    let expect = Held::Ranges(blocks(0..100));
    assert_eq!(told, [(version(1), Some(expect))]);
    assert_eq!(announcer.next(ear.id, 100, cost).unwrap(), []);
}

#[test]
fn what_was_withdrawn_is_told_ahead_of_all_that_is_new() {
    let mut announcer = Announcer::new(BOUNDS);
    announcer.change(
        (0..8)
            .map(|it| (version(it), Some(Held::Complete)))
            .collect(),
    );
    let mut ear = Ear::new(&mut announcer);
    ear.take_all(&mut announcer).unwrap();
    announcer.change(vec![
        (version(9), Some(Held::Complete)),
        (version(7), None),
        (version(6), None),
        (version(10), Some(Held::Complete)),
    ]);
    // 9 came when there was no room for it.
    let told = announcer.next(ear.id, 100, cost).unwrap();
    let expect = [
        (version(6), None),
        (version(7), None),
        (version(10), Some(Held::Complete)),
    ];
    assert_eq!(told, expect);
}

#[test]
fn a_listener_that_takes_nothing_is_given_up() {
    let mut announcer = Announcer::new(BOUNDS);
    let (slow, mut quick) = (announcer.listen(), Ear::new(&mut announcer));
    announcer.next(slow, 100, cost).unwrap();
    for number in 0..9 {
        announcer.change(vec![(version(number), Some(Held::Complete))]);
        quick.take_all(&mut announcer).unwrap();
        announcer.change(vec![(version(number), None)]);
        quick.take_all(&mut announcer).unwrap();
    }
    assert_eq!(announcer.next(slow, 100, cost), Err(Overrun));
    assert!(quick.knows.is_empty());
}

#[test]
fn a_full_table_takes_no_more_and_says_so() {
    let mut announcer = Announcer::new(BOUNDS);
    let all = (0..10).map(|it| (version(it), Some(Held::Complete)));
    assert_eq!(announcer.change(all.collect()), 2);
    // What cannot be announced as it is now is not announced as it was before.
    announcer.change(
        (0..6)
            .map(|it| (version(it), Some(Held::Ranges(blocks([0, 2])))))
            .collect(),
    );
    assert_eq!(announcer.ranges_count, 12);
    let more = vec![(version(6), Some(Held::Ranges(blocks([0]))))];
    assert_eq!(announcer.change(more), 1);
    assert!(!announcer.table.contains_key(&version(6)));
}
