//! Paths on an origin.

use std::fmt;

/// A path below an origin's root: bytes as the origin has them, `/` between components.
///
/// Never absolute, never empty components, never `.` or `..`, no NUL; the empty path is the root.
/// It may be any other bytes, valid UTF-8 or not. At most [`OriginPath::LEN_MAX`] bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct OriginPath(Vec<u8>);

/// Why bytes are no [`OriginPath`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("parse path on origin: it is too long, or has an empty, '.', '..' or NUL component")]
pub struct InvalidPath;

impl OriginPath {
    /// Linux's PATH_MAX without the NUL; S3 keys end at 1024.
    pub const LEN_MAX: usize = 4095;

    /// Parses a path.
    ///
    /// # Errors
    /// [`InvalidPath`] if it breaks the rules above; the caller skips the entry and says so.
    pub fn new(bytes: &[u8]) -> Result<Self, InvalidPath> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let legal =
            |part: &[u8]| !part.is_empty() && part != b"." && part != b".." && !part.contains(&0);
        if bytes.len() > Self::LEN_MAX || !bytes.split(|&byte| byte == b'/').all(legal) {
            return Err(InvalidPath);
        }
        Ok(Self(bytes.to_vec()))
    }

    /// The path of `name` in this directory.
    ///
    /// # Errors
    /// [`InvalidPath`] if `name` is no single component or the path gets too long.
    pub fn join(&self, name: &[u8]) -> Result<Self, InvalidPath> {
        if name.contains(&b'/') || name.is_empty() {
            return Err(InvalidPath);
        }
        if self.0.is_empty() {
            return Self::new(name);
        }
        Self::new(&[&self.0, &b"/"[..], name].concat())
    }

    /// The whole path.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// True for the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The directory that holds this path; the root's is the root.
    pub fn parent(&self) -> Self {
        let end = self.0.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
        Self(self.0[..end].to_vec())
    }

    /// The last component; empty for the root.
    pub fn name(&self) -> &[u8] {
        let start = self
            .0
            .iter()
            .rposition(|&byte| byte == b'/')
            .map_or(0, |at| at + 1);
        &self.0[start..]
    }

    /// True if this path is `dir` or lies below it.
    pub fn is_within(&self, dir: &Self) -> bool {
        match self.0.strip_prefix(dir.0.as_slice()) {
            Some(rest) => dir.is_root() || rest.is_empty() || rest[0] == b'/',
            None => false,
        }
    }
}

impl fmt::Display for OriginPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Control characters would let a file name forge log lines.
        for character in String::from_utf8_lossy(&self.0).chars() {
            if character.is_control() {
                write!(f, "{}", character.escape_default())?;
            } else {
                write!(f, "{character}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for OriginPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> OriginPath {
        OriginPath::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_path_cannot_leave_its_root() {
        for bad in ["/a", "a//b", "a/", "./a", "a/..", "..", "a/\0b"] {
            assert!(OriginPath::new(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(path("a").join(b"..").is_err());
        assert!(path("a").join(b"b/c").is_err());
        assert!(path("a").join(b"").is_err());
        assert!(OriginPath::new(&vec![b'a'; 4096]).is_err());
    }

    #[test]
    fn parent_and_name_split_a_path() {
        assert_eq!(
            (path("a/b").parent(), path("a/b").name()),
            (path("a"), &b"b"[..])
        );
        assert_eq!(
            (path("a").parent(), path("a").name()),
            (path(""), &b"a"[..])
        );
        assert_eq!(path("a").join(b"b").unwrap(), path("a/b"));
        assert_eq!(path("").join(b"b").unwrap(), path("b"));
    }

    #[test]
    fn within_means_a_whole_component() {
        assert!(path("a/b").is_within(&path("a")));
        assert!(path("a").is_within(&path("a")));
        assert!(path("a").is_within(&path("")));
        assert!(!path("ab").is_within(&path("a")));
        assert!(!path("a").is_within(&path("a/b")));
    }
}
