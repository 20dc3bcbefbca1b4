//! The tree: entries placed, renamed and pruned within one transaction.
//!
//! Several files may want one name in one directory: they are a *group*. Copies of one file on
//! several origins become one entry of it, in [`groups`]; the others are named by
//! [`names::resolve`] from the set of members alone. Changes are collected first; then, in
//! [`Tree::settle`], empty directories go, groups are named, and companions follow their tracks.

mod companions;
mod groups;
mod journal;

use std::collections::{BTreeMap, BTreeSet};

use musicfs_core::id::{FileId, Ino};
use musicfs_core::names::{self, NameProfile};
use rusqlite::{Connection, OptionalExtension};

use crate::change::{Terms, TreeChange};
use crate::error::{Attempt, Error};
use journal::Journal;
pub(crate) use journal::Told;

/// The root's row.
const ROOT: i64 = Ino::ROOT.0 as i64;

/// The parent of entries that are kept but not shown.
const HIDDEN: i64 = 0;

/// Directories whose numbers are remembered between placements; then the memory starts afresh.
const DIRECTORIES_CACHED_MAX: usize = 4096;

/// Changed names reported one by one; beyond, telling the kernel costs more than looking up again.
const RENAMED_MAX: usize = 50_000;

/// Naming a group can displace companions and so touch other groups; each round settles one level.
const ROUNDS_MAX: usize = 8;

const CHILDREN_OF_ROOT: &str =
    "SELECT name FROM entries WHERE parent = ?1 AND ino <> ?1 AND leader IS NULL";

/// Whether an entry that is placed again still stands for the same content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// It keeps its inode number.
    Same,
    /// It gets a new one.
    New,
}

/// The entry of one file.
struct Entry {
    ino: i64,
    parent: i64,
    name: String,
    base: String,
    leader: Option<i64>,
}

impl Entry {
    /// True if the name leads to it.
    fn is_shown(&self) -> bool {
        self.parent != HIDDEN && is_shown(&self.name, self.leader)
    }
}

/// Changes of the tree within one transaction.
pub(crate) struct Tree<'c> {
    db: &'c Connection,
    profile: NameProfile,
    now_ns: i64,
    directories: BTreeMap<(i64, String), i64>,
    directories_added: i64,
    groups: BTreeSet<(i64, String)>,
    maybe_empty: BTreeSet<i64>,
    touched: BTreeSet<i64>,
    renamed: BTreeSet<(i64, String)>,
    companions: BTreeSet<(i64, Vec<u8>)>,
    /// Kept while somebody wants to know what became of files.
    journal: Option<Journal>,
}

/// What a transaction did to the tree.
pub(crate) struct Settled {
    pub(crate) change: TreeChange,
    /// By how much the number of directories grew.
    pub(crate) directories_added: i64,
    pub(crate) told: Told,
}

impl<'c> Tree<'c> {
    pub(crate) fn new(db: &'c Connection, terms: &Terms, now_ns: i64) -> Self {
        Self {
            db,
            profile: terms.layout.profile,
            now_ns,
            directories: BTreeMap::new(),
            directories_added: 0,
            groups: BTreeSet::new(),
            maybe_empty: BTreeSet::new(),
            touched: BTreeSet::new(),
            renamed: BTreeSet::new(),
            companions: BTreeSet::new(),
            journal: terms.has_listeners().then(Journal::default),
        }
    }

    /// Puts the one entry of a track at `path` (directories and a wanted name).
    pub(crate) fn place(
        &mut self,
        file: FileId,
        path: &[String],
        content: Content,
    ) -> Result<(), Error> {
        let (base, directories) = path.split_last().expect("a rendered path has a name");
        let parent = self.directory(directories)?;
        let entry = self.entries_of(file)?.into_iter().next();
        self.put(file, entry, parent, base, content)
    }

    /// Removes all entries of a file.
    pub(crate) fn remove(&mut self, file: FileId) -> Result<(), Error> {
        for entry in self.entries_of(file)? {
            self.delete(&entry)?;
        }
        Ok(())
    }

    /// Takes all entries of a file out of sight but keeps their numbers.
    pub(crate) fn hide(&mut self, file: FileId) -> Result<(), Error> {
        for entry in self.entries_of(file)? {
            if entry.parent != HIDDEN {
                self.leave(&entry)?;
                self.write_place(
                    entry.ino,
                    HIDDEN,
                    &hidden_name(entry.ino),
                    Some(&entry.base),
                )?;
            }
        }
        Ok(())
    }

    /// Notes that `stat` shows something else for the entries of a file.
    pub(crate) fn attributes_changed(&mut self, file: FileId) -> Result<(), Error> {
        for entry in self.entries_of(file)? {
            if entry.is_shown() {
                self.renamed.insert((entry.parent, entry.name));
            }
        }
        Ok(())
    }

    /// Notes that a file's real path or its sample changed: its suffix depends on the one, which
    /// files it is a copy of on the other.
    pub(crate) fn key_changed(&mut self, file: FileId) -> Result<(), Error> {
        for entry in self.entries_of(file)? {
            if entry.parent != HIDDEN {
                self.groups.insert((entry.parent, entry.base));
            }
        }
        Ok(())
    }

    /// Notes that the tracks or companions in a real directory changed.
    pub(crate) fn companions_changed(&mut self, origin: i64, dir: &[u8]) {
        self.companions.insert((origin, dir.to_vec()));
    }

    /// Makes names, companions and directories agree with what was placed and removed.
    pub(crate) fn settle(mut self) -> Result<Settled, Error> {
        for _ in 0..ROUNDS_MAX {
            self.name_groups()?;
            for (origin, dir) in std::mem::take(&mut self.companions) {
                self.place_companions(origin, &dir)?;
            }
            self.prune()?;
            if self.groups.is_empty() && self.companions.is_empty() {
                break;
            }
        }
        debug_assert!(
            self.groups.is_empty(),
            "names settle within {ROUNDS_MAX} rounds"
        );
        let told = self.tell()?;
        self.condense()?;
        let mut directories = Vec::new();
        for ino in &self.touched {
            let updated = self
                .db
                .prepare_cached(
                    "UPDATE entries SET mtime = MAX(?2, mtime + 1) WHERE ino = ?1 AND file IS NULL",
                )
                .and_then(|mut update| update.execute((ino, self.now_ns)))
                .attempt("write to")?;
            if updated > 0 {
                directories.push(Ino(ino.cast_unsigned()));
            }
        }
        let entries = self.renamed.into_iter();
        let change = TreeChange {
            entries: entries
                .map(|(parent, name)| (Ino(parent.cast_unsigned()), name))
                .collect(),
            directories,
        };
        Ok(Settled {
            change,
            directories_added: self.directories_added,
            told,
        })
    }

    /// Where very many names changed, reports the root's children instead of each: the kernel drops
    /// what lies below an entry together with it.
    fn condense(&mut self) -> Result<(), Error> {
        if self.renamed.len() <= RENAMED_MAX {
            return Ok(());
        }
        self.renamed.retain(|(parent, _)| *parent == ROOT);
        let names: Vec<String> = self
            .db
            .prepare_cached(CHILDREN_OF_ROOT)
            .and_then(|mut query| query.query_map([ROOT], |row| row.get(0))?.collect())
            .attempt("read")?;
        self.renamed
            .extend(names.into_iter().map(|name| (ROOT, name)));
        Ok(())
    }

    /// The number of a directory; it and those above it are made if need be.
    fn directory(&mut self, path: &[String]) -> Result<i64, Error> {
        let mut parent = ROOT;
        for name in path {
            let key = (parent, name.clone());
            parent = match self.directories.get(&key) {
                Some(&ino) => ino,
                None => {
                    let ino = self.child_directory(parent, name)?;
                    if self.directories.len() >= DIRECTORIES_CACHED_MAX {
                        self.directories.clear();
                    }
                    self.directories.insert(key, ino);
                    ino
                }
            };
        }
        Ok(parent)
    }

    fn child_directory(&mut self, parent: i64, name: &str) -> Result<i64, Error> {
        let found: Option<(i64, Option<i64>)> = self
            .db
            .prepare_cached("SELECT ino, file FROM entries WHERE parent = ?1 AND name = ?2")
            .and_then(|mut query| {
                query
                    .query_row((parent, name), |row| Ok((row.get(0)?, row.get(1)?)))
                    .optional()
            })
            .attempt("read")?;
        match found {
            Some((ino, None)) => return Ok(ino),
            // A file has the name: the directory takes it, and the file's group is named again.
            Some((ino, Some(_))) => {
                self.note_shown(parent, name, ino)?;
                self.write_place(ino, parent, &temporary_name(ino), Some(name))?;
                self.groups.insert((parent, name.to_owned()));
            }
            None => {}
        }
        self.db
            .prepare_cached("INSERT INTO entries (parent, name, mtime) VALUES (?1, ?2, ?3)")
            .and_then(|mut insert| insert.execute((parent, name, self.now_ns)))
            .attempt("write to")?;
        self.directories_added += 1;
        self.touch(parent, name);
        Ok(self.db.last_insert_rowid())
    }

    /// Gives `file` an entry for `base` in `parent`, out of `entry` if it has one already.
    fn put(
        &mut self,
        file: FileId,
        entry: Option<Entry>,
        parent: i64,
        base: &str,
        content: Content,
    ) -> Result<(), Error> {
        let old = match entry {
            Some(old) if content == Content::New => {
                self.delete(&old)?;
                None
            }
            Some(old) if old.parent == parent && old.base == base => return Ok(()),
            other => other,
        };
        let free = is_plain(base) && self.is_free(parent, base)?;
        let ino = match old {
            Some(old) => {
                if old.parent != HIDDEN {
                    self.leave(&old)?;
                }
                let name = if free {
                    base.to_owned()
                } else {
                    temporary_name(old.ino)
                };
                self.write_place(old.ino, parent, &name, Some(base))?;
                old.ino
            }
            None => self.insert(file, parent, base, free)?,
        };
        if free {
            self.touch(parent, base);
        } else {
            // Whether anything new shows is known when the group is named.
            self.groups.insert((parent, base.to_owned()));
        }
        debug_assert!(ino > ROOT, "only the schema makes the root");
        Ok(())
    }

    fn insert(&self, file: FileId, parent: i64, base: &str, free: bool) -> Result<i64, Error> {
        let temporary = format!("\u{1}{}", file.0);
        let (name, wanted) = if free {
            (base, None)
        } else {
            (temporary.as_str(), Some(base))
        };
        self.db
            .prepare_cached(
                "INSERT INTO entries (parent, name, base, file) VALUES (?1, ?2, ?3, ?4)",
            )
            .and_then(|mut insert| insert.execute((parent, name, wanted, file.0)))
            .attempt("write to")?;
        Ok(self.db.last_insert_rowid())
    }

    fn is_free(&self, parent: i64, name: &str) -> Result<bool, Error> {
        self.db
            .prepare_cached("SELECT 1 FROM entries WHERE parent = ?1 AND name = ?2")
            .and_then(|mut query| query.exists((parent, name)))
            .map(|taken| !taken)
            .attempt("read")
    }

    fn entries_of(&self, file: FileId) -> Result<Vec<Entry>, Error> {
        self.db
            .prepare_cached(
                "SELECT ino, parent, name, IFNULL(base, name), leader FROM entries
                 WHERE file = ?1 ORDER BY ino",
            )
            .and_then(|mut query| query.query_map([file.0], entry)?.collect())
            .attempt("read")
    }

    fn delete(&mut self, entry: &Entry) -> Result<(), Error> {
        if entry.parent != HIDDEN {
            self.leave(entry)?;
        }
        self.db
            .prepare_cached("DELETE FROM entries WHERE ino = ?1")
            .and_then(|mut delete| delete.execute([entry.ino]))
            .map(drop)
            .attempt("write to")
    }

    /// Notes that an entry goes away from where it is.
    fn leave(&mut self, entry: &Entry) -> Result<(), Error> {
        self.groups.insert((entry.parent, entry.base.clone()));
        self.maybe_empty.insert(entry.parent);
        if entry.is_shown() {
            self.note_shown(entry.parent, &entry.name, entry.ino)?;
            self.touch(entry.parent, &entry.name);
        }
        Ok(())
    }

    /// Notes that a name leads elsewhere; if it led to a file, that has been noted before.
    fn touch(&mut self, parent: i64, name: &str) {
        if let Some(journal) = &mut self.journal {
            journal.note_free(parent, name);
        }
        self.touched.insert(parent);
        self.renamed.insert((parent, name.to_owned()));
    }

    /// Puts an entry somewhere, where it is shown under `name`.
    fn write_place(
        &self,
        ino: i64,
        parent: i64,
        name: &str,
        base: Option<&str>,
    ) -> Result<(), Error> {
        let base = base.filter(|&base| base != name);
        self.db
            .prepare_cached(
                "UPDATE entries SET parent = ?2, name = ?3, base = ?4, leader = NULL
                 WHERE ino = ?1",
            )
            .and_then(|mut update| update.execute((ino, parent, name, base)))
            .map(drop)
            .attempt("write to")
    }

    /// Removes directories that have become empty, and those above that become so with them.
    fn prune(&mut self) -> Result<(), Error> {
        for start in std::mem::take(&mut self.maybe_empty) {
            let mut directory = start;
            while directory != ROOT {
                let row: Option<(i64, String)> = self
                    .db
                    .prepare_cached(
                        "SELECT parent, name FROM entries e WHERE ino = ?1 AND file IS NULL
                         AND NOT EXISTS (SELECT 1 FROM entries c WHERE c.parent = e.ino)",
                    )
                    .and_then(|mut query| {
                        query
                            .query_row([directory], |row| Ok((row.get(0)?, row.get(1)?)))
                            .optional()
                    })
                    .attempt("read")?;
                let Some((parent, name)) = row else { break };
                self.db
                    .prepare_cached("DELETE FROM entries WHERE ino = ?1")
                    .and_then(|mut delete| delete.execute([directory]))
                    .attempt("write to")?;
                self.directories_added -= 1;
                if let Some(journal) = &mut self.journal {
                    journal.note_pruned(directory, parent, &name);
                }
                self.directories.remove(&(parent, name.clone()));
                self.touch(parent, &name);
                self.groups.insert((parent, name));
                directory = parent;
            }
        }
        Ok(())
    }
}

/// True if a lone file that wants `base` gets it as it is.
fn is_plain(base: &str) -> bool {
    names::resolve(base, &[&[]], false)
        .first()
        .is_some_and(|name| name == base)
}

/// A name that no tag can make (control characters are replaced), for the time between two steps.
fn temporary_name(ino: i64) -> String {
    format!("\u{2}{ino}")
}

fn hidden_name(ino: i64) -> String {
    format!("\u{3}{ino}")
}

/// The name of an entry while another is shown instead.
fn follower_name(ino: i64) -> String {
    format!("\u{4}{ino}")
}

/// True if an entry with this name and leader, in a directory of the tree, is one that shows.
fn is_shown(name: &str, leader: Option<i64>) -> bool {
    leader.is_none() && !name.starts_with(char::is_control)
}

fn entry(row: &rusqlite::Row<'_>) -> rusqlite::Result<Entry> {
    Ok(Entry {
        ino: row.get(0)?,
        parent: row.get(1)?,
        name: row.get(2)?,
        base: row.get(3)?,
        leader: row.get(4)?,
    })
}
