//! Whether the disk of the cache has room for what the cache may take.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::findings::{Finding, ok, warning};
use crate::config::{Config, header_limit_default};
use crate::output::size;

/// How many files are looked at to find out what the cache takes now: more than a large cache has.
const FILES_MAX: usize = 200_000;

/// The cache of an instance and its disk, in bytes.
#[derive(Clone, Debug)]
pub(crate) struct CacheFacts {
    /// Where it is.
    pub(crate) dir: PathBuf,
    /// An origin's data is kept in it.
    pub(crate) is_used: bool,
    /// What it takes now.
    pub(crate) used_bytes: u64,
    /// What it may take for bodies.
    pub(crate) limit_bytes: u64,
    /// What it may take for headers, if configured.
    pub(crate) header_limit_bytes: Option<u64>,
    /// What must stay free on the disk.
    pub(crate) free_bytes_min: u64,
    /// What is free on the disk, if that is known.
    pub(crate) free_bytes: Option<u64>,
}

/// Looks at the cache of `config`.
pub(super) fn gather(config: &Config) -> CacheFacts {
    let dir = config.paths.cache.clone();
    CacheFacts {
        is_used: config.origins.iter().any(|origin| origin.kind.is_cached()),
        used_bytes: used_bytes(&dir).unwrap_or(0),
        limit_bytes: config.cache_limit_bytes,
        header_limit_bytes: config.header_limit_bytes,
        free_bytes_min: config.cache_free_bytes_min,
        free_bytes: free_bytes(&dir),
        dir,
    }
}

/// Judges it; `None` if nothing would be cached.
pub(super) fn decide(facts: &CacheFacts) -> Option<Finding> {
    let check = "cache";
    if !facts.is_used {
        return None;
    }
    let dir = facts.dir.display();
    let Some(free) = facts.free_bytes else {
        return Some(warning(
            check,
            format!("the free space of the disk of {dir} is not known"),
            "see whether it is mounted, or set cache_dir elsewhere",
        ));
    };
    let configured = facts.header_limit_bytes;
    let headers = configured.unwrap_or_else(|| header_limit_default(free));
    let wanted = facts.limit_bytes.saturating_add(headers);
    let spare = free.saturating_sub(facts.free_bytes_min);
    let room = spare.saturating_add(facts.used_bytes);
    Some(if spare == 0 {
        warning(
            check,
            format!(
                "the disk of {dir} has {} free, and {} are to stay free: nothing more is cached",
                size(free),
                size(facts.free_bytes_min)
            ),
            "make room, set cache_dir elsewhere, or lower cache_free_min",
        )
    } else if room < wanted {
        warning(
            check,
            format!(
                "the cache in {dir} may take {}, and its disk has room for {}",
                size(wanted),
                size(room)
            ),
            "lower cache_limit or header_limit, or set cache_dir to a larger disk",
        )
    } else {
        let (used, wanted) = (size(facts.used_bytes), size(wanted));
        ok(
            check,
            format!("the cache in {dir} takes {used} of {wanted}, and the rest is free"),
        )
    })
}

fn free_bytes(dir: &Path) -> Option<u64> {
    let existing = dir.ancestors().find(|dir| dir.exists())?;
    let disk = rustix::fs::statvfs(existing).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// What files take on disk below `dir`, as far as [`FILES_MAX`] of them tell.
fn used_bytes(dir: &Path) -> io::Result<u64> {
    let mut dirs = vec![dir.to_owned()];
    let (mut bytes, mut files) = (0, 0);
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            files += 1;
            if files > FILES_MAX {
                return Ok(bytes);
            }
            if metadata.is_dir() {
                dirs.push(entry.path());
            }
            // st_blocks counts 512 bytes each (stat(2)).
            bytes += metadata.blocks() * 512;
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::findings::Level;
    use super::*;

    #[test]
    fn the_disk_must_have_room_for_what_the_cache_may_take() {
        let check = |spoil: fn(&mut CacheFacts), expect: Option<(Level, &str)>| {
            let mut facts = CacheFacts {
                dir: "/c".into(),
                is_used: true,
                used_bytes: 0,
                limit_bytes: 10 << 30,
                header_limit_bytes: None,
                free_bytes_min: 1 << 30,
                free_bytes: Some(100 << 30),
            };
            spoil(&mut facts);
            let found = decide(&facts);
            let told = found.as_ref().map(|finding| finding.level);
            assert_eq!(told, expect.map(|(level, _)| level), "{found:?}");
            if let (Some(found), Some((level, part))) = (found, expect) {
                assert!(found.message.contains(part), "{found:?}");
                assert_eq!(found.fix.is_some(), level > Level::Ok, "{found:?}");
            }
        };
        check(|_| {}, Some((Level::Ok, "0 B of 25.0 GiB")));
        check(|f| f.is_used = false, None);
        check(|f| f.free_bytes = None, Some((Level::Warning, "not known")));
        let tight = |f: &mut CacheFacts| f.free_bytes = Some(11 << 30);
        check(tight, Some((Level::Warning, "room for 10.0 GiB")));
        let filled = |f: &mut CacheFacts| {
            f.free_bytes = Some(5 << 30);
            f.used_bytes = 10 << 30;
        };
        check(filled, Some((Level::Ok, "takes 10.0 GiB")));
        let full = |f: &mut CacheFacts| f.free_bytes = Some(1 << 30);
        check(full, Some((Level::Warning, "nothing more")));
        let headers = |f: &mut CacheFacts| f.header_limit_bytes = Some(200 << 30);
        check(headers, Some((Level::Warning, "may take 210.0 GiB")));
    }

    #[test]
    fn what_the_cache_takes_is_counted_with_its_directories() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("ab")).unwrap();
        fs::write(dir.path().join("ab/x"), vec![1; 100_000]).unwrap();
        assert!(used_bytes(dir.path()).unwrap() >= 100_000);
        assert!(free_bytes(&dir.path().join("not/yet")).is_some());
    }
}
