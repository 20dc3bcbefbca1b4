//! Listings.

use std::collections::{BTreeMap, BTreeSet};

use musicfs_core::origin::{Depth, DirListing, Origin};
use musicfs_core::path::OriginPath;

use super::path;
use super::place::Place;

/// More than a page of keys, and more than one answer to a `readdir`, has room for.
const MANY_FILES_COUNT: usize = 1_100;

/// Names that every place can hold, and that someone on the way could take for something else.
const TEXT_NAMES: [&str; 11] = [
    "a b.flac",
    "a+b%20c.flac",
    "50% & more; #1?.flac",
    "quo\"te's <tag>.flac",
    " space before and after ",
    "e\u{301}.flac",
    "é.flac",
    "\u{1f3b5} 音楽.flac",
    "-rf.flac",
    "*[a]{b}.flac",
    "CON.flac",
];

/// Every directory of a listing, by its path.
type Tree = BTreeMap<OriginPath, DirListing>;

/// Lists from `under`; nothing comes twice, and everything is well-formed.
async fn tree(origin: &dyn Origin, under: &OriginPath, depth: Depth) -> Tree {
    let mut listing = origin.list(under, depth);
    let mut tree = Tree::new();
    while let Some(mut dir) = listing.next().await.unwrap() {
        assert!(dir.complete, "{dir:?}");
        assert!(
            dir.path.is_within(under),
            "{:?} is not in {under:?}",
            dir.path
        );
        dir.files.sort_by(|one, other| one.name.cmp(&other.name));
        dir.dirs.sort();
        let names: BTreeSet<&[u8]> = dir.files.iter().map(|file| &*file.name).collect();
        assert_eq!(
            names.len(),
            dir.files.len(),
            "a file twice in {:?}",
            dir.path
        );
        let dirs: BTreeSet<&[u8]> = dir.dirs.iter().map(|name| &**name).collect();
        assert_eq!(
            dirs.len(),
            dir.dirs.len(),
            "a directory twice in {:?}",
            dir.path
        );
        for file in &dir.files {
            assert!(dir.path.join(&file.name).is_ok(), "{file:?}");
            assert_eq!(file.mode & !0o444, 0, "{file:?}");
            assert_ne!(file.mode & 0o444, 0, "{file:?}");
            assert!(file.mtime_ns > 0, "{file:?}");
        }
        let path = dir.path.clone();
        assert!(tree.insert(path, dir).is_none(), "a directory came twice");
    }
    tree
}

/// The files of a listing and their sizes.
fn files(tree: &Tree) -> BTreeMap<OriginPath, u64> {
    let all = tree.iter().flat_map(|(dir, listing)| {
        let files = listing.files.iter();
        files.map(|file| (dir.join(&file.name).unwrap(), file.version.size))
    });
    all.collect()
}

pub(super) async fn everything_is_listed_once(origin: &dyn Origin, place: &dyn Place) {
    let root = OriginPath::default();
    let mut expected = BTreeMap::new();
    let mut put = |name: &str, len: usize| {
        place.put(name.as_bytes(), &vec![b'x'; len]);
        expected.insert(path(name.as_bytes()), len as u64);
    };
    put("in the root.flac", 3);
    put("artist/album/1.flac", 100);
    put("artist/album/2.flac", 0);
    put("artist/album.txt", 5);
    // Sorts before "artist/album/…" as a key, though not as a directory.
    put("artist/album-2/1.flac", 7);
    put("artist/a/b/c/d/e/deep.flac", 1);
    let many = (0..MANY_FILES_COUNT).map(|number| {
        let name = format!("many/{number:05}.flac").into_bytes();
        expected.insert(path(&name), (number % 3) as u64);
        (name, vec![b'x'; number % 3])
    });
    place.put_all(many.collect());
    let all = tree(origin, &root, Depth::All).await;
    assert_eq!(files(&all), expected);
    let mut dirs: BTreeSet<OriginPath> = BTreeSet::from([root.clone()]);
    for file in expected.keys() {
        let mut dir = file.parent();
        while dirs.insert(dir.clone()) {
            dir = dir.parent();
        }
    }
    assert_eq!(all.keys().cloned().collect::<BTreeSet<_>>(), dirs);
    let named = all.iter().flat_map(|(dir, listing)| {
        let names = listing.dirs.iter();
        names.map(|name| dir.join(name).unwrap())
    });
    let named: BTreeSet<OriginPath> = named.chain([root]).collect();
    assert_eq!(named, dirs, "directories are named where they lie");
    for (dir, listing) in &all {
        let one = tree(origin, dir, Depth::One).await;
        assert_eq!(one.values().collect::<Vec<_>>(), [listing]);
    }
    let below = tree(origin, &path(b"artist"), Depth::All).await;
    let within = all
        .range(path(b"artist")..)
        .take_while(|(dir, _)| dir.is_within(&path(b"artist")));
    let within: Tree = within
        .map(|(dir, listing)| (dir.clone(), listing.clone()))
        .collect();
    assert_eq!(below, within);
    // A listing that is not wanted any more harms nothing.
    let mut left = origin.list(&OriginPath::default(), Depth::All);
    left.next().await.unwrap().unwrap();
    drop(left);
    place.remove(b"artist/album/1.flac");
    let all = tree(origin, &path(b"artist/album"), Depth::All).await;
    assert!(!files(&all).contains_key(&path(b"artist/album/1.flac")));
}

pub(super) async fn odd_names_survive(origin: &dyn Origin, place: &dyn Place) {
    let mut names: Vec<Vec<u8>> = TEXT_NAMES
        .iter()
        .map(|name| name.as_bytes().into())
        .collect();
    if place.supports_odd_names() {
        names.extend([
            b"\xff\xfe not text.flac".to_vec(),
            b"back\\slash.flac".to_vec(),
            b"new\nline\ttab.flac".to_vec(),
            b"bell\x07.flac".to_vec(),
            vec![b'n'; 255],
        ]);
    }
    let in_dir = |name: &[u8]| [b"odd \xc3\xa9+%/", name].concat();
    for name in &names {
        place.put(&in_dir(name), name);
        // And as a directory.
        place.put(&[&b"odd dirs/"[..], name, b"/f"].concat(), name);
    }
    let tree = tree(origin, &OriginPath::default(), Depth::All).await;
    let files = files(&tree);
    for name in &names {
        for odd in [in_dir(name), [&b"odd dirs/"[..], name, b"/f"].concat()] {
            let odd = path(&odd);
            assert_eq!(files.get(&odd), Some(&(name.len() as u64)), "{odd:?}");
            let version = super::listed(origin, &odd).await;
            let file = origin.open(&odd, &version).await.unwrap();
            assert_eq!(file.read_at(0, 1000).await.unwrap(), name, "{odd:?}");
        }
    }
    let odd: Vec<_> = files
        .keys()
        .filter(|file| file.as_bytes().starts_with(b"odd "))
        .collect();
    assert_eq!(odd.len(), 2 * names.len(), "{odd:?}");
}

pub(super) async fn hidden_names_are_left_out(origin: &dyn Origin, place: &dyn Place) {
    let hidden = [
        "hide/.hidden.flac",
        "hide/.git/in a hidden directory.flac",
        "hide/backup.flac~",
        "hide/@eaDir/thumb.flac",
        "hide/.only/deep/below.flac",
    ];
    for name in hidden {
        place.put(name.as_bytes(), b"hidden");
    }
    place.put(b"hide/seen..flac", b"seen");
    for depth in [Depth::One, Depth::All] {
        let tree = tree(origin, &path(b"hide"), depth).await;
        let [(dir, listing)] = tree.iter().collect::<Vec<_>>()[..] else {
            panic!("{tree:?}")
        };
        assert_eq!(*dir, path(b"hide"));
        let names: Vec<&[u8]> = listing.files.iter().map(|file| &*file.name).collect();
        assert_eq!(names, [b"seen..flac"]);
        assert!(listing.dirs.is_empty(), "{listing:?}");
    }
}
