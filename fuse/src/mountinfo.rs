//! What is mounted where, as the kernel says it: /proc/self/mountinfo.
//!
//! Reading it never touches a mounted filesystem, so it is safe beside one that hangs.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The filesystem type of every MusicFS mount.
pub(crate) const FS_TYPE: &str = "fuse.musicfs";

/// The source of an instance's mount, as the first column of mount(8) shows it.
pub(crate) fn source_of(instance: &str) -> String {
    format!("musicfs:{instance}")
}

/// One line of mountinfo (proc_pid_mountinfo(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MountEntry {
    /// The mount's id, unique while it exists.
    pub(crate) id: u32,
    /// The device number that `stat` shows for files on it: major, minor.
    pub(crate) device: (u32, u32),
    /// Where it is mounted, as this process sees it.
    pub(crate) mount_point: PathBuf,
    /// The filesystem type with its sub-type, such as `fuse.sshfs`.
    pub(crate) fs_type: String,
    /// What is mounted, in the filesystem's own terms.
    pub(crate) source: OsString,
}

impl MountEntry {
    /// Whether this is a MusicFS mount, of whatever instance.
    pub(crate) fn is_ours(&self) -> bool {
        self.fs_type == FS_TYPE
    }

    /// The instance that made it, if it is a MusicFS mount.
    pub(crate) fn instance(&self) -> Option<String> {
        let name = self.source.as_bytes().strip_prefix(b"musicfs:")?;
        self.is_ours()
            .then(|| String::from_utf8_lossy(name).into_owned())
    }
}

/// Every mount that this process sees, in order of mounting.
///
/// # Errors
/// Whatever reading /proc gives; there is no way to go on without it.
pub(crate) fn read() -> io::Result<Vec<MountEntry>> {
    Ok(parse(&fs::read("/proc/self/mountinfo")?))
}

/// The mount that is on top at `path`, which must be absolute and free of symbolic links.
pub(crate) fn at<'a>(mounts: &'a [MountEntry], path: &Path) -> Option<&'a MountEntry> {
    mounts.iter().rfind(|entry| entry.mount_point == path)
}

/// Parses mountinfo; lines of another form are left out.
pub(crate) fn parse(text: &[u8]) -> Vec<MountEntry> {
    text.split(|byte| *byte == b'\n')
        .filter_map(parse_line)
        .collect()
}

fn parse_line(line: &[u8]) -> Option<MountEntry> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = number(fields.next()?)?;
    let _parent_id = fields.next()?;
    let mut device = fields.next()?.splitn(2, |byte| *byte == b':');
    let device = (number(device.next()?)?, number(device.next()?)?);
    let _root = fields.next()?;
    let mount_point = unescape(fields.next()?);
    // Options, then any number of optional fields, ended by a hyphen.
    fields.find(|field| *field == b"-")?;
    let fs_type = String::from_utf8(unescape(fields.next()?).into_vec()).ok()?;
    let source = unescape(fields.next()?);
    Some(MountEntry {
        id,
        device,
        mount_point: mount_point.into(),
        fs_type,
        source,
    })
}

fn number(field: &[u8]) -> Option<u32> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

/// Undoes the kernel's escapes: blank, tab, newline and backslash are written as `\` and three
/// octal digits (`mangle_path` in fs/seq_file.c).
fn unescape(field: &[u8]) -> OsString {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let escaped = (byte == b'\\')
            .then(|| tail.first_chunk().and_then(octal))
            .flatten();
        plain.push(escaped.unwrap_or(byte));
        rest = if escaped.is_some() { &tail[3..] } else { tail };
    }
    OsStr::from_bytes(&plain).to_owned()
}

fn octal(digits: &[u8; 3]) -> Option<u8> {
    let value = digits.iter().try_fold(0_u32, |value, digit| match digit {
        b'0'..=b'7' => Some(value * 8 + u32::from(digit - b'0')),
        _ => None,
    })?;
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"\
21 1 254:0 / / rw,relatime - ext4 /dev/vda rw
36 21 0:25 / /proc rw,nosuid shared:5 master:1 - proc proc rw
90 21 0:52 / /mnt/My\\040Music ro,nosuid,nodev,noatime - fuse.musicfs musicfs:default ro,user_id=0
91 21 0:53 / /mnt/tab\\011and\\134slash\\012 rw - fuse.sshfs me@host:/a\\040b rw
92 90 0:54 / /mnt/My\\040Music rw - tmpfs none rw
garbage
93 x 0:55 / /short
";

    #[test]
    fn lines_are_read_and_others_left_out() {
        let mounts = parse(TEXT);
        assert_eq!(
            mounts.iter().map(|entry| entry.id).collect::<Vec<_>>(),
            [21, 36, 90, 91, 92]
        );
        let expect = MountEntry {
            id: 90,
            device: (0, 52),
            mount_point: "/mnt/My Music".into(),
            fs_type: FS_TYPE.to_owned(),
            source: "musicfs:default".into(),
        };
        assert_eq!(mounts[2], expect);
        assert_eq!(mounts[2].instance().as_deref(), Some("default"));
        assert_eq!(mounts[3].instance(), None);
        assert_eq!(mounts[1].fs_type, "proc");
    }

    #[test]
    fn octal_escapes_are_undone_and_nothing_else() {
        for (escaped, plain) in [
            (&b"a\\040b"[..], &b"a b"[..]),
            (b"\\011\\012\\134", b"\t\n\\"),
            (b"\\134040", b"\\040"),
            (b"caf\xc3\xa9", b"caf\xc3\xa9"),
            (b"\xff", b"\xff"),
            (b"a\\", b"a\\"),
            (b"a\\04", b"a\\04"),
            (b"\\999", b"\\999"),
            (b"\\777", b"\\777"),
        ] {
            assert_eq!(unescape(escaped).as_bytes(), plain, "{escaped:?}");
        }
        assert_eq!(
            parse(TEXT)[3].mount_point,
            Path::new("/mnt/tab\tand\\slash\n")
        );
        assert_eq!(parse(TEXT)[3].source, "me@host:/a b");
    }

    #[test]
    fn the_mount_on_top_counts() {
        let mounts = parse(TEXT);
        assert_eq!(
            at(&mounts, Path::new("/mnt/My Music")).unwrap().fs_type,
            "tmpfs"
        );
        assert_eq!(at(&mounts[..4], Path::new("/mnt/My Music")).unwrap().id, 90);
        assert!(at(&mounts, Path::new("/mnt")).is_none());
    }

    #[test]
    fn this_machine_has_a_root_mount() {
        assert!(at(&read().unwrap(), Path::new("/")).is_some());
    }
}
