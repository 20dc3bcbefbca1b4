//! Paths of the tree: from a path to an entry and back, and over all files below one.

use musicfs_core::id::Ino;
use rusqlite::{Connection, OptionalExtension, Row};

use super::{FileBelow, Node, NodeKind, Reader, content, ino, lookup, node_of};
use crate::error::{Attempt, Error};

/// Directories from the root to an entry. Templates and layouts make far fewer; only damage makes
/// more, such as a directory within itself.
const DEPTH_MAX: usize = 1024;

/// Files that one step of a walk yields at most: about 2 MB of them.
const FILES_BELOW_MAX: usize = 4096;

/// Where an entry is shown: one that is led is where its leader is.
const PLACE: &str = "SELECT e.parent, IFNULL(l.name, e.name)
     FROM entries e LEFT JOIN entries l ON l.ino = e.leader WHERE e.ino = ?1 AND e.parent <> 0";

/// How far a walk over the files below an entry is; see [`Reader::files_below`].
///
/// Holds one place for each directory between its start and where it is.
#[derive(Clone, Debug)]
pub struct Walk {
    /// The start, if that is a file.
    file: Option<(Ino, String)>,
    /// The directories that are not done, each within the one before.
    open: Vec<OpenDirectory>,
}

#[derive(Clone, Debug)]
struct OpenDirectory {
    ino: Ino,
    path: String,
    /// The last child that is done, or in which the walk is.
    after: Ino,
}

/// Why the walk stopped going through a directory.
enum Stop {
    /// A directory comes first.
    Into(OpenDirectory),
    /// There are files enough for this step.
    Full,
    /// Nothing is left in it.
    End,
}

impl Reader {
    /// The entry at a path of the tree; '' and '/' are the root, further slashes do not matter.
    ///
    /// # Errors
    /// [`Error::Sqlite`].
    pub fn resolve(&self, path: &str) -> Result<Option<Node>, Error> {
        self.with_snapshot(|connection| {
            let mut at = node_of(connection, Ino::ROOT)?;
            for name in components(path) {
                let Some(parent) = at else { break };
                at = lookup(connection, parent.ino, name)?;
            }
            Ok(at)
        })
    }

    /// The path of an entry in the tree, without a leading slash; `None` if it is not in the tree.
    ///
    /// An entry that another one leads is where that one is.
    ///
    /// # Errors
    /// [`Error::Sqlite`], or [`Error::Damaged`] if no path leads to the root.
    pub fn path_of(&self, of: Ino) -> Result<Option<String>, Error> {
        self.with_snapshot(|connection| path_of(connection, of))
    }

    /// Starts a walk over all files at or below an entry; `None` if it is not in the tree.
    ///
    /// # Errors
    /// As [`Reader::path_of`].
    pub fn walk(&self, from: Ino) -> Result<Option<Walk>, Error> {
        self.with_snapshot(|connection| {
            let Some(node) = node_of(connection, from)? else {
                return Ok(None);
            };
            let Some(path) = path_of(connection, from)? else {
                return Ok(None);
            };
            Ok(Some(match node.kind {
                NodeKind::File => Walk {
                    file: content::shown_as(connection, from)?.map(|shown| (shown, path)),
                    open: Vec::new(),
                },
                NodeKind::Directory => Walk {
                    file: None,
                    open: vec![OpenDirectory::new(from, path)],
                },
            }))
        })
    }

    /// The next files of a walk, 1 to `limit` of them; none when it is at its end.
    ///
    /// Directory by directory, in the order of inode numbers. A file that stands at several places
    /// (a cover beside the tracks of two albums) is met at each. What moves within the tree between
    /// two steps may be met twice or never; what stays where it is, exactly once.
    ///
    /// `limit` counts as 1 if it is 0, and as 4096 if it is more.
    ///
    /// # Errors
    /// [`Error::Sqlite`] or [`Error::Damaged`]; the walk stays where it was.
    pub fn files_below(&self, walk: &mut Walk, limit: usize) -> Result<Vec<FileBelow>, Error> {
        let limit = limit.clamp(1, FILES_BELOW_MAX);
        let mut next = walk.clone();
        let files = self.with_snapshot(|connection| next.step(connection, limit))?;
        *walk = next;
        Ok(files)
    }
}

impl Walk {
    fn step(&mut self, connection: &Connection, limit: usize) -> Result<Vec<FileBelow>, Error> {
        let mut files = Vec::new();
        if let Some((file, path)) = self.file.take()
            && let Some(found) = content::find(connection, file)?
        {
            files.push(FileBelow { path, found });
        }
        while let Some(directory) = self.open.last_mut() {
            match directory.go_on(connection, limit, &mut files)? {
                Stop::Into(_) if self.open.len() >= DEPTH_MAX => {
                    return Err(Error::Damaged { table: "entries" });
                }
                Stop::Into(below) => self.open.push(below),
                Stop::End => drop(self.open.pop()),
                Stop::Full => break,
            }
        }
        Ok(files)
    }
}

impl OpenDirectory {
    fn new(ino: Ino, path: String) -> Self {
        let after = Ino(0);
        Self { ino, path, after }
    }

    /// Takes files up to the next directory, or until there are `limit`.
    fn go_on(
        &mut self,
        connection: &Connection,
        limit: usize,
        files: &mut Vec<FileBelow>,
    ) -> Result<Stop, Error> {
        let mut query = connection.prepare_cached(&children()).attempt("list")?;
        let mut rows = query
            .query((ino(self.ino), ino(self.after)))
            .attempt("list")?;
        while files.len() < limit {
            let Some(row) = rows.next().attempt("list")? else {
                return Ok(Stop::End);
            };
            let (child, is_directory, path) = self.child(row).attempt("list")?;
            self.after = child;
            if is_directory {
                return Ok(Stop::Into(Self::new(child, path)));
            }
            let found = content::found(row)?;
            files.push(FileBelow { path, found });
        }
        Ok(Stop::Full)
    }

    fn child(&self, row: &Row<'_>) -> rusqlite::Result<(Ino, bool, String)> {
        let child = Ino(row.get::<_, i64>(0)?.cast_unsigned());
        let name: String = row.get(content::COLUMNS_COUNT)?;
        let path = if self.path.is_empty() {
            name
        } else {
            format!("{}/{name}", self.path)
        };
        Ok((child, row.get(1)?, path))
    }
}

/// The names of a path in the tree, however many slashes are around them.
pub(crate) fn components(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|name| !name.is_empty())
}

fn children() -> String {
    format!(
        "SELECT {}, e.name FROM entries e LEFT JOIN files f ON f.id = e.file
         LEFT JOIN origins o ON o.id = f.origin_id
         WHERE e.parent = ?1 AND e.ino > ?2 AND e.leader IS NULL ORDER BY e.ino",
        content::columns()
    )
}

fn path_of(connection: &Connection, of: Ino) -> Result<Option<String>, Error> {
    let mut names = Vec::new();
    let mut at = of;
    while at != Ino::ROOT {
        if names.len() >= DEPTH_MAX {
            return Err(Error::Damaged { table: "entries" });
        }
        let place: Option<(i64, String)> = connection
            .prepare_cached(PLACE)
            .and_then(|mut query| {
                query
                    .query_row([ino(at)], |row| Ok((row.get(0)?, row.get(1)?)))
                    .optional()
            })
            .attempt("look up in")?;
        let Some((parent, name)) = place else {
            return Ok(None);
        };
        names.push(name);
        at = Ino(parent.cast_unsigned());
    }
    names.reverse();
    Ok(Some(names.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::plan_of;

    #[test]
    fn children_come_in_order_without_sorting() {
        for sql in [&children(), PLACE] {
            let plan = plan_of(sql);
            assert!(plan.starts_with("SEARCH e"), "{sql}: {plan}");
            assert!(
                !plan.contains("SCAN") && !plan.contains("TEMP"),
                "{sql}: {plan}"
            );
        }
    }
}
