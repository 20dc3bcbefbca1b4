//! A disk in memory that keeps only what was synced, and what else a seed decides.
//!
//! At a crash each write, hole, attribute and length since the last sync of its file, and each
//! change of names since the last sync of its directory, is kept or lost by itself; what is kept is
//! applied in order. That is more than any journalling file system loses.

mod image;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use musicfs_store::{Disk, DiskFile, DiskStat};

use crate::support::Random;
use image::{
    Change, Dir, Entry, File, Image, NameChange, PAGE, apply, apply_by_chance, apply_name, pages,
    split,
};

/// A disk that can lose, refuse and flip.
pub(crate) struct FaultDisk {
    inner: Arc<Mutex<Image>>,
    locked: Arc<AtomicBool>,
    clock_ms: AtomicU64,
}

/// What the disk does wrong from now on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Every operation that changes something fails with EIO.
    Failing,
    /// There is no space, whatever was said of it.
    Full,
    /// Only syncs fail, and what they should have made durable is lost by chance.
    Sync,
}

impl FaultDisk {
    pub(crate) fn new(seed: u64, capacity: u64) -> Arc<Self> {
        let root = PathBuf::from("/");
        let image = Image {
            random: Random(seed),
            files: BTreeMap::new(),
            next_file: 1,
            dirs: BTreeMap::from([(root, Dir::default())]),
            capacity,
            fault: None,
            peak: 0,
            power_left: None,
            is_dead: false,
        };
        Arc::new(Self {
            inner: Arc::new(Mutex::new(image)),
            locked: Arc::default(),
            clock_ms: AtomicU64::new(1_700_000_000_000),
        })
    }

    /// Makes time pass.
    pub(crate) fn pass(&self, time: Duration) {
        let ms = u64::try_from(time.as_millis()).unwrap();
        self.clock_ms.fetch_add(ms, Ordering::Relaxed);
    }

    pub(crate) fn set_fault(&self, fault: Option<Fault>) {
        self.image().fault = fault;
    }

    pub(crate) fn set_capacity(&self, capacity: u64) {
        self.image().capacity = capacity;
    }

    /// The power goes with the `count`th operation that changes something; later ones fail.
    pub(crate) fn lose_power_after(&self, count: u64) {
        self.image().power_left = Some(count);
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.image().is_dead
    }

    /// What is there after a power loss now. The old disk goes on for whoever still has it.
    pub(crate) fn crash(&self) -> Arc<Self> {
        let mut old = self.image();
        let mut random = Random(old.random.next());
        let mut dirs = BTreeMap::new();
        for (path, dir) in &old.dirs {
            let mut names = dir.durable.clone();
            for change in &dir.pending {
                if random.one_in(2) {
                    apply_name(&mut names, change);
                }
            }
            let dir = Dir {
                now: names.clone(),
                durable: names,
                pending: Vec::new(),
            };
            dirs.insert(path.clone(), dir);
        }
        let mut files = BTreeMap::new();
        for (id, file) in &old.files {
            let mut content = file.durable.clone();
            for change in &file.pending {
                apply_by_chance(&mut content, change, &mut random);
            }
            let file = File {
                now: content.clone(),
                durable: content,
                pending: Vec::new(),
                modified: file.modified,
            };
            files.insert(*id, file);
        }
        let mut image = Image {
            random,
            files,
            next_file: old.next_file,
            dirs,
            capacity: old.capacity,
            fault: None,
            peak: 0,
            power_left: None,
            is_dead: false,
        };
        image.drop_unreachable();
        Arc::new(Self {
            inner: Arc::new(Mutex::new(image)),
            locked: Arc::default(),
            clock_ms: AtomicU64::new(self.clock_ms.load(Ordering::Relaxed)),
        })
    }

    /// Bytes on disk of everything.
    pub(crate) fn used(&self) -> u64 {
        self.image().used()
    }

    /// The most bytes that were ever on disk since this was last asked.
    pub(crate) fn take_peak(&self) -> u64 {
        let mut image = self.image();
        let used = image.used();
        std::mem::replace(&mut image.peak, used)
    }

    /// Flips one bit of a file whose name ends so, chosen by the seed. False without such a file.
    pub(crate) fn flip_bit(&self, is_wanted: impl Fn(&str) -> bool) -> bool {
        let mut image = self.image();
        let ids: Vec<u64> = image
            .dirs
            .values()
            .flat_map(|dir| dir.now.iter())
            .filter_map(|(name, entry)| match entry {
                Entry::File(id) if is_wanted(name) => Some(*id),
                _ => None,
            })
            .filter(|id| !image.files[id].now.pages.is_empty())
            .collect();
        if ids.is_empty() {
            return false;
        }
        let id = ids[image.random.below(ids.len() as u64) as usize];
        let pages: Vec<usize> = image.files[&id].now.pages.iter().copied().collect();
        let page = pages[image.random.below(pages.len() as u64) as usize];
        let (at, bit) = (image.random.below(PAGE as u64), image.random.below(8));
        let file = image.files.get_mut(&id).unwrap();
        let at = (page * PAGE + at as usize).min(file.now.bytes.len() - 1);
        file.now.bytes[at] ^= 1 << bit;
        if at < file.durable.bytes.len() {
            file.durable.bytes[at] ^= 1 << bit;
        }
        true
    }

    /// The names in all directories.
    pub(crate) fn names(&self) -> Vec<String> {
        let image = self.image();
        let names = image.dirs.values().flat_map(|dir| dir.now.keys().cloned());
        names.collect()
    }

    fn image(&self) -> MutexGuard<'_, Image> {
        self.inner.lock().unwrap()
    }
}

impl Disk for FaultDisk {
    fn claim_dir(&self, path: &Path) -> io::Result<bool> {
        self.make_dir(path)?;
        self.sync_dir(&split(path).0)?;
        Ok(true)
    }

    fn lock(&self, _path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        if self.locked.swap(true, Ordering::Relaxed) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(Unlock(Arc::clone(&self.locked))))
    }

    fn make_dir(&self, path: &Path) -> io::Result<bool> {
        let mut image = self.image();
        if image.entry(path).is_ok() {
            return Ok(false);
        }
        image.change()?;
        let (parent, name) = split(path);
        image.change_name(&parent, NameChange::Add(name, Entry::Dir))?;
        image.dirs.insert(path.to_owned(), Dir::default());
        Ok(true)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        match self.image().entry(path)? {
            Entry::File(id) => Ok(Arc::new(FaultFile {
                id,
                image: Arc::clone(&self.inner),
            })),
            Entry::Dir => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut image = self.image();
        if image.entry(path).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        image.change()?;
        let id = image.next_file;
        image.next_file += 1;
        let (parent, name) = split(path);
        image.change_name(&parent, NameChange::Add(name, Entry::File(id)))?;
        let modified = self.clock_ms.load(Ordering::Relaxed) * 1_000_000;
        let file = File {
            modified,
            ..File::default()
        };
        image.files.insert(id, file);
        Ok(Arc::new(FaultFile {
            id,
            image: Arc::clone(&self.inner),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut image = self.image();
        image.change()?;
        let entry = image.entry(from)?;
        let ((parent, from), (other, to)) = (split(from), split(to));
        assert_eq!(parent, other, "the store renames within a directory only");
        image.change_name(&parent, NameChange::Rename(from, to, entry))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut image = self.image();
        image.entry(path)?;
        image.change()?;
        let (parent, name) = split(path);
        image.change_name(&parent, NameChange::Remove(name))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut image = self.image();
        let works = image.sync()?;
        let dir = image.dir(path)?;
        if !works {
            return Err(io::Error::from_raw_os_error(5));
        }
        dir.durable = dir.now.clone();
        dir.pending.clear();
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        Ok(self.image().dir(path)?.now.keys().cloned().collect())
    }

    fn stat(&self, path: &Path) -> io::Result<DiskStat> {
        let mut image = self.image();
        Ok(match image.entry(path)? {
            Entry::Dir => DiskStat {
                len: 0,
                allocated: 0,
                modified: 0,
                is_dir: true,
            },
            Entry::File(id) => DiskStat {
                len: image.files[&id].now.bytes.len() as u64,
                allocated: (image.files[&id].now.pages.len() * PAGE) as u64,
                modified: image.files[&id].modified,
                is_dir: false,
            },
        })
    }

    fn set_modified(&self, path: &Path, nanos: u64) -> io::Result<()> {
        let mut image = self.image();
        image.change()?;
        if let Entry::File(id) = image.entry(path)? {
            image.files.get_mut(&id).unwrap().modified = nanos;
        }
        Ok(())
    }

    fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        let image = self.image();
        Ok(image.capacity.saturating_sub(image.used()))
    }

    fn database(&self, _path: &Path) -> Option<PathBuf> {
        None
    }

    fn random(&self) -> io::Result<[u8; 16]> {
        let mut image = self.image();
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&image.random.next().to_le_bytes());
        bytes[8..].copy_from_slice(&image.random.next().to_le_bytes());
        Ok(bytes)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.clock_ms.load(Ordering::Relaxed))
    }

    fn wall(&self) -> Duration {
        self.monotonic()
    }
}

struct FaultFile {
    id: u64,
    image: Arc<Mutex<Image>>,
}

impl FaultFile {
    fn with<T>(&self, work: impl FnOnce(&mut Image) -> T) -> T {
        let mut image = self.image.lock().unwrap();
        // An unlinked file lives on for whoever has it open.
        work(&mut image)
    }

    fn apply(&self, change: Change) -> io::Result<()> {
        self.with(|image| {
            image.change()?;
            if let Change::Write(at, bytes) = &change {
                let file = &image.files[&self.id];
                let new = pages(*at, bytes.len())
                    .filter(|page| !file.now.pages.contains(page))
                    .count();
                let used = image.used() + (new * PAGE) as u64;
                if used > image.capacity || (new > 0 && image.fault == Some(Fault::Full)) {
                    return Err(io::Error::from_raw_os_error(28));
                }
                image.peak = image.peak.max(used);
            }
            let file = image.files.get_mut(&self.id).unwrap();
            apply(&mut file.now, &change);
            file.pending.push(change);
            Ok(())
        })
    }
}

impl DiskFile for FaultFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|image| {
            let bytes = &image.files[&self.id].now.bytes;
            let start = (offset as usize).min(bytes.len());
            let len = buffer.len().min(bytes.len() - start);
            buffer[..len].copy_from_slice(&bytes[start..start + len]);
            Ok(len)
        })
    }

    fn read_now_at(&self, buffer: &mut [u8], offset: u64) -> Option<usize> {
        self.read_at(buffer, offset).ok()
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.apply(Change::Write(offset as usize, bytes.to_vec()))
    }

    fn sync(&self, and_name_tags: bool) -> io::Result<()> {
        self.with(|image| {
            let works = image.sync()?;
            let mut random = Random(image.random.next());
            let file = image.files.get_mut(&self.id).unwrap();
            if !works {
                // The kernel forgets which pages it could not write: they are gone for good.
                let pending = std::mem::take(&mut file.pending);
                let mut content = file.durable.clone();
                for change in &pending {
                    apply_by_chance(&mut content, change, &mut random);
                }
                content.tags.clone_from(&file.now.tags);
                content.pages.clone_from(&file.now.pages);
                content.bytes.resize(file.now.bytes.len(), 0);
                file.now = content.clone();
                file.durable = content;
                return Err(io::Error::from_raw_os_error(5));
            }
            let tags = file.durable.tags.clone();
            file.durable = file.now.clone();
            file.pending
                .retain(|change| matches!(change, Change::Tag(..)));
            if and_name_tags {
                file.pending.clear();
            } else {
                file.durable.tags = tags;
            }
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.apply(Change::Len(len as usize))
    }

    fn size(&self) -> io::Result<u64> {
        self.with(|image| Ok(image.files[&self.id].now.bytes.len() as u64))
    }

    fn allocated(&self) -> io::Result<u64> {
        self.with(|image| Ok((image.files[&self.id].now.pages.len() * PAGE) as u64))
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        self.apply(Change::Punch(offset as usize, len as usize))
    }

    fn tag(&self, name: &str) -> io::Result<Option<[u8; 16]>> {
        self.with(|image| Ok(image.files[&self.id].now.tags.get(name).copied()))
    }

    fn set_tag(&self, name: &str, value: [u8; 16]) -> io::Result<()> {
        self.apply(Change::Tag(name.to_owned(), value))
    }

    fn set_modified(&self, nanos: u64) -> io::Result<()> {
        self.with(|image| {
            image.change()?;
            image.files.get_mut(&self.id).unwrap().modified = nanos;
            Ok(())
        })
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

struct Unlock(Arc<AtomicBool>);

impl Drop for Unlock {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}
