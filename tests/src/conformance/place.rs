//! The other side of an origin: where a test puts what the origin shows.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use musicfs_core::origin::Origin;

use crate::servers::s3_client::{S3Client, SECRET_KEY};

/// How long ago the first file of a [`DirectoryPlace`] was modified.
const OLDEST: Duration = Duration::from_secs(30 * 24 * 3600);
/// How much later the next one was: SFTP tells whole seconds, and what is younger than two of them
/// may still change unseen.
const STEP: Duration = Duration::from_secs(4);

/// Where an origin's files lie, and can be changed.
pub trait Place: Send + Sync {
    /// Puts a file at `path`, over the one that is there, in place where there is such a thing. It
    /// is seen at once, and has another validator than any before it.
    fn put(&self, path: &[u8], content: &[u8]);

    /// Puts many files, of which none is there yet.
    fn put_all(&self, files: Vec<(Vec<u8>, Vec<u8>)>) {
        for (path, content) in files {
            self.put(&path, &content);
        }
    }

    /// Removes a file.
    fn remove(&self, path: &[u8]);

    /// True if names may be any bytes.
    fn supports_odd_names(&self) -> bool;

    /// Another instance of the origin, for the same place, with another id.
    fn another(&self) -> Arc<dyn Origin>;

    /// What nothing may show.
    fn secrets(&self) -> Vec<&str> {
        Vec::new()
    }
}

/// Makes another instance of an origin.
type Another = Box<dyn Fn() -> Arc<dyn Origin> + Send + Sync>;

/// A directory of this machine, whatever leads from there to the origin.
pub struct DirectoryPlace {
    root: PathBuf,
    another: Another,
    puts: AtomicU64,
}

/// The keys of a bucket below a prefix.
pub struct S3Place<'a> {
    client: &'a S3Client,
    prefix: String,
    another: Another,
}

impl DirectoryPlace {
    /// The directory `root`, which is there.
    pub fn new(root: impl Into<PathBuf>, another: Another) -> Self {
        Self {
            root: root.into(),
            another,
            puts: AtomicU64::new(0),
        }
    }

    fn at(&self, path: &[u8]) -> PathBuf {
        self.root.join(OsStr::from_bytes(path))
    }
}

impl Place for DirectoryPlace {
    fn put(&self, path: &[u8], content: &[u8]) {
        let file = self.at(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, content).unwrap();
        let puts = u32::try_from(self.puts.fetch_add(1, Ordering::Relaxed)).unwrap();
        let modified = SystemTime::now() - OLDEST + STEP * puts;
        let file = File::options().write(true).open(&file).unwrap();
        file.set_modified(modified).unwrap();
    }

    fn remove(&self, path: &[u8]) {
        fs::remove_file(self.at(path)).unwrap();
    }

    fn supports_odd_names(&self) -> bool {
        true
    }

    fn another(&self) -> Arc<dyn Origin> {
        (self.another)()
    }
}

impl<'a> S3Place<'a> {
    /// What lies below `prefix`, which ends in a slash.
    pub fn new(client: &'a S3Client, prefix: &str, another: Another) -> Self {
        assert!(prefix.is_empty() || prefix.ends_with('/'));
        Self {
            client,
            prefix: prefix.to_owned(),
            another,
        }
    }

    fn key(&self, path: &[u8]) -> String {
        let path = str::from_utf8(path).expect("keys are text");
        format!("{}{path}", self.prefix)
    }
}

impl Place for S3Place<'_> {
    fn put(&self, path: &[u8], content: &[u8]) {
        self.client.put(&self.key(path), content);
    }

    fn put_all(&self, files: Vec<(Vec<u8>, Vec<u8>)>) {
        let files = files.into_iter();
        let objects = files.map(|(path, content)| (self.key(&path), content));
        self.client.put_all(objects.collect());
    }

    fn remove(&self, path: &[u8]) {
        self.client.delete(&self.key(path));
    }

    fn supports_odd_names(&self) -> bool {
        false
    }

    fn another(&self) -> Arc<dyn Origin> {
        (self.another)()
    }

    fn secrets(&self) -> Vec<&str> {
        vec![SECRET_KEY]
    }
}
