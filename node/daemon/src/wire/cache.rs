//! Opens the cache, if an origin needs one.

use std::path::Path;
use std::sync::Arc;

use musicfs_core::origin::Origin;
use musicfs_library::{Cache, FetchOptions};
use musicfs_media::HeaderProfile;
use musicfs_store::{Config as StoreConfig, Limits, RealDisk, Store};

use crate::config::{Config, Integrity, ScannerProfile};
use crate::mount::MountError;

/// The most that headers take unless configured: those of some 100,000 tracks of all formats.
const HEADER_LIMIT_BYTES_MAX: u64 = 40 << 30;

/// The part of the free disk that headers take at most unless configured, in per cent.
const HEADER_LIMIT_PERCENT: u64 = 15;

/// The cache for `origins`; `None` if all of them are read in place.
pub(super) fn open(
    config: &Config,
    origins: &[Arc<dyn Origin>],
) -> Result<Option<Cache>, MountError> {
    if !origins.iter().any(|origin| origin.kind().is_cached()) {
        return Ok(None);
    }
    let dir = config.paths.cache.clone();
    let limits = Limits {
        bodies: config.cache_limit_bytes,
        headers: config
            .header_limit_bytes
            .unwrap_or_else(|| header_limit(&dir)),
        free_min: config.cache_free_bytes_min,
    };
    let store = Store::open(StoreConfig { dir, limits }, Arc::new(RealDisk::default()))?;
    let options = FetchOptions {
        read_deadline: config.read_timeout,
        header_profile: match config.scanner_profile {
            ScannerProfile::Default => HeaderProfile::Default,
            ScannerProfile::Mpd => HeaderProfile::Mpd,
        },
        complete_on_play: config.complete_on_play,
        check_every_read: config.integrity == Integrity::EveryRead,
    };
    Ok(Some(Cache { store, options }))
}

/// The quota of the header tier: the smaller of 40 GiB and 15 % of what is free on its disk.
fn header_limit(dir: &Path) -> u64 {
    // The directory may not be there yet; its disk is that of the nearest one above it.
    let free = dir
        .ancestors()
        .find_map(|above| rustix::fs::statvfs(above).ok())
        .map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    HEADER_LIMIT_BYTES_MAX.min(free / 100 * HEADER_LIMIT_PERCENT)
}
