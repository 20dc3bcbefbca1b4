//! What the event bus carries.

use crate::id::OriginId;

/// Something that happened, for whoever subscribed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// Seconds since 1970.
    pub unix_seconds: i64,
    /// The origin concerned.
    pub origin: OriginId,
    /// The path in the mounted tree, where one is concerned.
    pub path: Option<String>,
}

/// The kinds of [`Event`] that exist today.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventKind {
    /// A file joined the tree.
    FileAdded,
    /// A file left the tree.
    FileRemoved,
    /// A file's content or place in the tree changed.
    FileModified,
    /// An origin answers again.
    OriginConnected,
    /// An origin stopped answering.
    OriginDisconnected,
    /// A scan of an origin began.
    SyncStarted,
    /// A scan of an origin ended.
    SyncCompleted,
    /// A file was opened.
    FileAccessed,
}
