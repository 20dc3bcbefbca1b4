//! The metrics, as Prometheus reads them. `docs/metrics.md` tells people of them.
//!
//! Nothing is kept for them: counters that are there anyway are read when somebody asks.

use std::time::Duration;

use musicfs_core::peer::PeerStatus;
use musicfs_library::{CacheStats, HealthState, OriginFigures};
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};

use crate::ControlContext;

/// Peers that have metrics of their own; a cluster has no more.
const PEERS_MAX: usize = 64;

/// How often the kernel asked for one kind of operation, and how long the answers took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Its label, one of few.
    pub name: &'static str,
    /// How often it was asked for.
    pub begun: u64,
    /// By how long it took: the upper ends of buckets, ascending, and how many fell into each.
    pub buckets: Vec<(Duration, u64)>,
    /// How many took longer than all of them.
    pub slower: u64,
    /// The time of all of them together.
    pub sum: Duration,
}

/// A metric: its name, what it means and of what kind it is.
struct Description {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
}

const FUSE_OPS: Description = Description {
    name: "musicfs_fuse_ops_total",
    help: "Operations that the kernel asked for.",
    kind: MetricType::COUNTER,
};
const FUSE_LATENCY: Description = Description {
    name: "musicfs_fuse_latency_seconds",
    help: "Time from the kernel's request to the answer.",
    kind: MetricType::HISTOGRAM,
};
const OPEN_FILE_HANDLES: Description = Description {
    name: "musicfs_open_file_handles",
    help: "Files that programs have open.",
    kind: MetricType::GAUGE,
};
const CACHE_HITS: Description = Description {
    name: "musicfs_cache_hits_total",
    help: "Reads of remote files that the cache answered alone.",
    kind: MetricType::COUNTER,
};
const CACHE_MISSES: Description = Description {
    name: "musicfs_cache_misses_total",
    help: "Reads of remote files that needed an origin or a peer.",
    kind: MetricType::COUNTER,
};
const CACHE_SIZE: Description = Description {
    name: "musicfs_cache_size_bytes",
    help: "Bytes of the cache on disk.",
    kind: MetricType::GAUGE,
};
const CACHE_LIMIT: Description = Description {
    name: "musicfs_cache_limit_bytes",
    help: "Bytes that the cache may take on disk.",
    kind: MetricType::GAUGE,
};
const CACHE_EVICTIONS: Description = Description {
    name: "musicfs_cache_evictions_total",
    help: "Files that lost their part of a tier to make room.",
    kind: MetricType::COUNTER,
};
const ORIGIN_HEALTH: Description = Description {
    name: "musicfs_origin_health",
    help: "1 if the origin answers, 0.5 if part of it is out of reach, 0 if it does not answer.",
    kind: MetricType::GAUGE,
};
const ORIGIN_BYTES: Description = Description {
    name: "musicfs_origin_bytes_total",
    help: "Content bytes that the origin sent, by what they were fetched for.",
    kind: MetricType::COUNTER,
};
const SYNC_FILES_CHANGED: Description = Description {
    name: "musicfs_sync_files_changed",
    help: "Files that were found new, changed, moved or gone on the origin.",
    kind: MetricType::COUNTER,
};
const PEERS_CONNECTED: Description = Description {
    name: "musicfs_peers_connected",
    help: "Other nodes that this one is connected to.",
    kind: MetricType::GAUGE,
};
const PEER_BYTES: Description = Description {
    name: "musicfs_peer_bytes_total",
    help: "Content bytes exchanged with the peer.",
    kind: MetricType::COUNTER,
};

/// What the metrics are made of.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    operations: Vec<Operation>,
    open_file_handles: u64,
    cache: CacheStats,
    origins: Vec<OriginFigures>,
    peers: Vec<PeerStatus>,
}

impl Snapshot {
    /// Reads all counters. Waits for an index query at most.
    ///
    /// # Errors
    /// The library's, if the index cannot be read.
    pub(crate) fn take(context: &ControlContext) -> Result<Self, musicfs_library::Error> {
        let library = &context.library;
        Ok(Self {
            operations: context.mount.operations(),
            open_file_handles: context.mount.open_file_handles(),
            cache: library.cache_stats()?,
            origins: library.figures(),
            peers: library
                .peers()
                .map(|peers| peers.list())
                .unwrap_or_default(),
        })
    }

    /// The metrics, in the order in which they are documented.
    pub(crate) fn families(&self) -> Vec<MetricFamily> {
        let mut families = Vec::new();
        self.mount(&mut families);
        self.cache(&mut families);
        self.origins(&mut families);
        self.peers(&mut families);
        // The format knows no metric without a sample.
        families.retain(|family| !family.get_metric().is_empty());
        families
    }

    fn mount(&self, families: &mut Vec<MetricFamily>) {
        let operations = self.operations.iter();
        let begun = operations.map(|op| counter(&[("op", op.name)], op.begun));
        families.push(family(&FUSE_OPS, begun));
        families.push(family(&FUSE_LATENCY, self.operations.iter().map(histogram)));
        let handles = gauge(&[], self.open_file_handles as f64);
        families.push(family(&OPEN_FILE_HANDLES, [handles]));
    }

    fn cache(&self, families: &mut Vec<MetricFamily>) {
        let CacheStats {
            hits,
            misses,
            size_bytes,
            size_limit_bytes,
            headers,
            bodies,
            ..
        } = self.cache;
        families.push(family(&CACHE_HITS, [counter(&[], hits)]));
        families.push(family(&CACHE_MISSES, [counter(&[], misses)]));
        families.push(family(&CACHE_SIZE, [gauge(&[], size_bytes as f64)]));
        families.push(family(&CACHE_LIMIT, [gauge(&[], size_limit_bytes as f64)]));
        let evictions = [("headers", headers), ("chunks", bodies)];
        let evictions = evictions.map(|(tier, stats)| counter(&[("tier", tier)], stats.evictions));
        families.push(family(&CACHE_EVICTIONS, evictions));
    }

    fn origins(&self, families: &mut Vec<MetricFamily>) {
        let health = self.origins.iter().filter_map(|origin| {
            let labels = [("origin", origin.id.as_str())];
            Some(gauge(&labels, health(origin.health.state)?))
        });
        families.push(family(&ORIGIN_HEALTH, health));
        let bytes = self.origins.iter().flat_map(|origin| {
            origin.bytes.iter().map(|(reason, bytes)| {
                let labels = [("origin", origin.id.as_str()), ("reason", reason.as_str())];
                counter(&labels, *bytes)
            })
        });
        families.push(family(&ORIGIN_BYTES, bytes));
        let changed = self.origins.iter().map(|origin| {
            let labels = [("origin", origin.id.as_str())];
            counter(&labels, origin.files_changed)
        });
        families.push(family(&SYNC_FILES_CHANGED, changed));
    }

    fn peers(&self, families: &mut Vec<MetricFamily>) {
        let connected = self.peers.iter().filter(|peer| peer.state.is_connected());
        let connected = gauge(&[], connected.count() as f64);
        families.push(family(&PEERS_CONNECTED, [connected]));
        let bytes = self.peers.iter().take(PEERS_MAX).flat_map(|peer| {
            let id = peer.id.to_string();
            let of = |direction, bytes| counter(&[("peer", &id), ("direction", direction)], bytes);
            [of("in", peer.bytes_in), of("out", peer.bytes_out)]
        });
        families.push(family(&PEER_BYTES, bytes));
    }
}

/// `None` before the first answer.
fn health(state: HealthState) -> Option<f64> {
    match state {
        HealthState::Unknown => None,
        HealthState::Healthy => Some(1.0),
        HealthState::Degraded => Some(0.5),
        HealthState::Unhealthy => Some(0.0),
    }
}

fn family(of: &Description, metrics: impl IntoIterator<Item = Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(of.name.to_owned());
    family.set_help(of.help.to_owned());
    family.set_field_type(of.kind);
    family.set_metric(metrics.into_iter().collect());
    family
}

fn labelled(labels: &[(&str, &str)]) -> Metric {
    let pair = |(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    Metric::from_label(labels.iter().map(pair).collect())
}

fn counter(labels: &[(&str, &str)], value: u64) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(value as f64);
    let mut metric = labelled(labels);
    metric.set_counter(counter);
    metric
}

fn gauge(labels: &[(&str, &str)], value: f64) -> Metric {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    let mut metric = labelled(labels);
    metric.set_gauge(gauge);
    metric
}

fn histogram(op: &Operation) -> Metric {
    let mut count = 0;
    let buckets = op.buckets.iter().map(|(bound, here)| {
        count += here;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound.as_secs_f64());
        bucket.set_cumulative_count(count);
        bucket
    });
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(count + op.slower);
    histogram.set_sample_sum(op.sum.as_secs_f64());
    let mut metric = labelled(&[("op", op.name)]);
    metric.set_histogram(histogram);
    metric
}

#[cfg(test)]
mod tests {
    use musicfs_core::id::OriginId;
    use musicfs_core::peer::PeerState;
    use musicfs_library::{Health, Reason, TierStats};

    use super::*;
    use crate::testing::peer;

    fn origin(id: &str, state: HealthState) -> OriginFigures {
        OriginFigures {
            id: OriginId::new(id).unwrap(),
            health: Health {
                state,
                latency: Duration::ZERO,
                message: None,
                checked_unix: 0,
            },
            bytes: Reason::ALL.map(|reason| (reason, 10 + reason as u64)),
            files_changed: 9,
        }
    }

    fn snapshot() -> Snapshot {
        Snapshot {
            operations: vec![Operation {
                name: "read",
                begun: 7,
                buckets: vec![
                    (Duration::from_micros(10), 1),
                    (Duration::from_millis(1), 2),
                    (Duration::from_secs(10), 0),
                ],
                slower: 1,
                sum: Duration::from_millis(12_500),
            }],
            open_file_handles: 3,
            cache: CacheStats {
                hits: 4,
                misses: 5,
                size_bytes: 6 << 40,
                size_limit_bytes: 7 << 40,
                bodies: TierStats {
                    evictions: 8,
                    ..TierStats::default()
                },
                ..CacheStats::default()
            },
            origins: vec![
                origin("nas", HealthState::Degraded),
                origin("new", HealthState::Unknown),
            ],
            peers: vec![peer(1, PeerState::Demoted), peer(2, PeerState::Lost)],
        }
    }

    fn text(snapshot: &Snapshot) -> String {
        let encoder = prometheus::TextEncoder::new();
        encoder.encode_to_string(&snapshot.families()).unwrap()
    }

    #[test]
    fn every_counter_has_its_line() {
        let text = text(&snapshot());
        let one = "01".repeat(16);
        for line in [
            "# TYPE musicfs_fuse_ops_total counter",
            "musicfs_fuse_ops_total{op=\"read\"} 7",
            "# TYPE musicfs_fuse_latency_seconds histogram",
            "musicfs_fuse_latency_seconds_bucket{op=\"read\",le=\"0.00001\"} 1",
            "musicfs_fuse_latency_seconds_bucket{op=\"read\",le=\"0.001\"} 3",
            "musicfs_fuse_latency_seconds_bucket{op=\"read\",le=\"10\"} 3",
            "musicfs_fuse_latency_seconds_bucket{op=\"read\",le=\"+Inf\"} 4",
            "musicfs_fuse_latency_seconds_sum{op=\"read\"} 12.5",
            "musicfs_fuse_latency_seconds_count{op=\"read\"} 4",
            "musicfs_open_file_handles 3",
            "musicfs_cache_hits_total 4",
            "musicfs_cache_misses_total 5",
            "musicfs_cache_size_bytes 6597069766656",
            "musicfs_cache_limit_bytes 7696581394432",
            "musicfs_cache_evictions_total{tier=\"headers\"} 0",
            "musicfs_cache_evictions_total{tier=\"chunks\"} 8",
            "musicfs_origin_health{origin=\"nas\"} 0.5",
            "musicfs_origin_bytes_total{origin=\"nas\",reason=\"scan\"} 10",
            "musicfs_origin_bytes_total{origin=\"new\",reason=\"uncoordinated\"} 16",
            "musicfs_sync_files_changed{origin=\"nas\"} 9",
            "musicfs_peers_connected 1",
            &format!("musicfs_peer_bytes_total{{peer=\"{one}\",direction=\"in\"}} 100"),
            &format!("musicfs_peer_bytes_total{{peer=\"{one}\",direction=\"out\"}} 200"),
        ] {
            let is_there = text.lines().any(|there| there == line);
            assert!(is_there, "no line {line:?} in:\n{text}");
        }
        // Of what has not been asked yet nothing is known.
        assert!(
            !text.contains("musicfs_origin_health{origin=\"new\"}"),
            "{text}"
        );
    }

    #[test]
    fn what_is_absent_has_no_line() {
        let text = text(&Snapshot::default());
        assert!(text.contains("musicfs_peers_connected 0\n"), "{text}");
        for absent in ["fuse_ops", "origin_", "peer_bytes"] {
            assert!(!text.contains(absent), "{text}");
        }
    }

    #[test]
    fn a_crowd_of_peers_has_a_limit() {
        let crowd = |number: usize| peer(u8::try_from(number).unwrap(), PeerState::Connected);
        let snapshot = Snapshot {
            peers: (0..100).map(crowd).collect(),
            ..Snapshot::default()
        };
        let text = text(&snapshot);
        assert_eq!(
            text.matches("musicfs_peer_bytes_total{").count(),
            2 * PEERS_MAX
        );
        assert!(text.contains("musicfs_peers_connected 100\n"), "{text}");
    }

    #[test]
    fn the_documentation_knows_every_metric_and_no_other() {
        let documented: Vec<&str> = include_str!("../../../docs/metrics.md")
            .lines()
            .filter_map(|line| line.strip_prefix("| `musicfs_")?.split(['`', '{']).next())
            .collect();
        let families = snapshot().families();
        let names: Vec<&str> = families
            .iter()
            .map(|family| family.name().strip_prefix("musicfs_").unwrap())
            .collect();
        assert_eq!(documented, names);
    }
}
