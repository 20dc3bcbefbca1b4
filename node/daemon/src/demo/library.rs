//! The demo's library: real audio with real tags in the disorder of a real disk.
//!
//! The same on every run, byte for byte: the tones are computed, nothing is drawn by lot.

mod audio;

use std::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use lofty::config::WriteOptions;
use lofty::ogg::OggPictureStorage;
use lofty::ogg::tag::VorbisComments;
use lofty::picture::{MimeType, Picture, PictureType};
use lofty::tag::TagExt;

use audio::Container;

/// A picture of 48 by 48 pixels: a companion file, and the art inside a track.
const COVER: &[u8] = include_bytes!("cover.jpg");

/// Words to a tune, beside the track that they belong to.
const LYRICS: &str = "[00:00.00]Rain on the roof\n[00:01.00]and nobody home\n";

/// Files that are no tracks: path and content.
const COMPANIONS: [(&str, &[u8]); 4] = [
    ("Incoming/from laptop/Harbour Lights/cover.jpg", COVER),
    (
        "Incoming/from laptop/Harbour Lights/rip.log",
        b"All tracks accurately ripped.\n",
    ),
    ("mp3s_old (2)/___sort me/tin_roof.lrc", LYRICS.as_bytes()),
    ("todo.txt", b"sort all of this\n"),
];

/// One track: where it lies and what it says about itself.
struct Track {
    /// The path in the library; its extension is its format.
    path: &'static str,
    /// Play time in tenths of a second.
    tenths: u32,
    /// Vorbis comments; the other formats get what they have of it.
    tags: &'static [(&'static str, &'static str)],
    /// The track carries its cover.
    has_art: bool,
}

const fn track(path: &'static str, tenths: u32, tags: &'static [(&str, &str)]) -> Track {
    Track {
        path,
        tenths,
        tags,
        has_art: false,
    }
}

/// Every track. No two sound the same, for each is tuned by its place in this list.
const TRACKS: [Track; 14] = [
    // An album on two discs, in directories that do not say so.
    Track {
        has_art: true,
        ..track(
            "Incoming/from laptop/Harbour Lights/01 arrival.flac",
            12,
            &[
                ("TITLE", "Arrival"),
                ("ARTIST", "Mara Lind"),
                ("ALBUMARTIST", "Mara Lind"),
                ("ALBUM", "Harbour Lights"),
                ("DATE", "1997-06-16"),
                ("GENRE", "Jazz"),
                ("TRACKNUMBER", "1"),
                ("DISCNUMBER", "1"),
                ("DISCTOTAL", "2"),
            ],
        )
    },
    track(
        "Incoming/from laptop/Harbour Lights/02 blue_hour.flac",
        20,
        &[
            ("TITLE", "Blue Hour"),
            ("ARTIST", "Mara Lind feat. Tomé"),
            ("ALBUMARTIST", "Mara Lind"),
            ("ALBUM", "Harbour Lights"),
            ("DATE", "1997-06-16"),
            ("GENRE", "Jazz"),
            ("TRACKNUMBER", "2"),
            ("DISCNUMBER", "1"),
            ("DISCTOTAL", "2"),
        ],
    ),
    track(
        "Incoming/HARBOUR~2/cd-two/track01.flac",
        15,
        &[
            ("TITLE", "Low Tide"),
            ("ARTIST", "Mara Lind"),
            ("ALBUMARTIST", "Mara Lind"),
            ("ALBUM", "Harbour Lights"),
            ("DATE", "1997"),
            ("GENRE", "Jazz"),
            ("TRACKNUMBER", "1"),
            ("DISCNUMBER", "2"),
            ("DISCTOTAL", "2"),
        ],
    ),
    track(
        "Incoming/HARBOUR~2/cd-two/track02.flac",
        10,
        &[
            ("TITLE", "Departure"),
            ("ARTIST", "Mara Lind"),
            ("ALBUMARTIST", "Mara Lind"),
            ("ALBUM", "Harbour Lights"),
            ("DATE", "1997"),
            ("GENRE", "Jazz"),
            ("TRACKNUMBER", "2"),
            ("DISCNUMBER", "2"),
            ("DISCTOTAL", "2"),
        ],
    ),
    // A compilation.
    track(
        "VA - Night Buses/a1.wav",
        10,
        &[
            ("TITLE", "Last Stop"),
            ("ARTIST", "Kestrel"),
            ("ALBUMARTIST", "Various Artists"),
            ("ALBUM", "Night Buses"),
            ("DATE", "2004"),
            ("GENRE", "Electronic"),
            ("TRACKNUMBER", "1/3"),
            ("COMPILATION", "1"),
        ],
    ),
    track(
        "VA - Night Buses/a2.wav",
        12,
        &[
            ("TITLE", "Sodium Light"),
            ("ARTIST", "The Quiet Ones"),
            ("ALBUMARTIST", "Various Artists"),
            ("ALBUM", "Night Buses"),
            ("DATE", "2004"),
            ("GENRE", "Electronic"),
            ("TRACKNUMBER", "2/3"),
            ("COMPILATION", "1"),
        ],
    ),
    track(
        "VA - Night Buses/b1.aiff",
        14,
        &[
            ("TITLE", "Depot"),
            ("ARTIST", "Sigrún Óladóttir"),
            ("ALBUMARTIST", "Various Artists"),
            ("ALBUM", "Night Buses"),
            ("DATE", "2004"),
            ("GENRE", "Electronic"),
            ("TRACKNUMBER", "3/3"),
            ("COMPILATION", "1"),
        ],
    ),
    // Two recordings that ask for one path.
    track(
        "backup 2011/rivers.aiff",
        15,
        &[
            ("TITLE", "Rivers"),
            ("ARTIST", "Kestrel"),
            ("ALBUM", "Maps"),
            ("DATE", "2009"),
            ("TRACKNUMBER", "4"),
        ],
    ),
    track(
        "backup 2011/Copy of backup/rivers.aiff",
        18,
        &[
            ("TITLE", "Rivers"),
            ("ARTIST", "Kestrel"),
            ("ALBUM", "Maps"),
            ("DATE", "2009"),
            ("TRACKNUMBER", "4"),
        ],
    ),
    // Tags that would lead out of their directory, if they were taken at their word.
    track(
        "odd/slashes.flac",
        10,
        &[
            ("TITLE", "AC/DC: Live?! <1/2>"),
            ("ARTIST", "../../etc"),
            ("ALBUM", ".."),
            ("TRACKNUMBER", "7"),
        ],
    ),
    // Tags in another script, and a name as macOS writes it.
    track(
        "odd/Næturljo\u{301}ð.flac",
        22,
        &[
            ("TITLE", "Næturljóð"),
            ("ARTIST", "Sigrún Óladóttir"),
            ("ALBUM", "夜の歌"),
            ("DATE", "2018-11"),
            ("GENRE", "Folk"),
            ("TRACKNUMBER", "1"),
        ],
    ),
    // Lyrics lie beside this one.
    track(
        "mp3s_old (2)/___sort me/tin_roof.flac",
        30,
        &[
            ("TITLE", "Tin Roof"),
            ("ARTIST", "The Quiet Ones"),
            ("ALBUM", "Weather"),
            ("DATE", "2001"),
            ("GENRE", "Folk"),
            ("TRACKNUMBER", "5"),
        ],
    ),
    // Only a title, and nothing at all.
    track(
        "mp3s_old (2)/demo tape.wav",
        10,
        &[("TITLE", "Untitled #3")],
    ),
    track("recordings/REC_0007.wav", 10, &[]),
];

/// Why the library could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LibraryError {
    /// The system refused.
    #[error("write {}", path.display())]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The encoder refused.
    #[error("encode {}", path.display())]
    Encode {
        /// The track.
        path: PathBuf,
        /// Why.
        source: audio::EncodeError,
    },
    /// The tags could not be written.
    #[error("tag {}", path.display())]
    Tag {
        /// The track.
        path: PathBuf,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
}

/// Writes the library into `dir`, which is made, and returns the paths of its tracks.
///
/// # Errors
/// [`LibraryError`] for the first file that could not be written.
pub(crate) fn write(dir: &Path) -> Result<Vec<PathBuf>, LibraryError> {
    for (path, content) in COMPANIONS {
        write_file(&dir.join(path), content)?;
    }
    let tracks = TRACKS.iter().zip(0..);
    tracks
        .map(|(track, tune)| write_track(dir, track, tune))
        .collect()
}

fn write_track(dir: &Path, track: &Track, tune: u32) -> Result<PathBuf, LibraryError> {
    let path = dir.join(track.path);
    let container = Container::of(&path);
    let samples = audio::tones(tune, track.tenths);
    let bytes = container
        .encode(&samples, track.tags)
        .map_err(|source| LibraryError::Encode {
            path: path.clone(),
            source,
        })?;
    write_file(&path, &bytes)?;
    if container == Container::Flac {
        tag_flac(&path, track).map_err(|source| LibraryError::Tag {
            path: path.clone(),
            source,
        })?;
    }
    Ok(path)
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), LibraryError> {
    let written = match path.parent() {
        Some(parent) => fs::create_dir_all(parent),
        None => Ok(()),
    };
    let written = written.and_then(|()| fs::write(path, bytes));
    written.map_err(|source| LibraryError::Write {
        path: path.to_owned(),
        source,
    })
}

fn tag_flac(path: &Path, track: &Track) -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut comments = VorbisComments::new();
    comments.set_vendor("MusicFS demo".into());
    for (key, value) in track.tags {
        comments.push((*key).into(), (*value).into());
    }
    if track.has_art {
        let picture = Picture::unchecked(COVER.to_vec())
            .pic_type(PictureType::CoverFront)
            .mime_type(MimeType::Jpeg)
            .build();
        comments.insert_picture(picture, None)?;
    }
    Ok(comments.save_to_path(path, WriteOptions::default())?)
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use lofty::file::{AudioFile, TaggedFileExt};
    use lofty::prelude::Accessor;

    use super::*;

    #[test]
    fn every_track_is_audio_that_others_read_with_its_tags() {
        let dir = tempfile::tempdir().unwrap();
        let paths = write(dir.path()).unwrap();
        assert_eq!(paths.len(), TRACKS.len());
        for (path, track) in paths.iter().zip(&TRACKS) {
            let file = lofty::read_from_path(path).unwrap();
            let expect = u128::from(track.tenths) * 100;
            let duration = file.properties().duration().as_millis();
            assert!(duration.abs_diff(expect) <= 1, "{path:?}: {duration} ms");
            assert_eq!(file.properties().sample_rate(), Some(44_100), "{path:?}");
            let value = |key: &str| {
                let pair = track.tags.iter().find(|(name, _)| *name == key);
                pair.map(|(_, value)| (*value).to_owned())
            };
            let tag = file.primary_tag();
            let title = tag.and_then(|tag| tag.title().map(Cow::into_owned));
            assert_eq!(title, value("TITLE"), "{path:?}");
            let album = tag.and_then(|tag| tag.album().map(Cow::into_owned));
            assert_eq!(album, value("ALBUM"), "{path:?}");
            let art = tag.map_or(0, |tag| tag.pictures().len());
            assert_eq!(art, usize::from(track.has_art), "{path:?}");
        }
        for (path, content) in COMPANIONS {
            assert_eq!(fs::read(dir.path().join(path)).unwrap(), content);
        }
    }

    #[test]
    fn two_runs_write_the_same_bytes_and_no_two_tracks_do() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let read = |dir: &Path| {
            let paths = write(dir).unwrap();
            paths.iter().map(|path| fs::read(path).unwrap()).collect()
        };
        let (one, two): (Vec<Vec<u8>>, Vec<Vec<u8>>) = (read(one.path()), read(two.path()));
        assert_eq!(one, two);
        let mut different = one.clone();
        different.sort();
        different.dedup();
        assert_eq!(different.len(), TRACKS.len());
    }
}
