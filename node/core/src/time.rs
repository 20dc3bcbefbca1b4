//! Time as an argument.

use std::time::Duration;

/// A moment, counted from a start that the caller chooses; it never goes back.
///
/// Pure machines take it in place of a clock, so that a test can make hours pass at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub Duration);

impl Timestamp {
    /// The moment `after` later; the last representable one at most.
    #[must_use]
    pub fn plus(self, after: Duration) -> Self {
        Self(self.0.saturating_add(after))
    }

    /// How long ago `earlier` was; nothing if it is later.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}
