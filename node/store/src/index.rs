//! The index of chunks: which object holds the bytes of a hash.
//!
//! A SQLite database that is made anew from the maps whenever it is not surely right, so it spends
//! nothing on durability: no log, no sync. Reads of content never depend on it, and what it says is
//! compared with the map before it is believed. An error closes it until the next start.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use musicfs_core::manifest::{ChunkHash, ContentHash, Manifest};
use musicfs_core::version::VersionKey;
use rusqlite::{Connection, OptionalExtension, params};

use crate::inner::lock;

/// The most rows in one transaction: what is changed waits in memory for its end.
const BATCH_ROWS: usize = 512;
/// The most that a row makes the database grow by: it may split a page for itself.
const ROW_BYTES_MAX: u64 = 128;
/// The least that is reserved for a change.
const PAGES_BYTES: u64 = 64 << 10;
/// How many objects are asked for one hash.
const FOUND_MAX: i64 = 8;
/// The first bytes of a chunk's hash are its key: 10⁹ chunks share none by chance.
const KEY_BYTES: usize = 16;

const SCHEMA: &str = "
    PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE;
    PRAGMA temp_store = MEMORY; PRAGMA cache_size = -4096;
    CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS versions (
        id INTEGER PRIMARY KEY, version BLOB NOT NULL UNIQUE, whole BLOB NOT NULL,
        is_alias INTEGER NOT NULL, chunks INTEGER NOT NULL);
    CREATE INDEX IF NOT EXISTS versions_whole ON versions (whole);
    CREATE TABLE IF NOT EXISTS chunks (
        hash BLOB, object INTEGER, offset INTEGER NOT NULL, len INTEGER NOT NULL,
        PRIMARY KEY (hash, object)) WITHOUT ROWID;";

/// The index. Its lock is held while SQLite works, so no thread that must not wait takes it.
pub(crate) struct Index {
    path: Option<PathBuf>,
    connection: Mutex<Option<Connection>>,
    stored: AtomicU64,
    unique: AtomicU64,
    bytes: AtomicU64,
}

impl Index {
    /// An index that is not open yet; in memory without a path.
    pub(crate) fn new(path: Option<PathBuf>) -> Self {
        Self {
            path,
            connection: Mutex::new(None),
            stored: AtomicU64::new(0),
            unique: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    /// Opens what the last close left, if it is the one of `generation`. True if so.
    pub(crate) fn open(&self, generation: [u8; 16]) -> bool {
        let Some(path) = &self.path else { return false };
        if !path.exists() {
            return false;
        }
        let opened = connect(path).and_then(|connection| {
            let counts = read_meta(&connection, generation)?;
            Ok((connection, counts))
        });
        match opened {
            Ok((connection, Some((stored, unique)))) => {
                self.stored.store(stored, Ordering::Relaxed);
                self.unique.store(unique, Ordering::Relaxed);
                self.measure(&connection);
                *lock(&self.connection) = Some(connection);
                true
            }
            _ => false,
        }
    }

    /// Starts an empty one.
    pub(crate) fn reset(&self) {
        let mut connection = lock(&self.connection);
        *connection = None;
        self.stored.store(0, Ordering::Relaxed);
        self.unique.store(0, Ordering::Relaxed);
        let made = match &self.path {
            Some(path) => remove(path).and_then(|()| connect(path)),
            None => Connection::open_in_memory().and_then(prepare),
        };
        match made {
            Ok(made) => {
                self.measure(&made);
                *connection = Some(made);
            }
            Err(error) => warn(&error),
        }
    }

    /// Makes it durable under `generation` and closes it. False if it is not to be used again.
    pub(crate) fn close(&self, generation: [u8; 16]) -> bool {
        let Some(connection) = lock(&self.connection).take() else {
            return false;
        };
        let written = connection.execute(
            "INSERT OR REPLACE INTO meta VALUES ('generation', ?1), ('stored', ?2), ('unique', ?3)",
            params![
                generation,
                self.chunks_stored().cast_signed(),
                self.chunks_unique().cast_signed()
            ],
        );
        let closed = written.and_then(|_| connection.close().map_err(|(_, error)| error));
        let synced = self.path.as_ref().map_or(Ok(()), |path| {
            fs::File::open(path).and_then(|file| file.sync_all())
        });
        closed.is_ok() && synced.is_ok()
    }

    /// Chunks of all versions, each counted as often as it comes.
    pub(crate) fn chunks_stored(&self) -> u64 {
        self.stored.load(Ordering::Relaxed)
    }

    /// Chunks of different hashes.
    pub(crate) fn chunks_unique(&self) -> u64 {
        self.unique.load(Ordering::Relaxed)
    }

    /// Bytes on disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The most that adding `manifest` makes it grow by.
    pub(crate) fn growth_bytes(manifest: &Manifest) -> u64 {
        manifest.chunks.len() as u64 * ROW_BYTES_MAX + PAGES_BYTES
    }

    /// Adds a complete object; nothing if its version is there.
    pub(crate) fn insert(&self, version: VersionKey, manifest: &Manifest) {
        self.with(|connection| {
            let Some(object) = insert_version(connection, version, manifest, false)? else {
                return Ok(());
            };
            let spans: Vec<_> = manifest.spans().collect();
            for batch in spans.chunks(BATCH_ROWS) {
                let transaction = connection.transaction()?;
                let mut new = 0;
                {
                    let mut find =
                        transaction.prepare_cached("SELECT 1 FROM chunks WHERE hash = ?1")?;
                    let mut add = transaction
                        .prepare_cached("INSERT OR IGNORE INTO chunks VALUES (?1, ?2, ?3, ?4)")?;
                    for (hash, span) in batch {
                        let key = &hash.0[..KEY_BYTES];
                        new += u64::from(!find.exists([key])?);
                        let len = span.end - span.start;
                        add.execute(params![
                            key,
                            object,
                            span.start.cast_signed(),
                            len.cast_signed()
                        ])?;
                    }
                }
                transaction.commit()?;
                self.unique.fetch_add(new, Ordering::Relaxed);
            }
            self.count_stored(manifest);
            Ok(())
        });
    }

    /// Adds a version that shares the object of another.
    pub(crate) fn insert_alias(&self, version: VersionKey, manifest: &Manifest) {
        self.with(|connection| {
            if insert_version(connection, version, manifest, true)?.is_some() {
                self.count_stored(manifest);
            }
            Ok(())
        });
    }

    /// Takes a version out; with its chunks if it is an object of its own and they are told.
    pub(crate) fn remove(&self, version: VersionKey, manifest: Option<&Manifest>) {
        self.with(|connection| {
            let mut find =
                connection.prepare_cached("SELECT id, chunks FROM versions WHERE version = ?1")?;
            let found: Option<(i64, i64)> = find
                .query_row([version.0], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            drop(find);
            let Some((object, chunks)) = found else {
                return Ok(());
            };
            connection.execute("DELETE FROM versions WHERE id = ?1", [object])?;
            self.stored
                .fetch_sub(chunks.cast_unsigned(), Ordering::Relaxed);
            let chunks = manifest.map_or(&[][..], |manifest| &manifest.chunks);
            for batch in chunks.chunks(BATCH_ROWS) {
                let transaction = connection.transaction()?;
                let mut gone = 0;
                {
                    let mut find =
                        transaction.prepare_cached("SELECT 1 FROM chunks WHERE hash = ?1")?;
                    let mut delete = transaction
                        .prepare_cached("DELETE FROM chunks WHERE hash = ?1 AND object = ?2")?;
                    for (hash, _) in batch {
                        let key = &hash.0[..KEY_BYTES];
                        let was_there = delete.execute(params![key, object])? > 0;
                        gone += u64::from(was_there && !find.exists([key])?);
                    }
                }
                transaction.commit()?;
                self.unique.fetch_sub(gone, Ordering::Relaxed);
            }
            Ok(())
        });
    }

    /// Objects that may hold a chunk, with its place in each. To be compared with their maps.
    pub(crate) fn find(&self, hash: &ChunkHash) -> Vec<(VersionKey, u64)> {
        let mut found = Vec::new();
        self.with(|connection| {
            let mut find = connection.prepare_cached(
                "SELECT v.version, c.offset FROM chunks c JOIN versions v ON v.id = c.object
                 WHERE c.hash = ?1 LIMIT ?2",
            )?;
            let rows = find.query_map(params![&hash.0[..KEY_BYTES], FOUND_MAX], |row| {
                let offset: i64 = row.get(1)?;
                Ok((VersionKey(row.get(0)?), offset.cast_unsigned()))
            })?;
            found = rows.collect::<Result<_, _>>()?;
            Ok(())
        });
        found
    }

    /// Objects that may hold a content. To be compared with their maps.
    pub(crate) fn find_whole(&self, whole: &ContentHash) -> Vec<VersionKey> {
        let mut found = Vec::new();
        self.with(|connection| {
            let mut find = connection.prepare_cached(
                "SELECT version FROM versions WHERE whole = ?1 AND is_alias = 0 LIMIT ?2",
            )?;
            let rows = find.query_map(params![&whole.0[..], FOUND_MAX], |row| {
                Ok(VersionKey(row.get(0)?))
            })?;
            found = rows.collect::<Result<_, _>>()?;
            Ok(())
        });
        found
    }

    /// Runs `work`; an error closes the index until the next start, which makes it anew.
    fn with(&self, work: impl FnOnce(&mut Connection) -> rusqlite::Result<()>) {
        let mut guard = lock(&self.connection);
        let Some(connection) = guard.as_mut() else {
            return;
        };
        match work(connection) {
            Ok(()) => self.measure(connection),
            Err(error) => {
                warn(&error);
                *guard = None;
            }
        }
    }

    fn count_stored(&self, manifest: &Manifest) {
        let count = manifest.chunks.len() as u64;
        self.stored.fetch_add(count, Ordering::Relaxed);
    }

    fn measure(&self, connection: &Connection) {
        if self.path.is_none() {
            return;
        }
        let pragma = |name: &str| -> u64 {
            let read: rusqlite::Result<i64> =
                connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0));
            read.unwrap_or(0).cast_unsigned()
        };
        let bytes = pragma("page_count") * pragma("page_size");
        self.bytes.store(bytes, Ordering::Relaxed);
    }
}

fn insert_version(
    connection: &Connection,
    version: VersionKey,
    manifest: &Manifest,
    is_alias: bool,
) -> rusqlite::Result<Option<i64>> {
    let mut add = connection.prepare_cached(
        "INSERT OR IGNORE INTO versions (version, whole, is_alias, chunks)
         VALUES (?1, ?2, ?3, ?4)",
    )?;
    let count = manifest.chunks.len() as u64;
    let values = params![version.0, manifest.whole.0, is_alias, count.cast_signed()];
    let is_new = add.execute(values)? > 0;
    Ok(is_new.then(|| connection.last_insert_rowid()))
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    prepare(Connection::open(path)?)
}

fn prepare(connection: Connection) -> rusqlite::Result<Connection> {
    connection.execute_batch(SCHEMA)?;
    connection.set_prepared_statement_cache_capacity(16);
    Ok(connection)
}

fn read_meta(
    connection: &Connection,
    generation: [u8; 16],
) -> rusqlite::Result<Option<(u64, u64)>> {
    let found: Option<Vec<u8>> = connection
        .query_row(
            "SELECT value FROM meta WHERE key = 'generation'",
            [],
            |row| row.get(0),
        )
        .optional()?;
    if found.as_deref() != Some(&generation[..]) {
        return Ok(None);
    }
    let count = |key: &str| -> rusqlite::Result<u64> {
        let read: i64 =
            connection.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| {
                row.get(0)
            })?;
        Ok(read.cast_unsigned())
    };
    Ok(Some((count("stored")?, count("unique")?)))
}

fn remove(path: &Path) -> rusqlite::Result<()> {
    for suffix in ["", "-journal", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        // What cannot be removed shows when it is opened.
        let _ = fs::remove_file(name);
    }
    Ok(())
}

fn warn(error: &rusqlite::Error) {
    tracing::warn!(
        error = musicfs_core::error::with_causes(error),
        "the index of chunks failed; it is made anew at the next start"
    );
}
