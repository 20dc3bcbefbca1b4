//! Looking things up: what lies under a version, and where a chunk lies.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use musicfs_core::manifest::ChunkHash;
use musicfs_core::version::VersionKey;

use crate::error::{Attempt, Error, if_there};
use crate::inner::{Inner, ObjectFile, State, lock};
use crate::layout::ID_TAG;
use crate::map::{self, Content, MAP_BYTES_MAX, Map, ObjectId};
use crate::read::usize_of;
use crate::store::{OPENING_COUNT, Store};
use crate::types::Holding;

/// What a look at the disk found under a version.
pub(crate) enum Found {
    Inner(Arc<Inner>),
    Alias {
        of: VersionKey,
        id: ObjectId,
        size: u64,
    },
    Nothing,
}

/// A map as it was found on disk.
pub(crate) enum MapFile {
    Whole { map: Box<Map>, allocated: u64 },
    Damaged,
    Nothing,
}

impl Store {
    /// What is kept of a version: of an open object as it is now, else what its map says.
    ///
    /// # Errors
    /// [`Error::Disk`] if the map cannot be read.
    pub fn peek(&self, version: VersionKey) -> Result<Option<Holding>, Error> {
        let open = lock(&self.live).handle(version);
        if let Some(object) = open {
            return Ok(holding(&object.inner()));
        }
        let mut at = version;
        // An alias names an object, never another alias.
        for _ in 0..2 {
            let inner = lock(&self.live)
                .inner(at)
                .filter(|inner| inner.version == at);
            if let Some(inner) = inner.filter(|inner| !inner.state().is_superseded) {
                return Ok(holding(&inner));
            }
            match self.read_map(at)? {
                MapFile::Whole { map, .. } => match map.content {
                    Content::Alias(of) => at = of,
                    Content::Object { blocks, .. } => {
                        let (header_bytes, body_bytes) = blocks.bytes();
                        return Ok(Some(Holding {
                            size: map.size,
                            header_bytes,
                            body_bytes,
                            is_complete: blocks.is_complete(),
                        }));
                    }
                },
                MapFile::Damaged | MapFile::Nothing => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Where a chunk lies. What the index says is compared with the object's manifest.
    ///
    /// # Errors
    /// [`Error::Disk`] if a map cannot be read.
    pub fn find_chunk(
        self: &Arc<Self>,
        hash: &ChunkHash,
    ) -> Result<Option<(VersionKey, Range<u64>)>, Error> {
        Ok(self
            .locate(hash)?
            .map(|(inner, span)| (inner.version, span)))
    }

    /// The bytes of a chunk, compared with its hash; `None` if no object holds it whole and sound.
    ///
    /// # Errors
    /// As [`Object::read`].
    pub fn read_chunk(self: &Arc<Self>, hash: &ChunkHash) -> Result<Option<Bytes>, Error> {
        let Some((inner, span)) = self.locate(hash)? else {
            return Ok(None);
        };
        let bytes = self.read(&inner, span, false)?;
        Ok(bytes.filter(|bytes| ChunkHash::of(bytes) == *hash))
    }

    fn locate(&self, hash: &ChunkHash) -> Result<Option<Located>, Error> {
        if self.is_recovering() {
            return Ok(None);
        }
        for (version, offset) in self.index.find(hash) {
            let Found::Inner(inner) = self.find(version, None)? else {
                continue;
            };
            let state = inner.state();
            let Some(manifest) = &state.manifest else {
                continue;
            };
            let span = manifest
                .spans()
                .find(|(name, span)| span.start == offset && name == hash)
                .map(|(_, span)| span);
            let is_there = span
                .as_ref()
                .is_some_and(|span| state.blocks.covers(span.clone()));
            drop(state);
            if let Some(span) = span.filter(|_| is_there) {
                return Ok(Some((inner, span)));
            }
        }
        Ok(None)
    }

    /// The object of a version: the one in memory, else the one on disk, else, with a size, a new
    /// one of which nothing is there.
    pub(crate) fn find(&self, version: VersionKey, size: Option<u64>) -> Result<Found, Error> {
        let _opening = lock(&self.opening[usize::from(version.0[0]) % OPENING_COUNT]);
        // Whether a version shares another's object is for its map to say, which may be gone.
        let live = lock(&self.live).inner(version);
        if let Some(inner) = live.filter(|inner| inner.version == version)
            && !inner.state().is_superseded
        {
            return Ok(Found::Inner(inner));
        }
        let state = match self.read_map(version)? {
            MapFile::Whole { map, allocated } if size.is_none_or(|size| size == map.size) => {
                match map.content {
                    Content::Alias(of) => {
                        let Map { id, size, .. } = *map;
                        return Ok(Found::Alias { of, id, size });
                    }
                    Content::Object { .. } => self.load(version, *map, allocated)?,
                }
            }
            MapFile::Nothing | MapFile::Whole { .. } | MapFile::Damaged => None,
        };
        let state = match (state, size) {
            (Some(state), _) => state,
            (None, Some(size)) => State {
                allocated: self.remove_remains(version),
                ..State::empty(size)
            },
            (None, None) => {
                self.remove_remains(version);
                return Ok(Found::Nothing);
            }
        };
        let inner = Inner::new(version, state.blocks.size(), state);
        lock(&self.live).set_inner(version, &inner);
        Ok(Found::Inner(inner))
    }

    /// Reads and decodes a map.
    pub(crate) fn read_map(&self, version: VersionKey) -> Result<MapFile, Error> {
        let path = self.layout.map(version);
        let Some(file) = if_there(self.disk.open(&path)).attempt("open", &path)? else {
            return Ok(MapFile::Nothing);
        };
        let len = file.size().attempt("look at", &path)?;
        if len > MAP_BYTES_MAX {
            return Ok(MapFile::Damaged);
        }
        let mut bytes = vec![0; usize_of(len)];
        match file.read_at(&mut bytes, 0) {
            Ok(count) => bytes.truncate(count),
            // An unreadable sector is damage like any other.
            Err(_) => return Ok(MapFile::Damaged),
        }
        match map::decode(&bytes) {
            Ok(map) if map.version == version => Ok(MapFile::Whole {
                map: Box::new(map),
                allocated: file.allocated().attempt("look at", &path)?,
            }),
            _ => Ok(MapFile::Damaged),
        }
    }

    /// An object as its map tells; `None` if its file is not the one that the map is of.
    fn load(
        &self,
        version: VersionKey,
        map: Map,
        map_allocated: u64,
    ) -> Result<Option<State>, Error> {
        let Content::Object {
            mut blocks,
            manifest,
            provenance,
        } = map.content
        else {
            return Ok(None);
        };
        let path = self.layout.object(version);
        let file = if_there(self.disk.open(&path)).attempt("open", &path)?;
        let id = match &file {
            Some(file) => file.tag(ID_TAG).attempt("look at", &path)?,
            None => None,
        };
        let Some(file) = file.filter(|_| id == Some(map.id.0)) else {
            return Ok(None);
        };
        let allocated = file.allocated().attempt("look at", &path)?;
        if blocks.is_complete() && lock(&self.verified).knows(version, map.seal) {
            blocks.set_verified();
        }
        Ok(Some(State {
            file: Some(ObjectFile {
                id: map.id,
                file,
                is_fresh: false,
            }),
            blocks,
            manifest: manifest.map(Arc::new),
            provenance,
            seal: Some(map.seal),
            allocated,
            map_allocated,
            ..State::empty(map.size)
        }))
    }

    /// Removes what lies under a version that is not to be believed, or that a removal left there
    /// halfway. What the disk did not let go of, in bytes; it stays in the account.
    ///
    /// Does nothing while recovering: that finds it too.
    fn remove_remains(&self, version: VersionKey) -> u64 {
        let entry = lock(&self.ledger).entry(version);
        let (map, object) = (self.layout.map(version), self.layout.object(version));
        let is_there = entry.is_some() || self.disk.stat(&map).is_ok();
        if !self.is_open() || !is_there {
            return 0;
        }
        for path in [map, object] {
            if let Err(error) = self.unlink(version, &path) {
                self.disk_failed(&error);
                return entry.map_or(0, |entry| entry.charge().total());
            }
        }
        self.index.remove(version, None);
        lock(&self.ledger).remove(version);
        0
    }

    /// Removes an alias whose object is not what it was.
    pub(crate) fn remove_alias(&self, version: VersionKey) -> Result<(), Error> {
        self.unlink(version, &self.layout.map(version))?;
        self.index.remove(version, None);
        lock(&self.ledger).remove(version);
        self.tell(version);
        Ok(())
    }

    /// Removes a file of a version, if it is there. That is durable after [`Store::close`] at the
    /// latest: else what comes back would be in nobody's account.
    pub(crate) fn unlink(&self, version: VersionKey, path: &Path) -> Result<(), Error> {
        lock(&self.ledger).unsynced_shards.insert(version.0[0]);
        if_there(self.disk.remove(path)).attempt("remove", path)?;
        Ok(())
    }
}

/// An object, and where in it a chunk lies.
type Located = (Arc<Inner>, Range<u64>);

fn holding(inner: &Inner) -> Option<Holding> {
    let state = inner.state();
    let (header_bytes, body_bytes) = state.blocks.bytes();
    let is_complete = state.blocks.is_complete();
    (!state.blocks.is_empty()).then_some(Holding {
        size: inner.size,
        header_bytes,
        body_bytes,
        is_complete,
    })
}
