//! Checksums: who has them, what ETags are, and when two copies are proven equal.

use musicfs_core::id::FileId;
use musicfs_core::version::{ContentVersion, Validator, VersionKey};
use musicfs_index::{Found, OriginSpec, same_content};

use crate::world::{File, ORIGINS, World, file, relocate, tagged, version_key};

const SONG: &str = "Artist/Album [FLAC]/01 - Song.flac";

/// A plain ETag of one digit.
fn etag(digit: char) -> String {
    std::iter::repeat_n(digit, 32).collect()
}

fn note(world: &World, version: VersionKey, md5: u8) {
    let noted = world.index.writer.note_md5(version, [md5; 16]);
    world.runtime.block_on(noted).unwrap();
}

/// What is found of a file on an origin.
fn found(world: &World, origin: usize, path: &str) -> Found {
    let key = world.known(origin, path).unwrap().version_key;
    world.index.reader.find_version(key).unwrap().unwrap()
}

#[test]
fn an_md5_stays_with_the_version_it_was_noted_for() {
    let mut world = World::new();
    world.put(0, "a.flac", &file("Song", 1));
    world.put(1, "b.flac", &file("Song", 1));
    let key = found(&world, 0, "a.flac").version_key;
    note(&world, key, 7);
    note(&world, VersionKey([9; 16]), 9);
    assert_eq!(found(&world, 0, "a.flac").md5, Some([7; 16]));
    assert_eq!(found(&world, 1, "b.flac").md5, None);
    world.put(0, "a.flac", &file("Song", 1));
    assert_eq!(
        found(&world, 0, "a.flac").md5,
        Some([7; 16]),
        "only read again"
    );
    let row = world.row(0, "a.flac");
    world.apply(0, vec![relocate(0, row, "moved.flac", &file("Song", 1))]);
    assert_eq!(
        found(&world, 0, "moved.flac").md5,
        None,
        "it has another version there"
    );
    let moved = found(&world, 0, "moved.flac").version_key;
    note(&world, moved, 7);
    assert_eq!(found(&world, 0, "moved.flac").md5, Some([7; 16]));
    let newer = File {
        validator: Validator::Mtime(99),
        ..file("Song", 1)
    };
    world.put(0, "moved.flac", &newer);
    assert_eq!(found(&world, 0, "moved.flac").md5, None);
}

#[test]
fn one_file_shows_what_the_etags_of_its_origin_are() {
    let mut world = World::new();
    world.put(0, "1.flac", &tagged("Song", 1, &etag('1')));
    world.put(0, "2.flac", &tagged("Other", 2, &etag('2')));
    world.put(
        0,
        "parts.flac",
        &tagged("Parts", 3, &format!("{}-2", etag('3'))),
    );
    world.put(1, "1.flac", &tagged("Song", 1, &etag('1')));
    let is_md5 = |world: &World, path| found(world, 0, path).etag_is_md5;
    let md5 = |world: &World, path| found(world, 0, path).md5;
    assert!(!is_md5(&world, "1.flac"));
    assert_eq!(md5(&world, "2.flac"), None);

    // An object of several parts says nothing of the others.
    note(&world, found(&world, 0, "parts.flac").version_key, 0x33);
    assert!(!is_md5(&world, "1.flac"));
    note(&world, found(&world, 0, "1.flac").version_key, 0x11);
    for path in ["1.flac", "2.flac", "parts.flac"] {
        assert!(is_md5(&world, path));
    }
    assert!(
        !found(&world, 1, "1.flac").etag_is_md5,
        "another origin is another server"
    );
    assert_eq!(
        md5(&world, "2.flac"),
        Some([0x22; 16]),
        "spelled by its ETag"
    );
    assert_eq!(md5(&world, "parts.flac"), Some([0x33; 16]), "computed");

    // One that is none ends it, whatever comes later; what was computed stays.
    note(&world, found(&world, 0, "2.flac").version_key, 0x99);
    assert!(!is_md5(&world, "1.flac"));
    assert_eq!(md5(&world, "2.flac"), Some([0x99; 16]));
    note(&world, found(&world, 0, "1.flac").version_key, 0x11);
    assert!(!is_md5(&world, "1.flac"));

    // Under the same id another place begins anew.
    let moved = OriginSpec {
        name: ORIGINS[0].into(),
        kind: "s3".into(),
        display_name: "s3://elsewhere".into(),
        priority: 0,
    };
    let configured = world.index.writer.configure(vec![moved]);
    world.runtime.block_on(configured).unwrap();
    note(&world, found(&world, 0, "1.flac").version_key, 0x11);
    assert!(is_md5(&world, "1.flac"));
    world.reorder([0, 1, 2]);
    assert!(!is_md5(&world, "1.flac"));
}

#[test]
fn the_smallest_file_is_probed_where_it_matters() {
    let mut world = World::new();
    let sized = |title, sample, size, tag: &str| File {
        size,
        ..tagged(title, sample, tag)
    };
    world.put(0, "empty.flac", &sized("Empty", 1, 0, &etag('1')));
    world.put(
        0,
        "parts.flac",
        &sized("Parts", 2, 5, &format!("{}-2", etag('2'))),
    );
    world.put(0, "large.flac", &sized("Large", 3, 900, &etag('3')));
    world.put(0, "small.flac", &sized("Small", 4, 90, &etag('A')));
    world.put(1, "copy.flac", &sized("Large", 3, 900, &etag('3')));
    world.put(2, "alone.flac", &sized("Alone", 5, 50, &etag('5')));
    let probe = |world: &World, origin: usize, size_max| {
        let probe = world
            .index
            .reader
            .etag_probe(world.origins[origin], size_max);
        probe.unwrap().map(|found| found.path.to_string())
    };
    assert_eq!(probe(&world, 0, 1 << 20).as_deref(), Some("small.flac"));
    assert_eq!(probe(&world, 0, 90).as_deref(), Some("small.flac"));
    assert_eq!(probe(&world, 0, 89), None, "too large");
    assert_eq!(probe(&world, 1, u64::MAX).as_deref(), Some("copy.flac"));
    assert_eq!(probe(&world, 2, u64::MAX), None, "it has copies of nothing");
    note(&world, found(&world, 0, "large.flac").version_key, 0x33);
    assert_eq!(probe(&world, 0, u64::MAX), None, "it is known");
    note(&world, found(&world, 1, "copy.flac").version_key, 0x34);
    assert_eq!(probe(&world, 1, u64::MAX), None, "it is known");
    world.remove(0, "large.flac");
    assert_eq!(probe(&world, 1, u64::MAX), None);
}

#[test]
fn copies_without_a_checksum_come_page_by_page() {
    let mut world = World::new();
    let titles = ["A", "B", "C", "D", "E", "F"];
    for (sample, title) in (1..).zip(titles) {
        world.put(0, &format!("x/{title}.flac"), &file(title, sample));
    }
    for (sample, title) in (1..).zip(&titles[..4]) {
        world.put(
            1,
            &format!("{title}.flac"),
            &tagged(title, sample, &etag('4')),
        );
    }
    for origin in [0, 1] {
        // In the directory of "E" too, so that it stands at two places.
        world.put(origin, "x/cover.jpg", &file("", 0));
    }
    let other = File {
        disc: 2,
        ..file("Other", 9)
    };
    world.put(0, "x/other.flac", &other);
    let pages = |world: &World, origin: usize, limit: usize| {
        let mut after = FileId(0);
        let mut names = Vec::new();
        loop {
            let reader = &world.index.reader;
            let page = reader
                .unproven(world.origins[origin], after, limit)
                .unwrap();
            let Some(&(last, _)) = page.last() else {
                return names;
            };
            assert!(page.len() <= limit && last > after);
            after = last;
            names.extend(page.into_iter().map(|(id, found)| {
                assert_eq!(world.row(origin, &found.path.to_string()), id);
                found.path.to_string()
            }));
        }
    };
    let expect = ["x/A.flac", "x/B.flac", "x/C.flac", "x/D.flac"];
    for limit in [1, 2, 10] {
        assert_eq!(pages(&world, 0, limit), expect);
    }
    assert_eq!(
        pages(&world, 1, 3),
        ["A.flac", "B.flac", "C.flac", "D.flac"]
    );
    note(&world, found(&world, 0, "x/B.flac").version_key, 5);
    assert_eq!(pages(&world, 0, 2), ["x/A.flac", "x/C.flac", "x/D.flac"]);
    note(&world, found(&world, 1, "A.flac").version_key, 0x44);
    assert_eq!(pages(&world, 1, 2), [""; 0], "their ETags say it");
    assert_eq!(pages(&world, 2, 2), [""; 0]);
    world.hide(1, true);
    assert_eq!(
        pages(&world, 0, 2),
        [""; 0],
        "there is nothing to compare with"
    );
}

#[test]
fn only_a_proof_makes_copies_equal() {
    let mut world = World::new();
    world.put(0, "a.flac", &file("Song", 1));
    world.put(1, "b.flac", &file("Song", 1));
    let [a, b] = world.replicas(SONG).try_into().unwrap();
    let check = |a: &Found, b: &Found, expect| {
        assert_eq!(same_content(a, b), expect, "{a:?} {b:?}");
        assert_eq!(same_content(b, a), expect, "{b:?} {a:?}");
    };
    check(&a, &a, true);
    check(&a, &b, false);
    let with_md5 = |found: &Found, md5: u8| Found {
        md5: Some([md5; 16]),
        ..found.clone()
    };
    check(&with_md5(&a, 1), &b, false);
    check(&with_md5(&a, 1), &with_md5(&b, 1), true);
    check(&with_md5(&a, 1), &with_md5(&b, 2), false);
    let mut longer = with_md5(&b, 1);
    longer.version.size += 1;
    check(&with_md5(&a, 1), &longer, false);

    let with_tag = |found: &Found, tag: &str, etag_is_md5| Found {
        version: ContentVersion {
            size: found.version.size,
            validator: Validator::ETag(tag.into()),
        },
        etag_is_md5,
        ..found.clone()
    };
    let parts = format!("{}-3", etag('a'));
    check(
        &with_tag(&a, &parts, true),
        &with_tag(&b, &parts, true),
        true,
    );
    check(
        &with_tag(&a, &parts, true),
        &with_tag(&b, &parts, false),
        false,
    );
    let others = format!("{}-4", etag('a'));
    check(
        &with_tag(&a, &parts, true),
        &with_tag(&b, &others, true),
        false,
    );
    for made_of_something_else in ["1", "", "W/\"1\"", &format!("{}-", etag('a')), "x-1"] {
        let a = with_tag(&a, made_of_something_else, true);
        check(&a, &with_tag(&b, made_of_something_else, true), false);
    }
    let mut same_version = b.clone();
    same_version.version_key = version_key(0, "a.flac", &a.version);
    check(&a, &same_version, true);
    let time = |found: &Found| Found {
        etag_is_md5: true,
        ..found.clone()
    };
    check(&time(&a), &time(&b), false);
}
