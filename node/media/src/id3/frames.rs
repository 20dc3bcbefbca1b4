//! The frames of an ID3v2 tag, one by one.

use std::borrow::Cow;

use musicfs_core::tags::{ArtEncoding, Artwork};

use super::{resynchronise, syncsafe};
use crate::art::mime_of;
use crate::text::{clean, latin1, utf8, utf16};

/// The most frames that one tag keeps; real ones have fewer than two hundred.
const FRAMES_MAX: usize = 2048;

/// The names of ID3v2.2, sorted, with those that took their place.
const RENAMED: [(&[u8; 3], &[u8; 4]); 35] = [
    (b"COM", b"COMM"),
    (b"GP1", b"GRP1"),
    (b"PIC", b"APIC"),
    (b"TAL", b"TALB"),
    (b"TBP", b"TBPM"),
    (b"TCM", b"TCOM"),
    (b"TCO", b"TCON"),
    (b"TCP", b"TCMP"),
    (b"TEN", b"TENC"),
    (b"TKE", b"TKEY"),
    (b"TLA", b"TLAN"),
    (b"TMT", b"TMED"),
    (b"TOR", b"TORY"),
    (b"TP1", b"TPE1"),
    (b"TP2", b"TPE2"),
    (b"TP3", b"TPE3"),
    (b"TP4", b"TPE4"),
    (b"TPA", b"TPOS"),
    (b"TPB", b"TPUB"),
    (b"TRC", b"TSRC"),
    (b"TRK", b"TRCK"),
    (b"TS2", b"TSO2"),
    (b"TSA", b"TSOA"),
    (b"TSC", b"TSOC"),
    (b"TSP", b"TSOP"),
    (b"TST", b"TSOT"),
    (b"TT1", b"TIT1"),
    (b"TT2", b"TIT2"),
    (b"TT3", b"TIT3"),
    (b"TXT", b"TEXT"),
    (b"TXX", b"TXXX"),
    (b"TYE", b"TYER"),
    (b"UFI", b"UFID"),
    (b"ULT", b"USLT"),
    (b"WXX", b"WXXX"),
];

/// One frame with its content made readable.
pub(super) struct Frame<'a> {
    /// The name in ID3v2.3 and 2.4.
    pub(super) id: [u8; 4],
    /// The content without unsynchronisation.
    pub(super) data: Cow<'a, [u8]>,
    version: u8,
    place: Place<'a>,
}

/// Where a frame's content lies in its tag's body.
struct Place<'a> {
    /// The bytes as the file has them.
    raw: &'a [u8],
    /// Where `raw` starts in the body.
    raw_at: usize,
    /// Where the content starts in `raw` once that is resynchronised.
    content_at: usize,
    /// Whether `raw` is unsynchronised.
    unsynchronised: bool,
}

/// Name, size and flags of a frame.
struct FrameHeader {
    id: [u8; 4],
    size: usize,
    flags: u16,
    len: usize,
}

/// Walks over the frames of a tag's body.
pub(super) struct Frames<'a> {
    version: u8,
    /// The body as the file has it.
    raw: &'a [u8],
    /// The body, resynchronised if the tag as a whole is unsynchronised (ID3v2.2 and 2.3).
    body: &'a [u8],
    /// Every frame is unsynchronised (ID3v2.4).
    each_unsynchronised: bool,
    at: usize,
    count: usize,
}

impl<'a> Frames<'a> {
    pub(super) fn new(version: u8, flags: u8, raw: &'a [u8], body: &'a [u8]) -> Self {
        let extended = if version > 2 && flags & 0x40 != 0 {
            extended_header_len(version, body)
        } else {
            0
        };
        Self {
            version,
            raw,
            body,
            each_unsynchronised: version == 4 && flags & 0x80 != 0,
            at: extended,
            count: 0,
        }
    }

    fn header(&self) -> Option<FrameHeader> {
        let bytes = self.body.get(self.at..)?;
        if self.version == 2 {
            let [a, b, c, size @ ..] = bytes.first_chunk::<6>()?;
            let id = [*a, *b, *c];
            let at = RENAMED.binary_search_by(|(old, _)| (*old).cmp(&id));
            return is_name(&id).then(|| FrameHeader {
                id: at.map_or([0; 4], |at| *RENAMED[at].1),
                size: size
                    .iter()
                    .fold(0, |all, &byte| all << 8 | usize::from(byte)),
                flags: 0,
                len: 6,
            });
        }
        let [a, b, c, d, s0, s1, s2, s3, f0, f1] = *bytes.first_chunk::<10>()?;
        let id = [a, b, c, d];
        let plain = u32::from_be_bytes([s0, s1, s2, s3]);
        let size = match syncsafe([s0, s1, s2, s3]) {
            Some(safe) if self.version == 4 && self.leads_on(safe, plain) => safe,
            _ => plain,
        };
        is_name(&id).then(|| FrameHeader {
            id,
            size: size as usize,
            flags: u16::from_be_bytes([f0, f1]),
            len: 10,
        })
    }

    /// Whether the size read as ID3v2.4 says leads to another frame, padding or the end, or the
    /// plain reading of old iTunes does not either.
    fn leads_on(&self, safe: u32, plain: u32) -> bool {
        let leads = |size: u32| {
            let next = self.at + 10 + size as usize;
            match self.body.get(next..) {
                Some(rest) => rest
                    .first_chunk::<4>()
                    .is_none_or(|id| is_name(id) || id[0] == 0),
                None => false,
            }
        };
        safe == plain || leads(safe) || !leads(plain)
    }

    /// The frame of `header` whose bytes lie at `start` of the body.
    fn frame(&self, header: &FrameHeader, start: usize, content: &'a [u8]) -> Option<Frame<'a>> {
        let (skip, unreadable, unsynchronised) = match self.version {
            3 => (
                usize::from(header.flags & 0x20 != 0),
                header.flags & 0xc0 != 0,
                false,
            ),
            4 => (
                usize::from(header.flags & 0x40 != 0) + 4 * usize::from(header.flags & 1 != 0),
                header.flags & 0x0c != 0,
                self.each_unsynchronised || header.flags & 2 != 0,
            ),
            _ => (0, false, false),
        };
        if unreadable {
            return None; // Compressed or encrypted: nobody writes such text.
        }
        let content = content.get(skip..)?;
        let whole_unsynchronised = self.raw.len() != self.body.len();
        let place = if whole_unsynchronised {
            Place {
                raw: self.raw,
                raw_at: 0,
                content_at: start + skip,
                unsynchronised: true,
            }
        } else {
            Place {
                raw: content,
                raw_at: start + skip,
                content_at: 0,
                unsynchronised,
            }
        };
        let data = if unsynchronised {
            resynchronise(content)
        } else {
            Cow::Borrowed(content)
        };
        Some(Frame {
            id: header.id,
            data,
            version: self.version,
            place,
        })
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Frame<'a>;

    fn next(&mut self) -> Option<Frame<'a>> {
        while self.count < FRAMES_MAX {
            self.count += 1;
            let header = self.header()?;
            let start = self.at + header.len;
            let end = start.saturating_add(header.size);
            self.at = end;
            let content = self.body.get(start..end)?;
            if let Some(frame) = self.frame(&header, start, content) {
                return Some(frame);
            }
        }
        None
    }
}

impl Frame<'_> {
    /// The picture of an `APIC` frame, in a tag whose body lies at `body_offset` of the file.
    pub(super) fn picture(&self, body_offset: u64) -> Option<Artwork> {
        let data = &*self.data;
        let (encoding, rest) = data.split_first()?;
        let (mime, rest) = if self.version == 2 {
            let (mime, rest) = rest.split_at_checked(3)?;
            (latin1(mime), rest)
        } else {
            let (mime, rest) = split_nul(rest, 1)?;
            (latin1(mime), rest)
        };
        let (kind, rest) = rest.split_first()?;
        let width = if matches!(encoding, 1 | 2) { 2 } else { 1 };
        let (_description, picture) = split_nul(rest, width)?;
        if picture.is_empty() || mime == "-->" {
            return None; // The second is a link.
        }
        let (range, encoding) = self.place.locate(data.len() - picture.len(), picture.len());
        Some(Artwork {
            kind: if *kind > 20 { 0 } else { *kind },
            mime: mime_of(picture, &mime),
            size: picture.len() as u64,
            range: body_offset + range.start as u64..body_offset + range.end as u64,
            encoding,
        })
    }
}

impl Place<'_> {
    /// Where `len` bytes from `at` of the content lie in the tag's body, and how.
    fn locate(&self, at: usize, len: usize) -> (std::ops::Range<usize>, ArtEncoding) {
        let first = self.content_at + at;
        let (start, end) = if self.unsynchronised {
            raw_range(self.raw, first, first + len)
        } else {
            (first, first + len)
        };
        let encoding = if end - start == len {
            ArtEncoding::Raw
        } else {
            ArtEncoding::Unsynchronised
        };
        (self.raw_at + start..self.raw_at + end, encoding)
    }
}

/// Where the bytes `first..end` of the resynchronised form lie in `raw`.
fn raw_range(raw: &[u8], first: usize, end: usize) -> (usize, usize) {
    let (mut plain, mut start, mut previous) = (0, raw.len(), 0);
    for (at, &byte) in raw.iter().enumerate() {
        if previous == 0xff && byte == 0 {
            previous = 0;
            continue;
        }
        previous = byte;
        if plain == first {
            start = at;
        }
        plain += 1;
        if plain == end {
            return (start, at + 1);
        }
    }
    (start, raw.len())
}

/// Texts of a frame: a byte for the encoding, then texts with a NUL between each two.
pub(super) fn texts(data: &[u8]) -> Vec<String> {
    let Some((encoding, text)) = data.split_first() else {
        return Vec::new();
    };
    let little = *encoding == 1 && text.starts_with(&[0xff, 0xfe]);
    let width = if matches!(encoding, 1 | 2) { 2 } else { 1 };
    let mut texts = Vec::new();
    let mut rest = Some(text);
    while let Some(text) = rest.filter(|_| texts.len() < 256) {
        let (one, behind) = match split_nul(text, width) {
            Some((one, behind)) => (one, Some(behind)),
            None => (text, None),
        };
        rest = behind;
        texts.push(match encoding {
            1 | 2 => utf16(one, little),
            3 => utf8(one),
            _ => latin1(one),
        });
    }
    while texts.last().is_some_and(|text| clean(text).is_none()) && texts.len() > 1 {
        texts.pop();
    }
    texts
}

/// Parts `bytes` at the first NUL of `width` bytes.
fn split_nul(bytes: &[u8], width: usize) -> Option<(&[u8], &[u8])> {
    let at = if width == 1 {
        memchr::memchr(0, bytes)?
    } else {
        bytes.chunks_exact(2).position(|pair| pair == [0, 0])? * 2
    };
    Some((&bytes[..at], &bytes[at + width..]))
}

/// Length of the extended header that starts `body` (ID3v2.3 §3.2, ID3v2.4 §3.2).
fn extended_header_len(version: u8, body: &[u8]) -> usize {
    let Some(&size) = body.first_chunk::<4>() else {
        return body.len();
    };
    match version {
        3 => 4 + u32::from_be_bytes(size) as usize,
        _ => syncsafe(size).map_or(body.len(), |size| size as usize),
    }
}

fn is_name(id: &[u8]) -> bool {
    id.iter()
        .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
}
