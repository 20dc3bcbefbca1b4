-- Version 1 of the index. Text is UTF-8; times are nanoseconds since 1970 unless a name says else.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE origins (
    id             INTEGER PRIMARY KEY,
    name           TEXT NOT NULL UNIQUE,        -- the configured id
    kind           TEXT NOT NULL,
    display_name   TEXT NOT NULL,
    hidden         INTEGER NOT NULL DEFAULT 0,  -- no longer configured: kept, not shown
    file_count     INTEGER NOT NULL DEFAULT 0,
    total_bytes    INTEGER NOT NULL DEFAULT 0,
    last_sync_unix INTEGER NOT NULL DEFAULT 0   -- end of the last complete listing; 0: never
) STRICT;

CREATE TABLE files (
    id           INTEGER PRIMARY KEY,
    origin_id    INTEGER NOT NULL REFERENCES origins (id),
    dir          BLOB NOT NULL,                 -- the real path is dir || '/' || name
    name         BLOB NOT NULL,
    kind         INTEGER NOT NULL,              -- 0 track, 1 companion
    unreadable   INTEGER NOT NULL,              -- a track whose tags could not be read
    origin_size  INTEGER NOT NULL,
    validator    TEXT NOT NULL,
    origin_mtime INTEGER NOT NULL,
    mode         INTEGER NOT NULL,
    device       INTEGER,
    inode        INTEGER,
    version_key  BLOB NOT NULL,
    content_hash BLOB,
    title        TEXT,
    artist       TEXT,
    album        TEXT,
    album_artist TEXT,
    genre        TEXT,
    year         INTEGER,
    track        INTEGER,
    disc         INTEGER,
    disc_total   INTEGER,
    duration_ms  INTEGER,
    bitrate      INTEGER,
    sample_rate  INTEGER,
    bit_depth    INTEGER,
    channels     INTEGER,
    codec        INTEGER,
    more         TEXT,                          -- JSON: every tag that has no column
    album_key    INTEGER,                       -- tracks with one key are one album
    last_sync    INTEGER NOT NULL,              -- when this row was read from the origin
    UNIQUE (origin_id, dir, name)
) STRICT;
CREATE INDEX files_by_album ON files (album_key, disc) WHERE album_key IS NOT NULL;
CREATE INDEX files_of_sets ON files (album_key) WHERE disc_total > 1;
CREATE INDEX files_by_content ON files (content_hash) WHERE content_hash IS NOT NULL;

CREATE TABLE artwork (
    file     INTEGER NOT NULL REFERENCES files (id) ON DELETE CASCADE,
    number   INTEGER NOT NULL,
    kind     INTEGER NOT NULL,
    mime     TEXT NOT NULL,
    size     INTEGER NOT NULL,
    start    INTEGER NOT NULL,
    len      INTEGER NOT NULL,
    encoding INTEGER NOT NULL,
    PRIMARY KEY (file, number)
) STRICT, WITHOUT ROWID;

-- The mounted tree. AUTOINCREMENT: no inode number is ever given twice.
CREATE TABLE entries (
    ino    INTEGER PRIMARY KEY AUTOINCREMENT,
    parent INTEGER NOT NULL,                    -- 0: not shown
    name   TEXT NOT NULL,
    base   TEXT,                                -- the name wanted, where it differs from the name
    file   INTEGER REFERENCES files (id),       -- NULL: a directory
    mtime  INTEGER,                             -- of a directory
    UNIQUE (parent, name)
) STRICT;
CREATE INDEX entries_in_order ON entries (parent, ino);
CREATE INDEX entries_by_base ON entries (parent, base) WHERE base IS NOT NULL;
CREATE INDEX entries_by_file ON entries (file) WHERE file IS NOT NULL;
