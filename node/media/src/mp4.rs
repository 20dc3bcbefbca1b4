//! The fields of MP4's `ilst`.

use lofty::mp4::{Atom, AtomData, AtomIdent, Ilst};
use lofty::picture::Picture;

use crate::fields::{Field, Fields};
use crate::names::field_of;

/// The fields and pictures of `ilst`.
pub(crate) fn read(ilst: &Ilst) -> (Fields, Vec<&Picture>) {
    let mut fields = Fields::default();
    let mut pictures = Vec::new();
    for atom in ilst {
        match atom.ident() {
            AtomIdent::Fourcc([b'c', b'o', b'v', b'r']) => {
                pictures.extend(atom.data().filter_map(picture));
            }
            AtomIdent::Fourcc([b't', b'r', b'k', b'n']) => {
                take_pair(atom, Field::Track, Field::TrackTotal, &mut fields);
            }
            AtomIdent::Fourcc([b'd', b'i', b's', b'k']) => {
                take_pair(atom, Field::Disc, Field::DiscTotal, &mut fields);
            }
            AtomIdent::Fourcc(name) => take_texts(atom, field_of_atom(name), &mut fields),
            AtomIdent::Freeform { name, .. } => take_texts(atom, field_of(name), &mut fields),
        }
    }
    (fields, pictures)
}

fn picture(data: &AtomData) -> Option<&Picture> {
    match data {
        AtomData::Picture(picture) => Some(picture),
        _ => None,
    }
}

fn take_texts(atom: &Atom<'_>, field: Option<Field>, fields: &mut Fields) {
    let Some(field) = field else { return };
    for data in atom.data() {
        match data {
            AtomData::UTF8(text) | AtomData::UTF16(text) => fields.push(field, text),
            AtomData::SignedInteger(number) => fields.push(field, &number.to_string()),
            AtomData::UnsignedInteger(number) => fields.push(field, &number.to_string()),
            AtomData::Bool(flag) => fields.push(field, if *flag { "1" } else { "0" }),
            AtomData::Unknown { data, .. } => {
                if let Ok(text) = str::from_utf8(data) {
                    fields.push(field, text);
                }
            }
            AtomData::Picture(_) => {}
        }
    }
}

/// `trkn` and `disk`: two bytes of nothing, the number, the total.
fn take_pair(atom: &Atom<'_>, number: Field, total: Field, fields: &mut Fields) {
    for data in atom.data() {
        if let AtomData::Unknown { data, .. } = data
            && let Some(&[_, _, n0, n1, t0, t1]) = data.first_chunk::<6>()
        {
            fields.push(number, &u16::from_be_bytes([n0, n1]).to_string());
            fields.push(total, &u16::from_be_bytes([t0, t1]).to_string());
        }
    }
}

fn field_of_atom(name: &[u8; 4]) -> Option<Field> {
    Some(match name {
        b"\xa9nam" => Field::Title,
        b"\xa9ART" => Field::Artist,
        b"\xa9alb" => Field::Album,
        b"aART" => Field::AlbumArtist,
        b"\xa9gen" => Field::Genre,
        b"\xa9day" => Field::Date,
        b"cpil" => Field::Compilation,
        b"\xa9wrt" => Field::Composer,
        b"\xa9grp" => Field::More("grouping"),
        b"\xa9cmt" => Field::More("comments"),
        b"tmpo" => Field::More("bpm"),
        b"\xa9too" => Field::More("encoder"),
        b"\xa9wrk" => Field::More("work"),
        b"soar" => Field::More("artist_sort"),
        b"soaa" => Field::More("albumartist_sort"),
        b"soal" => Field::More("album_sort"),
        b"soco" => Field::More("composer_sort"),
        b"sonm" => Field::More("title_sort"),
        _ => return None,
    })
}
