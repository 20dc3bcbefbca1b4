//! `musicfs cache stats | clear`.

use musicfs_proto::v1::{CacheStats, CacheTier, ClearCacheRequest, ClearCacheResponse, TierStats};
use serde_json::{Value, json};

use super::Context;
use crate::cli::{CacheCommand, Tier};
use crate::client;
use crate::error::Error;
use crate::output::{fields, size, table};

/// Shows or clears the cache.
pub(super) async fn run(context: &Context, command: &CacheCommand) -> Result<(), Error> {
    let mut client = client::connect(&context.paths()?.socket).await?;
    match command {
        CacheCommand::Stats => {
            let answer = client.get_cache_stats(()).await;
            let stats = answer.map_err(client::refused("ask for the cache's figures"))?;
            let stats = stats.into_inner();
            let format = context.format;
            format.print(&stats_json(&stats), || stats_text(&stats))
        }
        CacheCommand::Clear {
            origin,
            tier,
            dry_run,
        } => {
            let request = ClearCacheRequest {
                origin_id: origin.clone(),
                tier: tier_of(*tier).into(),
                dry_run: *dry_run,
            };
            let answer = client.clear_cache(request).await;
            let cleared = answer.map_err(client::refused("clear the cache"))?;
            let cleared = cleared.into_inner();
            let value = cleared_json(&cleared, *dry_run);
            let format = context.format;
            format.print(&value, || cleared_text(&cleared, *dry_run))
        }
    }
}

fn tier_of(tier: Tier) -> CacheTier {
    match tier {
        Tier::All => CacheTier::All,
        Tier::Metadata => CacheTier::Metadata,
        Tier::Headers => CacheTier::Headers,
        Tier::Chunks => CacheTier::Chunks,
    }
}

fn stats_json(stats: &CacheStats) -> Value {
    let tier = |tier: &Option<TierStats>| {
        let tier = tier.unwrap_or_default();
        json!({ "entries": tier.entries, "bytes": tier.bytes, "evictions": tier.evictions })
    };
    json!({
        "hits": stats.hits,
        "misses": stats.misses,
        "hit_rate": stats.hit_rate,
        "chunks_stored": stats.chunks_stored,
        "chunks_unique": stats.chunks_unique,
        "dedup_ratio": stats.dedup_ratio,
        "size_bytes": stats.size_bytes,
        "size_limit_bytes": stats.size_limit_bytes,
        "metadata_entries": stats.metadata_entries,
        "metadata_bytes": stats.metadata_bytes,
        "l1_metadata": tier(&stats.l1_metadata),
        "l2_headers": tier(&stats.l2_headers),
        "l3_chunks": tier(&stats.l3_chunks),
        "delta_files": stats.delta_files,
        "delta_bytes_saved": stats.delta_bytes_saved,
        "delta_unproven": stats.delta_unproven,
    })
}

fn stats_text(stats: &CacheStats) -> String {
    let (used, limit) = (size(stats.size_bytes), size(stats.size_limit_bytes));
    let mut text = fields(&[
        ("on disk", format!("{used} of {limit}")),
        ("hits", stats.hits.to_string()),
        ("misses", stats.misses.to_string()),
        ("hit rate", format!("{:.1} %", stats.hit_rate * 100.0)),
        ("dedup ratio", format!("{:.2}", stats.dedup_ratio)),
        ("deltas", deltas_text(stats)),
    ]);
    let row = |name: &str, tier: Option<TierStats>| {
        let tier = tier.unwrap_or_default();
        [
            name.to_owned(),
            tier.entries.to_string(),
            size(tier.bytes),
            tier.evictions.to_string(),
        ]
    };
    text.push('\n');
    text += &table(
        ["TIER", "ENTRIES", "SIZE", "EVICTED"],
        &[
            row("metadata", stats.l1_metadata),
            row("headers", stats.l2_headers),
            row("chunks", stats.l3_chunks),
        ],
    );
    text
}

/// What became of changed files.
fn deltas_text(stats: &CacheStats) -> String {
    let saved = size(stats.delta_bytes_saved);
    format!(
        "{} files, {saved} not fetched again; {} without proof",
        stats.delta_files, stats.delta_unproven
    )
}

fn cleared_json(cleared: &ClearCacheResponse, dry_run: bool) -> Value {
    json!({
        "dry_run": dry_run,
        "entries_cleared": cleared.entries_cleared,
        "bytes_freed": cleared.bytes_freed,
    })
}

fn cleared_text(cleared: &ClearCacheResponse, dry_run: bool) -> String {
    let done = if dry_run { "would drop" } else { "dropped" };
    let freed = size(cleared.bytes_freed);
    format!("{done} {} entries, {freed}\n", cleared.entries_cleared)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_are_shown_for_each_tier() {
        let stats = CacheStats {
            hits: 3,
            misses: 1,
            hit_rate: 0.75,
            dedup_ratio: 1.0,
            delta_files: 5,
            delta_bytes_saved: 1 << 30,
            delta_unproven: 1,
            size_bytes: 1 << 20,
            size_limit_bytes: 10 << 30,
            l3_chunks: Some(TierStats {
                entries: 7,
                bytes: 1 << 20,
                evictions: 2,
            }),
            ..CacheStats::default()
        };
        let text = stats_text(&stats);
        assert!(
            text.contains("on disk      1.0 MiB of 10.0 GiB\n"),
            "{text}"
        );
        assert!(text.contains("hit rate     75.0 %\n"), "{text}");
        assert!(text.contains("metadata  0        0 B      0\n"), "{text}");
        assert!(text.contains("chunks    7        1.0 MiB  2\n"), "{text}");
        let deltas = "deltas       5 files, 1.0 GiB not fetched again; 1 without proof\n";
        assert!(text.contains(deltas), "{text}");
        let json = stats_json(&stats);
        assert_eq!(json["delta_files"], 5);
        assert_eq!(json["delta_bytes_saved"], 1 << 30);
        assert_eq!(json["delta_unproven"], 1);
        assert_eq!(json["hit_rate"], 0.75);
        assert_eq!(json["l3_chunks"]["evictions"], 2);
        assert_eq!(json["l1_metadata"]["entries"], 0);
    }

    #[test]
    fn a_dry_run_says_that_nothing_was_dropped() {
        let cleared = ClearCacheResponse {
            entries_cleared: 2,
            bytes_freed: 2048,
        };
        assert_eq!(
            cleared_text(&cleared, false),
            "dropped 2 entries, 2.0 KiB\n"
        );
        assert_eq!(
            cleared_text(&cleared, true),
            "would drop 2 entries, 2.0 KiB\n"
        );
        assert_eq!(cleared_json(&cleared, true)["dry_run"], true);
    }
}
