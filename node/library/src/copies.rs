//! Copies of one file on several origins: which of them are known to be equal, and which one an open
//! inode is read from.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use musicfs_core::id::Ino;
use musicfs_core::version::VersionKey;
use musicfs_index::{Found, same_content};

/// Inodes of which is remembered what was last read from them.
const REMEMBERED_MAX: usize = 65_536;

/// Versions of which is remembered that they were false: each had a node of the cluster lie.
const DISTRUSTED_MAX: usize = 1_024;

/// Copies that are proven to have the same bytes: any of them can go on where another stopped.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    /// At least one; the first names the object in the store.
    copies: Vec<Found>,
    is_complete: bool,
}

impl Content {
    pub(crate) fn copies(&self) -> &[Found] {
        &self.copies
    }

    pub(crate) fn first(&self) -> &Found {
        &self.copies[0]
    }

    pub(crate) fn others(&self) -> &[Found] {
        &self.copies[1..]
    }

    /// True if one of the copies has this version.
    pub(crate) fn has(&self, version: VersionKey) -> bool {
        self.copies.iter().any(|copy| copy.version_key == version)
    }

    /// True if the store holds all of it.
    pub(crate) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Puts a copy to the front whose object is complete, if there is one.
    pub(crate) fn lead_with_complete(&mut self, is_complete: impl Fn(VersionKey) -> bool) {
        let complete = |copy: &Found| is_complete(copy.version_key);
        if let Some(at) = self.copies.iter().position(complete) {
            self.copies.swap(0, at);
            self.is_complete = true;
        }
    }
}

/// Sorts copies by what is proven to be equal, each kind in the order of its first.
pub(crate) fn by_content(copies: Vec<Found>) -> Vec<Content> {
    let mut contents: Vec<Content> = Vec::with_capacity(copies.len());
    for copy in copies {
        let equal = |content: &&mut Content| {
            let mut known = content.copies.iter();
            known.any(|known| same_content(known, &copy))
        };
        match contents.iter_mut().find(equal) {
            Some(content) => content.copies.push(copy),
            None => contents.push(Content {
                copies: vec![copy],
                is_complete: false,
            }),
        }
    }
    contents
}

/// Which content each inode is read from, and was last.
///
/// The kernel's page cache knows inodes only. So one content at a time is read from an inode, and
/// what the kernel kept of another is dropped at the next open.
#[derive(Default)]
pub(crate) struct Choices(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    last: HashMap<Ino, Last>,
    /// Versions of which readers got false bytes, until nobody has them open.
    distrusted: HashSet<VersionKey>,
    /// Some inodes' last content is not known any more.
    has_forgotten: bool,
}

struct Last {
    version: VersionKey,
    /// It is the content that the inode stands for.
    is_own: bool,
    opens: usize,
}

/// An open's share in the choice for its inode. Dropping it gives the share up.
pub(crate) struct Choice {
    choices: Arc<Choices>,
    ino: Ino,
    keeps_cache: bool,
}

impl Choice {
    /// True if what the kernel kept of the inode is of this content.
    pub(crate) fn keeps_cache(&self) -> bool {
        self.keeps_cache
    }
}

impl Drop for Choice {
    fn drop(&mut self) {
        let mut inner = self.choices.inner();
        if let Some(last) = inner.last.get_mut(&self.ino) {
            last.opens -= 1;
            // An inode that nothing is known of was last read from its own content.
            if last.opens == 0 && last.is_own {
                inner.last.remove(&self.ino);
            }
        }
    }
}

impl Choices {
    /// The content that an inode is being read from, by one of its versions.
    pub(crate) fn in_use(&self, ino: Ino) -> Option<VersionKey> {
        let inner = self.inner();
        let last = inner.last.get(&ino).filter(|last| last.opens > 0);
        last.map(|last| last.version)
    }

    /// What was read of a version so far was false: the kernel may not go on showing it.
    pub(crate) fn distrust(&self, version: VersionKey) {
        let mut inner = self.inner();
        if inner.distrusted.len() >= DISTRUSTED_MAX {
            inner.distrusted.clear();
            inner.last.retain(|_, last| last.opens > 0);
            inner.has_forgotten = true;
        }
        inner.distrusted.insert(version);
    }

    /// One more open reads `content`; `own` is the version that the inode stands for. `None` if the
    /// inode is being read from another content.
    pub(crate) fn enter(
        self: &Arc<Self>,
        ino: Ino,
        content: &Content,
        own: VersionKey,
    ) -> Option<Choice> {
        let mut inner = self.inner();
        let is_own = content.has(own);
        let keeps_cache = match inner.last.get(&ino) {
            Some(last) if content.has(last.version) => true,
            Some(last) if last.opens > 0 => return None,
            Some(_) => false,
            None => is_own && !inner.has_forgotten,
        };
        let opens = inner.last.get(&ino).map_or(0, |last| last.opens) + 1;
        let keeps_cache = !inner.is_distrusted(content, opens == 1) && keeps_cache;
        if opens == 1 {
            inner.make_room();
        }
        let last = Last {
            version: content.first().version_key,
            is_own,
            opens,
        };
        inner.last.insert(ino, last);
        drop(inner);
        Some(Choice {
            choices: self.clone(),
            ino,
            keeps_cache,
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// True if the kernel's pages of a content may be false. The first of its opens has them dropped;
    /// until then, reads that were under way may put some back.
    fn is_distrusted(&mut self, content: &Content, is_first: bool) -> bool {
        let versions = content.copies().iter().map(|copy| copy.version_key);
        let distrusted: Vec<_> = versions
            .filter(|version| self.distrusted.contains(version))
            .collect();
        if is_first {
            for version in &distrusted {
                self.distrusted.remove(version);
            }
        }
        !distrusted.is_empty()
    }

    /// Forgets inodes that are not open, once there are too many.
    fn make_room(&mut self) {
        if self.last.len() >= REMEMBERED_MAX {
            let before = self.last.len();
            self.last.retain(|_, last| last.opens > 0);
            self.has_forgotten |= self.last.len() < before;
        }
    }
}

#[cfg(test)]
mod tests {
    use musicfs_core::id::OriginId;
    use musicfs_core::path::OriginPath;
    use musicfs_core::version::{ContentVersion, Validator};
    use musicfs_index::{FileKind, Node, NodeKind};

    use super::*;

    const INO: Ino = Ino(500);

    fn copy(key: u8, md5: Option<u8>) -> Found {
        Found {
            node: Node {
                ino: INO,
                kind: NodeKind::File,
                size: 5,
                mtime_ns: 0,
                mode: 0o444,
            },
            origin: OriginId::new("x").unwrap(),
            path: OriginPath::default(),
            version: ContentVersion {
                size: 5,
                validator: Validator::Mtime(0),
            },
            kind: FileKind::Track,
            version_key: VersionKey([key; 16]),
            layout: None,
            sample: None,
            md5: md5.map(|byte| [byte; 16]),
            etag_is_md5: false,
            priority: 0,
        }
    }

    fn own() -> VersionKey {
        VersionKey([1; 16])
    }

    fn contents() -> Vec<Content> {
        by_content(vec![
            copy(1, Some(7)),
            copy(2, None),
            copy(3, Some(7)),
            copy(4, Some(9)),
        ])
    }

    #[test]
    fn only_what_is_proven_equal_is_one_content() {
        let contents = contents();
        let keys: Vec<Vec<u8>> = contents
            .iter()
            .map(|content| content.copies.iter().map(|c| c.version_key.0[0]).collect())
            .collect();
        assert_eq!(keys, [vec![1, 3], vec![2], vec![4]]);
        let mut first = contents[0].clone();
        first.lead_with_complete(|key| key.0[0] == 3);
        assert!(first.is_complete() && first.first().version_key.0[0] == 3);
        assert_eq!(first.others().len(), 1);
    }

    #[test]
    fn while_an_inode_is_open_it_has_one_content() {
        let choices = Arc::new(Choices::default());
        let contents = contents();
        let first = choices.enter(INO, &contents[1], own()).unwrap();
        assert!(!first.keeps_cache(), "the kernel may hold its own content");
        assert_eq!(choices.in_use(INO), Some(VersionKey([2; 16])));
        assert!(choices.enter(INO, &contents[0], own()).is_none());
        let second = choices.enter(INO, &contents[1], own()).unwrap();
        assert!(second.keeps_cache());
        drop((first, second));
        assert_eq!(choices.in_use(INO), None);
        let back = choices.enter(INO, &contents[0], own()).unwrap();
        assert!(!back.keeps_cache(), "the kernel holds the other content");
        drop(back);
        assert!(
            choices
                .enter(INO, &contents[0], own())
                .unwrap()
                .keeps_cache()
        );
    }

    #[test]
    fn an_inode_that_was_only_ever_itself_keeps_its_pages_and_costs_nothing() {
        let choices = Arc::new(Choices::default());
        let contents = contents();
        for _ in 0..3 {
            let choice = choices.enter(INO, &contents[0], own()).unwrap();
            assert!(choice.keeps_cache());
            drop(choice);
            assert!(choices.inner().last.is_empty());
        }
    }

    #[test]
    fn what_was_false_is_not_shown_again() {
        let choices = Arc::new(Choices::default());
        let contents = contents();
        let before = choices.enter(INO, &contents[0], own()).unwrap();
        choices.distrust(own());
        for _ in 0..2 {
            let again = choices.enter(INO, &contents[0], own()).unwrap();
            assert!(!again.keeps_cache(), "one that read it is still open");
        }
        drop(before);
        let fresh = choices.enter(INO, &contents[0], own()).unwrap();
        assert!(!fresh.keeps_cache());
        drop(fresh);
        let later = choices.enter(INO, &contents[0], own()).unwrap();
        assert!(later.keeps_cache());
    }

    #[test]
    fn what_was_forgotten_is_not_taken_for_known() {
        let choices = Arc::new(Choices::default());
        let contents = contents();
        for ino in 0..=REMEMBERED_MAX as u64 {
            drop(choices.enter(Ino(ino), &contents[1], own()).unwrap());
        }
        assert!(choices.inner().last.len() <= REMEMBERED_MAX);
        assert!(
            !choices
                .enter(Ino(0), &contents[0], own())
                .unwrap()
                .keeps_cache()
        );
    }
}
