//! File names.
