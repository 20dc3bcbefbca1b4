//! The store itself: opening it, its objects, and what is told of all of them.

use std::path::Path;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use musicfs_core::version::VersionKey;

use crate::budget::Ledger;
use crate::disk::Disk;
use crate::error::{Attempt, Error, if_there};
use crate::evict::Evictor;
use crate::health::{DiskHealth, Failure, Health};
use crate::index::Index;
use crate::inner::{Inner, State, lock};
use crate::layout::{CACHEDIR_TAG, FORMAT, ID_TAG, Layout};
use crate::live::Live;
use crate::lookup::Found;
use crate::object::Object;
use crate::share::Watcher;
use crate::types::{Class, ClassStats, Config, Limits, OBJECT_BYTES_MAX, Stats, Why};
use crate::verified::Verified;

/// How many objects can be looked up on disk at the same time.
pub(crate) const OPENING_COUNT: usize = 64;
/// How often a name is looked up again because it changed meanwhile.
const LOOKUP_TRIES_MAX: u32 = 4;
const PHASE_RECOVERING: u8 = 0;
const PHASE_OPEN: u8 = 1;
const PHASE_CLOSED: u8 = 2;

/// Remote content on disk. Every method may be called from any thread.
///
/// Calls block on the disk, unless their documentation says that they do not.
pub struct Store {
    pub(crate) layout: Layout,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) index: Index,
    pub(crate) ledger: Mutex<Ledger>,
    pub(crate) live: Mutex<Live>,
    pub(crate) health: Mutex<Health>,
    pub(crate) verified: Mutex<Verified>,
    pub(crate) evictor: Mutex<Evictor>,
    pub(crate) counters: Counters,
    pub(crate) watcher: OnceLock<Watcher>,
    /// When accesses were last written to the maps.
    pub(crate) touches_flushed: Mutex<Duration>,
    /// Held shared by all that changes files, and alone by [`Store::close`].
    pub(crate) gate: RwLock<()>,
    pub(crate) opening: [Mutex<()>; OPENING_COUNT],
    phase: AtomicU8,
    // Held for its lock: a second process with this directory is refused.
    _lock: Box<dyn Send + Sync>,
}

#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) header_evictions: AtomicU64,
    pub(crate) body_evictions: AtomicU64,
    pub(crate) header_unfit: AtomicU64,
    pub(crate) body_unfit: AtomicU64,
    pub(crate) blocks_damaged: AtomicU64,
    pub(crate) blocks_healed: AtomicU64,
    pub(crate) chunks_mismatched: AtomicU64,
    pub(crate) objects_shared: AtomicU64,
}

impl Store {
    /// Opens the store in a directory, which is made if need be, and locks it.
    ///
    /// Looks at nothing in it but what says whose it is, so it is fast however full the store is.
    /// Until [`Store::recover`] has ended, reads work and writes are refused.
    ///
    /// # Errors
    /// [`Error::Locked`], [`Error::NotOurs`] or [`Error::Format`] if the directory cannot be used,
    /// else what the disk says. The caller does without a store.
    pub fn open(config: Config, disk: Arc<dyn Disk>) -> Result<Arc<Self>, Error> {
        let Config { dir, limits } = config;
        let layout = Layout::new(&dir);
        if !disk.claim_dir(&dir).attempt("create", &dir)? {
            return Err(Error::NotOurs { dir });
        }
        let lock_path = layout.lock();
        let guard = match disk.lock(&lock_path) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                return Err(Error::Locked { dir });
            }
            locked => locked.attempt("lock", &lock_path)?,
        };
        prepare(&layout, &*disk)?;
        let index = Index::new(disk.database(&layout.index()));
        Ok(Arc::new(Self {
            index,
            ledger: Mutex::new(Ledger::new(limits)),
            live: Mutex::default(),
            health: Mutex::new(Health::new()),
            verified: Mutex::default(),
            evictor: Mutex::default(),
            counters: Counters::default(),
            watcher: OnceLock::new(),
            touches_flushed: Mutex::new(disk.monotonic()),
            gate: RwLock::new(()),
            opening: std::array::from_fn(|_| Mutex::new(())),
            phase: AtomicU8::new(PHASE_RECOVERING),
            layout,
            disk,
            _lock: guard,
        }))
    }

    /// The handle of a version of `size` bytes; the one that there is, if it is open already.
    ///
    /// # Errors
    /// [`Error::TooLarge`] above [`OBJECT_BYTES_MAX`]; [`Error::Disk`] if its files cannot be looked
    /// at. The caller reads the origin without keeping anything.
    pub fn object(self: &Arc<Self>, version: VersionKey, size: u64) -> Result<Arc<Object>, Error> {
        if size > OBJECT_BYTES_MAX {
            return Err(Error::TooLarge { version, size });
        }
        for _ in 0..LOOKUP_TRIES_MAX {
            if let Some(object) = lock(&self.live).handle(version) {
                return Ok(object);
            }
            match self.find(version, Some(size))? {
                Found::Inner(inner) => return Ok(self.handle(version, &inner)),
                Found::Alias {
                    of,
                    id,
                    size: found,
                } => {
                    if let Found::Inner(inner) = self.find(of, None)?
                        && found == size
                        && inner.size == size
                        && inner
                            .state()
                            .file
                            .as_ref()
                            .is_some_and(|file| file.id == id)
                    {
                        return Ok(self.handle(version, &inner));
                    }
                    if !self.is_open() || self.remove_alias(version).is_err() {
                        break;
                    }
                }
                Found::Nothing => {}
            }
        }
        // Its name changes faster than it can be looked up, or may not be changed yet.
        let inner = Inner::new(version, size, State::empty(size));
        lock(&self.live).set_inner(version, &inner);
        Ok(self.handle(version, &inner))
    }

    /// Says which versions are pinned: all of them, each time. Their bodies are not evicted.
    pub fn set_pinned(&self, versions: Vec<VersionKey>) {
        lock(&self.ledger).set_pins(versions);
    }

    /// How many bytes the caller may pin: 80 % of the limit for bodies.
    pub fn pin_capacity(&self) -> u64 {
        lock(&self.ledger).pin_capacity()
    }

    /// Says that a version's file is gone or has new content: it is the first to be evicted, pinned
    /// or not. Opening it again takes that back.
    pub fn retire(&self, version: VersionKey) {
        lock(&self.ledger).retire(version);
    }

    /// Changes how much may be held. What is too much is evicted before this returns.
    pub fn set_limits(&self, limits: Limits) {
        lock(&self.ledger).limits = limits;
        let _gate = self.enter();
        if self.is_open() {
            self.enforce();
        }
    }

    /// What is held, and how the disk is. Never waits for a disk.
    pub fn stats(&self) -> Stats {
        let (header, body, size_bytes, limits) = {
            let ledger = lock(&self.ledger);
            let of = |class| ledger.class_stats(class);
            (
                of(Class::Header),
                of(Class::Body),
                ledger.size_bytes(),
                ledger.limits,
            )
        };
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        Stats {
            header: ClassStats {
                evictions: count(&counters.header_evictions),
                unfit_bytes: count(&counters.header_unfit),
                ..header
            },
            body: ClassStats {
                evictions: count(&counters.body_evictions),
                unfit_bytes: count(&counters.body_unfit),
                ..body
            },
            chunks_stored: self.index.chunks_stored(),
            chunks_unique: self.index.chunks_unique(),
            size_bytes,
            limits,
            blocks_damaged: count(&counters.blocks_damaged),
            blocks_healed: count(&counters.blocks_healed),
            chunks_mismatched: count(&counters.chunks_mismatched),
            objects_shared: count(&counters.objects_shared),
            health: self.disk_health(),
        }
    }

    /// How the disk is. Never waits for it.
    pub fn disk_health(&self) -> DiskHealth {
        lock(&self.health).state()
    }

    pub(crate) fn touch(&self, version: VersionKey) {
        let wall = self.wall();
        lock(&self.ledger).touch(version, wall);
    }

    fn handle(self: &Arc<Self>, version: VersionKey, inner: &Arc<Inner>) -> Arc<Object> {
        let object = {
            let mut live = lock(&self.live);
            match live.handle(version) {
                Some(object) => return object,
                None => {
                    let object = Object::new(version, Arc::clone(self), Arc::clone(inner));
                    if inner.version != version {
                        live.set_inner(version, inner);
                    }
                    live.set_handle(version, &object);
                    object
                }
            }
        };
        let wall = self.wall();
        lock(&self.ledger).unretire(version, wall);
        object
    }

    /// Remembers an object in the state that its map tells of, if all of that was found sound.
    pub(crate) fn note_verified(&self, version: VersionKey, state: &State) {
        if let Some(seal) = state.verified_seal() {
            lock(&self.verified).remember(version, seal);
        }
    }

    /// Blocks of a version went away: nothing read before this is trusted any more.
    pub(crate) fn lost_blocks(&self, version: VersionKey, state: &mut State) {
        state.lost_blocks();
        lock(&self.verified).forget(version);
        if let Some(watcher) = self.watcher.get() {
            // Those that share it follow once they lose their place in the ledger, or it theirs.
            watcher(version);
        }
    }

    pub(crate) fn mark_dirty(&self, inner: &Arc<Inner>) {
        let now = self.disk.monotonic();
        lock(&self.live).set_dirty(inner, now);
    }

    pub(crate) fn is_recovering(&self) -> bool {
        self.phase.load(Ordering::Acquire) == PHASE_RECOVERING
    }

    pub(crate) fn is_open(&self) -> bool {
        self.phase.load(Ordering::Acquire) == PHASE_OPEN
    }

    pub(crate) fn set_open(&self) {
        self.phase.store(PHASE_OPEN, Ordering::Release);
    }

    pub(crate) fn set_closed(&self) {
        self.phase.store(PHASE_CLOSED, Ordering::Release);
    }

    /// To be held by whoever changes files, so that nothing changes once the store is closed.
    pub(crate) fn enter(&self) -> RwLockReadGuard<'_, ()> {
        self.gate.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a write may be tried at all.
    pub(crate) fn may_write(&self) -> Result<(), Why> {
        if !self.is_open() {
            return Err(Why::Recovering);
        }
        let now = self.disk.monotonic();
        match lock(&self.health).may_try(now) {
            true => Ok(()),
            false => Err(Why::DiskFailing),
        }
    }

    /// Notes that the disk refused something, and tells it once.
    pub(crate) fn disk_failed(&self, error: &Error) {
        let failure = error.disk().map_or(Failure::Failing, Failure::of);
        let now = self.disk.monotonic();
        let changed = lock(&self.health).failed(failure, now);
        let error = musicfs_core::error::with_causes(error);
        match changed {
            Some(state) => tracing::warn!(
                ?state,
                error,
                "the cache cannot be written; content is served without being kept"
            ),
            None => tracing::debug!(error, "the cache still cannot be written"),
        }
    }

    /// Notes that the disk took something durably, and tells it once.
    pub(crate) fn disk_succeeded(&self) {
        let changed = lock(&self.health).succeeded();
        if changed.is_some() {
            tracing::info!("the cache can be written again");
        }
    }

    /// Nanoseconds since 1970.
    pub(crate) fn wall(&self) -> u64 {
        u64::try_from(self.disk.wall().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Checks whose directory it is, or makes it one of ours.
fn prepare(layout: &Layout, disk: &dyn Disk) -> Result<(), Error> {
    let path = layout.format();
    match if_there(disk.open(&path)).attempt("open", &path)? {
        Some(file) => {
            let mut bytes = [0; 64];
            let count = file.read_at(&mut bytes, 0).attempt("read", &path)?;
            if bytes[..count] != *FORMAT.as_bytes() {
                let found = String::from_utf8_lossy(&bytes[..count]).trim().to_owned();
                return Err(Error::Format {
                    dir: layout.dir.clone(),
                    found,
                    known: FORMAT.trim_ascii_end(),
                });
            }
        }
        None => {
            // Objects that were made without saying how are not ours to touch.
            if if_there(disk.stat(&layout.objects))
                .attempt("look at", &layout.objects)?
                .is_some()
            {
                return Err(Error::Format {
                    dir: layout.dir.clone(),
                    found: String::new(),
                    known: FORMAT.trim_ascii_end(),
                });
            }
            put(disk, &layout.tag(), CACHEDIR_TAG.as_bytes())?;
            put(disk, &path, FORMAT.as_bytes())?;
            disk.sync_dir(&layout.dir).attempt("sync", &layout.dir)?;
        }
    }
    if disk
        .make_dir(&layout.objects)
        .attempt("create", &layout.objects)?
    {
        disk.sync_dir(&layout.dir).attempt("sync", &layout.dir)?;
    }
    Ok(())
}

/// Puts a small file in its place; durable once the directory is synced. Shows at once whether the
/// file system has the extended attributes that objects need.
pub(crate) fn put(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let half = Layout::half(path);
    if_there(disk.remove(&half)).attempt("remove", &half)?;
    let file = disk.create(&half).attempt("create", &half)?;
    file.set_tag(ID_TAG, [0; 16])
        .attempt("set an extended attribute of", &half)?;
    file.write_at(bytes, 0).attempt("write", &half)?;
    file.sync(true).attempt("sync", &half)?;
    disk.rename(&half, path).attempt("rename", &half)
}
