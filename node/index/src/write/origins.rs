//! Which origins there are, and which of them comes first.

use musicfs_core::id::Revision;
use rusqlite::{Connection, OptionalExtension};

use super::Write;
use crate::change::{Commit, Terms};
use crate::error::{Attempt, Error};
use crate::tree::Tree;
use crate::writer::OriginSpec;

/// Writes the origins' rows, and lets other copies lead where priorities changed.
pub(crate) fn configure(
    db: &Connection,
    terms: &Terms,
    origins: &[OriginSpec],
    now_ns: i64,
) -> Result<(Vec<i64>, Commit), Error> {
    let mut rows = Vec::new();
    let mut reordered = false;
    for origin in origins {
        let known: Option<u32> = db
            .query_row(
                "SELECT priority FROM origins WHERE name = ?1",
                [&origin.name],
                |row| row.get(0),
            )
            .optional()
            .attempt("read")?;
        reordered |= known.is_some_and(|known| known != origin.priority);
        rows.push(write_origin(db, origin)?);
    }
    if !reordered {
        let commit = Commit {
            revision: revision(db)?,
            ..Commit::default()
        };
        return Ok((rows, commit));
    }
    let mut tree = Tree::new(db, terms, now_ns);
    tree.priorities_changed()?;
    let commit = Write::new(db, terms, tree, now_ns).finish()?;
    Ok((rows, commit))
}

fn write_origin(db: &Connection, origin: &OriginSpec) -> Result<i64, Error> {
    // What is known of the ETags of one place says nothing of another's.
    db.query_row(
        "INSERT INTO origins (name, kind, display_name, priority) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (name) DO UPDATE SET kind = ?2, display_name = ?3, priority = ?4,
             etag_is_md5 = IIF(kind = ?2 AND display_name = ?3, etag_is_md5, NULL)
         RETURNING id",
        (
            &origin.name,
            &origin.kind,
            &origin.display_name,
            origin.priority,
        ),
        |row| row.get(0),
    )
    .attempt("write to")
}

fn revision(db: &Connection) -> Result<Revision, Error> {
    db.query_row("SELECT value FROM meta WHERE key = 'revision'", [], |row| {
        row.get::<_, i64>(0)
    })
    .map(|revision| Revision(revision.cast_unsigned()))
    .attempt("read")
}
