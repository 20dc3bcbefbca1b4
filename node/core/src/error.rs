//! What can be done about an error, whatever its cause, and how it is told.

/// What the caller of a failed operation can do about it.
///
/// Every crate's error maps to one kind in an exhaustive match; errno, gRPC codes and exit codes
/// are each derived from the kind in one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ErrorKind {
    /// The thing named does not exist.
    NotFound,
    /// The content changed since it was named: look it up again.
    Stale,
    /// The caller may not do this.
    Denied,
    /// The request itself is wrong.
    Invalid,
    /// The other side is away, slow or failing; another source or a later try may do.
    Unavailable,
    /// The time that the operation had is over.
    DeadlineExceeded,
    /// Bytes do not match what names them.
    Corrupt,
    /// Disk, memory or a quota is used up.
    Exhausted,
    /// The operation was called off.
    Cancelled,
    /// The operation is not offered.
    Unsupported,
}

impl ErrorKind {
    /// True if the same request to the same place may do better later: the fault is the place's, and
    /// not that of what was asked for. Exhaustive on purpose: a new kind must choose.
    pub fn may_pass(self) -> bool {
        match self {
            Self::Unavailable | Self::DeadlineExceeded => true,
            Self::NotFound
            | Self::Stale
            | Self::Denied
            | Self::Invalid
            | Self::Corrupt
            | Self::Exhausted
            | Self::Cancelled
            | Self::Unsupported => false,
        }
    }
}

/// An error with its causes on one line, each behind a colon.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}
