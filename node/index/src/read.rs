//! Queries. Each is one or a few indexed lookups and takes microseconds.

mod content;
mod model;
mod replicas;
mod walk;

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use musicfs_core::id::{FileId, Ino};
use musicfs_core::origin::FileIdentity;
use musicfs_core::path::OriginPath;
use musicfs_core::version::{ContentVersion, Validator, VersionKey};
use rusqlite::{Connection, OptionalExtension, Row};

use crate::change::FileKind;
use crate::db::{bytes_on_disk, connect_for_reading};
use crate::error::{Attempt, Error};
use crate::rows::{LAYOUT_COLUMNS, layout_of};

pub(crate) use content::{HAS_VERSION, plain_etag};
pub use model::{
    Child, FileBelow, Found, KnownFile, Node, NodeKind, OriginRow, Pin, Provenance, Totals,
};
pub use replicas::same_content;
pub use walk::Walk;
pub(crate) use walk::components;

/// Connections kept open between queries; more threads at once open more.
const IDLE_CONNECTIONS_MAX: usize = 8;

/// Reads the index, from any thread.
pub struct Reader {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

const INSTALLATION: &str = "SELECT value FROM meta WHERE key = 'installation'";

const BY_NAME: &str = "WHERE e.parent = ?1 AND e.name = ?2 AND e.leader IS NULL";

/// The columns of a [`Node`], in a `SELECT` on `entries e LEFT JOIN files f`.
const NODE: &str = "e.ino, e.file IS NULL, e.mtime, f.origin_size, f.origin_mtime, f.mode";

impl Reader {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            idle: Mutex::new(Vec::new()),
        }
    }

    /// Runs `query` on a connection of the pool.
    fn with<T>(&self, query: impl FnOnce(&Connection) -> Result<T, Error>) -> Result<T, Error> {
        let idle = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let connection = match idle {
            Some(connection) => connection,
            None => connect_for_reading(&self.path)?,
        };
        let result = query(&connection);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_CONNECTIONS_MAX {
            idle.push(connection);
        }
        result
    }

    /// The same for several queries that must see the state of one commit.
    fn with_snapshot<T>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.with(|connection| {
            let snapshot = connection.unchecked_transaction().attempt("read")?;
            query(&snapshot)
        })
    }

    /// The random number that tells this installation from all others.
    ///
    /// # Errors
    /// [`Error::Sqlite`], here and below.
    pub fn installation(&self) -> Result<[u8; 16], Error> {
        self.with(|connection| {
            connection
                .query_row(INSTALLATION, [], |row| row.get(0))
                .attempt("read")
        })
    }

    /// The entry that shows as `name` in `parent`.
    ///
    /// # Errors
    /// As above.
    pub fn lookup(&self, parent: Ino, name: &str) -> Result<Option<Node>, Error> {
        self.with(|connection| lookup(connection, parent, name))
    }

    /// The entry with a number; `None` if it is no longer in the tree.
    ///
    /// # Errors
    /// [`Error::Sqlite`].
    pub fn node(&self, of: Ino) -> Result<Option<Node>, Error> {
        self.with(|connection| node_of(connection, of))
    }

    /// The directory that holds an entry; the root's is the root.
    ///
    /// # Errors
    /// [`Error::Sqlite`].
    pub fn parent(&self, of: Ino) -> Result<Option<Ino>, Error> {
        if of == Ino::ROOT {
            return Ok(Some(Ino::ROOT));
        }
        self.with(|connection| {
            connection
                .prepare_cached("SELECT parent FROM entries WHERE ino = ?1 AND parent <> 0")
                .and_then(|mut query| query.query_row([ino(of)], |row| row.get(0)).optional())
                .attempt("look up in")
        })
        .map(|parent: Option<i64>| parent.map(|parent| Ino(parent.cast_unsigned())))
    }

    /// Up to `limit` entries of `dir` in the order of their numbers, those after `after`.
    ///
    /// # Errors
    /// [`Error::Sqlite`].
    pub fn children(&self, dir: Ino, after: Ino, limit: usize) -> Result<Vec<Child>, Error> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.with(|connection| {
            let mut query = connection.prepare_cached(&children()).attempt("list")?;
            let rows = query.query_map((ino(dir), ino(after), limit), |row| {
                Ok(Child {
                    node: node(row, 0)?,
                    name: row.get(6)?,
                })
            });
            rows.and_then(Iterator::collect).attempt("list")
        })
    }

    /// All origins that the index knows.
    ///
    /// # Errors
    /// [`Error::Sqlite`].
    pub fn origins(&self) -> Result<Vec<OriginRow>, Error> {
        self.with(|connection| {
            let mut query = connection
                .prepare_cached(
                    "SELECT id, name, kind, display_name, hidden, file_count, total_bytes,
                            last_sync_unix FROM origins ORDER BY name",
                )
                .attempt("read")?;
            let rows = query.query_map([], |row| {
                Ok(OriginRow {
                    id: row.get(0)?,
                    name: row.get(1)?,
                    kind: row.get(2)?,
                    display_name: row.get(3)?,
                    hidden: row.get(4)?,
                    file_count: row.get::<_, i64>(5)?.cast_unsigned(),
                    total_bytes: row.get::<_, i64>(6)?.cast_unsigned(),
                    last_sync_unix: row.get(7)?,
                })
            });
            rows.and_then(Iterator::collect).attempt("read")
        })
    }

    /// Sums for `statfs`.
    ///
    /// # Errors
    /// As above.
    pub fn totals(&self) -> Result<Totals, Error> {
        self.with(|connection| {
            connection
                .query_row(
                    "SELECT IFNULL(SUM(file_count), 0), IFNULL(SUM(total_bytes), 0),
                        IFNULL((SELECT value FROM meta WHERE key = 'directories'), 0)
                     FROM origins WHERE NOT hidden",
                    [],
                    |row| {
                        Ok(Totals {
                            files: row.get::<_, i64>(0)?.cast_unsigned(),
                            bytes: row.get::<_, i64>(1)?.cast_unsigned(),
                            directories: row.get::<_, i64>(2)?.cast_unsigned(),
                        })
                    },
                )
                .attempt("read")
        })
    }

    /// How much the index holds: files of all origins, shown or not, and directories of the tree.
    /// From counters.
    ///
    /// # Errors
    /// As above.
    pub fn metadata_entries(&self) -> Result<u64, Error> {
        self.with(|connection| {
            connection
                .prepare_cached(
                    "SELECT (SELECT IFNULL(SUM(file_count), 0) FROM origins)
                          + IFNULL((SELECT value FROM meta WHERE key = 'directories'), 0)",
                )
                .and_then(|mut query| query.query_row([], |row| row.get::<_, i64>(0)))
                .map(i64::cast_unsigned)
                .attempt("read")
        })
    }

    /// Bytes on disk of the database and its log, from their metadata; 0 if that cannot be read.
    pub fn bytes_on_disk(&self) -> u64 {
        bytes_on_disk(&self.path)
    }

    /// All pins in the order of their paths; at most [`PINS_MAX`](crate::PINS_MAX).
    ///
    /// # Errors
    /// As above.
    pub fn pins(&self) -> Result<Vec<Pin>, Error> {
        self.with(|connection| {
            let mut query = connection
                .prepare_cached("SELECT path, created_unix FROM pins ORDER BY path")
                .attempt("read")?;
            let rows = query.query_map([], |row| {
                Ok(Pin {
                    path: row.get(0)?,
                    created_unix: row.get(1)?,
                })
            });
            rows.and_then(Iterator::collect).attempt("read")
        })
    }

    /// The files known in one directory of an origin.
    ///
    /// # Errors
    /// As [`Reader::find`].
    pub fn files_in(&self, origin: i64, dir: &OriginPath) -> Result<Vec<KnownFile>, Error> {
        self.with(|connection| {
            let mut query = connection
                .prepare_cached(&format!(
                    "SELECT f.id, f.name, f.kind, f.origin_size, f.validator, f.mode, f.device,
                            f.inode, f.version_key, {LAYOUT_COLUMNS}
                     FROM files f WHERE f.origin_id = ?1 AND f.dir = ?2"
                ))
                .attempt("list files in")?;
            let mut rows = query
                .query((origin, dir.as_bytes()))
                .attempt("list files in")?;
            let mut files = Vec::new();
            while let Some(row) = rows.next().attempt("list files in")? {
                files.push(known_file(row)?);
            }
            Ok(files)
        })
    }

    /// The first directory after `after` that holds known files and is `under` or lies below it.
    ///
    /// # Errors
    /// As [`Reader::find`].
    pub fn next_dir(
        &self,
        origin: i64,
        under: &OriginPath,
        after: Option<&OriginPath>,
    ) -> Result<Option<OriginPath>, Error> {
        // Directories below `a` lie between `a/` and `a0` in byte order ('0' follows '/'), and `a`
        // itself before them, with others such as `a-b` in between.
        let below = |end: u8| [under.as_bytes(), &[end]].concat();
        let (from, inclusive) = match after {
            None if under.is_root() => (Vec::new(), true),
            None => (under.as_bytes().to_vec(), true),
            Some(after) if under.is_root() || after != under => (after.as_bytes().to_vec(), false),
            Some(_) => (below(b'/'), true),
        };
        let first = |from: &[u8], inclusive: bool| {
            let comparison = if inclusive { ">=" } else { ">" };
            let sql = format!(
                "SELECT dir FROM files WHERE origin_id = ?1 AND dir {comparison} ?2
                 ORDER BY dir LIMIT 1"
            );
            self.with(|connection| {
                connection
                    .prepare_cached(&sql)
                    .and_then(|mut query| {
                        query
                            .query_row((origin, from), |row| row.get::<_, Vec<u8>>(0))
                            .optional()
                    })
                    .attempt("list directories in")
            })
        };
        let mut found = first(&from, inclusive)?;
        if !under.is_root() && found.as_deref().is_some_and(|dir| dir > under.as_bytes()) {
            let start = below(b'/');
            if found.as_deref().is_some_and(|dir| dir < start.as_slice()) {
                found = first(&start, true)?;
            }
            if found
                .as_deref()
                .is_some_and(|dir| dir >= below(b'0').as_slice())
            {
                found = None;
            }
        }
        found
            .map(|dir| OriginPath::new(&dir).map_err(|_| Error::Damaged { table: "files" }))
            .transpose()
    }
}

fn children() -> String {
    format!(
        "SELECT {NODE}, e.name FROM entries e LEFT JOIN files f ON f.id = e.file
         WHERE e.parent = ?1 AND e.ino > ?2 AND e.leader IS NULL ORDER BY e.ino LIMIT ?3"
    )
}

fn lookup(connection: &Connection, parent: Ino, name: &str) -> Result<Option<Node>, Error> {
    connection
        .prepare_cached(&select_node(BY_NAME))
        .and_then(|mut query| {
            query
                .query_row((ino(parent), name), |row| node(row, 0))
                .optional()
        })
        .attempt("look up in")
}

fn node_of(connection: &Connection, of: Ino) -> Result<Option<Node>, Error> {
    connection
        .prepare_cached(&select_node(
            "WHERE e.ino = ?1 AND (e.parent <> 0 OR e.ino = 1)",
        ))
        .and_then(|mut query| query.query_row([ino(of)], |row| node(row, 0)).optional())
        .attempt("look up in")
}

fn select_node(condition: &str) -> String {
    format!("SELECT {NODE} FROM entries e LEFT JOIN files f ON f.id = e.file {condition}")
}

fn ino(of: Ino) -> i64 {
    of.0.cast_signed()
}

fn node(row: &Row<'_>, at: usize) -> rusqlite::Result<Node> {
    let ino = Ino(row.get::<_, i64>(at)?.cast_unsigned());
    if row.get(at + 1)? {
        let mtime_ns = row.get::<_, Option<i64>>(at + 2)?.unwrap_or(0);
        return Ok(Node {
            ino,
            kind: NodeKind::Directory,
            size: 0,
            mtime_ns,
            mode: 0o555,
        });
    }
    Ok(Node {
        ino,
        kind: NodeKind::File,
        size: row.get::<_, i64>(at + 3)?.cast_unsigned(),
        mtime_ns: row.get(at + 4)?,
        mode: row.get(at + 5)?,
    })
}

fn known_file(row: &Row<'_>) -> Result<KnownFile, Error> {
    let damaged = |_| Error::Damaged { table: "files" };
    let validator: String = row.get(4).map_err(damaged)?;
    let device: Option<i64> = row.get(6).map_err(damaged)?;
    let inode: Option<i64> = row.get(7).map_err(damaged)?;
    Ok(KnownFile {
        id: FileId(row.get(0).map_err(damaged)?),
        name: row.get(1).map_err(damaged)?,
        kind: FileKind::from_number(row.get(2).map_err(damaged)?)
            .ok_or(Error::Damaged { table: "files" })?,
        version: ContentVersion {
            size: row.get::<_, i64>(3).map_err(damaged)?.cast_unsigned(),
            validator: Validator::from_text(&validator).ok_or(Error::Damaged { table: "files" })?,
        },
        mode: row.get(5).map_err(damaged)?,
        identity: device.zip(inode).map(|(device, inode)| FileIdentity {
            device: device.cast_unsigned(),
            inode: inode.cast_unsigned(),
        }),
        version_key: VersionKey(row.get(8).map_err(damaged)?),
        layout: layout_of(row, 9).map_err(damaged)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::plan_of;

    #[test]
    fn a_listing_reads_what_is_shown_in_order_and_nothing_else() {
        let plan = plan_of(&children());
        assert!(
            plan.starts_with("SEARCH e USING INDEX entries_in_order (parent=? AND ino>?)"),
            "{plan}"
        );
        assert!(!plan.contains("SCAN") && !plan.contains("TEMP"), "{plan}");
    }

    #[test]
    fn a_name_is_found_by_its_index() {
        let plan = plan_of(&select_node(BY_NAME));
        assert!(plan.contains("(parent=? AND name=?)"), "{plan}");
    }
}
