//! Pins: paths of the tree whose content is to stay in the cache.

use rusqlite::Connection;

use crate::error::{Attempt, Error};
use crate::read::components;

/// Pins that may be at once: they are all read together, and each is looked up in the tree.
pub const PINS_MAX: usize = 10_000;

/// The longest path in bytes that can be pinned (Linux's PATH_MAX).
pub const PIN_PATH_LEN_MAX: usize = 4096;

/// Pins a path; false if it was pinned before.
pub(crate) fn pin(db: &Connection, path: &str, now_unix: i64) -> Result<bool, Error> {
    let path = plain(path);
    if path.len() > PIN_PATH_LEN_MAX {
        return Err(Error::PinPath { len: path.len() });
    }
    let added = db
        .prepare_cached("INSERT INTO pins VALUES (?1, ?2) ON CONFLICT (path) DO NOTHING")
        .and_then(|mut insert| insert.execute((&path, now_unix)))
        .attempt("write to")?;
    if added == 0 {
        return Ok(false);
    }
    let count: i64 = db
        .prepare_cached("SELECT COUNT(*) FROM pins")
        .and_then(|mut query| query.query_row([], |row| row.get(0)))
        .attempt("read")?;
    // The error undoes the transaction, and with it the insertion.
    if count > PINS_MAX as i64 {
        return Err(Error::PinsFull { path });
    }
    Ok(true)
}

/// Unpins a path; false if it was not pinned.
pub(crate) fn unpin(db: &Connection, path: &str) -> Result<bool, Error> {
    db.prepare_cached("DELETE FROM pins WHERE path = ?1")
        .and_then(|mut delete| delete.execute([plain(path)]))
        .map(|deleted| deleted > 0)
        .attempt("write to")
}

/// One way to write a path: no slash at its ends, one between two names.
fn plain(path: &str) -> String {
    components(path).collect::<Vec<_>>().join("/")
}
