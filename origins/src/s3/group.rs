//! From a sequence of keys to directories: the pure part of a listing.

use std::cmp::Ordering;
use std::collections::VecDeque;

use musicfs_core::origin::{DirListing, ListedFile};
use musicfs_core::path::OriginPath;
use musicfs_core::version::Validator;

use crate::local::is_ignored;

/// The most files and sub-directories of one directory: it is handed over as a whole, and so
/// held as a whole. Ten times what the library promises to serve.
pub(super) const ENTRIES_MAX: usize = 1_000_000;
/// The most that all directories which are still growing may hold together.
pub(super) const HELD_BYTES_MAX: usize = 512 << 20;
/// What an entry takes beside its name and its entity tag.
const ENTRY_BYTES: usize = size_of::<ListedFile>();

/// Where a key puts what it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spot<'a> {
    /// The directories above it, outermost first: as far as a listing shows them.
    pub(super) dirs: Vec<&'a [u8]>,
    /// Its name; `None` for the marker of a directory, and for what no listing shows.
    pub(super) name: Option<&'a [u8]>,
}

impl<'a> Spot<'a> {
    /// The spot of a key, of which `below` is the part behind the prefix that is listed.
    ///
    /// `None` if no path can be made of it.
    pub(super) fn of(under: &OriginPath, below: &'a [u8]) -> Option<Self> {
        let path = below.strip_suffix(b"/").unwrap_or(below);
        if under.as_bytes().len() + 1 + path.len() > OriginPath::LEN_MAX {
            return None;
        }
        if !path.is_empty() {
            OriginPath::new(path).ok()?;
        } else if !below.is_empty() {
            return None;
        }
        let mut dirs: Vec<_> = below.split(|&byte| byte == b'/').collect();
        let name = dirs.pop().filter(|name| !name.is_empty());
        match dirs.iter().position(|dir| is_ignored(dir)) {
            Some(hidden) => {
                dirs.truncate(hidden);
                Some(Self { dirs, name: None })
            }
            None => Some(Self {
                dirs,
                name: name.filter(|name| !is_ignored(name)),
            }),
        }
    }
}

/// Holds a server to an order of its keys in which each directory's are neighbours.
///
/// S3 promises the order of bytes. Servers on top of a filesystem list directory by directory, as
/// if `/` came before every other byte (SeaweedFS does). Either will do, but one must hold from the
/// first key to the last: then no key comes twice, and no directory is met again.
#[derive(Debug)]
pub(super) struct Order {
    last: Option<Vec<u8>>,
    by_bytes: bool,
    by_components: bool,
}

impl Order {
    pub(super) fn new() -> Self {
        Self {
            last: None,
            by_bytes: true,
            by_components: true,
        }
    }

    /// True if `key` may come behind all keys before.
    pub(super) fn admit(&mut self, key: &[u8]) -> bool {
        if let Some(last) = &self.last {
            self.by_bytes &= last.as_slice() < key;
            self.by_components &= compare_components(last, key) == Ordering::Less;
        }
        let last = self.last.get_or_insert_default();
        last.clear();
        last.extend_from_slice(key);
        self.by_bytes || self.by_components
    }
}

fn compare_components(a: &[u8], b: &[u8]) -> Ordering {
    let rank = |&byte: &u8| if byte == b'/' { 0 } else { u16::from(byte) + 1 };
    a.iter().map(rank).cmp(b.iter().map(rank))
}

/// A directory, or the listing, holds more than this machine should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TooMany {
    pub(super) dir: OriginPath,
    pub(super) what: &'static str,
}

/// Directories that may still grow: the one listed, and on from there down to the newest key.
#[derive(Debug)]
pub(super) struct Grouping {
    /// Never empty before [`Grouping::finish`].
    open: Vec<Open>,
    /// What all of them hold.
    held_bytes: usize,
    entries_max: usize,
}

/// A directory that may still grow.
#[derive(Debug)]
struct Open {
    listing: DirListing,
    held_bytes: usize,
}

impl Open {
    fn new(path: OriginPath) -> Self {
        let listing = DirListing {
            path,
            device: None,
            files: Vec::new(),
            dirs: Vec::new(),
            complete: true,
        };
        Self {
            listing,
            held_bytes: 0,
        }
    }
}

impl Grouping {
    pub(super) fn new(under: OriginPath) -> Self {
        Self::with_limit(under, ENTRIES_MAX)
    }

    fn with_limit(under: OriginPath, entries_max: usize) -> Self {
        Self {
            open: vec![Open::new(under)],
            held_bytes: 0,
            entries_max,
        }
    }

    /// Takes the next key in, whose directories are `dirs`. Directories that can get no further
    /// key go to `done`.
    ///
    /// # Errors
    /// [`TooMany`] when a limit is passed; the listing ends.
    pub(super) fn add(
        &mut self,
        dirs: &[&[u8]],
        file: Option<ListedFile>,
        done: &mut VecDeque<DirListing>,
    ) -> Result<(), TooMany> {
        let deeper = self.open.iter().skip(1);
        let common = deeper
            .zip(dirs)
            .take_while(|(open, dir)| open.listing.path.name() == **dir)
            .count();
        self.close_down_to(common + 1, done);
        for dir in &dirs[common..] {
            self.add_dir(dir)?;
            let path = self.top().listing.path.join(dir);
            let path = path.expect("the beginning of a path is a path");
            self.open.push(Open::new(path));
        }
        let Some(file) = file else {
            return Ok(());
        };
        let tag_len = match &file.version.validator {
            Validator::ETag(tag) => tag.len(),
            Validator::Mtime(_) => 0,
        };
        let bytes = file.name.len() + tag_len;
        self.top().listing.files.push(file);
        self.count(bytes)
    }

    /// Takes a sub-directory in, of which nothing more will be told.
    ///
    /// # Errors
    /// As [`Grouping::add`].
    pub(super) fn add_dir(&mut self, name: &[u8]) -> Result<(), TooMany> {
        self.top().listing.dirs.push(name.to_vec());
        self.count(name.len())
    }

    /// No key is left: all directories are complete.
    pub(super) fn finish(&mut self, done: &mut VecDeque<DirListing>) {
        self.close_down_to(0, done);
    }

    fn top(&mut self) -> &mut Open {
        let top = self.open.last_mut();
        top.expect("the directory listed is open until the end")
    }

    fn close_down_to(&mut self, len: usize, done: &mut VecDeque<DirListing>) {
        while self.open.len() > len {
            let Some(closed) = self.open.pop() else {
                return;
            };
            self.held_bytes -= closed.held_bytes;
            done.push_back(closed.listing);
        }
    }

    /// Counts an entry that was just put into the innermost directory.
    fn count(&mut self, bytes: usize) -> Result<(), TooMany> {
        let bytes = bytes + ENTRY_BYTES;
        self.held_bytes += bytes;
        let (all_bytes, entries_max) = (self.held_bytes, self.entries_max);
        let top = self.top();
        top.held_bytes += bytes;
        let what = if top.listing.files.len() + top.listing.dirs.len() > entries_max {
            "this directory has more than 1,000,000 entries"
        } else if all_bytes > HELD_BYTES_MAX {
            "this directory and those above it take more than 512 MiB"
        } else {
            return Ok(());
        };
        let dir = top.listing.path.clone();
        Err(TooMany { dir, what })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use musicfs_core::version::ContentVersion;
    use proptest::prelude::*;

    use super::*;

    fn path(bytes: &[u8]) -> OriginPath {
        OriginPath::new(bytes).unwrap()
    }

    fn file(name: &[u8]) -> ListedFile {
        ListedFile {
            name: name.to_vec(),
            version: ContentVersion {
                size: 1,
                validator: Validator::ETag("x".into()),
            },
            mtime_ns: 0,
            mode: 0o444,
            identity: None,
        }
    }

    type Dirs = BTreeMap<OriginPath, (BTreeSet<Vec<u8>>, BTreeSet<Vec<u8>>)>;

    /// What a listing of `keys`, which are in an order that is admitted, delivers.
    fn group(keys: &[Vec<u8>]) -> Dirs {
        let (mut order, mut grouping) = (Order::new(), Grouping::new(path(b"")));
        let (mut done, mut dirs) = (VecDeque::new(), Dirs::new());
        for key in keys {
            assert!(order.admit(key), "{key:?}");
            if let Some(spot) = Spot::of(&path(b""), key) {
                grouping
                    .add(&spot.dirs, spot.name.map(file), &mut done)
                    .unwrap();
            }
        }
        grouping.finish(&mut done);
        assert_eq!(grouping.held_bytes, 0);
        for listing in done {
            let entry = (
                listing
                    .files
                    .iter()
                    .map(|file| file.name.clone())
                    .collect::<BTreeSet<_>>(),
                listing.dirs.iter().cloned().collect::<BTreeSet<_>>(),
            );
            assert_eq!(entry.0.len(), listing.files.len(), "a file came twice");
            assert_eq!(entry.1.len(), listing.dirs.len(), "a directory came twice");
            let twice = dirs.insert(listing.path.clone(), entry);
            assert!(twice.is_none(), "{:?} was delivered twice", listing.path);
        }
        dirs
    }

    /// The same from the rules alone, with everything in memory.
    fn group_naively(keys: &[Vec<u8>]) -> Dirs {
        let mut dirs = Dirs::from([(path(b""), Default::default())]);
        for key in keys {
            let mut parts: Vec<&[u8]> = key.split(|&byte| byte == b'/').collect();
            let name = parts.pop().unwrap();
            let strange = |part: &&[u8]| part.is_empty() || *part == b"." || *part == b"..";
            if parts.iter().any(strange) || name == b"." || name == b".." {
                continue;
            }
            let mut at = path(b"");
            let mut hidden = false;
            for part in parts {
                hidden |= is_ignored(part);
                if !hidden {
                    dirs.entry(at.clone()).or_default().1.insert(part.to_vec());
                    at = at.join(part).unwrap();
                    dirs.entry(at.clone()).or_default();
                }
            }
            if !hidden && !name.is_empty() && !is_ignored(name) {
                dirs.entry(at).or_default().0.insert(name.to_vec());
            }
        }
        dirs
    }

    fn any_keys() -> impl Strategy<Value = BTreeSet<Vec<u8>>> {
        let byte = prop::sample::select(b"ab.-0/~\x01\xff".as_slice());
        let odd = prop::collection::vec(byte, 1..8);
        let part = prop::sample::select(vec!["a", "b", "a-b", "a0", ".h", "c~", "@eaDir", ".."]);
        let tidy =
            (prop::collection::vec(part, 1..5), any::<bool>()).prop_map(|(parts, marker)| {
                let mut key = parts.join("/").into_bytes();
                key.extend(marker.then_some(b'/'));
                key
            });
        prop::collection::btree_set(prop_oneof![odd, tidy], 0..40)
    }

    proptest! {
        #[test]
        fn every_directory_comes_once_with_all_that_lies_in_it(keys in any_keys()) {
            let mut keys: Vec<_> = keys.into_iter().collect();
            let expect = group_naively(&keys);
            prop_assert_eq!(&group(&keys), &expect);
            keys.sort_by(|a, b| compare_components(a, b));
            prop_assert_eq!(&group(&keys), &expect);
        }

        #[test]
        fn keys_in_no_order_are_never_admitted(keys in any_keys(), from: prop::sample::Index) {
            prop_assume!(!keys.is_empty());
            let keys: Vec<_> = keys.into_iter().collect();
            let mut order = Order::new();
            prop_assert!(keys.iter().all(|key| order.admit(key)));
            prop_assert!(!order.admit(&from.get::<Vec<u8>>(&keys)[..]), "a key came again");
        }
    }

    #[test]
    fn a_directory_is_delivered_when_no_key_can_belong_to_it() {
        let mut grouping = Grouping::new(path(b""));
        let mut done = VecDeque::new();
        let mut add = |key: &[u8]| {
            let spot = Spot::of(&path(b""), key).unwrap();
            grouping
                .add(&spot.dirs, spot.name.map(file), &mut done)
                .unwrap();
            let paths = done.drain(..).map(|listing| listing.path.to_string());
            paths.collect::<Vec<_>>()
        };
        assert_eq!(add(b"d/a"), [""; 0]);
        assert_eq!(add(b"d/b/c/x"), [""; 0]);
        assert_eq!(add(b"d/c"), ["d/b/c", "d/b"]);
        assert_eq!(add(b"e"), ["d"]);
    }

    #[test]
    fn one_order_must_hold_for_all_keys() {
        for keys in [["a-b", "a/x", "a0"], ["a/x", "a-b", "a0"]] {
            let mut order = Order::new();
            assert!(
                keys.iter().all(|key| order.admit(key.as_bytes())),
                "{keys:?}"
            );
        }
        let mut order = Order::new();
        assert!(order.admit(b"a/x"));
        assert!(order.admit(b"a-b"));
        assert!(!order.admit(b"a/y"), "the directory a/ is met again");
        let mut order = Order::new();
        assert!(order.admit(b"a-b"));
        assert!(order.admit(b"a/x"));
        assert!(!order.admit(b"a-c"));
    }

    #[test]
    fn a_directory_has_a_limit() {
        let mut grouping = Grouping::with_limit(path(b"top"), 3);
        let mut done = VecDeque::new();
        for name in ["a", "b", "c"] {
            grouping
                .add(&[b"d"], Some(file(name.as_bytes())), &mut done)
                .unwrap();
        }
        let error = grouping
            .add(&[b"d"], Some(file(b"e")), &mut done)
            .unwrap_err();
        assert_eq!(error.dir, path(b"top/d"));
        for dir in [b"e", b"f"] {
            grouping.add(&[dir], None, &mut done).unwrap();
        }
        let error = grouping.add(&[b"g"], None, &mut done).unwrap_err();
        assert_eq!(error.dir, path(b"top"));
    }

    #[test]
    fn all_open_directories_share_a_limit() {
        let mut grouping = Grouping::new(path(b""));
        let mut done = VecDeque::new();
        let big = vec![b'x'; 1 << 20];
        let mut add = |dir: usize| grouping.add(&[&big[..dir]], None, &mut done);
        let error = (1..1024)
            .map(|dir| add((1 << 10) + dir))
            .find_map(Result::err);
        assert_eq!(error, None, "small ones stay far below it");
        let mut grouping = Grouping::new(path(b""));
        let error = (0..1024)
            .map(|_| grouping.add_dir(&big))
            .find_map(Result::err);
        assert_eq!(error.map(|error| error.dir), Some(path(b"")));
    }

    #[test]
    fn a_key_that_is_no_path_has_no_spot() {
        let under = path(b"top");
        for bad in [
            "/a", "a//b", "//", "/", "a//", "../a", "a/..", "a/./b", "a\0b",
        ] {
            assert_eq!(Spot::of(&under, bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(Spot::of(&under, &[b'a'; 4092]), None);
        assert!(Spot::of(&under, &[b'a'; 4091]).is_some());
        assert_eq!(Spot::of(&under, b"").map(|spot| spot.name), Some(None));
    }
}
