//! One combination, and what holds in it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use musicfs_tests::daemon::Daemon;

use super::fault::{Fault, Injected, inject};
use super::oracle::{Handle, assert_may_fail, recovers, tree_of};
use super::replaced;
use super::site::{FULL_BYTES_MAX, Kind, Site, library};
use super::watchman::Watchman;

/// What is read over a slow line: three seconds' worth, in two files.
const SLOW_READS: [[(usize, usize); 2]; 2] = [
    [(0, 128 << 10), (128 << 10, 256 << 10)],
    [(1_000_000, 64 << 10), (2_000_000, 128 << 10)],
];
/// What is read of each file while nothing can be had.
const OUTAGE_READS: [(usize, usize); 2] = [(0, 4096), (1_500_000, 100_000)];
/// What a daemon may warn of whose origin is broken.
const WARNINGS: [&str; 3] = [
    "read failed",
    "the origin does not answer",
    "directory cannot be read; what is known of it is kept",
];

/// A kind of origin, what goes wrong with it, and what is cached meanwhile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell {
    /// The origin.
    pub(crate) kind: Kind,
    /// What goes wrong.
    pub(crate) fault: Fault,
    /// What is cached.
    pub(crate) cache: Cache,
}

/// The state of the cache when the fault comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cache {
    /// The origin is read directly.
    None,
    /// Nothing.
    Cold,
    /// Everything.
    Warm,
    /// As much as its limit lets in: less than one file.
    Full,
}

impl Cache {
    /// The states that the cache of such an origin can be in.
    pub(crate) fn of(kind: Kind) -> &'static [Self] {
        match kind {
            Kind::Local => &[Self::None],
            Kind::Nfs | Kind::S3 | Kind::Sloppy | Kind::Sftp => {
                &[Self::Cold, Self::Warm, Self::Full]
            }
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cache = format!("{:?}", self.cache).to_lowercase();
        write!(f, "{}/{}/{cache}", self.kind, self.fault)
    }
}

/// Runs a cell.
///
/// The daemon has the library indexed, and the cache is in its state, when the fault comes. Then:
/// the tree is whole and answers; what is cached completely is read right; nothing is read wrong,
/// and no read hangs; and when the fault is gone, everything is read right on the same mount. All
/// the while the cache stays in its limits.
///
/// # Panics
/// If something does not hold.
pub(crate) fn run(cell: Cell) {
    let site = Site::new(cell);
    // Dropped behind the fault, whatever happens.
    let mut daemon;
    daemon = site.mount();
    daemon.wait_scanned(1);
    let watchman = Watchman::start(site.home.path("cache"));
    prepare(&site, cell);
    if cell.fault == Fault::Replaced {
        replaced::under_its_reader(&site, cell);
    } else {
        let fault = inject(&site, cell.fault);
        if cell.cache == Cache::Warm {
            // A mount that starts under the fault, with nothing in the kernel's caches.
            daemon.stop_expecting(&WARNINGS);
            daemon = site.mount();
        }
        let files = tree_of(daemon.mount_point(), library());
        during(cell, fault, &files);
        tree_of(daemon.mount_point(), library());
        for (real, path) in &files {
            let version = || Handle::open(path)?.version(&[&library()[real]]);
            recovers(real, version);
        }
    }
    let most = watchman.most();
    drop(watchman);
    let is_within = cell.cache != Cache::Full || most <= FULL_BYTES_MAX;
    assert!(is_within, "{most} bytes in the cache");
    stop(daemon, cell);
}

/// Brings the cache into its state, with nothing of any file in the kernel's.
fn prepare(site: &Site, cell: Cell) {
    match cell.cache {
        Cache::None => {}
        Cache::Cold => {
            let cleared = site.home.run(&["cache", "clear"]);
            assert!(cleared.status.success(), "{cleared:?}");
        }
        Cache::Warm | Cache::Full => {
            for (real, path) in tree_of(&site.home.mount_point(), library()) {
                // A machine with too much to do may be late for the short deadline of some cells.
                recovers(&real, || {
                    let handle = Handle::open(&path)?;
                    handle.version(&[&library()[&real]])?;
                    handle.forget();
                    Ok(())
                });
            }
        }
    }
}

/// What holds while the fault lasts, which it does no longer when this returns.
fn during(cell: Cell, fault: Injected<'_>, files: &BTreeMap<String, PathBuf>) {
    match cell.fault {
        _ if cell.cache == Cache::Warm => read_all(files),
        Fault::Cut => std::thread::scope(|scope| {
            scope.spawn(move || fault.wait_for_cuts());
            read_all(files);
        }),
        Fault::Slow | Fault::Far => {
            // A slow line has time for some of two files.
            for (reads, (real, path)) in SLOW_READS.iter().zip(files) {
                let handle = Handle::open(path).unwrap();
                for &(offset, len) in reads {
                    let is_right = handle.is_right_at(offset, len, &library()[real]);
                    assert!(is_right, "{real} at {offset} fails");
                }
            }
        }
        Fault::Refusing | Fault::Killed | Fault::Erring | Fault::Hanging | Fault::Stopped => {
            // Each read may take as long as it may: all files at once.
            std::thread::scope(|scope| {
                for (real, path) in files {
                    scope.spawn(move || read_in_an_outage(cell, real, path));
                }
            });
        }
        Fault::Healthy | Fault::Replaced => read_all(files),
    }
}

/// What was cached is right, and the rest fails.
fn read_in_an_outage(cell: Cell, real: &str, path: &Path) {
    let handle = match Handle::open(path) {
        Ok(handle) => handle,
        Err(error) => {
            assert!(cell.kind == Kind::Local, "{real} cannot be opened: {error}");
            return assert_may_fail(real, &error);
        }
    };
    for (offset, len) in OUTAGE_READS {
        let is_right = handle.is_right_at(offset, len, &library()[real]);
        // What a full cache holds is up to it.
        assert!(
            !is_right || cell.cache == Cache::Full,
            "{real} at {offset}: from where?"
        );
    }
}

/// Reads all files, from the beginning to the end; none fails.
fn read_all(files: &BTreeMap<String, PathBuf>) {
    for (real, path) in files {
        let read = Handle::open(path).and_then(|handle| handle.version(&[&library()[real]]));
        assert!(read.is_ok(), "{real}: {read:?}");
    }
}

/// Ends the daemon, which must have had no reason to warn of anything else than the fault.
fn stop(daemon: Daemon, cell: Cell) {
    match cell.fault {
        Fault::Healthy | Fault::Slow | Fault::Far => daemon.stop(),
        _ => daemon.stop_expecting(&WARNINGS),
    }
}
