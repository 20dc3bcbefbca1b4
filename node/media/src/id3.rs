//! ID3v2.2 to 2.4 and ID3v1.
//!
//! Written here rather than taken from a library: in both candidates a tag of nested chapter
//! frames overflows the stack, which nothing can catch (`docs/tags.md`).

mod frames;

use std::borrow::Cow;

use lofty::id3::v1::GENRES;
use musicfs_core::tags::Artwork;

use crate::art::PICTURES_MAX;
use crate::fields::{Field, Fields};
use crate::names::field_of;
use crate::text::latin1;

use frames::{Frame, Frames, texts};

/// Length of the header at the start of a tag, and of the footer that may end it.
pub(crate) const HEADER_LEN: usize = 10;

/// The header of an ID3v2 tag (ID3v2.4 §3.1).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    version: u8,
    flags: u8,
    body_len: usize,
}

impl Header {
    /// Reads the header that starts `bytes`.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let header: &[u8; HEADER_LEN] = bytes.first_chunk()?;
        let [
            b'I',
            b'D',
            b'3',
            version @ 2..=4,
            revision,
            flags,
            size @ ..,
        ] = header
        else {
            return None;
        };
        Some(Self {
            version: *version,
            flags: *flags,
            body_len: syncsafe(*size).filter(|_| *revision != 0xff)? as usize,
        })
    }

    /// Length of the whole tag in bytes, with header and footer.
    pub(crate) fn tag_len(self) -> u64 {
        let has_footer = self.version == 4 && self.flags & 0x10 != 0;
        let ends = HEADER_LEN * (1 + usize::from(has_footer));
        self.body_len as u64 + ends as u64
    }
}

/// Four bytes of seven bits each; `None` if an eighth is set.
fn syncsafe(bytes: [u8; 4]) -> Option<u32> {
    let safe = bytes.iter().all(|byte| byte & 0x80 == 0);
    safe.then(|| {
        bytes
            .iter()
            .fold(0, |size, &byte| size << 7 | u32::from(byte))
    })
}

/// Takes the zeros out that unsynchronisation put behind each `FF` (ID3v2.4 §6.1).
pub(crate) fn resynchronise(bytes: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memmem::find(bytes, &[0xff, 0]).is_none() {
        return Cow::Borrowed(bytes);
    }
    let mut plain = Vec::with_capacity(bytes.len());
    let mut previous = 0;
    for &byte in bytes {
        if previous == 0xff && byte == 0 {
            previous = 0;
            continue;
        }
        plain.push(byte);
        previous = byte;
    }
    Cow::Owned(plain)
}

/// Reads the ID3v2 tag that starts `tag` and lies at `offset` of the file; whatever of it is
/// broken or cut off is left out.
pub(crate) fn parse_v2(tag: &[u8], offset: u64, fields: &mut Fields, art: &mut Vec<Artwork>) {
    let Some(header) = Header::parse(tag) else {
        return;
    };
    let body = &tag[HEADER_LEN..];
    let body = &body[..body.len().min(header.body_len)];
    let mut own = Fields::default();
    let mut day = None;
    let whole_unsynchronised = header.version < 4 && header.flags & 0x80 != 0;
    let plain = if whole_unsynchronised {
        resynchronise(body)
    } else {
        Cow::Borrowed(body)
    };
    for frame in Frames::new(header.version, header.flags, body, &plain) {
        match &frame.id {
            b"APIC" if art.len() >= PICTURES_MAX => {}
            b"APIC" => art.extend(frame.picture(offset + HEADER_LEN as u64)),
            b"TXXX" => take_user_text(&frame, &mut own),
            b"COMM" => take_comment(&frame, &mut own),
            b"UFID" => take_identifier(&frame, &mut own),
            b"TCON" => texts(&frame.data)
                .iter()
                .for_each(|text| own.push_genre(text)),
            b"TDAT" => day = texts(&frame.data).into_iter().next(),
            id => {
                let Some(field) = field_of_frame(id) else {
                    continue;
                };
                for text in texts(&frame.data) {
                    own.push(field, &text);
                }
            }
        }
    }
    if let Some(day) = day {
        own.complete_year(&day);
    }
    fields.merge_missing(own);
}

/// `TXXX`: a description, then the values.
fn take_user_text(frame: &Frame<'_>, fields: &mut Fields) {
    let texts = texts(&frame.data);
    let Some((description, values)) = texts.split_first() else {
        return;
    };
    let Some(field) = field_of(description) else {
        return;
    };
    for value in values {
        match field {
            Field::Genre => fields.push_genre(value),
            _ => fields.push(field, value),
        }
    }
}

/// `COMM`: the encoding, three letters of a language, a description, then the comment. Only the
/// one without a description is meant for people.
fn take_comment(frame: &Frame<'_>, fields: &mut Fields) {
    let [encoding, _, _, _, rest @ ..] = &*frame.data else {
        return;
    };
    let mut text = vec![*encoding];
    text.extend_from_slice(rest);
    if let [description, comment, ..] = texts(&text).as_slice()
        && description.is_empty()
    {
        fields.push(Field::More("comments"), comment);
    }
}

/// `UFID`: an owner, NUL, and what it calls the file.
fn take_identifier(frame: &Frame<'_>, fields: &mut Fields) {
    let owner = b"http://musicbrainz.org\0";
    if let Some(id) = frame.data.strip_prefix(owner.as_slice()) {
        fields.push(Field::MbRecording, &latin1(id));
    }
}

/// What a text frame says, by its name in ID3v2.3 and 2.4.
fn field_of_frame(id: &[u8; 4]) -> Option<Field> {
    Some(match id {
        b"TIT2" => Field::Title,
        b"TPE1" => Field::Artist,
        b"TALB" => Field::Album,
        b"TPE2" => Field::AlbumArtist,
        b"TDRC" => Field::Date,
        b"TYER" | b"TDRL" => Field::Year,
        b"TDOR" => Field::OriginalDate,
        b"TORY" => Field::OriginalYear,
        b"TRCK" => Field::Track,
        b"TPOS" => Field::Disc,
        b"TCMP" => Field::Compilation,
        b"TCOM" => Field::Composer,
        b"TPE3" => Field::More("conductor"),
        b"TPE4" => Field::More("remixer"),
        b"TIT1" | b"GRP1" => Field::More("grouping"),
        b"TIT3" => Field::More("subtitle"),
        b"TEXT" => Field::More("lyricist"),
        b"TPUB" => Field::More("label"),
        b"TBPM" => Field::More("bpm"),
        b"TKEY" => Field::More("initial_key"),
        b"TLAN" => Field::More("language"),
        b"TMED" => Field::More("media"),
        b"TMOO" => Field::More("mood"),
        b"TSRC" => Field::More("isrc"),
        b"TSST" => Field::More("disctitle"),
        b"TENC" => Field::More("encoder"),
        b"TSOP" => Field::More("artist_sort"),
        b"TSO2" => Field::More("albumartist_sort"),
        b"TSOA" => Field::More("album_sort"),
        b"TSOC" => Field::More("composer_sort"),
        b"TSOT" => Field::More("title_sort"),
        _ => return None,
    })
}

/// Length of an ID3v1 tag, which ends its file.
pub(crate) const V1_LEN: usize = 128;

/// Reads the ID3v1 tag that ends `tail`, if there is one.
pub(crate) fn parse_v1(tail: &[u8], fields: &mut Fields) {
    let Some([b'T', b'A', b'G', tag @ ..]) = tail.last_chunk::<V1_LEN>() else {
        return;
    };
    let mut own = Fields::default();
    let mut take = |field, bytes: &[u8]| {
        let text = latin1(bytes);
        own.push(field, text.split('\0').next().unwrap_or_default());
    };
    take(Field::Title, &tag[..30]);
    take(Field::Artist, &tag[30..60]);
    take(Field::Album, &tag[60..90]);
    take(Field::Year, &tag[90..94]);
    // ID3v1.1 ends the comment with a zero and the number of the track.
    let (comment, track) = match tag[122] {
        0 => (&tag[94..122], tag[123]),
        _ => (&tag[94..124], 0),
    };
    take(Field::More("comments"), comment);
    if track > 0 {
        own.push(Field::Track, &track.to_string());
    }
    if let Some(genre) = GENRES.get(usize::from(tag[124])) {
        own.push(Field::Genre, genre);
    }
    fields.merge_missing(own);
}

#[cfg(test)]
mod tests;
