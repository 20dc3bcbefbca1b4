//! How far a pass is.

/// What a pass is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Listing the origin, and reading what is new as it is found.
    #[default]
    Scanning,
    /// Reading what turned out to be new at the end of the listing.
    Indexing,
    /// Done.
    Complete,
}

/// How far a pass is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// What it is doing.
    pub phase: Phase,
    /// Files listed.
    pub files_scanned: u64,
    /// Files added, changed, moved or removed.
    pub files_changed: u64,
    /// Content bytes read.
    pub bytes_read: u64,
    /// The directory listed last.
    pub current: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
}
