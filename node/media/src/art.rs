//! Where embedded pictures lie in their files.
//!
//! Libraries hand out a picture's bytes but not their place, so they are searched for among the
//! bytes that were read. A place counts only if decoding it yields the picture.

use std::ops::Range;

use data_encoding::BASE64_NOPAD;
use memchr::memmem;
use musicfs_core::tags::{ArtEncoding, Artwork};

use crate::id3::resynchronise;
use crate::vorbis::{OggText, Page};
use crate::window::Window;

/// The most pictures that are kept of one file.
pub(crate) const PICTURES_MAX: usize = 64;

/// The largest picture that is kept.
const PICTURE_BYTES_MAX: usize = 32 << 20;

/// How many bytes of a picture are searched for: a multiple of three, for base64.
const NEEDLE_BYTES: usize = 96;

/// How many places that begin like a picture are compared with all of it: crafted pictures could
/// begin alike in very many.
const CANDIDATES_MAX: usize = 8;

/// The longest MIME type that is believed.
const MIME_BYTES_MAX: usize = 64;

/// A picture as a library hands it out.
pub(crate) struct Picture<'a> {
    pub(crate) kind: u8,
    pub(crate) mime: &'a str,
    pub(crate) data: &'a [u8],
}

/// Decodes the bytes of an artwork's range: what an image viewer would show.
///
/// Base64 encodes a structure that ends with the picture, so the last [`Artwork::size`] bytes of
/// what it decodes to are the picture. `None` if `encoded` is not what `artwork` describes.
pub fn decode_art(artwork: &Artwork, encoded: &[u8]) -> Option<Vec<u8>> {
    let size = usize::try_from(artwork.size).ok()?;
    let decoded = match artwork.encoding {
        ArtEncoding::Raw => encoded.to_vec(),
        ArtEncoding::Unsynchronised => resynchronise(encoded).into_owned(),
        ArtEncoding::Base64 => decode_base64(encoded)?,
        ArtEncoding::Base64InOggPages => decode_base64(&without_page_headers(encoded)?)?,
    };
    let start = decoded.len().checked_sub(size)?;
    Some(decoded[start..].to_vec())
}

/// Drops the Ogg page headers; base64 has no byte 0, so `OggS` and 0 is always one.
fn without_page_headers(encoded: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(encoded.len());
    let mut rest = encoded;
    while let Some(at) = memmem::find(rest, b"OggS\0") {
        text.extend_from_slice(&rest[..at]);
        rest = rest.get(at + Page::parse(&rest[at..])?.header_len..)?;
    }
    text.extend_from_slice(rest);
    Some(text)
}

/// Decodes base64 with or without its padding.
fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    let padding = text.iter().rev().take_while(|&&byte| byte == b'=').count();
    let text = &text[..text.len() - padding];
    let (whole, tail) = text.split_at(text.len() - text.len() % 4);
    let mut decoded = BASE64_NOPAD.decode(whole).ok()?;
    if tail.len() > 1 {
        // The bits of the last character that hold nothing may be anything.
        let filled = [tail, &b"AA"[..4 - tail.len()]].concat();
        let bytes = BASE64_NOPAD.decode(&filled).ok()?;
        decoded.extend_from_slice(&bytes[..tail.len() - 1]);
    }
    Some(decoded)
}

/// The places of `pictures` in what `window` has read, most likely in the order given. In an Ogg
/// stream, which starts at `ogg_base`, they lie in base64.
pub(crate) fn locate(
    window: &Window<'_>,
    pictures: &[Picture<'_>],
    ogg_base: Option<u64>,
) -> Vec<Artwork> {
    let mut text = None;
    let mut found: Vec<Artwork> = Vec::new();
    for picture in pictures.iter().take(PICTURES_MAX) {
        if picture.data.is_empty() || picture.data.len() > PICTURE_BYTES_MAX {
            continue;
        }
        let from = found.last().map_or(0, |last| last.range.end);
        let raw = match ogg_base {
            None => locate_raw(window, picture.data, from),
            Some(_) => None,
        };
        let place = raw.or_else(|| {
            let text = text.get_or_insert_with(|| text_of(window, ogg_base));
            locate_base64(text, picture.data, from)
        });
        found.extend(place.map(|(range, encoding)| Artwork {
            kind: if picture.kind > 20 { 0 } else { picture.kind },
            mime: mime_of(picture.data, picture.mime),
            size: picture.data.len() as u64,
            range,
            encoding,
        }));
    }
    found
}

/// What may hold base64: the headers of an Ogg stream, else the file's front.
fn text_of(window: &Window<'_>, ogg_base: Option<u64>) -> OggText {
    let (offset, front) = window.pieces().next().unwrap_or((0, &[]));
    match ogg_base {
        None => OggText::without_pages(front, offset),
        Some(base) => {
            let skip = usize::try_from(base.saturating_sub(offset)).unwrap_or(usize::MAX);
            OggText::parse(front.get(skip..).unwrap_or(&[]), base)
        }
    }
}

/// The place of `picture`, sooner behind offset `from` than before it.
fn locate_raw(window: &Window<'_>, picture: &[u8], from: u64) -> Option<(Range<u64>, ArtEncoding)> {
    let needle = memmem::Finder::new(&picture[..picture.len().min(NEEDLE_BYTES)]);
    let search = |from: u64| {
        window.pieces().find_map(|(offset, bytes)| {
            let skip = usize::try_from(from.saturating_sub(offset)).ok()?;
            let bytes = bytes.get(skip..)?;
            let at = needle
                .find_iter(bytes)
                .take(CANDIDATES_MAX)
                .find(|&at| bytes[at..].starts_with(picture))?;
            let start = offset + (skip + at) as u64;
            Some((start..start + picture.len() as u64, ArtEncoding::Raw))
        })
    };
    search(from).or_else(|| if from > 0 { search(0) } else { None })
}

fn locate_base64(text: &OggText, picture: &[u8], from: u64) -> Option<(Range<u64>, ArtEncoding)> {
    // The picture follows a header of any length, so it starts at any of the three places that
    // four characters have for a byte.
    let place = |from: usize| {
        let bytes = &text.bytes[from..];
        let place = (0..3).find_map(|lead| base64_place(bytes, picture, lead));
        place.map(|(start, end)| (from + start, from + end))
    };
    let (start, end) = match text.index_of(from) {
        0 => place(0),
        from => place(from).or_else(|| place(0)),
    }?;
    let range = text.offset_of(start)..text.offset_of(end - 1) + 1;
    let encoding = if range.end - range.start == (end - start) as u64 {
        ArtEncoding::Base64
    } else {
        ArtEncoding::Base64InOggPages
    };
    Some((range, encoding))
}

/// The base64 of `picture` in `text`, where `lead` bytes of something else share its first four
/// characters.
fn base64_place(text: &[u8], picture: &[u8], lead: usize) -> Option<(usize, usize)> {
    let skip = (3 - lead) % 3;
    let inner = picture.get(skip..)?;
    let inner = &inner[..inner.len().min(NEEDLE_BYTES) / 3 * 3];
    if inner.is_empty() {
        return None;
    }
    let needle = BASE64_NOPAD.encode(inner).into_bytes();
    let before = if skip > 0 { 4 } else { 0 };
    let chars = ((lead + picture.len()) * 4).div_ceil(3);
    memmem::find_iter(text, &needle)
        .take(CANDIDATES_MAX)
        .find_map(|at| {
            let start = at.checked_sub(before)?;
            let end = start + chars;
            let decoded = decode_base64(text.get(start..end)?)?;
            (decoded.get(lead..)? == picture).then_some((start, end))
        })
}

/// The MIME type of a picture: what its first bytes say, else what its tag says.
pub(crate) fn mime_of(picture: &[u8], told: &str) -> String {
    let known = match picture {
        [0xff, 0xd8, 0xff, ..] => "image/jpeg",
        [0x89, b'P', b'N', b'G', ..] => "image/png",
        [b'G', b'I', b'F', b'8', ..] => "image/gif",
        [b'B', b'M', ..] => "image/bmp",
        [b'I', b'I', 42, 0, ..] | [b'M', b'M', 0, 42, ..] => "image/tiff",
        [
            b'R',
            b'I',
            b'F',
            b'F',
            _,
            _,
            _,
            _,
            b'W',
            b'E',
            b'B',
            b'P',
            ..,
        ] => "image/webp",
        [
            _,
            _,
            _,
            _,
            b'f',
            b't',
            b'y',
            b'p',
            b'a',
            b'v',
            b'i',
            b'f',
            ..,
        ] => "image/avif",
        [0xff, 0x0a, ..] => "image/jxl",
        _ => "",
    };
    let told = told.trim();
    let believable = told.len() <= MIME_BYTES_MAX
        && told.contains('/')
        && told.bytes().all(|byte| byte.is_ascii_graphic());
    match (known, believable) {
        ("", true) => told.to_ascii_lowercase(),
        ("", false) => "application/octet-stream".to_owned(),
        (known, _) => known.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_found_behind_a_header_of_any_length() {
        let picture: Vec<u8> = (0..=255).cycle().take(1000).collect();
        for lead in 0..7 {
            let block = [&vec![7; lead], picture.as_slice()].concat();
            let text = [b"comment=", BASE64_NOPAD.encode(&block).as_bytes()].concat();
            let (start, end) = (0..3)
                .find_map(|lead| base64_place(&text, &picture, lead))
                .expect("the picture is in the text");
            let decoded = decode_base64(&text[start..end]).expect("the place holds base64");
            assert!(decoded.ends_with(&picture), "{lead}");
        }
    }

    #[test]
    fn mime_types_are_told_by_the_bytes() {
        assert_eq!(mime_of(b"\xff\xd8\xff\xe0", "image/png"), "image/jpeg");
        assert_eq!(mime_of(b"????", "Image/X-Foo"), "image/x-foo");
        assert_eq!(mime_of(b"????", "a\nb/c"), "application/octet-stream");
    }
}
