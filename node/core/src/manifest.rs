//! How content is cut into chunks, and what names them.
//!
//! Boundaries follow from the bytes of a stream read from its start (FastCDC), so equal stretches of
//! two files mostly give equal chunks. A chunk is named by its BLAKE3.

use std::fmt;
use std::ops::Range;

use fastcdc::v2020::{FastCDC, Normalization};

/// No chunk but the last of a stream is shorter: 16 KiB.
pub const CHUNK_BYTES_MIN: u32 = 16 << 10;
/// What the cutting aims at: 64 KiB (the mean of real content is 80 KiB).
pub const CHUNK_BYTES_AVERAGE: u32 = 64 << 10;
/// No chunk is longer: 256 KiB.
pub const CHUNK_BYTES_MAX: u32 = 256 << 10;

/// The cutter keeps this much, so that most chunks are cut without moving the rest.
const BUFFER_BYTES: usize = 1 << 20;
/// The first byte of an encoded manifest: FastCDC (2020), 16/64/256 KiB, normalization 1, seed 0.
/// Any other way to cut takes another number.
const ENCODING: u8 = 1;
const HEAD_BYTES: usize = 1 + 8 + 32 + 4;
const CHUNK_ENTRY_BYTES: usize = 32 + 4;

/// Names a chunk: the BLAKE3 of its bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkHash(pub [u8; 32]);

impl ChunkHash {
    /// The name of the chunk that holds `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

/// Names the whole of a file's content: its BLAKE3.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentHash(pub [u8; 32]);

/// Of which chunks a content consists.
///
/// The lengths sum up to `len`; each is 1 byte to [`CHUNK_BYTES_MAX`], and all but the last at least
/// [`CHUNK_BYTES_MIN`]. Empty content has no chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Length of the content in bytes.
    pub len: u64,
    /// The BLAKE3 of all of it.
    pub whole: ContentHash,
    /// Hash and length of each chunk, in the order of the content.
    pub chunks: Vec<(ChunkHash, u32)>,
}

impl Manifest {
    /// Each chunk with the bytes that it covers, in order.
    pub fn spans(&self) -> impl Iterator<Item = (ChunkHash, Range<u64>)> + '_ {
        let mut at = 0_u64;
        self.chunks.iter().map(move |(hash, len)| {
            let start = at;
            at += u64::from(*len);
            (*hash, start..at)
        })
    }

    /// The bytes that an encoded manifest of `chunks_count` chunks takes.
    pub fn encoded_bytes(chunks_count: usize) -> usize {
        HEAD_BYTES + chunks_count * CHUNK_ENTRY_BYTES
    }

    /// The form that is stored and sent.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::encoded_bytes(self.chunks.len()));
        bytes.push(ENCODING);
        bytes.extend(self.len.to_le_bytes());
        bytes.extend(self.whole.0);
        let count =
            u32::try_from(self.chunks.len()).expect("a chunk table of 2^32 chunks is 144 GB");
        bytes.extend(count.to_le_bytes());
        for (hash, len) in &self.chunks {
            bytes.extend(hash.0);
            bytes.extend(len.to_le_bytes());
        }
        bytes
    }

    /// Reads the form of [`Manifest::encode`] back; `None` for anything else.
    ///
    /// Never allocates more than `bytes` takes itself.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (encoding, rest) = bytes.split_first()?;
        let (len, rest) = rest.split_first_chunk::<8>()?;
        let (whole, rest) = rest.split_first_chunk::<32>()?;
        let (count, rest) = rest.split_first_chunk::<4>()?;
        let (len, count) = (u64::from_le_bytes(*len), u32::from_le_bytes(*count));
        let expected = (count as usize).checked_mul(CHUNK_ENTRY_BYTES)?;
        if *encoding != ENCODING || rest.len() != expected {
            return None;
        }
        let mut chunks = Vec::with_capacity(count as usize);
        let mut sum = 0_u64;
        for (number, entry) in rest.chunks_exact(CHUNK_ENTRY_BYTES).enumerate() {
            let (hash, rest) = entry.split_first_chunk::<32>()?;
            let chunk_len = u32::from_le_bytes(rest.try_into().ok()?);
            let is_last = number + 1 == count as usize;
            let shortest = if is_last { 1 } else { CHUNK_BYTES_MIN };
            if !(shortest..=CHUNK_BYTES_MAX).contains(&chunk_len) {
                return None;
            }
            sum += u64::from(chunk_len);
            chunks.push((ChunkHash(*hash), chunk_len));
        }
        let whole = ContentHash(*whole);
        (sum == len).then_some(Self { len, whole, chunks })
    }
}

/// Cuts a stream into chunks as it comes.
///
/// It must get all bytes from the start of the content; how they are split over the calls makes no
/// difference. Holds at most 1.25 MiB.
pub struct Cutter {
    whole: blake3::Hasher,
    buffer: Vec<u8>,
    chunks: Vec<(ChunkHash, u32)>,
    len: u64,
}

impl Cutter {
    /// A cutter at the start of a content.
    pub fn new() -> Self {
        Self {
            whole: blake3::Hasher::new(),
            buffer: Vec::new(),
            chunks: Vec::new(),
            len: 0,
        }
    }

    /// Takes the next bytes of the content.
    pub fn push(&mut self, mut bytes: &[u8]) {
        self.whole.update(bytes);
        self.len += bytes.len() as u64;
        while !bytes.is_empty() {
            let room = BUFFER_BYTES.saturating_sub(self.buffer.len()).max(1);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() >= BUFFER_BYTES {
                // A cut is sure only where the longest chunk would have fitted.
                self.cut_while(|left| left >= CHUNK_BYTES_MAX as usize);
            }
        }
    }

    /// The content has ended: the manifest of all that was pushed.
    pub fn finish(mut self) -> Manifest {
        self.cut_while(|left| left > 0);
        Manifest {
            len: self.len,
            whole: ContentHash(*self.whole.finalize().as_bytes()),
            chunks: self.chunks,
        }
    }

    fn cut_while(&mut self, enough: impl Fn(usize) -> bool) {
        let chunker = FastCDC::with_level_and_seed(
            &self.buffer,
            CHUNK_BYTES_MIN as usize,
            CHUNK_BYTES_AVERAGE as usize,
            CHUNK_BYTES_MAX as usize,
            Normalization::Level1,
            0,
        );
        let mut start = 0;
        while enough(self.buffer.len() - start) {
            let (_, end) = chunker.cut(start, self.buffer.len() - start);
            let chunk = &self.buffer[start..end];
            let len = u32::try_from(chunk.len()).expect("the chunker cuts at 256 KiB");
            self.chunks.push((ChunkHash::of(chunk), len));
            start = end;
        }
        self.buffer.drain(..start);
    }
}

impl Default for Cutter {
    fn default() -> Self {
        Self::new()
    }
}

fn hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

impl fmt::Display for ChunkHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Debug for ChunkHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bytes of splitmix64 from a seed: the same on every machine for ever.
    fn content(seed: u64, len: usize) -> Vec<u8> {
        let mut state = seed;
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = state;
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            bytes.extend((word ^ (word >> 31)).to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }

    fn cut(bytes: &[u8]) -> Manifest {
        let mut cutter = Cutter::new();
        cutter.push(bytes);
        cutter.finish()
    }

    /// Cut points are what nodes have in common: a chunker that moves them may not come in unseen.
    #[test]
    fn cut_points_are_fixed_for_ever() {
        let manifest = cut(&content(1, 1 << 20));
        let lens: Vec<u32> = manifest.chunks.iter().map(|(_, len)| *len).collect();
        assert_eq!(lens, GOLDEN);
        let zeros = cut(&vec![0; 600_000]);
        let lens: Vec<u32> = zeros.chunks.iter().map(|(_, len)| *len).collect();
        assert_eq!(lens, [262_144, 262_144, 75_712]);
    }

    const GOLDEN: [u32; 16] = [
        28_128, 87_550, 64_925, 67_788, 30_364, 38_273, 50_371, 101_085, 100_168, 79_822, 94_750,
        68_129, 37_731, 77_250, 65_957, 56_285,
    ];

    #[test]
    fn a_manifest_names_its_bytes() {
        let bytes = content(2, 3_000_001);
        let manifest = cut(&bytes);
        assert_eq!(manifest.len, 3_000_001);
        assert_eq!(manifest.whole.0, *blake3::hash(&bytes).as_bytes());
        let mut end = 0;
        for (hash, span) in manifest.spans() {
            assert_eq!(span.start, end);
            end = span.end;
            assert_eq!(
                hash,
                ChunkHash::of(&bytes[span.start as usize..span.end as usize])
            );
        }
        assert_eq!(end, manifest.len);
        assert!(cut(b"").chunks.is_empty());
        assert_eq!(cut(b"x").chunks.len(), 1);
    }

    #[test]
    fn a_stretch_moved_within_a_file_is_found_again() {
        let tail = content(3, 2 << 20);
        let mut moved = content(4, 100_003);
        moved.extend_from_slice(&tail);
        let (before, after) = (cut(&tail), cut(&moved));
        let same = after
            .chunks
            .iter()
            .filter(|chunk| before.chunks.contains(chunk));
        assert!(same.count() * 10 >= before.chunks.len() * 8);
    }

    #[test]
    fn a_decoder_takes_nothing_else() {
        let good = cut(&content(5, 400_000)).encode();
        assert!(Manifest::decode(&good).is_some());
        for at in 0..good.len() {
            assert!(Manifest::decode(&good[..at]).is_none());
        }
        let changed = |at: usize, to: u8| {
            let mut bytes = good.clone();
            bytes[at] = to;
            Manifest::decode(&bytes)
        };
        assert!(changed(0, 2).is_none());
        assert!(changed(1, good[1] ^ 1).is_none());
        assert!(changed(44, 0xff).is_none());
        assert!(changed(HEAD_BYTES + 32 + 3, 1).is_none());
    }

    proptest! {
        #[test]
        fn how_a_stream_is_split_makes_no_difference(
            seed in any::<u64>(),
            pieces in prop::collection::vec(1_usize..700_000, 1..6),
        ) {
            let bytes = content(seed, pieces.iter().sum());
            let mut cutter = Cutter::new();
            let mut at = 0;
            for piece in pieces {
                cutter.push(&bytes[at..at + piece]);
                at += piece;
            }
            let manifest = cutter.finish();
            prop_assert_eq!(&manifest, &cut(&bytes));
            prop_assert_eq!(Manifest::decode(&manifest.encode()), Some(manifest));
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Manifest::decode(&bytes);
        }
    }
}
