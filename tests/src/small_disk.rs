//! A disk that is soon full.

use std::fs;
use std::path::{Path, PathBuf};

use crate::sh;

/// A file system of its own in memory, unmounted when this is dropped.
#[derive(Debug)]
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts an empty one of `size`, as `mount` writes it (`2m`), at `path`, which is made.
    ///
    /// # Panics
    /// If that does not work, here and below.
    pub fn mount(path: &Path, size: &str) -> Self {
        fs::create_dir(path).unwrap();
        sh(&format!("mount -t tmpfs -o size={size} tmpfs {path:?}"));
        Self(path.to_owned())
    }

    /// Fills it to its last byte.
    pub fn fill(&self) {
        let file = self.0.join("full");
        sh(&format!(
            "dd if=/dev/zero of={file:?} bs=64k status=none 2>/dev/null || true"
        ));
    }

    /// Makes it larger.
    pub fn grow(&self, size: &str) {
        sh(&format!("mount -o remount,size={size} {:?}", self.0));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}
