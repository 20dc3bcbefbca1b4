//! What to fetch of a remote file, when, and with which urgency.
//!
//! One [`Planner`] stands for one open remote object. Reads go in, range requests come out as
//! [`Command`]s, and what becomes of them goes in again. A driver performs the commands; the store
//! knows which blocks are there. The planner knows what is on its way, and never asks for a byte
//! that is: each lies in one flight at most.
//!
//! A read waits only for the bytes that it lacks. What else is fetched is a guess from how a
//! handle reads: a *probe* gets nothing more; a reader that goes on in sequence gets a window
//! ahead of it; a *player* gets the rest of the file, if so configured.
//!
//! Beside it lie the other decisions about a flight: [`Budget`] admits flights over all objects,
//! [`Rota`] says whom to ask after a source failed, and [`Retry`] when again; [`Latency`] how long to
//! wait for one.

mod budget;
mod flights;
mod latency;
mod pause;
mod planner;
mod reader;
mod retry;
mod rota;
mod streak;
mod wish;

#[cfg(test)]
#[expect(
    clippy::single_range_in_vec_init,
    reason = "a demand of one range is meant"
)]
mod tests;

use std::ops::Range;
use std::time::Duration;

pub use budget::Budget;
pub use latency::Latency;
pub use planner::Planner;
pub use retry::Retry;
pub use rota::{Next, Rota};
pub use streak::Streak;

use crate::origin::PIECE_BYTES_MAX;

/// One open file handle, for as long as it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HandleId(u32);

/// One read that waits for bytes. Never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadId(u64);

/// One range on its way, unique within its planner. Never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlightId(u64);

/// One prefetch on request. Never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PrefetchId(u64);

/// What a flight is for; the first in order is served first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Somebody waits for it.
    Demand,
    /// A sequential reader will soon want it.
    Readahead,
    /// The rest of a file that is being played.
    Fill,
    /// Asked for by the user ahead of time.
    Prefetch,
}

/// What the configuration says about fetching.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Fetch the rest of a file that is being played.
    pub complete_on_play: bool,
}

/// What the driver is to do. Commands are performed in the order in which they are polled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Fetch this range as one stream. It starts at a block and ends at one, or with the file.
    Start {
        /// Names the flight from now on.
        flight: FlightId,
        /// What to fetch; not empty.
        range: Range<u64>,
        /// How urgent it is.
        priority: Priority,
    },
    /// It became more urgent than it was.
    Raise {
        /// A flight that has not ended.
        flight: FlightId,
        /// Its priority from now on.
        priority: Priority,
    },
    /// The flight ends at `end` now: what the stream brings from there on is thrown away, for
    /// another flight may fetch it. Once everything before has arrived, it is complete.
    ///
    /// `end` lies more than [`PIECE_BYTES_MAX`] ahead of what was last told to have arrived: the
    /// piece that the driver holds at this moment lies before it.
    Shorten {
        /// A flight that has not ended.
        flight: FlightId,
        /// The new end, at a block; before the old one.
        end: u64,
    },
    /// Nobody wants what is left of it: end it, and tell [`Ended::Stopped`].
    Stop {
        /// A flight that has not ended.
        flight: FlightId,
    },
}

/// How a flight ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All of it arrived.
    Complete,
    /// No source could bring what is left, retries included.
    Failed,
    /// It was ended before its time.
    Stopped,
}

/// How far a prefetch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrefetchState {
    /// Something is still to be fetched.
    Running,
    /// Everything arrived, or was there before.
    Done,
    /// One of its flights failed. Nothing more is fetched for it.
    Failed,
}

/// How far a request may be from where its handle is and still go on in sequence: the kernel reads
/// ahead with two requests of 128 KiB, which reach us in any order.
pub const SEQUENCE_TOLERANCE_BYTES: u64 = 256 << 10;

/// How much is read in sequence, behind the header extents, before anything is read ahead. Tag
/// readers stay within those extents; the one that goes on (mediainfo, of a WAV, to 1.25 MB) costs a
/// window or two. On a line of 40 ms each 128 KiB of this costs a reader one round trip.
pub const READAHEAD_AFTER_BYTES: u64 = 512 << 10;

/// How much a player has read in sequence at least: more than what starts readahead, for a fill
/// costs the whole file.
pub const PLAY_AFTER_BYTES: u64 = 2 << 20;

/// How long a player has had its file open at least. A scanner or a copy of a small file is done
/// by then.
pub const PLAY_AFTER: Duration = Duration::from_secs(2);

/// The first window: two requests of the kernel, so that a wrong guess costs no more than the
/// kernel's own.
pub const WINDOW_BYTES_MIN: u64 = 256 << 10;

/// The first window of a handle that is trusted to read to the end: what 100 Mbit/s carries in two
/// round trips of 40 ms, so that a long line is full from the first request on.
pub const WINDOW_BYTES_TRUSTED: u64 = 1 << 20;

/// How long after one file was read whole the next one is trusted to be.
pub const STREAK_LASTS: Duration = Duration::from_secs(5);

/// How many files read whole are remembered: as many readers at once each have their next one.
pub const STREAK_COUNT_MAX: usize = 16;

/// The largest window: what 1 Gbit/s carries in 64 ms, a long round trip.
pub const WINDOW_BYTES_MAX: u64 = 8 << 20;

/// The largest flight of a fill or a prefetch: long enough that its round trip does not count,
/// short enough that what is more urgent soon gets its turn.
pub const PIECE_OF_FILE_BYTES_MAX: u64 = 8 << 20;

/// How many flights read ahead for one handle: one that delivers and one that is being asked for.
pub const READAHEAD_FLIGHTS_COUNT_MAX: usize = 2;

/// How many flights of one object are under way that nobody demanded: four readers in sequence.
pub const GUESSED_FLIGHTS_COUNT_MAX: usize = 8;

/// How far a demand may be ahead of its flight and still wait for it. At 20 Mbit/s the bytes
/// between take 0.4 s, a few round trips. It is also as much as a driver may hold and not yet have
/// told of, so that no flight is cut inside of a piece in hand.
pub const CUT_AFTER_BYTES: u64 = PIECE_BYTES_MAX as u64;

/// How long nothing is fetched on a guess after a flight failed; doubles with each failure until
/// bytes arrive.
pub const PAUSE_MIN: Duration = Duration::from_secs(1);

/// The longest such pause: a player that stays open finds its origin again within a minute.
pub const PAUSE_MAX: Duration = Duration::from_secs(60);
