//! What the tests of the store share.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use musicfs_core::version::VersionKey;
use musicfs_store::{Class, Config, Limits, Object, RealDisk, Store, Written};

pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const KIB: u64 = 1 << 10;

/// Room for everything that a test writes.
pub(crate) const AMPLE: Limits = Limits {
    bodies: 256 * MIB,
    headers: 64 * MIB,
    free_min: 0,
};

/// Bytes from a seed (splitmix64): the content of a version.
pub(crate) fn content(seed: u64, len: usize) -> Vec<u8> {
    let mut random = Random(seed);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend(random.next().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// The key of a made-up version; neighbours lie in different shards.
pub(crate) fn version(number: u64) -> VersionKey {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&Random(number).next().to_le_bytes());
    key[8..].copy_from_slice(&number.to_le_bytes());
    VersionKey(key)
}

/// A store on the real disk that is ready for writing.
pub(crate) fn real(dir: &Path, limits: Limits) -> Arc<Store> {
    let store = opened(dir, limits);
    store.recover().unwrap();
    store
}

/// A store on the real disk that knows nothing yet.
pub(crate) fn opened(dir: &Path, limits: Limits) -> Arc<Store> {
    let config = Config {
        dir: dir.to_owned(),
        limits,
    };
    Store::open(config, Arc::new(RealDisk::new())).unwrap()
}

/// The object of version `number`, all of it written as `class`.
pub(crate) fn filled(store: &Arc<Store>, number: u64, bytes: &[u8], class: Class) -> Arc<Object> {
    let object = store.object(version(number), bytes.len() as u64).unwrap();
    assert_eq!(object.write(0, bytes, class).unwrap(), Written::Kept);
    object
}

/// The path of an object's file; its map has `.map` behind it.
pub(crate) fn path(dir: &Path, number: u64) -> std::path::PathBuf {
    let name = version(number).to_string();
    dir.join("objects").join(&name[..2]).join(name)
}

/// What `du` says.
pub(crate) fn du(path: &Path) -> u64 {
    // What vanishes meanwhile takes nothing.
    let Ok(found) = std::fs::symlink_metadata(path) else {
        return 0;
    };
    let below = std::fs::read_dir(path).into_iter().flatten().flatten();
    let below: u64 = below.map(|entry| du(&entry.path())).sum();
    found.blocks() * 512 + below
}

/// splitmix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}
