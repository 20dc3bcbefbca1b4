//! Where music comes from: local directories.
