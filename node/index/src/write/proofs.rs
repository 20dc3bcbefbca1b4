//! Checksums of whole files: what proves that copies are equal.

use musicfs_core::version::{Validator, VersionKey};
use rusqlite::Connection;

use crate::error::{Attempt, Error};
use crate::read::plain_etag;

/// The origins that have a version, and how each names it.
const HOLDERS: &str = "SELECT origin_id, validator FROM files WHERE version_key = ?1";

const SET_MD5: &str = "UPDATE files SET md5 = ?2 WHERE version_key = ?1";

/// Notes the MD5 of a version, and what it says of the ETags of the origins that have it.
pub(crate) fn note_md5(db: &Connection, version: VersionKey, md5: [u8; 16]) -> Result<(), Error> {
    let holders: Vec<(i64, String)> = db
        .prepare_cached(HOLDERS)
        .and_then(|mut query| {
            query
                .query_map([version.0], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
        })
        .attempt("read")?;
    db.prepare_cached(SET_MD5)
        .and_then(|mut update| update.execute((version.0, md5)))
        .attempt("write to")?;
    for (origin, validator) in holders {
        let etag = Validator::from_text(&validator);
        let Some(etag) = etag.as_ref().and_then(plain_etag) else {
            continue;
        };
        // One that is no MD5 (of an encrypted object, say) means that no other can be relied on.
        db.prepare_cached(
            "UPDATE origins SET etag_is_md5 = ?2 AND IFNULL(etag_is_md5, 1) WHERE id = ?1",
        )
        .and_then(|mut update| update.execute((origin, etag == md5)))
        .attempt("write to")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::plan_of;

    #[test]
    fn the_rows_of_a_version_are_found_by_an_index() {
        for sql in [HOLDERS, SET_MD5] {
            let plan = plan_of(sql);
            assert!(
                plan.starts_with("SEARCH files USING INDEX files_by_version"),
                "{sql}: {plan}"
            );
        }
    }
}
