//! Trees of a mount, as values that can be compared.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// All paths below `root`, relative to it, sorted; directories end in `/`.
///
/// # Panics
/// If something cannot be listed, here and below.
pub fn paths(root: &Path) -> Vec<String> {
    let mut paths = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let entry = entry.unwrap();
            let name = entry
                .path()
                .strip_prefix(root)
                .unwrap()
                .to_string_lossy()
                .into_owned();
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
                paths.push(format!("{name}/"));
            } else {
                paths.push(name);
            }
        }
    }
    paths.sort();
    paths
}

/// The files below `root`.
pub fn files(root: &Path) -> Vec<String> {
    let mut files = paths(root);
    files.retain(|path| !path.ends_with('/'));
    files
}

/// For each file below `root`, the real path that its extended attribute names.
pub fn real_paths(root: &Path) -> BTreeMap<String, String> {
    let real = |path: &str| real_path(&root.join(path));
    files(root)
        .into_iter()
        .map(|path| (path.clone(), real(&path)))
        .collect()
}

/// The real path of a file in a mount.
pub fn real_path(file: &Path) -> String {
    xattr(file, "user.musicfs.real_path")
}

/// An extended attribute as text.
pub fn xattr(file: &Path, name: &str) -> String {
    let mut value = [0; 4096];
    let len = rustix::fs::getxattr(file, name, &mut value[..]).unwrap();
    String::from_utf8_lossy(&value[..len]).into_owned()
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
    std::io::copy(&mut fs::File::open(file).unwrap(), &mut hasher).unwrap();
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
