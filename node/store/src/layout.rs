//! Where things lie in the cache directory.

use std::path::{Path, PathBuf};

use musicfs_core::version::VersionKey;

/// What the directory says of itself; another text is another format.
pub(crate) const FORMAT: &str = "musicfs-store 1\n";
/// The extended attribute of an object file that holds its id.
pub(crate) const ID_TAG: &str = "user.musicfs.object";
/// So that backup programs pass the directory by (<https://bford.info/cachedir/>).
pub(crate) const CACHEDIR_TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n\
    # This directory holds cached files of MusicFS. They can be fetched again.\n";

/// The names in the cache directory that the store does not account for.
pub(crate) const NOT_COUNTED: &str = "search.idx";

/// The paths of a cache directory.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) dir: PathBuf,
    pub(crate) objects: PathBuf,
}

/// What a name in a shard is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Object(VersionKey),
    Map(VersionKey),
    /// A map that was being written.
    HalfMap,
}

impl Layout {
    pub(crate) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            objects: dir.join("objects"),
        }
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.dir.join("lock")
    }

    pub(crate) fn format(&self) -> PathBuf {
        self.dir.join("format")
    }

    pub(crate) fn tag(&self) -> PathBuf {
        self.dir.join("CACHEDIR.TAG")
    }

    pub(crate) fn marker(&self) -> PathBuf {
        self.dir.join("clean")
    }

    pub(crate) fn index(&self) -> PathBuf {
        self.dir.join("chunks.db")
    }

    /// The directory of the objects whose version key starts with `byte`.
    pub(crate) fn shard(&self, byte: u8) -> PathBuf {
        self.objects.join(format!("{byte:02x}"))
    }

    pub(crate) fn object(&self, version: VersionKey) -> PathBuf {
        self.shard(version.0[0]).join(version.to_string())
    }

    pub(crate) fn map(&self, version: VersionKey) -> PathBuf {
        self.shard(version.0[0]).join(format!("{version}.map"))
    }

    /// A file beside `path` that takes its place once it is whole.
    pub(crate) fn half(path: &Path) -> PathBuf {
        let mut name = path.as_os_str().to_owned();
        name.push(".tmp");
        PathBuf::from(name)
    }

    /// What a name in the shard of `byte` is; `None` if the store did not make it.
    pub(crate) fn parse(byte: u8, name: &str) -> Option<Name> {
        let (hex, suffix) = name.split_at_checked(32)?;
        let mut key = [0; 16];
        for (at, value) in key.iter_mut().enumerate() {
            let digits = hex.get(at * 2..at * 2 + 2)?;
            *value = u8::from_str_radix(digits, 16).ok()?;
        }
        let version = VersionKey(key);
        if key[0] != byte || version.to_string() != hex {
            return None;
        }
        match suffix {
            "" => Some(Name::Object(version)),
            ".map" => Some(Name::Map(version)),
            ".map.tmp" => Some(Name::HalfMap),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_its_path_says() {
        let layout = Layout::new(Path::new("/c"));
        let version = VersionKey([0xab; 16]);
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        let check = |name: &str, expect| assert_eq!(Layout::parse(0xab, name), expect, "{name}");
        check(&name(&layout.object(version)), Some(Name::Object(version)));
        check(&name(&layout.map(version)), Some(Name::Map(version)));
        check(
            &name(&Layout::half(&layout.map(version))),
            Some(Name::HalfMap),
        );
        let hex = version.to_string();
        for other in [
            "",
            "ab",
            "é",
            &hex[1..],
            &hex.to_uppercase(),
            &format!("+{}", &hex[1..]),
        ] {
            check(other, None);
        }
        check(&format!("{hex}.old"), None);
        assert_eq!(Layout::parse(0xac, &hex), None, "another shard's");
    }
}
