//! The mounted origin as its users see it: on a directory that answers, and on a share that hangs.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail like tests")]

#[path = "mounted/hang.rs"]
mod hang;
#[path = "mounted/plain.rs"]
mod plain;

use std::path::{Path, PathBuf};

use musicfs_core::id::OriginId;
use musicfs_core::origin::{DirListing, DirStream, OriginError, OriginKind};
use musicfs_core::path::OriginPath;
use musicfs_core::version::{ContentVersion, Validator};
use musicfs_origins::MountedConfig;

fn config(id: &str, root: &Path) -> MountedConfig {
    MountedConfig {
        id: OriginId::new(id).unwrap(),
        kind: OriginKind::Nfs,
        root: root.to_owned(),
        identity: None,
        installation: [7; 16],
        excluded: Vec::new(),
    }
}

fn path(text: &str) -> OriginPath {
    OriginPath::new(text.as_bytes()).unwrap()
}

/// What a mounted origin is opened with: it looks for itself which version is there.
fn any_version() -> ContentVersion {
    ContentVersion {
        size: 0,
        validator: Validator::Mtime(0),
    }
}

/// Makes the directories above `name`, and the file with `content`.
fn put(root: &Path, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let file = root.join(name);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, content).unwrap();
    file
}

async fn collect(mut stream: Box<dyn DirStream>) -> Result<Vec<DirListing>, OriginError> {
    let mut listings = Vec::new();
    while let Some(listing) = stream.next().await? {
        listings.push(listing);
    }
    listings.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(listings)
}
