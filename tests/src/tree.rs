//! Trees of a mount, as values that can be compared.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

const REAL_PATH: &str = "user.musicfs.real_path";

/// All paths below `root`, relative to it, sorted; directories end in `/`.
///
/// # Panics
/// If something cannot be listed, here and below. What is gone when it is looked at makes it list
/// anew: a tree may change meanwhile.
pub fn paths(root: &Path) -> Vec<String> {
    still(|| try_paths(root))
}

fn try_paths(root: &Path) -> io::Result<Vec<String>> {
    let mut paths = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            let path = entry.path();
            let name = path.strip_prefix(root).unwrap().to_string_lossy();
            if entry.file_type()?.is_dir() {
                paths.push(format!("{name}/"));
                open.push(path);
            } else {
                paths.push(name.into_owned());
            }
        }
    }
    paths.sort();
    Ok(paths)
}

/// What `look` finds in a tree that does not change while it looks.
fn still<T>(look: impl Fn() -> io::Result<T>) -> T {
    // The second is what the kernel gets of an inode that it still has, and its attribute is gone.
    let gone = [Errno::NOENT, Errno::NODATA].map(Errno::raw_os_error);
    let found = || match look() {
        Ok(found) => Some(found),
        Err(error)
            if error
                .raw_os_error()
                .is_some_and(|code| gone.contains(&code)) =>
        {
            None
        }
        Err(error) => panic!("{error}"),
    };
    crate::wait_for("a tree that stands still", found).0
}

/// The files below `root`.
pub fn files(root: &Path) -> Vec<String> {
    still(|| try_files(root))
}

fn try_files(root: &Path) -> io::Result<Vec<String>> {
    let mut files = try_paths(root)?;
    files.retain(|path| !path.ends_with('/'));
    Ok(files)
}

/// For each file below `root`, the real path that its extended attribute names.
pub fn real_paths(root: &Path) -> BTreeMap<String, String> {
    still(|| {
        let files = try_files(root)?.into_iter();
        files
            .map(|path| {
                let real = try_xattr(&root.join(&path), REAL_PATH)?;
                Ok((path, real))
            })
            .collect()
    })
}

/// The real path of a file in a mount.
pub fn real_path(file: &Path) -> String {
    xattr(file, REAL_PATH)
}

/// An extended attribute as text.
pub fn xattr(file: &Path, name: &str) -> String {
    try_xattr(file, name).unwrap()
}

fn try_xattr(file: &Path, name: &str) -> io::Result<String> {
    let mut value = [0; 4096];
    let len = rustix::fs::getxattr(file, name, &mut value[..])?;
    Ok(String::from_utf8_lossy(&value[..len]).into_owned())
}

/// What `stat -c '%n %i %s %Y %Z %f %u %g %b'` shows of the whole tree, with nanoseconds.
pub fn stats(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for path in std::iter::once(String::new()).chain(paths(root)) {
        let stat = fs::symlink_metadata(root.join(&path)).unwrap();
        lines.push(format!(
            "{path} {} {} {}.{} {}.{} {:x} {} {} {} {}",
            stat.ino(),
            stat.size(),
            stat.mtime(),
            stat.mtime_nsec(),
            stat.ctime(),
            stat.ctime_nsec(),
            stat.mode(),
            stat.uid(),
            stat.gid(),
            stat.blocks(),
            stat.nlink(),
        ));
    }
    lines
}

/// The BLAKE3 of a file's bytes.
pub fn hash(file: &Path) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    io::copy(&mut fs::File::open(file).unwrap(), &mut hasher).unwrap();
    hasher.finalize()
}

/// Compares every file of the mount with its original.
pub fn assert_bytes_equal(mount: &Path, origin: &Path) {
    let files: Vec<(String, String)> = real_paths(mount).into_iter().collect();
    assert!(!files.is_empty(), "the mount is empty");
    for (path, real) in files {
        let original: PathBuf = origin.join(&real);
        assert_eq!(
            hash(&mount.join(&path)),
            hash(&original),
            "{path} and {real}"
        );
    }
}
