-- Version 3 of the index: what showing copies of one file as one entry needs.

ALTER TABLE files ADD COLUMN sample BLOB;       -- of a track; NULL where it was never read
ALTER TABLE files ADD COLUMN md5 BLOB;          -- of the whole content, where that is certain
CREATE INDEX files_without_md5 ON files (origin_id) WHERE md5 IS NULL;

ALTER TABLE origins ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;  -- the lowest leads
ALTER TABLE origins ADD COLUMN etag_is_md5 INTEGER;  -- of plain ETags; NULL: not known

-- The entry that is shown instead of this one; NULL: it is shown itself.
ALTER TABLE entries ADD COLUMN leader INTEGER;
CREATE INDEX entries_by_leader ON entries (leader) WHERE leader IS NOT NULL;

-- A directory lists what is shown: pages never go through the copies.
DROP INDEX entries_in_order;
CREATE INDEX entries_in_order ON entries (parent, ino) WHERE leader IS NULL;

-- Copies that were shown side by side until now: the tree is made anew at the next start.
DELETE FROM meta WHERE key = 'layout';
