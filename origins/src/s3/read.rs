//! Reading: one conditional request for a range, checked byte for byte against what was asked for.

use std::future::poll_fn;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::{ByteStream as Body, ByteStreamError};
use bytes::{Bytes, BytesMut};

use musicfs_core::origin::{BoxFuture, ByteStream, OriginError, OriginFile, PIECE_BYTES_MAX};
use musicfs_core::path::OriginPath;
use musicfs_core::version::ContentVersion;

use super::bucket::Bucket;
use super::failure::{Attempt, Subject};
use super::limit::AnswerLimit;
use super::object::plain_tag;
use super::status::Status;

/// How far the beginning of a whole file is thrown away, where a server sends that for a range.
/// Behind it a read would cost more than it brings.
const SKIP_BYTES_MAX: u64 = 8 << 20;
/// Pieces are put together up to this size, if they are there: they come as the socket gives them.
const PIECE_BYTES_MIN: usize = 512 << 10;

/// An object under one entity tag. Opening costs nothing: each read is conditional.
pub(super) struct S3File {
    pub(super) bucket: Arc<Bucket>,
    pub(super) path: OriginPath,
    /// The full key.
    pub(super) key: String,
    pub(super) version: ContentVersion,
    /// That of the version.
    pub(super) tag: Box<str>,
}

impl OriginFile for S3File {
    fn version(&self) -> &ContentVersion {
        &self.version
    }

    fn stream(&self, range: Range<u64>) -> Box<dyn ByteStream + '_> {
        let end = range.end.min(self.version.size);
        let range = range.start.min(end)..end;
        let stage = match range.is_empty() {
            true => Stage::Done,
            false => Stage::Unasked,
        };
        Box::new(Read {
            file: self,
            range,
            stage,
        })
    }

    /// Always: a changed object answers no conditional request.
    fn is_unchanged(&self) -> bool {
        true
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

impl S3File {
    pub(super) fn attempt(&self, action: &'static str) -> Attempt<'_> {
        Attempt {
            action,
            path: &self.path,
        }
    }

    /// Asks for a range, and checks what the server says that it sends.
    async fn ask(&self, range: &Range<u64>) -> Result<Flow, OriginError> {
        let attempt = self.attempt("read");
        let client = self.bucket.client(attempt).await?;
        let status = Status::default();
        let request = client
            .get_object()
            .bucket(&self.bucket.name)
            .key(&self.key)
            .range(format!("bytes={}-{}", range.start, range.end - 1))
            .if_match(format!("\"{}\"", self.tag))
            .customize()
            .interceptor(AnswerLimit::Errors)
            .interceptor(status.clone())
            .send();
        let answer = self
            .bucket
            .answer(request, attempt, Subject::Object)
            .await?;
        let is_doubtful = !status.is_partial_content() || self.bucket.is_lax();
        if let Err(error) = self.check_tag(answer.e_tag()) {
            // It should have been refused.
            self.bucket.note_lax();
            return Err(error);
        }
        let skip = match to_skip(&answer, range, self.version.size) {
            Ok(skip) => skip,
            Err(what) => return Err(attempt.malformed(what)),
        };
        Ok(Flow {
            body: answer.body,
            ahead: None,
            skip: skip.unwrap_or(0),
            left: range.end - range.start,
            is_exact: skip.is_none(),
            is_doubtful,
            piece: Bytes::new(),
        })
    }

    /// Makes sure that what has been received up to now is of this version: the server, which
    /// heeds no conditions, still has it.
    ///
    /// Such a server looks for the entity tag, then opens the object, and opens it again where it
    /// sees fit: what replaces it in between comes under the old tag.
    async fn confirm(&self) -> Result<(), OriginError> {
        match self.confirm_once().await {
            // The question may have met a connection that was just being closed; the bytes that
            // came are too dear to be thrown away for that.
            Err(error) if error.kind().may_pass() => self.confirm_once().await,
            outcome => outcome,
        }
    }

    async fn confirm_once(&self) -> Result<(), OriginError> {
        let attempt = self.attempt("read");
        let client = self.bucket.client(attempt).await?;
        let request = client
            .head_object()
            .bucket(&self.bucket.name)
            .key(&self.key)
            .customize()
            .interceptor(AnswerLimit::Always)
            .send();
        let answer = self.bucket.answer(request, attempt, Subject::Object);
        self.check_tag(answer.await?.e_tag())
    }

    fn check_tag(&self, tag: Option<&str>) -> Result<(), OriginError> {
        match tag.and_then(plain_tag) {
            Some(tag) if tag == &*self.tag => Ok(()),
            Some(_) => Err(self.attempt("read").changed()),
            None => Err(self.attempt("read").malformed("it has no entity tag")),
        }
    }
}

/// How many bytes come ahead of `range` in an answer that holds the whole file of `size` bytes;
/// `None` if it holds the range alone.
fn to_skip(
    answer: &GetObjectOutput,
    range: &Range<u64>,
    size: u64,
) -> Result<Option<u64>, &'static str> {
    let len = answer.content_length().map(u64::try_from).transpose();
    let len = len.map_err(|_| "its length is negative")?;
    match answer.content_range() {
        Some(text) => {
            if !is_content_range(text, range, size) {
                return Err("it is another range than was asked for");
            }
            match len {
                Some(len) if len != range.end - range.start => {
                    Err("its length is not that of its range")
                }
                _ => Ok(None),
            }
        }
        // The status 200, from a server that knows no ranges.
        None if len != Some(size) => Err("it is no range, and not the whole file"),
        None if range.start > SKIP_BYTES_MAX => Err("it is the whole file and not a range"),
        None => Ok(Some(range.start)),
    }
}

/// True for the header that answers `range` of a file of `size` bytes (RFC 9110 §14.4).
fn is_content_range(text: &str, range: &Range<u64>, size: u64) -> bool {
    let parse = || {
        let (bounds, whole) = text.strip_prefix("bytes ")?.trim().split_once('/')?;
        let (first, last) = bounds.split_once('-')?;
        let fits = whole == "*" || whole.parse() == Ok(size);
        Some((first.parse::<u64>().ok()?, last.parse::<u64>().ok()?, fits))
    };
    parse() == Some((range.start, range.end - 1, true))
}

/// A range on its way.
struct Read<'a> {
    file: &'a S3File,
    range: Range<u64>,
    stage: Stage,
}

enum Stage {
    Unasked,
    Flowing(Box<Flow>),
    Done,
    /// A wait failed, or was dropped.
    Broken,
}

/// What a socket gave: `None` at the end.
type Received = Option<Result<Bytes, ByteStreamError>>;

/// The body of an answer.
struct Flow {
    body: Body,
    /// Received while a piece was put together, and not part of it.
    ahead: Option<Received>,
    /// Bytes that come before the range.
    skip: u64,
    /// Bytes of the range that have not been received.
    left: u64,
    /// True if the body ends where the range does.
    is_exact: bool,
    /// True if it may be of another version: each piece is confirmed before it is delivered.
    is_doubtful: bool,
    /// Received and checked, not delivered.
    piece: Bytes,
}

impl ByteStream for Read<'_> {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, OriginError>> {
        Box::pin(async move {
            let mut flow = match std::mem::replace(&mut self.stage, Stage::Broken) {
                Stage::Unasked => Box::new(self.file.ask(&self.range).await?),
                Stage::Flowing(flow) => flow,
                Stage::Done => {
                    self.stage = Stage::Done;
                    return Ok(None);
                }
                Stage::Broken => {
                    let source = std::io::ErrorKind::Interrupted.into();
                    return Err(self.file.attempt("read").io(source));
                }
            };
            let piece = flow.next(self.file).await?;
            self.stage = match piece {
                Some(_) => Stage::Flowing(flow),
                None => Stage::Done,
            };
            Ok(piece)
        })
    }
}

impl Flow {
    async fn next(&mut self, file: &S3File) -> Result<Option<Bytes>, OriginError> {
        let attempt = file.attempt("read");
        while self.piece.is_empty() {
            if self.left == 0 && !self.is_exact {
                return Ok(None); // what follows was not asked for
            }
            let received = match self.ahead.take() {
                Some(received) => received,
                None => {
                    let Bucket { patience, pool, .. } = &*file.bucket;
                    let received = pool.within(*patience, self.body.next()).await;
                    received.ok_or_else(|| attempt.timed_out(*patience))?
                }
            };
            match received {
                None if self.left == 0 => return Ok(None),
                None => return Err(attempt.malformed("it has fewer bytes than announced")),
                Some(Err(error)) => {
                    file.bucket.pool.give_up();
                    return Err(attempt.cut_off(&error));
                }
                Some(Ok(bytes)) => {
                    let bytes = self.gather(bytes).await;
                    let Some(piece) = self.crop(bytes) else {
                        return Err(attempt.malformed("it has more bytes than announced"));
                    };
                    if self.is_doubtful && !piece.is_empty() {
                        file.confirm().await?;
                    }
                    self.piece = piece;
                }
            }
        }
        let len = self.piece.len().min(PIECE_BYTES_MAX);
        Ok(Some(self.piece.split_to(len)))
    }

    /// Puts more bytes behind `first`, as long as they can be had without waiting.
    async fn gather(&mut self, first: Bytes) -> Bytes {
        // What is confirmed costs a round trip, however much it is.
        let enough = match self.is_doubtful {
            true => PIECE_BYTES_MAX,
            false => PIECE_BYTES_MIN,
        };
        if first.len() >= enough {
            return first;
        }
        let Some(second) = self.receive_now().await else {
            return first;
        };
        let mut piece = BytesMut::with_capacity(2 * PIECE_BYTES_MIN);
        piece.extend_from_slice(&first);
        piece.extend_from_slice(&second);
        while piece.len() < enough {
            match self.receive_now().await {
                Some(bytes) => piece.extend_from_slice(&bytes),
                None => break,
            }
        }
        piece.freeze()
    }

    /// Bytes that are there already; an end or an error is kept for later.
    async fn receive_now(&mut self) -> Option<Bytes> {
        if self.ahead.is_some() {
            return None;
        }
        let received = {
            let mut next = pin!(self.body.next());
            poll_fn(|ctx| Poll::Ready(next.as_mut().poll(ctx))).await
        };
        match received {
            Poll::Pending => None,
            Poll::Ready(Some(Ok(bytes))) => Some(bytes),
            Poll::Ready(end) => {
                self.ahead = Some(end);
                None
            }
        }
    }

    /// The part of `bytes` that lies in the range; `None` if they go on behind it and may not.
    fn crop(&mut self, mut bytes: Bytes) -> Option<Bytes> {
        let skip = bytes
            .len()
            .min(usize::try_from(self.skip).unwrap_or(usize::MAX));
        self.skip -= skip as u64;
        let mut piece = bytes.split_off(skip);
        if piece.len() as u64 > self.left {
            if self.is_exact {
                return None;
            }
            piece.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        }
        self.left -= piece.len() as u64;
        Some(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_range_asked_for_is_taken() {
        for (text, fits) in [
            ("bytes 10-19/100", true),
            ("bytes 10-19/*", true),
            ("bytes 10-20/100", false),
            ("bytes 9-19/100", false),
            ("bytes 10-19/101", false),
            ("bytes 10-19", false),
            ("bytes */100", false),
            ("10-19/100", false),
            ("", false),
        ] {
            assert_eq!(is_content_range(text, &(10..20), 100), fits, "{text:?}");
        }
    }

    #[test]
    fn a_whole_file_is_taken_for_a_range_near_its_beginning() {
        let answer = |len: i64| GetObjectOutput::builder().content_length(len).build();
        let size = 100 << 20;
        assert_eq!(to_skip(&answer(size), &(0..10), size as u64), Ok(Some(0)));
        let far = SKIP_BYTES_MAX..SKIP_BYTES_MAX + 1;
        assert_eq!(
            to_skip(&answer(size), &far, size as u64),
            Ok(Some(SKIP_BYTES_MAX))
        );
        let further = SKIP_BYTES_MAX + 1..SKIP_BYTES_MAX + 2;
        assert!(to_skip(&answer(size), &further, size as u64).is_err());
        assert!(to_skip(&answer(size - 1), &(0..10), size as u64).is_err());
        assert!(to_skip(&answer(-1), &(0..10), size as u64).is_err());
        let silent = GetObjectOutput::builder().build();
        assert!(to_skip(&silent, &(0..10), 10).is_err());
    }
}
