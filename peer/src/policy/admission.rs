//! Which connection attempts are worth a handshake.
//!
//! A handshake costs about a millisecond of one core, and whoever reaches the port can ask for one.
//! Nobody gets one whose address is not proven: the first answer is a Retry (RFC 9000 section 8.1.2),
//! which costs no memory and less than it was asked with. What follows is counted by true addresses,
//! and the addresses of nodes have a share of their own, which no stranger can use up.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use musicfs_core::time::Timestamp;

use super::rate::{Bucket, Rate};
use super::reach::network;

/// Retries to strangers: a flood with forged addresses costs about 2 % of a core at this rate.
const RETRY_STRANGERS: Rate = Rate {
    per_s: 1000,
    burst: 1000,
};
/// Retries to what claims to be a node: all of a full cluster at once, and each twice a second.
const RETRY_NODES: Rate = Rate {
    per_s: 128,
    burst: 128,
};
/// Handshakes of one stranger: a host with a handful of nodes that start together, and no more than
/// half a percent of a core afterwards.
const STRANGER: Rate = Rate {
    per_s: 4,
    burst: 32,
};
/// Handshakes of all strangers together: a full cluster that starts at once, and 2 % of a core
/// afterwards.
const STRANGERS: Rate = Rate {
    per_s: 20,
    burst: 64,
};
/// Handshakes of one node: more than it tries when all goes wrong.
const NODE: Rate = Rate {
    per_s: 2,
    burst: 16,
};
/// Handshakes of all nodes together.
const NODES: Rate = Rate {
    per_s: 64,
    burst: 128,
};
/// Handshakes of strangers under way: one that stalls holds its place for seconds.
const STRANGERS_UNDER_WAY_MAX: usize = 32;
/// Handshakes of nodes under way: each of a full cluster.
const NODES_UNDER_WAY_MAX: usize = 64;
/// Sources remembered, of each kind. A stranger that comes when all are busy is refused.
const SOURCES_COUNT_MAX: usize = 4096;
/// How often sources that have rested are looked for when there are too many.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// One connection attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt {
    /// Where it comes from, in its canonical form.
    pub(crate) source: SocketAddr,
    /// It was shown that the source receives what is sent there.
    pub(crate) is_validated: bool,
    /// A node is known at exactly this address and port.
    pub(crate) is_known: bool,
}

/// What to do with an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A handshake. Tell [`Admission::ended`] when it is over, however it ended.
    Accept(Share),
    /// The address is to be proven first.
    Retry,
    /// A refusal is sent.
    Refuse,
    /// No answer.
    Ignore,
}

/// Whose share of the handshakes one belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Share {
    /// Of known nodes.
    Nodes,
    /// Of everybody else.
    Strangers,
}

/// The budget of handshakes.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    retries_nodes: Bucket,
    retries_strangers: Bucket,
    nodes: Bucket,
    strangers: Bucket,
    by_node: Sources<SocketAddr>,
    by_network: Sources<IpAddr>,
    nodes_under_way: usize,
    strangers_under_way: usize,
}

/// What each source has left.
#[derive(Debug)]
struct Sources<K> {
    buckets: BTreeMap<K, Bucket>,
    swept_at: Timestamp,
}

impl Admission {
    /// Decides about an attempt.
    pub(crate) fn decide(&mut self, now: Timestamp, attempt: Attempt) -> Verdict {
        if !attempt.is_validated {
            let may_retry = match attempt.is_known {
                true => self.retries_nodes.take(now, RETRY_NODES),
                false => self.retries_strangers.take(now, RETRY_STRANGERS),
            };
            return if may_retry {
                Verdict::Retry
            } else {
                Verdict::Ignore
            };
        }
        let share = match attempt.is_known {
            true if self.admits_node(now, attempt.source) => Share::Nodes,
            false if self.admits_stranger(now, attempt.source) => Share::Strangers,
            _ => return Verdict::Refuse,
        };
        *self.under_way(share) += 1;
        Verdict::Accept(share)
    }

    /// A handshake is over.
    pub(crate) fn ended(&mut self, share: Share) {
        let count = self.under_way(share);
        *count = count.saturating_sub(1);
    }

    // What is refused by a source's own budget uses up nothing of all sources' budget.

    fn admits_node(&mut self, now: Timestamp, source: SocketAddr) -> bool {
        self.nodes_under_way < NODES_UNDER_WAY_MAX
            && self.by_node.take(now, source, NODE)
            && self.nodes.take(now, NODES)
    }

    fn admits_stranger(&mut self, now: Timestamp, source: SocketAddr) -> bool {
        self.strangers_under_way < STRANGERS_UNDER_WAY_MAX
            && self.by_network.take(now, network(source.ip()), STRANGER)
            && self.strangers.take(now, STRANGERS)
    }

    fn under_way(&mut self, share: Share) -> &mut usize {
        match share {
            Share::Nodes => &mut self.nodes_under_way,
            Share::Strangers => &mut self.strangers_under_way,
        }
    }
}

impl<K: Ord> Sources<K> {
    fn take(&mut self, now: Timestamp, source: K, rate: Rate) -> bool {
        if self.buckets.len() >= SOURCES_COUNT_MAX && !self.buckets.contains_key(&source) {
            if now.since(self.swept_at) >= SWEEP_EVERY {
                self.swept_at = now;
                self.buckets.retain(|_, bucket| !bucket.is_full(now));
            }
            if self.buckets.len() >= SOURCES_COUNT_MAX {
                return false;
            }
        }
        self.buckets.entry(source).or_default().take(now, rate)
    }
}

impl<K> Default for Sources<K> {
    fn default() -> Self {
        Self {
            buckets: BTreeMap::new(),
            swept_at: Timestamp::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp(Duration::from_millis(ms))
    }

    fn attempt(source: &str, is_validated: bool, is_known: bool) -> Attempt {
        Attempt {
            source: source.parse().unwrap(),
            is_validated,
            is_known,
        }
    }

    fn is_accepted(verdict: Verdict) -> bool {
        matches!(verdict, Verdict::Accept(_))
    }

    /// Attempts of strangers spread over `ms`, each handshake over at once; how many there were.
    fn handshakes(admission: &mut Admission, ms: u64, sources: &[String], tries: u64) -> usize {
        let mut count = 0;
        for index in 0..tries {
            let now = at(1_000_000 + ms * index / tries);
            let source = &sources[index as usize % sources.len()];
            let verdict = admission.decide(now, attempt(source, true, false));
            if let Verdict::Accept(share) = verdict {
                admission.ended(share);
                count += 1;
            }
        }
        count
    }

    #[test]
    fn nobody_gets_a_handshake_whose_address_is_not_proven() {
        let mut admission = Admission::default();
        for is_known in [true, false] {
            let verdict = admission.decide(at(0), attempt("10.0.0.7:1", false, is_known));
            assert_eq!(verdict, Verdict::Retry);
        }
    }

    #[test]
    fn ten_thousand_attempts_of_a_stranger_in_a_minute_cost_a_few_hundred_handshakes() {
        let one = ["10.0.0.7:1".to_owned()];
        let count = handshakes(&mut Admission::default(), 60_000, &one, 10_000);
        assert!((200..=280).contains(&count), "{count}");
    }

    #[test]
    fn strangers_with_many_addresses_have_one_budget() {
        let many: Vec<_> = (0..1000)
            .map(|index| format!("[2001:db8:0:{index:x}::1]:1"))
            .collect();
        let count = handshakes(&mut Admission::default(), 60_000, &many, 100_000);
        assert!((1200..=1270).contains(&count), "{count}");
        let of_one_customer: Vec<_> = (0..1000)
            .map(|index| format!("[2001:db8::{index:x}]:1"))
            .collect();
        let count = handshakes(&mut Admission::default(), 60_000, &of_one_customer, 100_000);
        assert!((200..=280).contains(&count), "{count}");
    }

    #[test]
    fn a_flood_of_strangers_keeps_no_node_out() {
        let mut admission = Admission::default();
        let mut let_in = 0;
        for ms in 0..10_000 {
            for index in 0..10 {
                let forged = format!("10.{index}.{}.{}:1", ms % 200, ms / 200);
                admission.decide(at(ms), attempt(&forged, false, false));
                // Strangers who stall.
                admission.decide(at(ms), attempt(&forged, true, false));
            }
            if ms % 100 == 0 {
                let node = format!("10.99.0.{}:7000", ms / 100 % 63);
                assert_eq!(
                    admission.decide(at(ms), attempt(&node, false, true)),
                    Verdict::Retry
                );
                let verdict = admission.decide(at(ms), attempt(&node, true, true));
                assert_eq!(verdict, Verdict::Accept(Share::Nodes));
                admission.ended(Share::Nodes);
                let_in += 1;
            }
        }
        assert_eq!(let_in, 100);
    }

    #[test]
    fn a_flood_in_the_name_of_nodes_is_bounded_too() {
        let mut admission = Admission::default();
        let verdicts: Vec<_> = (0..10_000)
            .map(|index| admission.decide(at(index / 10), attempt("10.0.0.7:1", false, true)))
            .collect();
        let retries = verdicts
            .iter()
            .filter(|verdict| **verdict == Verdict::Retry)
            .count();
        assert!((250..=260).contains(&retries), "{retries}");
        assert_eq!(verdicts.last(), Some(&Verdict::Ignore));
    }

    #[test]
    fn handshakes_that_stall_are_counted() {
        let mut admission = Admission::default();
        let tries = |admission: &mut Admission, now: Timestamp| {
            let sources = (0..100).map(|index| format!("10.0.{index}.1:1"));
            sources
                .filter(|source| is_accepted(admission.decide(now, attempt(source, true, false))))
                .count()
        };
        assert_eq!(tries(&mut admission, at(0)), STRANGERS_UNDER_WAY_MAX);
        assert_eq!(tries(&mut admission, at(10_000)), 0);
        admission.ended(Share::Strangers);
        assert_eq!(tries(&mut admission, at(10_000)), 1);
    }

    #[test]
    fn a_cluster_that_starts_at_once_gets_in_at_once() {
        let mut admission = Admission::default();
        let let_in = (0..63).filter(|index| {
            let source = format!("10.0.0.{index}:7000");
            let verdict = admission.decide(at(0), attempt(&source, true, false));
            admission.ended(Share::Strangers);
            is_accepted(verdict)
        });
        assert_eq!(let_in.count(), 63);
    }

    #[test]
    fn sources_are_forgotten_when_they_have_rested() {
        let mut sources = Sources::default();
        for index in 0..10_000u32 {
            sources.take(at(0), index, STRANGER);
        }
        assert_eq!(sources.buckets.len(), SOURCES_COUNT_MAX);
        assert!(!sources.take(at(900), 77_777, STRANGER), "not swept yet");
        assert!(sources.take(at(1900), 77_777, STRANGER));
        assert_eq!(sources.buckets.len(), 1);
    }
}
