//! Opens the cache, if an origin needs one.

use std::path::Path;
use std::sync::Arc;

use musicfs_core::origin::Origin;
use musicfs_library::{Cache, FetchOptions};
use musicfs_media::HeaderProfile;
use musicfs_store::{Config as StoreConfig, Limits, RealDisk, Store};

use crate::config::{Config, Integrity, ScannerProfile, header_limit_default};
use crate::mount::MountError;

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

/// The quota of the header tier on the disk of `dir`, unless configured.
fn header_limit(dir: &Path) -> u64 {
    // The directory may not be there yet; its disk is that of the nearest one above it.
    let free = dir
        .ancestors()
        .find_map(|above| rustix::fs::statvfs(above).ok())
        .map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    header_limit_default(free)
}
