//! What one commit does: rows, and the tree that follows from them.

mod origins;
mod pins;
mod proofs;
mod retire;
mod row;
mod whole;

use std::collections::{BTreeMap, BTreeSet};

use musicfs_core::id::{FileId, Revision};
use musicfs_core::names;
use musicfs_core::origin::{FileIdentity, ListedFile};
use musicfs_core::path::OriginPath;
use musicfs_core::tags::{AudioProperties, Tags};
use musicfs_core::template::TrackFacts;
use musicfs_core::version::{Sample, VersionKey};
use rusqlite::{Connection, OptionalExtension, params};

use crate::change::{Batch, Commit, FileChange, FileKind, FileRecord, Layout, Terms};
use crate::error::{Attempt, Error};
use crate::rows::{TAG_COLUMNS, TagColumns, audio_of, tags_of};
use crate::tree::{Content, Settled, Tree};

pub(crate) use origins::configure;
pub use pins::{PIN_PATH_LEN_MAX, PINS_MAX};
pub(crate) use pins::{pin, unpin};
pub(crate) use proofs::note_md5;
pub use whole::FORGET_FILES_MAX;
pub(crate) use whole::{forget_some, rebuild, set_hidden};

/// Does the changes of `batch` within an open transaction.
pub(crate) fn apply(db: &Connection, terms: &Terms, batch: &Batch) -> Result<Commit, Error> {
    let tree = Tree::new(db, terms, batch.now_ns);
    let mut write = Write::new(db, terms, tree, batch.now_ns);
    for change in &batch.changes {
        write.change(batch.origin, change)?;
    }
    write.finish()
}

/// One transaction's work in progress.
struct Write<'c> {
    db: &'c Connection,
    layout: &'c Layout,
    tree: Tree<'c>,
    now_ns: i64,
    /// Tracks to place, and whether their content is new.
    tracks: BTreeMap<i64, Content>,
    /// Albums touched, and whether each had several discs before.
    albums: BTreeMap<i64, bool>,
    /// By how much each origin's number of files and bytes changed.
    totals: BTreeMap<i64, (i64, i64)>,
    /// Versions that a row no longer has; another may.
    replaced: BTreeSet<VersionKey>,
}

/// What a change needs to know of the row it replaces.
struct OldRow {
    id: i64,
    origin: i64,
    dir: Vec<u8>,
    kind: i64,
    size: i64,
    validator: String,
    album_key: Option<i64>,
    version_key: VersionKey,
    sample: Option<Sample>,
    md5: Option<[u8; 16]>,
}

/// The columns of an [`OldRow`].
const OLD_ROW: &str = "id, origin_id, dir, kind, origin_size, validator, album_key, version_key,
     sample, md5";

impl<'c> Write<'c> {
    fn new(db: &'c Connection, terms: &'c Terms, tree: Tree<'c>, now_ns: i64) -> Self {
        Self {
            db,
            layout: &terms.layout,
            tree,
            now_ns,
            tracks: BTreeMap::new(),
            albums: BTreeMap::new(),
            totals: BTreeMap::new(),
            replaced: BTreeSet::new(),
        }
    }

    fn change(&mut self, origin: i64, change: &FileChange) -> Result<(), Error> {
        match change {
            FileChange::Put(record) => self.put(origin, record),
            FileChange::Touch { id, mode, identity } => {
                let (device, inode) = identity_columns(*identity);
                self.db
                    .prepare_cached(
                        "UPDATE files SET mode = ?2, device = ?3, inode = ?4 WHERE id = ?1",
                    )
                    .and_then(|mut update| update.execute((id.0, mode, device, inode)))
                    .attempt("write to")?;
                self.tree.attributes_changed(*id)
            }
            FileChange::Move {
                id,
                dir,
                listed,
                version_key,
            } => self.relocate(*id, dir, listed, *version_key),
            FileChange::Remove { id, dir } => match self.old_row("id = ?1", params![id.0])? {
                Some(row) if row.dir == dir.as_bytes() => self.remove(&row),
                _ => Ok(()),
            },
        }
    }

    fn put(&mut self, origin: i64, record: &FileRecord) -> Result<(), Error> {
        let old = self.old_row(
            "origin_id = ?1 AND dir = ?2 AND name = ?3",
            params![origin, record.dir.as_bytes(), record.listed.name],
        )?;
        let columns = record.info.as_ref().map(|info| TagColumns::new(&info.tags));
        let album_key = columns.as_ref().and_then(|columns| columns.album_key);
        self.album_touched(old.as_ref().and_then(|old| old.album_key))?;
        self.album_touched(album_key)?;
        let kind_changed = old
            .as_ref()
            .is_some_and(|old| old.kind != record.kind.number());
        if kind_changed && let Some(old) = &old {
            self.tree.remove(FileId(old.id))?;
        }
        let validator = record.listed.version.validator.to_text();
        let size = record.listed.version.size.cast_signed();
        let same = old
            .as_ref()
            .is_some_and(|old| old.size == size && old.validator == validator);
        if let Some(old) = &old {
            self.replace(old.version_key, record.version_key);
        }
        let id = self.write_row(origin, old.as_ref(), record, columns.as_ref())?;
        if old.as_ref().is_some_and(|old| old.sample != record.sample) {
            self.tree.key_changed(FileId(id))?;
        }
        self.write_artwork(id, record.info.as_ref())?;
        let (old_count, old_size) = old.as_ref().map_or((0, 0), |old| (1, old.size));
        self.count(origin, 1 - old_count, size - old_size);
        let content = if same { Content::Same } else { Content::New };
        match record.kind {
            FileKind::Track => {
                self.tracks.insert(id, content);
            }
            FileKind::Companion if !same => self.tree.remove(FileId(id))?,
            FileKind::Companion => {}
        }
        self.tree.companions_changed(origin, record.dir.as_bytes());
        Ok(())
    }

    fn relocate(
        &mut self,
        id: FileId,
        dir: &OriginPath,
        listed: &ListedFile,
        key: VersionKey,
    ) -> Result<(), Error> {
        let Some(old) = self.old_row("id = ?1", params![id.0])? else {
            return Ok(());
        };
        // Whatever the index thought to be at the new path is gone.
        let at_target = self.old_row(
            "origin_id = ?1 AND dir = ?2 AND name = ?3 AND id <> ?4",
            params![old.origin, dir.as_bytes(), listed.name, id.0],
        )?;
        if let Some(replaced) = at_target {
            self.remove(&replaced)?;
        }
        let (device, inode) = identity_columns(listed.identity);
        self.db
            .prepare_cached(
                "UPDATE files SET dir = ?2, name = ?3, mode = ?4, device = ?5, inode = ?6,
                     md5 = IIF(version_key = ?7, md5, NULL), version_key = ?7 WHERE id = ?1",
            )
            .and_then(|mut update| {
                update.execute(params![
                    id.0,
                    dir.as_bytes(),
                    listed.name,
                    listed.mode,
                    device,
                    inode,
                    key.0
                ])
            })
            .attempt("write to")?;
        self.replace(old.version_key, key);
        self.tree.companions_changed(old.origin, &old.dir);
        self.tree.companions_changed(old.origin, dir.as_bytes());
        // Suffixes depend on the path, and so does which copies of one origin belong together.
        self.tree.key_changed(id)?;
        if old.kind == FileKind::Track.number() {
            // Names may hold the file's stem.
            self.tracks.entry(id.0).or_insert(Content::Same);
        }
        Ok(())
    }

    fn remove(&mut self, old: &OldRow) -> Result<(), Error> {
        self.remove_row(old)?;
        self.tree.companions_changed(old.origin, &old.dir);
        Ok(())
    }

    /// Removes a row and its entries; the companions beside it stay where they are.
    fn remove_row(&mut self, old: &OldRow) -> Result<(), Error> {
        self.album_touched(old.album_key)?;
        self.tree.remove(FileId(old.id))?;
        self.tracks.remove(&old.id);
        self.db
            .prepare_cached("DELETE FROM files WHERE id = ?1")
            .and_then(|mut delete| delete.execute([old.id]))
            .attempt("write to")?;
        self.count(old.origin, -1, -old.size);
        self.replaced.insert(old.version_key);
        Ok(())
    }

    fn finish(mut self) -> Result<Commit, Error> {
        self.place_albums_that_flipped()?;
        for (id, content) in std::mem::take(&mut self.tracks) {
            self.place(FileId(id), content)?;
        }
        for (origin, (files, bytes)) in &self.totals {
            self.db
                .prepare_cached(
                    "UPDATE origins SET file_count = file_count + ?2, total_bytes = total_bytes + ?3
                     WHERE id = ?1",
                )
                .and_then(|mut update| update.execute((origin, files, bytes)))
                .attempt("write to")?;
        }
        let retired = self.retired()?;
        let Settled {
            change: tree,
            directories_added: directories,
            told,
        } = self.tree.settle()?;
        self.db
            .prepare_cached(
                "INSERT INTO meta VALUES ('directories', 1 + ?1)
                 ON CONFLICT (key) DO UPDATE SET value = value + ?1",
            )
            .and_then(|mut update| update.execute([directories]))
            .attempt("write to")?;
        let revision: i64 = self
            .db
            .prepare_cached(
                "UPDATE meta SET value = value + 1 WHERE key = 'revision' RETURNING value",
            )
            .and_then(|mut update| update.query_row([], |row| row.get(0)))
            .attempt("write to")?;
        Ok(Commit {
            revision: Revision(revision.cast_unsigned()),
            tree,
            retired,
            files: told.files,
            names_untold: told.names_untold,
        })
    }

    fn old_row(
        &self,
        condition: &str,
        params: impl rusqlite::Params,
    ) -> Result<Option<OldRow>, Error> {
        self.db
            .prepare_cached(&format!("SELECT {OLD_ROW} FROM files WHERE {condition}"))
            .and_then(|mut query| query.query_row(params, old_row).optional())
            .attempt("read")
    }

    fn count(&mut self, origin: i64, files: i64, bytes: i64) {
        let totals = self.totals.entry(origin).or_default();
        totals.0 += files;
        totals.1 += bytes;
    }

    /// Remembers whether an album had several discs before this transaction changes it.
    fn album_touched(&mut self, album: Option<i64>) -> Result<(), Error> {
        if let Some(album) = album
            && self.layout.template.uses_album()
            && !self.albums.contains_key(&album)
        {
            let before = self.has_discs(album)?;
            self.albums.insert(album, before);
        }
        Ok(())
    }

    fn has_discs(&self, album: i64) -> Result<bool, Error> {
        self.db
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM files WHERE album_key = ?1 AND disc > 1)
                     OR EXISTS (SELECT 1 FROM files WHERE album_key = ?1 AND disc_total > 1)",
            )
            .and_then(|mut query| query.query_row([album], |row| row.get(0)))
            .attempt("read")
    }

    /// An album that got its second disc, or lost it, has its tracks elsewhere.
    fn place_albums_that_flipped(&mut self) -> Result<(), Error> {
        for (album, before) in std::mem::take(&mut self.albums) {
            if self.has_discs(album)? == before {
                continue;
            }
            let tracks: Vec<i64> = self
                .db
                .prepare_cached(
                    "SELECT f.id FROM files f JOIN origins o ON o.id = f.origin_id
                     WHERE f.album_key = ?1 AND NOT o.hidden",
                )
                .and_then(|mut query| query.query_map([album], |row| row.get(0))?.collect())
                .attempt("read")?;
            for id in tracks {
                self.tracks.entry(id).or_insert(Content::Same);
            }
        }
        Ok(())
    }

    /// Renders the path of a track and puts its entry there.
    fn place(&mut self, id: FileId, content: Content) -> Result<(), Error> {
        let sql = format!(
            "SELECT {TAG_COLUMNS}, f.origin_id, f.dir, f.name, f.unreadable, f.album_key
             FROM files f WHERE f.id = ?1"
        );
        let mut query = self.db.prepare_cached(&sql).attempt("read")?;
        let mut rows = query.query([id.0]).attempt("read")?;
        let Some(row) = rows.next().attempt("read")? else {
            return Ok(());
        };
        let (tags, audio) = (tags_of(row, 0)?, audio_of(row, 0)?);
        let at = 12;
        let origin: i64 = row.get(at).attempt("read")?;
        let dir: Vec<u8> = row.get(at + 1).attempt("read")?;
        let name: Vec<u8> = row.get(at + 2).attempt("read")?;
        let unreadable: bool = row.get(at + 3).attempt("read")?;
        let album: Option<i64> = row.get(at + 4).attempt("read")?;
        let multi_disc = match album {
            Some(album) if self.layout.template.uses_album() => self.has_discs(album)?,
            _ => false,
        };
        let path = render(self.layout, &tags, &audio, &name, multi_disc, unreadable);
        self.tree.place(id, &path, content)?;
        self.tree.companions_changed(origin, &dir);
        Ok(())
    }
}

fn old_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<OldRow> {
    Ok(OldRow {
        id: row.get(0)?,
        origin: row.get(1)?,
        dir: row.get(2)?,
        kind: row.get(3)?,
        size: row.get(4)?,
        validator: row.get(5)?,
        album_key: row.get(6)?,
        version_key: VersionKey(row.get(7)?),
        sample: row.get::<_, Option<[u8; 16]>>(8)?.map(Sample),
        md5: row.get(9)?,
    })
}

/// The path of a track in the tree, from the root.
fn render(
    layout: &Layout,
    tags: &Tags,
    audio: &AudioProperties,
    name: &[u8],
    multi_disc: bool,
    unreadable: bool,
) -> Vec<String> {
    let stem = String::from_utf8_lossy(names::split_extension(name).0);
    let extension = names::extension_of(name);
    let facts = TrackFacts {
        tags,
        audio,
        stem: &stem,
        extension: &extension,
        multi_disc,
        unreadable,
    };
    let mut path: Vec<String> = layout
        .root
        .iter()
        .map(|part| names::component(part, None, layout.profile))
        .collect();
    path.extend(layout.template.render(&facts, layout.profile));
    path
}

fn identity_columns(identity: Option<FileIdentity>) -> (Option<i64>, Option<i64>) {
    let column = |value: fn(FileIdentity) -> u64| identity.map(|id| value(id).cast_signed());
    (column(|id| id.device), column(|id| id.inode))
}
