//! Bytes that shall come to be in the store, though nobody waits for them.

use std::ops::Range;

use super::flights::Flights;
use super::{PIECE_OF_FILE_BYTES_MAX, PrefetchState};
use crate::extents::Extents;

/// Asks the store which parts of a range of whole blocks it lacks.
pub(super) type Absent<'a> = &'a mut dyn FnMut(Range<u64>) -> Vec<Range<u64>>;

/// A fill or a prefetch: goes over its bytes once. What arrived and is gone again is not fetched
/// again, for a store that cannot keep it would make that a loop.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    /// What was neither found in the store nor seen to arrive.
    left: Extents,
    failed: bool,
}

impl Wish {
    pub(super) fn new(ranges: impl Iterator<Item = Range<u64>>) -> Self {
        Self {
            left: ranges.collect(),
            failed: false,
        }
    }

    pub(super) fn state(&self) -> PrefetchState {
        match (self.left.is_empty(), self.failed) {
            (true, _) => PrefetchState::Done,
            (false, true) => PrefetchState::Failed,
            (false, false) => PrefetchState::Running,
        }
    }

    /// True if any byte of `range` is still to come.
    pub(super) fn wants(&self, range: &Range<u64>) -> bool {
        !self.failed && holds_some(&self.left, range)
    }

    pub(super) fn arrived(&mut self, range: Range<u64>) {
        self.left.remove(range);
    }

    /// A flight ended before it brought `range`; gives up if that was wanted.
    pub(super) fn failed(&mut self, range: &Range<u64>) {
        self.failed |= self.wants(range);
    }

    /// The first piece, in the order of `parts`, that is neither in the store nor on its way.
    pub(super) fn next_piece(
        &mut self,
        parts: &[Range<u64>],
        flights: &Flights,
        absent: Absent<'_>,
    ) -> Option<Range<u64>> {
        if self.failed {
            return None;
        }
        for part in parts {
            let mut at = part.start;
            while let Some(next) = self.next_left(at..part.end) {
                at = next
                    .end
                    .min(next.start.saturating_add(PIECE_OF_FILE_BYTES_MAX));
                let piece = next.start..at;
                let lacking: Extents = absent(piece.clone()).into_iter().collect();
                for present in lacking.missing(piece.clone()) {
                    self.left.remove(present);
                }
                let rest = flights.not_on_way(lacking.within(piece));
                if let Some(range) = rest.iter().next() {
                    return Some(range);
                }
            }
        }
        None
    }

    fn next_left(&self, range: Range<u64>) -> Option<Range<u64>> {
        self.left.within(range).next()
    }
}

/// True if any byte of `range` is in `extents`.
pub(super) fn holds_some(extents: &Extents, range: &Range<u64>) -> bool {
    extents.within(range.clone()).next().is_some()
}
