//! What the writer is told, and what it answers.

use std::sync::Weak;

use musicfs_core::id::{FileId, Ino, Revision};
use musicfs_core::names::NameProfile;
use musicfs_core::origin::{FileIdentity, ListedFile};
use musicfs_core::path::OriginPath;
use musicfs_core::tags::{AudioLayout, TrackInfo};
use musicfs_core::template::Template;
use musicfs_core::version::{Sample, VersionKey};

/// How paths are made of tags.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The path template.
    pub template: Template,
    /// Directories above the tree, from the root; mostly none.
    pub root: Vec<String>,
    /// Which characters names may hold.
    pub profile: NameProfile,
}

impl Default for Layout {
    fn default() -> Self {
        let template = Template::parse(Template::DEFAULT).expect("the default template is right");
        Self {
            template,
            root: Vec::new(),
            profile: NameProfile::default(),
        }
    }
}

impl Layout {
    /// A text that differs between layouts that make different trees.
    pub(crate) fn fingerprint(&self) -> String {
        format!(
            "{}\0{}\0{}",
            self.template.source(),
            self.root.join("/"),
            self.profile.as_str()
        )
    }
}

/// What every commit goes by.
pub(crate) struct Terms {
    pub(crate) layout: Layout,
    /// Held by those who want to know what becomes of files.
    pub(crate) listeners: Weak<()>,
}

impl Terms {
    /// True if somebody wants to know what becomes of files.
    pub(crate) fn has_listeners(&self) -> bool {
        self.listeners.strong_count() > 1
    }
}

/// What a file is to the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Audio, placed by its tags.
    Track,
    /// Art, lyrics, a cue sheet, a log: placed beside the tracks of its real directory.
    Companion,
}

impl FileKind {
    pub(crate) fn from_number(number: i64) -> Option<Self> {
        match number {
            0 => Some(Self::Track),
            1 => Some(Self::Companion),
            _ => None,
        }
    }

    pub(crate) fn number(self) -> i64 {
        match self {
            Self::Track => 0,
            Self::Companion => 1,
        }
    }
}

/// A file with content that the index does not have.
#[derive(Clone, Debug)]
pub struct FileRecord {
    /// Its real directory.
    pub dir: OriginPath,
    /// What the origin says of it.
    pub listed: ListedFile,
    /// Track or companion.
    pub kind: FileKind,
    /// The name of its content.
    pub version_key: VersionKey,
    /// What its tags say; `None` for a companion, and for a track that could not be read.
    pub info: Option<TrackInfo>,
    /// How its bytes are arranged, where that is known.
    pub layout: Option<AudioLayout>,
    /// What its copies on other origins have in common with it; `None` for a companion.
    pub sample: Option<Sample>,
}

/// One difference between an origin and the index.
#[derive(Clone, Debug)]
pub enum FileChange {
    /// New, or with new content. Boxed: far larger than the others.
    Put(Box<FileRecord>),
    /// The same content, but other read bits or another device or inode.
    Touch {
        /// The row.
        id: FileId,
        /// Its read bits now.
        mode: u16,
        /// Its device and inode now.
        identity: Option<FileIdentity>,
    },
    /// The same content at another path.
    Move {
        /// The row.
        id: FileId,
        /// Its real directory now.
        dir: OriginPath,
        /// What the origin says of it now.
        listed: ListedFile,
        /// The name of its content at the new path.
        version_key: VersionKey,
    },
    /// Gone from the origin.
    Remove {
        /// The row.
        id: FileId,
        /// The directory that it is gone from: a row that has moved on since is left alone.
        dir: OriginPath,
    },
}

/// Changes of one origin that are committed together.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The origin's row.
    pub origin: i64,
    /// The changes, in order.
    pub changes: Vec<FileChange>,
    /// Now, in nanoseconds since 1970.
    pub now_ns: i64,
}

/// What the kernel must look up again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TreeChange {
    /// Names in directories that mean something else now, or nothing any more.
    pub entries: Vec<(Ino, String)>,
    /// Directories whose set of children changed.
    pub directories: Vec<Ino>,
}

/// What a commit did to a file that the tree shows, by its paths in the tree.
///
/// Only `after`: it joined the tree. Only `before`: it left it. Both: its content or its place is
/// another, or a copy of it is shown instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownChange {
    /// The id of the origin that it is on; of one that left, was on.
    pub origin: String,
    /// Where it was shown before the commit.
    pub before: Option<String>,
    /// Where it is shown now.
    pub after: Option<String>,
}

/// The outcome of a commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    /// The revision that it made.
    pub revision: Revision,
    /// What changed in the tree.
    pub tree: TreeChange,
    /// Versions that this commit took from a row and that no row of any origin has after it, in
    /// order. One that came and went within the batch is among them: its file may have been read.
    ///
    /// At most two for each change (a move can take the place of another file), or one for each file
    /// forgotten: bounded by the batch or the step.
    pub retired: Vec<VersionKey>,
    /// What became of files, while somebody wants to know ([`Writer::listen`](crate::Writer::listen));
    /// else empty.
    pub files: Vec<ShownChange>,
    /// Names that changed and are not among `files`, for they are too many; mostly 0.
    pub names_untold: u64,
}
