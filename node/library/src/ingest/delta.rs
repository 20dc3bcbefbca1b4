//! Re-tagged files: the audio of a new version is taken from the old one, which the cache holds,
//! where the origin's own checksum proves that the result is the new version.
//!
//! A candidate is put together from the new version's ends, fetched from the origin, and the old
//! version's audio, wherever it lies now. One pass compares it with the checksum; only then is any
//! of it kept. What cannot be proven is fetched when it is read, like the content of any new file.

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;

use musicfs_core::checksum::Checksum;
use musicfs_core::error::with_causes;
use musicfs_core::extents::{BLOCK_BYTES, Extents, to_blocks};
use musicfs_core::origin::{Origin, OriginError};
use musicfs_core::path::OriginPath;
use musicfs_core::tags::AudioLayout;
use musicfs_store::{Class, Object, Written};

use super::extract::{Kept, Ranged};
use super::reconcile::Replaced;
use crate::fetch::{Counters, Fetcher};

/// What of a candidate is in memory at a time: whole blocks.
const PIECE_BYTES: u64 = 16 * BLOCK_BYTES;

/// Behind the header tier, a delta fetches at most one part in so many of the file: what needs more
/// is hardly cheaper than the file.
const EXTRA_PARTS_MIN: u64 = 10;

/// A file that was read again because it has a new version, and what can be done without all of it.
pub(crate) struct Delta {
    pub(crate) fetcher: Arc<Fetcher>,
    pub(crate) origin: Arc<dyn Origin>,
    pub(crate) path: OriginPath,
    /// The version that was known before.
    pub(crate) replaced: Replaced,
}

/// What became of a file.
enum Outcome {
    /// There was nothing to gain, or nothing to make it of.
    Untried,
    /// It could have been, but for this; it is fetched when it is read.
    Unproven(&'static str),
    /// So many bytes were proven and kept.
    Proven { bytes: u64 },
}

impl Delta {
    /// Completes the new version in the store if that can be proven. Its header tier must be there.
    ///
    /// # Errors
    /// [`OriginError::Changed`] if there is a newer version by now. Any other failure only means
    /// that the file is fetched when it is read.
    pub(super) fn apply(
        &self,
        source: &mut Ranged,
        layout: &AudioLayout,
    ) -> Result<(), OriginError> {
        let counters = &self.fetcher.counters;
        let unproven = |why: &str| {
            Counters::add(&counters.deltas_unproven, 1);
            tracing::debug!(
                origin = %self.origin.id(),
                file = %self.path,
                why,
                "a changed file will be fetched anew when it is read"
            );
        };
        match self.attempt(source, layout) {
            Ok(Outcome::Untried) => {}
            Ok(Outcome::Unproven(why)) => unproven(why),
            Ok(Outcome::Proven { bytes }) => {
                Counters::add(&counters.deltas, 1);
                Counters::add(&counters.delta_bytes_saved, bytes);
                tracing::info!(
                    origin = %self.origin.id(),
                    file = %self.path,
                    bytes_saved = bytes,
                    "of a changed file only the tags were fetched"
                );
            }
            Err(changed @ OriginError::Changed { .. }) => return Err(changed),
            Err(error) => unproven(&with_causes(&error)),
        }
        Ok(())
    }

    fn attempt(&self, source: &mut Ranged, layout: &AudioLayout) -> Result<Outcome, OriginError> {
        let size = source.version().size;
        let Some(kept) = &source.kept else {
            return Ok(Outcome::Untried);
        };
        let Some(shift) = Shift::between(&self.replaced, size, layout) else {
            return Ok(Outcome::Untried);
        };
        let edges = shift.edges(size);
        let lacking: Extents = edges.iter().flat_map(|edge| kept.absent(edge)).collect();
        let saved = len(&kept.absent(0..size)) - lacking.len();
        if saved == 0 || lacking.len() > size / EXTRA_PARTS_MIN {
            return Ok(Outcome::Untried);
        }
        let Some(old) = self.old() else {
            return Ok(Outcome::Untried);
        };
        let slots = &self.fetcher.delta_slots;
        let Some(Ok(_slot)) = self.wait(source, slots.acquire()) else {
            return Ok(Outcome::Untried);
        };
        let version = source.version().clone();
        let checksum = match self.wait(source, self.origin.checksum(&self.path, &version)) {
            None => return Ok(Outcome::Untried),
            Some(Ok(None)) => return Ok(Outcome::Unproven("the origin has no checksum of it")),
            Some(checksum) => checksum?,
        };
        source.fetch(&lacking, Class::Body)?;
        let (Some(checksum), Some(kept)) = (checksum, &source.kept) else {
            return Ok(Outcome::Untried);
        };
        let candidate = Candidate {
            size,
            missing: kept.absent(0..size).into_iter().collect(),
            kept,
            old: &old,
            shift,
        };
        Ok(match candidate.prove(checksum, &|| self.is_stopping()) {
            Err(why) => Outcome::Unproven(why),
            Ok(sums) => match candidate.keep(&sums) {
                0 => Outcome::Unproven("the cache has no room for it"),
                bytes => Outcome::Proven { bytes },
            },
        })
    }

    /// The old version, if the store holds all of it. While it is held it is evicted last.
    fn old(&self) -> Option<Arc<Object>> {
        let Replaced {
            version_key, size, ..
        } = self.replaced;
        let old = self.fetcher.store.object(version_key, size);
        let old = old.inspect_err(|error| {
            tracing::debug!(error = %with_causes(error), "the cache cannot be used for a delta");
        });
        old.ok().filter(|old| old.is_complete())
    }

    /// Waits in a thread that may; `None` if the program is to end.
    fn wait<T>(&self, source: &Ranged, work: impl Future<Output = T>) -> Option<T> {
        source.runtime.block_on(async {
            tokio::select! {
                biased;
                () = self.fetcher.stop.cancelled() => None,
                done = work => Some(done),
            }
        })
    }

    fn is_stopping(&self) -> bool {
        self.fetcher.stop.is_cancelled()
    }
}

/// Where the audio of a new version lies in the old one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shift {
    /// In the new version.
    audio: Range<u64>,
    /// Where it starts in the old one.
    old_start: u64,
}

impl Shift {
    /// `None` if the audio cannot only have moved.
    fn between(replaced: &Replaced, size: u64, layout: &AudioLayout) -> Option<Self> {
        let audio = |layout: &AudioLayout, size| {
            let range = layout.front_end..layout.tail_start;
            (!range.is_empty() && range.end <= size).then_some(range)
        };
        let old = audio(&replaced.layout, replaced.size)?;
        let new = audio(layout, size)?;
        let is_alike = replaced.layout.container == layout.container
            && old.end - old.start == new.end - new.start;
        is_alike.then_some(Self {
            audio: new,
            old_start: old.start,
        })
    }

    /// The blocks of a file of `size` bytes that hold anything but audio; every other block can come
    /// from the old version.
    fn edges(&self, size: u64) -> Extents {
        [0..self.audio.start, self.audio.end..size]
            .into_iter()
            .map(|range| to_blocks(range, size))
            .collect()
    }

    /// Where a part of the audio lies in the old version.
    fn in_old(&self, range: &Range<u64>) -> Range<u64> {
        let place = |at: u64| at - self.audio.start + self.old_start;
        place(range.start)..place(range.end)
    }
}

/// What the new version is if nothing but its ends changed.
struct Candidate<'a> {
    size: u64,
    /// What the origin sent.
    kept: &'a Kept,
    /// What it did not send: whole blocks of audio.
    missing: Extents,
    old: &'a Object,
    shift: Shift,
}

impl Candidate<'_> {
    /// Compares all of it with the checksum; gives a hash of each piece.
    fn prove(
        &self,
        checksum: Checksum,
        is_stopping: &dyn Fn() -> bool,
    ) -> Result<Vec<blake3::Hash>, &'static str> {
        let mut check = checksum.check();
        let mut sums = Vec::new();
        for range in self.pieces() {
            if is_stopping() {
                return Err("the program ends");
            }
            let piece = self.piece(&range).ok_or("the cache lost a part of it")?;
            check.update(&piece);
            sums.push(blake3::hash(&piece));
        }
        match check.holds() {
            true => Ok(sums),
            false => Err("the origin's checksum is another one"),
        }
    }

    /// Keeps what was missing, as long as it is what was proven and there is room; says how many
    /// bytes of it were.
    fn keep(&self, sums: &[blake3::Hash]) -> u64 {
        let mut kept_bytes = 0;
        for (range, sum) in self.pieces().zip(sums) {
            let parts: Vec<_> = self.missing.within(range.clone()).collect();
            if parts.is_empty() {
                continue;
            }
            // Read once more: what was compared is not what is in memory now.
            let piece = self
                .piece(&range)
                .filter(|piece| blake3::hash(piece) == *sum);
            let Some(piece) = piece else {
                return kept_bytes;
            };
            for part in parts {
                let bytes = &piece[index(part.start - range.start)..index(part.end - range.start)];
                match self.kept.object.write(part.start, bytes, Class::Body) {
                    Ok(Written::Kept) => kept_bytes += part.end - part.start,
                    Ok(Written::Refused(_)) | Err(_) => return kept_bytes,
                }
            }
        }
        self.finish();
        kept_bytes
    }

    /// Everything is there: the object is cut and hashed like one that was fetched to its end.
    fn finish(&self) {
        let object = &self.kept.object;
        for (at, bytes) in &self.kept.beside {
            // A header that did not fit its quota; refused once more, it is fetched when it is read.
            let _ = object.write(*at, bytes, Class::Body);
        }
        if let Err(error) = object.finish() {
            tracing::debug!(error = %with_causes(&error), "a complete file could not be hashed");
        }
    }

    fn pieces(&self) -> impl Iterator<Item = Range<u64>> + use<> {
        let size = self.size;
        let starts = (0..size).step_by(index(PIECE_BYTES));
        starts.map(move |start| start..size.min(start + PIECE_BYTES))
    }

    /// The bytes of `range`; `None` if the cache has lost some of them.
    fn piece(&self, range: &Range<u64>) -> Option<Vec<u8>> {
        let mut piece = vec![0; index(range.end - range.start)];
        let place = |at: u64| index(at - range.start);
        for part in self.missing.within(range.clone()) {
            let bytes = self.old.read(self.shift.in_old(&part)).ok()??;
            piece[place(part.start)..place(part.end)].copy_from_slice(&bytes);
        }
        for part in self.missing.missing(range.clone()) {
            let place = place(part.start)..place(part.end);
            self.kept.copy(part, &mut piece[place]).then_some(())?;
        }
        Some(piece)
    }
}

/// Bytes of ranges that do not overlap.
fn len(ranges: &[Range<u64>]) -> u64 {
    ranges.iter().map(|range| range.end - range.start).sum()
}

/// A place in a piece.
fn index(at: u64) -> usize {
    usize::try_from(at).expect("a piece is 1 MiB at most")
}

#[cfg(test)]
mod tests {
    use musicfs_core::tags::Container;
    use musicfs_core::version::VersionKey;

    use super::*;

    fn layout(container: Container, front_end: u64, tail_start: u64) -> AudioLayout {
        AudioLayout {
            container,
            front_end,
            tail_start,
        }
    }

    fn replaced(size: u64, layout: AudioLayout) -> Replaced {
        Replaced {
            version_key: VersionKey([0; 16]),
            size,
            layout,
        }
    }

    #[test]
    fn audio_that_only_moved_is_found_in_the_old_version() {
        use Container::{Flac, Mpeg};
        let old = replaced(1_000_000, layout(Flac, 10_000, 999_000));
        let shift = |layout| Shift::between(&old, 2_000_000, &layout);
        let longer = shift(layout(Flac, 30_000, 1_019_000)).unwrap();
        assert_eq!(longer.in_old(&(30_000..30_001)), 10_000..10_001);
        assert_eq!(longer.in_old(&(1_018_000..1_019_000)), 998_000..999_000);
        let shorter = shift(layout(Flac, 5_000, 994_000)).unwrap();
        assert_eq!(shorter.in_old(&(5_000..6_000)), 10_000..11_000);
        assert!(shift(layout(Flac, 10_000, 999_000)).is_some(), "in padding");
        assert_eq!(shift(layout(Flac, 10_000, 999_001)), None, "longer audio");
        assert_eq!(shift(layout(Mpeg, 10_000, 999_000)), None);
        assert_eq!(
            shift(layout(Flac, 2_000_000, 2_989_000)),
            None,
            "no such file"
        );
        let empty = replaced(1_000_000, layout(Flac, 10_000, 10_000));
        assert_eq!(Shift::between(&empty, 20_000, &layout(Flac, 5, 5)), None);
    }

    #[test]
    fn what_is_no_edge_is_audio_alone() {
        let blocks = |n: u64| n * BLOCK_BYTES;
        for (start, end, size) in [
            (0, 500_000, 500_000),
            (1, 499_999, 500_000),
            (blocks(1), blocks(5), blocks(6)),
            (blocks(1) - 1, blocks(5) + 1, blocks(6)),
            (100, 200, 500_000),
            (10, 20, 30),
        ] {
            let shift = Shift {
                audio: start..end,
                old_start: 7,
            };
            let edges = shift.edges(size);
            for rest in edges.missing(0..size) {
                assert!(start <= rest.start && rest.end <= end, "{start}..{end}");
                assert!(rest.start.is_multiple_of(BLOCK_BYTES));
            }
            assert!(edges.covers(0..start) && edges.covers(end..size));
        }
    }
}
