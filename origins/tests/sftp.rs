//! The sftp origin as its users see it, against OpenSSH's server.
//!
//! Needs `sshd`, `ssh-keygen`, `ssh-agent` and `ssh-add`, and root, as OpenSSH's server does.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail like tests")]

#[path = "sftp/checksum.rs"]
mod checksum;
#[path = "sftp/connect.rs"]
mod connect;
#[path = "sftp/limits.rs"]
mod limits;
#[path = "sftp/list.rs"]
mod list;
#[path = "sftp/loss.rs"]
mod loss;
#[path = "sftp/read.rs"]
mod read;
#[path = "sftp/server.rs"]
mod server;
#[path = "sftp/sloppy.rs"]
mod sloppy;

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use musicfs_core::origin::{
    Depth, DirListing, DirStream, Origin, OriginError, OriginFile, collect,
};
use musicfs_core::path::OriginPath;
use musicfs_core::version::{ContentVersion, Validator};
use musicfs_origins::SftpOrigin;

/// How long a test waits for what must happen in the end.
const WAIT: Duration = Duration::from_secs(30);

fn path(text: &str) -> OriginPath {
    OriginPath::new(text.as_bytes()).unwrap()
}

fn version(size: u64, mtime_s: i64) -> ContentVersion {
    ContentVersion {
        size,
        validator: Validator::Mtime(mtime_s * 1_000_000_000),
    }
}

/// What an sftp origin is opened with: it looks for itself which version is there.
fn any_version() -> ContentVersion {
    version(0, 0)
}

async fn open(origin: &SftpOrigin, name: &str) -> Result<Box<dyn OriginFile>, OriginError> {
    origin.open(&path(name), &any_version()).await
}

async fn read_all(file: &dyn OriginFile) -> Result<Bytes, OriginError> {
    collect(file.stream(0..file.version().size)).await
}

async fn listings(mut stream: Box<dyn DirStream>) -> Result<Vec<DirListing>, OriginError> {
    let mut listings = Vec::new();
    while let Some(listing) = stream.next().await? {
        listings.push(listing);
    }
    listings.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(listings)
}

async fn list_all(origin: &SftpOrigin) -> Vec<DirListing> {
    listings(origin.list(&path(""), Depth::All)).await.unwrap()
}

/// Bytes of which no two stretches are alike.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    let mut bytes = vec![0; len];
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

/// Sets a file's modification time.
fn set_mtime(file: &Path, seconds: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let file = std::fs::File::options().write(true).open(file).unwrap();
    file.set_modified(time).unwrap();
}

/// Waits until `done` says so.
async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < WAIT, "{what} does not happen");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
