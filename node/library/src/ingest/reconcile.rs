//! What a listing means for the index. Pure: listings and rows in, changes out.

use std::collections::{BTreeMap, BTreeSet};

use musicfs_core::id::FileId;
use musicfs_core::origin::{DirListing, FileIdentity, ListedFile};
use musicfs_core::path::OriginPath;
use musicfs_core::tags::AudioLayout;
use musicfs_core::version::{ContentVersion, VersionKey};
use musicfs_index::{FileChange, FileKind, KnownFile};

/// A listed file whose content the index does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fresh {
    pub(crate) dir: OriginPath,
    pub(crate) listed: ListedFile,
    pub(crate) kind: FileKind,
    /// The track that the index knows at its path, where it knows that one's layout.
    pub(crate) replaces: Option<Replaced>,
}

/// A content version that has a successor at its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Replaced {
    pub(crate) version_key: VersionKey,
    pub(crate) size: u64,
    pub(crate) layout: AudioLayout,
}

impl Fresh {
    /// Its path; `None` if that is too long to be one.
    pub(crate) fn path(&self) -> Option<OriginPath> {
        self.dir.join(&self.listed.name).ok()
    }
}

/// A known file that is not where it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    pub(crate) id: FileId,
    pub(crate) dir: OriginPath,
    pub(crate) kind: FileKind,
    pub(crate) version: ContentVersion,
    pub(crate) identity: Option<FileIdentity>,
    /// The device of the nearest directory above it that still exists.
    pub(crate) device: Option<u64>,
}

/// How one directory differs from what the index knows of it.
#[derive(Debug, Default)]
pub(crate) struct Difference {
    pub(crate) fresh: Vec<Fresh>,
    pub(crate) touched: Vec<FileChange>,
    pub(crate) missing: Vec<Missing>,
    /// Recorded devices of files that are still there.
    pub(crate) devices_alive: BTreeSet<u64>,
}

/// Compares a listing with the rows of its directory.
///
/// `classify` says what a file of a name is, if it is anything to the library.
pub(crate) fn compare(
    listing: &DirListing,
    known: Vec<KnownFile>,
    classify: impl Fn(&[u8]) -> Option<FileKind>,
) -> Difference {
    let mut difference = Difference::default();
    let mut known: BTreeMap<Vec<u8>, KnownFile> = known
        .into_iter()
        .map(|file| (file.name.clone(), file))
        .collect();
    for listed in &listing.files {
        let Some(kind) = classify(&listed.name) else {
            continue;
        };
        match known.remove(&listed.name) {
            Some(old) if old.version == listed.version && old.kind == kind => {
                difference
                    .devices_alive
                    .extend(old.identity.map(|identity| identity.device));
                if old.mode != listed.mode || old.identity != listed.identity {
                    difference.touched.push(FileChange::Touch {
                        id: old.id,
                        mode: listed.mode,
                        identity: listed.identity,
                    });
                }
            }
            old => {
                let identity = old.as_ref().and_then(|old| old.identity);
                let device = identity.map(|identity| identity.device);
                difference.devices_alive.extend(device);
                difference.fresh.push(Fresh {
                    dir: listing.path.clone(),
                    listed: listed.clone(),
                    kind,
                    replaces: old.as_ref().and_then(replaced),
                });
            }
        }
    }
    if listing.complete {
        difference.missing = known
            .into_values()
            .map(|file| missing(file, &listing.path, listing.device))
            .collect();
    }
    difference
}

/// A known file as one that has a new version; `None` if that is of no use.
fn replaced(old: &KnownFile) -> Option<Replaced> {
    Some(Replaced {
        version_key: old.version_key,
        size: old.version.size,
        layout: old.layout?,
    })
}

/// A known file as missing from `dir`.
pub(crate) fn missing(file: KnownFile, dir: &OriginPath, device: Option<u64>) -> Missing {
    Missing {
        id: file.id,
        dir: dir.clone(),
        kind: file.kind,
        version: file.version,
        identity: file.identity,
        device,
    }
}

/// What becomes of the files that are missing after all listings of a pass.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// Moves and removals.
    pub(crate) changes: Vec<FileChange>,
    /// What is left to read.
    pub(crate) fresh: Vec<Fresh>,
    /// Files that are kept although they are missing: their file system seems not to be mounted.
    pub(crate) away: u64,
}

/// Tells moved files from removed ones, and both from files that are only out of reach.
///
/// A missing file is *away* if its recorded device is neither that of the nearest directory left,
/// nor that of any file still there: then the file system that held it is not mounted. (Device
/// numbers can differ after a restart; files of the same old number that are still there tell.)
///
/// A move is recognised by device, inode and version; failing that by version alone, where just one
/// file with it is missing and just one is new.
pub(crate) fn judge(
    missing: Vec<Missing>,
    fresh: &[Fresh],
    devices_alive: &BTreeSet<u64>,
    version_key: impl Fn(&Fresh) -> VersionKey,
) -> Verdict {
    let mut verdict = Verdict::default();
    let is_away = |file: &Missing| match (file.identity, file.device) {
        (Some(identity), Some(device)) => {
            identity.device != device && !devices_alive.contains(&identity.device)
        }
        _ => false,
    };
    let (away, missing): (Vec<_>, Vec<_>) = missing.into_iter().partition(is_away);
    verdict.away = away.len() as u64;

    let mut by_identity = BTreeMap::new();
    let mut by_version: BTreeMap<&ContentVersion, Vec<usize>> = BTreeMap::new();
    for (at, file) in missing.iter().enumerate() {
        if let Some(identity) = file.identity {
            by_identity.insert((identity, &file.version), at);
        }
        by_version.entry(&file.version).or_default().push(at);
    }
    let mut fresh_of_version: BTreeMap<&ContentVersion, u32> = BTreeMap::new();
    for file in fresh {
        *fresh_of_version.entry(&file.listed.version).or_default() += 1;
    }
    let mut moved: BTreeMap<usize, usize> = BTreeMap::new();
    let mut taken: BTreeSet<usize> = BTreeSet::new();
    for (new, file) in fresh.iter().enumerate() {
        let version = &file.listed.version;
        let same_inode = file
            .listed
            .identity
            .and_then(|identity| by_identity.get(&(identity, version)));
        let only_one = match by_version.get(version).map(Vec::as_slice) {
            Some([old]) if fresh_of_version.get(version) == Some(&1) => Some(old),
            _ => None,
        };
        if let Some(&old) = same_inode.or(only_one)
            && missing[old].kind == file.kind
            && taken.insert(old)
        {
            moved.insert(new, old);
        }
    }
    for (new, file) in fresh.iter().enumerate() {
        match moved.get(&new) {
            Some(&old) => verdict.changes.push(FileChange::Move {
                id: missing[old].id,
                dir: file.dir.clone(),
                listed: file.listed.clone(),
                version_key: version_key(file),
            }),
            None => verdict.fresh.push(file.clone()),
        }
    }
    for (at, file) in missing.into_iter().enumerate() {
        if !taken.contains(&at) {
            verdict.changes.push(FileChange::Remove {
                id: file.id,
                dir: file.dir,
            });
        }
    }
    verdict
}

#[cfg(test)]
mod tests {
    use musicfs_core::tags::Container;
    use musicfs_core::version::Validator;

    use super::*;

    fn version(size: u64, mtime: i64) -> ContentVersion {
        ContentVersion {
            size,
            validator: Validator::Mtime(mtime),
        }
    }

    fn identity(device: u64, inode: u64) -> Option<FileIdentity> {
        Some(FileIdentity { device, inode })
    }

    fn listed(name: &str, version: ContentVersion, identity: Option<FileIdentity>) -> ListedFile {
        ListedFile {
            name: name.into(),
            version,
            mtime_ns: 0,
            mode: 0o444,
            identity,
        }
    }

    fn known(id: i64, name: &str, version: ContentVersion) -> KnownFile {
        KnownFile {
            id: FileId(id),
            name: name.into(),
            kind: FileKind::Track,
            version,
            mode: 0o444,
            identity: identity(1, id.cast_unsigned()),
            version_key: VersionKey([0; 16]),
            layout: None,
        }
    }

    fn lost(id: i64, version: ContentVersion, device: u64) -> Missing {
        missing(
            known(id, "x", version),
            &OriginPath::default(),
            Some(device),
        )
    }

    fn fresh(name: &str, version: ContentVersion, identity: Option<FileIdentity>) -> Fresh {
        Fresh {
            dir: OriginPath::default(),
            listed: listed(name, version, identity),
            kind: FileKind::Track,
            replaces: None,
        }
    }

    fn run(missing: Vec<Missing>, fresh: &[Fresh], alive: &[u64]) -> (Vec<String>, usize, u64) {
        let alive = alive.iter().copied().collect();
        let verdict = judge(missing, fresh, &alive, |_| VersionKey([0; 16]));
        let describe = |change: &FileChange| match change {
            FileChange::Move { id, listed, .. } => {
                format!("{} to {}", id.0, String::from_utf8_lossy(&listed.name))
            }
            FileChange::Remove { id, .. } => format!("{} gone", id.0),
            other => panic!("{other:?}"),
        };
        (
            verdict.changes.iter().map(describe).collect(),
            verdict.fresh.len(),
            verdict.away,
        )
    }

    #[test]
    fn a_directory_is_compared_by_version_and_read_bits() {
        let mut silent = listed("mode", version(1, 1), identity(1, 2));
        silent.mode = 0o400;
        let listing = DirListing {
            path: OriginPath::default(),
            device: Some(1),
            files: vec![
                listed("same", version(1, 1), identity(1, 1)),
                silent,
                listed("changed", version(1, 9), identity(1, 3)),
                listed("new", version(1, 1), identity(1, 9)),
                listed("ignored.exe", version(1, 1), None),
            ],
            dirs: vec![],
            complete: true,
        };
        let layout = AudioLayout {
            container: Container::Flac,
            front_end: 0,
            tail_start: 1,
        };
        let changed = KnownFile {
            version_key: VersionKey([3; 16]),
            layout: Some(layout),
            ..known(3, "changed", version(1, 1))
        };
        let rows = vec![
            known(1, "same", version(1, 1)),
            known(2, "mode", version(1, 1)),
            changed,
            known(4, "gone", version(1, 1)),
        ];
        let classify = |name: &[u8]| (!name.ends_with(b".exe")).then_some(FileKind::Track);
        let difference = compare(&listing, rows.clone(), classify);
        let names: Vec<_> = difference
            .fresh
            .iter()
            .map(|file| file.listed.name.clone())
            .collect();
        assert_eq!(names, [b"changed".to_vec(), b"new".to_vec()]);
        let replaced = Replaced {
            version_key: VersionKey([3; 16]),
            size: 1,
            layout,
        };
        let replaces: Vec<_> = difference.fresh.iter().map(|file| file.replaces).collect();
        assert_eq!(replaces, [Some(replaced), None]);
        assert_eq!(difference.touched.len(), 1);
        assert_eq!(
            difference
                .missing
                .iter()
                .map(|file| file.id.0)
                .collect::<Vec<_>>(),
            [4]
        );
        let incomplete = DirListing {
            complete: false,
            ..listing
        };
        assert!(compare(&incomplete, rows, classify).missing.is_empty());
    }

    #[test]
    fn a_move_keeps_its_row() {
        let moved = run(
            vec![lost(1, version(5, 5), 1), lost(2, version(5, 5), 1)],
            &[fresh("b", version(5, 5), identity(1, 2))],
            &[],
        );
        assert_eq!(moved, (vec!["2 to b".into(), "1 gone".into()], 0, 0));
        let across_devices = run(
            vec![lost(1, version(5, 5), 1)],
            &[fresh("b", version(5, 5), identity(2, 7))],
            &[1],
        );
        assert_eq!(across_devices, (vec!["1 to b".into()], 0, 0));
    }

    #[test]
    fn equal_versions_alone_do_not_make_a_move_when_there_are_several() {
        let unclear = run(
            vec![lost(1, version(5, 5), 1), lost(2, version(5, 5), 1)],
            &[fresh("b", version(5, 5), None)],
            &[],
        );
        assert_eq!(unclear, (vec!["1 gone".into(), "2 gone".into()], 1, 0));
    }

    #[test]
    fn an_unmounted_file_system_removes_nothing() {
        assert_eq!(
            run(vec![lost(1, version(5, 5), 9)], &[], &[]),
            (vec![], 0, 1)
        );
        // Its device number only changed: another of its files is still there.
        assert_eq!(
            run(vec![lost(1, version(5, 5), 9)], &[], &[1]),
            (vec!["1 gone".into()], 0, 0)
        );
        // The directory left is on the same device.
        assert_eq!(
            run(vec![lost(1, version(5, 5), 1)], &[], &[]),
            (vec!["1 gone".into()], 0, 0)
        );
    }
}
