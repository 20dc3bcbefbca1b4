//! Servers that refuse: each reason is told apart from the others.

use musicfs_core::error::ErrorKind;
use musicfs_core::origin::Refusal;

use super::*;

async fn read_error(reply: &Reply) -> OriginError {
    let server = Server::always(reply.clone()).await;
    let origin = origin(&server);
    let file = origin.open(&path("f"), &version(100)).await.unwrap();
    let error = file.read_at(0, 10).await.unwrap_err();
    assert_eq!(server.asked().len(), 1, "nothing is tried again here");
    told(&error);
    error
}

fn to_refusal(error: OriginError) -> Refusal {
    match error {
        OriginError::Refused { refusal, .. } => refusal,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_refusal_has_its_reason() {
    for (status, code, expect) in [
        (403, "AccessDenied", Refusal::Forbidden),
        (403, "InvalidAccessKeyId", Refusal::Credentials),
        (403, "SignatureDoesNotMatch", Refusal::Credentials),
        (400, "ExpiredToken", Refusal::Credentials),
        (403, "RequestTimeTooSkewed", Refusal::Clock),
        (404, "NoSuchBucket", Refusal::NoBucket),
        (301, "PermanentRedirect", Refusal::Region),
        (307, "TemporaryRedirect", Refusal::Region),
        (400, "AuthorizationHeaderMalformed", Refusal::Region),
        (503, "SlowDown", Refusal::Busy),
        (429, "TooManyRequests", Refusal::Busy),
        (500, "InternalError", Refusal::Server(500)),
        (502, "", Refusal::Server(502)),
        (409, "Whatever", Refusal::Other(409)),
    ] {
        let reply = refusal(status, code);
        assert_eq!(
            to_refusal(read_error(&reply).await),
            expect,
            "{status} {code}"
        );
        let server = Server::always(reply).await;
        let error = list(&origin(&server), "", Depth::All).await.unwrap_err();
        told(&error);
        assert_eq!(to_refusal(error), expect, "list: {status} {code}");
    }
}

#[tokio::test]
async fn a_refusal_without_xml_is_told_by_its_status() {
    for (status, expect) in [
        (403, Refusal::Forbidden),
        (301, Refusal::Region),
        (429, Refusal::Busy),
        (500, Refusal::Server(500)),
    ] {
        for body in ["", "<html>no", "\0\u{1}\u{2}"] {
            let reply = Reply::new(status).body(body);
            assert_eq!(
                to_refusal(read_error(&reply).await),
                expect,
                "{status} {body:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_missing_object_is_no_refusal() {
    for reply in [refusal(404, "NoSuchKey"), Reply::new(404).body("")] {
        let error = read_error(&reply).await;
        assert!(matches!(error, OriginError::NotFound { .. }), "{error:?}");
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}

#[tokio::test]
async fn an_endless_error_is_cut_off() {
    let endless = Reply::new(500).header("Transfer-Encoding", "chunked");
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let error = read_error(&endless.raw_body(chunk).for_ever()).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_check_falls_back_to_a_listing_where_the_bucket_does_not_tell() {
    const EMPTY: &str = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
    for status in [400, 403, 405, 501] {
        let server = Server::start(move |asked| match asked.method.as_str() {
            "HEAD" => Reply::new(status),
            _ => Reply::new(200).body(EMPTY),
        })
        .await;
        origin(&server).check().await.unwrap();
        let asked = server.asked();
        assert_eq!(asked.len(), 2, "{status}");
        assert_eq!(asked[1].parameter("max-keys"), Some("1"));
        assert_eq!(asked[1].parameter("prefix"), Some("lib%2F"));
    }
    let server = Server::start(|asked| match asked.method.as_str() {
        "HEAD" => Reply::new(403),
        _ => refusal(403, "SignatureDoesNotMatch"),
    })
    .await;
    let error = origin(&server).check().await.unwrap_err();
    told(&error);
    assert_eq!(to_refusal(error), Refusal::Credentials);
}

#[tokio::test]
async fn a_check_says_why_the_bucket_does_not_answer() {
    for (reply, expect) in [
        (Reply::new(404), Refusal::NoBucket),
        (Reply::new(301), Refusal::Region),
        (Reply::new(503), Refusal::Busy),
        (Reply::new(500), Refusal::Server(500)),
    ] {
        let server = Server::always(reply).await;
        let error = origin(&server).check().await.unwrap_err();
        told(&error);
        assert_eq!(to_refusal(error), expect);
        assert_eq!(server.asked().len(), 1);
    }
    let server = Server::always(Reply::silence()).await;
    let error = origin(&server)
        .with_patience(SHORT)
        .check()
        .await
        .unwrap_err();
    assert!(matches!(error, OriginError::TimedOut { .. }), "{error:?}");
}
