//! The facade every surface calls: lookup, list, open, read; ingest; events.
