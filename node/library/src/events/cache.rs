//! What happened in the cache, from its counters: the store calls nobody back.

use musicfs_store::Stats;

use super::{Event, EventKind};

/// The counters at the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Noticed {
    headers_evicted: u64,
    bodies_evicted: u64,
    blocks_damaged: u64,
}

impl Noticed {
    /// The counters as they are.
    pub(crate) fn new(stats: &Stats) -> Self {
        Self {
            headers_evicted: stats.header.evictions,
            bodies_evicted: stats.body.evictions,
            blocks_damaged: stats.blocks_damaged,
        }
    }

    /// What happened between `self` and `now`.
    pub(crate) fn events(self, now: Self) -> Vec<Event> {
        let mut events = Vec::new();
        let evicted = |tier: &str, objects: u64| {
            Event::new(EventKind::CacheEviction, None)
                .with("tier", &tier)
                .with("objects", &objects)
        };
        if now.headers_evicted > self.headers_evicted {
            events.push(evicted(
                "headers",
                now.headers_evicted - self.headers_evicted,
            ));
        }
        if now.bodies_evicted > self.bodies_evicted {
            events.push(evicted("chunks", now.bodies_evicted - self.bodies_evicted));
        }
        if now.blocks_damaged > self.blocks_damaged {
            let blocks = now.blocks_damaged - self.blocks_damaged;
            events.push(Event::new(EventKind::ChunkCorrupt, None).with("blocks", &blocks));
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grew_is_an_event_with_by_how_much() {
        let before = Noticed {
            headers_evicted: 1,
            bodies_evicted: 2,
            blocks_damaged: 3,
        };
        assert_eq!(before.events(before), []);
        let after = Noticed {
            headers_evicted: 1,
            bodies_evicted: 6,
            blocks_damaged: 5,
        };
        let facts: Vec<_> = before
            .events(after)
            .into_iter()
            .map(|event| (event.kind, event.facts))
            .collect();
        let expect = [
            (
                EventKind::CacheEviction,
                vec![("tier", "chunks".to_owned()), ("objects", "4".to_owned())],
            ),
            (EventKind::ChunkCorrupt, vec![("blocks", "2".to_owned())]),
        ];
        assert_eq!(facts, expect);
        let headers = Noticed {
            headers_evicted: 2,
            ..before
        };
        assert_eq!(before.events(headers)[0].facts[0].1, "headers");
    }
}
