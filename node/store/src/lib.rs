//! Remote content on disk.
