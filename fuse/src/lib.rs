//! The kernel adapter: FUSE callbacks, handles, errno table, invalidation, mount.
