//! Versions that go out of use.

use musicfs_core::version::VersionKey;

use super::Write;
use crate::error::{Attempt, Error};
use crate::read::HAS_VERSION;

impl Write<'_> {
    /// Notes that a row has another version now.
    pub(super) fn replace(&mut self, old: VersionKey, new: VersionKey) {
        if old != new {
            self.replaced.insert(old);
        }
    }

    /// The replaced versions that no row has any more, once all rows are written.
    pub(super) fn retired(&mut self) -> Result<Vec<VersionKey>, Error> {
        let mut retired = Vec::new();
        let mut query = self.db.prepare_cached(HAS_VERSION).attempt("read")?;
        for key in std::mem::take(&mut self.replaced) {
            if !query.exists([key.0]).attempt("read")? {
                retired.push(key);
            }
        }
        Ok(retired)
    }
}
