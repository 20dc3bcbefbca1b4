//! The calls about the cache: figures, clearing, prefetch, pins, verification.

use musicfs_library::{
    CacheStats, Library, PinStatus, PrefetchStep, Strategy, Tier, TierStats, VerifyStep,
};
use musicfs_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};

use super::{Answer, Streamed, not_offered, unknown};
use crate::error::status;

/// The paths that one call may name.
const PATHS_MAX: usize = 10_000;

pub(super) fn stats(library: &Library) -> Answer<v1::CacheStats> {
    let stats = library.cache_stats().map_err(|error| status(&error))?;
    Ok(Response::new(cache_stats(&stats)))
}

pub(super) async fn clear(
    library: &Library,
    request: v1::ClearCacheRequest,
) -> Answer<v1::ClearCacheResponse> {
    let origin = request
        .origin_id
        .as_deref()
        .map(super::parse_id)
        .transpose()?;
    let tier = match v1::CacheTier::try_from(request.tier) {
        Ok(v1::CacheTier::All) => Tier::All,
        Ok(v1::CacheTier::Metadata) => Tier::Metadata,
        Ok(v1::CacheTier::Headers) => Tier::Headers,
        Ok(v1::CacheTier::Chunks) => Tier::Chunks,
        Err(_) => return Err(unknown("tier", request.tier)),
    };
    let cleared = library
        .clear_cache(origin.as_ref(), tier, request.dry_run)
        .await
        .map_err(|error| status(&error))?;
    Ok(Response::new(v1::ClearCacheResponse {
        entries_cleared: cleared.entries,
        bytes_freed: cleared.bytes,
    }))
}

pub(super) fn prefetch(
    library: &Library,
    request: v1::PrefetchRequest,
) -> Answer<Streamed<v1::PrefetchProgress>> {
    if request.query.is_some() {
        return not_offered("a prefetch by query");
    }
    let strategy = match v1::PrefetchStrategy::try_from(request.strategy) {
        Ok(v1::PrefetchStrategy::PrefetchMetadataOnly) => Strategy::Metadata,
        Ok(v1::PrefetchStrategy::PrefetchHeaders) => Strategy::Headers,
        Ok(v1::PrefetchStrategy::PrefetchFull) => Strategy::Full,
        Err(_) => return Err(unknown("strategy", request.strategy)),
    };
    let paths = paths(request.paths)?;
    let steps = library
        .prefetch(paths, strategy)
        .map_err(|error| status(&error))?;
    Ok(streamed(steps, prefetch_progress))
}

pub(super) async fn pin(library: &Library, request: v1::PinRequest) -> Answer<v1::PinResponse> {
    if request.query.is_some() {
        return not_offered("a pin by query");
    }
    let mut pins = Vec::new();
    for path in paths(request.paths)? {
        let pinned = library.pin(&path).await.map_err(|error| status(&error))?;
        pins.push(pin_entry(pinned.pin, pinned.is_new));
    }
    Ok(Response::new(v1::PinResponse { pins }))
}

pub(super) async fn unpin(
    library: &Library,
    request: v1::UnpinRequest,
) -> Answer<v1::UnpinResponse> {
    if request.query.is_some() {
        return not_offered("a pin by query");
    }
    let mut answer = v1::UnpinResponse::default();
    for path in paths(request.paths)? {
        let unpinned = library.unpin(&path).await.map_err(|error| status(&error))?;
        if unpinned.is_new {
            answer.pins_removed += 1;
            answer.bytes_released += unpinned.pin.bytes_cached;
        }
    }
    Ok(Response::new(answer))
}

pub(super) async fn pins(library: &Library) -> Answer<v1::PinsResponse> {
    let pins = library.pins().await.map_err(|error| status(&error))?;
    Ok(Response::new(v1::PinsResponse {
        bytes_pinned: pins.iter().map(|pin| pin.bytes).sum(),
        bytes_limit: library.pin_capacity(),
        pins: pins.into_iter().map(|pin| pin_entry(pin, false)).collect(),
    }))
}

pub(super) fn verify(
    library: &Library,
    request: &v1::VerifyRequest,
) -> Answer<Streamed<v1::VerifyProgress>> {
    let origin = request
        .origin_id
        .as_deref()
        .map(super::parse_id)
        .transpose()?;
    if origin.is_some() || request.dry_run {
        return not_offered("verification of one origin, or without healing");
    }
    Ok(streamed(library.verify(), verify_progress))
}

fn streamed<S: Send + 'static, T: Send + 'static>(
    steps: mpsc::Receiver<S>,
    convert: impl Fn(S) -> T + Send + 'static,
) -> Response<Streamed<T>> {
    let stream = ReceiverStream::new(steps).map(move |step| Ok(convert(step)));
    Response::new(Box::pin(stream))
}

fn paths(paths: Vec<String>) -> Result<Vec<String>, Status> {
    if paths.is_empty() {
        return Err(Status::invalid_argument("name at least one path"));
    }
    if paths.len() > PATHS_MAX {
        let text = format!("{} paths are too many: {PATHS_MAX} at most", paths.len());
        return Err(Status::invalid_argument(text));
    }
    let trim = |path: String| path.trim_matches('/').to_owned();
    Ok(paths.into_iter().map(trim).collect())
}

fn cache_stats(stats: &CacheStats) -> v1::CacheStats {
    let ratio = |part: u64, whole: u64, empty: f64| match whole {
        0 => empty,
        _ => part as f64 / whole as f64,
    };
    v1::CacheStats {
        hits: stats.hits,
        misses: stats.misses,
        hit_rate: ratio(stats.hits, stats.hits + stats.misses, 0.0),
        chunks_stored: stats.chunks_stored,
        chunks_unique: stats.chunks_unique,
        dedup_ratio: ratio(stats.chunks_stored, stats.chunks_unique, 1.0),
        size_bytes: stats.size_bytes,
        size_limit_bytes: stats.size_limit_bytes,
        metadata_entries: stats.metadata_entries,
        metadata_bytes: stats.metadata_bytes,
        // The kernel holds attributes and lookups for this mount; the daemon has none of its own.
        l1_metadata: Some(v1::TierStats::default()),
        l2_headers: Some(tier_stats(stats.headers)),
        l3_chunks: Some(tier_stats(stats.bodies)),
        delta_files: stats.delta_files,
        delta_bytes_saved: stats.delta_bytes_saved,
        delta_unproven: stats.delta_unproven,
    }
}

fn tier_stats(stats: TierStats) -> v1::TierStats {
    v1::TierStats {
        entries: stats.entries,
        bytes: stats.bytes,
        evictions: stats.evictions,
    }
}

fn prefetch_progress(step: PrefetchStep) -> v1::PrefetchProgress {
    v1::PrefetchProgress {
        path: step.path,
        bytes_fetched: step.bytes_fetched,
        bytes_total: step.bytes_total,
        complete: step.complete,
        error: step.error,
    }
}

fn pin_entry(pin: PinStatus, is_new: bool) -> v1::PinEntry {
    v1::PinEntry {
        path: Some(pin.path),
        query: None,
        files: pin.files,
        bytes_total: pin.bytes,
        bytes_cached: pin.bytes_cached,
        created_unix: pin.created_unix,
        added: is_new,
    }
}

fn verify_progress(step: VerifyStep) -> v1::VerifyProgress {
    v1::VerifyProgress {
        objects_checked: step.objects_checked,
        objects_total: step.objects_total,
        bytes_checked: step.bytes_checked,
        blocks_corrupt: step.blocks_damaged,
        current_path: step.current,
        complete: step.complete,
        error: step.error,
        ..v1::VerifyProgress::default()
    }
}
