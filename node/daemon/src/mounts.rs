//! The MusicFS mounts that this process sees, and taking one away by force.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::mount::UnmountFlags;

/// The filesystem type of every MusicFS mount.
const FS_TYPE: &str = "fuse.musicfs";

/// What the source of a MusicFS mount starts with; the instance's name follows.
const SOURCE_PREFIX: &str = "musicfs:";

/// How long a mount may take to answer a stat before it counts as hanging.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// One MusicFS mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MusicMount {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// The instance that made it, if its source says so.
    pub(crate) instance: Option<String>,
}

/// Every MusicFS mount that this process sees.
///
/// # Errors
/// Whatever reading /proc gives.
pub(crate) fn list() -> io::Result<Vec<MusicMount>> {
    Ok(parse(&fs::read("/proc/self/mountinfo")?))
}

/// Whether a mount's daemon is gone: every look at it fails with ENOTCONN.
///
/// A mount that does not answer in time is not stale; its daemon exists and may come round.
pub(crate) fn is_stale(path: &Path) -> bool {
    let (tx, rx) = mpsc::channel();
    let path = path.to_owned();
    // A thread of its own: a stat of a hanging mount cannot be called off.
    thread::spawn(move || tx.send(fs::metadata(&path).map(drop)));
    match rx.recv_timeout(ANSWER_TIMEOUT) {
        Ok(Err(error)) => error.raw_os_error() == Some(Errno::NOTCONN.raw_os_error()),
        _ => false,
    }
}

/// Takes a mount out of the tree at once; programs that use it keep what they hold.
///
/// # Errors
/// What fusermount3 or the system said.
pub(crate) fn detach(path: &Path) -> Result<(), String> {
    match rustix::mount::unmount(path, UnmountFlags::DETACH) {
        Ok(()) => return Ok(()),
        // Not root: fusermount3 may do it for the user that mounted.
        Err(Errno::PERM) => {}
        Err(errno) => return Err(io::Error::from(errno).to_string()),
    }
    let output = Command::new("fusermount3")
        .args(["-u", "-z", "--"])
        .arg(path)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("start fusermount3: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(said
        .lines()
        .next()
        .unwrap_or("fusermount3 failed")
        .to_owned())
}

/// A path as mountinfo writes it: absolute, its parent without symbolic links.
///
/// The last component is not looked at, for that fails on a stale mount.
///
/// # Errors
/// The parent does not exist, or there is none.
pub(crate) fn mount_path(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok(fs::canonicalize(parent)?.join(name)),
        _ => fs::canonicalize(&path),
    }
}

fn parse(mountinfo: &[u8]) -> Vec<MusicMount> {
    let lines = mountinfo.split(|byte| *byte == b'\n');
    lines.filter_map(parse_line).collect()
}

/// Reads one line (proc_pid_mountinfo(5)): the mount point is the fifth field; type and source are
/// the first two behind a lone hyphen.
fn parse_line(line: &[u8]) -> Option<MusicMount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let path = unescape(fields.nth(4)?);
    let mut tail = fields.skip_while(|field| *field != b"-").skip(1);
    if tail.next()? != FS_TYPE.as_bytes() {
        return None;
    }
    let source = unescape(tail.next()?);
    let source = String::from_utf8_lossy(&source);
    Some(MusicMount {
        path: PathBuf::from(OsString::from_vec(path)),
        instance: source.strip_prefix(SOURCE_PREFIX).map(str::to_owned),
    })
}

/// Undoes the kernel's `\ooo` for blank, tab, newline and backslash.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let digits = tail
            .get(..3)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match escaped {
            Some(value) if byte == b'\\' => {
                plain.push(value);
                rest = &tail[3..];
            }
            _ => {
                plain.push(byte);
                rest = tail;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_musicfs_mounts_are_listed() {
        let text = b"\
21 1 254:0 / / rw,relatime - ext4 /dev/vda rw
90 21 0:52 / /mnt/My\\040Music ro,nosuid shared:7 - fuse.musicfs musicfs:den ro,user_id=0
91 21 0:53 / /mnt/other rw - fuse.sshfs me@host: rw
92 21 0:54 / /mnt/plain ro - fuse.musicfs whatever ro
short line
";
        let mount = |path: &str, instance: Option<&str>| MusicMount {
            path: path.into(),
            instance: instance.map(Into::into),
        };
        assert_eq!(
            parse(text),
            [
                mount("/mnt/My Music", Some("den")),
                mount("/mnt/plain", None)
            ]
        );
    }

    #[test]
    fn a_directory_that_answers_is_not_stale() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_stale(dir.path()));
        assert!(!is_stale(&dir.path().join("missing")));
    }

    #[test]
    fn a_mount_path_resolves_its_parent_alone() {
        let dir = tempfile::tempdir().unwrap();
        let real = fs::canonicalize(dir.path()).unwrap();
        let link = real.join("link");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let got = mount_path(&link.join("gone/")).unwrap();
        assert_eq!(got, real.join("gone"));
        assert_eq!(mount_path(Path::new("/")).unwrap(), Path::new("/"));
    }
}
