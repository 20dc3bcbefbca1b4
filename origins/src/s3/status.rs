//! The status of an answer, which the sdk keeps to itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;

/// How a server answers a range that it sends as asked (RFC 9110 §15.3.7).
const PARTIAL_CONTENT: u16 = 206;

/// Remembers the status of the answer to one request; 0 before there is one. Clones are one.
#[derive(Clone, Debug, Default)]
pub(super) struct Status(Arc<AtomicU16>);

impl Status {
    /// True if the server knows ranges, by what it says.
    pub(super) fn is_partial_content(&self) -> bool {
        self.0.load(Ordering::Relaxed) == PARTIAL_CONTENT
    }
}

impl Intercept for Status {
    fn name(&self) -> &'static str {
        "Status"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let status = context.response().status().as_u16();
        self.0.store(status, Ordering::Relaxed);
        Ok(())
    }
}
