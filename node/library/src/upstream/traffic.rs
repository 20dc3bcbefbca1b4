//! What an origin sent since the start, and what for.

use std::sync::atomic::{AtomicU64, Ordering};

/// What content bytes were fetched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// To index: tags, headers, what changed of a file.
    Scan,
    /// For a program that waits, and what is read ahead of it.
    Play,
    /// The rest of what is played.
    Fill,
    /// On request or for a pin, ahead of use.
    Prefetch,
    /// In place of what the cache had lost or damaged.
    Heal,
    /// For another node that waits.
    Peer,
    /// For a program that waits, while another node may have fetched the same.
    Uncoordinated,
}

impl Reason {
    /// Every reason, in the order of their declaration.
    pub const ALL: [Self; 7] = [
        Self::Scan,
        Self::Play,
        Self::Fill,
        Self::Prefetch,
        Self::Heal,
        Self::Peer,
        Self::Uncoordinated,
    ];

    /// The reason's metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scan => "scan",
            Self::Play => "play",
            Self::Fill => "fill",
            Self::Prefetch => "prefetch",
            Self::Heal => "heal",
            Self::Peer => "peer",
            Self::Uncoordinated => "uncoordinated",
        }
    }
}

/// Counts an origin's content bytes by reason. Counters only grow.
#[derive(Debug, Default)]
pub(crate) struct OriginBytes([AtomicU64; Reason::ALL.len()]);

impl OriginBytes {
    /// So many more bytes came from the origin.
    pub(crate) fn count(&self, reason: Reason, bytes: u64) {
        self.0[reason as usize].fetch_add(bytes, Ordering::Relaxed);
    }

    /// The bytes so far, for every reason.
    pub(crate) fn all(&self) -> [(Reason, u64); Reason::ALL.len()] {
        Reason::ALL.map(|reason| (reason, self.0[reason as usize].load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_reason_has_its_own_counter_and_label() {
        let bytes = OriginBytes::default();
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            bytes.count(reason, 1 << index);
        }
        let counted = bytes.all();
        for (index, (reason, count)) in counted.into_iter().enumerate() {
            assert_eq!((reason, count), (Reason::ALL[index], 1 << index));
        }
        let labels: BTreeSet<_> = Reason::ALL.into_iter().map(Reason::as_str).collect();
        assert_eq!(labels.len(), Reason::ALL.len());
    }
}
