//! What a failed request means.
//!
//! Errors of the sdk can hold requests with their signatures, and texts that a server chose. None
//! of that goes on: an error of ours is made of codes and of words of our own.

use std::error::Error;
use std::io;
use std::time::Duration;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use musicfs_core::origin::{OriginError, Refusal};
use musicfs_core::path::OriginPath;

use super::limit::Unfit;

/// Where credentials come from, for the one who has none.
const CREDENTIALS_HINT: &str = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or put them into \
                                ~/.aws/credentials, under the profile that the origin names";

/// What is being done, for the errors about it.
#[derive(Clone, Copy)]
pub(super) struct Attempt<'a> {
    /// As a verb.
    pub(super) action: &'static str,
    pub(super) path: &'a OriginPath,
}

/// What a request is about: decides what "not found" means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    Bucket,
    Object,
}

/// What a server's answer means.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Meaning {
    NotFound,
    Changed,
    Refused(Refusal),
}

impl Attempt<'_> {
    pub(super) fn malformed(self, what: &'static str) -> OriginError {
        OriginError::Malformed {
            action: self.action,
            path: self.path.clone(),
            what,
        }
    }

    pub(super) fn changed(self) -> OriginError {
        OriginError::Changed {
            path: self.path.clone(),
        }
    }

    pub(super) fn not_found(self) -> OriginError {
        OriginError::NotFound {
            path: self.path.clone(),
        }
    }

    pub(super) fn timed_out(self, after: Duration) -> OriginError {
        OriginError::TimedOut {
            action: self.action,
            path: self.path.clone(),
            after,
        }
    }

    pub(super) fn refused(self, refusal: Refusal) -> OriginError {
        OriginError::Refused {
            action: self.action,
            path: self.path.clone(),
            refusal,
        }
    }

    pub(super) fn without_credentials(self) -> OriginError {
        let hint = CREDENTIALS_HINT;
        self.refused(Refusal::NoCredentials { hint })
    }

    pub(super) fn io(self, source: io::Error) -> OriginError {
        OriginError::Io {
            action: self.action,
            path: self.path.clone(),
            source,
        }
    }

    /// The connection broke while bytes were on their way.
    pub(super) fn cut_off(self, error: &(dyn Error + 'static)) -> OriginError {
        let text = "the connection ended in the middle";
        self.io(system_error(error)
            .unwrap_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, text)))
    }

    /// A request got no answer, or one that is an error.
    pub(super) fn failed<E>(
        self,
        error: &SdkError<E, HttpResponse>,
        subject: Subject,
        patience: Duration,
    ) -> OriginError
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let status = error.raw_response().map(HttpResponse::status);
        match (status, error) {
            (Some(status), _) if !status.is_success() => {
                match meaning(error.code(), status.as_u16(), subject) {
                    Meaning::NotFound => self.not_found(),
                    Meaning::Changed => self.changed(),
                    Meaning::Refused(refusal) => self.refused(refusal),
                }
            }
            (Some(_), _) | (None, SdkError::ResponseError(_)) => match find::<Unfit>(error) {
                Some(Unfit::TooLong) => self.malformed("it is too long"),
                _ => self.malformed("it breaks off, or is not what S3 sends"),
            },
            (None, SdkError::TimeoutError(_)) => self.timed_out(patience),
            (None, SdkError::DispatchFailure(failure)) if failure.is_timeout() => {
                self.timed_out(patience)
            }
            (None, _) => self.io(system_error(error).unwrap_or_else(|| {
                io::Error::other("no connection: is the endpoint's host right, and reachable?")
            })),
        }
    }
}

/// The system's own error at the bottom of a chain, without the texts on the way.
fn system_error(error: &(dyn Error + 'static)) -> Option<io::Error> {
    use io::ErrorKind as Kind;
    let mut found = find::<io::Error>(error)?;
    // The source of an error that wraps another is that of the other.
    while let Some(inner) = found.get_ref().and_then(|inner| inner.downcast_ref()) {
        found = inner;
    }
    if let Some(code) = found.raw_os_error() {
        return Some(io::Error::from_raw_os_error(code));
    }
    match found.kind() {
        // What rustls says of a handshake.
        Kind::InvalidData => Some(io::Error::new(
            Kind::InvalidData,
            "no secure connection: the server's certificate is not trusted, or it speaks no TLS",
        )),
        kind @ (Kind::ConnectionRefused
        | Kind::ConnectionReset
        | Kind::ConnectionAborted
        | Kind::BrokenPipe
        | Kind::TimedOut
        | Kind::HostUnreachable
        | Kind::NetworkUnreachable
        | Kind::UnexpectedEof) => Some(kind.into()),
        _ => None,
    }
}

/// The outermost error of type `T` in a chain.
fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut link = Some(error);
    while let Some(error) = link {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        link = error.source();
    }
    None
}

/// What an answer with an error means: by its code where it has one (Amazon S3 API reference,
/// "Error responses"), else by its status. Answers to HEAD have no code.
fn meaning(code: Option<&str>, status: u16, subject: Subject) -> Meaning {
    let refusal = match (code.unwrap_or_default(), status) {
        ("NoSuchKey" | "NoSuchVersion", _) => return Meaning::NotFound,
        ("PreconditionFailed" | "ConditionalRequestConflict" | "InvalidRange", _) => {
            return match subject {
                Subject::Object => Meaning::Changed,
                Subject::Bucket => Meaning::Refused(Refusal::Other(status.into())),
            };
        }
        ("NoSuchBucket" | "InvalidBucketName", _) => Refusal::NoBucket,
        (
            "InvalidAccessKeyId"
            | "SignatureDoesNotMatch"
            | "ExpiredToken"
            | "InvalidToken"
            | "TokenRefreshRequired"
            | "InvalidSecurity",
            _,
        ) => Refusal::Credentials,
        ("AccessDenied" | "AllAccessDisabled" | "AccountProblem", _) => Refusal::Forbidden,
        ("RequestTimeTooSkewed" | "RequestExpired", _) => Refusal::Clock,
        (
            "PermanentRedirect"
            | "TemporaryRedirect"
            | "Redirect"
            | "AuthorizationHeaderMalformed"
            | "IllegalLocationConstraintException"
            | "IllegalLocationConstraint"
            | "IncorrectEndpoint",
            _,
        ) => Refusal::Region,
        ("SlowDown" | "Throttling" | "ThrottlingException" | "RequestLimitExceeded", _) => {
            Refusal::Busy
        }
        // The object lies in an archive: other rights would not help.
        ("InvalidObjectState", _) => Refusal::Other(status.into()),
        (_, 412 | 416) if subject == Subject::Object => return Meaning::Changed,
        (_, 404) => match subject {
            Subject::Object => return Meaning::NotFound,
            Subject::Bucket => Refusal::NoBucket,
        },
        (_, 401) => Refusal::Credentials,
        (_, 403) => Refusal::Forbidden,
        (_, 301 | 302 | 307 | 308) => Refusal::Region,
        (_, 429 | 503) => Refusal::Busy,
        (_, 500..) => Refusal::Server(status.into()),
        _ => Refusal::Other(status.into()),
    };
    Meaning::Refused(refusal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: &str, status: u16, subject: Subject) -> Refusal {
        match meaning((!code.is_empty()).then_some(code), status, subject) {
            Meaning::Refused(refusal) => refusal,
            other => panic!("{code} {status}: {other:?}"),
        }
    }

    #[test]
    fn an_answer_means_what_its_user_can_do() {
        for (code, status, refusal) in [
            ("AccessDenied", 403, Refusal::Forbidden),
            ("", 403, Refusal::Forbidden),
            ("InvalidAccessKeyId", 403, Refusal::Credentials),
            ("SignatureDoesNotMatch", 403, Refusal::Credentials),
            ("ExpiredToken", 400, Refusal::Credentials),
            ("", 401, Refusal::Credentials),
            ("RequestTimeTooSkewed", 403, Refusal::Clock),
            ("NoSuchBucket", 404, Refusal::NoBucket),
            ("PermanentRedirect", 301, Refusal::Region),
            ("", 307, Refusal::Region),
            ("AuthorizationHeaderMalformed", 400, Refusal::Region),
            ("IllegalLocationConstraintException", 400, Refusal::Region),
            ("SlowDown", 503, Refusal::Busy),
            ("", 429, Refusal::Busy),
            ("", 503, Refusal::Busy),
            ("InternalError", 500, Refusal::Server(500)),
            ("NotImplemented", 501, Refusal::Server(501)),
            ("InvalidObjectState", 403, Refusal::Other(403)),
            ("", 418, Refusal::Other(418)),
        ] {
            for subject in [Subject::Bucket, Subject::Object] {
                assert_eq!(refused(code, status, subject), refusal, "{code} {status}");
            }
        }
    }

    #[test]
    fn an_object_can_be_gone_or_changed_and_a_bucket_cannot() {
        for (code, status, expect) in [
            ("NoSuchKey", 404, Meaning::NotFound),
            ("", 404, Meaning::NotFound),
            ("PreconditionFailed", 412, Meaning::Changed),
            ("", 412, Meaning::Changed),
            ("InvalidRange", 416, Meaning::Changed),
            ("", 416, Meaning::Changed),
        ] {
            assert_eq!(
                meaning(Some(code), status, Subject::Object),
                expect,
                "{code} {status}"
            );
        }
        assert_eq!(refused("", 404, Subject::Bucket), Refusal::NoBucket);
        assert_eq!(refused("", 412, Subject::Bucket), Refusal::Other(412));
        assert_eq!(
            refused("InvalidRange", 416, Subject::Bucket),
            Refusal::Other(416)
        );
    }

    #[test]
    fn texts_of_others_are_left_behind() {
        let secret = io::Error::new(
            io::ErrorKind::ConnectionReset,
            "https://h/?X-Amz-Signature=1",
        );
        let told = system_error(&secret).unwrap();
        assert_eq!(told.kind(), io::ErrorKind::ConnectionReset);
        assert!(!format!("{told} {told:?}").contains("Amz"));
        assert!(system_error(&io::Error::other("X-Amz-Signature=1")).is_none());
        let tls = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, "X-Amz"));
        let told = system_error(&tls).unwrap();
        assert!(told.to_string().contains("certificate") && !told.to_string().contains("Amz"));
        let system = system_error(&io::Error::from_raw_os_error(111)).unwrap();
        assert_eq!(system.kind(), io::ErrorKind::ConnectionRefused);
    }
}
