//! What is right: bytes of one version, an error of the table, and an answer in any case.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use musicfs_tests::tree;
use rustix::io::Errno;

use super::site::Library;

/// What has not been answered by then never will: far more than the deadline of a read, and than
/// the two requests that the kernel may make of one.
const HANG: Duration = Duration::from_secs(30);
/// How long a fault may have consequences after it is gone.
const RECOVERY_MAX: Duration = Duration::from_secs(60);
/// What is read at once.
const PIECE_BYTES: usize = 128 << 10;

/// Does something that must come to an end by itself, for better or worse.
///
/// # Panics
/// If it hangs, naming `what`; and if it panics.
pub(crate) fn answered<T: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (tx, rx) = mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name(what.to_owned());
    // A thread that hangs ends with the daemon that it waits for.
    let _ = thread.spawn(move || tx.send(work())).unwrap();
    match rx.recv_timeout(HANG) {
        Ok(answer) => answer,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("{what} hangs"),
        Err(mpsc::RecvTimeoutError::Disconnected) => panic!("{what} panicked"),
    }
}

/// An open file of the mount.
pub(crate) struct Handle {
    name: String,
    file: Arc<File>,
}

impl Handle {
    /// Opens a file.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let owned = path.to_owned();
        let file = answered(&format!("open {name}"), move || File::open(owned))?;
        Ok(Self {
            name,
            file: Arc::new(file),
        })
    }

    /// Reads `len` bytes at `offset`, fewer only at the end of the file.
    pub(crate) fn read_at(&self, offset: usize, len: usize) -> io::Result<Vec<u8>> {
        let file = Arc::clone(&self.file);
        answered(&format!("read {} at {offset}", self.name), move || {
            let mut bytes = vec![0; len];
            let mut at = 0;
            while at < len {
                match file.read_at(&mut bytes[at..], (offset + at) as u64)? {
                    0 => break,
                    count => at += count,
                }
            }
            bytes.truncate(at);
            Ok(bytes)
        })
    }

    /// Reads all of it, which must be one of `versions`, wholly; returns which.
    ///
    /// # Errors
    /// Of the first read that fails; what was read before is right as far as it goes.
    pub(crate) fn version(&self, versions: &[&[u8]]) -> io::Result<usize> {
        let mut candidates: Vec<usize> = (0..versions.len()).collect();
        let mut at = 0;
        loop {
            let bytes = self.read_at(at, PIECE_BYTES)?;
            candidates.retain(|&number| is_at(versions[number], at, &bytes));
            assert!(!candidates.is_empty(), "{} mixes, at {at}", self.name);
            at += bytes.len();
            if bytes.len() < PIECE_BYTES {
                break;
            }
        }
        candidates.retain(|&number| versions[number].len() == at);
        match candidates[..] {
            [number] => Ok(number),
            _ => panic!("{}: {at} bytes are no version", self.name),
        }
    }

    /// Has the kernel forget what it keeps of the file: the next reads are the daemon's.
    pub(crate) fn forget(&self) {
        let advice = rustix::fs::Advice::DontNeed;
        rustix::fs::fadvise(&self.file, 0, None, advice).unwrap();
    }

    /// Reads a piece, which must be that of `version`, or fail as reads may; true if it did not.
    pub(crate) fn is_right_at(&self, offset: usize, len: usize, version: &[u8]) -> bool {
        match self.read_at(offset, len) {
            Ok(bytes) => {
                let expected = &version[offset..version.len().min(offset + len)];
                assert!(bytes == expected, "{} is wrong at {offset}", self.name);
                true
            }
            Err(error) => {
                assert_may_fail(&self.name, &error);
                false
            }
        }
    }
}

fn is_at(version: &[u8], at: usize, bytes: &[u8]) -> bool {
    version.get(at..at + bytes.len()) == Some(bytes)
}

/// Asserts that a read of a remote file may fail like this: the origin is away, or the file is
/// another.
pub(crate) fn assert_may_fail(name: &str, error: &io::Error) {
    let allowed = [Errno::IO, Errno::STALE].map(Errno::raw_os_error);
    let errno = error.raw_os_error();
    let is_allowed = errno.is_some_and(|errno| allowed.contains(&errno));
    assert!(is_allowed, "{name} fails with {error}");
}

/// The files of a mount with their real paths: as many as the library has, each as long as there.
///
/// # Panics
/// If one is missing, or anything hangs.
pub(crate) fn tree_of(mount: &Path, library: &Library) -> BTreeMap<String, PathBuf> {
    let mount = mount.to_owned();
    let shown = answered("ls -R", move || {
        let real = tree::real_paths(&mount).into_iter();
        let file = |(path, real): (String, String)| {
            let path = mount.join(path);
            let size = fs::symlink_metadata(&path).unwrap().len();
            (real, (path, size))
        };
        real.map(file).collect::<BTreeMap<_, _>>()
    });
    let sizes = shown.iter().map(|(real, (_, size))| (real.clone(), *size));
    let expected = library
        .iter()
        .map(|(real, bytes)| (real.clone(), bytes.len() as u64));
    assert!(sizes.eq(expected), "the tree is not whole: {shown:?}");
    shown
        .into_iter()
        .map(|(real, (path, _))| (real, path))
        .collect()
}

/// Tries until it succeeds.
///
/// # Panics
/// After [`RECOVERY_MAX`], with the last error.
pub(crate) fn recovers<T>(what: &str, mut attempt: impl FnMut() -> io::Result<T>) -> T {
    let started = Instant::now();
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(error) => {
                assert_may_fail(what, &error);
                let is_late = started.elapsed() > RECOVERY_MAX;
                assert!(!is_late, "{what} does not recover: {error}");
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
