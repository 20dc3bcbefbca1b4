//! Copies of one file on several origins: who has one, and whether they are proven equal.

use std::sync::LazyLock;

use musicfs_core::id::{FileId, Ino};
use musicfs_core::version::Validator;

use super::{Found, Reader, content, ino};
use crate::error::{Attempt, Error};

/// Matches the stored form of an ETag that may be an MD5.
static PLAIN_ETAG: LazyLock<String> =
    LazyLock::new(|| format!("e{}", "[0-9a-fA-F]".repeat(MD5_DIGITS)));

/// Hexadecimal digits of an MD5.
const MD5_DIGITS: usize = 32;

/// Whether it is open what the ETags of an origin are, and it has a copy of something.
///
/// Goes through the followers of all origins, of which there are none where nothing has copies.
const ETAG_IS_OPEN: &str = "SELECT 1 FROM origins o WHERE o.id = ?1 AND o.etag_is_md5 IS NULL
     AND EXISTS (
         SELECT 1 FROM entries e JOIN files f ON f.id = e.file
             JOIN entries l ON l.ino = e.leader JOIN files lf ON lf.id = l.file
         WHERE e.leader IS NOT NULL AND (f.origin_id = ?1 OR lf.origin_id = ?1))";

impl Reader {
    /// All sources of the entry that shows what `of` stands for: the one that leads it first, then
    /// those that follow, by priority and name of their origins.
    ///
    /// One for an entry without copies; none if it is gone or a directory. Each is with the inode
    /// number of its own, which nobody else sees while it follows.
    ///
    /// # Errors
    /// As [`Reader::find`].
    pub fn replicas(&self, of: Ino) -> Result<Vec<Found>, Error> {
        self.with_snapshot(|connection| {
            let Some(shown) = content::shown_as(connection, of)? else {
                return Ok(Vec::new());
            };
            let Some(leader) = content::find(connection, shown)? else {
                return Ok(Vec::new());
            };
            let mut replicas = vec![leader];
            let mut query = connection.prepare_cached(&led_by()).attempt("look up in")?;
            let mut rows = query.query([ino(shown)]).attempt("look up in")?;
            while let Some(row) = rows.next().attempt("look up in")? {
                replicas.push(content::found(row)?);
            }
            let order = |found: &Found| (found.priority, found.origin.clone(), found.path.clone());
            replicas[1..].sort_by_cached_key(order);
            Ok(replicas)
        })
    }

    /// The file to read for learning whether the ETags of an origin are MD5s: the smallest in the
    /// tree of 1 to `size_max` bytes whose ETag may be one.
    ///
    /// `None` if that is known, or if nobody needs to know because the origin has copies of nothing.
    /// Goes through the rows of the origin once if it is open.
    ///
    /// # Errors
    /// As [`Reader::find`].
    pub fn etag_probe(&self, origin_row: i64, size_max: u64) -> Result<Option<Found>, Error> {
        let size_max = i64::try_from(size_max).unwrap_or(i64::MAX);
        self.with_snapshot(|connection| {
            let is_open = connection
                .prepare_cached(ETAG_IS_OPEN)
                .and_then(|mut query| query.exists([origin_row]))
                .attempt("look up in")?;
            if !is_open {
                return Ok(None);
            }
            let params = (origin_row, size_max, PLAIN_ETAG.as_str());
            content::first(connection, &smallest_with_etag(), params)
        })
    }

    /// Up to `limit` files of an origin that have copies, or are one, and whose MD5 is not known:
    /// those whose rows come after `after`, in the order of rows. None is the end.
    ///
    /// For an origin that computes checksums on request.
    ///
    /// # Errors
    /// As [`Reader::find`].
    pub fn unproven(
        &self,
        origin_row: i64,
        after: FileId,
        limit: usize,
    ) -> Result<Vec<(FileId, Found)>, Error> {
        self.with(|connection| {
            let mut query = connection
                .prepare_cached(&unproven())
                .attempt("look up in")?;
            let mut rows = query
                .query((origin_row, after.0, PLAIN_ETAG.as_str()))
                .attempt("look up in")?;
            let mut files: Vec<(FileId, Found)> = Vec::new();
            while files.len() < limit {
                let Some(row) = rows.next().attempt("look up in")? else {
                    break;
                };
                let id = row.get(content::COLUMNS_COUNT).map(FileId);
                let id = id.attempt("look up in")?;
                // A companion that stands at several places comes with each.
                if files.last().is_none_or(|(last, _)| *last != id) {
                    files.push((id, content::found(row)?));
                }
            }
            Ok(files)
        })
    }
}

/// True only if it is proven that two files hold the same bytes: they have one version, or one size
/// and one MD5, be it spelled by ETags that are known to be made of MD5s.
///
/// A read may go on in the other one then; copies that merely look alike are not enough.
pub fn same_content(a: &Found, b: &Found) -> bool {
    if a.version_key == b.version_key {
        return true;
    }
    if a.version.size != b.version.size {
        return false;
    }
    if let (Some(a), Some(b)) = (a.md5, b.md5) {
        return a == b;
    }
    let (a_tag, b_tag) = (&a.version.validator, &b.version.validator);
    a.etag_is_md5 && b.etag_is_md5 && is_made_of_md5(a_tag) && a_tag == b_tag
}

/// True for an ETag as S3 makes it of MD5s: that of the bytes, or, of an object that came in parts,
/// that of the MD5s of its parts and how many there are. Equal ones mean equal parts.
fn is_made_of_md5(validator: &Validator) -> bool {
    let Validator::ETag(tag) = validator else {
        return false;
    };
    let (digits, parts) = tag.split_once('-').unwrap_or((tag, "1"));
    digits.len() == MD5_DIGITS
        && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
        && !parts.is_empty()
        && parts.bytes().all(|digit| digit.is_ascii_digit())
}

/// A `SELECT` of a [`Found`] and the row's number.
fn select(rest: &str) -> String {
    format!("SELECT {}, f.id FROM {rest}", content::columns())
}

fn led_by() -> String {
    select(
        "entries e JOIN files f ON f.id = e.file JOIN origins o ON o.id = f.origin_id
         WHERE e.leader = ?1 AND e.parent <> 0",
    )
}

fn smallest_with_etag() -> String {
    select(
        "origins o CROSS JOIN files f ON f.origin_id = o.id CROSS JOIN entries e ON e.file = f.id
         WHERE o.id = ?1 AND f.origin_size BETWEEN 1 AND ?2 AND f.validator GLOB ?3
             AND e.parent <> 0
         ORDER BY f.origin_size, f.dir, f.name LIMIT 1",
    )
}

fn unproven() -> String {
    select(
        "files f CROSS JOIN origins o ON o.id = f.origin_id CROSS JOIN entries e ON e.file = f.id
         WHERE f.origin_id = ?1 AND f.md5 IS NULL AND f.id > ?2 AND e.parent <> 0
             AND (e.leader IS NOT NULL OR EXISTS (SELECT 1 FROM entries w WHERE w.leader = e.ino))
             AND NOT (o.etag_is_md5 IS 1 AND f.validator GLOB ?3)
         ORDER BY f.id",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::plan_of;

    #[test]
    fn copies_are_found_by_indexes() {
        let check = |sql: &str, start: &str, temp: bool| {
            let plan = plan_of(sql);
            assert!(plan.contains(start), "{sql}: {plan}");
            assert_eq!(plan.contains("TEMP"), temp, "{sql}: {plan}");
            assert!(
                !plan.contains("SCAN f") && !plan.contains("SCAN l"),
                "{plan}"
            );
        };
        check(
            &led_by(),
            "SEARCH e USING INDEX entries_by_leader (leader=?)",
            false,
        );
        check(
            ETAG_IS_OPEN,
            "SEARCH e USING INDEX entries_by_leader (leader>?)",
            false,
        );
        // Sorts one origin's candidates.
        check(&smallest_with_etag(), "SEARCH f USING INDEX", true);
        let by_row = "SEARCH f USING INDEX files_without_md5 (origin_id=? AND rowid>?)";
        check(&unproven(), by_row, false);
        check(
            &unproven(),
            "SEARCH w USING COVERING INDEX entries_by_leader",
            false,
        );
    }
}
