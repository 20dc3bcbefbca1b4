//! Extended attributes: where a file really lies.

use fuser::{Errno, ReplyXattr};
use musicfs_library::Provenance;

const ORIGIN: &str = "user.musicfs.origin";
const REAL_PATH: &str = "user.musicfs.real_path";
const FORMAT: &str = "user.musicfs.format";

/// What a request for an attribute is answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer<'a> {
    /// The length, for a caller that has no buffer yet.
    Size(u32),
    /// The value, or the list of names.
    Data(&'a [u8]),
    /// The caller's buffer is too small.
    TooSmall,
}

impl Answer<'_> {
    pub(crate) fn send(self, reply: ReplyXattr) {
        match self {
            Self::Size(size) => reply.size(size),
            Self::Data(data) => reply.data(data),
            Self::TooSmall => reply.error(Errno::ERANGE),
        }
    }
}

/// Fits `value` to a buffer of `buffer_bytes`; 0 asks for the length (getxattr(2)).
pub(crate) fn answer(value: &[u8], buffer_bytes: u32) -> Answer<'_> {
    let Ok(len) = u32::try_from(value.len()) else {
        return Answer::TooSmall;
    };
    if buffer_bytes == 0 {
        Answer::Size(len)
    } else if buffer_bytes < len {
        Answer::TooSmall
    } else {
        Answer::Data(value)
    }
}

/// The names of a file's attributes, each ended by a NUL (listxattr(2)).
pub(crate) fn names() -> Vec<u8> {
    [ORIGIN, REAL_PATH, FORMAT]
        .iter()
        .flat_map(|name| [name.as_bytes(), b"\0"].concat())
        .collect()
}

/// Whether any file can have an attribute of this name; what cannot needs no look at the index.
pub(crate) fn is_known(name: &[u8]) -> bool {
    [ORIGIN, REAL_PATH, FORMAT]
        .iter()
        .any(|known| known.as_bytes() == name)
}

/// The value of attribute `name`.
pub(crate) fn value<'a>(name: &[u8], provenance: &'a Provenance) -> Option<&'a [u8]> {
    if name == ORIGIN.as_bytes() {
        Some(provenance.origin.as_str().as_bytes())
    } else if name == REAL_PATH.as_bytes() {
        Some(&provenance.real_path)
    } else if name == FORMAT.as_bytes() {
        Some(provenance.format.as_bytes())
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use musicfs_core::id::OriginId;

    use super::*;

    #[test]
    fn a_value_is_measured_then_read_and_never_cut() {
        assert_eq!(answer(b"flac", 0), Answer::Size(4));
        assert_eq!(answer(b"flac", 3), Answer::TooSmall);
        assert_eq!(answer(b"flac", 4), Answer::Data(b"flac"));
        assert_eq!(answer(b"flac", 64), Answer::Data(b"flac"));
        assert_eq!(answer(b"", 0), Answer::Size(0));
        assert_eq!(answer(b"", 1), Answer::Data(b""));
    }

    #[test]
    fn each_listed_name_has_a_value() {
        let provenance = Provenance {
            origin: OriginId::new("nas").unwrap(),
            real_path: b"a/\xff.flac".to_vec(),
            format: "flac".to_owned(),
        };
        let names = names();
        let values: Vec<_> = names
            .strip_suffix(b"\0")
            .unwrap()
            .split(|byte| *byte == 0)
            .inspect(|name| assert!(is_known(name)))
            .map(|name| value(name, &provenance).unwrap())
            .collect();
        assert_eq!(values, [&b"nas"[..], b"a/\xff.flac", b"flac"]);
        assert!(!is_known(b"security.capability"));
        assert_eq!(value(b"user.musicfs.other", &provenance), None);
    }
}
