//! Random numbers from a seed, and how long to wait after failures.

use std::time::Duration;

/// The longest pause after the first failure.
const PAUSE_FIRST: Duration = Duration::from_millis(500);
/// The longest pause of all: a node that comes back without a word of its own is found in a minute.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// The shortest pause: a refusal that comes at once is not asked for at once again.
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// A stream of numbers that the seed determines (splitmix64). Good for spreading load, not for keys.
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A length of time from `min` up to `max`, all equally likely.
    pub(crate) fn between(&mut self, min: Duration, max: Duration) -> Duration {
        let span = max.saturating_sub(min);
        let share = (self.next() >> 40) as f64 / (1u64 << 24) as f64;
        min + span.mul_f64(share)
    }

    /// How long to wait after so many failures in a row: anything up to a bound that doubles (full
    /// jitter), so that nodes that lost each other at one moment do not all come back at one moment.
    pub(crate) fn pause(&mut self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(16);
        let bound = PAUSE_FIRST.saturating_mul(1 << doublings).min(PAUSE_MAX);
        self.between(PAUSE_MIN, bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_doubles_to_a_minute_and_all_of_it_is_used() {
        let mut chance = Chance::new(7);
        for (failures, bound_ms) in [
            (0, 500),
            (1, 500),
            (2, 1000),
            (5, 8000),
            (8, 60_000),
            (99, 60_000),
        ] {
            let pauses: Vec<_> = (0..1000).map(|_| chance.pause(failures)).collect();
            let bound = Duration::from_millis(bound_ms);
            assert!(
                pauses
                    .iter()
                    .all(|pause| (PAUSE_MIN..=bound).contains(pause))
            );
            let mean = pauses.iter().sum::<Duration>() / 1000;
            assert!(
                mean > bound.mul_f64(0.4) && mean < bound.mul_f64(0.6),
                "{mean:?}"
            );
            assert!(pauses.iter().max() > Some(&bound.mul_f64(0.95)));
        }
    }

    #[test]
    fn a_seed_determines_all_of_it() {
        let draw = |seed| {
            let mut chance = Chance::new(seed);
            [1, 2, 3].map(|failures| chance.pause(failures))
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }
}
