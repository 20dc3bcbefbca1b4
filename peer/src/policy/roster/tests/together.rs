//! What becomes of several nodes that find, lose and mistake each other.

use super::world::World;
use super::*;

fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

const ALL_OF_FOUR: [(usize, usize); 6] = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)];

/// Four hosts that find each other by announcements.
fn four(seed: u64) -> World {
    let mut world = World::new(4, seed);
    for (host, other) in (0..4).flat_map(|host| (0..4).map(move |other| (host, other))) {
        // Each sees its own announcement, too.
        let source = Source::Service(other.to_string().into());
        world.tell(host, source, &[world.address(other)]);
    }
    world
}

#[test]
fn nodes_that_find_each_other_at_once_end_with_one_link_each() {
    for seed in 0..60 {
        let mut world = four(seed);
        world.run(Duration::from_secs(10));
        world.assert_linked(&ALL_OF_FOUR, seed);
        let lost = world
            .reports
            .iter()
            .filter(|(_, report)| matches!(report, Report::Lost { .. }));
        assert_eq!(lost.count(), 0, "seed {seed}: nobody is lost on the way");
        world.run(minutes(4));
        assert_eq!(world.stirs_in(minutes(2)), 0, "seed {seed}");
    }
}

#[test]
fn one_static_address_is_enough_for_all() {
    for seed in 0..40 {
        let mut world = World::new(4, seed);
        for host in 1..4 {
            world.tell(host, Source::Static(0), &[world.address(0)]);
        }
        world.run(Duration::from_secs(10));
        world.assert_linked(&ALL_OF_FOUR, seed);
        world.run(minutes(4));
        assert_eq!(world.stirs_in(minutes(2)), 0, "seed {seed}");
        // The one that was known to all may go.
        world.kill(0);
        world.run(minutes(4));
        world.assert_linked(&[(1, 2), (1, 3), (2, 3)], seed);
    }
}

#[test]
fn killed_programs_come_back_and_cuts_heal() {
    for seed in 0..40 {
        let mut world = four(seed);
        world.run(Duration::from_secs(seed % 30));
        for round in 0..5 {
            let victim = (seed as usize + round) % 4;
            match (seed as usize + round) % 3 {
                0 => {
                    world.kill(victim);
                    world.run(Duration::from_millis(seed * 117 % 20_000));
                    world.restart(victim, false);
                }
                1 => {
                    world.kill(victim);
                    world.restart(victim, true);
                    let now_at = world.address(victim);
                    for host in 0..4 {
                        world.tell(host, Source::Service(victim.to_string().into()), &[now_at]);
                    }
                }
                _ => {
                    world.cut(victim, (victim + 1) % 4, true);
                    world.run(Duration::from_millis(seed * 391 % 60_000));
                    world.cut(victim, (victim + 1) % 4, false);
                }
            }
            world.run(Duration::from_millis(seed * 731 % 30_000));
        }
        world.run(minutes(6));
        world.assert_linked(&ALL_OF_FOUR, seed);
        assert_eq!(world.stirs_in(minutes(2)), 0, "seed {seed}");
        let twins = world
            .reports
            .iter()
            .filter(|(_, report)| matches!(report, Report::Twins { .. } | Report::OwnTwin { .. }));
        assert_eq!(
            twins.count(),
            0,
            "seed {seed}: one that starts anew is no twin"
        );
    }
}

#[test]
fn copied_keys_are_told_of_and_nobody_flaps() {
    for seed in 0..20 {
        let mut world = four(seed);
        world.copy_key(2, 3);
        world.run(minutes(1));
        let first = world.open_count();
        assert_eq!(
            first, 3,
            "seed {seed}: 0 and 1, and each of them with one of the two"
        );
        let before = world.reports.len();
        world.run(minutes(30));
        assert_eq!(
            world.reports.len(),
            before,
            "seed {seed}: {:?}",
            &world.reports[before..]
        );
        let told_own = world
            .reports
            .iter()
            .filter(|(_, report)| matches!(report, Report::OwnTwin { .. }));
        let told_own: BTreeSet<_> = told_own.map(|(host, _)| *host).collect();
        assert_eq!(told_own, [2, 3].into(), "seed {seed}");
        let late = world.stirs_in(minutes(10));
        assert!(late < 300, "seed {seed}: {late} in ten minutes");
    }
}
