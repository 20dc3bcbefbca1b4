//! Listing: pages of keys in, directories out.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::types::{EncodingType, Object};
use tracing::warn;

use musicfs_core::origin::{BoxFuture, Depth, DirListing, DirStream, OriginError};
use musicfs_core::path::OriginPath;

use super::bucket::Bucket;
use super::failure::{Attempt, Subject};
use super::group::{Grouping, Order, Spot};
use super::limit::AnswerLimit;
use super::object::{Unreadable, decode_key, to_file};
use crate::local::is_ignored;

/// Starts to list. Nothing is asked for before the first `next`, and no page ahead of the receiver.
pub(super) fn start(bucket: Arc<Bucket>, under: OriginPath, depth: Depth) -> Listing {
    Listing {
        bucket,
        depth,
        stage: Stage::More(None),
        ready: VecDeque::new(),
        grouping: Grouping::new(under.clone()),
        keys: Order::new(),
        dirs: Order::new(),
        is_there: under.is_root(),
        left_out: LeftOut::default(),
        under,
    }
}

/// A listing under way. Holds the directories that may still grow, and those of one page.
///
/// A key `a` may exist beside a key `a/b`: then a file and a directory have one name.
pub(super) struct Listing {
    bucket: Arc<Bucket>,
    under: OriginPath,
    depth: Depth,
    stage: Stage,
    ready: VecDeque<DirListing>,
    grouping: Grouping,
    /// Of the keys.
    keys: Order,
    /// Of the directories that a listing of [`Depth::One`] is told.
    dirs: Order,
    /// True once any key lies under the directory: nothing else makes one exist.
    is_there: bool,
    left_out: LeftOut,
}

enum Stage {
    /// Pages are left; the token of the next one, the first has none.
    More(Option<String>),
    Done,
    Failed,
}

/// What a listing leaves out that its user may miss.
#[derive(Debug, Default)]
struct LeftOut {
    archived_count: u64,
    unversioned_count: u64,
    odd_count: u64,
    /// The first of them.
    example: Option<String>,
}

impl LeftOut {
    fn note(&mut self, key: &[u8], why: Unreadable) {
        *match why {
            Unreadable::Archived => &mut self.archived_count,
            Unreadable::Unversioned => &mut self.unversioned_count,
            Unreadable::Odd => &mut self.odd_count,
        } += 1;
        let text = || String::from_utf8_lossy(key).into_owned();
        self.example.get_or_insert_with(text);
    }
}

impl DirStream for Listing {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<DirListing>, OriginError>> {
        Box::pin(async move {
            loop {
                if let Some(listing) = self.ready.pop_front() {
                    return Ok(Some(listing));
                }
                match &self.stage {
                    Stage::More(_) => self.turn_page().await?,
                    Stage::Done => return Ok(None),
                    // Never let that pass for "nothing else is there".
                    Stage::Failed => {
                        let source = std::io::ErrorKind::Interrupted.into();
                        return Err(attempt(&self.under).io(source));
                    }
                }
            }
        })
    }
}

fn attempt(under: &OriginPath) -> Attempt<'_> {
    Attempt {
        action: "list",
        path: under,
    }
}

impl Listing {
    /// Fetches the next page and takes it in. An error, or being dropped on the way, is the end.
    async fn turn_page(&mut self) -> Result<(), OriginError> {
        let Stage::More(token) = std::mem::replace(&mut self.stage, Stage::Failed) else {
            return Ok(());
        };
        let under = self.under.clone();
        let attempt = attempt(&under);
        if under.as_bytes().split(|&byte| byte == b'/').any(is_ignored) {
            return Err(attempt.not_found());
        }
        let prefix = match self.bucket.key(&under) {
            Some(key) if key.is_empty() => key,
            Some(key) => key + "/",
            None => return Err(attempt.not_found()),
        };
        let client = self.bucket.client(attempt).await?;
        let request = client
            .list_objects_v2()
            .bucket(&self.bucket.name)
            .prefix(&prefix)
            .encoding_type(EncodingType::Url)
            .set_delimiter((self.depth == Depth::One).then(|| "/".to_owned()))
            .set_continuation_token(token.clone())
            .customize()
            .interceptor(AnswerLimit::Listing)
            .send();
        let page = self
            .bucket
            .answer(request, attempt, Subject::Bucket)
            .await?;
        self.take_in(&page, prefix.as_bytes())?;
        self.stage = match following(&page, token.as_deref()) {
            Ok(Some(token)) => Stage::More(Some(token)),
            Ok(None) => {
                self.finish()?;
                Stage::Done
            }
            Err(what) => return Err(attempt.malformed(what)),
        };
        Ok(())
    }

    fn take_in(&mut self, page: &ListObjectsV2Output, prefix: &[u8]) -> Result<(), OriginError> {
        let encoded = page.encoding_type() == Some(&EncodingType::Url);
        for object in page.contents() {
            self.take_object(object, encoded, prefix)?;
        }
        for dir in page.common_prefixes() {
            self.take_dir(dir.prefix(), encoded, prefix)?;
        }
        Ok(())
    }

    fn take_object(
        &mut self,
        object: &Object,
        encoded: bool,
        prefix: &[u8],
    ) -> Result<(), OriginError> {
        self.is_there = true;
        let Some(key) = self.decode(object.key(), encoded)? else {
            return Ok(());
        };
        let below = self.below(&key, prefix)?;
        if !self.keys.admit(below) {
            return Err(self.malformed("its keys come in no order, or come again"));
        }
        let Some(spot) = Spot::of(&self.under, below) else {
            self.left_out.note(&key, Unreadable::Odd);
            return Ok(());
        };
        if self.depth == Depth::One && !spot.dirs.is_empty() {
            return Err(self.malformed("it goes deeper than it was asked to"));
        }
        let Spot { dirs, name } = spot;
        let file = match name.map(|name| to_file(object, name)) {
            // The sdk asks for text only.
            Some(_) if std::str::from_utf8(&key).is_err() => Err(Unreadable::Odd),
            Some(read) => read.map(Some),
            None => Ok(None),
        };
        let file = file.unwrap_or_else(|why| {
            self.left_out.note(&key, why);
            None
        });
        let added = self.grouping.add(&dirs, file, &mut self.ready);
        added.map_err(|many| attempt(&many.dir).malformed(many.what))
    }

    fn take_dir(
        &mut self,
        dir: Option<&str>,
        encoded: bool,
        prefix: &[u8],
    ) -> Result<(), OriginError> {
        self.is_there = true;
        let Some(key) = self.decode(dir, encoded)? else {
            return Ok(());
        };
        let below = self.below(&key, prefix)?;
        if self.depth == Depth::All {
            return Err(self.malformed("it leaves out what lies deeper"));
        }
        if !self.dirs.admit(below) {
            return Err(self.malformed("its directories come in no order, or come again"));
        }
        let spot = Spot::of(&self.under, below);
        match spot.as_ref().map(|spot| (spot.dirs.as_slice(), spot.name)) {
            Some(([dir], None)) => {
                let added = self.grouping.add_dir(dir);
                added.map_err(|many| attempt(&many.dir).malformed(many.what))
            }
            // Hidden.
            Some(([], None)) => Ok(()),
            Some(_) => Err(self.malformed("it goes deeper than it was asked to")),
            None => {
                self.left_out.note(&key, Unreadable::Odd);
                Ok(())
            }
        }
    }

    /// The bytes of a key; `None` if the server left them unclear.
    fn decode<'a>(
        &mut self,
        text: Option<&'a str>,
        encoded: bool,
    ) -> Result<Option<Cow<'a, [u8]>>, OriginError> {
        let Some(text) = text else {
            return Err(self.malformed("an object has no key"));
        };
        if !encoded {
            return Ok(Some(Cow::Borrowed(text.as_bytes())));
        }
        let key = decode_key(text);
        if key.is_none() {
            self.left_out.note(text.as_bytes(), Unreadable::Odd);
        }
        Ok(key)
    }

    fn below<'a>(&self, key: &'a [u8], prefix: &[u8]) -> Result<&'a [u8], OriginError> {
        let outside = || self.malformed("a key lies outside of what was asked for");
        key.strip_prefix(prefix).ok_or_else(outside)
    }

    fn malformed(&self, what: &'static str) -> OriginError {
        attempt(&self.under).malformed(what)
    }

    fn finish(&mut self) -> Result<(), OriginError> {
        if !self.is_there {
            return Err(attempt(&self.under).not_found());
        }
        self.grouping.finish(&mut self.ready);
        let LeftOut {
            archived_count,
            unversioned_count,
            odd_count,
            example: Some(example),
        } = &self.left_out
        else {
            return Ok(());
        };
        warn!(
            origin = %self.bucket.id,
            archived_count,
            unversioned_count,
            odd_count,
            ?example,
            "leaving out objects that lie in an archive, have no entity tag, or whose keys are no \
             paths: restore, or rename them"
        );
        Ok(())
    }
}

/// The token of the page behind `page`, if there is one; `token` is that of `page`.
fn following(
    page: &ListObjectsV2Output,
    token: Option<&str>,
) -> Result<Option<String>, &'static str> {
    match page.is_truncated() {
        Some(true) => {}
        Some(false) => return Ok(None),
        None => return Err("a page does not say whether it is the last"),
    }
    if page.contents().is_empty() && page.common_prefixes().is_empty() {
        return Err("a page is empty, and not the last");
    }
    match page.next_continuation_token() {
        None | Some("") => Err("a page does not say where the next one begins"),
        Some(next) if Some(next) == token => Err("a page is its own successor"),
        Some(next) => Ok(Some(next.to_owned())),
    }
}
