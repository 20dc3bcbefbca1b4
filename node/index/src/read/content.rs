//! Queries about content: where it lies, and who has a version.

use musicfs_core::id::{Ino, OriginId};
use musicfs_core::path::OriginPath;
use musicfs_core::version::{ContentVersion, Sample, Validator, VersionKey};
use rusqlite::{Connection, OptionalExtension, Params, Row};

use super::{Found, NODE, Reader, ino, node, node_of};
use crate::change::FileKind;
use crate::error::{Attempt, Error};
use crate::rows::{LAYOUT_COLUMNS, layout_of};

/// How many columns [`columns`] names.
pub(super) const COLUMNS_COUNT: usize = 19;

/// Whether any row has a version.
pub(crate) const HAS_VERSION: &str = "SELECT 1 FROM files WHERE version_key = ?1";

const SHOWN_AS: &str = "SELECT IFNULL(leader, ino) FROM entries WHERE ino = ?1 AND parent <> 0";

const HAS_VERSION_OF_ORIGIN: &str = "SELECT 1 FROM files f JOIN origins o ON o.id = f.origin_id
     WHERE f.version_key = ?1 AND o.name = ?2";

impl Reader {
    /// Where the content of a file's entry lies.
    ///
    /// # Errors
    /// [`Error::Sqlite`], or [`Error::Damaged`] if the row makes no sense.
    pub fn find(&self, of: Ino) -> Result<Option<Found>, Error> {
        self.with(|connection| find(connection, of))
    }

    /// Any file with this version that is in the tree; the copies are equal.
    ///
    /// The entry is the one that shows: of a file that another one leads, that one's.
    ///
    /// # Errors
    /// As [`Reader::find`].
    pub fn find_version(&self, version: VersionKey) -> Result<Option<Found>, Error> {
        self.with_snapshot(|connection| {
            let Some(mut found) = first(connection, &by_version(), [version.0])? else {
                return Ok(None);
            };
            let shown = shown_as(connection, found.node.ino)?;
            if let Some(node) = shown.filter(|&shown| shown != found.node.ino) {
                found.node = node_of(connection, node)?.unwrap_or(found.node);
            }
            Ok(Some(found))
        })
    }

    /// True if any row has this version, also of an origin that is not shown.
    ///
    /// # Errors
    /// [`Error::Sqlite`], here and below.
    pub fn has_version(&self, version: VersionKey) -> Result<bool, Error> {
        self.with(|connection| {
            connection
                .prepare_cached(HAS_VERSION)
                .and_then(|mut query| query.exists([version.0]))
                .attempt("look up in")
        })
    }

    /// True if any row of this origin has this version.
    ///
    /// # Errors
    /// As above.
    pub fn version_is_of_origin(
        &self,
        version: VersionKey,
        origin: &OriginId,
    ) -> Result<bool, Error> {
        self.with(|connection| {
            connection
                .prepare_cached(HAS_VERSION_OF_ORIGIN)
                .and_then(|mut query| query.exists((version.0, origin.as_str())))
                .attempt("look up in")
        })
    }
}

/// The columns of a [`Found`], in a `SELECT` on `entries e`, `files f` and `origins o`.
pub(super) fn columns() -> String {
    format!(
        "{NODE}, o.name, f.dir, f.name, f.validator, f.kind, f.version_key, {LAYOUT_COLUMNS},
         f.sample, f.md5, o.etag_is_md5, o.priority"
    )
}

fn by_ino() -> String {
    format!(
        "SELECT {} FROM entries e JOIN files f ON f.id = e.file JOIN origins o ON o.id = f.origin_id
         WHERE e.ino = ?1 AND e.parent <> 0",
        columns()
    )
}

fn by_version() -> String {
    // CROSS: the files first, for only there the version is indexed.
    format!(
        "SELECT {} FROM files f CROSS JOIN entries e ON e.file = f.id
         JOIN origins o ON o.id = f.origin_id
         WHERE f.version_key = ?1 AND e.parent <> 0 LIMIT 1",
        columns()
    )
}

pub(super) fn find(connection: &Connection, of: Ino) -> Result<Option<Found>, Error> {
    first(connection, &by_ino(), [ino(of)])
}

pub(super) fn first(
    connection: &Connection,
    sql: &str,
    params: impl Params,
) -> Result<Option<Found>, Error> {
    let mut query = connection.prepare_cached(sql).attempt("look up in")?;
    let mut rows = query.query(params).attempt("look up in")?;
    rows.next().attempt("look up in")?.map(found).transpose()
}

/// Reads a row that starts with [`columns`].
pub(super) fn found(row: &Row<'_>) -> Result<Found, Error> {
    let damaged = || Error::Damaged { table: "files" };
    let wrong_type = |_| damaged();
    let node = node(row, 0).map_err(wrong_type)?;
    let origin: String = row.get(6).map_err(wrong_type)?;
    let dir: Vec<u8> = row.get(7).map_err(wrong_type)?;
    let name: Vec<u8> = row.get(8).map_err(wrong_type)?;
    let validator: String = row.get(9).map_err(wrong_type)?;
    let validator = Validator::from_text(&validator).ok_or_else(damaged)?;
    let kind: i64 = row.get(10).map_err(wrong_type)?;
    let sample: Option<[u8; 16]> = row.get(15).map_err(wrong_type)?;
    let md5: Option<[u8; 16]> = row.get(16).map_err(wrong_type)?;
    let etag_is_md5 = row.get::<_, Option<bool>>(17).map_err(wrong_type)? == Some(true);
    let named = || plain_etag(&validator).filter(|_| etag_is_md5);
    Ok(Found {
        node,
        origin: OriginId::new(&origin).map_err(|_| damaged())?,
        path: OriginPath::new(&dir)
            .and_then(|dir| dir.join(&name))
            .map_err(|_| damaged())?,
        md5: md5.or_else(named),
        version: ContentVersion {
            size: node.size,
            validator,
        },
        kind: FileKind::from_number(kind).ok_or_else(damaged)?,
        version_key: VersionKey(row.get(11).map_err(wrong_type)?),
        layout: layout_of(row, 12).map_err(wrong_type)?,
        sample: sample.map(Sample),
        etag_is_md5,
        priority: row.get(18).map_err(wrong_type)?,
    })
}

/// The number of the entry that shows what an entry of the tree stands for: its own or its leader's.
pub(super) fn shown_as(connection: &Connection, of: Ino) -> Result<Option<Ino>, Error> {
    connection
        .prepare_cached(SHOWN_AS)
        .and_then(|mut query| {
            query
                .query_row([ino(of)], |row| row.get::<_, i64>(0))
                .optional()
        })
        .map(|shown| shown.map(|shown| Ino(shown.cast_unsigned())))
        .attempt("look up in")
}

/// The 16 bytes that a plain ETag spells: 32 hexadecimal digits, as an MD5 has.
pub(crate) fn plain_etag(validator: &Validator) -> Option<[u8; 16]> {
    let Validator::ETag(tag) = validator else {
        return None;
    };
    let digits = tag.as_bytes();
    if digits.len() != 32 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u128::from_str_radix(tag, 16).ok().map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::plan_of;

    #[test]
    fn every_query_follows_indexes() {
        for sql in [
            &by_ino(),
            &by_version(),
            HAS_VERSION,
            HAS_VERSION_OF_ORIGIN,
            SHOWN_AS,
        ] {
            let plan = plan_of(sql);
            assert!(plan.contains("SEARCH"), "{sql}: {plan}");
            assert!(
                !plan.contains("SCAN") && !plan.contains("TEMP"),
                "{sql}: {plan}"
            );
        }
        assert!(plan_of(&by_version()).starts_with("SEARCH f USING INDEX files_by_version"));
    }

    #[test]
    fn only_a_plain_etag_can_be_an_md5() {
        let check = |validator, expect| assert_eq!(plain_etag(&validator), expect);
        let tag = |text: &str| Validator::ETag(text.into());
        let bytes: [u8; 16] = *b"\xd4\x1d\x8c\xd9\x8f\0\xb2\x04\xe9\x80\t\x98\xec\xf8B~";
        check(tag("d41d8cd98f00b204e9800998ecf8427e"), Some(bytes));
        check(tag("D41D8CD98F00B204E9800998ECF8427E"), Some(bytes));
        check(tag("d41d8cd98f00b204e9800998ecf8427e-1"), None);
        check(tag("+41d8cd98f00b204e9800998ecf8427e"), None);
        check(tag("d41d8cd98f00b204e9800998ecf8427"), None);
        check(tag("dü1d8cd98f00b204e9800998ecf842e"), None);
        check(Validator::Mtime(5), None);
    }
}
