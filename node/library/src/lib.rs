//! The facade that every surface calls: lookup, list, open, read; and the ingest that keeps the
//! index true to the origins.
//!
//! A read goes down: [`Library::open`] resolves an inode to an open file of an origin, and
//! [`OpenFile`] reads it without asking the index again. What changes on an origin comes up the other
//! way: a pass lists it, compares with the index, reads the tags of what is new and commits; each
//! commit tells the kernel adapter what to look up again ([`TreeChanges`]).

mod cache;
mod copies;
mod error;
mod events;
mod fetch;
mod holdings;
mod ingest;
mod keeper;
mod library;
mod locate;
mod open;
mod proof;
mod shared;
mod upstream;

pub use cache::{
    CacheStats, Cleared, PinStatus, Pinned, PrefetchStep, Strategy, Tier, TierStats, VerifyStep,
};
pub use error::Error;
pub use events::{Event, EventKind, Events, Heard};
pub use fetch::FetchOptions;
pub use ingest::{Phase, Progress};
pub use keeper::Cache;
pub use library::{Library, OriginStatus, PeersChanges, Reloaded, TreeChanges};
pub use locate::{Holder, Located};
pub use musicfs_core::health::HealthState;
pub use musicfs_index::{Child, Node, NodeKind, Provenance, Totals, TreeChange};
pub use open::OpenFile;
pub use upstream::{Health, OriginFigures, OriginSetup, Reason};
