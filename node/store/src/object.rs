//! The handle of one version: what callers read and write through.

use std::fmt;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use musicfs_core::extents::{BLOCK_BYTES, to_blocks};
use musicfs_core::manifest::Manifest;
use musicfs_core::version::VersionKey;

use crate::disk::DiskFile;
use crate::error::Error;
use crate::inner::{Inner, lock};
use crate::share::Provenance;
use crate::store::Store;
use crate::types::{Class, Finished, Written};

/// One version of one file, open. There is one for each version at a time.
///
/// While it lives, its object is evicted last of all; its blocks may become absent all the same.
/// Dropping it costs nothing and loses nothing: what it wrote is committed by the store.
pub struct Object {
    version: VersionKey,
    size: u64,
    store: Arc<Store>,
    /// Changes when the version turns out to equal another one.
    inner: Mutex<Arc<Inner>>,
}

impl Object {
    pub(crate) fn new(version: VersionKey, store: Arc<Store>, inner: Arc<Inner>) -> Arc<Self> {
        inner.handles.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self {
            version,
            size: inner.size,
            store,
            inner: Mutex::new(inner),
        })
    }

    /// The version.
    pub fn version(&self) -> VersionKey {
        self.version
    }

    /// Size of the file in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// What is not there of the blocks of `range`: whole blocks within the size, in order, disjoint.
    ///
    /// Never waits for a disk.
    pub fn absent(&self, range: Range<u64>) -> Vec<Range<u64>> {
        self.inner().state().blocks.absent(range)
    }

    /// The class of the block at `offset`; `None` if it is absent. Never waits for a disk.
    pub fn class(&self, offset: u64) -> Option<Class> {
        let inner = self.inner();
        let state = inner.state();
        let one = offset..offset.saturating_add(1);
        state
            .blocks
            .within(one)
            .next()
            .map(|(_, block)| block.class)
    }

    /// True if every block is there. Never waits for a disk.
    pub fn is_complete(&self) -> bool {
        self.inner().state().blocks.is_complete()
    }

    /// Reads into `buffer` what needs no disk and no check: the count of bytes, fewer than asked
    /// for only at the end of the file. `None`: use [`Object::read`].
    pub fn read_now(&self, offset: u64, buffer: &mut [u8]) -> Option<usize> {
        self.store.read_now(&self.inner(), offset, buffer)
    }

    /// Reads `range`, as far as the file goes. `None` if a block of it is absent, or turned out to
    /// be damaged just now: it is absent from then on.
    ///
    /// The first read of a block since the start of the program compares its checksum.
    ///
    /// # Errors
    /// [`Error::Disk`] if the machine lacks something; an unreadable block is a damaged one.
    pub fn read(&self, range: Range<u64>) -> Result<Option<Bytes>, Error> {
        self.store.read(&self.inner(), range, false)
    }

    /// Like [`Object::read`], and compares the checksums every time.
    ///
    /// # Errors
    /// As [`Object::read`].
    pub fn read_and_check(&self, range: Range<u64>) -> Result<Option<Bytes>, Error> {
        self.store.read(&self.inner(), range, true)
    }

    /// Keeps `bytes`, which start at the block boundary `offset` and are whole blocks or end with
    /// the file. Blocks that are there are left alone, whatever their class.
    ///
    /// Makes room by evicting others. Where a manifest is known, each chunk that got blocks is
    /// compared with it once all of it is there.
    ///
    /// # Errors
    /// [`Error::NotBlocks`] if the bytes are not whole blocks. What the disk refuses is no error.
    pub fn write(&self, offset: u64, bytes: &[u8], class: Class) -> Result<Written, Error> {
        let end = offset.checked_add(bytes.len() as u64);
        let is_whole = end.is_some_and(|end| {
            end <= self.size && to_blocks(offset..end, self.size) == (offset..end)
        });
        if !is_whole || !offset.is_multiple_of(BLOCK_BYTES) {
            return Err(Error::NotBlocks {
                version: self.version,
                offset,
                len: bytes.len() as u64,
            });
        }
        self.with_io(|inner| self.store.write(inner, offset, bytes, class))
    }

    /// Moves the blocks of `range` that are there to a class, as far as its quota goes.
    ///
    /// # Errors
    /// None today; what does not fit stays where it is.
    pub fn set_class(&self, range: Range<u64>, class: Class) -> Result<(), Error> {
        self.with_io(|inner| {
            self.store.reclass(inner, range.clone(), class);
            Ok(())
        })
    }

    /// Cuts a complete object into chunks and keeps the manifest. If another version has equal
    /// content, the two share one object from then on; this handle goes on working.
    ///
    /// Reads the whole object.
    ///
    /// # Errors
    /// As [`Object::read`].
    pub fn finish(&self) -> Result<Finished, Error> {
        self.with_io(|inner| self.store.finish(inner))
    }

    /// The manifest, once it is known.
    pub fn manifest(&self) -> Option<Arc<Manifest>> {
        self.inner().state().manifest.clone()
    }

    /// Lets the kernel read the file by itself: `None` unless the object is complete and every
    /// block was compared (or written) since the start, whether or not it was dropped meanwhile; nor
    /// while it is provisional, since it may have to go.
    pub fn passthrough(self: &Arc<Self>) -> Option<Passthrough> {
        let inner = self.inner();
        let mut state = inner.state();
        let is_whole = state.blocks.is_complete()
            && state.blocks.is_verified()
            && !matches!(state.provenance, Provenance::Provisional(_));
        let file = state.file.as_ref().filter(|_| is_whole)?;
        let file = Arc::clone(&file.file);
        file.descriptor()?;
        state.passthroughs_count += 1;
        drop(state);
        Some(Passthrough {
            inner,
            file,
            _object: Arc::clone(self),
        })
    }

    /// Compares every block that was not compared since the start. True if the object is complete
    /// and sound, so that [`Object::passthrough`] works.
    ///
    /// # Errors
    /// As [`Object::read`].
    pub fn verify_all(&self) -> Result<bool, Error> {
        self.store.verify_object(&self.inner())
    }

    /// Notes that it was used: it is evicted later than what was not.
    pub fn touch(&self) {
        self.store.touch(self.version);
    }

    pub(crate) fn inner(&self) -> Arc<Inner> {
        Arc::clone(&lock(&self.inner))
    }

    /// Goes on with another object from now on.
    pub(crate) fn set_inner(&self, inner: &Arc<Inner>) {
        inner.handles.fetch_add(1, Ordering::Relaxed);
        let before = std::mem::replace(&mut *lock(&self.inner), Arc::clone(inner));
        before.handles.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Runs `work` while nothing else changes the object's files.
    pub(crate) fn with_io<T>(
        &self,
        work: impl FnOnce(&Arc<Inner>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let _gate = self.store.enter();
        // Ends: an object is superseded once at most, by one that is older.
        loop {
            let inner = self.inner();
            let io = lock(&inner.io);
            if !inner.state().is_superseded {
                return work(&inner);
            }
            drop(io);
        }
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        self.inner().handles.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Object({}, {} bytes)", self.version, self.size)
    }
}

/// Lets the kernel read an object's file by itself. While it lives, no block of the object is
/// evicted or punched out.
pub struct Passthrough {
    inner: Arc<Inner>,
    file: Arc<dyn DiskFile>,
    _object: Arc<Object>,
}

impl AsFd for Passthrough {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file
            .descriptor()
            .expect("a guard is made only where there is a descriptor")
    }
}

impl Drop for Passthrough {
    fn drop(&mut self) {
        self.inner.state().passthroughs_count -= 1;
    }
}
