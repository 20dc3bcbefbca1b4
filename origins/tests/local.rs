//! The local origin as its users see it.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail like tests")]

#[path = "local/list.rs"]
mod list;
#[path = "local/open.rs"]
mod open;
#[path = "local/watch.rs"]
mod watch;

use std::path::{Path, PathBuf};

use musicfs_core::id::OriginId;
use musicfs_core::origin::{Depth, DirListing, DirStream, Origin, OriginError};
use musicfs_core::path::OriginPath;
use musicfs_core::version::{ContentVersion, Validator};
use musicfs_origins::{LocalConfig, LocalOrigin};

fn config(root: &Path) -> LocalConfig {
    LocalConfig {
        id: OriginId::new("music").unwrap(),
        root: root.to_owned(),
        identity: None,
        installation: [7; 16],
        excluded: Vec::new(),
    }
}

fn origin(root: &Path) -> LocalOrigin {
    LocalOrigin::open(config(root)).unwrap()
}

fn path(text: &str) -> OriginPath {
    OriginPath::new(text.as_bytes()).unwrap()
}

/// What a local origin is opened with: it looks for itself which version is there.
fn any_version() -> ContentVersion {
    ContentVersion {
        size: 0,
        validator: Validator::Mtime(0),
    }
}

/// Makes the directories above `name`, and the file with `content`.
fn put(root: &Path, name: &str, content: &str) -> PathBuf {
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

async fn list_all(origin: &LocalOrigin) -> Vec<DirListing> {
    collect(origin.list(&path(""), Depth::All)).await.unwrap()
}

/// The paths of all files.
fn files(listings: &[DirListing]) -> Vec<String> {
    let mut paths = Vec::new();
    for listing in listings {
        for file in &listing.files {
            paths.push(listing.path.join(&file.name).unwrap().to_string());
        }
    }
    paths.sort();
    paths
}
