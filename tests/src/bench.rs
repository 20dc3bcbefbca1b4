//! What benchmarks have in common: work whose time is taken, and what processes take for it.

mod family;
mod work;

pub use family::Family;
pub use work::{
    HEAD_BYTES, SEEK_OFFSET, drop_caches, median, random_reads, read_all, read_at, read_by,
    scan_tags, stat, timed, walk,
};
