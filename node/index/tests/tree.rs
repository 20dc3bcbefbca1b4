//! The tree against a naive model: whatever the order of changes, it is what a fresh scan makes.

#![expect(clippy::unwrap_used, reason = "test code")]

use std::collections::{BTreeMap, BTreeSet};

use musicfs_core::id::{FileId, Ino};
use musicfs_core::origin::{FileIdentity, ListedFile};
use musicfs_core::path::OriginPath;
use musicfs_core::tags::{AudioProperties, Tags, TrackInfo};
use musicfs_core::template::Template;
use musicfs_core::version::{ContentVersion, Validator, VersionKey};
use musicfs_index::{
    Batch, FileChange, FileKind, FileRecord, Index, Layout, NodeKind, OriginSpec, TreeChange,
};
use proptest::prelude::*;
use tempfile::TempDir;

/// One file of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
struct File {
    tags: Option<Tags>,
    companion: bool,
    version: i64,
}

/// A change of the model; paths and tags come from small sets, so that they meet often.
#[derive(Clone, Debug)]
enum Op {
    Put { path: usize, tags: usize },
    Remove { path: usize },
    Move { from: usize, to: usize },
    Commit,
}

const PATHS: [&str; 12] = [
    "a/01.flac",
    "a/02.flac",
    "a/03.mp3",
    "a/cover.jpg",
    "a/01.lrc",
    "b/01.flac",
    "b/02.mp3",
    "b/cover.jpg",
    "b/c/01.flac",
    "b/c/cover.jpg",
    "loose.flac",
    "a.flac",
];

fn tag_sets() -> Vec<Option<Tags>> {
    let tags = |artist: &str, album: &str, title: &str, disc: u32, track: u32| {
        Some(Tags {
            artists: vec![artist.into()],
            album: Some(album.into()),
            title: Some(title.into()),
            disc: (disc > 0).then_some(disc),
            track: Some(track),
            ..Tags::default()
        })
    };
    vec![
        tags("A", "X", "One", 1, 1),
        tags("A", "X", "One", 2, 1),
        tags("A", "X", "Two", 1, 2),
        tags("A", "Y", "One", 0, 1),
        tags("B", "X [FLAC]", "Disc 2", 0, 1),
        tags("../..", ".search", "a/b", 0, 1),
        None,
    ]
}

struct World {
    index: Index,
    origin: i64,
    runtime: tokio::runtime::Runtime,
    files: BTreeMap<&'static str, File>,
    pending: Vec<FileChange>,
    clock: i64,
    changes: Vec<TreeChange>,
    dir: TempDir,
}

impl World {
    fn new(layout: Layout) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (index, _) = Index::open(dir.path(), layout).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let origin = configure(&index, &runtime);
        let (files, pending, changes) = (BTreeMap::new(), Vec::new(), Vec::new());
        Self {
            index,
            origin,
            runtime,
            files,
            pending,
            clock: 1,
            changes,
            dir,
        }
    }

    fn reopen(self, layout: Layout) -> Self {
        let Self {
            index,
            runtime,
            files,
            clock,
            dir,
            changes,
            ..
        } = self;
        drop(index);
        let (index, _) = Index::open(dir.path(), layout).unwrap();
        let origin = configure(&index, &runtime);
        Self {
            index,
            origin,
            runtime,
            files,
            pending: Vec::new(),
            clock,
            changes,
            dir,
        }
    }

    fn put(&mut self, path: &'static str, tags: Option<Tags>, version: i64) {
        let companion = path.ends_with(".jpg") || path.ends_with(".lrc");
        let info = tags.clone().filter(|_| !companion);
        let info = info.map(|tags| TrackInfo {
            tags,
            audio: AudioProperties::default(),
            artwork: vec![],
        });
        let real = OriginPath::new(path.as_bytes()).unwrap();
        self.pending.push(FileChange::Put(Box::new(FileRecord {
            dir: real.parent(),
            listed: listed(&real, version),
            kind: if companion {
                FileKind::Companion
            } else {
                FileKind::Track
            },
            version_key: VersionKey([0; 16]),
            info,
            layout: None,
            sample: None,
        })));
        self.files.insert(
            path,
            File {
                tags,
                companion,
                version,
            },
        );
    }

    fn row(&mut self, path: &str) -> Option<FileId> {
        self.commit();
        let path = OriginPath::new(path.as_bytes()).unwrap();
        let known = self
            .index
            .reader
            .files_in(self.origin, &path.parent())
            .unwrap();
        known
            .into_iter()
            .find(|file| file.name == path.name())
            .map(|file| file.id)
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Put { path, tags } => {
                self.clock += 1;
                self.put(PATHS[path], tag_sets()[tags].clone(), self.clock);
            }
            Op::Remove { path } => {
                if let Some(id) = self.row(PATHS[path]) {
                    let dir = OriginPath::new(PATHS[path].as_bytes()).unwrap().parent();
                    self.pending.push(FileChange::Remove { id, dir });
                    self.files.remove(PATHS[path]);
                }
            }
            Op::Move { from, to } => {
                let kind = |path: &str| path.rsplit_once('.').unwrap().1.to_owned();
                if from == to || kind(PATHS[from]) != kind(PATHS[to]) {
                    return;
                }
                let Some(id) = self.row(PATHS[from]) else {
                    return;
                };
                let file = self.files.remove(PATHS[from]).unwrap();
                let real = OriginPath::new(PATHS[to].as_bytes()).unwrap();
                self.pending.push(FileChange::Move {
                    id,
                    dir: real.parent(),
                    listed: listed(&real, file.version),
                    version_key: VersionKey([0; 16]),
                });
                self.files.insert(PATHS[to], file);
            }
            Op::Commit => self.commit(),
        }
    }

    fn commit(&mut self) {
        let changes = std::mem::take(&mut self.pending);
        if changes.is_empty() {
            return;
        }
        self.clock += 1;
        let batch = Batch {
            origin: self.origin,
            changes,
            now_ns: self.clock,
        };
        let commit = self
            .runtime
            .block_on(self.index.writer.apply(batch))
            .unwrap();
        self.changes.push(commit.tree);
    }

    /// Every path of the tree: of a file, with the real path and the inode; of a directory, empty.
    fn tree(&self) -> BTreeMap<String, (String, u64)> {
        let mut tree = BTreeMap::new();
        let mut open = vec![(Ino::ROOT, String::new())];
        while let Some((dir, prefix)) = open.pop() {
            for child in self.index.reader.children(dir, Ino(0), usize::MAX).unwrap() {
                let path = format!("{prefix}/{}", child.name);
                let found = self.index.reader.lookup(dir, &child.name).unwrap();
                assert_eq!(found, Some(child.node), "lookup and list agree on {path}");
                if child.node.kind == NodeKind::Directory {
                    tree.insert(path.clone(), (String::new(), child.node.ino.0));
                    open.push((child.node.ino, path));
                } else {
                    let found = self.index.reader.find(child.node.ino).unwrap().unwrap();
                    tree.insert(path, (found.path.to_string(), child.node.ino.0));
                }
            }
        }
        tree
    }

    fn names(&self) -> BTreeMap<String, String> {
        self.tree()
            .into_iter()
            .map(|(path, (real, _))| (path, real))
            .collect()
    }

    fn inodes(&self) -> BTreeMap<(String, String), u64> {
        let files = self
            .tree()
            .into_iter()
            .filter(|(_, (real, _))| !real.is_empty());
        files
            .map(|(path, (real, ino))| ((path, real), ino))
            .collect()
    }
}

fn configure(index: &Index, runtime: &tokio::runtime::Runtime) -> i64 {
    let spec = OriginSpec {
        name: "o".into(),
        kind: "local".into(),
        display_name: "/o".into(),
        priority: 0,
    };
    let origin = runtime
        .block_on(index.writer.configure(vec![spec]))
        .unwrap()
        .0[0];
    runtime.block_on(index.writer.rebuild_if_changed()).unwrap();
    origin
}

fn listed(path: &OriginPath, version: i64) -> ListedFile {
    ListedFile {
        name: path.name().to_vec(),
        version: ContentVersion {
            size: 10,
            validator: Validator::Mtime(version),
        },
        mtime_ns: version,
        mode: 0o444,
        identity: Some(FileIdentity {
            device: 1,
            inode: version.cast_unsigned(),
        }),
    }
}

/// The tree that a scan of these files alone makes.
fn fresh(files: &BTreeMap<&'static str, File>, layout: Layout, reverse: bool) -> World {
    let mut world = World::new(layout);
    let mut all: Vec<_> = files.iter().collect();
    if reverse {
        all.reverse();
    }
    for (path, file) in all {
        world.put(path, file.tags.clone(), file.version);
        if reverse {
            world.commit();
        }
    }
    world.commit();
    world
}

fn op() -> impl Strategy<Value = Op> {
    let (paths, tags) = (0..PATHS.len(), 0..tag_sets().len());
    prop_oneof![
        4 => (paths.clone(), tags).prop_map(|(path, tags)| Op::Put { path, tags }),
        2 => paths.clone().prop_map(|path| Op::Remove { path }),
        2 => (paths.clone(), paths).prop_map(|(from, to)| Op::Move { from, to }),
        1 => Just(Op::Commit),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn the_tree_is_a_function_of_the_files(ops in prop::collection::vec(op(), 1..40)) {
        let mut world = World::new(Layout::default());
        for op in &ops {
            world.apply(op);
        }
        world.commit();
        let expect = fresh(&world.files, Layout::default(), false);
        prop_assert_eq!(world.names(), expect.names());
        prop_assert_eq!(expect.names(), fresh(&world.files, Layout::default(), true).names());
        prop_assert_eq!(world.index.reader.totals().unwrap(), expect.index.reader.totals().unwrap());
        let before = world.tree();
        prop_assert_eq!(world.reopen(Layout::default()).tree(), before);
    }

    #[test]
    fn an_inode_stays_with_its_content_and_is_never_reused(
        ops in prop::collection::vec(op(), 1..40),
    ) {
        let mut world = World::new(Layout::default());
        let mut content_of: BTreeMap<u64, i64> = BTreeMap::new();
        let mut highest = 0;
        for op in &ops {
            world.apply(op);
            world.commit();
            let mut seen = BTreeSet::new();
            for ((_, real), ino) in world.inodes() {
                let version = world.files[real.as_str()].version;
                prop_assert!(seen.insert(ino), "two entries share inode {}", ino);
                let known = content_of.insert(ino, version);
                prop_assert!(known.is_none_or(|known| known == version), "content of {} changed", ino);
                prop_assert!(known.is_some() || ino > highest, "{} was used before", ino);
            }
            highest = highest.max(seen.last().copied().unwrap_or(0));
        }
    }

    #[test]
    fn the_kernel_is_told_of_every_change(ops in prop::collection::vec(op(), 1..40)) {
        let mut world = World::new(Layout::default());
        let mut before = world.tree();
        let mut inode_of_dir = BTreeMap::from([(String::new(), Ino::ROOT)]);
        for op in &ops {
            world.apply(op);
            world.commit();
            let told: BTreeSet<(Ino, String)> =
                world.changes.drain(..).flat_map(|change| change.entries).collect();
            let after = world.tree();
            for (path, (real, ino)) in &after {
                if real.is_empty() {
                    inode_of_dir.insert(path.clone(), Ino(*ino));
                }
            }
            for path in before.keys().chain(after.keys()) {
                if before.get(path).map(|it| it.1) != after.get(path).map(|it| it.1) {
                    let (parent, name) = path.rsplit_once('/').unwrap();
                    let told = told.contains(&(inode_of_dir[parent], name.to_owned()));
                    // A directory that went away takes the names below it along.
                    let orphan = !parent.is_empty() && !after.contains_key(parent);
                    prop_assert!(told || orphan, "{} changed unnoticed", path);
                }
            }
            before = after;
        }
    }
}

#[test]
fn a_new_layout_moves_the_tracks_and_keeps_their_inodes() {
    let mut world = World::new(Layout::default());
    for (at, path) in PATHS.iter().enumerate() {
        world.put(path, tag_sets()[at % 5].clone(), at as i64 + 1);
    }
    world.commit();
    let before: BTreeMap<String, u64> = world
        .inodes()
        .into_iter()
        .map(|((_, real), ino)| (real, ino))
        .collect();
    let layout = Layout {
        template: Template::parse("$title/$artist.$format").unwrap(),
        root: vec!["Music".into()],
        ..Layout::default()
    };
    let world = world.reopen(layout.clone());
    assert_eq!(world.names(), fresh(&world.files, layout, false).names());
    for ((_, real), ino) in world.inodes() {
        if real.ends_with("flac") || real.ends_with("mp3") {
            assert_eq!(before[&real], ino, "{real}");
        }
    }
}

#[test]
fn an_origin_that_is_hidden_and_shown_again_keeps_its_tree() {
    let mut world = World::new(Layout::default());
    for (at, path) in PATHS.iter().enumerate() {
        world.put(path, tag_sets()[at % 5].clone(), at as i64 + 1);
    }
    world.commit();
    let files = |world: &World| -> BTreeMap<(String, String), u64> {
        let tracks = |real: &str| real.ends_with("flac") || real.ends_with("mp3");
        world
            .inodes()
            .into_iter()
            .filter(|((_, real), _)| tracks(real))
            .collect()
    };
    let (names, before) = (world.names(), files(&world));
    let set = |hidden| {
        world
            .runtime
            .block_on(world.index.writer.set_hidden(world.origin, hidden))
    };
    set(true).unwrap();
    assert_eq!(world.names(), BTreeMap::new());
    set(false).unwrap();
    assert_eq!((world.names(), files(&world)), (names, before));
    let (_, done) = world
        .runtime
        .block_on(
            world
                .index
                .writer
                .forget_some(world.origin, PATHS.len() + 1),
        )
        .unwrap();
    assert!(done);
    assert_eq!(world.names(), BTreeMap::new());
    assert_eq!(world.index.reader.origins().unwrap(), []);
    assert_eq!(world.index.reader.totals().unwrap().files, 0);
}

#[test]
fn directories_are_found_below_a_path_and_nowhere_else() {
    let mut world = World::new(Layout::default());
    for path in [
        "a/x.mp3",
        "a-b/x.mp3",
        "a/b/x.mp3",
        "a0/x.mp3",
        "x.mp3",
        "a/b/c/x.mp3",
    ] {
        world.put(path, tag_sets()[0].clone(), 1);
    }
    world.commit();
    let below = |under: &str| {
        let under = OriginPath::new(under.as_bytes()).unwrap();
        let mut found = Vec::new();
        let mut after = None;
        while let Some(dir) = world
            .index
            .reader
            .next_dir(world.origin, &under, after.as_ref())
            .unwrap()
        {
            found.push(dir.to_string());
            after = Some(dir);
        }
        found
    };
    assert_eq!(below(""), ["", "a", "a-b", "a/b", "a/b/c", "a0"]);
    assert_eq!(below("a"), ["a", "a/b", "a/b/c"]);
    assert_eq!(below("a/b"), ["a/b", "a/b/c"]);
    assert_eq!(below("b"), [""; 0]);
}
