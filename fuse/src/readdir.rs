//! Pages of a directory.
//!
//! The cookie of an entry is the inode it names, and a page continues after the last one that the
//! kernel took: entries that come and go meanwhile neither repeat nor hide the others.

use musicfs_core::id::Ino;
use musicfs_library::{Child, Node};

/// Entries asked of the index at a time. A request of the kernel holds 4 KiB to 1 MiB; entries that
/// no longer fit are read again for the next page, so more would be read in vain.
const BATCH: usize = 128;

/// The cookie of `.`. Inode numbers of entries begin above [`Ino::RESERVED_MAX`].
const COOKIE_SELF: u64 = 1;
/// The cookie of `..`.
const COOKIE_PARENT: u64 = 2;

/// The directory that is listed, as one page needs it.
pub(crate) trait Directory {
    type Error;
    /// The directory itself.
    fn itself(&mut self) -> Result<Node, Self::Error>;
    /// Its parent; the root's is the root.
    fn parent(&mut self) -> Result<Node, Self::Error>;
    /// At most `limit` children with an inode above `after`, in order of inode.
    fn children(&mut self, after: Ino, limit: usize) -> Result<Vec<Child>, Self::Error>;
}

/// One entry of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    pub(crate) name: &'a str,
    pub(crate) cookie: u64,
}

/// Gives the entries after `cookie` to `add` until it answers that there is no room, or to the end.
///
/// An error after the first entry ends the page instead: the kernel asks again and gets the error.
pub(crate) fn fill_page<D: Directory>(
    directory: &mut D,
    cookie: u64,
    mut add: impl FnMut(Entry<'_>, &Node) -> Full,
) -> Result<(), D::Error> {
    if cookie < COOKIE_SELF {
        let node = directory.itself()?;
        if add(
            Entry {
                name: ".",
                cookie: COOKIE_SELF,
            },
            &node,
        ) == Full::Yes
        {
            return Ok(());
        }
    }
    if cookie < COOKIE_PARENT {
        let node = directory.parent()?;
        if add(
            Entry {
                name: "..",
                cookie: COOKIE_PARENT,
            },
            &node,
        ) == Full::Yes
        {
            return Ok(());
        }
    }
    let mut after = Ino(cookie).max(Ino::RESERVED_MAX);
    let mut is_first = cookie >= COOKIE_PARENT;
    loop {
        let children = match directory.children(after, BATCH) {
            Ok(children) => children,
            Err(error) if is_first => return Err(error),
            Err(_) => return Ok(()),
        };
        for Child { name, node } in &children {
            if add(
                Entry {
                    name,
                    cookie: node.ino.0,
                },
                node,
            ) == Full::Yes
            {
                return Ok(());
            }
        }
        is_first = false;
        match children.last() {
            Some(last) if children.len() == BATCH => after = last.node.ino,
            Some(_) | None => return Ok(()),
        }
    }
}

/// Whether the page had no room for an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    Yes,
    No,
}

impl From<bool> for Full {
    fn from(is_full: bool) -> Self {
        if is_full { Self::Yes } else { Self::No }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use musicfs_library::NodeKind;

    use super::*;

    struct Fake {
        children: BTreeMap<u64, String>,
        fails: bool,
    }

    fn node(ino: u64) -> Node {
        Node {
            ino: Ino(ino),
            kind: NodeKind::File,
            size: 0,
            mtime_ns: 0,
            mode: 0o444,
        }
    }

    impl Directory for Fake {
        type Error = ();
        fn itself(&mut self) -> Result<Node, ()> {
            Ok(node(300))
        }
        fn parent(&mut self) -> Result<Node, ()> {
            Ok(node(1))
        }
        fn children(&mut self, after: Ino, limit: usize) -> Result<Vec<Child>, ()> {
            if self.fails {
                return Err(());
            }
            let range = self.children.range(after.0 + 1..).take(limit);
            Ok(range
                .map(|(ino, name)| Child {
                    name: name.clone(),
                    node: node(*ino),
                })
                .collect())
        }
    }

    fn fake(count: u64) -> Fake {
        Fake {
            children: (0..count)
                .map(|i| (1000 + i * 3, format!("t{i}")))
                .collect(),
            fails: false,
        }
    }

    /// One page of at most `room` entries: their names, and the last cookie.
    fn page(directory: &mut Fake, cookie: u64, room: usize) -> Result<(Vec<String>, u64), ()> {
        let (mut names, mut last) = (Vec::new(), cookie);
        fill_page(directory, cookie, |entry, _| {
            if names.len() == room {
                return Full::Yes;
            }
            names.push(entry.name.to_owned());
            last = entry.cookie;
            Full::No
        })?;
        Ok((names, last))
    }

    fn list(directory: &mut Fake, room: usize) -> Vec<String> {
        let (mut all, mut cookie) = (Vec::new(), 0);
        loop {
            let (names, last) = page(directory, cookie, room).unwrap();
            if names.is_empty() {
                return all;
            }
            all.extend(names);
            cookie = last;
        }
    }

    #[test]
    fn pages_of_any_size_list_every_entry_once() {
        for count in [0, 1, 127, 128, 129, 256, 300] {
            let mut expect = vec![".".to_owned(), "..".to_owned()];
            expect.extend((0..count).map(|i| format!("t{i}")));
            for room in [1, 2, 3, 22, 127, 128, 129, 1000] {
                assert_eq!(
                    list(&mut fake(count), room),
                    expect,
                    "{count} in pages of {room}"
                );
            }
        }
    }

    #[test]
    fn removal_between_pages_hides_nothing_else() {
        let mut directory = fake(10);
        let (names, cookie) = page(&mut directory, 0, 5).unwrap();
        assert_eq!(names, [".", "..", "t0", "t1", "t2"]);
        directory.children.remove(&1006);
        directory.children.remove(&1009);
        let (names, _) = page(&mut directory, cookie, 100).unwrap();
        assert_eq!(names, ["t4", "t5", "t6", "t7", "t8", "t9"]);
    }

    #[test]
    fn an_error_is_never_an_empty_page() {
        let mut directory = Fake {
            fails: true,
            ..fake(10)
        };
        assert_eq!(page(&mut directory, 0, 100).unwrap().0, [".", ".."]);
        assert_eq!(page(&mut directory, 2, 100), Err(()));
        assert_eq!(page(&mut directory, 1003, 100), Err(()));
    }
}
