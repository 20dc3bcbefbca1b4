//! How long a source may take before it counts as stuck.

use std::time::Duration;

/// How long a source took to send its first byte, smoothed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    average: Option<Duration>,
}

impl Latency {
    /// The least patience while another source could be asked instead.
    pub const PATIENCE_MIN: Duration = Duration::from_secs(1);

    /// The least patience with the only source: to give up on it fails the read, so it may wake a
    /// disk or build a connection first.
    pub const PATIENCE_SOLE_MIN: Duration = Duration::from_secs(3);

    /// The most patience, with whichever source: a read ends within 10 s.
    pub const PATIENCE_MAX: Duration = Duration::from_secs(9);

    /// How many times slower than usual a source may be.
    const PATIENCE_FACTOR: u32 = 4;

    /// A new sample counts one part in this many: of the smoothing of TCP's round-trip time
    /// (RFC 6298, section 2).
    const WEIGHT: u32 = 8;

    /// The longest sample that counts: a remote operation takes no longer.
    const SAMPLE_MAX: Duration = Duration::from_secs(30);

    /// Nothing is known yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts the time until a first byte, or the time after which it was no longer waited for.
    pub fn sample(&mut self, first_byte: Duration) {
        let sample = first_byte.min(Self::SAMPLE_MAX);
        self.average = Some(match self.average {
            Some(average) => (average * (Self::WEIGHT - 1) + sample) / Self::WEIGHT,
            None => sample,
        });
    }

    /// The smoothed time to the first byte; `None` before the first sample.
    pub fn average(&self) -> Option<Duration> {
        self.average
    }

    /// How long to wait for a first byte, or for more after the last. At least `min`, which is
    /// [`Latency::PATIENCE_MIN`] or [`Latency::PATIENCE_SOLE_MIN`]; just that before the first
    /// sample. At most [`Latency::PATIENCE_MAX`].
    pub fn patience(&self, min: Duration) -> Duration {
        let usual = self.average.unwrap_or_default() * Self::PATIENCE_FACTOR;
        usual.max(min).min(Self::PATIENCE_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn patience_is_four_times_the_average_within_its_bounds() {
        let check = |sample, min, expect| {
            let mut latency = Latency::new();
            latency.sample(ms(sample));
            assert_eq!(latency.patience(min), ms(expect), "{sample} ms");
        };
        check(10, Latency::PATIENCE_SOLE_MIN, 3000);
        check(10, Latency::PATIENCE_MIN, 1000);
        check(1000, Latency::PATIENCE_SOLE_MIN, 4000);
        check(1000, Latency::PATIENCE_MIN, 4000);
        check(5000, Latency::PATIENCE_MIN, 9000);
        check(u64::MAX, Latency::PATIENCE_MIN, 9000);
        check(10, ms(60_000), 9000);
    }

    #[test]
    fn an_unknown_source_gets_the_least_patience() {
        let latency = Latency::new();
        assert_eq!(latency.average(), None);
        assert_eq!(latency.patience(Latency::PATIENCE_SOLE_MIN), ms(3000));
        assert_eq!(latency.patience(Latency::PATIENCE_MIN), ms(1000));
    }

    #[test]
    fn a_sample_moves_the_average_by_an_eighth() {
        let mut latency = Latency::new();
        latency.sample(ms(800));
        assert_eq!(
            latency.average(),
            Some(ms(800)),
            "the first is taken as it is"
        );
        latency.sample(ms(1600));
        assert_eq!(latency.average(), Some(ms(900)));
        latency.sample(ms(100));
        assert_eq!(latency.average(), Some(ms(800)));
        (0..200).for_each(|_| latency.sample(ms(40)));
        let settled = latency.average().unwrap();
        assert!(settled >= ms(40) && settled < ms(41), "{settled:?}");
    }
}
