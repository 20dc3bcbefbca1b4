//! Who holds the content of a file: this node, and the peers that announce some of it.

use std::ops::Range;

use musicfs_core::extents::Extents;
use musicfs_core::id::NodeId;
use musicfs_core::peer::{Held, Trust};
use musicfs_core::version::VersionKey;
use musicfs_store::Provenance;

use crate::error::Error;
use crate::library::Library;

/// Where the content of one file lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// Which content.
    pub version: VersionKey,
    /// Its length in bytes.
    pub size: u64,
    /// This node first, if it holds something; then peers by id.
    pub holders: Vec<Holder>,
}

/// One node and what it holds of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Which node; `None` for this one while it is in no cluster.
    pub node: Option<NodeId>,
    /// Ascending and apart.
    pub ranges: Vec<Range<u64>>,
    /// It holds all of it.
    pub is_complete: bool,
    /// How far this node may rely on it.
    pub trust: Trust,
}

impl Library {
    /// Who holds the content of a file, by its path in the tree. Waits for the disk at most.
    ///
    /// Of a file that is read in place and never cached nobody holds anything.
    ///
    /// # Errors
    /// [`Error::NoPath`] if nothing has this path, [`Error::WrongKind`] if it is a directory.
    pub fn locate(&self, path: &str) -> Result<Located, Error> {
        let none = || Error::NoPath {
            path: path.to_owned(),
        };
        let node = self.query(|reader| reader.resolve(path))?;
        let node = node.ok_or_else(none)?;
        let found = self.query(|reader| reader.find(node.ino))?;
        let found = found.ok_or(Error::WrongKind {
            ino: node.ino,
            is: "a directory",
        })?;
        let (version, size) = (found.version_key, found.version.size);
        let peers = self.peers();
        let kept = match &self.shared.fetcher {
            Some(fetcher) => fetcher.store.kept(version)?,
            None => None,
        };
        let own = kept.map(|kept| Holder {
            node: peers.as_ref().map(|peers| peers.node()),
            is_complete: kept.is_complete || kept.blocks.covers(0..size),
            ranges: kept.blocks.iter().collect(),
            trust: match kept.provenance {
                Provenance::Proven => Trust::Anchored,
                Provenance::Member(_) => Trust::Member,
                Provenance::Provisional(_) => Trust::Provisional,
            },
        });
        let holders = peers.as_ref().map(|peers| peers.holders(version));
        let mut others: Vec<_> = holders
            .into_iter()
            .flatten()
            .filter_map(|peer| Some((peer.id(), peer.held(version)?)))
            .map(|(id, held)| holder(id, &held, size))
            .collect();
        others.sort_by_key(|holder| holder.node);
        Ok(Located {
            version,
            size,
            holders: own.into_iter().chain(others).collect(),
        })
    }
}

/// A peer tells of what it has from the origin, or compared with it; here that is its word.
fn holder(id: NodeId, held: &Held, size: u64) -> Holder {
    let (ranges, trust) = match held {
        Held::Complete => (Extents::from(0..size), Trust::Member),
        Held::Ranges(ranges) => (ranges.clone(), Trust::Provisional),
    };
    Holder {
        node: Some(id),
        ranges: ranges.iter().collect(),
        is_complete: *held == Held::Complete || ranges.covers(0..size),
        trust,
    }
}
