//! Whom a flight asks, one after the other.

use std::time::Duration;

use super::Retry;
use crate::error::ErrorKind;
use crate::health::Standing;

/// Goes through the sources of one flight, which all hold the same bytes.
///
/// A source that fails is left for the next at once. Only when no other is left that answers are
/// they tried again, after the delays of [`Retry`].
#[derive(Clone, Debug)]
pub struct Rota {
    turns: Vec<Turn>,
    retry: Retry,
    /// Some source seemed to answer when the flight began: it is worth waiting for.
    is_patient: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// Not asked since bytes last came.
    Waits,
    /// Asked since, without success.
    Failed,
    /// It cannot have these bytes: never asked again.
    Out,
}

/// What a flight does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Ask this source, after so long.
    Ask {
        /// Its place among the sources.
        source: usize,
        /// How long to wait first.
        delay: Duration,
        /// Whether another could be asked at once if this one does not answer.
        has_other: bool,
    },
    /// Fail.
    GiveUp,
}

impl Rota {
    /// A flight begins; `standings` are those of its sources, of which there is at least one.
    pub fn new(standings: &[Standing]) -> Self {
        Self {
            turns: vec![Turn::Waits; standings.len()],
            retry: Retry::new(),
            is_patient: standings.iter().any(|standing| !standing.is_surely_away()),
        }
    }

    /// Whom to ask first.
    pub fn first(&self, standings: &[Standing]) -> Next {
        self.ask(standings, Duration::ZERO, |turn| turn == Turn::Waits)
    }

    /// A source failed for a reason of this kind; `progress` tells whether it brought bytes before.
    /// `standings` are those of now, in the same order.
    pub fn failed(
        &mut self,
        source: usize,
        why: ErrorKind,
        progress: bool,
        standings: &[Standing],
    ) -> Next {
        if progress {
            let failed = self.turns.iter_mut().filter(|turn| **turn == Turn::Failed);
            failed.for_each(|turn| *turn = Turn::Waits);
        }
        self.turns[source] = match why.may_pass() {
            true => Turn::Failed,
            false => Turn::Out,
        };
        let fresh = |(turn, standing): (&Turn, &Standing)| {
            *turn == Turn::Waits && (!standing.is_away() || !self.is_patient)
        };
        if self.turns.iter().zip(standings).any(fresh) {
            return self.ask(standings, Duration::ZERO, |turn| turn == Turn::Waits);
        }
        let all_out = self.turns.iter().all(|turn| *turn == Turn::Out);
        if all_out || !self.is_patient {
            return Next::GiveUp;
        }
        match self.retry.next(ErrorKind::Unavailable, progress) {
            Some(delay) => {
                let failed = self.turns.iter_mut().filter(|turn| **turn == Turn::Failed);
                failed.for_each(|turn| *turn = Turn::Waits);
                self.ask(standings, delay, |turn| turn == Turn::Waits)
            }
            None => Next::GiveUp,
        }
    }

    fn ask(
        &self,
        standings: &[Standing],
        delay: Duration,
        may_be_asked: impl Fn(Turn) -> bool,
    ) -> Next {
        let candidates = || {
            let numbered = self.turns.iter().zip(standings).enumerate();
            numbered.filter(|(_, (turn, _))| may_be_asked(**turn))
        };
        let best = candidates().min_by_key(|(source, (_, standing))| (**standing, *source));
        let Some((source, _)) = best else {
            return Next::GiveUp;
        };
        let others = candidates().filter(|(other, (_, standing))| {
            *other != source && (!standing.is_away() || !self.is_patient)
        });
        Next::Ask {
            source,
            delay,
            has_other: others.count() > 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Vitals;
    use crate::origin::OriginKind;

    const FAIL: ErrorKind = ErrorKind::Unavailable;

    fn up(priority: u32) -> Standing {
        Vitals::new(OriginKind::S3).standing(priority)
    }

    fn away(priority: u32) -> Standing {
        let mut vitals = Vitals::new(OriginKind::S3);
        vitals.lost();
        vitals.standing(priority)
    }

    fn ask(source: usize, delay_ms: u64, has_other: bool) -> Next {
        let delay = Duration::from_millis(delay_ms);
        Next::Ask {
            source,
            delay,
            has_other,
        }
    }

    #[test]
    fn a_lone_source_is_tried_again_after_each_delay() {
        let standings = [up(1)];
        let mut rota = Rota::new(&standings);
        assert_eq!(rota.first(&standings), ask(0, 0, false));
        let mut next = || rota.failed(0, FAIL, false, &standings);
        assert_eq!(next(), ask(0, 100, false));
        assert_eq!(next(), ask(0, 500, false));
        assert_eq!(next(), ask(0, 2000, false));
        assert_eq!(next(), Next::GiveUp);
    }

    #[test]
    fn a_lone_source_that_is_away_gets_one_try() {
        let standings = [away(1)];
        let mut rota = Rota::new(&standings);
        assert_eq!(rota.first(&standings), ask(0, 0, false));
        assert_eq!(rota.failed(0, FAIL, false, &standings), Next::GiveUp);
    }

    #[test]
    fn a_source_that_turns_out_to_be_away_keeps_the_delays_of_this_flight() {
        let mut rota = Rota::new(&[up(1)]);
        assert_eq!(rota.failed(0, FAIL, false, &[away(1)]), ask(0, 100, false));
    }

    #[test]
    fn the_next_is_asked_at_once_and_the_first_again_only_after_all() {
        let standings = [up(20), up(1), up(5)];
        let mut rota = Rota::new(&standings);
        assert_eq!(rota.first(&standings), ask(1, 0, true));
        assert_eq!(rota.failed(1, FAIL, false, &standings), ask(2, 0, true));
        assert_eq!(rota.failed(2, FAIL, false, &standings), ask(0, 0, false));
        assert_eq!(rota.failed(0, FAIL, false, &standings), ask(1, 100, true));
    }

    #[test]
    fn one_that_is_demoted_hurries_nobody_and_is_asked_when_all_others_are_away() {
        let standings = [up(20), up(10).demoted()];
        let mut rota = Rota::new(&standings);
        assert_eq!(rota.first(&standings), ask(0, 0, false));
        assert_eq!(rota.failed(0, FAIL, false, &standings), ask(0, 100, false));
        let mut gone = Vitals::new(OriginKind::S3);
        gone.lost();
        let standings = [gone.standing(20), up(10).demoted()];
        let mut rota = Rota::new(&standings);
        assert_eq!(rota.first(&standings), ask(0, 0, true));
        assert_eq!(rota.failed(0, FAIL, false, &standings), ask(1, 0, false));
    }

    #[test]
    fn one_that_is_away_is_not_asked_while_another_may_recover() {
        let standings = [up(1), away(20)];
        let mut rota = Rota::new(&standings);
        assert_eq!(rota.first(&standings), ask(0, 0, false));
        assert_eq!(
            rota.failed(0, FAIL, false, &standings),
            ask(0, 100, false),
            "it answers as far as is known: the other does not"
        );
        let now = [away(1), away(20)];
        let next = rota.failed(0, FAIL, false, &now);
        assert!(matches!(next, Next::Ask { .. }), "{next:?}");
    }

    #[test]
    fn when_all_are_away_each_gets_one_try_the_least_bad_first() {
        let mut worse = Vitals::new(OriginKind::S3);
        for _ in 0..9 {
            worse.check_failed();
        }
        let standings = [worse.standing(1), away(20)];
        let mut rota = Rota::new(&standings);
        assert_eq!(rota.first(&standings), ask(1, 0, true));
        assert_eq!(rota.failed(1, FAIL, false, &standings), ask(0, 0, false));
        assert_eq!(rota.failed(0, FAIL, false, &standings), Next::GiveUp);
    }

    #[test]
    fn a_source_without_the_bytes_is_not_asked_again() {
        let standings = [up(1), up(2)];
        let mut rota = Rota::new(&standings);
        let next = rota.failed(0, ErrorKind::Stale, false, &standings);
        assert_eq!(next, ask(1, 0, false));
        let next = rota.failed(1, FAIL, false, &standings);
        assert_eq!(next, ask(1, 100, false));
        let next = rota.failed(1, ErrorKind::NotFound, false, &standings);
        assert_eq!(next, Next::GiveUp);
    }

    #[test]
    fn bytes_that_came_give_every_other_source_its_turn_again() {
        let standings = [up(1), up(2)];
        let mut rota = Rota::new(&standings);
        assert_eq!(rota.failed(0, FAIL, false, &standings), ask(1, 0, false));
        assert_eq!(rota.failed(1, FAIL, true, &standings), ask(0, 0, false));
    }

    #[test]
    fn a_flight_without_progress_ends() {
        let standings = [up(1), up(2), up(2)];
        let mut rota = Rota::new(&standings);
        let mut next = rota.first(&standings);
        let mut asked = 0;
        while let Next::Ask { source, .. } = next {
            asked += 1;
            next = rota.failed(source, FAIL, false, &standings);
        }
        assert_eq!(
            asked,
            3 * (1 + Retry::DELAYS.len()),
            "each at first and after each delay"
        );
    }
}
