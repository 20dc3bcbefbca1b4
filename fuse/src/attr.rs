//! What `stat` shows.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo};
use musicfs_core::id::Ino;
use musicfs_library::{Node, NodeKind};

/// How long the kernel may use an entry or attributes without asking.
///
/// Every change is pushed by the invalidation thread, so this only bounds how long a lost
/// notification shows: long enough that nightly scans run out of the kernel's cache, and less
/// than a working day.
pub(crate) const TTL: Duration = Duration::from_hours(4);

/// How long the kernel may believe that a name does not exist.
///
/// Media servers look for `.ndignore` and the like in every directory, several times a scan. A new
/// name is pushed like any other change, so this too bounds lost notifications only; it is shorter
/// because a file that stays away is what a user notices.
pub(crate) const TTL_NEGATIVE: Duration = Duration::from_secs(90);

/// What `st_blksize` says. It decides how much some tag readers read: mutagen takes 53 KB of an
/// MP3 at 4096, 1.3 MB at 1 MiB.
pub(crate) const BLOCK_BYTES: u32 = 4096;

/// The unit of `st_blocks` (stat(2)).
const STAT_BLOCK_BYTES: u64 = 512;

/// Who owns every entry, and which permission bits nobody gets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) umask: u16,
}

/// The attributes of `node`, a function of the index alone: a remount shows the same.
pub(crate) fn of_node(node: &Node, owner: Owner) -> FileAttr {
    let mtime = system_time(node.mtime_ns);
    let (kind, bits) = match node.kind {
        NodeKind::Directory => (FileType::Directory, 0o555),
        NodeKind::File => (FileType::RegularFile, node.mode & 0o444),
    };
    FileAttr {
        ino: INodeNo(node.ino.0),
        size: node.size,
        blocks: node.size.div_ceil(STAT_BLOCK_BYTES),
        atime: mtime,
        mtime,
        ctime: mtime,
        crtime: mtime,
        kind,
        perm: bits & !owner.umask,
        // Directories too: 1 tells find(1) that the count says nothing about sub-directories.
        nlink: 1,
        uid: owner.uid,
        gid: owner.gid,
        rdev: 0,
        blksize: BLOCK_BYTES,
        flags: 0,
    }
}

/// The answer to a lookup that found nothing: an entry with inode 0, which the kernel keeps as a
/// negative entry for the entry's TTL (fs/fuse/dir.c, `fuse_lookup_name`).
pub(crate) fn negative() -> FileAttr {
    let node = Node {
        ino: Ino(0),
        kind: NodeKind::File,
        size: 0,
        mtime_ns: 0,
        mode: 0,
    };
    of_node(
        &node,
        Owner {
            uid: 0,
            gid: 0,
            umask: 0,
        },
    )
}

fn system_time(ns: i64) -> SystemTime {
    let distance = Duration::from_nanos(ns.unsigned_abs());
    if ns >= 0 {
        UNIX_EPOCH + distance
    } else {
        UNIX_EPOCH - distance
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: Owner = Owner {
        uid: 1000,
        gid: 100,
        umask: 0,
    };

    fn node(kind: NodeKind, size: u64, mode: u16) -> Node {
        Node {
            ino: Ino(300),
            kind,
            size,
            mtime_ns: 1_500_000_000_123_456_789,
            mode,
        }
    }

    #[test]
    fn permissions_are_the_origins_read_bits_without_the_umask() {
        let check = |kind, mode, umask, expect: u16| {
            let attr = of_node(&node(kind, 0, mode), Owner { umask, ..OWNER });
            assert_eq!(attr.perm, expect, "{kind:?} {mode:o} {umask:o}");
        };
        check(NodeKind::File, 0o444, 0, 0o444);
        check(NodeKind::File, 0o440, 0, 0o440);
        check(NodeKind::File, 0o777, 0, 0o444);
        check(NodeKind::File, 0o444, 0o077, 0o400);
        check(NodeKind::Directory, 0o555, 0, 0o555);
        check(NodeKind::Directory, 0o555, 0o027, 0o550);
    }

    #[test]
    fn blocks_come_from_the_size_and_times_are_all_the_mtime() {
        for (size, blocks) in [(0, 0), (1, 1), (512, 1), (513, 2), (5 << 30, 10_485_760)] {
            let attr = of_node(&node(NodeKind::File, size, 0o444), OWNER);
            assert_eq!((attr.size, attr.blocks, attr.blksize), (size, blocks, 4096));
            let mtime = UNIX_EPOCH + Duration::new(1_500_000_000, 123_456_789);
            assert_eq!([attr.atime, attr.mtime, attr.ctime], [mtime; 3]);
            assert_eq!((attr.uid, attr.gid, attr.nlink), (1000, 100, 1));
        }
    }

    #[test]
    fn times_before_1970_are_kept() {
        assert_eq!(system_time(-1), UNIX_EPOCH - Duration::from_nanos(1));
        assert!(system_time(i64::MIN) < UNIX_EPOCH);
    }

    #[test]
    fn a_negative_entry_has_inode_0() {
        assert_eq!(negative().ino, INodeNo(0));
    }
}
