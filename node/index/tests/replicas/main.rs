//! Copies of one file on several origins: one entry of the tree, whatever the order of events.

#![expect(clippy::unwrap_used, reason = "test code")]

mod merging;
mod model;
mod proofs;
mod world;
