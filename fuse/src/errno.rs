//! The errno for every kind of error.

use fuser::Errno;
use musicfs_core::error::ErrorKind;

/// The errno that a failed operation answers. Exhaustive on purpose: a new kind must choose.
pub(crate) fn of_kind(kind: ErrorKind) -> Errno {
    match kind {
        ErrorKind::NotFound => Errno::ENOENT,
        ErrorKind::Stale => Errno::ESTALE,
        ErrorKind::Denied => Errno::EACCES,
        ErrorKind::Invalid => Errno::EINVAL,
        ErrorKind::Unavailable | ErrorKind::DeadlineExceeded | ErrorKind::Corrupt => Errno::EIO,
        // What runs out while reading is file descriptors; ENOSPC would send the user to look at
        // the free space of a read-only mount.
        ErrorKind::Exhausted => Errno::ENFILE,
        ErrorKind::Cancelled => Errno::EINTR,
        ErrorKind::Unsupported => Errno::EOPNOTSUPP,
    }
}

/// The errno of an operation on an inode that the kernel knows and that failed with `kind`.
///
/// An inode that the index no longer has means that the kernel's entry is out of date. ESTALE
/// makes its VFS look the name up again, and the caller sees what is there now.
pub(crate) fn of_kind_by_inode(kind: ErrorKind) -> Errno {
    match kind {
        ErrorKind::NotFound => Errno::ESTALE,
        ErrorKind::Stale
        | ErrorKind::Denied
        | ErrorKind::Invalid
        | ErrorKind::Unavailable
        | ErrorKind::DeadlineExceeded
        | ErrorKind::Corrupt
        | ErrorKind::Exhausted
        | ErrorKind::Cancelled
        | ErrorKind::Unsupported => of_kind(kind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_errno() {
        let table = [
            (ErrorKind::NotFound, Errno::ENOENT),
            (ErrorKind::Stale, Errno::ESTALE),
            (ErrorKind::Denied, Errno::EACCES),
            (ErrorKind::Invalid, Errno::EINVAL),
            (ErrorKind::Unavailable, Errno::EIO),
            (ErrorKind::DeadlineExceeded, Errno::EIO),
            (ErrorKind::Corrupt, Errno::EIO),
            (ErrorKind::Exhausted, Errno::ENFILE),
            (ErrorKind::Cancelled, Errno::EINTR),
            (ErrorKind::Unsupported, Errno::EOPNOTSUPP),
        ];
        for (kind, errno) in table {
            assert_eq!(of_kind(kind), errno, "{kind:?}");
            let by_inode = if kind == ErrorKind::NotFound {
                Errno::ESTALE
            } else {
                errno
            };
            assert_eq!(of_kind_by_inode(kind), by_inode, "{kind:?}");
        }
    }
}
