//! How an origin fares, learned from its use and from checks, and which of several is asked first.

use std::time::Duration;

use crate::error::ErrorKind;
use crate::fetch::Latency;
use crate::origin::OriginKind;

/// Whether an origin can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthState {
    /// Not asked yet.
    Unknown,
    /// It answers.
    Healthy,
    /// It answers, but part of it is out of reach.
    Degraded,
    /// It does not answer.
    Unhealthy,
}

/// What is known of one origin's health.
///
/// Uses and checks go in. So many failures in a row make it unhealthy as its kind deserves; one
/// success makes it healthy again.
#[derive(Clone, Debug)]
pub struct Vitals {
    /// So many failures in a row make it unhealthy.
    failures_max: u32,
    answers: Answers,
    failures: u32,
    /// A check failed as well since it last answered.
    is_sure: bool,
    is_partial: bool,
    latency: Latency,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answers {
    NotAsked,
    Yes,
    No,
}

/// Whether an origin began or ceased to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nothing that anybody should be told.
    None,
    /// It is back.
    Back,
    /// It is away from now on.
    Away,
}

/// What decides whether a source comes before another: the smaller is asked first.
///
/// One that answers comes before one that does not, then priority decides, then whether all of it is
/// there, then how long it takes. Of sources that are all away the one that failed least comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Standing {
    is_away: bool,
    is_sure: bool,
    failures_if_away: u32,
    priority: u32,
    is_partial: bool,
    /// Zero before the first answer, so that it gets one.
    latency: Duration,
}

impl Standing {
    /// What a request costs the next one at a source that never answered, or in no time.
    const LOAD_MIN: Duration = Duration::from_millis(1);

    /// The same, with the latency rounded up to a power of two milliseconds: of sources that are as
    /// near as each other none is favoured.
    #[must_use]
    pub fn coarse(mut self) -> Self {
        let ms = u64::try_from(self.latency.as_micros().div_ceil(1000)).unwrap_or(u64::MAX);
        let rounded = ms.checked_next_power_of_two().unwrap_or(u64::MAX);
        self.latency = Duration::from_millis(rounded);
        self
    }

    /// The same for a source that has so many requests to answer already: each of them makes the next
    /// one wait as long as the source usually takes, and a millisecond at least.
    #[must_use]
    pub fn loaded(mut self, requests: u32) -> Self {
        let each = self.latency.max(Self::LOAD_MIN);
        self.latency = self.latency.saturating_add(each.saturating_mul(requests));
        self
    }

    /// The same for a source that nothing is expected of, for it delivered what no sound one does: it
    /// stands behind all others, and is asked only when none of them answers.
    #[must_use]
    pub fn demoted(mut self) -> Self {
        self.is_away = true;
        self.is_sure = true;
        self.failures_if_away = u32::MAX;
        self
    }

    /// True if it does not answer.
    pub fn is_away(&self) -> bool {
        self.is_away
    }

    /// True if it does not answer, and a check found so too: a line that breaks again and again
    /// fails uses, but seldom a check.
    pub fn is_surely_away(&self) -> bool {
        self.is_away && self.is_sure
    }
}

impl Vitals {
    /// A node has ways to show that it is there, so that one failure that lasts says enough.
    const PEER_FAILURES_MAX: u32 = 2;

    /// An origin that was never asked.
    pub fn new(kind: OriginKind) -> Self {
        Self::with(Self::failures_max(kind))
    }

    /// A peer that just connected.
    pub fn of_peer() -> Self {
        let mut vitals = Self::with(Self::PEER_FAILURES_MAX);
        vitals.is_there();
        vitals
    }

    fn with(failures_max: u32) -> Self {
        Self {
            failures_max,
            answers: Answers::NotAsked,
            failures: 0,
            is_sure: false,
            is_partial: false,
            latency: Latency::new(),
        }
    }

    /// How many failures in a row make an origin of a kind unhealthy.
    ///
    /// A directory either works or does not, and a share that hangs takes a thread with each try. A
    /// server may drop one connection and answer the next.
    pub fn failures_max(kind: OriginKind) -> u32 {
        match kind {
            OriginKind::Local | OriginKind::Nfs | OriginKind::Smb => 1,
            OriginKind::S3 | OriginKind::Sftp => 3,
        }
    }

    /// It answered; the first byte came after `first_byte`.
    pub fn answered(&mut self, first_byte: Duration) -> Turn {
        self.latency.sample(first_byte);
        self.is_there()
    }

    /// It answered a check, or was listed; `is_partial` if a part of it is out of reach.
    pub fn checked(&mut self, is_partial: bool) -> Turn {
        self.is_partial = is_partial;
        self.is_there()
    }

    /// A check found it there, which says nothing of its parts.
    pub fn is_there(&mut self) -> Turn {
        self.failures = 0;
        self.is_sure = false;
        match std::mem::replace(&mut self.answers, Answers::Yes) {
            Answers::No => Turn::Back,
            Answers::NotAsked | Answers::Yes => Turn::None,
        }
    }

    /// A use failed. Only a failure of the origin counts: a file that is gone is no fault of its.
    pub fn failed(&mut self, why: ErrorKind) -> Turn {
        match why.may_pass() {
            true => self.missed(),
            false => Turn::None,
        }
    }

    /// A check failed.
    pub fn check_failed(&mut self) -> Turn {
        self.is_sure = true;
        self.missed()
    }

    fn missed(&mut self) -> Turn {
        self.failures = self.failures.saturating_add(1);
        if self.failures < self.failures_max {
            return Turn::None;
        }
        match std::mem::replace(&mut self.answers, Answers::No) {
            Answers::No => Turn::None,
            Answers::NotAsked | Answers::Yes => Turn::Away,
        }
    }

    /// It could not be listed at all: there is no need to ask again.
    pub fn lost(&mut self) -> Turn {
        self.failures = self.failures.max(self.failures_max - 1);
        self.check_failed()
    }

    /// In one word.
    pub fn state(&self) -> HealthState {
        match self.answers {
            Answers::NotAsked => HealthState::Unknown,
            Answers::No => HealthState::Unhealthy,
            Answers::Yes if self.is_partial => HealthState::Degraded,
            Answers::Yes => HealthState::Healthy,
        }
    }

    /// Failures since it last answered.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// How long it takes.
    pub fn latency(&self) -> &Latency {
        &self.latency
    }

    /// Where it stands among others, with this priority (lower is tried first).
    pub fn standing(&self, priority: u32) -> Standing {
        let is_away = self.answers == Answers::No;
        Standing {
            is_away,
            is_sure: is_away && self.is_sure,
            failures_if_away: if is_away { self.failures } else { 0 },
            priority,
            is_partial: self.is_partial,
            latency: self.latency.average().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s3() -> Vitals {
        Vitals::new(OriginKind::S3)
    }

    fn away(failures: u32) -> Vitals {
        let mut vitals = s3();
        for _ in 0..failures {
            vitals.missed();
        }
        vitals
    }

    fn seen(ms: u64) -> Vitals {
        let mut vitals = s3();
        vitals.answered(Duration::from_millis(ms));
        vitals
    }

    #[test]
    fn failures_in_a_row_count_as_the_kind_deserves() {
        let mut vitals = s3();
        assert_eq!(vitals.state(), HealthState::Unknown);
        let turns: Vec<_> = (0..4)
            .map(|_| vitals.failed(ErrorKind::Unavailable))
            .collect();
        assert_eq!(turns, [Turn::None, Turn::None, Turn::Away, Turn::None]);
        assert_eq!(vitals.state(), HealthState::Unhealthy);
        assert_eq!(vitals.answered(Duration::ZERO), Turn::Back);
        assert_eq!(vitals.state(), HealthState::Healthy);
        let mut share = Vitals::new(OriginKind::Nfs);
        assert_eq!(share.failed(ErrorKind::DeadlineExceeded), Turn::Away);
        let mut listed = s3();
        assert_eq!(listed.lost(), Turn::Away);
    }

    #[test]
    fn a_success_in_between_starts_the_count_over() {
        let mut vitals = s3();
        for _ in 0..10 {
            assert_eq!(vitals.missed(), Turn::None);
            assert_eq!(vitals.missed(), Turn::None);
            assert_eq!(vitals.is_there(), Turn::None);
        }
    }

    #[test]
    fn what_uses_say_is_sure_once_a_check_says_it_too() {
        let mut vitals = away(3);
        assert!(vitals.standing(1).is_away() && !vitals.standing(1).is_surely_away());
        vitals.check_failed();
        assert!(vitals.standing(1).is_surely_away());
        vitals.is_there();
        assert!(!vitals.standing(1).is_surely_away());
        let mut doubtful = s3();
        doubtful.check_failed();
        assert!(
            !doubtful.standing(1).is_surely_away(),
            "one failure is none"
        );
    }

    #[test]
    fn a_failure_of_the_file_is_none_of_the_origin() {
        let mut vitals = Vitals::new(OriginKind::Local);
        for kind in [ErrorKind::NotFound, ErrorKind::Stale, ErrorKind::Denied] {
            assert_eq!(vitals.failed(kind), Turn::None);
        }
        assert_eq!(vitals.failures(), 0);
    }

    #[test]
    fn what_a_source_has_to_do_counts_like_a_longer_way() {
        let near = seen(3).standing(1);
        assert_eq!(near.loaded(0), near);
        assert!(near.loaded(2) < seen(10).standing(1));
        assert!(near.loaded(3) > seen(10).standing(1));
        let idle = s3().standing(1);
        assert!(idle < idle.loaded(1) && idle.loaded(1) < idle.loaded(2));
        assert!(
            near.loaded(u32::MAX) < seen(1).standing(2),
            "priority decides"
        );
    }

    #[test]
    fn what_is_partly_there_stays_so_until_it_is_listed_again() {
        let mut vitals = s3();
        vitals.checked(true);
        vitals.answered(Duration::ZERO);
        vitals.is_there();
        assert_eq!(vitals.state(), HealthState::Degraded);
        vitals.checked(false);
        assert_eq!(vitals.state(), HealthState::Healthy);
    }

    #[test]
    fn sources_are_asked_by_presence_then_priority_then_parts_then_latency() {
        let mut partial = seen(1);
        partial.checked(true);
        let in_order = [
            s3().standing(1),
            seen(10).standing(1),
            seen(20).standing(1),
            partial.standing(1),
            seen(1).standing(20),
            away(3).standing(20),
            away(9).standing(1),
        ];
        assert!(in_order.is_sorted(), "{in_order:?}");
        let distinct = in_order.windows(2).all(|pair| pair[0] != pair[1]);
        assert!(distinct, "{in_order:?}");
        assert!(in_order[5].is_away() && !in_order[4].is_away());
    }
}
