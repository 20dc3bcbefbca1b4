//! Large libraries of small files: one FLAC of the real encoder, with tags of its own in each copy.

use std::fs;
use std::io;
use std::path::Path;

use crate::sh;

/// Tracks on each album.
pub const TRACKS_PER_ALBUM: usize = 12;

/// Writes `count` tracks under `dir`, which is made: twelve on an album, five albums an artist.
///
/// # Errors
/// What the disk says.
///
/// # Panics
/// If the encoder is missing.
pub fn make_library(dir: &Path, count: usize) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let template = Flac::encoded()?;
    for number in 0..count {
        let (album, track) = (number / TRACKS_PER_ALBUM, number % TRACKS_PER_ALBUM + 1);
        let artist = album / 5;
        let folder = dir.join(format!("{:02}/artist {artist}/album {album}", artist % 100));
        if track == 1 {
            fs::create_dir_all(&folder)?;
        }
        let tags = [
            format!("ARTIST=Artist {artist:06}"),
            format!("ALBUM=Album {album:06}"),
            format!("TITLE=Track {number}"),
            format!("TRACKNUMBER={track}"),
            format!("DATE={}", 1970 + album % 50),
        ];
        fs::write(
            folder.join(format!("{track:02}.flac")),
            template.tagged(&tags),
        )?;
    }
    Ok(())
}

/// A FLAC file taken apart: what stands before its comments, and its audio.
pub struct Flac {
    stream_info: Vec<u8>,
    audio: Vec<u8>,
}

impl Flac {
    /// A tenth of a second, encoded by flac.
    ///
    /// # Errors
    /// What the disk says.
    ///
    /// # Panics
    /// If sox or flac is missing.
    pub fn encoded() -> io::Result<Self> {
        let work = tempfile::tempdir()?;
        sh(&format!(
            "cd {:?}; sox -n -r 44100 -b 16 -c 2 t.wav synth 0.1 pluck C3 gain -6
             flac -s -f --no-padding -o t.flac t.wav",
            work.path()
        ));
        let bytes = fs::read(work.path().join("t.flac"))?;
        // "fLaC", then metadata blocks: a byte with the last-block flag and the type, three bytes
        // with the length (RFC 9639 §8.1). The first is STREAMINFO, of 34 bytes.
        let mut at = 4;
        loop {
            let len = usize::from(bytes[at + 1]) << 16
                | usize::from(bytes[at + 2]) << 8
                | usize::from(bytes[at + 3]);
            let is_last = bytes[at] & 0x80 != 0;
            at += 4 + len;
            if is_last {
                break;
            }
        }
        Ok(Self {
            stream_info: bytes[8..42].to_vec(),
            audio: bytes[at..].to_vec(),
        })
    }

    /// The file with these Vorbis comments.
    pub fn tagged(&self, comments: &[String]) -> Vec<u8> {
        let mut block = Vec::new();
        let mut text = |text: &[u8]| {
            block.extend(u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
            block.extend(text);
        };
        text(b"musicfs-tests");
        let count = u32::try_from(comments.len()).unwrap_or(u32::MAX);
        let mut lines = Vec::new();
        for comment in comments {
            lines.extend(
                u32::try_from(comment.len())
                    .unwrap_or(u32::MAX)
                    .to_le_bytes(),
            );
            lines.extend(comment.as_bytes());
        }
        block.extend(count.to_le_bytes());
        block.extend(lines);
        let len = u32::try_from(block.len()).unwrap_or(u32::MAX).to_be_bytes();
        [
            b"fLaC\x00\x00\x00\x22",
            &self.stream_info[..],
            &[0x84],
            &len[1..],
            &block,
            &self.audio,
        ]
        .concat()
    }
}
