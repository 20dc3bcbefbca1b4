//! Learning what is there: from the marker of a clean close, else from every map.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use musicfs_core::version::VersionKey;

use crate::budget::{Charge, Fixed};
use crate::error::{Attempt, Error, if_there};
use crate::evict::punch_absent;
use crate::inner::lock;
use crate::layout::{ID_TAG, Layout, NOT_COUNTED, Name};
use crate::lookup::MapFile;
use crate::map::{Content, ObjectId};
use crate::marker::{self, Marker};
use crate::read::usize_of;
use crate::store::Store;
use crate::types::Recovered;

/// How many versions are looked up in the ledger at a time.
const PAGE_COUNT: usize = 256;

/// An object file may take this much more than its blocks before its holes are punched again.
const UNPUNCHED_BYTES_MAX: u64 = 32 << 10;

/// What a scan finds and cannot judge before its end.
#[derive(Default)]
struct Scan {
    aliases: Vec<FoundAlias>,
    foreign_bytes: u64,
    removed_count: u64,
}

struct FoundAlias {
    version: VersionKey,
    of: VersionKey,
    id: ObjectId,
    size: u64,
    allocated: u64,
    accessed: u64,
}

impl Store {
    /// Learns what the directory holds; until this has ended nothing is written.
    ///
    /// After a clean close that is one file. Else every map is read: what was half made or is
    /// damaged is removed, what is too much is evicted, and the index of chunks is made anew.
    ///
    /// # Errors
    /// [`Error::Disk`] if the disk refused; the caller may try again. [`Error::NotOpen`] at a second
    /// call, or after [`Store::close`].
    pub fn recover(&self) -> Result<Recovered, Error> {
        // One at a time.
        let gate = self.enter();
        let one = lock(&self.evictor);
        if !self.is_recovering() {
            return Err(Error::NotOpen { action: "recover" });
        }
        self.measure_top()?;
        let marker = self.take_marker()?;
        let mut recovered = Recovered {
            was_clean: marker.is_some(),
            ..Recovered::default()
        };
        let is_index_there = match marker {
            Some(marker) => self.recover_clean(&marker)?,
            None => {
                recovered.removed_count = self.scan()?;
                false
            }
        };
        if !is_index_there {
            self.index.reset();
        }
        lock(&self.ledger).set_fixed(Fixed::Index, self.index.bytes());
        self.set_open();
        drop(one);
        self.enforce();
        if !is_index_there {
            self.rebuild_index()?;
            recovered.is_index_rebuilt = true;
        }
        drop(gate);
        recovered.objects_count = lock(&self.ledger).len() as u64;
        Ok(recovered)
    }

    /// What lies in the cache directory besides objects, index and marker.
    fn measure_top(&self) -> Result<(), Error> {
        let dir = &self.layout.dir;
        let own = self.disk.stat(dir).attempt("look at", dir)?;
        let mut bytes = own.allocated;
        for name in self.disk.list(dir).attempt("list", dir)? {
            let path = dir.join(&name);
            let is_apart = name == NOT_COUNTED
                || path == self.layout.marker()
                || name.starts_with("chunks.db");
            if is_apart {
                continue;
            }
            if let Some(found) = if_there(self.disk.stat(&path)).attempt("look at", &path)? {
                bytes += found.allocated;
            }
        }
        lock(&self.ledger).set_fixed(Fixed::Top, bytes);
        Ok(())
    }

    /// Reads the marker and removes it: from now on it may be untrue.
    fn take_marker(&self) -> Result<Option<Marker>, Error> {
        let path = self.layout.marker();
        let Some(file) = if_there(self.disk.open(&path)).attempt("open", &path)? else {
            return Ok(None);
        };
        let len = file.size().attempt("look at", &path)?;
        let mut bytes = vec![0; usize_of(len)];
        // What cannot be read is no marker.
        let count = file.read_at(&mut bytes, 0).unwrap_or(0);
        let marker = marker::decode(&bytes[..count]);
        self.disk.remove(&path).attempt("remove", &path)?;
        let dir = &self.layout.dir;
        self.disk.sync_dir(dir).attempt("sync", dir)?;
        Ok(marker)
    }

    /// Takes over what the marker says. True if the index of chunks is there too.
    fn recover_clean(&self, marker: &Marker) -> Result<bool, Error> {
        {
            let mut ledger = lock(&self.ledger);
            for entry in &marker.entries {
                if let Some(of) = entry.alias_of {
                    ledger.set_alias(entry.version, of);
                }
                let is_alias = entry.alias_of.is_some();
                ledger.put(entry.version, entry.charge, entry.accessed, is_alias);
            }
        }
        for byte in 0..=u8::MAX {
            self.measure_shard(byte);
        }
        Ok(self.index.open(marker.generation))
    }

    /// Reads every map. How many files were removed.
    fn scan(&self) -> Result<u64, Error> {
        let mut scan = Scan::default();
        for byte in 0..=u8::MAX {
            let dir = self.layout.shard(byte);
            if let Some(names) = if_there(self.disk.list(&dir)).attempt("list", &dir)? {
                self.scan_shard(byte, &names, &mut scan)?;
                self.measure_shard(byte);
            }
        }
        self.scan_aliases(&mut scan)?;
        lock(&self.ledger).set_fixed(Fixed::Foreign, scan.foreign_bytes);
        Ok(scan.removed_count)
    }

    fn scan_shard(&self, byte: u8, names: &[String], scan: &mut Scan) -> Result<(), Error> {
        let dir = self.layout.shard(byte);
        lock(&self.ledger).unsynced_shards.insert(byte);
        let (mut objects, mut maps) = (BTreeSet::new(), BTreeSet::new());
        for name in names {
            match Layout::parse(byte, name) {
                Some(Name::Object(version)) => {
                    objects.insert(version);
                }
                Some(Name::Map(version)) => {
                    maps.insert(version);
                }
                Some(Name::HalfMap) => self.sweep(&dir.join(name), scan)?,
                None => {
                    let path = dir.join(name);
                    let found = if_there(self.disk.stat(&path)).attempt("look at", &path)?;
                    scan.foreign_bytes += found.map_or(0, |found| found.allocated);
                }
            }
        }
        for version in maps {
            let has_object = objects.contains(&version);
            match self.scan_map(version, has_object, scan)? {
                true => {
                    objects.remove(&version);
                }
                false => self.sweep(&self.layout.map(version), scan)?,
            }
        }
        // Without a map that is theirs nobody knows what they hold.
        for version in objects {
            self.sweep(&self.layout.object(version), scan)?;
        }
        Ok(())
    }

    /// Looks at one map. False if it is to be removed; true if its object, where it has one, stays.
    fn scan_map(
        &self,
        version: VersionKey,
        has_object: bool,
        scan: &mut Scan,
    ) -> Result<bool, Error> {
        let MapFile::Whole { map, allocated } = self.read_map(version)? else {
            return Ok(false);
        };
        let path = self.layout.map(version);
        let accessed = self.disk.stat(&path).attempt("look at", &path)?.modified;
        let blocks = match map.content {
            Content::Object { blocks, .. } => blocks,
            Content::Alias(of) => {
                scan.aliases.push(FoundAlias {
                    version,
                    of,
                    id: map.id,
                    size: map.size,
                    allocated,
                    accessed,
                });
                if has_object {
                    // Left by the version's life as an object of its own.
                    self.sweep(&self.layout.object(version), scan)?;
                }
                return Ok(true);
            }
        };
        if !has_object || blocks.is_empty() {
            return Ok(false);
        }
        let path = self.layout.object(version);
        let file = self.disk.open(&path).attempt("open", &path)?;
        if file.tag(ID_TAG).attempt("look at", &path)? != Some(map.id.0) {
            return Ok(false);
        }
        let mut object_bytes = file.allocated().attempt("look at", &path)?;
        let (header, body) = blocks.bytes();
        if object_bytes > header + body + UNPUNCHED_BYTES_MAX {
            // The map lost blocks, and the crash came before their space was given back.
            punch_absent(&*file, &blocks).attempt("punch", &path)?;
            object_bytes = file.allocated().attempt("look at", &path)?;
        }
        let charge = Charge::new(header, body, object_bytes.max(header + body) + allocated);
        lock(&self.ledger).put(version, charge, accessed, false);
        Ok(true)
    }

    /// Keeps the aliases whose object is what it was.
    fn scan_aliases(&self, scan: &mut Scan) -> Result<(), Error> {
        for alias in std::mem::take(&mut scan.aliases) {
            let is_there = lock(&self.ledger)
                .entry(alias.of)
                .is_some_and(|entry| !entry.is_alias);
            let is_same = is_there
                && matches!(
                    self.read_map(alias.of)?,
                    MapFile::Whole { map, .. } if map.id == alias.id && map.size == alias.size
                );
            if !is_same {
                self.sweep(&self.layout.map(alias.version), scan)?;
                continue;
            }
            let charge = Charge {
                header: 0,
                body: alias.allocated,
            };
            let mut ledger = lock(&self.ledger);
            ledger.set_alias(alias.version, alias.of);
            ledger.put(alias.version, charge, alias.accessed, true);
        }
        Ok(())
    }

    fn sweep(&self, path: &Path, scan: &mut Scan) -> Result<(), Error> {
        match self.disk.remove(path) {
            Ok(()) => scan.removed_count += 1,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).attempt("remove", path),
        }
        Ok(())
    }

    /// Makes the index anew from the maps, while the store is in use.
    fn rebuild_index(&self) -> Result<(), Error> {
        let mut after = None;
        loop {
            let page = lock(&self.ledger).page(after, PAGE_COUNT);
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            let mut manifests = BTreeMap::new();
            for (version, entry) in page {
                let at = match entry.is_alias {
                    true => lock(&self.ledger).target_of(version),
                    false => Some(version),
                };
                let Some(at) = at else { continue };
                if let MapFile::Whole { map, .. } = self.read_map(at)?
                    && let Content::Object {
                        manifest: Some(manifest),
                        ..
                    } = map.content
                {
                    manifests.insert(version, (entry.is_alias, manifest));
                }
            }
            for (version, (is_alias, manifest)) in manifests {
                match is_alias {
                    true => self.index_alias(version, &manifest),
                    false => self.index_object(version, &manifest),
                }
            }
        }
        Ok(())
    }
}
