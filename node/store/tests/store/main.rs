//! The store as its callers see it, on a real disk and on one that forgets what was not synced.

#![expect(clippy::unwrap_used, reason = "test code")]
#![expect(
    clippy::single_range_in_vec_init,
    reason = "lists of one range are meant"
)]

mod basic;
mod crash;
mod directory;
mod fault;
mod heal;
mod limits;
mod provenance;
mod refusal;
mod share;
mod support;
mod threads;
mod verified;
