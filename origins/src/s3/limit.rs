//! A bound on what the sdk reads into memory: it takes in listings and errors as a whole.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::SdkBody;
use bytes::Bytes;
use http_body::{Body, Frame};

/// A page of a listing has 1000 keys; one of 1024 bytes takes 3 KiB when all of it is escaped,
/// and the rest of an entry under 1 KiB. Four times of that.
pub(super) const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// How every whole listing ends, whatever the prefix of its namespace.
const LISTING_END: &[u8] = b"ListBucketResult>";

/// An answer was not taken in.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub(super) enum Unfit {
    /// It is longer than [`ANSWER_BYTES_MAX`].
    #[error("take in an answer: it is too long")]
    TooLong,
    /// It is no listing, or not all of one. The sdk would take it for a shorter one.
    #[error("take in a listing: it breaks off")]
    BrokenOff,
}

/// Breaks off answers that are too long.
#[derive(Clone, Copy, Debug)]
pub(super) enum AnswerLimit {
    /// For requests whose answer is taken in as a whole.
    Always,
    /// For listings; they must be whole, too. Where only the end of a connection tells that an
    /// answer ends, nobody else would notice.
    Listing,
    /// For requests whose answer is streamed, and counted where it arrives: only errors.
    Errors,
}

impl Intercept for AnswerLimit {
    fn name(&self) -> &'static str {
        "AnswerLimit"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response_mut();
        let must_be_whole = match (self, response.status().is_success()) {
            (Self::Errors, true) => return Ok(()),
            (Self::Listing, true) => true,
            _ => false,
        };
        let inner = std::mem::replace(response.body_mut(), SdkBody::taken());
        *response.body_mut() = SdkBody::from_body_1_x(Limited {
            inner,
            left: ANSWER_BYTES_MAX,
            must_be_whole,
            tail: Vec::new(),
        });
        Ok(())
    }
}

/// A body that fails instead of getting longer than it may, or of ending too early.
struct Limited {
    inner: SdkBody,
    left: u64,
    must_be_whole: bool,
    /// The last bytes that are no white space, as many as [`LISTING_END`] has, or fewer.
    tail: Vec<u8>,
}

impl Limited {
    fn note(&mut self, data: &[u8]) -> Result<(), Unfit> {
        let left = self.left.checked_sub(data.len() as u64);
        self.left = left.ok_or(Unfit::TooLong)?;
        let data = data.trim_ascii_end();
        let from = data.len().saturating_sub(LISTING_END.len());
        self.tail.extend_from_slice(&data[from..]);
        let surplus = self.tail.len().saturating_sub(LISTING_END.len());
        self.tail.drain(..surplus);
        Ok(())
    }
}

impl Body for Limited {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = match ready!(Pin::new(&mut self.inner).poll_frame(ctx)) {
            Some(Ok(frame)) => frame,
            None if self.must_be_whole && self.tail != LISTING_END => {
                return Poll::Ready(Some(Err(Unfit::BrokenOff.into())));
            }
            other => return Poll::Ready(other),
        };
        let noted = frame.data_ref().map_or(Ok(()), |data| self.note(data));
        Poll::Ready(Some(noted.map(|()| frame).map_err(Into::into)))
    }
}
