//! Random events on three origins: the tree is that of a fresh index which was filled otherwise.

use std::collections::{BTreeMap, BTreeSet};

use musicfs_core::id::Ino;
use musicfs_core::version::{ContentVersion, Validator};
use musicfs_index::{Commit, FileChange, Layout, NodeKind, TreeChange};
use proptest::prelude::*;

use crate::world::{File, ORIGINS, World, file, is_companion, put, relocate, version_key};

const PATHS: [&str; 8] = [
    "x/1.flac",
    "x/2.flac",
    "x/1.lrc",
    "x/cover.jpg",
    "y/1.flac",
    "y/cover.jpg",
    "y/2.lrc",
    "1.flac",
];

/// Sizes and samples: alike in both, in one, in none, and one that was never read.
const CONTENTS: [(u64, Option<u8>); 4] = [(10, Some(1)), (10, Some(2)), (20, Some(1)), (10, None)];

#[derive(Clone, Debug)]
enum Change {
    Put {
        path: usize,
        title: usize,
        disc: u32,
        content: usize,
        /// With the version that the file has, if its size stays: read again.
        again: bool,
    },
    Remove {
        path: usize,
    },
    Move {
        from: usize,
        to: usize,
    },
}

#[derive(Clone, Debug)]
enum Op {
    Batch(usize, Vec<Change>),
    Hide(usize, bool),
    Reorder([u32; 3]),
    Reopen,
}

/// The files of each origin, and what else the tree follows from.
struct Model {
    files: [BTreeMap<&'static str, File>; 3],
    hidden: [bool; 3],
    priorities: [u32; 3],
    clock: i64,
}

impl Model {
    fn new() -> Self {
        Self {
            files: [const { BTreeMap::new() }; 3],
            hidden: [false; 3],
            priorities: [0, 1, 2],
            clock: 0,
        }
    }

    /// Does `op` on the index and on the model.
    fn apply(&mut self, mut world: World, op: &Op) -> (World, Commit) {
        let _listening = world.index.writer.listen();
        let commit = match op {
            // Nobody lists an origin that is not configured.
            Op::Batch(origin, _) if self.hidden[*origin] => return (world, Commit::default()),
            Op::Batch(origin, changes) => {
                let changes = self.changes(&world, *origin, changes);
                world.apply(*origin, changes)
            }
            Op::Hide(origin, hidden) => {
                self.hidden[*origin] = *hidden;
                world.hide(*origin, *hidden)
            }
            Op::Reorder(priorities) => {
                self.priorities = *priorities;
                world.reorder(*priorities)
            }
            Op::Reopen => {
                let world = world.reopen(self.priorities, Layout::default());
                return (world, Commit::default());
            }
        };
        (world, commit)
    }

    fn changes(&mut self, world: &World, origin: usize, changes: &[Change]) -> Vec<FileChange> {
        let mut touched = BTreeSet::new();
        let files = &mut self.files[origin];
        let mut all = Vec::new();
        for change in changes {
            let paths = match *change {
                Change::Put { path, .. } | Change::Remove { path } => [path, path],
                Change::Move { from, to } => [from, to],
            };
            // One event of each file in a batch.
            if paths.iter().any(|path| touched.contains(path)) {
                continue;
            }
            touched.extend(paths);
            let [from, to] = paths.map(|path| PATHS[path]);
            match *change {
                Change::Put {
                    title,
                    disc,
                    content,
                    again,
                    ..
                } => {
                    let (size, sample) = CONTENTS[content];
                    self.clock += 1;
                    let old = files.get(from).filter(|old| again && old.size == size);
                    let new = File {
                        disc,
                        size,
                        sample,
                        validator: old
                            .map_or(Validator::Mtime(self.clock), |old| old.validator.clone()),
                        ..file(["One", "Two"][title], 0)
                    };
                    all.push(put(origin, from, &new));
                    files.insert(from, new);
                }
                Change::Remove { .. } => {
                    if files.remove(from).is_some() {
                        let id = world.row(origin, from);
                        let dir = crate::world::real(from).parent();
                        all.push(FileChange::Remove { id, dir });
                    }
                }
                Change::Move { .. } => {
                    let extension = |path: &str| path.rsplit_once('.').unwrap().1.to_owned();
                    if from != to
                        && extension(from) == extension(to)
                        && let Some(file) = files.remove(from)
                    {
                        all.push(relocate(origin, world.row(origin, from), to, &file));
                        files.insert(to, file);
                    }
                }
            }
        }
        all
    }

    /// An index filled with the model's files: all at once and in order, or the other way round,
    /// one by one, under another order of origins at first.
    fn fresh(&self, reverse: bool) -> World {
        let [a, b, c] = self.priorities;
        let mut world = match reverse {
            true => World::with([b, c, a]),
            false => World::with(self.priorities),
        };
        let mut origins: Vec<usize> = (0..ORIGINS.len()).collect();
        if reverse {
            origins.reverse();
        }
        for origin in origins {
            let files = self.files[origin].iter();
            let mut changes: Vec<_> = files.map(|(path, file)| put(origin, path, file)).collect();
            if reverse {
                changes.reverse();
                for change in changes {
                    world.apply(origin, vec![change]);
                }
            } else {
                world.apply(origin, changes);
            }
        }
        for (origin, &hidden) in self.hidden.iter().enumerate() {
            world.hide(origin, hidden);
        }
        if reverse {
            world.reorder(self.priorities);
        }
        world
    }

    /// How many entries the tracks make: of what is alike, as many as the origin with most has.
    fn tracks_shown(&self) -> usize {
        let mut counts: BTreeMap<_, BTreeMap<usize, usize>> = BTreeMap::new();
        let mut alone = 0;
        for (origin, files) in self.files.iter().enumerate() {
            let tracks = files.iter().filter(|(path, _)| !is_companion(path));
            for (_, file) in tracks.filter(|_| !self.hidden[origin]) {
                match file.sample {
                    Some(sample) => {
                        let alike = (file.title, file.disc, file.size, sample);
                        *counts.entry(alike).or_default().entry(origin).or_default() += 1;
                    }
                    None => alone += 1,
                }
            }
        }
        let most = |of_origin: &BTreeMap<usize, usize>| of_origin.values().max().copied();
        alone + counts.values().filter_map(most).sum::<usize>()
    }

    /// Checks what must hold of the tree whatever happened.
    fn check(&self, world: &World) -> Result<(), TestCaseError> {
        let reader = &world.index.reader;
        let mut seen = BTreeSet::new();
        let mut tracks = 0;
        for (path, node) in world.tree() {
            if node.kind == NodeKind::Directory {
                prop_assert!(
                    !reader.children(node.ino, Ino(0), 1).unwrap().is_empty(),
                    "{}",
                    path
                );
                continue;
            }
            tracks += usize::from(!is_companion(&path));
            let replicas = reader.replicas(node.ino).unwrap();
            prop_assert_eq!(replicas[0].node, node);
            let order = replicas
                .iter()
                .map(|found| (found.priority, found.origin.as_str()));
            prop_assert!(
                order.is_sorted_by(|a, b| a < b),
                "one of each origin, in order"
            );
            for found in &replicas {
                let origin = ORIGINS
                    .iter()
                    .position(|&name| name == found.origin.as_str());
                let origin = origin.unwrap();
                prop_assert_eq!(found.priority, self.priorities[origin]);
                prop_assert!(!self.hidden[origin]);
                prop_assert_eq!(found.sample, replicas[0].sample);
                prop_assert_eq!(found.version.size, node.size);
                let real = found.path.to_string();
                prop_assert!(self.files[origin].contains_key(real.as_str()), "{}", real);
                if !is_companion(&real) {
                    prop_assert!(seen.insert((origin, real)), "it shows twice");
                }
                let place = reader.path_of(found.node.ino).unwrap();
                prop_assert_eq!(place.as_ref(), Some(&path));
                prop_assert_eq!(&reader.replicas(found.node.ino).unwrap(), &replicas);
            }
        }
        prop_assert_eq!(tracks, self.tracks_shown());
        for (origin, files) in self.files.iter().enumerate() {
            let tracks = files.iter().filter(|(path, _)| !is_companion(path));
            for (path, file) in tracks {
                let shown = seen.contains(&(origin, path.to_string()));
                prop_assert_eq!(shown, !self.hidden[origin], "{}", path);
                let version = ContentVersion {
                    size: file.size,
                    validator: file.validator.clone(),
                };
                let key = version_key(origin, path, &version);
                prop_assert_eq!(reader.find_version(key).unwrap().is_some(), shown);
            }
        }
        Ok(())
    }
}

/// The directories of a tree, each with its number, its time and its children.
type Directories = BTreeMap<String, (Ino, i64, BTreeMap<String, Ino>)>;

fn directories(world: &World) -> Directories {
    let reader = &world.index.reader;
    let mut paths = vec![String::new()];
    let directory = |(path, node): (String, musicfs_index::Node)| {
        (node.kind == NodeKind::Directory).then_some(path)
    };
    paths.extend(world.tree().into_iter().filter_map(directory));
    paths
        .into_iter()
        .map(|path| {
            let node = reader.resolve(&path).unwrap().unwrap();
            let children = reader.children(node.ino, Ino(0), usize::MAX).unwrap();
            let children = children
                .into_iter()
                .map(|child| (child.name, child.node.ino));
            (path, (node.ino, node.mtime_ns, children.collect()))
        })
        .collect()
}

/// The kernel is told of every name that changed, and a directory's time tells no less and no more.
fn check_told(
    before: &Directories,
    after: &Directories,
    told: &TreeChange,
) -> Result<(), TestCaseError> {
    for (path, (dir, time, children)) in before {
        let Some((_, new_time, now)) = after.get(path).filter(|(ino, ..)| ino == dir) else {
            continue;
        };
        prop_assert_eq!(now != children, new_time != time, "the time of {:?}", path);
        prop_assert_eq!(
            now != children,
            told.directories.contains(dir),
            "{:?}",
            path
        );
        for name in children.keys().chain(now.keys()) {
            if children.get(name) != now.get(name) {
                prop_assert!(
                    told.entries.contains(&(*dir, name.clone())),
                    "{}/{}",
                    path,
                    name
                );
            }
        }
    }
    let internal = |(_, name): &(Ino, String)| name.contains(char::is_control);
    prop_assert!(!told.entries.iter().any(internal), "{:?}", told);
    Ok(())
}

/// Every file of the tree by path: its number, and the origin that shows it.
fn shown(world: &World) -> Shown {
    let tree = world.tree().into_iter();
    tree.filter(|(_, node)| node.kind == NodeKind::File)
        .map(|(path, node)| {
            let found = world.index.reader.find(node.ino).unwrap().unwrap();
            (path, (node.ino, found.origin.to_string()))
        })
        .collect()
}

type Shown = BTreeMap<String, (Ino, String)>;

/// What is told of files leads from one tree to the next, and says nothing of what stays.
fn check_files(before: &Shown, after: &Shown, commit: &Commit) -> Result<(), TestCaseError> {
    prop_assert_eq!(commit.names_untold, 0);
    let mut files = before.clone();
    for change in &commit.files {
        if let Some(path) = &change.before {
            prop_assert!(files.remove(path).is_some(), "{:?}", change);
        }
    }
    for change in &commit.files {
        let Some(path) = &change.after else { continue };
        let now = after.get(path);
        prop_assert_eq!(now.map(|(_, origin)| origin), Some(&change.origin));
        prop_assert_ne!(
            now,
            before
                .get(path)
                .filter(|_| change.before.as_ref() == Some(path))
        );
        prop_assert!(files.insert(path.clone(), now.unwrap().clone()).is_none());
    }
    prop_assert_eq!(&files, after);
    Ok(())
}

fn change() -> impl Strategy<Value = Change> {
    let path = || 0..PATHS.len();
    let put = (path(), 0..2usize, 1..3u32, 0..CONTENTS.len(), any::<bool>());
    prop_oneof![
        5 => put.prop_map(|(path, title, disc, content, again)| Change::Put {
            path, title, disc: if disc == 2 && content != 1 { 1 } else { disc }, content, again,
        }),
        1 => path().prop_map(|path| Change::Remove { path }),
        2 => (path(), path()).prop_map(|(from, to)| Change::Move { from, to }),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let origin = 0..ORIGINS.len();
    prop_oneof![
        8 => (origin.clone(), prop::collection::vec(change(), 1..7))
            .prop_map(|(origin, changes)| Op::Batch(origin, changes)),
        2 => (origin, any::<bool>()).prop_map(|(origin, hidden)| Op::Hide(origin, hidden)),
        1 => prop::array::uniform3(0..3u32).prop_map(Op::Reorder),
        1 => Just(Op::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn who_leads_and_under_which_name_is_a_function_of_the_files(
        ops in prop::collection::vec(op(), 1..16),
    ) {
        let mut model = Model::new();
        let mut world = World::new();
        let mut content_of: BTreeMap<Ino, (String, ContentVersion)> = BTreeMap::new();
        for op in &ops {
            let (before, files) = (directories(&world), shown(&world));
            let commit;
            (world, commit) = model.apply(world, op);
            check_told(&before, &directories(&world), &commit.tree)?;
            check_files(&files, &shown(&world), &commit)?;
            model.check(&world)?;
            for node in world.tree().into_values().filter(|node| node.kind == NodeKind::File) {
                for found in world.index.reader.replicas(node.ino).unwrap() {
                    let content = (found.origin.to_string(), found.version);
                    let known = content_of.insert(found.node.ino, content.clone());
                    prop_assert!(known.is_none_or(|known| known == content), "{:?}", content);
                }
            }
        }
        let sources = world.sources();
        for reverse in [false, true] {
            let fresh = model.fresh(reverse);
            prop_assert_eq!(&sources, &fresh.sources(), "reverse: {}", reverse);
            let totals = |world: &World| world.index.reader.totals().unwrap();
            prop_assert_eq!(totals(&world), totals(&fresh));
        }
    }
}
