//! All files at or below a path of the tree, a page at a time.

use musicfs_index::{FileBelow, Reader, Walk};

use crate::error::Error;

/// Files read with one query.
const PAGE_LEN: usize = 512;

/// The files at or below a path.
pub(crate) struct FilesBelow<'a> {
    reader: &'a Reader,
    walk: Walk,
    page: std::vec::IntoIter<FileBelow>,
}

impl<'a> FilesBelow<'a> {
    /// Starts at what lies at `path`; a file is the only one below itself.
    ///
    /// # Errors
    /// [`Error::NoPath`] if nothing lies there.
    pub(crate) fn new(reader: &'a Reader, path: &str) -> Result<Self, Error> {
        let none = || Error::NoPath {
            path: path.to_owned(),
        };
        let node = reader.resolve(path)?.ok_or_else(none)?;
        Ok(Self {
            reader,
            walk: reader.walk(node.ino)?.ok_or_else(none)?,
            page: Vec::new().into_iter(),
        })
    }

    /// The next file.
    ///
    /// # Errors
    /// [`Error::Index`].
    pub(crate) fn next(&mut self) -> Result<Option<FileBelow>, Error> {
        if self.page.len() == 0 {
            let page = self.reader.files_below(&mut self.walk, PAGE_LEN)?;
            self.page = page.into_iter();
        }
        Ok(self.page.next())
    }
}
