//! Collects reported changes until it is quiet. Pure: the time is an argument.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use musicfs_core::origin::Change;
use musicfs_core::path::OriginPath;

/// Changes are acted on when none has come for this long: a tagger writes a file several times.
const QUIET: Duration = Duration::from_millis(200);

/// They are acted on at the latest after this long: a change must show within a second.
const WAIT_MAX: Duration = Duration::from_millis(500);

/// Paths collected; beyond, listing everything is cheaper.
const PATHS_MAX: usize = 10_000;

/// Where to look again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Places {
    /// Entries that appeared, changed or went away.
    pub(crate) entries: BTreeSet<OriginPath>,
    /// Those of the entries that are directories of which everything is to be listed.
    pub(crate) directories: BTreeSet<OriginPath>,
    /// Everything is to be listed.
    pub(crate) everything: bool,
}

/// Collects changes and says when they are due.
#[derive(Debug, Default)]
pub(crate) struct Debounce {
    places: Places,
    first: Option<Instant>,
    last: Option<Instant>,
}

impl Debounce {
    pub(crate) fn handle(&mut self, now: Instant, change: Change) {
        match change {
            Change::Entry(path) => {
                self.places.entries.insert(path);
            }
            Change::Directory(path) => {
                self.places.entries.insert(path.clone());
                self.places.directories.insert(path);
            }
            Change::Lost(_) => self.places.everything = true,
        }
        if self.places.entries.len() > PATHS_MAX {
            self.places = Places {
                everything: true,
                ..Places::default()
            };
        }
        self.first.get_or_insert(now);
        self.last = Some(now);
    }

    /// When [`Debounce::take`] is to be called; `None` while there is nothing.
    pub(crate) fn due(&self) -> Option<Instant> {
        Some((self.last? + QUIET).min(self.first? + WAIT_MAX))
    }

    pub(crate) fn take(&mut self) -> Places {
        (self.first, self.last) = (None, None);
        std::mem::take(&mut self.places)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> OriginPath {
        OriginPath::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn it_waits_for_quiet_but_not_for_ever() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut debounce = Debounce::default();
        assert_eq!(debounce.due(), None);
        debounce.handle(at(0), Change::Entry(path("a")));
        assert_eq!(debounce.due(), Some(at(200)));
        debounce.handle(at(150), Change::Entry(path("a")));
        assert_eq!(debounce.due(), Some(at(350)));
        debounce.handle(at(450), Change::Directory(path("b")));
        assert_eq!(debounce.due(), Some(at(500)));
        let places = debounce.take();
        assert_eq!(places.entries, [path("a"), path("b")].into());
        assert_eq!(places.directories, [path("b")].into());
        assert_eq!((debounce.due(), debounce.take()), (None, Places::default()));
    }

    #[test]
    fn too_many_changes_become_a_walk() {
        let mut debounce = Debounce::default();
        for number in 0..=PATHS_MAX {
            debounce.handle(Instant::now(), Change::Entry(path(&number.to_string())));
        }
        let places = debounce.take();
        assert!(places.everything && places.entries.is_empty());
    }
}
