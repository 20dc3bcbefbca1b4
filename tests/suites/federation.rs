//! Several origins with the same files: one tree, and reads that go on when one of them stops.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail like tests")]

#[path = "federation/failover.rs"]
mod failover;
#[path = "federation/offline.rs"]
mod offline;
#[path = "federation/pair.rs"]
mod pair;
#[path = "federation/reload.rs"]
mod reload;

use std::fs;
use std::path::{Path, PathBuf};

use musicfs_tests::remote::pairs;
use musicfs_tests::{tree, wait_until};
use pair::{Pair, Place};

fn is_equal(file: &Path, original: &Path) -> std::io::Result<bool> {
    Ok(fs::read(file)? == fs::read(original)?)
}

#[test]
fn the_same_album_on_two_origins_is_in_the_tree_once() {
    let pair = Pair::new([Place::S3, Place::Sftp]);
    let daemon = pair.mount_scanned();
    for (file, original) in pairs(&pair.home) {
        assert!(is_equal(&file, &original).unwrap(), "{file:?}");
        assert_eq!(tree::xattr(&file, "user.musicfs.origin"), "first");
    }
    assert_eq!(
        pair.servers[1].content_bytes(),
        pair.indexed(1),
        "the second is not read while the first is there"
    );
    daemon.stop();
}
