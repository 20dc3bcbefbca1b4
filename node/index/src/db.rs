//! Opening the database: lock, migrations, and what to do when it is damaged.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rusqlite::{Connection, OpenFlags};

use crate::change::Layout;
use crate::error::{Attempt, Error};
use crate::read::Reader;
use crate::writer::Writer;

/// The schema that this program writes. Version n is reached from n − 1 by `MIGRATIONS[n − 1]`.
const MIGRATIONS: [&str; 3] = [
    include_str!("schema.sql"),
    include_str!("schema2.sql"),
    include_str!("schema3.sql"),
];

/// The first inode number that an entry gets; those before it are kept for the protocol.
const FIRST_INO: i64 = musicfs_core::id::Ino::RESERVED_MAX.0 as i64 + 1;

const DATABASE: &str = "metadata.db";
const LOCK: &str = "metadata.lock";
const DAMAGE_MARK: &str = "metadata.damaged";

/// An open index. Dropping it ends the writer and checkpoints the log.
pub struct Index {
    /// Reads, from any thread.
    pub reader: Arc<Reader>,
    /// Writes, one after the other.
    pub writer: Writer,
    directory: PathBuf,
    // Held for its lock: a second process with this index is refused.
    _lock: File,
}

/// What was found when the index was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// There was none; it is empty.
    New,
    /// It was there and is whole.
    Existing,
    /// It was damaged and lies under this name now; the new one is empty.
    SetAside(PathBuf),
}

impl Index {
    /// Opens the index in `directory`, making both if need be.
    ///
    /// A damaged database is set aside under a new name, never deleted.
    ///
    /// # Errors
    /// [`Error::Locked`] if another process has it, [`Error::Newer`] if a later version wrote it,
    /// else what the disk says.
    pub fn open(directory: &Path, layout: Layout) -> Result<(Self, Opened), Error> {
        fs::create_dir_all(directory).map_err(|source| Error::Io {
            action: "create",
            path: directory.to_owned(),
            source,
        })?;
        let lock = lock(&directory.join(LOCK))?;
        let path = directory.join(DATABASE);
        let existed = path.exists();
        let marked = directory.join(DAMAGE_MARK).exists();
        let (connection, opened) = match connect(&path) {
            Ok(_) if marked => (None, Opened::SetAside(set_aside(&path)?)),
            Ok(connection) if existed => (Some(connection), Opened::Existing),
            Ok(connection) => (Some(connection), Opened::New),
            Err(error) if error.is_corruption() => (None, Opened::SetAside(set_aside(&path)?)),
            Err(error) => return Err(error),
        };
        let connection = match connection {
            Some(connection) => connection,
            None => connect(&path)?,
        };
        if marked {
            remove(&directory.join(DAMAGE_MARK))?;
        }
        let reader = Arc::new(Reader::new(path));
        let writer = Writer::start(connection, layout)?;
        let index = Self {
            reader,
            writer,
            directory: directory.to_owned(),
            _lock: lock,
        };
        Ok((index, opened))
    }

    /// Notes that the database turned out to be damaged while in use: the next start sets it aside.
    ///
    /// # Errors
    /// [`Error::Io`] if the note cannot be written.
    pub fn mark_damaged(&self) -> Result<(), Error> {
        let path = self.directory.join(DAMAGE_MARK);
        File::create(&path).map(drop).map_err(|source| Error::Io {
            action: "create",
            path,
            source,
        })
    }
}

fn lock(path: &Path) -> Result<File, Error> {
    let failed = |action, source| Error::Io {
        action,
        path: path.to_owned(),
        source,
    };
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(|source| failed("open", source))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Locked {
            path: path.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(failed("lock", source)),
    }
}

/// Opens and migrates; any damage that shows at once is an error of kind corrupt.
fn connect(path: &Path) -> Result<Connection, Error> {
    let mut connection = Connection::open(path).attempt("open")?;
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON;
             PRAGMA temp_store = MEMORY; PRAGMA cache_size = -8192; PRAGMA busy_timeout = 5000;
             PRAGMA journal_size_limit = 67108864;",
        )
        .attempt("configure")?;
    let found: i64 = connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .attempt("read")?;
    let known = MIGRATIONS.len() as i64;
    if found > known {
        return Err(Error::Newer {
            path: path.to_owned(),
            found,
            known,
        });
    }
    for (version, sql) in MIGRATIONS
        .iter()
        .enumerate()
        .skip(usize::try_from(found).unwrap_or(0))
    {
        let transaction = connection.transaction().attempt("migrate")?;
        transaction.execute_batch(sql).attempt("migrate")?;
        if version == 0 {
            first_rows(&transaction)?;
        }
        transaction
            .pragma_update(None, "user_version", version as i64 + 1)
            .attempt("migrate")?;
        transaction.commit().attempt("migrate")?;
    }
    // A probe of each table: damage to their roots shows here instead of at the first lookup.
    for table in ["meta", "origins", "files", "artwork", "entries", "pins"] {
        connection
            .query_row(
                &format!("SELECT COUNT(*) FROM (SELECT 1 FROM {table} LIMIT 1)"),
                [],
                |_| Ok(()),
            )
            .attempt("probe")?;
    }
    Ok(connection)
}

fn first_rows(connection: &Connection) -> Result<(), Error> {
    let mut installation = [0; 16];
    fill_random(&mut installation)?;
    connection
        .execute(
            "INSERT INTO meta VALUES ('installation', ?1), ('revision', 0)",
            [installation],
        )
        .attempt("initialise")?;
    let now = unix_nanos(SystemTime::now());
    connection
        .execute(
            "INSERT INTO entries (ino, parent, name, mtime) VALUES (1, 0, '', ?1)",
            [now],
        )
        .attempt("initialise")?;
    connection
        .execute(
            "UPDATE sqlite_sequence SET seq = ?1 WHERE name = 'entries'",
            [FIRST_INO - 1],
        )
        .attempt("initialise")?;
    Ok(())
}

/// Nanoseconds since 1970; what lies outside of i64 (years 1677 to 2262) is its nearest end.
pub(crate) fn unix_nanos(time: SystemTime) -> i64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |nanos| -nanos),
    }
}

fn fill_random(bytes: &mut [u8]) -> Result<(), Error> {
    let path = PathBuf::from("/dev/urandom");
    File::open(&path)
        .and_then(|mut file| io::Read::read_exact(&mut file, bytes))
        .map_err(|source| Error::Io {
            action: "read",
            path,
            source,
        })
}

/// Renames the database and its log, so that nothing of it is lost and a new one can be made.
fn set_aside(path: &Path) -> Result<PathBuf, Error> {
    let stamp = unix_nanos(SystemTime::now()) / 1_000_000_000;
    let mut target = path.with_extension(format!("damaged-{stamp}"));
    for number in 1.. {
        if !target.exists() {
            break;
        }
        target = path.with_extension(format!("damaged-{stamp}-{number}"));
    }
    for suffix in ["", "-wal", "-shm"] {
        match fs::rename(with_suffix(path, suffix), with_suffix(&target, suffix)) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(Error::Io {
                    action: "set aside",
                    path: with_suffix(path, suffix),
                    source,
                });
            }
            _ => {}
        }
    }
    Ok(target)
}

/// The path of a file that SQLite keeps beside the database.
fn with_suffix(database: &Path, suffix: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Bytes in the database and its log; what cannot be read counts as 0.
pub(crate) fn bytes_on_disk(database: &Path) -> u64 {
    let len = |suffix| fs::metadata(with_suffix(database, suffix)).map_or(0, |it| it.len());
    len("") + len("-wal")
}

fn remove(path: &Path) -> Result<(), Error> {
    fs::remove_file(path).map_err(|source| Error::Io {
        action: "remove",
        path: path.to_owned(),
        source,
    })
}

/// A connection that can only read.
pub(crate) fn connect_for_reading(path: &Path) -> Result<Connection, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).attempt("open")?;
    connection
        .execute_batch(
            "PRAGMA query_only = ON; PRAGMA cache_size = -1024; PRAGMA busy_timeout = 5000;",
        )
        .attempt("configure")?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

/// How SQLite goes about a query on an empty index.
#[cfg(test)]
pub(crate) fn plan_of(sql: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let connection = connect(&dir.path().join(DATABASE)).unwrap();
    let mut query = connection
        .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
        .unwrap();
    // Raw: what the parameters are makes no difference to the plan.
    let mut rows = query.raw_query();
    let mut plan = String::new();
    while let Some(row) = rows.next().unwrap() {
        plan += &row.get::<_, String>(3).unwrap();
        plan.push('\n');
    }
    plan
}

#[cfg(test)]
mod tests {
    use musicfs_core::id::{Ino, OriginId};
    use musicfs_core::template::Template;
    use musicfs_core::version::VersionKey;

    use super::*;

    #[test]
    fn a_second_process_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let _first = Index::open(dir.path(), Layout::default()).unwrap();
        let second = Index::open(dir.path(), Layout::default());
        assert!(matches!(second.err().unwrap(), Error::Locked { .. }));
    }

    #[test]
    fn an_index_of_a_later_version_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        drop(Index::open(dir.path(), Layout::default()).unwrap());
        let connection = Connection::open(dir.path().join(DATABASE)).unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        drop(connection);
        let error = Index::open(dir.path(), Layout::default()).err().unwrap();
        assert!(error.to_string().contains("version 99"), "{error}");
    }

    #[test]
    fn an_index_of_version_1_keeps_all_that_it_held() {
        let dir = tempfile::tempdir().unwrap();
        let connection = Connection::open(dir.path().join(DATABASE)).unwrap();
        connection.execute_batch(MIGRATIONS[0]).unwrap();
        first_rows(&connection).unwrap();
        connection
            .execute_batch(
                "INSERT INTO origins VALUES (3, 'nas', 'nfs', '/nas', 0, 2, 30, 77);
                 INSERT INTO files (id, origin_id, dir, name, kind, unreadable, origin_size,
                     validator, origin_mtime, mode, version_key, title, more, album_key, last_sync)
                 VALUES (5, 3, x'61', CAST('x.mp3' AS BLOB), 0, 0, 10, 'm7', 7, 292,
                         zeroblob(16), 'X', '{}', 9, 1),
                        (6, 3, x'61', CAST('c.jpg' AS BLOB), 1, 0, 20, 'm8', 8, 256,
                         randomblob(16), NULL, NULL, NULL, 1);
                 INSERT INTO artwork VALUES (5, 0, 3, 'image/png', 4, 1, 4, 0);
                 INSERT INTO entries (ino, parent, name, base, file, mtime)
                 VALUES (256, 1, 'A', NULL, NULL, 5), (257, 256, 'X.mp3', NULL, 5, NULL),
                        (258, 256, 'c.jpg', NULL, 6, NULL);
                 UPDATE meta SET value = 41 WHERE key = 'revision';
                 PRAGMA user_version = 1;",
            )
            .unwrap();
        drop(connection);

        let (index, opened) = Index::open(dir.path(), Layout::default()).unwrap();
        assert_eq!(opened, Opened::Existing);
        let reader = &index.reader;
        let origins = reader.origins().unwrap();
        assert_eq!((origins.len(), origins[0].file_count), (1, 2));
        let node = reader.resolve("A/X.mp3").unwrap().unwrap();
        assert_eq!(
            (node.ino, node.size, node.mtime_ns, node.mode),
            (Ino(257), 10, 7, 0o444)
        );
        let found = reader.find(node.ino).unwrap().unwrap();
        assert_eq!(found.path.to_string(), "a/x.mp3");
        assert_eq!(
            (found.version_key, found.layout),
            (VersionKey([0; 16]), None)
        );
        assert_eq!(reader.find_version(found.version_key).unwrap(), Some(found));
        let nas = OriginId::new("nas").unwrap();
        assert!(
            reader
                .version_is_of_origin(VersionKey([0; 16]), &nas)
                .unwrap()
        );
        assert_eq!(reader.pins().unwrap(), []);
        drop(index);

        let connection = Connection::open(dir.path().join(DATABASE)).unwrap();
        let number =
            |sql: &str| -> i64 { connection.query_row(sql, [], |row| row.get(0)).unwrap() };
        assert_eq!(number("PRAGMA user_version"), MIGRATIONS.len() as i64);
        assert_eq!(number("SELECT value FROM meta WHERE key = 'revision'"), 41);
        assert_eq!(number("SELECT COUNT(*) FROM artwork"), 1);
        assert_eq!(number("SELECT album_key FROM files WHERE title = 'X'"), 9);
        drop(connection);
        let (_, opened) = Index::open(dir.path(), Layout::default()).unwrap();
        assert_eq!(opened, Opened::Existing, "it migrates once");
    }

    #[test]
    fn an_index_of_version_2_finds_its_copies_at_the_first_start() {
        let dir = tempfile::tempdir().unwrap();
        let connection = Connection::open(dir.path().join(DATABASE)).unwrap();
        connection.execute_batch(MIGRATIONS[0]).unwrap();
        first_rows(&connection).unwrap();
        connection.execute_batch(MIGRATIONS[1]).unwrap();
        connection
            .execute_batch(
                "INSERT INTO origins VALUES (3, 'nas', 'nfs', '/nas', 0, 2, 30, 77),
                                            (4, 'usb', 'nfs', '/usb', 0, 1, 20, 77);
                 INSERT INTO files (id, origin_id, dir, name, kind, unreadable, origin_size,
                     validator, origin_mtime, mode, version_key, title, more, last_sync)
                 VALUES (5, 3, x'61', CAST('x.mp3' AS BLOB), 0, 0, 10, 'm7', 7, 292,
                         randomblob(16), 'X', '{}', 1),
                        (6, 3, x'61', CAST('c.jpg' AS BLOB), 1, 0, 20, 'm8', 8, 256,
                         randomblob(16), NULL, NULL, 1),
                        (7, 4, x'61', CAST('y.mp3' AS BLOB), 0, 0, 11, 'm7', 7, 292,
                         randomblob(16), 'Y', '{}', 1),
                        (8, 4, x'61', CAST('c.jpg' AS BLOB), 1, 0, 20, 'm9', 9, 256,
                         randomblob(16), NULL, NULL, 1);
                 INSERT INTO entries (ino, parent, name, base, file, mtime)
                 VALUES (256, 1, 'Unknown Artist', NULL, NULL, 5),
                        (257, 256, 'X.mp3', NULL, 5, NULL), (258, 256, 'c.jpg', NULL, 6, NULL),
                        (259, 256, 'Y.mp3', NULL, 7, NULL),
                        (260, 256, 'c [abcdefg2].jpg', 'c.jpg', 8, NULL);
                 PRAGMA user_version = 2;",
            )
            .unwrap();
        let layout = Layout {
            template: Template::parse("$artist/$title.$format").unwrap(),
            ..Layout::default()
        };
        connection
            .execute(
                "INSERT INTO meta VALUES ('layout', ?1)",
                [layout.fingerprint()],
            )
            .unwrap();
        drop(connection);

        let (index, opened) = Index::open(dir.path(), layout).unwrap();
        assert_eq!(opened, Opened::Existing);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let rebuilt = runtime.block_on(index.writer.rebuild_if_changed()).unwrap();
        assert!(rebuilt.is_some());
        let children = index.reader.children(Ino(256), Ino(0), 10).unwrap();
        let shown: Vec<(u64, &str)> = children
            .iter()
            .map(|child| (child.node.ino.0, child.name.as_str()))
            .collect();
        assert_eq!(shown, [(257, "X.mp3"), (258, "c.jpg"), (259, "Y.mp3")]);
        let replicas = index.reader.replicas(Ino(260)).unwrap();
        let inos: Vec<u64> = replicas.iter().map(|found| found.node.ino.0).collect();
        assert_eq!(inos, [258, 260]);
        assert_eq!((replicas[1].sample, replicas[1].md5), (None, None));
        let again = runtime.block_on(index.writer.rebuild_if_changed()).unwrap();
        assert_eq!(again, None);
    }

    #[test]
    fn a_damaged_index_is_kept_under_a_new_name() {
        let dir = tempfile::tempdir().unwrap();
        drop(Index::open(dir.path(), Layout::default()).unwrap());
        fs::write(
            dir.path().join(DATABASE),
            b"not a database at all, but long enough to see",
        )
        .unwrap();
        let (index, opened) = Index::open(dir.path(), Layout::default()).unwrap();
        let Opened::SetAside(kept) = opened else {
            panic!("{opened:?}")
        };
        assert!(fs::read(kept).unwrap().starts_with(b"not a database"));
        index.mark_damaged().unwrap();
        drop(index);
        let (index, opened) = Index::open(dir.path(), Layout::default()).unwrap();
        assert!(matches!(opened, Opened::SetAside(_)));
        drop(index);
        let (_, opened) = Index::open(dir.path(), Layout::default()).unwrap();
        assert_eq!(opened, Opened::Existing);
    }
}
