//! APEv2 tags, which end MP3, Monkey's Audio, WavPack and Musepack files.
//!
//! <https://wiki.hydrogenaud.io/index.php?title=APEv2_specification>

use musicfs_core::tags::Artwork;

use crate::art::mime_of;
use crate::fields::{Field, Fields};
use crate::names::field_of;
use crate::text::{latin1, utf8};

/// Length of the footer that ends a tag.
pub(crate) const FOOTER_LEN: usize = 32;

/// What headers and footers start with.
pub(crate) const MAGIC: &[u8] = b"APETAGEX";

/// The largest tag that is read.
const TAG_BYTES_MAX: u64 = 32 << 20;

/// The most items of one tag.
const ITEMS_MAX: usize = 1024;

/// Length of the items and the footer of the tag that ends `tail`, if one does.
pub(crate) fn tag_len(tail: &[u8]) -> Option<u64> {
    let footer = tail.last_chunk::<FOOTER_LEN>()?;
    if !footer.starts_with(MAGIC) {
        return None;
    }
    let size = u32::from_le_bytes([footer[12], footer[13], footer[14], footer[15]]);
    let size = u64::from(size);
    (FOOTER_LEN as u64..=TAG_BYTES_MAX)
        .contains(&size)
        .then_some(size)
}

/// Reads the items of `tag`, which lies at `offset` of the file.
pub(crate) fn parse(tag: &[u8], offset: u64, fields: &mut Fields, art: &mut Vec<Artwork>) {
    let mut own = Fields::default();
    let end = tag.len().saturating_sub(FOOTER_LEN);
    let mut at = 0;
    for _ in 0..ITEMS_MAX {
        let Some((size, flags, name, start)) = item(&tag[..end], at) else {
            break;
        };
        let Some(value) = tag[..end].get(start..start.saturating_add(size)) else {
            break;
        };
        at = start + size;
        match flags >> 1 & 3 {
            0 => take_text(name, &utf8(value), &mut own),
            1 => art.extend(picture(name, value, offset + start as u64)),
            _ => {}
        }
    }
    fields.merge_missing(own);
}

/// Size and flags of the value, the name, and where the value starts.
fn item(tag: &[u8], at: usize) -> Option<(usize, u32, &[u8], usize)> {
    let bytes = tag.get(at..)?;
    let [s0, s1, s2, s3, f0, f1, f2, f3] = *bytes.first_chunk()?;
    let name_len = memchr::memchr(0, bytes.get(8..)?)?;
    let size = u32::from_le_bytes([s0, s1, s2, s3]) as usize;
    let flags = u32::from_le_bytes([f0, f1, f2, f3]);
    Some((size, flags, &bytes[8..8 + name_len], at + 9 + name_len))
}

fn take_text(name: &[u8], value: &str, fields: &mut Fields) {
    match field_of(&latin1(name)) {
        Some(Field::Genre) => fields.push_genre(value),
        Some(field) => fields.push(field, value),
        None => {}
    }
}

/// `Cover Art (Front)` and `Cover Art (Back)`: a file name, NUL, and the picture.
fn picture(name: &[u8], value: &[u8], offset: u64) -> Option<Artwork> {
    let kind = match name.to_ascii_lowercase().as_slice() {
        b"cover art (front)" => 3,
        b"cover art (back)" => 4,
        name if name.starts_with(b"cover art") => 0,
        _ => return None,
    };
    let start = memchr::memchr(0, value)? + 1;
    let picture = value.get(start..).filter(|picture| !picture.is_empty())?;
    let offset = offset + start as u64;
    Some(Artwork {
        kind,
        mime: mime_of(picture, ""),
        size: picture.len() as u64,
        range: offset..offset + picture.len() as u64,
        encoding: musicfs_core::tags::ArtEncoding::Raw,
    })
}
