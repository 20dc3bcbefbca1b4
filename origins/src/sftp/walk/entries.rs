//! The entries of one directory.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use musicfs_core::origin::ListedFile;
use musicfs_core::path::OriginPath;

use super::super::failure::Failure;
use super::super::file;
use super::super::pool::Lease;
use super::super::session::{OpenHandle, Pending, Session, unexpected};
use super::super::wire::{self, Attrs, FileType, Name, Reply, status};
use super::{Item, Request};

/// Names in one directory; more are left out, and the listing says that it is not complete.
const NAMES_MAX: usize = 1 << 20;
/// READDIRs under way for one directory: each brings up to 100 names.
const AHEAD_MAX: usize = 8;
/// Entries asked about at once.
const ASKED_AT_ONCE: usize = 64;

/// What a directory holds.
#[derive(Default)]
pub(super) struct Contents {
    pub(super) files: Vec<ListedFile>,
    pub(super) dirs: Vec<Child>,
    pub(super) is_partial: bool,
}

/// A directory in a directory.
pub(super) struct Child {
    pub(super) name: Vec<u8>,
    /// Where a link to it leads.
    pub(super) target: Option<OriginPath>,
}

impl Contents {
    /// Sorts by name and drops names that came twice: a directory that changes while it is read
    /// may show one entry again (readdir(3)).
    pub(super) fn sort(&mut self) {
        self.files.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        self.files.dedup_by(|a, b| a.name == b.name);
        // The last one is listed first: reversed, the walk goes in order of names.
        self.dirs.sort_unstable_by(|a, b| b.name.cmp(&a.name));
        self.dirs.dedup_by(|a, b| a.name == b.name);
    }
}

/// Entries that READDIR did not tell enough of.
#[derive(Default)]
struct Unclear {
    unknown: Vec<Bytes>,
    links: Vec<Bytes>,
}

impl Request {
    /// Reads a directory to its end.
    ///
    /// # Errors
    /// [`Failure::Status`] if it cannot be opened, and whatever befalls the connection. An error
    /// of the server's in the middle makes the contents partial.
    pub(super) async fn read(&self, lease: &Lease, item: &Item) -> Result<Contents, Failure> {
        let session = &lease.session;
        let full = session.full_path(&item.real);
        let place = session.place().await?;
        let open = [wire::Request::OpenDir(&full)];
        let pending = session.send(&open, Some(place)).await?;
        let pending = pending.into_iter().next().expect("one for each request");
        let handle = session.opened(pending).await?;
        // Something of the answer has come: the layer above tries again, if anyone.
        let read = self.read_open(item, &handle).await;
        read.map_err(Failure::midway)
    }

    async fn read_open(&self, item: &Item, handle: &OpenHandle) -> Result<Contents, Failure> {
        let mut contents = Contents::default();
        let mut unclear = Unclear::default();
        if let Err(failure) = self
            .read_names(item, handle, &mut contents, &mut unclear)
            .await
        {
            self.forgive(item, failure, &mut contents)?;
        }
        let session = &handle.session;
        for names in unclear.unknown.chunks(ASKED_AT_ONCE) {
            self.ask_kinds(session, item, names, &mut contents, &mut unclear.links)
                .await?;
        }
        for names in unclear.links.chunks(ASKED_AT_ONCE) {
            self.follow(session, item, names, &mut contents).await?;
        }
        Ok(contents)
    }

    /// What a server says against a directory or an entry leaves the rest of the listing good.
    fn forgive(
        &self,
        item: &Item,
        failure: Failure,
        contents: &mut Contents,
    ) -> Result<(), Failure> {
        let Failure::Status(code) = failure else {
            return Err(failure);
        };
        self.warn_unread(&item.path, code);
        contents.is_partial = true;
        Ok(())
    }

    /// Asks for names, more and more at once as long as they come.
    async fn read_names(
        &self,
        item: &Item,
        handle: &OpenHandle,
        contents: &mut Contents,
        unclear: &mut Unclear,
    ) -> Result<(), Failure> {
        let session = &handle.session;
        let mut under_way: VecDeque<Pending> = VecDeque::new();
        let mut ahead = 2;
        let mut names_count = 0;
        loop {
            let count = ahead - under_way.len();
            let requests = vec![wire::Request::ReadDir(&handle.handle); count];
            under_way.extend(session.send(&requests, None).await?);
            let pending = under_way.pop_front().expect("at least two are asked for");
            let names = match session.reply(pending).await? {
                Reply::Names(names) if names.is_empty() => {
                    return Err(Failure::Malformed("an answer with names has none"));
                }
                Reply::Names(names) => names,
                Reply::Status(status::EOF) => return Ok(()),
                other => return Err(unexpected(&other)),
            };
            names_count += names.len();
            if names_count > NAMES_MAX {
                tracing::warn!(origin = %self.origin, dir = %item.path, "directory has too many entries");
                contents.is_partial = true;
                return Ok(());
            }
            for name in names {
                self.sort_out(item, name, contents, unclear);
            }
            ahead = (ahead + 1).min(AHEAD_MAX);
        }
    }

    fn sort_out(&self, item: &Item, entry: Name, contents: &mut Contents, unclear: &mut Unclear) {
        let Name { name, attrs } = entry;
        // "." and ".." are hidden like any other name with a dot.
        if crate::local::is_ignored(&name) {
            return;
        }
        // No name may hold a slash or a NUL, and no path be too long.
        if item.path.join(&name).is_err() || item.real.join(&name).is_err() {
            tracing::debug!(origin = %self.origin, dir = %item.path, "entry left out: its name cannot be");
            return;
        }
        match attrs.file_type() {
            FileType::File => match listed_file(&name, &attrs) {
                Some(file) => contents.files.push(file),
                None => unclear.unknown.push(name),
            },
            FileType::Dir => contents.dirs.push(Child {
                name: name.to_vec(),
                target: None,
            }),
            FileType::Link => unclear.links.push(name),
            FileType::Unknown => unclear.unknown.push(name),
            FileType::Other => {}
        }
    }

    /// Asks what entries are.
    async fn ask_kinds(
        &self,
        session: &Arc<Session>,
        item: &Item,
        names: &[Bytes],
        contents: &mut Contents,
        links: &mut Vec<Bytes>,
    ) -> Result<(), Failure> {
        let paths = full_paths(session, item, names);
        let requests: Vec<_> = paths
            .iter()
            .map(|path| wire::Request::Lstat(path))
            .collect();
        let pending = session.send(&requests, None).await?;
        for (name, pending) in names.iter().zip(pending) {
            let attrs = match session.attrs(pending).await {
                Err(Failure::Status(status::NO_SUCH_FILE)) => continue,
                Err(failure) => {
                    self.forgive(item, failure, contents)?;
                    continue;
                }
                Ok(attrs) => attrs,
            };
            match attrs.file_type() {
                FileType::Link => links.push(name.clone()),
                FileType::Dir => contents.dirs.push(Child {
                    name: name.to_vec(),
                    target: None,
                }),
                FileType::File => contents.files.extend(listed_file(name, &attrs)),
                FileType::Other | FileType::Unknown => {}
            }
        }
        Ok(())
    }

    /// Asks where links lead, and takes what is to be listed.
    async fn follow(
        &self,
        session: &Arc<Session>,
        item: &Item,
        names: &[Bytes],
        contents: &mut Contents,
    ) -> Result<(), Failure> {
        let paths = full_paths(session, item, names);
        let requests: Vec<_> = paths
            .iter()
            .flat_map(|path| [wire::Request::RealPath(path), wire::Request::Stat(path)])
            .collect();
        let mut pending = session.send(&requests, None).await?.into_iter();
        for name in names {
            let mut next = || pending.next().expect("one for each request");
            let real = session.real_path(next()).await;
            let attrs = session.attrs(next()).await;
            let left_out = |reason: &str| {
                let name = String::from_utf8_lossy(name);
                tracing::debug!(origin = %self.origin, dir = %item.path, ?name, reason, "link left out");
            };
            let (real, attrs) = match real.and_then(|real| Ok((real, attrs?))) {
                Ok(found) => found,
                Err(Failure::Status(status::NO_SUCH_FILE)) => {
                    left_out("it leads nowhere");
                    continue;
                }
                Err(Failure::Status(status::PERMISSION_DENIED)) => {
                    left_out("permission denied");
                    continue;
                }
                Err(failure) => {
                    self.forgive(item, failure, contents)?;
                    continue;
                }
            };
            let Some(real) = session.below_root(&real) else {
                left_out("it leads out of the origin");
                continue;
            };
            match attrs.file_type() {
                FileType::File => contents.files.extend(listed_file(name, &attrs)),
                FileType::Dir if item.is_through_link() => left_out("a link below a link"),
                FileType::Dir if item.real.is_within(&real) => left_out("it leads back up"),
                FileType::Dir => contents.dirs.push(Child {
                    name: name.to_vec(),
                    target: Some(real),
                }),
                FileType::Link | FileType::Other | FileType::Unknown => {
                    left_out("no file or directory");
                }
            }
        }
        Ok(())
    }
}

/// A file as it is listed; `None` if not enough is known of it.
fn listed_file(name: &[u8], attrs: &Attrs) -> Option<ListedFile> {
    let version = file::version(attrs).ok()?;
    Some(ListedFile {
        name: name.to_vec(),
        version,
        mtime_ns: file::mtime_ns(attrs.mtime?),
        mode: u16::try_from(attrs.mode? & 0o444).expect("three bits"),
        identity: None,
    })
}

fn full_paths(session: &Session, item: &Item, names: &[Bytes]) -> Vec<Vec<u8>> {
    let dir = session.full_path(&item.real);
    let dir = dir.strip_suffix(b"/").unwrap_or(&dir);
    let join = |name: &Bytes| [dir, b"/", name].concat();
    names.iter().map(join).collect()
}
