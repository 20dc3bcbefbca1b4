//! What a transaction does to the files that the tree shows, name by name, for whoever listens.
//!
//! What a name led to is noted before the transaction first changes it, and compared with what it
//! leads to at the end: so what came and went again within one transaction is not told.

use std::collections::BTreeMap;

use rusqlite::OptionalExtension;

use super::{ROOT, Tree};
use crate::change::ShownChange;
use crate::error::{Attempt, Error};

/// Names of files noted in one transaction; if there are more, none is told. A batch touches far
/// fewer. A new template touches all there are, and nobody reads a hundred thousand lines.
const NAMES_MAX: usize = 16_384;

const SHOWN_AS: &str =
    "SELECT e.ino, e.file, f.origin_id FROM entries e JOIN files f ON f.id = e.file
     WHERE e.parent = ?1 AND e.name = ?2 AND e.leader IS NULL";

/// What the names that a transaction touches led to before it.
#[derive(Default)]
pub(super) struct Journal {
    was: BTreeMap<(i64, String), Option<Shown>>,
    /// Where the directories were that have gone, by number: they never move.
    pruned: BTreeMap<i64, (i64, String)>,
    is_full: bool,
}

/// What became of files, and how many names are not told because there were too many.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) files: Vec<ShownChange>,
    pub(crate) names_untold: u64,
}

/// A file under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shown {
    ino: i64,
    file: i64,
    origin: i64,
}

impl Journal {
    /// Notes what a name leads to, or led to, before it was first touched.
    fn note(&mut self, parent: i64, name: &str, shown: Option<Shown>) {
        if self.is_full {
            return;
        }
        self.was.entry((parent, name.to_owned())).or_insert(shown);
        if self.was.len() > NAMES_MAX {
            self.is_full = true;
            self.was.clear();
        }
    }

    /// Notes that a name which led to no file is about to change.
    pub(super) fn note_free(&mut self, parent: i64, name: &str) {
        self.note(parent, name, None);
    }

    /// Notes that a directory goes.
    pub(super) fn note_pruned(&mut self, ino: i64, parent: i64, name: &str) {
        if !self.is_full {
            self.pruned.insert(ino, (parent, name.to_owned()));
        }
    }
}

impl Tree<'_> {
    /// Notes that a name stops leading to the entry `ino`.
    pub(super) fn note_shown(&mut self, parent: i64, name: &str, ino: i64) -> Result<(), Error> {
        let Some(journal) = &mut self.journal else {
            return Ok(());
        };
        let shown = self
            .db
            .prepare_cached(
                "SELECT e.ino, e.file, f.origin_id FROM entries e JOIN files f ON f.id = e.file
                 WHERE e.ino = ?1",
            )
            .and_then(|mut query| query.query_row([ino], shown).optional())
            .attempt("read")?;
        journal.note(parent, name, shown);
        Ok(())
    }

    /// Compares what names led to with what they lead to now.
    pub(super) fn tell(&mut self) -> Result<Told, Error> {
        let Some(journal) = self.journal.take() else {
            return Ok(Told::default());
        };
        if journal.is_full {
            let names_untold = self.renamed.len() as u64;
            return Ok(Told {
                files: Vec::new(),
                names_untold,
            });
        }
        let mut telling = Telling::default();
        let mut paths = Paths {
            tree: self,
            pruned: journal.pruned,
            known: BTreeMap::from([(ROOT, String::new())]),
        };
        for ((parent, name), was) in journal.was {
            let is = paths.tree.shown_as(parent, &name)?;
            if was.map(|was| was.ino) == is.map(|is| is.ino) {
                continue;
            }
            let path = paths.of(parent, &name)?;
            telling.add(was, is, path);
        }
        let origins = self.origin_names()?;
        let files = telling.finish(|origin| origins.get(&origin).cloned().unwrap_or_default());
        Ok(Told {
            files,
            names_untold: 0,
        })
    }

    fn shown_as(&self, parent: i64, name: &str) -> Result<Option<Shown>, Error> {
        self.db
            .prepare_cached(SHOWN_AS)
            .and_then(|mut query| query.query_row((parent, name), shown).optional())
            .attempt("read")
    }

    fn origin_names(&self) -> Result<BTreeMap<i64, String>, Error> {
        self.db
            .prepare_cached("SELECT id, name FROM origins")
            .and_then(|mut query| {
                query
                    .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                    .collect()
            })
            .attempt("read")
    }
}

/// Finds the paths of directories, also of those that have gone.
struct Paths<'t, 'c> {
    tree: &'t Tree<'c>,
    pruned: BTreeMap<i64, (i64, String)>,
    known: BTreeMap<i64, String>,
}

impl Paths<'_, '_> {
    fn of(&mut self, parent: i64, name: &str) -> Result<String, Error> {
        let mut above = Vec::new();
        let mut at = parent;
        let mut path = loop {
            if let Some(path) = self.known.get(&at) {
                break path.clone();
            }
            let place = match self.pruned.get(&at) {
                Some(place) => Some(place.clone()),
                None => self
                    .tree
                    .db
                    .prepare_cached("SELECT parent, name FROM entries WHERE ino = ?1")
                    .and_then(|mut query| {
                        query
                            .query_row([at], |row| Ok((row.get(0)?, row.get(1)?)))
                            .optional()
                    })
                    .attempt("read")?,
            };
            let Some((next, name)) = place else {
                return Err(Error::Damaged { table: "entries" });
            };
            above.push((at, name));
            at = next;
        };
        for (ino, name) in above.into_iter().rev() {
            path = join(&path, &name);
            self.known.insert(ino, path.clone());
        }
        Ok(join(&path, name))
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        return name.to_owned();
    }
    format!("{path}/{name}")
}

fn shown(row: &rusqlite::Row<'_>) -> rusqlite::Result<Shown> {
    Ok(Shown {
        ino: row.get(0)?,
        file: row.get(1)?,
        origin: row.get(2)?,
    })
}

/// Puts what happened to names together to what happened to files. Pure.
#[derive(Default)]
struct Telling {
    /// What a name led to went, and nothing took its place.
    gone: BTreeMap<i64, Vec<(Shown, String)>>,
    /// What led nowhere leads to a file.
    came: Vec<(Shown, String)>,
    /// Another file, or other content, under the same name.
    changed: Vec<(Shown, String)>,
}

impl Telling {
    fn add(&mut self, was: Option<Shown>, is: Option<Shown>, path: String) {
        match (was, is) {
            (Some(was), None) => self.gone.entry(was.file).or_default().push((was, path)),
            (None, Some(is)) => self.came.push((is, path)),
            (Some(_), Some(is)) => self.changed.push((is, path)),
            (None, None) => {}
        }
    }

    /// A file that went from one name and came under another was moved.
    fn finish(mut self, origin: impl Fn(i64) -> String) -> Vec<ShownChange> {
        let mut told = Vec::new();
        for (is, path) in self.changed {
            told.push(ShownChange {
                origin: origin(is.origin),
                before: Some(path.clone()),
                after: Some(path),
            });
        }
        for (is, path) in self.came {
            let left = self.gone.get_mut(&is.file).and_then(Vec::pop);
            told.push(ShownChange {
                origin: origin(is.origin),
                before: left.map(|(_, path)| path),
                after: Some(path),
            });
        }
        for (was, path) in self.gone.into_values().flatten() {
            told.push(ShownChange {
                origin: origin(was.origin),
                before: Some(path),
                after: None,
            });
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::plan_of;

    #[test]
    fn a_name_is_looked_up_by_index() {
        let plan = plan_of(SHOWN_AS);
        assert!(
            plan.contains("(parent=? AND name=?)") && !plan.contains("SCAN"),
            "{plan}"
        );
    }

    #[test]
    fn names_become_files() {
        let shown = |file: i64, ino: i64| Shown {
            ino,
            file,
            origin: 1,
        };
        let check = |names: &[(Option<Shown>, Option<Shown>, &str)],
                     expect: &[(Option<&str>, Option<&str>)]| {
            let mut telling = Telling::default();
            for (was, is, path) in names {
                telling.add(*was, *is, (*path).to_owned());
            }
            let told = telling.finish(|_| "nas".into());
            let pairs: Vec<_> = told
                .iter()
                .map(|change| (change.before.as_deref(), change.after.as_deref()))
                .collect();
            assert_eq!(pairs, expect);
            assert!(told.iter().all(|change| change.origin == "nas"));
        };
        check(&[(None, Some(shown(1, 10)), "a")], &[(None, Some("a"))]);
        check(&[(Some(shown(1, 10)), None, "a")], &[(Some("a"), None)]);
        // A new content of the file, or a copy of it.
        check(
            &[(Some(shown(1, 10)), Some(shown(2, 11)), "a")],
            &[(Some("a"), Some("a"))],
        );
        // Moved, with the same content or with another.
        check(
            &[
                (Some(shown(1, 10)), None, "a"),
                (None, Some(shown(1, 11)), "b"),
            ],
            &[(Some("a"), Some("b"))],
        );
        // A cover that was beside two albums and is beside one.
        check(
            &[
                (Some(shown(1, 10)), None, "a"),
                (Some(shown(1, 11)), None, "b"),
                (None, Some(shown(1, 10)), "c"),
            ],
            &[(Some("b"), Some("c")), (Some("a"), None)],
        );
        check(&[(None, None, "a")], &[]);
    }

    #[test]
    fn too_many_names_are_none() {
        let mut journal = Journal::default();
        for number in 0..=NAMES_MAX {
            assert!(!journal.is_full, "{number}");
            journal.note_free(1, &number.to_string());
            journal.note_free(1, &number.to_string());
        }
        assert!(journal.is_full && journal.was.is_empty());
        journal.note_free(1, "one more");
        assert!(journal.was.is_empty());
    }
}
