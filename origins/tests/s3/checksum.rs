//! What an origin says of the whole of an object.

use musicfs_core::checksum::Checksum;
use musicfs_core::error::ErrorKind;

use super::*;

const MD5: &str = "900150983cd24fb0d6963f7d28e17f72";
/// SHA-256 of "abc" in hexadecimal digits, and as the header has it.
const SHA256: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
const SHA256_BASE64: &str = "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=";

fn tagged(tag: &str, size: u64) -> ContentVersion {
    ContentVersion {
        size,
        validator: Validator::ETag(tag.into()),
    }
}

async fn ask(server: &Server, tag: &str, size: u64) -> Result<Option<Checksum>, OriginError> {
    let asked = origin(server)
        .checksum(&path("a b/f.flac"), &tagged(tag, size))
        .await;
    asked.inspect_err(|error| {
        told(error);
    })
}

/// The answer to a HEAD for a part of `len` bytes.
fn part(tag: &str, len: u64) -> Reply {
    Reply::new(206)
        .header("ETag", format!("\"{tag}\""))
        .header("Content-Length", len.to_string())
}

async fn ask_reply(reply: Reply, tag: &str, size: u64) -> Result<Option<Checksum>, OriginError> {
    ask(&Server::always(reply).await, tag, size).await
}

#[tokio::test]
async fn the_tag_of_a_single_upload_is_its_md5_and_asks_for_nothing() {
    let server = Server::always(Reply::new(500)).await;
    let asked = ask(&server, MD5, 3).await.unwrap();
    assert_eq!(asked, Checksum::from_hex(MD5));
    for odd in ["tag-1", "x", &MD5[1..], &format!("{MD5}-x")] {
        assert_eq!(ask(&server, odd, 3).await.unwrap(), None, "{odd}");
    }
    assert!(server.asked().is_empty());
}

#[tokio::test]
async fn an_upload_in_parts_costs_one_conditional_head() {
    let tag = format!("{MD5}-3");
    let server = Server::always(part(&tag, 8).header("x-amz-mp-parts-count", "3")).await;
    let asked = ask(&server, &tag, 20).await.unwrap();
    assert_eq!(asked, Checksum::from_etag(&tag, Some(8)));
    assert!(asked.is_some());
    let [head] = &server.asked()[..] else {
        panic!("{:?}", server.asked());
    };
    assert_eq!(head.method, "HEAD");
    assert!(
        head.target.starts_with("/music/lib/a%20b/f.flac?"),
        "{}",
        head.target
    );
    assert_eq!(head.parameter("partNumber"), Some("1"));
    assert_eq!(head.header("if-match"), Some(&*format!("\"{tag}\"")));
    assert_eq!(head.header("x-amz-checksum-mode"), Some("ENABLED"));
    // A server that does not say how many there are is believed if the lengths agree.
    let asked = ask_reply(part(&tag, 8), &tag, 20).await.unwrap();
    assert_eq!(asked, Checksum::from_etag(&tag, Some(8)));
}

#[tokio::test]
async fn parts_that_do_not_add_up_prove_nothing() {
    let tag = format!("{MD5}-3");
    let tag = tag.as_str();
    let none = [
        // The whole, from a server that knows no parts.
        Reply::new(200)
            .header("ETag", format!("\"{tag}\""))
            .header("Content-Length", "20"),
        part(tag, 5),
        part(tag, 0),
        part(tag, 8).header("x-amz-mp-parts-count", "4"),
        part(tag, 8).header("x-amz-mp-parts-count", "-3"),
        Reply::new(206).header("ETag", format!("\"{tag}\"")),
    ];
    for (at, reply) in none.into_iter().enumerate() {
        assert_eq!(ask_reply(reply, tag, 20).await.unwrap(), None, "{at}");
    }
}

#[tokio::test]
async fn a_checksum_of_the_whole_is_taken_where_a_head_brings_one() {
    let tag = format!("{MD5}-1");
    let whole = |kind: &str| {
        part(&tag, 3)
            .header("x-amz-checksum-sha256", SHA256_BASE64)
            .header("x-amz-checksum-type", kind)
    };
    let asked = ask_reply(whole("FULL_OBJECT"), &tag, 3).await.unwrap();
    assert_eq!(asked, Checksum::from_hex(SHA256));
    let asked = ask_reply(whole("COMPOSITE"), &tag, 3).await.unwrap();
    assert_eq!(asked, Checksum::from_etag(&tag, Some(3)));
    // That of a part is not that of the whole.
    let tag = format!("{MD5}-2");
    let reply = part(&tag, 3)
        .header("x-amz-checksum-sha256", SHA256_BASE64)
        .header("x-amz-checksum-type", "FULL_OBJECT");
    let asked = ask_reply(reply, &tag, 5).await.unwrap();
    assert_eq!(asked, Checksum::from_etag(&tag, Some(3)));
}

#[tokio::test]
async fn a_changed_object_and_a_silent_server_are_errors() {
    let tag = format!("{MD5}-3");
    let changed = [Reply::new(412), part("other", 8)];
    for reply in changed {
        let error = ask_reply(reply, &tag, 20).await.unwrap_err();
        assert!(matches!(error, OriginError::Changed { .. }), "{error:?}");
    }
    let error = ask_reply(Reply::new(404), &tag, 20).await.unwrap_err();
    assert!(matches!(error, OriginError::NotFound { .. }), "{error:?}");
    let error = ask_reply(Reply::new(403), &tag, 20).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    let server = Server::always(Reply::silence()).await;
    let origin = origin(&server).with_patience(SHORT);
    let asked = origin.checksum(&path("f"), &tagged(&tag, 20)).await;
    assert!(
        matches!(asked, Err(OriginError::TimedOut { .. })),
        "{asked:?}"
    );
    let mtime = ContentVersion {
        size: 20,
        validator: Validator::Mtime(5),
    };
    let asked = origin.checksum(&path("f"), &mtime).await;
    assert!(
        matches!(asked, Err(OriginError::Changed { .. })),
        "{asked:?}"
    );
}
