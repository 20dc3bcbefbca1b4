//! What a listing says of one object: its key, and whether it can be read.

use std::borrow::Cow;

use aws_sdk_s3::types::{Object, ObjectStorageClass};

use musicfs_core::origin::ListedFile;
use musicfs_core::version::{ContentVersion, Validator};

/// The longest entity tag believed: an MD5 with a count of parts has 38, other schemes up to 100.
const TAG_LEN_MAX: usize = 256;

/// Why an object is left out of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// It lies in an archive: reading it would first need a restore.
    Archived,
    /// Nothing tells one version of it from the next, or how long it is.
    Unversioned,
    /// Its key is no path, or no text.
    Odd,
}

/// The file that an object is, under `name`.
pub(super) fn to_file(object: &Object, name: &[u8]) -> Result<ListedFile, Unreadable> {
    use ObjectStorageClass::{DeepArchive, Glacier};
    if let Some(Glacier | DeepArchive) = object.storage_class() {
        return Err(Unreadable::Archived);
    }
    let tag = object.e_tag().and_then(plain_tag);
    let size = object.size().and_then(|size| u64::try_from(size).ok());
    let (Some(tag), Some(size)) = (tag, size) else {
        return Err(Unreadable::Unversioned);
    };
    let modified = object.last_modified();
    Ok(ListedFile {
        name: name.to_vec(),
        version: ContentVersion {
            size,
            validator: Validator::ETag(tag.into()),
        },
        mtime_ns: modified.map_or(0, |time| i64::try_from(time.as_nanos()).unwrap_or(0)),
        mode: 0o444,
        identity: None,
    })
}

/// An entity tag without its quotes and without the prefix of a weak one (RFC 9110 §8.8.3); `None`
/// if it could not be sent back.
pub(super) fn plain_tag(tag: &str) -> Option<&str> {
    let tag = tag.strip_prefix("W/").unwrap_or(tag);
    let tag = tag
        .strip_prefix('"')
        .and_then(|tag| tag.strip_suffix('"'))
        .unwrap_or(tag);
    let fits = (1..=TAG_LEN_MAX).contains(&tag.len());
    let legal = |byte: u8| byte.is_ascii_graphic() && byte != b'"';
    (fits && tag.bytes().all(legal)).then_some(tag)
}

/// Decodes a key of a listing with `encoding-type=url`: `%XX`, and `+` for a space, as in a form.
///
/// `None` if a `%` stands before anything else than two digits: the server does not encode.
pub(super) fn decode_key(text: &str) -> Option<Cow<'_, [u8]>> {
    let bytes = text.as_bytes();
    if !bytes.iter().any(|byte| b"%+".contains(byte)) {
        return Some(Cow::Borrowed(bytes));
    }
    let mut key = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, behind @ ..] = rest {
        rest = behind;
        key.push(match first {
            b'+' => b' ',
            b'%' => {
                let (digits, behind) = rest.split_at_checked(2)?;
                rest = behind;
                hex_digit(digits[0])? << 4 | hex_digit(digits[1])?
            }
            &other => other,
        });
    }
    Some(Cow::Owned(key))
}

fn hex_digit(byte: u8) -> Option<u8> {
    let digit = char::from(byte).to_digit(16)?;
    u8::try_from(digit).ok()
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::primitives::DateTime;

    use super::*;

    #[test]
    fn a_key_is_decoded_like_a_form() {
        for (text, key) in [
            ("plain/key.flac", Some(&b"plain/key.flac"[..])),
            ("a+b%2Bc%20d", Some(b"a b+c d")),
            ("%C3%bc%2F", Some("ü/".as_bytes())),
            ("%ff%01", Some(b"\xff\x01")),
            ("ü", Some("ü".as_bytes())),
            ("100%", None),
            ("100%2", None),
            ("100%zz", None),
            ("%+1", None),
        ] {
            assert_eq!(decode_key(text).as_deref(), key, "{text:?}");
        }
    }

    #[test]
    fn a_tag_loses_its_quotes_and_its_weakness() {
        for (tag, plain) in [
            ("\"abc-2\"", Some("abc-2")),
            ("W/\"abc\"", Some("abc")),
            ("abc", Some("abc")),
            ("", None),
            ("\"\"", None),
            ("\"a\"b\"", None),
            ("a b", None),
            ("a\r\nX: y", None),
            ("ü", None),
        ] {
            assert_eq!(plain_tag(tag), plain, "{tag:?}");
        }
        assert_eq!(plain_tag(&"x".repeat(TAG_LEN_MAX + 1)), None);
    }

    #[test]
    fn an_object_that_cannot_be_read_is_no_file() {
        let whole = Object::builder()
            .e_tag("\"t\"")
            .size(5)
            .last_modified(DateTime::from_millis(1500));
        let file = to_file(&whole.clone().build(), b"f").unwrap();
        assert_eq!(
            (file.version.size, file.mtime_ns, file.mode),
            (5, 1_500_000_000, 0o444)
        );
        assert_eq!(file.version.validator, Validator::ETag("t".into()));
        for class in ["GLACIER", "DEEP_ARCHIVE"] {
            let object = whole.clone().storage_class(class.into()).build();
            assert_eq!(to_file(&object, b"f"), Err(Unreadable::Archived), "{class}");
        }
        for class in ["STANDARD", "GLACIER_IR", "NEW_CLASS"] {
            let object = whole.clone().storage_class(class.into()).build();
            assert!(to_file(&object, b"f").is_ok(), "{class}");
        }
        for bad in [
            whole.clone().set_e_tag(None),
            whole.clone().set_size(None),
            whole.clone().size(-1),
        ] {
            assert_eq!(to_file(&bad.build(), b"f"), Err(Unreadable::Unversioned));
        }
    }
}
