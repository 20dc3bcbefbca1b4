//! An index with three origins, and files whose content is a number.

use std::collections::BTreeMap;

use musicfs_core::id::{FileId, Ino};
use musicfs_core::origin::ListedFile;
use musicfs_core::path::OriginPath;
use musicfs_core::tags::{AudioProperties, Tags, TrackInfo};
use musicfs_core::version::{ContentVersion, OriginKey, Sample, Validator, VersionKey};
use musicfs_index::{
    Batch, Commit, FileChange, FileKind, FileRecord, Found, Index, KnownFile, Layout, Node,
    NodeKind, OriginSpec,
};
use tempfile::TempDir;

pub(crate) const ORIGINS: [&str; 3] = ["a", "b", "c"];

/// What a file is to the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) title: &'static str,
    pub(crate) disc: u32,
    pub(crate) size: u64,
    pub(crate) sample: Option<u8>,
    pub(crate) validator: Validator,
}

/// A file of 1000 bytes called by its title, whose sample is `sample`.
pub(crate) fn file(title: &'static str, sample: u8) -> File {
    File {
        title,
        disc: 1,
        size: 1000,
        sample: Some(sample),
        validator: Validator::Mtime(i64::from(sample)),
    }
}

/// A file whose ETag is `etag`.
pub(crate) fn tagged(title: &'static str, sample: u8, etag: &str) -> File {
    File {
        validator: Validator::ETag(etag.into()),
        ..file(title, sample)
    }
}

pub(crate) struct World {
    pub(crate) index: Index,
    /// The rows of [`ORIGINS`].
    pub(crate) origins: Vec<i64>,
    pub(crate) runtime: tokio::runtime::Runtime,
    pub(crate) dir: TempDir,
    clock: i64,
}

impl World {
    /// With the origins in their order.
    pub(crate) fn new() -> Self {
        Self::with([0, 1, 2])
    }

    pub(crate) fn with(priorities: [u32; 3]) -> Self {
        Self::open(tempfile::tempdir().unwrap(), priorities, Layout::default())
    }

    pub(crate) fn open(dir: TempDir, priorities: [u32; 3], layout: Layout) -> Self {
        let (index, _) = Index::open(dir.path(), layout).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let configured = index.writer.configure(specs(priorities));
        let (origins, _) = runtime.block_on(configured).unwrap();
        runtime.block_on(index.writer.rebuild_if_changed()).unwrap();
        let clock = 1;
        Self {
            index,
            origins,
            runtime,
            dir,
            clock,
        }
    }

    pub(crate) fn reopen(self, priorities: [u32; 3], layout: Layout) -> Self {
        let Self { index, dir, .. } = self;
        drop(index);
        Self::open(dir, priorities, layout)
    }

    pub(crate) fn reorder(&self, priorities: [u32; 3]) -> Commit {
        let configured = self.index.writer.configure(specs(priorities));
        let (rows, commit) = self.runtime.block_on(configured).unwrap();
        assert_eq!(rows, self.origins);
        commit
    }

    pub(crate) fn apply(&mut self, origin: usize, changes: Vec<FileChange>) -> Commit {
        self.clock += 1;
        let batch = Batch {
            origin: self.origins[origin],
            changes,
            now_ns: self.clock,
        };
        let commit = self.index.writer.apply(batch);
        self.runtime.block_on(commit).unwrap()
    }

    pub(crate) fn put(&mut self, origin: usize, path: &str, file: &File) -> Commit {
        self.apply(origin, vec![put(origin, path, file)])
    }

    pub(crate) fn remove(&mut self, origin: usize, path: &str) -> Commit {
        let change = FileChange::Remove {
            id: self.row(origin, path),
            dir: real(path).parent(),
        };
        self.apply(origin, vec![change])
    }

    pub(crate) fn hide(&self, origin: usize, hidden: bool) -> Commit {
        let change = self.index.writer.set_hidden(self.origins[origin], hidden);
        self.runtime.block_on(change).unwrap()
    }

    pub(crate) fn known(&self, origin: usize, path: &str) -> Option<KnownFile> {
        let path = real(path);
        let known = self
            .index
            .reader
            .files_in(self.origins[origin], &path.parent());
        let mut known = known.unwrap().into_iter();
        known.find(|file| file.name == path.name())
    }

    pub(crate) fn row(&self, origin: usize, path: &str) -> FileId {
        self.known(origin, path).unwrap().id
    }

    /// Every path of the tree with what shows there, after checks that all ways to it agree.
    pub(crate) fn tree(&self) -> BTreeMap<String, Node> {
        let reader = &self.index.reader;
        let mut tree = BTreeMap::new();
        let mut open = vec![(Ino::ROOT, String::new())];
        while let Some((dir, prefix)) = open.pop() {
            let children = reader.children(dir, Ino(0), usize::MAX).unwrap();
            let mut after = Ino(0);
            for child in children {
                let path = format!("{prefix}{}", child.name);
                assert_eq!(reader.lookup(dir, &child.name).unwrap(), Some(child.node));
                let next = reader.children(dir, after, 1).unwrap();
                assert_eq!(next, std::slice::from_ref(&child), "pages of one agree");
                after = child.node.ino;
                if child.node.kind == NodeKind::Directory {
                    open.push((child.node.ino, format!("{path}/")));
                }
                tree.insert(path, child.node);
            }
            assert_eq!(reader.children(dir, after, 1).unwrap(), []);
        }
        tree
    }

    /// The sources of every file of the tree, by path: origin and real path.
    pub(crate) fn sources(&self) -> BTreeMap<String, Vec<(String, String)>> {
        let names = |found: Found| (found.origin.to_string(), found.path.to_string());
        let files = self.tree().into_iter();
        files
            .filter(|(_, node)| node.kind == NodeKind::File)
            .map(|(path, node)| {
                let replicas = self.index.reader.replicas(node.ino).unwrap();
                (path, replicas.into_iter().map(names).collect())
            })
            .collect()
    }

    /// The sources of the file at a path of the tree.
    pub(crate) fn replicas(&self, path: &str) -> Vec<Found> {
        let node = self.index.reader.resolve(path).unwrap().unwrap();
        self.index.reader.replicas(node.ino).unwrap()
    }

    /// The one file of the whole tree, as a path and the origins that have it.
    pub(crate) fn only(&self) -> (String, Vec<String>) {
        let mut sources = self.sources();
        assert_eq!(sources.len(), 1, "{sources:?}");
        let (path, sources) = sources.pop_first().unwrap();
        (
            path,
            sources.into_iter().map(|(origin, _)| origin).collect(),
        )
    }
}

fn specs(priorities: [u32; 3]) -> Vec<OriginSpec> {
    let specs = ORIGINS.iter().zip(priorities);
    specs
        .map(|(name, priority)| OriginSpec {
            name: name.to_string(),
            kind: "s3".into(),
            display_name: format!("s3://{name}"),
            priority,
        })
        .collect()
}

pub(crate) fn real(path: &str) -> OriginPath {
    OriginPath::new(path.as_bytes()).unwrap()
}

pub(crate) fn is_companion(path: &str) -> bool {
    path.ends_with(".jpg") || path.ends_with(".lrc")
}

pub(crate) fn put(origin: usize, path: &str, file: &File) -> FileChange {
    let companion = is_companion(path);
    let tags = Tags {
        artists: vec!["Artist".into()],
        album: Some("Album".into()),
        title: Some(file.title.into()),
        disc: Some(file.disc),
        track: Some(1),
        ..Tags::default()
    };
    let info = TrackInfo {
        tags,
        audio: AudioProperties::default(),
        artwork: vec![],
    };
    let dir = real(path).parent();
    let listed = listed(path, file);
    FileChange::Put(Box::new(FileRecord {
        version_key: version_key(origin, path, &listed.version),
        dir,
        listed,
        kind: match companion {
            true => FileKind::Companion,
            false => FileKind::Track,
        },
        info: (!companion).then_some(info),
        layout: None,
        sample: file
            .sample
            .filter(|_| !companion)
            .map(|sample| Sample([sample; 16])),
    }))
}

pub(crate) fn relocate(origin: usize, id: FileId, to: &str, file: &File) -> FileChange {
    let listed = listed(to, file);
    FileChange::Move {
        id,
        dir: real(to).parent(),
        version_key: version_key(origin, to, &listed.version),
        listed,
    }
}

fn listed(path: &str, file: &File) -> ListedFile {
    ListedFile {
        name: real(path).name().to_vec(),
        version: ContentVersion {
            size: file.size,
            validator: file.validator.clone(),
        },
        mtime_ns: 7,
        mode: 0o444,
        identity: None,
    }
}

pub(crate) fn version_key(origin: usize, path: &str, version: &ContentVersion) -> VersionKey {
    let key = OriginKey(ORIGINS[origin].as_bytes().into());
    VersionKey::new(&key, &real(path), version)
}
