//! A messy library, made once per process by the real encoders and copied for each test.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::sh;

/// The real paths of the library's audio files, and what is right about their place in the mount.
pub const TRACKS: [(&str, &str); 13] = [
    (
        "rock/alpha/01.flac",
        "Alpha/First (2001) [FLAC]/01 - One [*].flac",
    ),
    (
        "rock/alpha/two.flac",
        "Alpha/First (2001) [FLAC]/02 - Two.flac",
    ),
    (
        "rock/Duplicate of alpha/01 copy.flac",
        "Alpha/First (2001) [FLAC]/01 - One.flac",
    ),
    (
        "Ünïcode/beta/track.mp3",
        "Beta/Zweite (1999) [MP3]/04 - Süß.mp3",
    ),
    (
        "Ünïcode/beta/x/y/z/deep.ogg",
        "Gamma/Third [OGG]/01 - Deep.ogg",
    ),
    (
        "opus files/o.opus",
        "Delta/Fourth (2010) [OPUS]/02 - Opus.opus",
    ),
    ("itunes/a.m4a", "Epsilon/Fifth (2015) [M4A]/03 - Lossy.m4a"),
    (
        "itunes/b.m4a",
        "Epsilon/Fifth (2015) [M4A]/04 - Lossless.m4a",
    ),
    ("w/a v.wav", "Zeta/Sixth [WAV]/05 - Wave.wav"),
    ("w/i.aiff", "Eta/Seventh [AIFF]/06 - Aiff.aiff"),
    (
        "box/cd1.flac",
        "Theta/Box (1990) [FLAC]/Disc 1/01 - Side A.flac",
    ),
    (
        "box/cd2.flac",
        "Theta/Box (1990) [FLAC]/Disc 2/01 - Side B.flac",
    ),
    (
        "untagged/live at home.wav",
        "Unknown Artist/Unknown Album [WAV]/00 - live at home.wav",
    ),
];

/// The companions, with their places: one for each album that tracks of their directory are on.
pub const COMPANIONS: [(&str, &str); 7] = [
    (
        "rock/alpha/cover.jpg",
        "Alpha/First (2001) [FLAC]/cover.jpg",
    ),
    (
        "rock/alpha/two.lrc",
        "Alpha/First (2001) [FLAC]/02 - Two.lrc",
    ),
    ("rock/alpha/rip.log", "Alpha/First (2001) [FLAC]/rip.log"),
    (
        "box/folder.jpg",
        "Theta/Box (1990) [FLAC]/Disc 1/folder.jpg",
    ),
    (
        "box/folder.jpg",
        "Theta/Box (1990) [FLAC]/Disc 2/folder.jpg",
    ),
    ("w/booklet.pdf", "Zeta/Sixth [WAV]/booklet.pdf"),
    ("w/booklet.pdf", "Eta/Seventh [AIFF]/booklet.pdf"),
];

/// Copies the library to `target`, which must not exist.
///
/// # Panics
/// If an encoder fails or is missing: `tests/run.sh` installs them.
pub fn write(target: &Path) {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    let made = MADE.get_or_init(made);
    sh(&format!("cp -r --preserve=timestamps {made:?} {target:?}"));
}

/// The library in the build directory, where it stays until this file changes.
fn made() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let build = test.ancestors().find(|dir| dir.join("deps").is_dir());
    let parent = build.map_or_else(std::env::temp_dir, |dir| dir.join("../tmp"));
    fs::create_dir_all(&parent).unwrap();
    let version = blake3::hash(include_bytes!("corpus.rs")).to_hex();
    let path = parent.join(format!("musicfs-corpus-{}", &version[..16]));
    if !path.exists() {
        let dir = tempfile::tempdir_in(&parent).unwrap();
        let fresh = dir.path().join("corpus");
        make(&fresh);
        // Another process may have been quicker; its files are as good.
        if let Err(error) = fs::rename(&fresh, &path) {
            assert!(path.exists(), "{error}");
        }
    }
    path
}

fn make(dir: &Path) {
    for (real, _) in TRACKS.iter().chain(&COMPANIONS) {
        fs::create_dir_all(dir.join(real).parent().unwrap()).unwrap();
    }
    sh(&format!(
        "cd {dir:?}
        sox -n -r 44100 -b 16 -c 2 t.wav synth 4 pluck C3 gain -6
        sox -n -r 44100 -b 16 -c 2 s.wav synth 2 pluck E3 gain -6
        ffmpeg -loglevel error -f lavfi -i color=c=teal:s=64x64 -frames:v 1 rock/alpha/cover.jpg
        cp rock/alpha/cover.jpg box/folder.jpg
        printf '[00:01.00]la' > rock/alpha/two.lrc
        printf 'log' > rock/alpha/rip.log
        printf '%%PDF-1.4' > w/booklet.pdf
        fl() {{ o=$1; i=$2; shift 2; flac -s -f -o \"$o\" $(printf -- '--tag=%s ' \"$@\") $i; }}
        fl rock/alpha/01.flac t.wav ARTIST=Alpha ALBUM=First TITLE=One TRACKNUMBER=1 DATE=2001-02-03
        fl 'rock/Duplicate of alpha/01 copy.flac' s.wav ARTIST=Alpha ALBUM=First TITLE=One \
            TRACKNUMBER=1 DATE=2001
        flac -s -f -o rock/alpha/two.flac --tag=ARTIST=Alpha --tag=ALBUM=First --tag=TITLE=Two \
            --tag=TRACKNUMBER=2 --tag=DATE=2001 --picture=rock/alpha/cover.jpg t.wav
        lame --quiet --id3v2-utf16 --tt Süß --ta Beta --tl Zweite --ty 1999 --tn 4/9 t.wav \
            Ünïcode/beta/track.mp3
        oggenc -Q -t Deep -a Gamma -l Third -N 1 -o Ünïcode/beta/x/y/z/deep.ogg t.wav
        opusenc --quiet --title Opus --artist Delta --album Fourth --tracknumber 2 --date 2010 \
            t.wav 'opus files/o.opus'
        ff() {{ o=$1; shift; ffmpeg -loglevel error -i t.wav \"$@\" $o; }}
        ff itunes/a.m4a -c:a aac -metadata artist=Epsilon -metadata album=Fifth -metadata date=2015 \
            -metadata title=Lossy -metadata track=3/4
        ff itunes/b.m4a -c:a alac -metadata artist=Epsilon -metadata album=Fifth \
            -metadata date=2015 -metadata title=Lossless -metadata track=4/4
        ffmpeg -loglevel error -i t.wav -metadata artist=Zeta -metadata album=Sixth \
            -metadata title=Wave -metadata track=5 'w/a v.wav'
        ff w/i.aiff -write_id3v2 1 -metadata artist=Eta -metadata album=Seventh \
            -metadata title=Aiff -metadata track=6
        flac -s -f -o box/cd1.flac --tag=ARTIST=Theta --tag=ALBUM=Box --tag='TITLE=Side A' \
            --tag=TRACKNUMBER=1 --tag=DATE=1990 --tag=DISCNUMBER=1 t.wav
        flac -s -f -o box/cd2.flac --tag=ARTIST=Theta --tag=ALBUM=Box --tag='TITLE=Side B' \
            --tag=TRACKNUMBER=1 --tag=DATE=1990 --tag=DISCNUMBER=2 s.wav
        sox -n -r 8000 -b 16 -c 1 'untagged/live at home.wav' synth 1 sine 440
        rm t.wav s.wav"
    ));
}

/// True if `name` is what `pattern` means, where `[*]` stands for a suffix.
pub fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once("[*]") {
        None => pattern == name,
        Some((head, tail)) => name
            .strip_prefix(head)
            .and_then(|rest| rest.strip_suffix(tail))
            .is_some_and(|suffix| suffix.starts_with('[') && suffix.ends_with(']')),
    }
}

/// Different files of the library: tracks and companions.
pub fn files_count() -> usize {
    let all = TRACKS.iter().chain(&COMPANIONS).map(|(real, _)| real);
    all.collect::<std::collections::BTreeSet<_>>().len()
}
