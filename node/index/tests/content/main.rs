//! Content by version, paths, walks, pins, and what goes out of use: against naive models.

#![expect(clippy::unwrap_used, reason = "test code")]

mod forget;
mod paths;
mod pins;
mod versions;
mod world;
