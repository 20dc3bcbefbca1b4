//! Groups: files that want one name in one directory.
//!
//! Copies of one file on several origins share a *slot*, which holds at most one file of each
//! origin. One of them *leads* and is shown; the others follow: they keep their inode numbers, out
//! of sight. The leaders of a group are told apart by suffixes. All of this is a function of the
//! set of members and of the origins' priorities.

use std::collections::BTreeMap;

use musicfs_core::names;

use super::{Tree, follower_name, is_shown, temporary_name};
use crate::change::FileKind;
use crate::error::{Attempt, Error};

/// What a member of a group needs, but for the condition that chooses it: in an indexed query by
/// name, and one by the wanted name where it differs.
const MEMBERS: &str = "SELECT e.ino, e.name, e.leader, f.origin_id, o.name, o.priority, f.dir,
            f.name, f.kind, f.origin_size, f.sample
     FROM entries e JOIN files f ON f.id = e.file JOIN origins o ON o.id = f.origin_id
     WHERE e.parent = ?1 AND ";

/// The groups with a follower that comes before its leader.
const MISLED: &str = "SELECT e.parent, e.base
     FROM entries e JOIN files f ON f.id = e.file JOIN origins o ON o.id = f.origin_id
         JOIN entries l ON l.ino = e.leader JOIN files lf ON lf.id = l.file
         JOIN origins lo ON lo.id = lf.origin_id
     WHERE e.leader IS NOT NULL AND (o.priority, o.name) < (lo.priority, lo.name)";

/// The groups in which somebody does not have the name that it wants.
const SHARED: &str = "SELECT DISTINCT parent, base FROM entries WHERE base IS NOT NULL
     AND parent <> 0";

/// A member of a group.
#[derive(Clone, Debug)]
struct Member {
    ino: i64,
    name: String,
    leader: Option<i64>,
    origin: i64,
    priority: i64,
    dir: Vec<u8>,
    /// Origin and path, apart by NULs: no two members have one, and those of an origin sort by path.
    key: Vec<u8>,
    kind: i64,
    size: i64,
    sample: Option<[u8; 16]>,
}

/// What copies of one file have in common.
type Likeness = (i64, i64, Option<[u8; 16]>);

/// Where a member of a group is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// Shown under a name.
    Shown(String),
    /// Out of sight, for the member at this place is shown.
    Behind(usize),
}

impl Member {
    /// Members with one likeness are copies; `None` if it has no copies.
    fn likeness(&self) -> Option<Likeness> {
        if self.kind == FileKind::Track.number() {
            // Without its bytes having been seen, nothing but itself is like a track.
            self.sample
                .map(|sample| (self.kind, self.size, Some(sample)))
        } else {
            Some((self.kind, self.size, None))
        }
    }

    /// The least of a slot leads it. Origins' ids start the keys.
    fn rank(&self) -> (i64, &[u8]) {
        (self.priority, &self.key)
    }
}

impl Tree<'_> {
    /// Notes the groups that another member must lead, now that origins' priorities changed.
    pub(crate) fn priorities_changed(&mut self) -> Result<(), Error> {
        self.note_groups(MISLED)
    }

    /// Notes all groups of several members.
    pub(crate) fn all_groups(&mut self) -> Result<(), Error> {
        self.note_groups(SHARED)
    }

    fn note_groups(&mut self, sql: &str) -> Result<(), Error> {
        let mut query = self.db.prepare(sql).attempt("read")?;
        let groups = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
        for group in groups.attempt("read")? {
            self.groups.insert(group.attempt("read")?);
        }
        Ok(())
    }

    /// Names the members of every group that changed.
    pub(super) fn name_groups(&mut self) -> Result<(), Error> {
        while let Some((parent, base)) = self.groups.pop_first() {
            let members = self.group(parent, &base)?;
            if members.is_empty() {
                continue;
            }
            let directory_has_it = self
                .db
                .prepare_cached(
                    "SELECT 1 FROM entries WHERE parent = ?1 AND name = ?2 AND file IS NULL",
                )
                .and_then(|mut query| query.exists((parent, &base)))
                .attempt("read")?;
            let places = places(&base, &members, directory_has_it);
            self.move_to(parent, &base, &members, &places)?;
        }
        Ok(())
    }

    /// Puts the members of a group where they are to be, and notes what shows of it.
    fn move_to(
        &mut self,
        parent: i64,
        base: &str,
        members: &[Member],
        places: &[Place],
    ) -> Result<(), Error> {
        // First out of each other's way: whoever follows at once, the others to their names then.
        let mut renamed = Vec::new();
        for (member, place) in members.iter().zip(places) {
            let was_shown = is_shown(&member.name, member.leader);
            let (changed, shown_elsewhere) = match place {
                Place::Shown(name) => {
                    let changed = !was_shown || member.name != *name;
                    if changed {
                        self.write_place(
                            member.ino,
                            parent,
                            &temporary_name(member.ino),
                            Some(base),
                        )?;
                        renamed.push((member.ino, name));
                    }
                    (changed, changed)
                }
                Place::Behind(leader) => {
                    let leads = &members[*leader];
                    let changed = member.leader != Some(leads.ino);
                    if changed {
                        self.write_follower(member.ino, base, leads.ino)?;
                    }
                    let name_kept =
                        matches!(&places[*leader], Place::Shown(name) if *name == leads.name);
                    (changed, changed || !name_kept)
                }
            };
            if changed && was_shown {
                self.note_shown(parent, &member.name, member.ino)?;
                self.touch(parent, &member.name);
            }
            if shown_elsewhere {
                self.companions.insert((member.origin, member.dir.clone()));
            }
        }
        for (ino, name) in renamed {
            self.write_place(ino, parent, name, Some(base))?;
            self.touch(parent, name);
        }
        Ok(())
    }

    fn write_follower(&self, ino: i64, base: &str, leader: i64) -> Result<(), Error> {
        self.db
            .prepare_cached("UPDATE entries SET name = ?2, base = ?3, leader = ?4 WHERE ino = ?1")
            .and_then(|mut update| update.execute((ino, follower_name(ino), base, leader)))
            .map(drop)
            .attempt("write to")
    }

    fn group(&self, parent: i64, base: &str) -> Result<Vec<Member>, Error> {
        self.db
            .prepare_cached(&members())
            .and_then(|mut query| query.query_map((parent, base), member)?.collect())
            .attempt("read")
    }
}

fn members() -> String {
    format!("{MEMBERS} e.name = ?2 AND e.base IS NULL UNION ALL {MEMBERS} e.base = ?2")
}

fn member(row: &rusqlite::Row<'_>) -> rusqlite::Result<Member> {
    let (origin_name, dir, name): (String, Vec<u8>, Vec<u8>) =
        (row.get(4)?, row.get(6)?, row.get(7)?);
    // Neither an origin's id nor a path holds a NUL.
    let key = [origin_name.as_bytes(), &dir, &name].join(&0);
    Ok(Member {
        ino: row.get(0)?,
        name: row.get(1)?,
        leader: row.get(2)?,
        origin: row.get(3)?,
        priority: row.get(5)?,
        dir,
        key,
        kind: row.get(8)?,
        size: row.get(9)?,
        sample: row.get(10)?,
    })
}

/// Where each member of a group is to be.
fn places(base: &str, members: &[Member], directory_has_it: bool) -> Vec<Place> {
    let leaders = leaders(members);
    let leads = |at: &usize| leaders[*at] == *at;
    let shown: Vec<usize> = (0..members.len()).filter(leads).collect();
    let keys: Vec<&[u8]> = shown.iter().map(|&at| members[at].key.as_slice()).collect();
    let mut places: Vec<Place> = leaders.into_iter().map(Place::Behind).collect();
    for (at, name) in shown
        .into_iter()
        .zip(names::resolve(base, &keys, directory_has_it))
    {
        places[at] = Place::Shown(name);
    }
    places
}

/// The place in `members` of the one that leads each; its own for one that leads.
fn leaders(members: &[Member]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_unstable_by_key(|&at| members[at].key.as_slice());
    // How many copies of a file one origin has; they go into slots of their own, by path.
    let mut copies: BTreeMap<(Likeness, i64), usize> = BTreeMap::new();
    let mut slots: BTreeMap<(Likeness, usize), Vec<usize>> = BTreeMap::new();
    for at in order {
        let member = &members[at];
        if let Some(likeness) = member.likeness() {
            let number = copies.entry((likeness, member.origin)).or_default();
            slots.entry((likeness, *number)).or_default().push(at);
            *number += 1;
        }
    }
    let mut leaders: Vec<usize> = (0..members.len()).collect();
    for slot in slots.into_values() {
        let first = slot.iter().min_by_key(|&&at| members[at].rank());
        for &at in &slot {
            leaders[at] = first.copied().unwrap_or(at);
        }
    }
    leaders
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::plan_of;

    #[test]
    fn a_group_is_found_by_indexes() {
        let plan = plan_of(&members());
        assert!(plan.contains("(parent=? AND name=?)"), "{plan}");
        assert!(plan.contains("USING INDEX entries_by_base (parent=? AND base=?)"));
        assert!(!plan.contains("SCAN") && !plan.contains("TEMP"), "{plan}");
    }

    #[test]
    fn groups_that_may_change_are_found_without_going_through_all_files() {
        let plan = plan_of(MISLED);
        assert!(plan.contains("e USING INDEX entries_by_leader"), "{plan}");
        let plan = plan_of(SHARED);
        assert!(plan.contains("INDEX entries_by_base"), "{plan}");
        for sql in [MISLED, SHARED] {
            let plan = plan_of(sql);
            assert!(
                !plan.contains("SCAN f") && !plan.contains("SCAN l"),
                "{plan}"
            );
        }
    }
}
