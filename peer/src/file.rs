//! One key in one file: a line of text that says what it is, the key, a checksum.
//!
//! A file is replaced as a whole: the new one is written beside it, made durable, and renamed. So at
//! every point, a loss of power included, the name stands for all of the old key or all of the new one.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use data_encoding::HEXLOWER;
use rustix::fs::OFlags;
use rustix::io::Errno;
use zeroize::Zeroizing;

use crate::digest::name_of;
use crate::error::KeysError;

/// The permission bits of the directory, and of the files in it.
const DIR_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// What a file may hold: several times what one has.
const FILE_LEN_MAX: u64 = 1024;
/// The domain of checksums.
const DOMAIN: &[u8] = b"musicfs/key-file/1";
/// How long to wait for another process that changes the keys: it has two files to sync.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(10);
/// How often to look whether it is done.
const LOCK_WAIT_EVERY: Duration = Duration::from_millis(20);

/// What a file is to hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FileKind {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its first line, without the version.
    pub(crate) title: &'static str,
}

/// Makes `dir`, and what is above it, where it is missing, and keeps other processes from changing
/// what is in it until what is returned is dropped.
///
/// # Errors
/// [`KeysError`], as [`check_dir`] has it, or [`KeysError::Busy`].
pub(crate) fn claim(dir: &Path) -> Result<File, KeysError> {
    let above = dir.parent().unwrap_or(Path::new("/"));
    let made = DirBuilder::new()
        .recursive(true)
        .mode(DIR_MODE)
        .create(above);
    made.map_err(failed("make directory", above))?;
    match DirBuilder::new().mode(DIR_MODE).create(dir) {
        Ok(()) => sync_dir(above)?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed("make directory", dir)(error)),
    }
    check_dir(dir)?;
    let lock = File::open(dir).map_err(failed("open", dir))?;
    let started = Instant::now();
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::Error(error)) => return Err(failed("lock", dir)(error)),
            Err(TryLockError::WouldBlock) if started.elapsed() < LOCK_WAIT_MAX => {
                std::thread::sleep(LOCK_WAIT_EVERY);
            }
            Err(TryLockError::WouldBlock) => {
                return Err(KeysError::Busy {
                    path: dir.to_owned(),
                });
            }
        }
    }
}

/// Whether there is a directory of keys; it is this user's alone.
///
/// # Errors
/// [`KeysError::Open`], [`KeysError::Owner`], [`KeysError::Kind`] or [`KeysError::Io`].
pub(crate) fn check_dir(dir: &Path) -> Result<bool, KeysError> {
    let found = match fs::symlink_metadata(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        found => found.map_err(failed("look at", dir))?,
    };
    if !found.is_dir() {
        let (path, expected) = (dir.to_owned(), "directory");
        return Err(KeysError::Kind { path, expected });
    }
    check_private(dir, &found, DIR_MODE)?;
    Ok(true)
}

/// The key in a file of `dir`; `None` if there is none.
///
/// # Errors
/// As [`check_dir`], and [`KeysError::Damaged`] or [`KeysError::Later`].
pub(crate) fn read<const LEN: usize>(
    dir: &Path,
    kind: FileKind,
) -> Result<Option<Zeroizing<[u8; LEN]>>, KeysError> {
    if !check_dir(dir)? {
        return Ok(None);
    }
    let path = dir.join(kind.name);
    // A link would lead to what others can replace; a pipe would be waited for.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = flags.bits().cast_signed();
    let file = match OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(&path)
    {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
            let expected = "file";
            return Err(KeysError::Kind { path, expected });
        }
        file => file.map_err(failed("open", &path))?,
    };
    let found = file.metadata().map_err(failed("look at", &path))?;
    if !found.is_file() {
        let expected = "file";
        return Err(KeysError::Kind { path, expected });
    }
    check_private(&path, &found, FILE_MODE)?;
    // As long as it can get: what grew would leave its old place unwiped.
    let mut text = Zeroizing::new(Vec::with_capacity(FILE_LEN_MAX as usize));
    let bytes = file.take(FILE_LEN_MAX).read_to_end(&mut text);
    bytes.map_err(failed("read", &path))?;
    parse(kind, &text, path).map(Some)
}

/// Puts a key into a file of `dir`, in place of what was there. The caller holds [`claim`]'s lock.
///
/// # Errors
/// [`KeysError::Io`]; then the file is what it was, or, if only its name could not be made durable,
/// the new one.
pub(crate) fn write(dir: &Path, kind: FileKind, key: &[u8]) -> Result<(), KeysError> {
    let path = dir.join(kind.name);
    let new = dir.join(format!("{}.new", kind.name));
    // What a process that was killed has left.
    remove(&new)?;
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(&new);
    let mut file = made.map_err(failed("make", &new))?;
    let text = format(kind, key);
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all());
    if let Err(error) = written {
        // The first error counts.
        let _ = remove(&new);
        return Err(failed("write", &new)(error));
    }
    fs::rename(&new, &path).map_err(failed("rename", &new))?;
    sync_dir(dir)
}

/// Removes a file of `dir`, and what a process that was killed has left of it; true if it was there.
/// The caller holds [`claim`]'s lock.
///
/// # Errors
/// [`KeysError::Io`]; it may still be there.
pub(crate) fn forget(dir: &Path, kind: FileKind) -> Result<bool, KeysError> {
    remove(&dir.join(format!("{}.new", kind.name)))?;
    let removed = remove(&dir.join(kind.name))?;
    sync_dir(dir)?;
    Ok(removed)
}

fn remove(path: &Path) -> Result<bool, KeysError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed("remove", path)(error)),
    }
}

fn sync_dir(dir: &Path) -> Result<(), KeysError> {
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(failed("sync", dir))
}

fn check_private(path: &Path, found: &fs::Metadata, wanted: u32) -> Result<(), KeysError> {
    let path = || path.to_owned();
    let owner = found.uid();
    if owner != rustix::process::geteuid().as_raw() {
        return Err(KeysError::Owner {
            path: path(),
            owner,
        });
    }
    let mode = found.mode() & 0o7777;
    if mode & 0o077 != 0 {
        let path = path();
        return Err(KeysError::Open { path, mode, wanted });
    }
    Ok(())
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KeysError {
    move |source| {
        let path = path.to_owned();
        KeysError::Io {
            action,
            path,
            source,
        }
    }
}

/// The text of a file: title and version, key, checksum, a line each.
fn format(kind: FileKind, key: &[u8]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(FILE_LEN_MAX as usize));
    text.push_str(kind.title);
    text.push_str(" 1\n");
    HEXLOWER.encode_append(key, &mut text);
    text.push('\n');
    HEXLOWER.encode_append(&checksum(kind, key), &mut text);
    text.push('\n');
    debug_assert!(text.len() as u64 <= FILE_LEN_MAX);
    text
}

fn parse<const LEN: usize>(
    kind: FileKind,
    text: &[u8],
    path: PathBuf,
) -> Result<Zeroizing<[u8; LEN]>, KeysError> {
    let Some(key) = parsed(kind, text) else {
        let version = text.strip_prefix(kind.title.as_bytes());
        let version = version.and_then(|rest| rest.strip_prefix(b" "));
        return Err(match version.and_then(|rest| rest.first()) {
            Some(b'2'..=b'9') => KeysError::Later { path },
            _ => KeysError::Damaged { path },
        });
    };
    Ok(key)
}

/// The key of a text that is, to the byte, what [`format()`] makes of it.
fn parsed<const LEN: usize>(kind: FileKind, text: &[u8]) -> Option<Zeroizing<[u8; LEN]>> {
    let line = text.split(|byte| *byte == b'\n').nth(1)?;
    let mut key = Zeroizing::new([0; LEN]);
    if line.len() != LEN * 2 || HEXLOWER.decode_mut(line, &mut *key).is_err() {
        return None;
    }
    (format(kind, &*key).as_bytes() == text).then_some(key)
}

fn checksum(kind: FileKind, key: &[u8]) -> [u8; 8] {
    name_of(&[DOMAIN, kind.title.as_bytes(), key])
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: FileKind = FileKind {
        name: "key",
        title: "musicfs test key",
    };

    fn read_from(text: &[u8]) -> Result<[u8; 4], KeysError> {
        parse::<4>(KIND, text, PathBuf::from("key")).map(|key| *key)
    }

    #[test]
    fn a_file_is_what_was_written_or_damaged() {
        let text = format(KIND, b"abcd");
        assert!(
            text.starts_with("musicfs test key 1\n61626364\n"),
            "{}",
            *text
        );
        assert_eq!(read_from(text.as_bytes()).unwrap(), *b"abcd");
        for bit in 0..text.len() * 8 {
            let mut bytes = text.as_bytes().to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(read_from(&bytes).is_err(), "bit {bit}");
        }
        for len in 0..text.len() {
            let got = read_from(&text.as_bytes()[..len]);
            assert!(matches!(got, Err(KeysError::Damaged { .. })), "{len}");
        }
        let longer = [text.as_bytes(), b"\n"].concat();
        assert!(matches!(read_from(&longer), Err(KeysError::Damaged { .. })));
    }

    #[test]
    fn what_a_later_version_wrote_is_not_called_damaged() {
        let got = read_from(b"musicfs test key 2\nsomething else\n");
        assert!(matches!(got, Err(KeysError::Later { .. })), "{got:?}");
    }
}
