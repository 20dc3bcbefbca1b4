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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_no_more_pins_than_may_be() {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(include_str!("../schema.sql")).unwrap();
        db.execute_batch(include_str!("../schema2.sql")).unwrap();
        db.execute(
            "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?1)
             INSERT INTO pins SELECT 'p' || n, n FROM n",
            [PINS_MAX as i64 - 1],
        )
        .unwrap();
        assert!(pin(&db, "the last", 1).unwrap());
        assert!(
            !pin(&db, "p1", 1).unwrap(),
            "it is there, no room is needed"
        );
        let full = pin(&db, "one more", 1).unwrap_err();
        assert!(matches!(full, Error::PinsFull { path } if path == "one more"));
        let too_long = "x".repeat(PIN_PATH_LEN_MAX + 1);
        let error = pin(&db, &too_long, 1).unwrap_err();
        assert!(matches!(error, Error::PinPath { len } if len == PIN_PATH_LEN_MAX + 1));
    }
}
