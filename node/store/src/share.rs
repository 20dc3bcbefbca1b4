//! What of the store may be given to other nodes, and what must be proven first.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use musicfs_core::extents::Extents;
use musicfs_core::id::NodeId;
use musicfs_core::manifest::Manifest;
use musicfs_core::version::VersionKey;

use crate::blocks::{Blocks, range_of};
use crate::error::Error;
use crate::evict::Shed;
use crate::inner::{Inner, lock};
use crate::lookup::{Found, MapFile};
use crate::map::{Content, ObjectId};
use crate::object::Object;
use crate::store::Store;
use crate::types::Class;

/// How far it is proven that an object's bytes are those of the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provenance {
    /// They came from the origin, or its checksum of the whole agrees.
    Proven,
    /// Another node signed for all of them.
    Member(NodeId),
    /// Another node sent some of them; this one did so first.
    Provisional(NodeId),
}

/// What is kept of one version, as far as it is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Size of the file.
    pub size: u64,
    /// Every block is there, and the manifest is known.
    pub is_complete: bool,
    /// All blocks that are there.
    pub blocks: Extents,
    /// Those of them that are kept for other reasons than tag readers.
    pub body: Extents,
    /// Whose word it is that they are right.
    pub provenance: Provenance,
}

/// Called with a version of which blocks came, went, or were proven. It must not wait for anything.
pub type Watcher = Box<dyn Fn(VersionKey) + Send + Sync>;

impl Store {
    /// Has `watcher` be called whenever what [`Store::kept`] says of a version may be something else;
    /// once in the life of a store.
    pub fn watch(&self, watcher: Watcher) {
        // A second watcher would find the first one's place taken, and there is only one caller.
        let _ = self.watcher.set(watcher);
    }

    /// The first `count` versions behind `after` of which something is kept that is no header.
    pub fn versions(&self, after: Option<VersionKey>, count: usize) -> Vec<VersionKey> {
        let ledger = lock(&self.ledger);
        let behind = ledger.behind(after);
        let with_body = behind.filter(|(_, entry)| entry.charge().body > 0);
        with_body.take(count).map(|(version, _)| version).collect()
    }

    /// What is kept of a version, as far as it is durable; `None` for nothing.
    ///
    /// # Errors
    /// [`Error::Disk`] if the map cannot be read.
    pub fn kept(&self, version: VersionKey) -> Result<Option<Kept>, Error> {
        let mut at = version;
        // An alias names an object, never another alias.
        for _ in 0..2 {
            let inner = lock(&self.live).inner(at);
            if let Some(inner) = inner.filter(|inner| !inner.state().is_superseded) {
                let state = inner.state();
                let has_manifest = state.manifest.is_some();
                return Ok(kept(&state.blocks, has_manifest, state.provenance));
            }
            match self.read_map(at)? {
                MapFile::Whole { map, .. } => match map.content {
                    Content::Alias(of) => at = of,
                    Content::Object {
                        blocks,
                        manifest,
                        provenance,
                    } => return Ok(kept(&blocks, manifest.is_some(), provenance)),
                },
                MapFile::Damaged | MapFile::Nothing => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Lends a version to another node; `None` if nothing of it is kept. Counts as an access.
    ///
    /// # Errors
    /// [`Error::Disk`] if its files cannot be looked at.
    pub fn lend(self: &Arc<Self>, version: VersionKey) -> Result<Option<Loan>, Error> {
        let inner = match self.find(version, None)? {
            Found::Inner(inner) => inner,
            Found::Alias { of, id, .. } => match self.find(of, None)? {
                Found::Inner(inner) if inner.has_id(id) => inner,
                _ => return Ok(None),
            },
            Found::Nothing => return Ok(None),
        };
        self.touch(version);
        let store = Arc::clone(self);
        Ok(Some(Loan { store, inner }))
    }

    /// Tells whoever watches that a version, and those that share its object, changed.
    pub(crate) fn tell(&self, version: VersionKey) {
        let Some(watcher) = self.watcher.get() else {
            return;
        };
        watcher(version);
        let aliases = lock(&self.ledger).aliases_of(version);
        aliases.into_iter().for_each(watcher);
    }

    fn set_provenance(&self, inner: &Arc<Inner>, provenance: Provenance) {
        {
            let mut state = inner.state();
            if state.provenance == provenance {
                return;
            }
            state.provenance = provenance;
            state.changes += 1;
        }
        self.mark_dirty(inner);
    }
}

/// An object that is read on behalf of another node: unlike with a handle, nothing is kept from being
/// evicted, and no file comes back into use.
pub struct Loan {
    store: Arc<Store>,
    inner: Arc<Inner>,
}

impl Loan {
    /// The manifest, while all of the content is there and proven.
    pub fn manifest(&self) -> Option<Arc<Manifest>> {
        let state = self.inner.state();
        let is_whole = state.blocks.is_complete() && !state.is_superseded;
        let is_proven = state.provenance == Provenance::Proven;
        state.manifest.clone().filter(|_| is_whole && is_proven)
    }

    /// The bytes of `range`, compared with their checksums just now; `None` unless all of them are
    /// there, proven, and within the file.
    ///
    /// # Errors
    /// As [`Object::read`].
    pub fn read(&self, range: Range<u64>) -> Result<Option<Bytes>, Error> {
        let is_lent = {
            let state = self.inner.state();
            state.provenance == Provenance::Proven && !state.is_superseded
        };
        if !is_lent || range.end > self.inner.size {
            return Ok(None);
        }
        self.store.read(&self.inner, range, true)
    }
}

impl Object {
    /// Whose word it is that the bytes are right.
    pub fn provenance(&self) -> Provenance {
        self.inner().state().provenance
    }

    /// Notes that what is written next came from another node, and that nothing proves it: it is not
    /// for other nodes until [`Object::prove`].
    ///
    /// To be called before the first such write: then no crash makes the bytes look proven.
    ///
    /// # Errors
    /// None today.
    pub fn receive(&self, from: NodeId) -> Result<(), Error> {
        self.with_io(|inner| {
            let is_proven = inner.state().provenance == Provenance::Proven;
            if is_proven && !inner.state().blocks.is_complete() {
                self.store()
                    .set_provenance(inner, Provenance::Provisional(from));
            }
            Ok(())
        })
    }

    /// Notes that all of the content is what another node signed for.
    ///
    /// # Errors
    /// None today.
    pub fn vouch(&self, by: NodeId) -> Result<(), Error> {
        self.with_io(|inner| {
            if matches!(inner.state().provenance, Provenance::Provisional(_)) {
                self.store().set_provenance(inner, Provenance::Member(by));
            }
            Ok(())
        })
    }

    /// Notes that the whole content was proven to be the origin's.
    ///
    /// # Errors
    /// None today.
    pub fn prove(&self) -> Result<(), Error> {
        self.with_io(|inner| {
            self.store().set_provenance(inner, Provenance::Proven);
            Ok(())
        })
    }

    /// Drops all of it: it turned out not to be the origin's. False if it has to stay for now, since
    /// the kernel reads it by itself.
    ///
    /// # Errors
    /// [`Error::Disk`] if the disk refused.
    pub fn renounce(&self) -> Result<bool, Error> {
        self.with_io(|inner| {
            self.store().shed(inner, Shed::All)?;
            let provenance = inner.state().provenance;
            if inner.state().blocks.is_empty() {
                return Ok(true);
            }
            if let Provenance::Member(node) = provenance {
                // The kernel gets no further hold of it.
                self.store()
                    .set_provenance(inner, Provenance::Provisional(node));
            }
            Ok(false)
        })
    }
}

impl Inner {
    fn has_id(&self, id: ObjectId) -> bool {
        let state = self.state();
        state.file.as_ref().is_some_and(|file| file.id == id)
    }

    /// True if it may share its bytes with a version of equal content: a proof is of one version.
    pub(crate) fn is_proven(&self) -> bool {
        self.state().provenance == Provenance::Proven
    }
}

fn kept(blocks: &Blocks, has_manifest: bool, provenance: Provenance) -> Option<Kept> {
    let (mut all, mut body) = (Extents::new(), Extents::new());
    for (index, block) in blocks.iter().filter(|(_, block)| block.is_committed) {
        let range = range_of(index, blocks.size());
        all.insert(range.clone());
        if block.class == Class::Body {
            body.insert(range);
        }
    }
    let size = blocks.size();
    (!all.is_empty()).then(|| Kept {
        size,
        is_complete: has_manifest && all.len() == size,
        blocks: all,
        body,
        provenance,
    })
}
