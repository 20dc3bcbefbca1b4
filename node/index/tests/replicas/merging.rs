//! Which files are one entry, which of them shows, and what the kernel is told.

use musicfs_core::id::Ino;
use musicfs_core::template::Template;
use musicfs_core::version::Validator;
use musicfs_index::{Commit, FileChange, Layout, ShownChange, TreeChange};

use crate::world::{File, World, file, put, relocate};

const ALBUM: &str = "Artist/Album [FLAC]";

fn song() -> String {
    format!("{ALBUM}/01 - Song.flac")
}

/// The number of the album's directory, and what `stat` says of its time.
fn album(world: &World) -> (Ino, i64) {
    let node = world.index.reader.resolve(ALBUM).unwrap().unwrap();
    (node.ino, node.mtime_ns)
}

fn said_nothing(commit: &Commit) {
    assert_eq!(commit.tree, TreeChange::default());
}

#[test]
fn copies_are_one_entry_that_the_first_origin_shows() {
    let mut world = World::new();
    world.put(2, "c.flac", &file("Song", 1));
    world.put(1, "b.flac", &file("Song", 1));
    assert_eq!(world.only(), (song(), vec!["b".into(), "c".into()]));
    let second = world.replicas(&song())[0].node.ino;
    world.put(0, "x/a.flac", &file("Song", 1));
    let names = ["a", "b", "c"].map(String::from).to_vec();
    assert_eq!(world.only(), (song(), names));

    let reader = &world.index.reader;
    let replicas = world.replicas(&song());
    let shown = reader.resolve(&song()).unwrap().unwrap();
    assert_eq!(replicas[0].node, shown);
    assert_eq!(replicas[1].node.ino, second, "who follows keeps its number");
    let priorities: Vec<u32> = replicas.iter().map(|found| found.priority).collect();
    assert_eq!(priorities, [0, 1, 2]);
    for found in &replicas {
        let ino = found.node.ino;
        assert_eq!(reader.node(ino).unwrap(), Some(found.node));
        assert_eq!(reader.find(ino).unwrap().as_ref(), Some(found));
        assert_eq!(reader.path_of(ino).unwrap(), Some(song()));
        assert_eq!(reader.replicas(ino).unwrap(), replicas);
        assert_eq!(reader.parent(ino).unwrap(), Some(album(&world).0));
        let by_version = reader.find_version(found.version_key).unwrap().unwrap();
        assert_eq!(by_version.node, shown);
        assert_eq!(
            (&by_version.origin, &by_version.path),
            (&found.origin, &found.path)
        );
        let mut walk = reader.walk(ino).unwrap().unwrap();
        let met = reader.files_below(&mut walk, 10).unwrap();
        assert_eq!((met.len(), met[0].found.node), (1, shown));
        assert_eq!(met[0].path, song());
        let name = format!("\u{4}{ino}");
        assert_eq!(reader.lookup(album(&world).0, &name).unwrap(), None);
    }
    assert_eq!(reader.replicas(album(&world).0).unwrap(), []);
    assert_eq!(reader.replicas(Ino(1 << 40)).unwrap(), []);
    assert_eq!(
        reader.totals().unwrap().files,
        3,
        "each is a file of its origin"
    );
}

#[test]
fn what_only_looks_alike_stays_apart() {
    let check = |origin: usize, other: File, entries: usize| {
        let mut world = World::new();
        world.put(0, "a.flac", &file("Song", 1));
        world.put(origin, "b.flac", &other);
        assert_eq!(world.sources().len(), entries, "{other:?} of {origin}");
        let sources = world.sources();
        assert!(sources.contains_key(&song()), "{sources:?}");
    };
    check(1, file("Song", 1), 1);
    check(1, file("Song", 2), 2);
    check(
        1,
        File {
            size: 999,
            ..file("Song", 1)
        },
        2,
    );
    check(
        1,
        File {
            sample: None,
            ..file("Song", 1)
        },
        2,
    );
    check(1, file("Other", 1), 2);
    check(0, file("Song", 1), 2);
    let mut world = World::new();
    for origin in 0..2 {
        let unread = File {
            sample: None,
            ..file("Song", 1)
        };
        world.put(origin, "a.flac", &unread);
    }
    assert_eq!(world.sources().len(), 2, "nothing is known of either");
}

#[test]
fn copies_within_one_origin_pair_up_by_path() {
    let mut world = World::new();
    for (origin, path) in [
        (1, "2.flac"),
        (0, "y.flac"),
        (1, "1.flac"),
        (0, "x.flac"),
        (1, "3.flac"),
    ] {
        world.put(origin, path, &file("Song", 1));
    }
    let pair = |a: &str, b: &str| vec![("a".to_owned(), a.to_owned()), ("b".into(), b.into())];
    let sources = world.sources();
    assert_eq!(sources[&song()], pair("x.flac", "1.flac"));
    let mut all: Vec<_> = sources.into_values().collect();
    all.sort();
    let alone = vec![("b".to_owned(), "3.flac".to_owned())];
    assert_eq!(
        all,
        [pair("x.flac", "1.flac"), pair("y.flac", "2.flac"), alone]
    );
}

#[test]
fn a_copy_that_comes_or_goes_unseen_is_not_told_of() {
    let mut world = World::new();
    world.put(0, "a.flac", &file("Song", 1));
    let before = (world.tree(), album(&world));
    let same = |world: &World| assert_eq!((world.tree(), album(world)), before);
    said_nothing(&world.put(1, "b.flac", &file("Song", 1)));
    same(&world);
    let touch = FileChange::Touch {
        id: world.row(1, "b.flac"),
        mode: 0o400,
        identity: None,
    };
    said_nothing(&world.apply(1, vec![touch]));
    let newer = File {
        validator: Validator::Mtime(99),
        ..file("Song", 1)
    };
    said_nothing(&world.put(1, "b.flac", &newer));
    let elsewhere = relocate(1, world.row(1, "b.flac"), "x/moved.flac", &newer);
    said_nothing(&world.apply(1, vec![elsewhere]));
    same(&world);
    assert_eq!(world.replicas(&song())[1].path.to_string(), "x/moved.flac");
    said_nothing(&world.hide(1, true));
    assert_eq!(world.replicas(&song()).len(), 1);
    said_nothing(&world.hide(1, false));
    assert_eq!(world.replicas(&song()).len(), 2);
    said_nothing(&world.remove(1, "x/moved.flac"));
    same(&world);
    assert_eq!(world.replicas(&song()).len(), 1);
}

#[test]
fn when_the_one_that_leads_goes_the_next_shows_under_its_name() {
    let filled = || {
        let mut world = World::new();
        world.put(0, "a.flac", &file("Song", 1));
        world.put(1, "b.flac", &file("Song", 1));
        world
    };
    let check = |mut world: World, go: &dyn Fn(&mut World) -> Commit| {
        let (dir, time) = album(&world);
        let next = world.replicas(&song())[1].node.ino;
        let commit = go(&mut world);
        let name = "01 - Song.flac".to_owned();
        assert!(
            commit.tree.entries.contains(&(dir, name)),
            "{:?}",
            commit.tree
        );
        assert!(commit.tree.directories.contains(&dir));
        let internal = |(_, name): &(Ino, String)| name.contains(char::is_control);
        assert!(
            !commit.tree.entries.iter().any(internal),
            "{:?}",
            commit.tree
        );
        assert!(album(&world).1 > time);
        let replicas = world.replicas(&song());
        assert_eq!((replicas.len(), replicas[0].node.ino), (1, next));
    };
    check(filled(), &|world| world.remove(0, "a.flac"));
    check(filled(), &|world| world.hide(0, true));
    check(filled(), &|world| world.put(0, "a.flac", &file("Other", 1)));
    check(filled(), &|world| {
        let forget = world.index.writer.forget_some(world.origins[0], 10);
        world.runtime.block_on(forget).unwrap().0
    });
    let mut world = filled();
    let touch = FileChange::Touch {
        id: world.row(0, "a.flac"),
        mode: 0o400,
        identity: None,
    };
    let (dir, _) = album(&world);
    let commit = world.apply(0, vec![touch]);
    assert_eq!(commit.tree.entries, [(dir, "01 - Song.flac".into())]);
    // One whose bytes prove to be others shows beside it.
    let reread = File {
        validator: Validator::Mtime(1),
        ..file("Song", 2)
    };
    world.put(1, "b.flac", &reread);
    assert_eq!(world.sources().len(), 2);
    world.put(1, "b.flac", &file("Song", 1));
    assert_eq!(world.only().1, ["a", "b"]);
}

#[test]
fn the_order_of_origins_says_who_leads() {
    let mut world = World::with([1, 1, 0]);
    for origin in [1, 0, 2] {
        world.put(origin, "x.flac", &file("Song", 1));
    }
    assert_eq!(world.only().1, ["c", "a", "b"], "equal ones by their names");
    let commit = world.reorder([1, 1, 0]);
    said_nothing(&commit);
    let commit_of = |world: &mut World| world.put(2, "y.flac", &file("Other", 9));
    let next = commit_of(&mut world).revision;
    assert_eq!(next.0, commit.revision.0 + 1, "nothing was committed");
    world.remove(2, "y.flac");
    let before = world.tree();
    said_nothing(&world.reorder([2, 3, 1]));
    assert_eq!(world.tree(), before);

    let (dir, _) = album(&world);
    let commit = world.reorder([5, 0, 5]);
    assert_eq!(commit.tree.entries, [(dir, "01 - Song.flac".into())]);
    assert_eq!(commit.tree.directories, [dir]);
    assert_eq!(world.only().1, ["b", "a", "c"]);
}

#[test]
fn companions_are_copies_of_each_other_and_go_where_their_track_shows() {
    let mut world = World::new();
    world.put(0, "x/a.flac", &file("Song", 1));
    world.put(1, "y/b.flac", &file("Song", 1));
    for (origin, path) in [(0, "x/cover.jpg"), (1, "y/cover.jpg"), (1, "y/b.lrc")] {
        world.put(origin, path, &file("", 0));
    }
    let paths: Vec<String> = world.sources().into_keys().collect();
    let expect = ["01 - Song.flac", "01 - Song.lrc", "cover.jpg"];
    assert_eq!(paths, expect.map(|name| format!("{ALBUM}/{name}")));
    assert_eq!(world.replicas(&format!("{ALBUM}/cover.jpg")).len(), 2);

    // The name that shows has a suffix while another file has the plain one.
    world.put(0, "w.flac", &file("Song", 2));
    world.put(0, "a.flac", &file("Song", 3));
    let suffixed: Vec<String> = world.sources().into_keys().collect();
    let shown = world
        .index
        .reader
        .find_version(world.known(1, "y/b.flac").unwrap().version_key);
    let track = world
        .index
        .reader
        .path_of(shown.unwrap().unwrap().node.ino)
        .unwrap()
        .unwrap();
    assert_ne!(track, song());
    let follows = |path: &&String| {
        path.starts_with(track.trim_end_matches(".flac")) && path.ends_with(".lrc")
    };
    assert!(
        suffixed.iter().any(|path| follows(&path)),
        "{track}: {suffixed:?}"
    );

    // Another size is another picture.
    let larger = File {
        size: 2000,
        ..file("", 0)
    };
    world.put(1, "y/cover.jpg", &larger);
    assert_eq!(world.replicas(&format!("{ALBUM}/cover.jpg")).len(), 1);
}

#[test]
fn a_new_layout_finds_the_same_copies() {
    let mut world = World::new();
    for origin in [1, 0] {
        for (path, title, sample) in [("x/1.flac", "Song", 1), ("x/2.flac", "Other", 2)] {
            world.put(origin, path, &file(title, sample));
        }
        world.put(origin, "x/cover.jpg", &file("", 0));
    }
    let layout = Layout {
        template: Template::parse("$title.$format").unwrap(),
        root: vec!["Music".into()],
        ..Layout::default()
    };
    let leader = world.replicas(&song())[0].node.ino;
    let world = world.reopen([0, 1, 2], layout);
    let sources = world.sources();
    let paths: Vec<&String> = sources.keys().collect();
    assert_eq!(
        paths,
        ["Music/Other.flac", "Music/Song.flac", "Music/cover.jpg"]
    );
    assert!(
        sources.values().all(|sources| sources.len() == 2),
        "{sources:?}"
    );
    assert_eq!(world.replicas("Music/Song.flac")[0].node.ino, leader);
}

#[test]
fn a_batch_with_both_copies_of_many_files_settles() {
    let mut world = World::new();
    let path = |at: u8| format!("{at}.flac");
    for origin in [1, 2, 0] {
        let all = (0..200).map(|at| put(origin, &path(at), &file("Song", at / 2)));
        world.apply(origin, all.collect());
    }
    let sources = world.sources();
    assert_eq!(sources.len(), 200);
    for sources in sources.into_values() {
        let (origins, paths): (Vec<_>, Vec<_>) = sources.into_iter().unzip();
        assert_eq!(origins, ["a", "b", "c"]);
        assert!(paths.windows(2).all(|pair| pair[0] == pair[1]), "{paths:?}");
    }
}

#[test]
fn what_became_of_files_is_told_to_listeners_and_to_nobody_else() {
    let mut world = World::new();
    assert_eq!(world.put(1, "x/1.flac", &file("One", 1)).files, []);
    let listening = world.index.writer.listen();
    let path = "Artist/Album [FLAC]/01 - One.flac";
    let told = |commit: Commit| {
        let of = |change: ShownChange| (change.origin, change.before, change.after);
        commit.files.into_iter().map(of).collect::<Vec<_>>()
    };
    let some = |path: &str| Some(path.to_owned());
    // A copy that comes first takes its place; one that comes last changes nothing.
    let came = told(world.put(0, "1.flac", &file("One", 1)));
    assert_eq!(came, [("a".into(), some(path), some(path))]);
    assert_eq!(told(world.put(2, "1.flac", &file("One", 1))), []);
    let moved = told(world.put(0, "1.flac", &file("Two", 1)));
    let two = "Artist/Album [FLAC]/01 - Two.flac";
    let expect = [
        ("b".into(), some(path), some(path)),
        ("a".into(), None, some(two)),
    ];
    assert_eq!(moved, expect);
    let gone = told(world.remove(0, "1.flac"));
    assert_eq!(gone, [("a".into(), some(two), None)]);
    drop(listening);
    assert_eq!(world.remove(1, "x/1.flac").files, []);
}
