//! What a disk holds, now and durably, and what a crash makes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use super::Fault;
use crate::support::Random;

pub(super) const PAGE: usize = 4096;

pub(super) struct Image {
    pub(super) random: Random,
    pub(super) files: BTreeMap<u64, File>,
    pub(super) next_file: u64,
    pub(super) dirs: BTreeMap<PathBuf, Dir>,
    /// Bytes that may be allocated.
    pub(super) capacity: u64,
    pub(super) fault: Option<Fault>,
    /// The most that was ever in use.
    pub(super) peak: u64,
    /// Operations that change something until the power goes.
    pub(super) power_left: Option<u64>,
    pub(super) is_dead: bool,
}

#[derive(Clone, Default)]
pub(super) struct File {
    pub(super) now: Content,
    pub(super) durable: Content,
    pub(super) pending: Vec<Change>,
    pub(super) modified: u64,
}

#[derive(Clone, Default)]
pub(super) struct Content {
    pub(super) bytes: Vec<u8>,
    pub(super) pages: BTreeSet<usize>,
    pub(super) tags: BTreeMap<String, [u8; 16]>,
}

#[derive(Clone)]
pub(super) enum Change {
    Write(usize, Vec<u8>),
    Punch(usize, usize),
    Len(usize),
    Tag(String, [u8; 16]),
}

#[derive(Default)]
pub(super) struct Dir {
    pub(super) now: BTreeMap<String, Entry>,
    pub(super) durable: BTreeMap<String, Entry>,
    pub(super) pending: Vec<NameChange>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    File(u64),
    Dir,
}

#[derive(Clone)]
pub(super) enum NameChange {
    Add(String, Entry),
    Remove(String),
    Rename(String, String, Entry),
}

impl Image {
    /// What `du` says: files that have a name.
    pub(super) fn used(&self) -> u64 {
        let named = self.dirs.values().flat_map(|dir| dir.now.values());
        let pages = named.map(|entry| match entry {
            Entry::File(id) => self.files[id].now.pages.len(),
            Entry::Dir => 0,
        });
        (pages.sum::<usize>() * PAGE) as u64
    }

    /// Before each operation that changes something.
    pub(super) fn change(&mut self) -> io::Result<()> {
        if self.is_dead || self.fault == Some(Fault::Failing) {
            return Err(io::Error::from_raw_os_error(5));
        }
        if let Some(left) = &mut self.power_left {
            *left = left.saturating_sub(1);
            self.is_dead |= *left == 0;
        }
        Ok(())
    }

    pub(super) fn sync(&mut self) -> io::Result<bool> {
        self.change()?;
        Ok(self.fault != Some(Fault::Sync))
    }

    pub(super) fn dir(&mut self, path: &Path) -> io::Result<&mut Dir> {
        self.dirs
            .get_mut(path)
            .ok_or(io::ErrorKind::NotFound.into())
    }

    pub(super) fn entry(&mut self, path: &Path) -> io::Result<Entry> {
        let (parent, name) = split(path);
        let found = self.dir(&parent)?.now.get(&name).copied();
        found.ok_or(io::ErrorKind::NotFound.into())
    }

    pub(super) fn change_name(&mut self, parent: &Path, change: NameChange) -> io::Result<()> {
        let dir = self.dir(parent)?;
        apply_name(&mut dir.now, &change);
        dir.pending.push(change);
        Ok(())
    }

    /// After a crash: what no name leads to is gone.
    pub(super) fn drop_unreachable(&mut self) {
        let reachable: BTreeSet<PathBuf> = self
            .dirs
            .keys()
            .filter(|path| {
                let mut at = path.as_path();
                while let Some(parent) = at.parent() {
                    let (_, name) = split(at);
                    if self.dirs[parent].now.get(&name) != Some(&Entry::Dir) {
                        return false;
                    }
                    at = parent;
                }
                true
            })
            .cloned()
            .collect();
        self.dirs.retain(|path, _| reachable.contains(path));
        let named: BTreeSet<u64> = self
            .dirs
            .values()
            .flat_map(|dir| dir.now.values())
            .filter_map(|entry| match entry {
                Entry::File(id) => Some(*id),
                Entry::Dir => None,
            })
            .collect();
        self.files.retain(|id, _| named.contains(id));
        for path in reachable {
            let missing: Vec<PathBuf> = self.dirs[&path]
                .now
                .iter()
                .filter(|(_, entry)| **entry == Entry::Dir)
                .map(|(name, _)| path.join(name))
                .filter(|path| !self.dirs.contains_key(path))
                .collect();
            missing.into_iter().for_each(|path| {
                self.dirs.insert(path, Dir::default());
            });
        }
    }
}

pub(super) fn split(path: &Path) -> (PathBuf, String) {
    let parent = path.parent().unwrap_or(Path::new("/")).to_owned();
    let name = path.file_name().unwrap_or_default();
    (parent, name.to_str().unwrap().to_owned())
}

pub(super) fn pages(at: usize, len: usize) -> std::ops::Range<usize> {
    at / PAGE..(at + len).div_ceil(PAGE)
}

pub(super) fn apply(content: &mut Content, change: &Change) {
    match change {
        Change::Write(at, bytes) => {
            let end = at + bytes.len();
            if content.bytes.len() < end {
                content.bytes.resize(end, 0);
            }
            content.bytes[*at..end].copy_from_slice(bytes);
            content.pages.extend(pages(*at, bytes.len()));
        }
        Change::Punch(at, len) => {
            let end = (at + len).min(content.bytes.len());
            content.bytes[(*at).min(end)..end].fill(0);
            for page in at.div_ceil(PAGE)..(at + len) / PAGE {
                content.pages.remove(&page);
            }
        }
        Change::Len(len) => content.bytes.resize(*len, 0),
        Change::Tag(name, value) => {
            content.tags.insert(name.clone(), *value);
        }
    }
}

/// Writes tear at pages; all else happens or not.
pub(super) fn apply_by_chance(content: &mut Content, change: &Change, random: &mut Random) {
    match change {
        Change::Write(at, bytes) if bytes.len() > PAGE => {
            for (number, page) in bytes.chunks(PAGE).enumerate() {
                if random.one_in(2) {
                    apply(content, &Change::Write(at + number * PAGE, page.to_vec()));
                }
            }
        }
        change if random.one_in(2) => apply(content, change),
        _ => {}
    }
}

pub(super) fn apply_name(names: &mut BTreeMap<String, Entry>, change: &NameChange) {
    match change {
        NameChange::Add(name, entry) => {
            names.insert(name.clone(), *entry);
        }
        NameChange::Remove(name) => {
            names.remove(name);
        }
        NameChange::Rename(from, to, entry) => {
            names.remove(from);
            names.insert(to.clone(), *entry);
        }
    }
}
