//! What is decided about other nodes. Pure: no runtime, clock, randomness or sockets; time and entropy are
//! arguments, and equal inputs give equal outputs in equal order.

pub(crate) mod admission;
pub(crate) mod announce;
pub(crate) mod batch;
pub(crate) mod book;
pub(crate) mod bucket;
pub(crate) mod chance;
pub(crate) mod demotion;
pub(crate) mod host;
pub(crate) mod rate;
pub(crate) mod reach;
pub(crate) mod roster;
