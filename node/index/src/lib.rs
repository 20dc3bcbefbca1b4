//! The metadata index: SQLite schema, one writer, read pool, tree.
