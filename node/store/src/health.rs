//! Whether the disk can be written to. Pure: time and outcomes come in, a verdict goes out.
//!
//! A full disk is tried again every five seconds, or when something was evicted; a failing one
//! after five seconds, then twice as long each time, up to five minutes. One write in each interval
//! goes through as the trial; the others are refused without touching the disk.

use std::io;
use std::time::Duration;

/// The first wait after a failure, and each after a full disk.
const RETRY_MIN: Duration = Duration::from_secs(5);
/// The longest wait.
const RETRY_MAX: Duration = Duration::from_secs(300);

/// How the disk under the store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskHealth {
    /// It takes what is written.
    Healthy,
    /// It is full: nothing is kept until there is room.
    Full,
    /// It fails (I/O errors, read-only): nothing is kept until a trial succeeds.
    Failing,
}

/// What a failed operation says about the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    Full,
    Failing,
}

impl Failure {
    /// What an error of the disk means.
    pub(crate) fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            _ => Self::Failing,
        }
    }
}

/// The machine. Timestamps are from any start and never go back.
#[derive(Debug)]
pub(crate) struct Health {
    state: DiskHealth,
    retry_at: Duration,
    wait: Duration,
}

impl Health {
    pub(crate) fn new() -> Self {
        Self {
            state: DiskHealth::Healthy,
            retry_at: Duration::ZERO,
            wait: RETRY_MIN,
        }
    }

    pub(crate) fn state(&self) -> DiskHealth {
        self.state
    }

    /// True if a write may be tried now; of an unhealthy disk, once in each interval.
    pub(crate) fn may_try(&mut self, now: Duration) -> bool {
        if self.state == DiskHealth::Healthy {
            return true;
        }
        let is_due = now >= self.retry_at;
        if is_due {
            self.retry_at = now + self.wait;
        }
        is_due
    }

    /// A write or sync failed. The new state if it changed.
    pub(crate) fn failed(&mut self, failure: Failure, now: Duration) -> Option<DiskHealth> {
        let state = match failure {
            Failure::Full => DiskHealth::Full,
            Failure::Failing => DiskHealth::Failing,
        };
        self.wait = match (self.state, state) {
            (DiskHealth::Failing, DiskHealth::Failing) => (self.wait * 2).min(RETRY_MAX),
            _ => RETRY_MIN,
        };
        self.retry_at = now + self.wait;
        self.enter(state)
    }

    /// A write and its sync succeeded. The new state if it changed.
    pub(crate) fn succeeded(&mut self) -> Option<DiskHealth> {
        self.wait = RETRY_MIN;
        self.enter(DiskHealth::Healthy)
    }

    /// Space was given back: a full disk may be tried at once.
    pub(crate) fn freed(&mut self, now: Duration) {
        if self.state == DiskHealth::Full {
            self.retry_at = now;
        }
    }

    fn enter(&mut self, state: DiskHealth) -> Option<DiskHealth> {
        let changed = self.state != state;
        self.state = state;
        changed.then_some(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_full_disk_is_tried_every_five_seconds_or_when_room_was_made() {
        let mut health = Health::new();
        assert!(health.may_try(at(0)));
        assert_eq!(health.failed(Failure::Full, at(10)), Some(DiskHealth::Full));
        assert!(!health.may_try(at(14)));
        assert!(health.may_try(at(15)));
        assert!(!health.may_try(at(15)), "one trial in each interval");
        assert_eq!(health.failed(Failure::Full, at(15)), None);
        assert!(!health.may_try(at(19)));
        health.freed(at(19));
        assert!(health.may_try(at(19)));
        assert_eq!(health.succeeded(), Some(DiskHealth::Healthy));
        assert!(health.may_try(at(19)));
        assert_eq!(health.succeeded(), None);
    }

    #[test]
    fn a_failing_disk_is_tried_less_and_less_often() {
        let mut health = Health::new();
        let mut now = at(0);
        assert_eq!(
            health.failed(Failure::Failing, now),
            Some(DiskHealth::Failing)
        );
        for wait in [5, 10, 20, 40, 80, 160, 300, 300] {
            health.freed(now);
            assert!(!health.may_try(now + at(wait) - Duration::from_nanos(1)));
            now += at(wait);
            assert!(health.may_try(now));
            assert_eq!(health.failed(Failure::Failing, now), None);
        }
        health.succeeded();
        health.failed(Failure::Failing, now);
        assert!(health.may_try(now + at(5)));
    }

    #[test]
    fn an_error_is_full_or_failing() {
        let of = |code| Failure::of(&io::Error::from_raw_os_error(code));
        assert_eq!(of(rustix::io::Errno::NOSPC.raw_os_error()), Failure::Full);
        assert_eq!(of(rustix::io::Errno::DQUOT.raw_os_error()), Failure::Full);
        assert_eq!(of(rustix::io::Errno::IO.raw_os_error()), Failure::Failing);
        assert_eq!(of(rustix::io::Errno::ROFS.raw_os_error()), Failure::Failing);
    }
}
