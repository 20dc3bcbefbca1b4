//! Looking through everything, and taking away what is asked.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use musicfs_core::version::VersionKey;

use crate::blocks::range_of;
use crate::error::Error;
use crate::evict::Shed;
use crate::inner::{Inner, lock};
use crate::lookup::Found;
use crate::read::SPAN_BYTES;
use crate::store::Store;
use crate::types::{Checked, Class, Cleared, Verified};

/// How many versions are looked up in the ledger at a time.
const PAGE_COUNT: usize = 256;

impl Store {
    /// Compares every block on disk with its checksum. Damaged ones are absent from then on,
    /// durably, and are fetched again by the next reader.
    ///
    /// Calls `each` for every object; its false ends the scrub.
    ///
    /// # Errors
    /// [`Error::NotOpen`] before [`Store::recover`] has ended; else what the disk says.
    pub fn verify(&self, each: &mut dyn FnMut(Checked) -> bool) -> Result<Verified, Error> {
        let mut verified = Verified::default();
        let mut after = None;
        loop {
            let page = self.page(&mut after, "verify")?;
            if page.is_empty() {
                return Ok(verified);
            }
            for (version, is_alias) in page {
                if is_alias {
                    continue;
                }
                let Some(checked) = self.verify_version(version)? else {
                    continue;
                };
                verified.objects += 1;
                verified.bytes += checked.bytes;
                verified.blocks_damaged += checked.damaged.len() as u64;
                if !each(checked) {
                    return Ok(verified);
                }
            }
        }
    }

    /// Takes away what is kept of the versions that `which` names: of one class, or all of it.
    ///
    /// Pinned versions too, and open ones, whose blocks become absent; but no block that the kernel
    /// reads by itself. With `dry_run` only tells what it would take. A version that shares another's
    /// object loses only its name for it, unless the other goes too.
    ///
    /// # Errors
    /// [`Error::NotOpen`] before [`Store::recover`] has ended; [`Error::Disk`] if the disk refused,
    /// with part of it done.
    pub fn clear(
        &self,
        which: &dyn Fn(VersionKey) -> bool,
        class: Option<Class>,
        dry_run: bool,
    ) -> Result<Cleared, Error> {
        let mut cleared = Cleared::default();
        let mut after = None;
        loop {
            let page = self.page(&mut after, "clear")?;
            if page.is_empty() {
                return Ok(cleared);
            }
            for (version, is_alias) in page {
                if !which(version) {
                    continue;
                }
                let bytes = match (is_alias, class) {
                    (true, Some(_)) => 0,
                    (true, None) => self.clear_alias(version, dry_run)?,
                    (false, _) => self.clear_object(version, class, dry_run)?,
                };
                cleared.objects += u64::from(bytes > 0);
                cleared.bytes += bytes;
            }
        }
    }

    /// The next versions behind `after`, with whether each is an alias.
    fn page(
        &self,
        after: &mut Option<VersionKey>,
        action: &'static str,
    ) -> Result<Vec<(VersionKey, bool)>, Error> {
        if !self.is_open() {
            return Err(Error::NotOpen { action });
        }
        let page = lock(&self.ledger).page(*after, PAGE_COUNT);
        *after = page.last().map(|(version, _)| *version).or(*after);
        let page = page.into_iter();
        Ok(page
            .map(|(version, entry)| (version, entry.is_alias))
            .collect())
    }

    fn verify_version(&self, version: VersionKey) -> Result<Option<Checked>, Error> {
        let Found::Inner(inner) = self.find(version, None)? else {
            return Ok(None);
        };
        let before = blocks_of(&inner);
        let (first, last) = match (before.first(), before.last()) {
            (Some(first), Some(last)) => (*first, *last),
            _ => return Ok(None),
        };
        let mut bytes = 0;
        for span in spans(&before, inner.size) {
            bytes += span.end - span.start;
            // Ends: each turn takes a damaged block away.
            while !self.compare(&inner, span.clone())? {}
        }
        let now = blocks_of(&inner);
        let hurt = inner.state().hurt.clone();
        let is_gone = |index: &u32| !now.contains(index) && hurt.contains(index);
        let damaged: Vec<Range<u64>> = before
            .range(first..=last)
            .copied()
            .filter(is_gone)
            .map(|index| range_of(index, inner.size))
            .collect();
        if !damaged.is_empty() {
            let _gate = self.enter();
            let _io = lock(&inner.io);
            self.commit(&inner)?;
        }
        Ok(Some(Checked {
            version,
            bytes,
            damaged,
        }))
    }

    /// Compares what is there of `span`. False if a block of it went away by that.
    fn compare(&self, inner: &Arc<Inner>, span: Range<u64>) -> Result<bool, Error> {
        let there: Vec<u32> = {
            let state = inner.state();
            state.blocks.within(span).map(|(index, _)| index).collect()
        };
        let there: BTreeSet<u32> = there.into_iter().collect();
        for part in spans(&there, inner.size) {
            if self.read(inner, part, true)?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn clear_object(
        &self,
        version: VersionKey,
        class: Option<Class>,
        dry_run: bool,
    ) -> Result<u64, Error> {
        let Some(entry) = lock(&self.ledger).entry(version) else {
            return Ok(0);
        };
        let charge = entry.charge();
        let due = match class {
            Some(Class::Header) => charge.header,
            Some(Class::Body) => charge.body,
            None => charge.total(),
        };
        if dry_run || due == 0 {
            return Ok(due);
        }
        let Found::Inner(inner) = self.find(version, None)? else {
            return Ok(0);
        };
        let _gate = self.enter();
        if !self.is_open() {
            return Err(Error::NotOpen { action: "clear" });
        }
        let _io = lock(&inner.io);
        let freed = self.shed(&inner, class.map_or(Shed::All, Shed::Class));
        freed.inspect_err(|error| self.disk_failed(error))
    }

    fn clear_alias(&self, version: VersionKey, dry_run: bool) -> Result<u64, Error> {
        let bytes = lock(&self.ledger)
            .entry(version)
            .map_or(0, |entry| entry.charge().total());
        if !dry_run {
            let _gate = self.enter();
            let handle = lock(&self.live).handle(version);
            self.remove_alias(version)?;
            if let Some(handle) = handle {
                self.detach(&handle);
            }
        }
        Ok(bytes)
    }
}

fn blocks_of(inner: &Inner) -> BTreeSet<u32> {
    inner
        .state()
        .blocks
        .iter()
        .map(|(index, _)| index)
        .collect()
}

/// The blocks as ranges of bytes, none longer than [`SPAN_BYTES`].
fn spans(blocks: &BTreeSet<u32>, size: u64) -> Vec<Range<u64>> {
    let mut spans: Vec<Range<u64>> = Vec::new();
    for index in blocks {
        let range = range_of(*index, size);
        match spans.last_mut() {
            Some(last) if last.end == range.start && range.end - last.start <= SPAN_BYTES => {
                last.end = range.end;
            }
            _ => spans.push(range),
        }
    }
    spans
}
