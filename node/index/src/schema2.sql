-- Version 2 of the index: what keeping the content of remote origins needs.

-- How the bytes of a track are arranged; all three are NULL where that is not known.
ALTER TABLE files ADD COLUMN container INTEGER;
ALTER TABLE files ADD COLUMN front_end INTEGER;
ALTER TABLE files ADD COLUMN tail_start INTEGER;
CREATE INDEX files_by_version ON files (version_key);

CREATE TABLE pins (
    path         TEXT PRIMARY KEY,              -- in the tree, as it was named; '': everything
    created_unix INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
