//! Which bytes of a file tag readers touch: the header extents.
//!
//! The numbers were measured with real readers; the table is in `docs/tags.md`. They hold what
//! the readers ask for and what the kernel reads ahead of them (128 KiB, twice that once it takes
//! them for sequential).

use musicfs_core::extents::{Extents, to_blocks};
use musicfs_core::tags::{AudioLayout, Container};

use crate::layout::container_of;

const KIB: u64 = 1 << 10;

/// Up to here the metadata at the front is taken for one without pictures, which the floor covers.
const SMALL_FRONT_BYTES: u64 = 32 * KIB;

/// What readers take behind larger metadata: the first frames of audio, and the readahead.
const BEHIND_FRONT_BYTES: u64 = 260 * KIB;

/// What may be read before a trailing `moov`: readers step back from it.
const BEFORE_MOOV_BYTES: u64 = 64 * KIB;

/// The most that either end of a file adds: room for a picture of 32 MiB, the largest that is
/// read. A file that claims more metadata is lying or broken.
const END_BYTES_MAX: u64 = 33 << 20;

/// What an indexer fetches of a file's front at first: as much as all floors have.
const FIRST_FRONT_BYTES: u64 = 192 * KIB;

/// Whose reads the header extents have to cover.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HeaderProfile {
    /// Tag libraries and ffprobe, and the media servers that are built on them.
    #[default]
    Default,
    /// MPD too, whose input buffer reads ahead of its tag readers: 450 to 800 KiB more per file.
    Mpd,
}

impl HeaderProfile {
    /// Every profile.
    pub const ALL: [Self; 2] = [Self::Default, Self::Mpd];

    /// The name used in configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Mpd => "mpd",
        }
    }

    /// The profile of a name; `None` for any other text.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|profile| profile.as_str() == name)
    }
}

/// The bytes of a file of `size` bytes that tag readers touch, in whole blocks.
///
/// With these at hand a media server's full scan needs no other byte of the file. A wider profile
/// holds all of a narrower one.
pub fn header_extents(layout: &AudioLayout, size: u64, profile: HeaderProfile) -> Extents {
    let front = front_bytes(layout, profile).min(END_BYTES_MAX);
    let tail = size - tail_start(layout, size);
    let tail = size - tail.min(END_BYTES_MAX);
    let ends = [0..front, tail..size];
    ends.map(|end| to_blocks(end, size)).into_iter().collect()
}

/// What an indexer fetches in one or two requests before it knows a file's layout, in whole
/// blocks: enough for most files, and nothing that [`header_extents`] will not hold, unless the
/// `extension` (without the dot, in any case) is wrong.
pub fn first_extents(size: u64, extension: &str) -> Extents {
    let container = container_of(extension);
    let tail = match container {
        // Its tags stand at the front; the few bytes that some readers take of the end wait.
        Container::Flac => 0,
        container => tail_bytes_min(container),
    };
    let ends = [0..FIRST_FRONT_BYTES, size.saturating_sub(tail)..size];
    ends.map(|end| to_blocks(end, size)).into_iter().collect()
}

fn front_bytes(layout: &AudioLayout, profile: HeaderProfile) -> u64 {
    let metadata = layout.front_end;
    let is_small = metadata <= SMALL_FRONT_BYTES;
    let floor = floor_bytes(layout.container);
    let front = match is_small {
        true => floor,
        false => floor.max(metadata.saturating_add(BEHIND_FRONT_BYTES)),
    };
    match profile {
        HeaderProfile::Default => front,
        HeaderProfile::Mpd => {
            let ahead = mpd_ahead_bytes(layout.container);
            let metadata = if is_small { 0 } else { metadata };
            front.max(metadata.saturating_add(ahead))
        }
    }
}

/// How far MPD reads behind the metadata at the front: its input buffer runs 512 KiB ahead of its
/// tag reader, and the kernel ahead of that.
fn mpd_ahead_bytes(container: Container) -> u64 {
    match container {
        Container::Flac | Container::Mpeg => 768 * KIB,
        // Read through ffmpeg or libvorbis, which go on into the audio.
        Container::Mp4 | Container::Ogg | Container::Iff | Container::Other => 1024 * KIB,
    }
}

/// What is read of the front of a file with little metadata: the first frames of audio.
fn floor_bytes(container: Container) -> u64 {
    match container {
        // ffprobe decodes ten frames, of up to 13 KiB each for a CD.
        Container::Flac => 320 * KIB,
        Container::Mpeg | Container::Ogg | Container::Other => 192 * KIB,
        Container::Mp4 => 256 * KIB,
        Container::Iff => 448 * KIB,
    }
}

/// Where the part starts that is read of the file's end.
fn tail_start(layout: &AudioLayout, size: u64) -> u64 {
    let least = size.saturating_sub(tail_bytes_min(layout.container));
    let structure = match layout.container {
        Container::Mp4 if layout.tail_start < size => {
            layout.tail_start.saturating_sub(BEFORE_MOOV_BYTES)
        }
        _ => layout.tail_start,
    };
    structure.min(least)
}

/// What is read of the end of a file that has no structure there.
fn tail_bytes_min(container: Container) -> u64 {
    match container {
        // One page of memory: mutagen looks for an ID3v1 tag, others for one more chunk.
        Container::Flac | Container::Mp4 | Container::Iff => 4 * KIB,
        // ID3v1, APEv2 and Lyrics3 are looked for; an APEv2 tag that is there counts by itself.
        Container::Mpeg => 64 * KIB,
        // Two pages of the greatest size (65,307 bytes, RFC 3533 §6): the last one says the length,
        // and is searched for in steps.
        Container::Ogg => 128 * KIB,
        Container::Other => 68 * KIB,
    }
}

#[cfg(test)]
mod tests;
