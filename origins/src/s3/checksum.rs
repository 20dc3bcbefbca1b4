//! What an entity tag, or a HEAD, proves of an object's content.

use std::sync::Arc;

use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::types::{ChecksumMode, ChecksumType};
use data_encoding::BASE64;

use musicfs_core::checksum::{Checksum, parts_of_etag};
use musicfs_core::origin::OriginError;

use super::failure::Subject;
use super::limit::AnswerLimit;
use super::object::plain_tag;
use super::read::S3File;

impl S3File {
    /// The object's checksum. The tag of a single upload is one by itself; that of an upload in
    /// parts needs the length of a part, which one request tells.
    ///
    /// Tags of objects encrypted with KMS or customers' keys look alike and are no digests: no
    /// content will agree with them (Amazon S3 API reference, "Object", ETag).
    pub(super) async fn checksum(&self) -> Result<Option<Checksum>, OriginError> {
        let size = self.version.size;
        if parts_of_etag(&self.tag).is_none() {
            return Ok(Checksum::from_etag(&self.tag, None));
        }
        let head = self.head_first_part().await?;
        let len = head
            .content_length()
            .and_then(|len| u64::try_from(len).ok());
        if len == Some(size)
            && let Some(checksum) = of_whole(&head)
        {
            return Ok(Some(checksum));
        }
        let parts = parts_of_etag(&self.tag);
        let told = head.parts_count().map(u32::try_from);
        if told.is_some_and(|told| told.ok() != parts) {
            return Ok(None);
        }
        // A server that knows no parts tells the length of the whole: then the count does not fit.
        let checksum = Checksum::from_etag(&self.tag, len);
        Ok(checksum.filter(|checksum| checksum.fits(size)))
    }

    /// Asks about the first part, under the condition that the version is still there.
    async fn head_first_part(&self) -> Result<HeadObjectOutput, OriginError> {
        let attempt = self.attempt("ask for the checksum of");
        let client = self.bucket.client(attempt).await?;
        let request = client
            .head_object()
            .bucket(&self.bucket.name)
            .key(&self.key)
            .part_number(1)
            .checksum_mode(ChecksumMode::Enabled)
            .if_match(format!("\"{}\"", self.tag))
            .customize()
            .interceptor(AnswerLimit::Always)
            .send();
        let bucket = Arc::clone(&self.bucket);
        let head = bucket.answer(request, attempt, Subject::Object).await?;
        match head.e_tag().and_then(plain_tag) {
            Some(tag) if tag == &*self.tag => Ok(head),
            Some(_) => Err(attempt.changed()),
            None => Err(attempt.malformed("it has no entity tag")),
        }
    }
}

/// The checksum that whoever uploaded the object sent along, if it is one of the whole: there are
/// others, made of those of the parts.
fn of_whole(head: &HeadObjectOutput) -> Option<Checksum> {
    if head.checksum_type() != Some(&ChecksumType::FullObject) {
        return None;
    }
    let decode = |text: Option<&str>| BASE64.decode(text?.as_bytes()).ok();
    let sha256 = || {
        Some(Checksum::Sha256(
            decode(head.checksum_sha256())?.try_into().ok()?,
        ))
    };
    let sha1 = || {
        Some(Checksum::Sha1(
            decode(head.checksum_sha1())?.try_into().ok()?,
        ))
    };
    sha256().or_else(sha1)
}
