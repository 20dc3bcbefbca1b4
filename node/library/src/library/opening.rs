//! Opening a file: which of its copies is read.

use std::sync::Arc;

use musicfs_core::error::ErrorKind;
use musicfs_core::health::Standing;
use musicfs_core::id::Ino;
use musicfs_core::path::OriginPath;
use musicfs_core::version::VersionKey;
use musicfs_index::{Found, Node};
use tokio::time::Instant;

use super::{Library, REFRESH_WAIT_MAX};
use crate::copies::{Content, by_content};
use crate::error::Error;
use crate::events::{Event, EventKind};
use crate::fetch::blocking;
use crate::ingest::Request;
use crate::open::{Access, OpenFile};
use crate::upstream::Upstream;

/// Opens that may find the choice of a copy taken by another open; then that one is followed.
const CHOICES_MAX: usize = 8;

impl Library {
    /// Opens a file: resolves everything that its reads will need.
    ///
    /// Of several copies the one is read that is cached completely, else the one whose origin is to
    /// be asked first. Copies that are not proven equal are never mixed: while an inode is open, all
    /// opens of it read the same content.
    ///
    /// # Errors
    /// [`Error::Stale`] if its content is no longer what the inode stands for: by then the index
    /// knows the new content, and a lookup of the name finds it. [`Error::Away`] if the origin seems
    /// to be out of reach.
    pub async fn open(&self, ino: Ino) -> Result<OpenFile, Error> {
        let copies = self.query(|reader| reader.replicas(ino))?;
        let Some(own) = copies.iter().find(|copy| copy.node.ino == ino) else {
            return Err(match self.node(ino)? {
                Some(_) => Error::WrongKind {
                    ino,
                    is: "a directory",
                },
                None => Error::NoEntry { ino },
            });
        };
        let (node, own) = (own.node, own.version_key);
        let mut contents = by_content(copies);
        if contents.len() > 1 {
            contents = self.ranked(contents).await?;
        }
        for _ in 0..CHOICES_MAX {
            if let Some(open) = self.shared.choices.in_use(ino) {
                // Where it went since, its bytes are those that this open has to have.
                if let Some(at) = contents.iter().position(|content| content.has(open)) {
                    contents.swap(0, at);
                    contents.truncate(1);
                }
            }
            if let Some(file) = self.open_first(node, own, &contents).await? {
                return Ok(file);
            }
        }
        Err(Error::Stale { ino })
    }

    /// Opens the first content that can be opened; `None` if another open chose another meanwhile.
    async fn open_first(
        &self,
        node: Node,
        own: VersionKey,
        contents: &[Content],
    ) -> Result<Option<OpenFile>, Error> {
        let mut failure = None;
        for content in contents {
            let access = match self.open_content(node.ino, content).await {
                Ok(access) => access,
                Err(stale @ Error::Stale { .. }) => return Err(stale),
                Err(error) => {
                    failure.get_or_insert(error);
                    continue;
                }
            };
            let choice = self.shared.choices.enter(node.ino, content, own);
            let opened = choice.map(|choice| OpenFile::new(node, access, choice));
            if opened.is_some() {
                self.tell_opened(node.ino, content);
            }
            return Ok(opened);
        }
        Err(failure.unwrap_or(Error::NoEntry { ino: node.ino }))
    }

    fn tell_opened(&self, ino: Ino, content: &Content) {
        self.shared.events.publish(|| Event {
            // Without a path the event still says that something of the origin is used.
            path: self.shared.index.reader.path_of(ino).ok().flatten(),
            ..Event::new(
                EventKind::FileAccessed,
                Some(content.first().origin.clone()),
            )
        });
    }

    async fn open_content(&self, ino: Ino, content: &Content) -> Result<Access, Error> {
        let first = content.first();
        let upstream = self.upstream(&first.origin)?;
        if !upstream.origin().kind().is_cached() {
            return self.open_local(ino, &upstream, first).await;
        }
        let fetcher = self.fetcher(&first.origin)?;
        let file = fetcher
            .file(first.clone(), content.others().to_vec())
            .await?;
        Ok(Access::Remote(file.open()))
    }

    /// The best first.
    async fn ranked(&self, mut contents: Vec<Content>) -> Result<Vec<Content>, Error> {
        if let Some(fetcher) = &self.shared.fetcher {
            let store = fetcher.store.clone();
            contents = blocking(move || {
                for content in &mut contents {
                    content.lead_with_complete(|key| {
                        // A cache that cannot be read holds nothing.
                        let held = store.peek(key).ok().flatten();
                        held.is_some_and(|held| held.is_complete)
                    });
                }
                contents
            })
            .await?;
        }
        let rank = |content: &Content| -> (bool, Option<Standing>) {
            let upstreams = content.copies().iter();
            let upstreams = upstreams.filter_map(|copy| self.shared.roster.get(&copy.origin));
            let mut is_there = content.is_complete();
            let mut best = None;
            for upstream in upstreams {
                let standing = upstream.standing();
                is_there |= !upstream.origin().kind().is_cached() && !standing.is_away();
                best = Some(best.map_or(standing, |best: Standing| best.min(standing)));
            }
            (!is_there, best)
        };
        contents.sort_by_cached_key(rank);
        Ok(contents)
    }

    /// Opens a file on a disk of this machine, and looks whether it is the one that was indexed.
    async fn open_local(
        &self,
        ino: Ino,
        upstream: &Arc<Upstream>,
        found: &Found,
    ) -> Result<Access, Error> {
        let deadline = self.shared.read_deadline;
        let started = Instant::now();
        let id = found.origin.clone();
        let open = upstream.origin().open(&found.path, &found.version);
        match tokio::time::timeout(deadline, open).await {
            Ok(Ok(file)) if *file.version() == found.version => {
                if upstream.standing().is_away() {
                    upstream.answered(started.elapsed());
                }
                Ok(Access::Local {
                    origin: id,
                    file,
                    deadline,
                })
            }
            Ok(Ok(_)) => {
                refresh(upstream, found.path.clone()).await;
                Err(Error::Stale { ino })
            }
            Ok(Err(error)) if error.kind() == ErrorKind::NotFound => {
                refresh(upstream, found.path.clone()).await;
                match self.node(ino)? {
                    Some(_) => Err(Error::Away { ino, origin: id }),
                    None => Err(Error::Stale { ino }),
                }
            }
            Ok(Err(error)) => {
                upstream.failed(&error);
                Err(Error::Origin {
                    origin: id,
                    source: error,
                })
            }
            Err(_) => Err(Error::Timeout { origin: id }),
        }
    }
}

/// Has a path looked at again, and waits a little for the outcome.
async fn refresh(upstream: &Upstream, path: OriginPath) {
    let request = |reply| Request::Refresh(path, reply);
    // Late or not at all: the caller looks at the index either way.
    let _ = tokio::time::timeout(REFRESH_WAIT_MAX, upstream.ask(request)).await;
}
