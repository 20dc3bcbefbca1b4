//! Listing: directories out of keys, and servers that list nonsense.

use super::*;

/// One object of a listing, its key as it is sent.
fn object(key: &str) -> String {
    format!(
        "<Contents><Key>{key}</Key><ETag>&quot;t&quot;</ETag><Size>5</Size>\
         <LastModified>2026-01-02T03:04:05.678Z</LastModified></Contents>"
    )
}

fn objects(keys: &[&str]) -> String {
    keys.iter().map(|key| object(key)).collect()
}

fn dirs(prefixes: &[&str]) -> String {
    let dir = |prefix| format!("<CommonPrefixes><Prefix>{prefix}</Prefix></CommonPrefixes>");
    prefixes.iter().map(dir).collect()
}

/// A page; `next` is the token of the one behind it.
fn page(content: &str, next: Option<&str>) -> Reply {
    let next = match next {
        Some(token) => format!("<NextContinuationToken>{token}</NextContinuationToken>"),
        None => String::new(),
    };
    let truncated = !next.is_empty();
    Reply::new(200).body(format!(
        "<?xml version=\"1.0\"?><ListBucketResult><EncodingType>url</EncodingType>{content}\
         <IsTruncated>{truncated}</IsTruncated>{next}</ListBucketResult>"
    ))
}

/// `path: file file; dir dir` for each directory, sorted.
fn outline(listings: &[DirListing]) -> Vec<String> {
    let names = |names: Vec<&Vec<u8>>| {
        let text = |name: &Vec<u8>| String::from_utf8_lossy(name).into_owned();
        names.into_iter().map(text).collect::<Vec<_>>().join(" ")
    };
    let mut lines: Vec<_> = listings
        .iter()
        .map(|listing| {
            assert!(listing.complete && listing.device.is_none());
            let files = names(listing.files.iter().map(|file| &file.name).collect());
            format!(
                "{}: {files}; {}",
                listing.path,
                names(listing.dirs.iter().collect())
            )
        })
        .collect();
    lines.sort();
    lines
}

/// How a listing of everything fails that has one page.
async fn list_error(reply: Reply) -> OriginError {
    let server = Server::always(reply).await;
    let error = list(&origin(&server), "", Depth::All).await.unwrap_err();
    told(&error);
    error
}

fn assert_malformed(error: &OriginError, expect: &str) {
    match error {
        OriginError::Malformed { what, .. } => assert_eq!(*what, expect),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_tree_is_listed_over_pages() {
    let server = Server::start(|asked| match asked.parameter("continuation-token") {
        None => page(&objects(&["lib/", "lib/a/b/c/x", "lib/a/d"]), Some("2")),
        Some("2") => page(&objects(&["lib/a/e/", "lib/a.flac"]), Some("t+/=3")),
        Some("t%2B%2F%3D3") => page(&objects(&["lib/z"]), None),
        other => panic!("{other:?}"),
    })
    .await;
    let listings = list(&origin(&server), "", Depth::All).await.unwrap();
    assert_eq!(
        outline(&listings),
        [
            ": a.flac z; a",
            "a/b/c: x; ",
            "a/b: ; c",
            "a/e: ; ",
            "a: d; b e",
        ]
    );
    let file = &listings.last().unwrap().files[0];
    assert_eq!(
        (file.version.size, file.mode, file.identity),
        (5, 0o444, None)
    );
    assert_eq!(file.version.validator, Validator::ETag("t".into()));
    assert_eq!(file.mtime_ns, 1_767_323_045_678_000_000);
    let asked = server.asked();
    assert_eq!(asked.len(), 3);
    for asked in asked {
        assert_eq!(asked.parameter("prefix"), Some("lib%2F"));
        assert_eq!(asked.parameter("delimiter"), None);
        assert_eq!(asked.parameter("encoding-type"), Some("url"));
    }
}

#[tokio::test]
async fn one_directory_is_listed_by_itself() {
    let server = Server::start(|asked| match asked.parameter("continuation-token") {
        None => {
            let dirs = dirs(&["lib/a/.git/", "lib/a/b-c/", "lib/a/b/"]);
            page(
                &(objects(&["lib/a/", "lib/a/.x", "lib/a/f"]) + &dirs),
                Some("2"),
            )
        }
        _ => page(&(objects(&["lib/a/g"]) + &dirs(&["lib/a/h/"])), None),
    })
    .await;
    let listings = list(&origin(&server), "a", Depth::One).await.unwrap();
    assert_eq!(outline(&listings), ["a: f g; b-c b h"]);
    assert_eq!(server.asked()[0].parameter("prefix"), Some("lib%2Fa%2F"));
    assert_eq!(server.asked()[0].parameter("delimiter"), Some("%2F"));
}

#[tokio::test]
async fn what_is_no_music_file_is_left_out() {
    let bare = |key: &str, rest: &str| format!("<Contents><Key>{key}</Key>{rest}</Contents>");
    let whole = "<ETag>\"t\"</ETag><Size>5</Size>";
    let class = |class: &str| format!("{whole}<StorageClass>{class}</StorageClass>");
    // In the order of their bytes.
    let content = [
        object("lib/+a%2Bb"),
        object("lib/.hidden"),
        object("lib/.trash/x"),
        object("lib//"),
        object("lib/a%00b"),
        object("lib/b/../c"),
        object("lib/b/@eaDir/x"),
        object("lib/b/backup~"),
        bare("lib/d/archived", &class("DEEP_ARCHIVE")),
        bare("lib/d/negative", "<ETag>\"t\"</ETag><Size>-5</Size>"),
        bare("lib/d/ok", &class("GLACIER_IR")),
        bare("lib/d/tagless", "<Size>5</Size>"),
        object("lib/%C3%BC"),
        object("lib/%FF"),
    ];
    let server = Server::always(page(&content.concat(), None)).await;
    let listings = list(&origin(&server), "", Depth::All).await.unwrap();
    assert_eq!(outline(&listings), [":  a+b ü; b d", "b: ; ", "d: ok; "]);
}

#[tokio::test]
async fn keys_are_decoded_only_where_the_server_encodes() {
    let xml = "<ListBucketResult><Contents><Key>lib/a%20+b</Key><ETag>t</ETag><Size>1</Size>\
               </Contents><IsTruncated>false</IsTruncated></ListBucketResult>";
    let server = Server::always(Reply::new(200).body(xml)).await;
    let listings = list(&origin(&server), "", Depth::All).await.unwrap();
    assert_eq!(outline(&listings), [": a%20+b; "]);
}

#[tokio::test]
async fn only_the_root_may_be_empty() {
    let server = Server::always(page("", None)).await;
    let origin = origin(&server);
    assert_eq!(
        outline(&list(&origin, "", Depth::All).await.unwrap()),
        [": ; "]
    );
    for (under, depth) in [
        ("a", Depth::One),
        ("a", Depth::All),
        (".hidden/a", Depth::All),
    ] {
        let error = list(&origin, under, depth).await.unwrap_err();
        assert!(matches!(error, OriginError::NotFound { .. }), "{error:?}");
    }
    assert_eq!(server.asked().len(), 3, "nothing hidden is asked for");
    let server = Server::always(page(&objects(&["lib/a/"]), None)).await;
    let marked = list(&super::origin(&server), "a", Depth::All)
        .await
        .unwrap();
    assert_eq!(outline(&marked), ["a: ; "]);
}

#[tokio::test]
async fn a_listing_without_an_end_is_an_error() {
    let error = list_error(page(&objects(&["lib/a"]), Some("again"))).await;
    assert_malformed(&error, "its keys come in no order, or come again");
    let error = list_error(page("", Some("again"))).await;
    assert_malformed(&error, "a page is empty, and not the last");

    // Keys that grow for ever, under one token.
    let count = std::sync::atomic::AtomicU32::new(1);
    let server = Server::start(move |_| {
        let number = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        page(&object(&format!("lib/{number:06}")), Some("same"))
    })
    .await;
    let error = list(&origin(&server), "", Depth::All).await.unwrap_err();
    assert_malformed(&error, "a page is its own successor");

    let xml = "<ListBucketResult><Contents><Key>lib/a</Key></Contents>\
               <IsTruncated>true</IsTruncated></ListBucketResult>";
    let error = list_error(Reply::new(200).body(xml)).await;
    assert_malformed(&error, "a page does not say where the next one begins");
}

#[tokio::test]
async fn keys_that_cannot_be_are_an_error() {
    for (keys, expect) in [
        (
            ["lib/b", "lib/a"],
            "its keys come in no order, or come again",
        ),
        (
            ["lib/b", "lib/b"],
            "its keys come in no order, or come again",
        ),
        (
            ["lib/b", "other/c"],
            "a key lies outside of what was asked for",
        ),
    ] {
        assert_malformed(&list_error(page(&objects(&keys), None)).await, expect);
    }
    let keyless = "<Contents><Size>5</Size></Contents>";
    assert_malformed(
        &list_error(page(keyless, None)).await,
        "an object has no key",
    );
    let error = list_error(page(&dirs(&["lib/a/"]), None)).await;
    assert_malformed(&error, "it leaves out what lies deeper");

    let server = Server::always(page(&objects(&["lib/a/b"]), None)).await;
    let error = list(&origin(&server), "", Depth::One).await.unwrap_err();
    assert_malformed(&error, "it goes deeper than it was asked to");
    let server = Server::always(page(&dirs(&["lib/a/", "lib/a/"]), None)).await;
    let error = list(&origin(&server), "", Depth::One).await.unwrap_err();
    assert_malformed(&error, "its directories come in no order, or come again");
}

#[tokio::test]
async fn an_answer_that_is_no_listing_is_an_error() {
    for body in ["<html><body>Welcome", "", "<ListBucketResult>", "\0"] {
        let error = list_error(Reply::new(200).body(body)).await;
        assert!(
            matches!(error, OriginError::Malformed { .. }),
            "{body:?}: {error:?}"
        );
    }
    let empty = Reply::new(200).body("<ListBucketResult></ListBucketResult>");
    let error = list_error(empty).await;
    assert_malformed(&error, "a page does not say whether it is the last");
    // Its length is not announced: it ends where the connection does.
    let early = "<ListBucketResult><IsTruncated>false</IsTruncated>".to_owned();
    let error = list_error(
        Reply::new(200)
            .raw_body(early + &object("lib/a"))
            .then_close(),
    )
    .await;
    assert_malformed(&error, "it breaks off, or is not what S3 sends");
    let cut = Reply::new(200).header("Content-Length", "1000");
    let error = list_error(cut.raw_body("<ListBucketResult>").then_close()).await;
    assert_eq!(error.kind(), musicfs_core::error::ErrorKind::Unavailable);
    let endless = Reply::new(200).header("Transfer-Encoding", "chunked");
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    let error = list_error(endless.raw_body(chunk).for_ever()).await;
    assert_malformed(&error, "it is too long");
}

#[tokio::test]
async fn a_failed_listing_does_not_end_like_a_complete_one() {
    let server = Server::start(|asked| match asked.parameter("continuation-token") {
        None => page(&objects(&["lib/a/x", "lib/b/x"]), Some("2")),
        _ => refusal(500, "InternalError"),
    })
    .await;
    let origin = origin(&server);
    let mut stream = origin.list(&path(""), Depth::All);
    assert_eq!(stream.next().await.unwrap().unwrap().path, path("a"));
    assert!(stream.next().await.is_err());
    assert!(stream.next().await.is_err());
    assert_eq!(server.asked().len(), 2);
}

#[tokio::test]
async fn no_page_is_fetched_ahead_or_after_the_drop() {
    let server = Server::start(|asked| match asked.parameter("continuation-token") {
        None => page(&objects(&["lib/a/x", "lib/b/x"]), Some("2")),
        _ => page(&objects(&["lib/c/x"]), None),
    })
    .await;
    let origin = origin(&server);
    let mut stream = origin.list(&path(""), Depth::All);
    assert!(server.asked().is_empty());
    stream.next().await.unwrap();
    drop(stream);
    // What comes later on the same connection would come behind a page fetched ahead.
    origin.check().await.unwrap();
    assert_eq!(server.asked().len(), 2);
}

#[tokio::test]
async fn a_listing_that_hangs_is_left() {
    let server = Server::always(Reply::silence()).await;
    let origin = origin(&server).with_patience(SHORT);
    let error = list(&origin, "", Depth::All).await.unwrap_err();
    assert!(
        matches!(error, OriginError::TimedOut { after: SHORT, .. }),
        "{error:?}"
    );
}
