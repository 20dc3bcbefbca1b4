//! An index with two origins and files whose content is a number.

use std::collections::BTreeMap;

use musicfs_core::id::{Ino, OriginId};
use musicfs_core::origin::ListedFile;
use musicfs_core::path::OriginPath;
use musicfs_core::tags::{AudioProperties, Tags, TrackInfo};
use musicfs_core::version::{ContentVersion, Validator, VersionKey};
use musicfs_index::{
    Batch, Commit, FileChange, FileKind, FileRecord, Found, Index, KnownFile, Layout, NodeKind,
    OriginSpec,
};
use tempfile::TempDir;

pub(crate) const ORIGINS: [&str; 2] = ["nas", "s3"];

pub(crate) struct World {
    pub(crate) index: Index,
    /// The rows of [`ORIGINS`].
    pub(crate) origins: Vec<i64>,
    pub(crate) runtime: tokio::runtime::Runtime,
    pub(crate) dir: TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::open(tempfile::tempdir().unwrap())
    }

    pub(crate) fn open(dir: TempDir) -> Self {
        let (index, _) = Index::open(dir.path(), Layout::default()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let specs = ORIGINS.map(|name| OriginSpec {
            name: name.into(),
            kind: "nfs".into(),
            display_name: format!("/{name}"),
            priority: 0,
        });
        let (origins, _) = runtime
            .block_on(index.writer.configure(specs.to_vec()))
            .unwrap();
        runtime.block_on(index.writer.rebuild_if_changed()).unwrap();
        Self {
            index,
            origins,
            runtime,
            dir,
        }
    }

    pub(crate) fn apply(&self, origin: usize, changes: Vec<FileChange>) -> Commit {
        let batch = Batch {
            origin: self.origins[origin],
            changes,
            now_ns: 1,
        };
        self.runtime
            .block_on(self.index.writer.apply(batch))
            .unwrap()
    }

    pub(crate) fn hide(&self, origin: usize, hidden: bool) {
        let change = self.index.writer.set_hidden(self.origins[origin], hidden);
        self.runtime.block_on(change).unwrap();
    }

    pub(crate) fn forget_some(&self, origin: usize, limit: usize) -> (Commit, bool) {
        let step = self.index.writer.forget_some(self.origins[origin], limit);
        self.runtime.block_on(step).unwrap()
    }

    pub(crate) fn pin(&self, path: &str, now: i64) -> Result<bool, musicfs_index::Error> {
        self.runtime
            .block_on(self.index.writer.pin(path.into(), now))
    }

    pub(crate) fn unpin(&self, path: &str) -> bool {
        self.runtime
            .block_on(self.index.writer.unpin(path))
            .unwrap()
    }

    /// All files of an origin, by their real paths.
    pub(crate) fn known(&self, origin: usize) -> BTreeMap<String, KnownFile> {
        let (reader, row) = (&self.index.reader, self.origins[origin]);
        let mut known = BTreeMap::new();
        let mut after = None;
        while let Some(dir) = reader
            .next_dir(row, &OriginPath::default(), after.as_ref())
            .unwrap()
        {
            for file in reader.files_in(row, &dir).unwrap() {
                known.insert(dir.join(&file.name).unwrap().to_string(), file);
            }
            after = Some(dir);
        }
        known
    }

    /// Every path of the tree and its inode number; of files with what is found there.
    pub(crate) fn tree(&self) -> BTreeMap<String, (Ino, Option<Found>)> {
        let mut tree = BTreeMap::from([(String::new(), (Ino::ROOT, None))]);
        let mut open = vec![(Ino::ROOT, String::new())];
        while let Some((dir, prefix)) = open.pop() {
            for child in self.index.reader.children(dir, Ino(0), usize::MAX).unwrap() {
                let path = format!("{prefix}{}", child.name);
                let found = self.index.reader.find(child.node.ino).unwrap();
                if child.node.kind == NodeKind::Directory {
                    open.push((child.node.ino, format!("{path}/")));
                }
                tree.insert(path, (child.node.ino, found));
            }
        }
        tree
    }

    /// The files that a walk meets, by path.
    pub(crate) fn walk(&self, from: Ino, limit: usize) -> Vec<(String, Found)> {
        let mut walk = self.index.reader.walk(from).unwrap().unwrap();
        let mut all = Vec::new();
        loop {
            let page = self.index.reader.files_below(&mut walk, limit).unwrap();
            if page.is_empty() {
                return all;
            }
            assert!(page.len() <= limit.max(1));
            all.extend(page.into_iter().map(|file| (file.path, file.found)));
        }
    }
}

/// A file of an album; `version` stands for its content.
pub(crate) fn put(path: &str, (artist, title, disc): (&str, &str, u32), version: u8) -> FileChange {
    FileChange::Put(Box::new(record(path, (artist, title, disc), version)))
}

pub(crate) fn record(
    path: &str,
    (artist, title, disc): (&str, &str, u32),
    version: u8,
) -> FileRecord {
    let real = OriginPath::new(path.as_bytes()).unwrap();
    let companion = path.ends_with(".jpg");
    let tags = Tags {
        artists: vec![artist.into()],
        album: Some(format!("Album of {artist}")),
        title: Some(title.into()),
        disc: Some(disc),
        ..Tags::default()
    };
    let info = TrackInfo {
        tags,
        audio: AudioProperties::default(),
        artwork: vec![],
    };
    FileRecord {
        dir: real.parent(),
        listed: listed(&real, version),
        kind: if companion {
            FileKind::Companion
        } else {
            FileKind::Track
        },
        version_key: key(version),
        info: (!companion).then_some(info),
        layout: None,
        sample: None,
    }
}

pub(crate) fn listed(path: &OriginPath, version: u8) -> ListedFile {
    ListedFile {
        name: path.name().to_vec(),
        version: ContentVersion {
            size: 1000,
            validator: Validator::Mtime(version.into()),
        },
        mtime_ns: version.into(),
        mode: 0o444,
        identity: None,
    }
}

pub(crate) fn key(version: u8) -> VersionKey {
    VersionKey([version; 16])
}

pub(crate) fn id(name: &str) -> OriginId {
    OriginId::new(name).unwrap()
}

/// Two artists on one origin, with a companion that stands at two places, and one on the other.
pub(crate) fn filled() -> World {
    let world = World::new();
    world.apply(
        0,
        vec![
            put("a/1.flac", ("A", "One", 1), 1),
            put("a/2.flac", ("B", "Two", 1), 2),
            put("a/cover.jpg", ("", "", 0), 3),
            put("b/3.flac", ("A", "Three", 2), 4),
            put("4.mp3", ("A", "Four", 1), 5),
            put("c/same.flac", ("C", "Same", 1), 6),
        ],
    );
    world.apply(1, vec![put("c/same.flac", ("C", "Same", 1), 6)]);
    world
}
