//! Changes that concern a whole tree or a whole origin.

use musicfs_core::id::FileId;
use rusqlite::Connection;

use super::{OLD_ROW, OldRow, Write, old_row};
use crate::change::{Commit, Terms};
use crate::error::{Attempt, Error};
use crate::tree::{Content, Tree};

/// Files of an origin forgotten in one commit: some tenths of a second in which nobody else writes.
pub const FORGET_FILES_MAX: usize = 5_000;

const NEXT_OF_ORIGIN: &str = "origin_id = ?1 ORDER BY dir, name LIMIT ?2";

/// Places every file that is shown anew; rows keep their entries' numbers.
pub(crate) fn rebuild(db: &Connection, terms: &Terms, now_ns: i64) -> Result<Commit, Error> {
    let tree = Tree::new(db, terms, now_ns);
    let mut write = Write::new(db, terms, tree, now_ns);
    write.place_all("NOT o.hidden", 0)?;
    // Also those that stay where they are: what makes copies of files may be new itself.
    write.tree.all_groups()?;
    db.execute(
        "INSERT OR REPLACE INTO meta VALUES ('layout', ?1)",
        [terms.layout.fingerprint()],
    )
    .attempt("write to")?;
    write.finish()
}

/// Takes an origin's files out of the tree, or puts them back.
pub(crate) fn set_hidden(
    db: &Connection,
    terms: &Terms,
    origin: i64,
    hidden: bool,
    now_ns: i64,
) -> Result<Commit, Error> {
    db.execute(
        "UPDATE origins SET hidden = ?2 WHERE id = ?1",
        (origin, hidden),
    )
    .attempt("write to")?;
    let tree = Tree::new(db, terms, now_ns);
    let mut write = Write::new(db, terms, tree, now_ns);
    if hidden {
        write.each_file("o.id = ?2", origin, |write, id| write.tree.hide(id))?;
    } else {
        write.place_all("o.id = ?2", origin)?;
    }
    write.finish()
}

/// Removes up to `limit` files of an origin, and with the last of them the origin.
///
/// True if nothing is left of it. Until then its row stays: it can be forgotten on after a crash.
pub(crate) fn forget_some(
    db: &Connection,
    terms: &Terms,
    origin: i64,
    limit: usize,
    now_ns: i64,
) -> Result<(Commit, bool), Error> {
    let limit = limit.clamp(1, FORGET_FILES_MAX);
    let tree = Tree::new(db, terms, now_ns);
    let mut write = Write::new(db, terms, tree, now_ns);
    let shown = db
        .prepare_cached("SELECT 1 FROM origins WHERE id = ?1 AND NOT hidden")
        .and_then(|mut query| query.exists([origin]))
        .attempt("read")?;
    // In the order of an index, and whole directories one after the other.
    let rows: Vec<OldRow> = db
        .prepare_cached(&format!(
            "SELECT {OLD_ROW} FROM files WHERE {NEXT_OF_ORIGIN}"
        ))
        .and_then(|mut query| query.query_map((origin, limit as i64), old_row)?.collect())
        .attempt("read")?;
    for row in &rows {
        // Companions that nobody sees need not follow: each goes when its turn comes.
        if shown {
            write.remove(row)?;
        } else {
            write.remove_row(row)?;
        }
    }
    let done = rows.len() < limit;
    let commit = write.finish()?;
    if done {
        db.prepare_cached("DELETE FROM origins WHERE id = ?1")
            .and_then(|mut delete| delete.execute([origin]))
            .attempt("write to")?;
    }
    Ok((commit, done))
}

impl Write<'_> {
    /// Does `action` on the files that `condition` chooses (`f` the file, `o` its origin, `?2` =
    /// `origin`), a page at a time.
    fn each_file(
        &mut self,
        condition: &str,
        origin: i64,
        mut action: impl FnMut(&mut Self, FileId) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let sql = format!(
            "SELECT f.id FROM files f JOIN origins o ON o.id = f.origin_id
             WHERE f.id > ?1 AND ?2 = ?2 AND {condition} ORDER BY f.id LIMIT 1000"
        );
        let mut after = i64::MIN;
        loop {
            let page: Vec<i64> = self
                .db
                .prepare_cached(&sql)
                .and_then(|mut query| {
                    query
                        .query_map((after, origin), |row| row.get(0))?
                        .collect()
                })
                .attempt("read")?;
            let Some(&last) = page.last() else {
                return Ok(());
            };
            after = last;
            for id in page {
                action(self, FileId(id))?;
            }
        }
    }

    /// Places all tracks of the origins that `condition` chooses.
    fn place_all(&mut self, condition: &str, origin: i64) -> Result<(), Error> {
        let tracks = format!("f.kind = 0 AND {condition}");
        self.each_file(&tracks, origin, |write, id| write.place(id, Content::Same))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::plan_of;

    #[test]
    fn files_to_forget_come_in_order_without_sorting() {
        let plan = plan_of(&format!(
            "SELECT {OLD_ROW} FROM files WHERE {NEXT_OF_ORIGIN}"
        ));
        assert!(plan.starts_with("SEARCH files USING INDEX"), "{plan}");
        assert!(!plan.contains("TEMP"), "{plan}");
    }
}
