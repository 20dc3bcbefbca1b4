//! The metadata index: which files lie where, what their tags say, and the tree made of them.
//!
//! One SQLite database in WAL mode. One thread writes ([`Writer`]); any thread reads, each through a
//! connection of a small pool ([`Reader`]). Nothing is loaded at start: a lookup is one indexed
//! query. Every commit is one revision and leaves rows and tree consistent, so a process killed at
//! any point finds the state of some commit.

mod change;
mod db;
mod error;
mod read;
mod rows;
mod tree;
mod write;
mod writer;

pub use change::{
    Batch, Commit, FileChange, FileKind, FileRecord, Layout, ShownChange, TreeChange,
};
pub use db::{Index, Opened};
pub use error::Error;
pub use read::{
    Child, FileBelow, Found, KnownFile, Node, NodeKind, OriginRow, Pin, Provenance, Reader, Totals,
    Walk, same_content,
};
pub use write::{FORGET_FILES_MAX, PIN_PATH_LEN_MAX, PINS_MAX};
pub use writer::{Listening, OriginSpec, Writer};
