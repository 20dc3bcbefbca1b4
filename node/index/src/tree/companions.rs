//! Companions: files that stand beside the tracks of their real directory.

use std::collections::BTreeSet;

use musicfs_core::id::FileId;
use musicfs_core::names::{self, NameProfile};

use super::{Content, Tree};
use crate::error::{Attempt, Error};

/// The tracks of a real directory and where each is shown: a copy is where its leader is.
const TRACKS_OF_DIR: &str = "SELECT f.name, e.parent, IFNULL(l.name, e.name)
     FROM files f JOIN entries e ON e.file = f.id LEFT JOIN entries l ON l.ino = e.leader
     WHERE f.origin_id = ?1 AND f.dir = ?2 AND f.kind = 0 AND e.parent <> 0";

impl Tree<'_> {
    /// Puts the companions of a real directory where its tracks are.
    pub(super) fn place_companions(&mut self, origin: i64, dir: &[u8]) -> Result<(), Error> {
        let companions: Vec<(i64, Vec<u8>)> = self
            .db
            .prepare_cached(
                "SELECT id, name FROM files WHERE origin_id = ?1 AND dir = ?2 AND kind = 1",
            )
            .and_then(|mut query| {
                query
                    .query_map((origin, dir), |row| Ok((row.get(0)?, row.get(1)?)))?
                    .collect()
            })
            .attempt("read")?;
        if companions.is_empty() {
            return Ok(());
        }
        let tracks: Vec<Sibling> = self
            .db
            .prepare_cached(TRACKS_OF_DIR)
            .and_then(|mut query| {
                query
                    .query_map((origin, dir), |row| {
                        Ok(Sibling {
                            real_name: row.get(0)?,
                            parent: row.get(1)?,
                            name: row.get(2)?,
                        })
                    })?
                    .collect()
            })
            .attempt("read")?;
        for (file, name) in companions {
            let wanted = companion_places(&name, &tracks, self.profile);
            self.put_companion(FileId(file), wanted)?;
        }
        Ok(())
    }

    /// Makes the entries of a companion those at `wanted`; numbers stay with places where they can.
    fn put_companion(
        &mut self,
        file: FileId,
        mut wanted: BTreeSet<(i64, String)>,
    ) -> Result<(), Error> {
        let mut spare = Vec::new();
        for entry in self.entries_of(file)? {
            if !wanted.remove(&(entry.parent, entry.base.clone())) {
                spare.push(entry);
            }
        }
        let mut spare = spare.into_iter();
        for (parent, base) in wanted {
            self.put(file, spare.next(), parent, &base, Content::Same)?;
        }
        for entry in spare {
            self.delete(&entry)?;
        }
        Ok(())
    }
}

/// A track in the real directory of a companion.
struct Sibling {
    real_name: Vec<u8>,
    parent: i64,
    name: String,
}

/// Where a companion belongs: with the track it is named like, else with every track beside it.
fn companion_places(
    name: &[u8],
    tracks: &[Sibling],
    profile: NameProfile,
) -> BTreeSet<(i64, String)> {
    let (stem, extension) = names::split_extension(name);
    let extension = String::from_utf8_lossy(extension);
    let own: BTreeSet<(i64, String)> = tracks
        .iter()
        .filter(|track| names::split_extension(&track.real_name).0 == stem)
        .map(|track| {
            let (track_stem, _) = names::split_extension(track.name.as_bytes());
            let text = format!("{}.{extension}", String::from_utf8_lossy(track_stem));
            (
                track.parent,
                names::component(&text, Some(&extension), profile),
            )
        })
        .collect();
    if !own.is_empty() {
        return own;
    }
    let text = String::from_utf8_lossy(name);
    let name = names::component(&text, Some(&extension), profile);
    tracks
        .iter()
        .map(|track| (track.parent, name.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::plan_of;

    #[test]
    fn the_tracks_of_a_directory_are_found_by_indexes() {
        let plan = plan_of(TRACKS_OF_DIR);
        assert!(plan.starts_with("SEARCH f USING INDEX"), "{plan}");
        assert!(!plan.contains("SCAN") && !plan.contains("TEMP"), "{plan}");
    }
}
