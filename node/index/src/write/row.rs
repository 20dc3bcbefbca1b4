//! The rows of one file.

use musicfs_core::tags::{AudioProperties, TrackInfo};
use rusqlite::params;

use super::{OldRow, Write, identity_columns};
use crate::change::{FileKind, FileRecord};
use crate::error::{Attempt, Error};
use crate::rows::{TagColumns, codec_number, container_number, encoding_number};

impl Write<'_> {
    /// Writes the row of a file anew; returns its id.
    pub(super) fn write_row(
        &self,
        origin: i64,
        old: Option<&OldRow>,
        record: &FileRecord,
        columns: Option<&TagColumns>,
    ) -> Result<i64, Error> {
        let listed = &record.listed;
        let (device, inode) = identity_columns(listed.identity);
        let tags = record.info.as_ref().map(|info| &info.tags);
        let audio = record.info.as_ref().map(|info| &info.audio);
        let unreadable = record.kind == FileKind::Track && record.info.is_none();
        let number = |value: fn(&AudioProperties) -> i64| audio.map(value);
        let layout = record.layout;
        let md5 = old.and_then(|old| old.md5.filter(|_| old.version_key == record.version_key));
        self.db
            .prepare_cached(
                "INSERT OR REPLACE INTO files VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10,
                 ?11, ?12, ?13, NULL, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25,
                 ?26, ?27, ?28, ?29, ?30, ?31, ?32, ?33, ?34, ?35, ?36)",
            )
            .and_then(|mut insert| {
                insert.execute(params![
                    old.map(|old| old.id),
                    origin,
                    record.dir.as_bytes(),
                    listed.name,
                    record.kind.number(),
                    unreadable,
                    listed.version.size.cast_signed(),
                    listed.version.validator.to_text(),
                    listed.mtime_ns,
                    listed.mode,
                    device,
                    inode,
                    record.version_key.0,
                    tags.and_then(|tags| tags.title.as_deref()),
                    columns.and_then(|columns| columns.artist.as_deref()),
                    tags.and_then(|tags| tags.album.as_deref()),
                    columns.and_then(|columns| columns.album_artist.as_deref()),
                    columns.and_then(|columns| columns.genre.as_deref()),
                    tags.and_then(|tags| tags.date).map(|date| date.year),
                    tags.and_then(|tags| tags.track),
                    tags.and_then(|tags| tags.disc),
                    tags.and_then(|tags| tags.disc_total),
                    number(|audio| audio.duration_ms.cast_signed()),
                    number(|audio| audio.bitrate.into()),
                    number(|audio| audio.sample_rate.into()),
                    number(|audio| audio.bit_depth.into()),
                    number(|audio| audio.channels.into()),
                    number(|audio| codec_number(audio.codec)),
                    columns.map(|columns| columns.more.as_str()),
                    columns.and_then(|columns| columns.album_key),
                    self.now_ns,
                    layout.map(|layout| container_number(layout.container)),
                    layout.map(|layout| layout.front_end.cast_signed()),
                    layout.map(|layout| layout.tail_start.cast_signed()),
                    record.sample.map(|sample| sample.0),
                    md5,
                ])
            })
            .attempt("write to")?;
        Ok(old.map_or_else(|| self.db.last_insert_rowid(), |old| old.id))
    }

    /// Writes which pictures a file holds.
    pub(super) fn write_artwork(&self, id: i64, info: Option<&TrackInfo>) -> Result<(), Error> {
        self.db
            .prepare_cached("DELETE FROM artwork WHERE file = ?1")
            .and_then(|mut delete| delete.execute([id]))
            .attempt("write to")?;
        let artwork = info.map(|info| info.artwork.as_slice()).unwrap_or_default();
        for (number, art) in (0i64..).zip(artwork) {
            let len = art.range.end.saturating_sub(art.range.start);
            self.db
                .prepare_cached("INSERT INTO artwork VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")
                .and_then(|mut insert| {
                    insert.execute(params![
                        id,
                        number,
                        art.kind,
                        art.mime,
                        art.size.cast_signed(),
                        art.range.start.cast_signed(),
                        len.cast_signed(),
                        encoding_number(art)
                    ])
                })
                .attempt("write to")?;
        }
        Ok(())
    }
}
