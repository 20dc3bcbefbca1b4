//! The way from an origin's root to what lies below it, and never out of it.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, ResolveFlags, Statx, StatxFlags};
use rustix::io::Errno;

use musicfs_core::origin::{FileIdentity, OriginError};
use musicfs_core::path::OriginPath;
use musicfs_core::version::{ContentVersion, Validator};

/// The most symbolic links in one path: Linux's own limit (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// Room for a few entries: a name has at most 255 bytes, and its header 19.
const CHECK_BYTES: usize = 2048;

/// Where an origin is configured to lie. Holds nothing open.
#[derive(Debug)]
pub(crate) struct Place {
    /// The configured root, absolute, its links not resolved.
    pub(crate) root: PathBuf,
    /// Directories that nothing may touch, absolute, without links.
    excluded: Vec<PathBuf>,
    /// True if the root itself lay inside one of them, links resolved, when this was made.
    is_root_excluded: bool,
}

impl Place {
    /// Makes the paths absolute; touches no excluded directory, only what is above it.
    pub(crate) fn new(root: &Path, excluded: &[PathBuf]) -> Self {
        let excluded = excluded
            .iter()
            .map(|path| {
                let path = absolute(path);
                match (path.parent(), path.file_name()) {
                    (Some(parent), Some(name)) => settle(parent, &[]).join(name),
                    _ => path,
                }
            })
            .collect();
        let mut place = Self {
            root: absolute(root),
            excluded,
            is_root_excluded: false,
        };
        place.is_root_excluded = place.covers(&place.root) || place.covers(&place.settled_root());
        place
    }

    /// The root with its links resolved as far as they can be now.
    pub(crate) fn settled_root(&self) -> PathBuf {
        settle(&self.root, &self.excluded)
    }

    /// The excluded directories as paths below the root, where its links lead now.
    pub(crate) fn excluded_below_root(&self) -> Vec<OriginPath> {
        let real = self.settled_root();
        let below = |mount: &PathBuf| below(mount, &real);
        self.excluded.iter().filter_map(below).collect()
    }

    fn covers(&self, path: &Path) -> bool {
        self.excluded.iter().any(|mount| path.starts_with(mount))
    }

    fn missing(&self, reason: &'static str) -> OriginError {
        OriginError::RootMissing {
            root: self.root.clone(),
            reason,
        }
    }
}

/// An origin's root, open for as long as one operation takes: held longer, it would keep a disk
/// from being unmounted, and would miss one that was mounted anew.
#[derive(Debug)]
pub(crate) struct Root {
    fd: OwnedFd,
    /// Where the open directory lies, without links.
    real: PathBuf,
    /// The excluded directories that lie inside, absolute and as paths below the root.
    excluded: Vec<(PathBuf, OriginPath)>,
}

/// Why a path leads to nothing that may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unresolved {
    /// Nothing lies there: a dangling link, or links in a circle.
    Missing,
    /// It leads into a directory that must not be touched.
    Excluded,
    /// It leads out of the root.
    Outside,
    /// The system failed.
    Failed(Errno),
}

impl Root {
    /// Opens the root as it lies there now. May wait for the disk.
    ///
    /// # Errors
    /// [`OriginError::RootMissing`] if there is no readable directory; [`OriginError::Io`] if this
    /// process is out of descriptors.
    pub(crate) fn open(place: &Place) -> Result<Self, OriginError> {
        if place.is_root_excluded {
            return Err(place.missing("it lies inside the mount point"));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = match rustix::fs::openat(CWD, &place.root, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(errno @ (Errno::MFILE | Errno::NFILE | Errno::NOMEM)) => {
                return Err(io_error("open", &OriginPath::default(), errno));
            }
            Err(errno) => return Err(place.missing(reason(errno))),
        };
        let real = real_path(fd.as_fd())
            .or_else(|_| std::fs::canonicalize(&place.root))
            .map_err(|_| place.missing("its real path cannot be found"))?;
        if place.covers(&real) {
            return Err(place.missing("it lies inside the mount point"));
        }
        let pair = |mount: &PathBuf| Some((mount.clone(), below(mount, &real)?));
        let excluded = place.excluded.iter().filter_map(pair).collect();
        Ok(Self { fd, real, excluded })
    }

    /// Finds out whether the root can be listed, as far as its first entries.
    ///
    /// # Errors
    /// [`OriginError::RootMissing`] if not.
    pub(crate) fn check(&self) -> Result<(), OriginError> {
        let mut buffer = Vec::with_capacity(CHECK_BYTES);
        let mut entries = RawDir::new(&self.fd, buffer.spare_capacity_mut());
        match entries.next() {
            Some(Err(errno)) => Err(OriginError::RootMissing {
                root: self.real.clone(),
                reason: reason(errno),
            }),
            Some(Ok(_)) | None => Ok(()),
        }
    }

    /// True if nothing at or below `real` may be touched.
    pub(crate) fn excludes(&self, real: &OriginPath) -> bool {
        self.excluded.iter().any(|(_, mount)| real.is_within(mount))
    }

    /// True if `name` in the directory `real` is one that must not be touched.
    pub(crate) fn excludes_entry(&self, real: &OriginPath, name: &[u8]) -> bool {
        self.excluded
            .iter()
            .any(|(_, mount)| mount.name() == name && mount.parent() == *real)
    }

    /// Opens `real`, a path without links, for reading or with `OFlags::PATH`.
    ///
    /// Neither waits for a FIFO's writer, nor updates access times where that can be avoided.
    ///
    /// # Errors
    /// `Errno::LOOP` if a component is a link after all, `Errno::NOENT` for what is excluded, and
    /// whatever the system says.
    pub(crate) fn open_at(&self, real: &OriginPath, flags: OFlags) -> Result<OwnedFd, Errno> {
        if self.excludes(real) {
            return Err(Errno::NOENT);
        }
        let flags = match flags.contains(OFlags::PATH) {
            // openat2 allows nothing beside it that it would not heed.
            true => flags | OFlags::CLOEXEC,
            false => flags | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY,
        };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let open =
            |flags| rustix::fs::openat2(&self.fd, name_of(real), flags, Mode::empty(), resolve);
        if !flags.contains(OFlags::PATH) {
            // Only the owner of a file (or root) may spare its access time (open(2)).
            match open(flags | OFlags::NOATIME) {
                Err(Errno::PERM | Errno::NOSYS) => {}
                done => return done,
            }
        }
        match open(flags) {
            // Linux before 5.6, or a sandbox that knows no openat2 and says EPERM.
            Err(Errno::NOSYS | Errno::PERM) => self.open_checked(real, flags),
            done => done,
        }
    }

    /// What [`Root::open_at`] does where there is no openat2: opens first, then looks where it is.
    fn open_checked(&self, real: &OriginPath, flags: OFlags) -> Result<OwnedFd, Errno> {
        let fd = rustix::fs::openat(&self.fd, name_of(real), flags, Mode::empty())?;
        let expected = match real.is_root() {
            true => self.real.clone(),
            false => self.real.join(OsStr::from_bytes(real.as_bytes())),
        };
        match real_path(fd.as_fd()) {
            Ok(path) if path == expected => Ok(fd),
            Ok(_) => Err(Errno::LOOP),
            Err(_) => Err(Errno::NOSYS),
        }
    }

    /// Follows `rest`, a path or the name of a link, from the directory `dir` to where it really
    /// lies. Excluded directories are recognised before they are touched.
    pub(crate) fn locate(&self, dir: &OriginPath, rest: &[u8]) -> Result<OriginPath, Unresolved> {
        let start = match dir.is_root() {
            true => self.real.clone(),
            false => self.real.join(OsStr::from_bytes(dir.as_bytes())),
        };
        let avoid = |path: &Path| self.excluded.iter().any(|(mount, _)| mount == path);
        let real = resolve(start, rest, avoid, IfMissing::Fail)?;
        below(&real, &self.real).ok_or(Unresolved::Outside)
    }
}

/// What a stat says of a file or directory.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) kind: FileType,
    pub(crate) version: ContentVersion,
    pub(crate) mtime_ns: i64,
    /// The read bits of the mode.
    pub(crate) mode: u16,
    pub(crate) identity: FileIdentity,
}

impl Facts {
    /// Asks for an open descriptor.
    pub(crate) fn of_fd(fd: BorrowedFd<'_>) -> Result<Self, Errno> {
        rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, Self::MASK).map(|stat| Self::new(&stat))
    }

    /// Asks for the entry `name` itself, not for what it links to.
    pub(crate) fn of_entry(dir: BorrowedFd<'_>, name: &std::ffi::CStr) -> Result<Self, Errno> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        rustix::fs::statx(dir, name, flags, Self::MASK).map(|stat| Self::new(&stat))
    }

    const MASK: StatxFlags = StatxFlags::TYPE
        .union(StatxFlags::MODE)
        .union(StatxFlags::SIZE)
        .union(StatxFlags::MTIME)
        .union(StatxFlags::INO);

    fn new(stat: &Statx) -> Self {
        let mtime_ns = stat
            .stx_mtime
            .tv_sec
            .saturating_mul(1_000_000_000)
            .saturating_add(i64::from(stat.stx_mtime.tv_nsec));
        Self {
            kind: FileType::from_raw_mode(stat.stx_mode.into()),
            version: ContentVersion {
                size: stat.stx_size,
                validator: Validator::Mtime(mtime_ns),
            },
            mtime_ns,
            mode: stat.stx_mode & 0o444,
            identity: FileIdentity {
                device: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor),
                inode: stat.stx_ino,
            },
        }
    }
}

/// The error of a failed system call on `path`.
pub(crate) fn io_error(
    action: &'static str,
    path: &OriginPath,
    source: impl Into<std::io::Error>,
) -> OriginError {
    OriginError::Io {
        action,
        path: path.clone(),
        source: source.into(),
    }
}

/// What [`resolve`] does with a component that does not exist.
#[derive(Clone, Copy, PartialEq, Eq)]
enum IfMissing {
    Fail,
    Keep,
}

/// Follows every link of `rest` from the real directory `cur`, one component at a time, so that
/// `avoid` is asked about each directory before the system is.
fn resolve(
    mut cur: PathBuf,
    rest: &[u8],
    avoid: impl Fn(&Path) -> bool,
    missing: IfMissing,
) -> Result<PathBuf, Unresolved> {
    let mut pending: VecDeque<Vec<u8>> = rest.split(|&byte| byte == b'/').map(Vec::from).collect();
    let mut links_count = 0;
    while let Some(part) = pending.pop_front() {
        match part.as_slice() {
            b"" | b"." => continue,
            b".." => {
                cur.pop();
                continue;
            }
            name => cur.push(OsStr::from_bytes(name)),
        }
        if avoid(&cur) {
            return Err(Unresolved::Excluded);
        }
        let target = match rustix::fs::readlink(&cur, Vec::new()) {
            Ok(target) => target.into_bytes(),
            Err(Errno::INVAL) => continue, // no link
            Err(Errno::NOENT | Errno::NOTDIR) if missing == IfMissing::Keep => continue,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG) => {
                return Err(Unresolved::Missing);
            }
            Err(errno) => return Err(Unresolved::Failed(errno)),
        };
        links_count += 1;
        if links_count > LINKS_MAX {
            return Err(Unresolved::Missing);
        }
        match target.first() {
            Some(b'/') => cur = PathBuf::from("/"),
            _ => drop(cur.pop()),
        }
        for part in target.rsplit(|&byte| byte == b'/') {
            pending.push_front(part.to_vec());
        }
    }
    Ok(cur)
}

/// `path` without links, as far as it exists; lexically where nothing better can be had.
fn settle(path: &Path, excluded: &[PathBuf]) -> PathBuf {
    let avoid = |path: &Path| excluded.iter().any(|mount| mount == path);
    let bytes = path.as_os_str().as_bytes();
    resolve(PathBuf::from("/"), bytes, avoid, IfMissing::Keep).unwrap_or_else(|_| path.to_owned())
}

/// `path` as a path below `root`; both absolute and without links.
fn below(path: &Path, root: &Path) -> Option<OriginPath> {
    let inside = path.strip_prefix(root).ok()?;
    OriginPath::new(inside.as_os_str().as_bytes()).ok()
}

fn absolute(path: &Path) -> PathBuf {
    // Fails only for an empty path and without a working directory.
    std::path::absolute(path).unwrap_or_else(|_| Path::new("/").join(path))
}

/// Where an open descriptor lies now, without links.
fn real_path(fd: BorrowedFd<'_>) -> std::io::Result<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

fn name_of(real: &OriginPath) -> &[u8] {
    match real.is_root() {
        true => b".",
        false => real.as_bytes(),
    }
}

fn reason(errno: Errno) -> &'static str {
    match errno {
        Errno::NOENT => "no such directory",
        Errno::NOTDIR => "not a directory",
        Errno::ACCESS | Errno::PERM => "permission denied",
        Errno::LOOP => "too many symbolic links",
        Errno::IO => "the disk fails",
        Errno::STALE | Errno::NOTCONN | Errno::HOSTDOWN | Errno::TIMEDOUT => {
            "what was mounted there is gone"
        }
        _ => "it cannot be opened",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn path(text: &str) -> OriginPath {
        OriginPath::new(text.as_bytes()).unwrap()
    }

    fn root(dir: &Path, excluded: &[PathBuf]) -> Root {
        Root::open(&Place::new(dir, excluded)).unwrap()
    }

    #[test]
    fn a_link_is_located_wherever_it_points() {
        let base = tempfile::tempdir().unwrap();
        let dir = base.path().join("root");
        std::fs::create_dir_all(dir.join("a/b")).unwrap();
        std::fs::create_dir_all(dir.join("mnt/x")).unwrap();
        symlink(&dir, base.path().join("alias")).unwrap();
        symlink("../a/./b", dir.join("a/rel")).unwrap();
        symlink(base.path().join("alias/a/b"), dir.join("abs")).unwrap();
        symlink("/etc", dir.join("out")).unwrap();
        symlink("mnt/x", dir.join("in-mount")).unwrap();
        symlink("nothing", dir.join("dangling")).unwrap();
        symlink("circle", dir.join("circle")).unwrap();
        let root = root(&base.path().join("alias"), &[dir.join("mnt")]);
        let at_top = |name: &[u8]| root.locate(&path(""), name);
        assert_eq!(root.locate(&path("a"), b"rel"), Ok(path("a/b")));
        assert_eq!(at_top(b"abs"), Ok(path("a/b")));
        assert_eq!(at_top(b"out"), Err(Unresolved::Outside));
        assert_eq!(at_top(b"in-mount"), Err(Unresolved::Excluded));
        assert_eq!(at_top(b"dangling"), Err(Unresolved::Missing));
        assert_eq!(at_top(b"circle"), Err(Unresolved::Missing));
    }

    #[test]
    fn without_openat2_a_link_is_still_no_way_in() {
        let base = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(base.path().join("a")).unwrap();
        std::fs::write(base.path().join("a/f"), "x").unwrap();
        symlink("a", base.path().join("l")).unwrap();
        let root = root(base.path(), &[]);
        let open = |text| root.open_checked(&path(text), OFlags::RDONLY | OFlags::CLOEXEC);
        assert!(open("a/f").is_ok());
        assert!(open("").is_ok());
        assert_eq!(open("l/f").unwrap_err(), Errno::LOOP);
        assert_eq!(open("gone").unwrap_err(), Errno::NOENT);
        assert_eq!(
            root.open_at(&path("l/f"), OFlags::RDONLY).unwrap_err(),
            Errno::LOOP
        );
    }

    #[test]
    fn a_root_inside_the_mount_point_is_refused() {
        let base = tempfile::tempdir().unwrap();
        let place = Place::new(&base.path().join("x"), &[base.path().to_owned()]);
        assert!(matches!(
            Root::open(&place),
            Err(OriginError::RootMissing { .. })
        ));
    }
}
