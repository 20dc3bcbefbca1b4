//! Remote content on disk: objects and their maps, the index of chunks, budget and eviction.
//!
//! An object is the bytes of one version of one file, in a sparse file of its own, named by the
//! version key; beside it a *map* says which blocks are there and what their checksums are. Bytes
//! become durable before the map that tells of them, and a map stops telling of bytes before they go.
//! So after a crash at any point everything that a map tells of is there, and the rest is absent.
//!
//! # Locks
//!
//! In this order; whoever holds one takes only those that come behind it:
//!
//! 0. `Store::gate`: shared by whoever changes files, never taken twice.
//! 1. `Inner::io` of one object: around every change of its files. A second one only by `try_lock`
//!    (a victim of eviction, an equal object).
//! 2. `Store::evictor`: one thread at a time makes room.
//! 3. one of `Store::opening`: around the first look at an object's files.
//! 4. the leaves, of which no two are held together, and none while a disk is waited for:
//!    `Store::ledger`, `Store::live`, `Store::health`, `Inner::state`, `Object::inner`.
//! 5. what a watcher takes; the lock inside `Index`, a leaf too, which is held while SQLite works; and `Store::verified`,
//!    taken under `Inner::state`, so that no block goes away between the two.
//!
//! Readers take none but leaves: what they read while blocks go away is thrown away, which
//! `State::epoch` tells them.

mod blocks;
mod budget;
mod commit;
mod disk;
mod error;
mod evict;
mod finish;
mod health;
mod index;
mod inner;
mod layout;
mod live;
mod lookup;
mod map;
mod marker;
mod object;
mod read;
mod recover;
mod scrub;
mod share;
mod store;
mod types;
mod verified;
mod write;

pub use disk::{Disk, DiskFile, DiskStat, RealDisk};
pub use error::Error;
pub use health::DiskHealth;
pub use object::{Object, Passthrough};
pub use share::{Kept, Loan, Provenance, Watcher};
pub use store::Store;
pub use types::{
    Checked, Class, ClassStats, Cleared, Config, Finished, Holding, Limits, OBJECT_BYTES_MAX,
    Recovered, Stats, Verified, Why, Written,
};
