//! A range of a file on its way from a peer: which chunks hold it, and which of them are here already.

use std::collections::{HashSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use musicfs_core::manifest::{ChunkHash, Manifest};
use musicfs_core::peer::{Peer, PeerError, PeerStream, WantedChunk};
use musicfs_core::version::VersionKey;

use crate::fetch::{RemoteFile, blocking};

/// A peer that is ready to send.
pub(in crate::fetch) struct PeerFile {
    pub(super) peer: Arc<dyn Peer>,
    pub(super) file: Arc<RemoteFile>,
    pub(super) manifest: Option<Arc<Manifest>>,
    /// Chunks that need not be asked for.
    pub(super) near: Arc<HashSet<ChunkHash>>,
    pub(super) spare: Option<Bytes>,
}

/// Where some of the bytes come from, in order.
enum Leg {
    /// This node's own cache.
    Near(WantedChunk),
    /// The peer, chunk by chunk.
    Chunks(Vec<WantedChunk>),
    /// The peer, as they are.
    Range(Range<u64>),
}

impl PeerFile {
    /// Starts to send `range`.
    pub(in crate::fetch) fn stream(&self, range: Range<u64>) -> PeerBytes {
        let version = self.file.object.version();
        let spare = self.spare.clone();
        let start = range.start + spare.as_ref().map_or(0, |bytes| bytes.len() as u64);
        let (legs, at) = match &self.manifest {
            _ if start >= range.end => (VecDeque::new(), start),
            None => (VecDeque::from([Leg::Range(start..range.end)]), start),
            Some(manifest) => {
                let (wanted, at) = covering(manifest, start..range.end);
                (self.legs(wanted), at)
            }
        };
        PeerBytes {
            peer: self.peer.clone(),
            file: self.file.clone(),
            version,
            legs,
            stream: None,
            spare,
            at,
            left: range,
        }
    }

    fn legs(&self, wanted: Vec<WantedChunk>) -> VecDeque<Leg> {
        let mut legs = VecDeque::new();
        for chunk in wanted {
            if self.near.contains(&chunk.hash) {
                legs.push_back(Leg::Near(chunk));
                continue;
            }
            match legs.back_mut() {
                Some(Leg::Chunks(chunks)) => chunks.push(chunk),
                _ => legs.push_back(Leg::Chunks(vec![chunk])),
            }
        }
        legs
    }
}

/// The chunks that hold `range`, and where the first of them starts.
fn covering(manifest: &Manifest, range: Range<u64>) -> (Vec<WantedChunk>, u64) {
    let holds = |span: &Range<u64>| span.start < range.end && range.start < span.end;
    let spans = manifest.spans().filter(|(_, span)| holds(span));
    let mut at = range.start;
    let mut wanted = Vec::new();
    for (hash, span) in spans {
        if wanted.is_empty() {
            at = span.start;
        }
        let len = u32::try_from(span.end - span.start).expect("a chunk is 256 KiB at most");
        wanted.push(WantedChunk { hash, len });
    }
    (wanted, at)
}

/// The bytes of a range on their way from a peer.
pub(in crate::fetch) struct PeerBytes {
    peer: Arc<dyn Peer>,
    file: Arc<RemoteFile>,
    version: VersionKey,
    /// What is not under way yet.
    legs: VecDeque<Leg>,
    stream: Option<Box<dyn PeerStream>>,
    spare: Option<Bytes>,
    /// Where the next piece of the stream starts, which may be ahead of what was asked for.
    at: u64,
    left: Range<u64>,
}

impl PeerBytes {
    pub(in crate::fetch) async fn next(&mut self) -> Result<Option<Bytes>, PeerError> {
        if self.left.is_empty() {
            return Ok(None);
        }
        if let Some(spare) = self.spare.take() {
            return Ok(Some(self.clip(self.left.start, spare)));
        }
        while let Some(piece) = self.piece().await? {
            let start = self.at;
            self.at += piece.len() as u64;
            if self.at > self.left.start {
                return Ok(Some(self.clip(start, piece)));
            }
        }
        Ok(None)
    }

    /// The next piece, whether it was asked for or only leads there.
    async fn piece(&mut self) -> Result<Option<Bytes>, PeerError> {
        loop {
            if let Some(stream) = &mut self.stream {
                if let Some(piece) = stream.next().await? {
                    return Ok(Some(piece));
                }
                self.stream = None;
            }
            self.stream = Some(match self.legs.pop_front() {
                None => return Ok(None),
                Some(Leg::Range(range)) => self.peer.range(self.version, range),
                Some(Leg::Chunks(chunks)) => self.peer.chunks(self.version, chunks),
                Some(Leg::Near(chunk)) => {
                    let store = self.file.fetcher.store.clone();
                    let read = blocking(move || store.read_chunk(&chunk.hash)).await;
                    if let Ok(Ok(Some(bytes))) = read {
                        return Ok(Some(bytes));
                    }
                    // It went in between.
                    self.peer.chunks(self.version, vec![chunk])
                }
            });
        }
    }

    /// What of `piece`, which starts at `start` and reaches into what is left, is asked for. What lies
    /// behind the end is kept for whoever comes next.
    fn clip(&mut self, start: u64, mut piece: Bytes) -> Bytes {
        let index = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
        let front = index(self.left.start - start).min(piece.len());
        drop(piece.split_to(front));
        let room = index(self.left.end - self.left.start);
        if piece.len() > room {
            let rest = piece.split_off(room);
            self.file.hearsay.keep_spare(self.left.end, rest);
        }
        self.left.start += piece.len() as u64;
        piece
    }
}

#[cfg(test)]
mod tests {
    use musicfs_core::manifest::Cutter;

    use super::*;

    #[test]
    fn the_chunks_of_a_range_cover_it_and_no_more() {
        let bytes: Vec<u8> = (0..2_000_000_u32)
            .map(|n| (n / 7).wrapping_mul(n) as u8)
            .collect();
        let mut cutter = Cutter::new();
        cutter.push(&bytes);
        let manifest = cutter.finish();
        for range in [0..1, 0..2_000_000, 65_536..65_537, 1_000_000..1_900_000] {
            let (wanted, at) = covering(&manifest, range.clone());
            let len: u64 = wanted.iter().map(|chunk| u64::from(chunk.len)).sum();
            assert!(at <= range.start && range.end <= at + len, "{range:?}");
            let last = u64::from(wanted.last().unwrap().len);
            assert!(at + len - last < range.end, "{range:?}");
            assert!(at + u64::from(wanted[0].len) > range.start, "{range:?}");
        }
    }
}
