//! Reading: without any lock, trusted only if no block went away meanwhile.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use musicfs_core::extents::{BLOCK_BYTES, to_blocks};
use xxhash_rust::xxh3::xxh3_64;

use crate::blocks::range_of;
use crate::error::{Attempt, Error};
use crate::inner::{Inner, View, clip};
use crate::store::Store;

/// How often a read starts again because blocks went away meanwhile, before it answers that they
/// are absent.
const READ_TRIES_MAX: u32 = 4;
/// How much is compared at once when a whole object is.
pub(crate) const SPAN_BYTES: u64 = 16 * BLOCK_BYTES;

impl Store {
    /// See [`Object::read_now`](crate::Object::read_now).
    pub(crate) fn read_now(&self, inner: &Inner, offset: u64, buffer: &mut [u8]) -> Option<usize> {
        let (range, _) = clip(
            offset..offset.saturating_add(buffer.len() as u64),
            inner.size,
        );
        if range.is_empty() {
            return Some(0);
        }
        let view = inner.view(range.clone(), false)?;
        if !view.unverified.is_empty() {
            return None;
        }
        let len = usize::try_from(range.end - range.start).ok()?;
        let count = view.file.read_now_at(&mut buffer[..len], offset)?;
        (count == len && inner.state().epoch == view.epoch).then_some(len)
    }

    /// See [`Object::read`](crate::Object::read).
    pub(crate) fn read(
        &self,
        inner: &Arc<Inner>,
        range: Range<u64>,
        is_every_block: bool,
    ) -> Result<Option<Bytes>, Error> {
        let (range, _) = clip(range, inner.size);
        if range.is_empty() {
            return Ok(Some(Bytes::new()));
        }
        let mut may_go_on = !is_every_block;
        for _ in 0..READ_TRIES_MAX {
            let Some(mut view) = inner.view(range.clone(), is_every_block) else {
                return Ok(None);
            };
            let mut from = range.clone();
            if !view.unverified.is_empty() {
                // Whoever reads on finds what follows compared, and in memory.
                if may_go_on {
                    let sequel = inner.sequel(range.clone(), SPAN_BYTES);
                    let ahead = inner.view(sequel.clone(), false);
                    (from, view) = ahead.map_or((from, view), |ahead| (sequel, ahead));
                }
                from = to_blocks(from, inner.size);
            }
            let is_longer = from.end > to_blocks(range.clone(), inner.size).end;
            let Some(bytes) = self.read_view(inner, &view, from.clone())? else {
                if is_longer {
                    // What is damaged may lie behind what was asked for.
                    may_go_on = false;
                    continue;
                }
                return Ok(None);
            };
            if !self.approve(inner, &view) {
                continue;
            }
            let part = span_in(&from, &range);
            return Ok(Some(match is_longer {
                // Not kept for as long as its reader takes.
                true => Bytes::copy_from_slice(&bytes[part]),
                false => bytes.slice(part),
            }));
        }
        Ok(None)
    }

    /// See [`Object::verify_all`](crate::Object::verify_all).
    pub(crate) fn verify_object(&self, inner: &Arc<Inner>) -> Result<bool, Error> {
        let mut at = 0;
        while at < inner.size {
            let span = at..(at + SPAN_BYTES).min(inner.size);
            at = span.end;
            let is_known = inner
                .view(span.clone(), false)
                .is_some_and(|view| view.unverified.is_empty());
            if !is_known && self.read(inner, span, false)?.is_none() {
                return Ok(false);
            }
        }
        let state = inner.state();
        Ok(state.blocks.is_complete() && state.blocks.is_verified())
    }

    /// Reads `range` and compares the blocks that the view names. `None` if one is damaged; then
    /// it, and all others that are, are absent.
    fn read_view(
        &self,
        inner: &Arc<Inner>,
        view: &View,
        range: Range<u64>,
    ) -> Result<Option<Bytes>, Error> {
        let mut bytes = BytesMut::zeroed(usize_of(range.end - range.start));
        let count = match view.file.read_at(&mut bytes, range.start) {
            Ok(count) => count,
            Err(error) if is_of_the_machine(&error) => {
                let path = self.layout.object(inner.version);
                return Err(error).attempt("read", &path);
            }
            Err(_) => return self.read_piecemeal(inner, view, range),
        };
        let readable = range.start..range.start + count as u64;
        let mut damaged: Vec<(u32, u64)> = view
            .unverified
            .iter()
            .copied()
            .filter(|(index, check)| {
                let block = range_of(*index, inner.size);
                block.end > readable.end || xxh3_64(&bytes[span_in(&range, &block)]) != *check
            })
            .collect();
        if readable.end < range.end {
            // The file ends too early: what is missing is damaged, compared before or not.
            damaged.extend(self.blocks_behind(inner, readable.end, range.end));
        }
        if damaged.is_empty() {
            return Ok(Some(bytes.freeze()));
        }
        self.damage(inner, view.epoch, &damaged);
        Ok(None)
    }

    /// After an I/O error: block by block, so that only what cannot be read counts as damaged.
    fn read_piecemeal(
        &self,
        inner: &Arc<Inner>,
        view: &View,
        range: Range<u64>,
    ) -> Result<Option<Bytes>, Error> {
        let wide = to_blocks(range.clone(), inner.size);
        let mut whole = BytesMut::with_capacity(usize_of(wide.end - wide.start));
        let mut damaged = Vec::new();
        let blocks: Vec<_> = inner.state().blocks.within(wide.clone()).collect();
        for (index, block) in blocks {
            let span = range_of(index, inner.size);
            let mut bytes = vec![0; usize_of(span.end - span.start)];
            match view.file.read_at(&mut bytes, span.start) {
                Ok(count) if count == bytes.len() && xxh3_64(&bytes) == block.check => {
                    whole.extend_from_slice(&bytes);
                }
                _ => damaged.push((index, block.check)),
            }
        }
        if damaged.is_empty() && whole.len() as u64 == wide.end - wide.start {
            return Ok(Some(whole.freeze().slice(span_in(&wide, &range))));
        }
        self.damage(inner, view.epoch, &damaged);
        Ok(None)
    }

    /// Trusts what was compared, unless blocks went away meanwhile.
    fn approve(&self, inner: &Inner, view: &View) -> bool {
        let mut state = inner.state();
        if state.epoch != view.epoch {
            return false;
        }
        for (index, _) in &view.unverified {
            state
                .blocks
                .update(*index, |block| block.is_verified = true);
        }
        if !view.unverified.is_empty() {
            self.note_verified(inner.version, &state);
        }
        true
    }

    fn blocks_behind(&self, inner: &Inner, from: u64, to: u64) -> Vec<(u32, u64)> {
        let state = inner.state();
        let blocks = state.blocks.within(from..to);
        blocks.map(|(index, block)| (index, block.check)).collect()
    }

    /// Makes blocks absent whose bytes are not those of their checksum.
    fn damage(&self, inner: &Arc<Inner>, epoch: u64, damaged: &[(u32, u64)]) {
        let mut state = inner.state();
        if state.epoch != epoch {
            return;
        }
        let mut count = 0;
        for (index, check) in damaged {
            let is_same = state
                .blocks
                .get(*index)
                .is_some_and(|block| block.check == *check);
            if is_same {
                state.blocks.remove(*index);
                state.suspects.remove(index);
                state.hurt.insert(*index);
                count += 1;
            }
        }
        if count == 0 {
            return;
        }
        self.lost_blocks(inner.version, &mut state);
        drop(state);
        self.counters
            .blocks_damaged
            .fetch_add(count, Ordering::Relaxed);
        tracing::warn!(
            version = %inner.version,
            blocks = count,
            "stored blocks are damaged and will be fetched again"
        );
        self.mark_dirty(inner);
    }
}

/// True for what says nothing about the file: no memory, no descriptors, an interrupted call.
fn is_of_the_machine(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::OutOfMemory | io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
    )
}

pub(crate) fn usize_of(len: u64) -> usize {
    usize::try_from(len).expect("a range in memory is no longer than memory")
}

/// Where `inner` lies in bytes that start where `outer` does.
fn span_in(outer: &Range<u64>, inner: &Range<u64>) -> Range<usize> {
    usize_of(inner.start - outer.start)..usize_of(inner.end - outer.start)
}
