//! Malformed audio and hostile tags: all of it is listed, none of it leaves its place.

#![expect(clippy::unwrap_used, reason = "test code")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use musicfs_tests::bulk::Flac;
use musicfs_tests::daemon::Home;
use musicfs_tests::{Random, corpus, knob, tree};

/// One sound file of each format of the messy library.
fn samples(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut formats = BTreeSet::new();
    let mut samples = Vec::new();
    for (real, _) in corpus::TRACKS {
        let extension = real.rsplit_once('.').unwrap().1;
        if formats.insert(extension) {
            samples.push((extension.to_owned(), fs::read(dir.join(real)).unwrap()));
        }
    }
    assert_eq!(formats.len(), 7, "{formats:?}");
    samples
}

#[test]
fn malformed_audio_is_listed_under_its_file_name_with_one_warning() {
    let home = Home::new();
    let sound = home.path("sound");
    corpus::write(&sound);
    fs::create_dir(home.origin()).unwrap();
    let mut random = Random(3);
    let mut names = Vec::new();
    for (extension, _) in samples(&sound) {
        let noise: Vec<u8> = (0..5000).map(|_| random.number() as u8).collect();
        for (kind, bytes) in [
            ("noise", noise),
            ("text", b"no audio".repeat(400)),
            ("empty", vec![]),
        ] {
            let name = format!("{kind} of {extension}.{extension}");
            fs::write(home.origin().join(&name), bytes).unwrap();
            names.push(name);
        }
    }
    let daemon = home.mount_scanned(&[]);
    let real = tree::real_paths(daemon.mount_point());
    for name in &names {
        let place = real.iter().find(|(_, real)| *real == name);
        let (place, _) = place.unwrap_or_else(|| panic!("{name} is not listed: {real:#?}"));
        let stem = name.rsplit_once('.').unwrap().0;
        assert!(place.contains(stem), "{name} is listed as {place}");
    }
    tree::assert_bytes_equal(daemon.mount_point(), &home.origin());
    // Asked again, it does not read again what has not changed: one warning in all.
    assert!(
        home.run(&["origin", "rescan", &home.origin_id()])
            .status
            .success()
    );
    let log = daemon.log();
    for name in &names {
        let warnings = log
            .lines()
            .filter(|line| line.contains(" WARN ") && line.contains(name));
        assert_eq!(warnings.count(), 1, "{name}: {log}");
    }
    daemon.stop_expecting(&["the tags cannot be read"]);
    let daemon = home.mount_scanned(&[]);
    daemon.stop();
}

#[test]
fn damaged_audio_stops_no_scan_and_reads_as_it_is() {
    let seed = knob("MUSICFS_SEED", 1);
    let copies = knob("MUSICFS_DAMAGED_COPIES", 20);
    let mut random = Random(seed);
    let home = Home::new();
    let sound = home.path("sound");
    corpus::write(&sound);
    fs::create_dir(home.origin()).unwrap();
    let mut count = 0;
    for (extension, bytes) in samples(&sound) {
        for number in 0..copies {
            let mut damaged = bytes.clone();
            if number % 2 == 0 {
                damaged.truncate(random.below(damaged.len()));
            } else {
                // Near the start is where tags and headers are.
                for _ in 0..=random.below(20) {
                    let at = random.below(damaged.len().min(4096));
                    damaged[at] ^= 1 << random.below(8);
                }
            }
            fs::write(home.origin().join(format!("{number}.{extension}")), damaged).unwrap();
            count += 1;
        }
    }
    println!("seed {seed}: {count} files");
    let daemon = home.mount_scanned(&[]);
    assert_eq!(
        tree::files(daemon.mount_point()).len(),
        count,
        "seed {seed}"
    );
    tree::assert_bytes_equal(daemon.mount_point(), &home.origin());
    daemon.stop_expecting(&["the tags cannot be read"]);
}

/// What a tag may say to get out of its place.
fn hostile_values() -> Vec<Vec<u8>> {
    let texts = [
        "..",
        ".",
        "/",
        "//",
        "../../etc",
        "/etc/passwd",
        "a/../../b",
        ".search",
        ".collections",
        "\0",
        "a\0b",
        "\n",
        "\u{202e}gnp",
        " ",
        "...",
        "~",
        "-rf",
        "CON",
        "nul.txt",
        "a:b?c*d|e<f>\"g\\",
        "\u{fffd}",
        "trailing. ",
        "\u{7f}\u{1b}[2J",
        "$artist",
        "%s%n",
        "\u{1f600}",
    ];
    let mut values: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    values.push(b"x".repeat(10 << 10));
    values.push("ü".repeat(5 << 10).into_bytes());
    values.push("/".repeat(10 << 10).into_bytes());
    values.push(b"\xff\xfe\xc0\x80".to_vec());
    values.push(b"half a letter \xe2\x82".to_vec());
    values
}

/// A FLAC file with comments that need not be UTF-8.
fn tagged(flac: &Flac, fields: &[(&str, &[u8])]) -> Vec<u8> {
    // The lengths are right for stand-ins of the same length, which the values then replace.
    let stand_in = |at: usize, len: usize| char::from(b'A' + at as u8).to_string().repeat(len);
    let comments: Vec<String> = fields
        .iter()
        .enumerate()
        .map(|(at, (name, value))| format!("{name}={}", stand_in(at, value.len())))
        .collect();
    let mut bytes = flac.tagged(&comments);
    for (comment, (name, value)) in comments.iter().zip(fields) {
        let found = bytes
            .windows(comment.len())
            .position(|part| part == comment.as_bytes());
        let at = found.unwrap() + name.len() + 1;
        bytes[at..at + value.len()].copy_from_slice(value);
    }
    bytes
}

#[test]
fn hostile_tags_stay_inside_one_name() {
    let home = Home::new();
    fs::create_dir(home.origin()).unwrap();
    let flac = Flac::encoded().unwrap();
    let values = hostile_values();
    for (number, value) in values.iter().enumerate() {
        let fields: [&[(&str, &[u8])]; 4] = [
            &[("ARTIST", value), ("ALBUM", b"Album"), ("TITLE", b"Title")],
            &[("ARTIST", b"Artist"), ("ALBUM", value), ("TITLE", b"Title")],
            &[("ARTIST", b"Artist"), ("ALBUM", b"Album"), ("TITLE", value)],
            &[
                ("ARTIST", value),
                ("ALBUM", value),
                ("TITLE", value),
                ("DATE", value),
            ],
        ];
        for (at, fields) in fields.iter().enumerate() {
            fs::write(
                home.origin().join(format!("{number}-{at}.flac")),
                tagged(&flac, fields),
            )
            .unwrap();
        }
    }
    for profile in ["posix", "windows", "fat"] {
        let args = [
            "--template",
            "$artist/$album/$title.$format",
            "--names",
            profile,
        ];
        let daemon = home.mount_scanned(&args);
        let show = || tree::real_paths(daemon.mount_point());
        musicfs_tests::wait_until("the tree of this profile", || {
            show().len() == values.len() * 4
                && show().keys().all(|path| path.matches('/').count() == 2)
        });
        for (path, real) in show() {
            for name in path.split('/') {
                assert!(!name.is_empty() && name.len() <= 255, "{real} is {path}");
                assert!(
                    !name.starts_with('.') && !name.contains('\0'),
                    "{real} is {path}"
                );
                assert!(!name.chars().any(char::is_control), "{real} is {path:?}");
            }
            assert!(path.ends_with(".flac"), "{real} is {path}");
        }
        tree::assert_bytes_equal(daemon.mount_point(), &home.origin());
        daemon.stop_expecting(&["the tags cannot be read"]);
    }
}
