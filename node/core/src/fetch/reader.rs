//! How one handle reads: at random, in sequence, or as a player.

use std::ops::Range;

use super::{
    PLAY_AFTER, PLAY_AFTER_BYTES, READAHEAD_AFTER_BYTES, SEQUENCE_TOLERANCE_BYTES,
    WINDOW_BYTES_MAX, WINDOW_BYTES_MIN, WINDOW_BYTES_TRUSTED,
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
    /// It is taken for one who reads to the end, until it seeks.
    is_trusted: bool,
    /// It was told that it has read the whole file.
    is_whole_told: bool,
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
    /// How much between the two was read, in pages. Each counts once.
    bytes: u64,
    /// The pages read so near `position` that they may be asked for again.
    seen: Extents,
}

impl Reader {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            opened: now,
            is_player: false,
            is_trusted: false,
            is_whole_told: false,
            run: None,
            window: WINDOW_BYTES_MIN,
            window_max: WINDOW_BYTES_MAX,
            consumed: 0,
        }
    }

    /// Takes it for one who reads from the start to the end: there is nothing to be shown first, and
    /// the header is read like all else.
    pub(super) fn trust(&mut self) {
        self.is_trusted = self.run.is_none();
    }

    /// Once: true if it has read the file, of `size` bytes, from its start to its end. Small files
    /// do not count: to read one whole shows nothing.
    pub(super) fn take_whole(&mut self, size: u64, header: &Extents) -> bool {
        let is_header = |range: Range<u64>| header.missing(range).is_empty();
        let is_whole = self.run.as_ref().is_some_and(|run| {
            run.is_ahead() && is_header(0..run.start) && is_header(run.position.min(size)..size)
        });
        is_whole && !std::mem::replace(&mut self.is_whole_told, true)
    }

    /// Counts a read. Where it is a seek away from bytes that are read ahead, returns where those
    /// would lie.
    pub(super) fn observe(&mut self, range: Range<u64>, header: &Extents) -> Option<Range<u64>> {
        self.is_trusted &= self.run.is_some() || range.start <= SEQUENCE_TOLERANCE_BYTES;
        let none = Extents::new();
        let header = if self.is_trusted { &none } else { header };
        let body = header.missing(range);
        let (first, last) = (body.first()?, body.last()?);
        let hull = first.start..last.end;
        let run = self
            .run
            .as_mut()
            .filter(|run| run.goes_on_at(hull.start, header));
        let Some(run) = run else {
            let left = self.ahead();
            self.is_trusted &= self.run.is_none();
            self.run = Some(Run::new(hull, &body));
            self.window = match self.is_trusted {
                true => WINDOW_BYTES_TRUSTED,
                false => WINDOW_BYTES_MIN,
            };
            self.consumed = 0;
            return left;
        };
        let is_ahead = run.is_ahead() || self.is_trusted;
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
        let run = self.run.as_ref();
        let run = run.filter(|run| run.is_ahead() || (self.is_trusted && run.is_dense()))?;
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
            let pages = to_pages(part);
            new += body_len(&self.seen.missing(pages.clone()));
            self.seen.insert(pages);
        }
        self.seen
            .remove(0..self.position.saturating_sub(SEQUENCE_TOLERANCE_BYTES));
        let before = self.bytes;
        let span = to_pages(&(self.start..self.position));
        self.bytes = (before + new).min(span.end - span.start);
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

/// The pages that hold `range`.
fn to_pages(range: &Range<u64>) -> Range<u64> {
    let end = range.end.div_ceil(PAGE_BYTES).saturating_mul(PAGE_BYTES);
    range.start / PAGE_BYTES * PAGE_BYTES..end
}

fn body_len(parts: &[Range<u64>]) -> u64 {
    parts.iter().map(|part| part.end - part.start).sum()
}

#[cfg(test)]
mod tests {
    use super::super::SEQUENCE_TOLERANCE_BYTES as TOLERANCE;
    use super::*;

    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;

    fn reader() -> Reader {
        Reader::new(Timestamp::default())
    }

    /// Reads in sequence; returns what a seek left.
    fn play(reader: &mut Reader, range: Range<u64>) -> Option<Range<u64>> {
        let starts = range.clone().step_by(128 << 10);
        let requests = starts.map(|at| at..(at + 128 * KIB).min(range.end));
        let left: Vec<_> = requests
            .filter_map(|request| reader.observe(request, &Extents::new()))
            .collect();
        assert!(left.len() <= 1, "only the first can be a seek");
        left.into_iter().next()
    }

    #[test]
    fn a_request_near_the_last_goes_on_in_sequence() {
        // After 2 MiB, a request at some place: is the window still open?
        let check = |at: u64, expect| {
            let mut reader = reader();
            play(&mut reader, 0..2 * MIB);
            reader.observe(at..at + 4 * KIB, &Extents::new());
            assert_eq!(reader.ahead().is_some(), expect, "at {at}");
        };
        check(2 * MIB, true);
        check(2 * MIB + TOLERANCE, true);
        check(2 * MIB + TOLERANCE + 1, false);
        check(2 * MIB - TOLERANCE, true);
        check(2 * MIB - TOLERANCE - 1, false);
        check(0, false);
    }

    #[test]
    fn the_same_bytes_count_once() {
        let mut reader = reader();
        for _ in 0..100 {
            play(&mut reader, 0..256 * KIB);
        }
        assert_eq!(reader.ahead(), None);
        assert_eq!(reader.position(), 256 * KIB);
    }

    #[test]
    fn small_requests_count_as_much_as_large_ones() {
        let mut reader = reader();
        for at in (0..READAHEAD_AFTER_BYTES - 2 * PAGE_BYTES).step_by(1000) {
            reader.observe(at..at + 1000, &Extents::new());
            assert_eq!(reader.ahead(), None, "at {at}");
        }
        let at = reader.position();
        play(&mut reader, at..READAHEAD_AFTER_BYTES);
        let from = READAHEAD_AFTER_BYTES;
        assert_eq!(reader.ahead(), Some(from..from + WINDOW_BYTES_MIN));
    }

    #[test]
    fn the_window_doubles_as_it_is_consumed() {
        let mut reader = reader();
        let mut at = READAHEAD_AFTER_BYTES;
        play(&mut reader, 0..at);
        for expect in [
            256 * KIB,
            512 * KIB,
            MIB,
            2 * MIB,
            4 * MIB,
            8 * MIB,
            8 * MIB,
        ] {
            assert_eq!(reader.window(), expect);
            play(&mut reader, at..at + expect - 128 * KIB);
            assert_eq!(reader.window(), expect);
            play(&mut reader, at + expect - 128 * KIB..at + expect);
            at += expect;
        }
    }

    #[test]
    fn waste_halves_how_far_the_window_grows_until_trust_is_earned() {
        let mut reader = reader();
        play(&mut reader, 0..20 * MIB);
        for (seek, expect) in [4 * MIB, 2 * MIB, MIB, 512 * KIB, 256 * KIB, 256 * KIB]
            .into_iter()
            .enumerate()
        {
            reader.wasted();
            let at = 100 * MIB * (seek as u64 + 1);
            let left = play(&mut reader, at..at + READAHEAD_AFTER_BYTES);
            assert!(left.is_some());
            assert_eq!(reader.window(), WINDOW_BYTES_MIN, "a seek starts it over");
            play(
                &mut reader,
                at + READAHEAD_AFTER_BYTES..at + WINDOW_BYTES_MAX - 128 * KIB,
            );
            assert_eq!(reader.window(), expect);
        }
        play(&mut reader, 900 * MIB..930 * MIB);
        assert_eq!(reader.window(), WINDOW_BYTES_MAX);
    }

    #[test]
    fn a_header_in_between_is_no_distance() {
        let mut header = Extents::new();
        header.insert(MIB..30 * MIB);
        let mut reader = reader();
        play(&mut reader, 0..MIB);
        reader.observe(5 * MIB..6 * MIB, &header);
        assert_eq!(reader.position(), MIB, "not counted");
        reader.observe(29 * MIB..31 * MIB, &header);
        assert_eq!(reader.position(), 31 * MIB, "the part behind it is");
        assert_eq!(reader.run.as_ref().map(|run| run.bytes), Some(2 * MIB));
    }

    #[test]
    fn what_is_remembered_of_a_run_is_bounded() {
        let mut reader = reader();
        for at in (0..40 * MIB).step_by(8192) {
            reader.observe(at..at + 1, &Extents::new());
        }
        let run = reader.run.unwrap();
        assert!(run.seen.iter().count() as u64 <= 1 + TOLERANCE / PAGE_BYTES);
    }

    #[test]
    fn a_player_stays_one() {
        let mut reader = reader();
        let at = |ms| Timestamp(std::time::Duration::from_millis(ms));
        play(&mut reader, 0..2 * MIB - 4096);
        reader.classify(at(5000));
        assert!(!reader.is_player() && reader.player_at().is_none());
        play(&mut reader, 2 * MIB - 4096..2 * MIB);
        assert_eq!(reader.player_at(), Some(at(2000)));
        reader.classify(at(1999));
        assert!(!reader.is_player());
        reader.classify(at(2000));
        assert!(reader.is_player() && reader.player_at().is_none());
        play(&mut reader, 90 * MIB..90 * MIB + 1);
        reader.classify(at(3000));
        assert!(reader.is_player());
    }
}
