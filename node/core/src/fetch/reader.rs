//! How one handle reads: at random, in sequence, or as a player.

use std::ops::Range;

use super::{
    PLAY_AFTER, PLAY_AFTER_BYTES, READAHEAD_AFTER_BYTES, SEQUENCE_TOLERANCE_BYTES,
    WINDOW_BYTES_MAX, WINDOW_BYTES_MIN,
};
use crate::extents::Extents;
use crate::time::Timestamp;

/// The unit in which it is remembered what was read: a page, for the kernel reads no less.
const PAGE_BYTES: u64 = 4096;

/// What is known of one handle.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    opened: Timestamp,
    is_player: bool,
    run: Option<Run>,
    /// How far is read ahead while it reads in sequence.
    window: u64,
    /// How far the window may grow: halved by waste.
    window_max: u64,
    /// What was read in sequence since the window last grew.
    consumed: u64,
}

/// A run of requests in sequence.
#[derive(Clone, Debug)]
struct Run {
    /// The first byte.
    start: u64,
    /// Behind the last byte.
    position: u64,
    /// How much between the two was read. Each byte counts once.
    bytes: u64,
    /// The pages read so near `position` that they may be asked for again.
    seen: Extents,
}

impl Reader {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            opened: now,
            is_player: false,
            run: None,
            window: WINDOW_BYTES_MIN,
            window_max: WINDOW_BYTES_MAX,
            consumed: 0,
        }
    }

    /// Counts a read. Where it is a seek away from bytes that are read ahead, returns where those
    /// would lie.
    pub(super) fn observe(&mut self, range: Range<u64>, header: &Extents) -> Option<Range<u64>> {
        let body = header.missing(range);
        let (first, last) = (body.first()?, body.last()?);
        let hull = first.start..last.end;
        let run = self
            .run
            .as_mut()
            .filter(|run| run.goes_on_at(hull.start, header));
        let Some(run) = run else {
            let left = self.ahead();
            self.run = Some(Run::new(hull, &body));
            self.window = WINDOW_BYTES_MIN;
            self.consumed = 0;
            return left;
        };
        let is_ahead = run.is_ahead();
        let new = run.add(hull, &body);
        if run.bytes >= WINDOW_BYTES_MAX {
            self.window_max = WINDOW_BYTES_MAX; // it has earned its trust again
        }
        if is_ahead {
            self.grow(new);
        }
        None
    }

    /// Bytes that were read ahead have not been used.
    pub(super) fn wasted(&mut self) {
        self.window_max = (self.window_max / 2).max(WINDOW_BYTES_MIN);
    }

    /// Makes it a player once it is one; it stays one until it is closed.
    pub(super) fn classify(&mut self, now: Timestamp) {
        let is_due = self.player_at().is_some_and(|due| due <= now);
        self.is_player |= is_due;
    }

    /// When it becomes a player, if nothing happens.
    pub(super) fn player_at(&self) -> Option<Timestamp> {
        let run = self
            .run
            .as_ref()
            .filter(|run| run.bytes >= PLAY_AFTER_BYTES)?;
        (!self.is_player && run.is_dense()).then(|| self.opened.plus(PLAY_AFTER))
    }

    pub(super) fn is_player(&self) -> bool {
        self.is_player
    }

    /// Behind the last byte that it read.
    pub(super) fn position(&self) -> u64 {
        self.run.as_ref().map_or(0, |run| run.position)
    }

    /// The size of the window.
    pub(super) fn window(&self) -> u64 {
        self.window
    }

    /// What should be on its way or there while it reads in sequence.
    pub(super) fn ahead(&self) -> Option<Range<u64>> {
        let run = self.run.as_ref().filter(|run| run.is_ahead())?;
        Some(run.position..run.position.saturating_add(self.window))
    }

    /// What it may still ask for in sequence: the same, and what it may have skipped.
    pub(super) fn near(&self) -> Option<Range<u64>> {
        let ahead = self.ahead()?;
        Some(ahead.start.saturating_sub(SEQUENCE_TOLERANCE_BYTES)..ahead.end)
    }

    fn grow(&mut self, consumed: u64) {
        self.consumed += consumed;
        if self.consumed >= self.window {
            self.consumed = 0;
            self.window = (self.window * 2).min(self.window_max);
        }
    }
}

impl Run {
    fn new(hull: Range<u64>, body: &[Range<u64>]) -> Self {
        let mut run = Self {
            start: hull.start,
            position: hull.start,
            bytes: 0,
            seen: Extents::new(),
        };
        run.add(hull, body);
        run
    }

    /// True if a request that starts at `start` goes on in sequence. What lies between in the
    /// header is no distance.
    fn goes_on_at(&self, start: u64, header: &Extents) -> bool {
        let between = start.min(self.position)..start.max(self.position);
        let body = header.missing(between);
        body_len(&body) <= SEQUENCE_TOLERANCE_BYTES
    }

    /// Adds a request; returns how much of it was not read before.
    fn add(&mut self, hull: Range<u64>, body: &[Range<u64>]) -> u64 {
        self.start = self.start.min(hull.start);
        self.position = self.position.max(hull.end);
        let mut new = 0;
        for part in body {
            let pages = part.start / PAGE_BYTES * PAGE_BYTES
                ..part.end.div_ceil(PAGE_BYTES).saturating_mul(PAGE_BYTES);
            new += body_len(&self.seen.missing(pages.clone()));
            self.seen.insert(pages);
        }
        self.seen
            .remove(0..self.position.saturating_sub(SEQUENCE_TOLERANCE_BYTES));
        let before = self.bytes;
        self.bytes = (before + new).min(self.position - self.start);
        self.bytes - before
    }

    /// True if it is worth reading ahead of it.
    fn is_ahead(&self) -> bool {
        self.bytes >= READAHEAD_AFTER_BYTES && self.is_dense()
    }

    /// True if it read most of what it passed: one who samples a file in small steps does not
    /// read it.
    fn is_dense(&self) -> bool {
        self.bytes >= (self.position - self.start) / 2
    }
}

fn body_len(parts: &[Range<u64>]) -> u64 {
    parts.iter().map(|part| part.end - part.start).sum()
}
