//! The words and decisions of MusicFS: ids, versions, tags, path template, file names, ports.
//!
//! This crate is pure: no runtime, clock, randomness, files, sockets or threads. What it decides
//! depends on its arguments alone.

pub mod checksum;
pub mod error;
pub mod extents;
pub mod fetch;
pub mod health;
pub mod id;
pub mod manifest;
pub mod names;
pub mod origin;
pub mod path;
pub mod peer;
pub mod tags;
pub mod template;
pub mod time;
pub mod version;
