//! Files read one after the other: a copy, an album that is played without a gap.

use std::collections::VecDeque;

use super::{STREAK_COUNT_MAX, STREAK_LASTS};
use crate::time::Timestamp;

/// Remembers that files were read from their start to their end. The next that is opened is trusted
/// to be read so too, and need not show it first; that can be wrong once for each file read.
#[derive(Clone, Debug, Default)]
pub struct Streak {
    /// When files were read to their end, the oldest first.
    ends: VecDeque<Timestamp>,
}

impl Streak {
    /// A file was read to its end.
    pub fn ended(&mut self, now: Timestamp) {
        if self.ends.len() == STREAK_COUNT_MAX {
            self.ends.pop_front();
        }
        self.ends.push_back(now);
    }

    /// True if the file that is opened now may be trusted: for each that ended once, and soon.
    pub fn take(&mut self, now: Timestamp) -> bool {
        while let Some(end) = self.ends.pop_front() {
            if now <= end.plus(STREAK_LASTS) {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp(Duration::from_millis(ms))
    }

    #[test]
    fn each_file_read_whole_is_followed_by_one_that_is_trusted() {
        let mut streak = Streak::default();
        assert!(!streak.take(at(0)));
        streak.ended(at(0));
        streak.ended(at(10));
        assert!(streak.take(at(20)) && streak.take(at(20)));
        assert!(!streak.take(at(20)));
        streak.ended(at(1000));
        assert!(!streak.take(at(6001)), "too long ago");
        for ms in 0..2 * STREAK_COUNT_MAX as u64 {
            streak.ended(at(ms));
        }
        let taken = (0..100).filter(|_| streak.take(at(100))).count();
        assert_eq!(taken, STREAK_COUNT_MAX);
    }
}
