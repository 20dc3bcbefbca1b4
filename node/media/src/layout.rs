//! How the bytes of a file are arranged, told from what its tags were read from.
//!
//! Nothing here fails a file whose tags were read: where its structure is broken or a limit is
//! reached, the layout is what was seen until then. Headers that no tag reader fetched cost a
//! small read each, at most [`ATOMS_BEHIND_AUDIO_MAX`] and usually none.

use musicfs_core::tags::{AudioLayout, Container};

use crate::ExtractError;
use crate::vorbis::Page;
use crate::window::Window;

/// The most metadata blocks of a FLAC file; honest ones have fewer than twenty.
const BLOCKS_MAX: usize = 128;

/// The most pages of Ogg headers: 48 MiB in pages of 4 KiB, which is how libogg cuts them.
const PAGES_MAX: usize = 12 << 10;

/// A page's header with the longest table of segments (RFC 3533 §6).
const PAGE_HEADER_BYTES_MAX: u64 = 27 + 255;

/// The most atoms of an MP4 file before its audio.
const ATOMS_MAX: usize = 32;

/// The most atoms behind the audio that are looked at.
const ATOMS_BEHIND_AUDIO_MAX: usize = 4;

/// The layout to go by when [`crate::extract`] found nothing to read in a file of `size` bytes:
/// its container as the extension (without the dot, in any case) has it, no metadata at its ends.
pub fn fallback_layout(size: u64, extension: &str) -> AudioLayout {
    AudioLayout {
        container: container_of(extension),
        front_end: 0,
        tail_start: size,
    }
}

/// The container that files with `extension` usually are.
pub(crate) fn container_of(extension: &str) -> Container {
    match extension.to_ascii_lowercase().as_str() {
        "fla" | "flac" => Container::Flac,
        "aac" | "mp1" | "mp2" | "mp3" | "mpga" => Container::Mpeg,
        "m4a" | "m4b" | "m4p" | "m4r" | "mp4" => Container::Mp4,
        "oga" | "ogg" | "opus" => Container::Ogg,
        "aif" | "aifc" | "aiff" | "wav" | "wave" => Container::Iff,
        _ => Container::Other,
    }
}

/// A layout whose parts lie in the file and in order, whatever the file says.
pub(crate) fn within(
    window: &Window<'_>,
    container: Container,
    front_end: u64,
    tail_start: u64,
) -> AudioLayout {
    let size = window.file_len();
    let front_end = front_end.min(size);
    AudioLayout {
        container,
        front_end,
        tail_start: tail_start.clamp(front_end, size),
    }
}

/// Walks the metadata blocks (RFC 9639 §8.1) behind `fLaC`, which lies at `base`.
pub(crate) fn of_flac(window: &mut Window<'_>, base: u64) -> Result<AudioLayout, ExtractError> {
    let mut at = base + 4;
    for _ in 0..BLOCKS_MAX {
        let Some(&[kind, high, middle, low]) = peek(window, at, 4)?.first_chunk::<4>() else {
            break;
        };
        at += 4 + u64::from(u32::from_be_bytes([0, high, middle, low]));
        if kind & 0x80 != 0 {
            break;
        }
    }
    Ok(within(window, Container::Flac, at, u64::MAX))
}

/// Walks the pages at `base` until `packets` of the first stream have ended: its headers.
pub(crate) fn of_ogg(
    window: &mut Window<'_>,
    base: u64,
    packets: usize,
) -> Result<AudioLayout, ExtractError> {
    let (mut at, mut ended, mut serial) = (base, 0, None);
    for _ in 0..PAGES_MAX {
        let Some(page) = Page::parse(peek(window, at, PAGE_HEADER_BYTES_MAX)?) else {
            break;
        };
        at += (page.header_len + page.content_len) as u64;
        // Pages of other streams may lie between.
        if *serial.get_or_insert(page.serial) == page.serial {
            ended += page.packets_ended;
        }
        if ended >= packets {
            break;
        }
    }
    Ok(within(window, Container::Ogg, at, u64::MAX))
}

/// Walks the atoms (ISO 14496-12 §4.2) at `base`: what lies before the audio, and what behind it.
pub(crate) fn of_mp4(window: &mut Window<'_>, base: u64) -> Result<AudioLayout, ExtractError> {
    let mut at = base;
    let mut front_end = base;
    for _ in 0..ATOMS_MAX {
        let Some(atom) = Atom::parse(peek(window, at, Atom::HEADER_BYTES_MAX)?) else {
            break;
        };
        // The audio itself, and the map of one of its fragments.
        let is_audio = matches!(&atom.kind, b"mdat" | b"moof");
        if is_audio {
            front_end = at + atom.header_len;
        } else if &atom.kind == b"moov" {
            front_end = atom.end(at);
        }
        at = atom.end(at);
        if is_audio {
            break;
        }
    }
    let tail_start = behind_audio(window, at)?;
    Ok(within(window, Container::Mp4, front_end, tail_start))
}

/// Where the atoms that are no audio start; `at` is the end of the first that is.
fn behind_audio(window: &mut Window<'_>, mut at: u64) -> Result<u64, ExtractError> {
    let mut tail_start = None;
    for _ in 0..ATOMS_BEHIND_AUDIO_MAX {
        let Some(atom) = Atom::parse(peek(window, at, Atom::HEADER_BYTES_MAX)?) else {
            break;
        };
        match &atom.kind {
            // In fragments to the end: they hold no tags.
            b"moof" => return Ok(u64::MAX),
            b"mdat" => tail_start = None,
            b"moov" => return Ok(tail_start.unwrap_or(at)),
            _ => tail_start = tail_start.or(Some(at)),
        }
        at = atom.end(at);
    }
    Ok(tail_start.unwrap_or(u64::MAX))
}

/// The header of an MP4 atom.
struct Atom {
    kind: [u8; 4],
    header_len: u64,
    /// Of header and content; `None` for one that goes on to the file's end.
    len: Option<u64>,
}

impl Atom {
    /// Length, kind, and the length again if it takes 64 bits.
    const HEADER_BYTES_MAX: u64 = 16;

    fn parse(bytes: &[u8]) -> Option<Self> {
        let &[s0, s1, s2, s3, ref kind @ ..] = bytes.first_chunk::<8>()?;
        let (header_len, len) = match u32::from_be_bytes([s0, s1, s2, s3]) {
            0 => (8, None),
            1 => {
                let long = bytes.get(8..)?.first_chunk()?;
                (16, Some(u64::from_be_bytes(*long)))
            }
            len => (8, Some(u64::from(len))),
        };
        (len.is_none_or(|len| len >= header_len)).then_some(Self {
            kind: *kind,
            header_len,
            len,
        })
    }

    /// Where the atom at `at` ends.
    fn end(&self, at: u64) -> u64 {
        self.len.map_or(u64::MAX, |len| at.saturating_add(len))
    }
}

/// Up to `len` bytes at `at`; none behind the file's end and none that a limit forbids.
fn peek<'a>(window: &'a mut Window<'_>, at: u64, len: u64) -> Result<&'a [u8], ExtractError> {
    match window.bytes(at..at.saturating_add(len)) {
        Err(error @ ExtractError::Io { .. }) => Err(error),
        Err(_) => Ok(&[]),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::RangedRead;

    struct Memory(Vec<u8>);

    impl RangedRead for Memory {
        fn len(&self) -> u64 {
            self.0.len() as u64
        }

        fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
            let start = offset as usize;
            buf.copy_from_slice(&self.0[start..start + buf.len()]);
            Ok(buf.len())
        }
    }

    type Walk = fn(&mut Window<'_>, u64) -> Result<AudioLayout, ExtractError>;

    fn check(walk: Walk, bytes: Vec<u8>, base: u64, expect: (u64, u64)) {
        let mut source = Memory(bytes);
        let layout = walk(&mut Window::new(&mut source), base).unwrap();
        assert_eq!((layout.front_end, layout.tail_start), expect);
    }

    /// Atoms of eight bytes of header and `len` of content.
    fn atoms(atoms: &[(&[u8; 4], u32)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (kind, len) in atoms {
            bytes.extend((len + 8).to_be_bytes());
            bytes.extend(*kind);
            bytes.resize(bytes.len() + *len as usize, 0);
        }
        bytes
    }

    #[test]
    fn atoms_before_and_behind_the_audio_are_told_apart() {
        let check = |list: &[(&[u8; 4], u32)], expect| check(of_mp4, atoms(list), 0, expect);
        check(&[(b"ftyp", 8), (b"moov", 100), (b"mdat", 500)], (132, 632));
        check(
            &[(b"ftyp", 8), (b"moov", 92), (b"free", 50), (b"mdat", 500)],
            (182, 682),
        );
        check(&[(b"ftyp", 8), (b"mdat", 500), (b"moov", 100)], (24, 524));
        check(
            &[(b"ftyp", 8), (b"mdat", 500), (b"free", 92), (b"moov", 100)],
            (24, 524),
        );
        check(
            &[(b"ftyp", 8), (b"mdat", 92), (b"mdat", 92), (b"moov", 100)],
            (24, 216),
        );
        check(
            &[(b"ftyp", 8), (b"moov", 92), (b"mdat", 92), (b"udta", 9)],
            (124, 216),
        );
        // Fragments have no tail.
        let fragments = [(b"ftyp", 8), (b"moov", 92), (b"moof", 92), (b"mdat", 100)];
        check(&fragments, (124, 324));
        let twice = [&fragments[..], &fragments[2..]].concat();
        check(&twice, (124, 532));
        check(&[(b"ftyp", 8), (b"moov", 92)], (116, 116));
        check(&[], (0, 0));
    }

    #[test]
    fn atoms_may_be_long_or_endless_or_lie() {
        let long = |len: u64| [&[0, 0, 0, 1][..], b"mdat", &len.to_be_bytes(), &[0; 84]].concat();
        check(
            of_mp4,
            [long(100), atoms(&[(b"moov", 8)])].concat(),
            0,
            (16, 100),
        );
        check(of_mp4, long(u64::MAX), 0, (16, 100));
        check(of_mp4, long(3), 0, (0, 100));
        check(
            of_mp4,
            [&[0; 4][..], b"mdat", &[7; 92]].concat(),
            0,
            (8, 100),
        );
        check(
            of_mp4,
            [&[0, 0, 0, 7][..], b"moov", &[7; 92]].concat(),
            0,
            (0, 100),
        );
        check(
            of_mp4,
            [vec![9; 50], atoms(&[(b"mdat", 92)])].concat(),
            50,
            (58, 150),
        );
    }

    #[test]
    fn flac_ends_its_front_with_the_last_block() {
        let block =
            |kind: u8, len: u8| [&[kind, 0, 0, len][..], &vec![0; usize::from(len)]].concat();
        let file = [
            b"fLaC".to_vec(),
            block(0, 34),
            block(0x84, 40),
            vec![0xff; 200],
        ]
        .concat();
        check(of_flac, file.clone(), 0, (86, 286));
        check(of_flac, [vec![0; 10], file].concat(), 10, (96, 296));
        // A block that goes on behind the end.
        check(of_flac, b"fLaC\x84\xff\xff\xff".to_vec(), 0, (8, 8));
        check(of_flac, b"fLaC".to_vec(), 0, (4, 4));
    }

    #[test]
    fn ogg_ends_its_front_with_the_page_of_the_last_header() {
        let page = |serial: u8, segments: &[u8]| {
            let mut page = b"OggS\0\0".to_vec();
            page.resize(14, 0);
            page.extend([serial, 0, 0, 0]);
            page.resize(26, 0);
            page.push(segments.len() as u8);
            page.extend(segments);
            page.resize(
                page.len() + segments.iter().map(|&len| usize::from(len)).sum::<usize>(),
                0,
            );
            page
        };
        let pages = [
            page(1, &[30]),
            page(2, &[30]),
            page(1, &[255, 255]),
            page(1, &[10, 40]),
            page(1, &[100]),
        ];
        let ends: Vec<u64> = pages
            .iter()
            .scan(0, |at, page| {
                *at += page.len() as u64;
                Some(*at)
            })
            .collect();
        let size = ends[4];
        let check = |packets, expect| {
            let mut source = Memory(pages.concat());
            let layout = of_ogg(&mut Window::new(&mut source), 0, packets).unwrap();
            assert_eq!((layout.front_end, layout.tail_start), expect);
        };
        check(2, (ends[3], size));
        check(3, (ends[3], size));
        check(4, (size, size));
        check(9, (size, size));
    }

    #[test]
    fn every_audio_extension_has_a_container() {
        let check = |extension, expect| {
            let layout = fallback_layout(1000, extension);
            assert_eq!(layout.container, expect, "{extension}");
            assert_eq!((layout.front_end, layout.tail_start), (0, 1000));
        };
        check("FLAC", Container::Flac);
        check("mp3", Container::Mpeg);
        check("aac", Container::Mpeg);
        check("m4b", Container::Mp4);
        check("opus", Container::Ogg);
        check("Wav", Container::Iff);
        check("aiff", Container::Iff);
        check("wv", Container::Other);
        check("", Container::Other);
    }
}
