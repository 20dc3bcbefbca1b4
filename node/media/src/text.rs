//! Texts as tags encode them.

/// The longest value that is kept, in bytes.
pub(crate) const VALUE_BYTES_MAX: usize = 64 << 10;

/// A value as the rest of the system sees it: trimmed, not too long, or absent.
pub(crate) fn clean(value: &str) -> Option<&str> {
    let value = value.trim_matches(|c: char| c.is_whitespace() || c == '\0' || c == '\u{feff}');
    let mut end = value.len().min(VALUE_BYTES_MAX);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    let value = value[..end].trim_end();
    (!value.is_empty()).then_some(value)
}

/// Latin-1: every byte is the character of its number.
pub(crate) fn latin1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// UTF-16 with a mark of its byte order, or big-endian without one as ID3v2 says.
pub(crate) fn utf16(bytes: &[u8], little_endian: bool) -> String {
    let (bytes, little) = match bytes {
        [0xff, 0xfe, rest @ ..] => (rest, true),
        [0xfe, 0xff, rest @ ..] => (rest, false),
        rest => (rest, little_endian),
    };
    let units = bytes.chunks_exact(2).map(|pair| match little {
        true => u16::from_le_bytes([pair[0], pair[1]]),
        false => u16::from_be_bytes([pair[0], pair[1]]),
    });
    char::decode_utf16(units)
        .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}

/// UTF-8 where it is valid; bytes of an older writer are taken for Latin-1.
pub(crate) fn utf8(bytes: &[u8]) -> String {
    match str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => latin1(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_trimmed_and_bounded() {
        assert_eq!(clean(" a b\0\0"), Some("a b"));
        assert_eq!(clean("\u{feff}x"), Some("x"));
        assert_eq!(clean(" \t\0 "), None);
        let long = "é".repeat(VALUE_BYTES_MAX);
        assert_eq!(clean(&long).map(str::len), Some(VALUE_BYTES_MAX));
    }

    #[test]
    fn utf16_follows_its_mark() {
        assert_eq!(utf16(&[0xff, 0xfe, 0xe9, 0], false), "é");
        assert_eq!(utf16(&[0xfe, 0xff, 0, 0xe9], true), "é");
        assert_eq!(utf16(&[0, 0xe9], false), "é");
        assert_eq!(utf16(&[0xd8, 0, 0], false), "\u{fffd}");
    }
}
