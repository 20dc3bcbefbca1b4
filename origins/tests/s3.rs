//! The s3 origin against a server that keeps to the protocol, and against ones that do not.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail like tests")]

#[path = "s3/checksum.rs"]
mod checksum;
#[path = "s3/environment.rs"]
mod environment;
#[path = "s3/list.rs"]
mod list;
#[path = "s3/read.rs"]
mod read;
#[path = "s3/refuse.rs"]
mod refuse;
#[path = "s3/server.rs"]
mod server;

use std::time::Duration;

use musicfs_core::error::with_causes;
use musicfs_core::id::OriginId;
use musicfs_core::origin::{Depth, DirListing, Origin, OriginError};
use musicfs_core::path::OriginPath;
use musicfs_core::version::{ContentVersion, Validator};
use musicfs_origins::{S3Config, S3Origin};

use server::{Asked, Reply, Server};

/// What no error, log or debug print may hold.
const SECRET: &str = "hunter2hunter2";
/// How long a server may hang in tests that wait for that.
const SHORT: Duration = Duration::from_millis(300);

fn config(endpoint: &str) -> S3Config {
    S3Config {
        id: OriginId::new("bucket").unwrap(),
        endpoint: Some(endpoint.to_owned()),
        region: None,
        bucket: "music".to_owned(),
        prefix: "lib".to_owned(),
        path_style: None,
        profile: None,
        identity: None,
    }
}

fn origin(server: &Server) -> S3Origin {
    S3Origin::with_credentials(config(&server.url), "AKTEST", SECRET).unwrap()
}

fn path(text: &str) -> OriginPath {
    OriginPath::new(text.as_bytes()).unwrap()
}

fn version(size: u64) -> ContentVersion {
    ContentVersion {
        size,
        validator: Validator::ETag("tag-1".into()),
    }
}

/// An error answer as S3 gives it.
fn refusal(status: u16, code: &str) -> Reply {
    let message = format!("your key is {SECRET}");
    Reply::new(status).body(format!(
        "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    ))
}

/// Everything that a user can get to see of an error.
fn told(error: &OriginError) -> String {
    let text = format!("{} {error:?}", with_causes(error));
    assert!(!text.contains(SECRET), "{text}");
    assert!(!text.contains("Signature="), "{text}");
    text
}

async fn list(
    origin: &S3Origin,
    under: &str,
    depth: Depth,
) -> Result<Vec<DirListing>, OriginError> {
    let mut stream = origin.list(&path(under), depth);
    let mut listings = Vec::new();
    while let Some(listing) = stream.next().await? {
        listings.push(listing);
    }
    assert!(stream.next().await?.is_none());
    Ok(listings)
}

#[tokio::test]
async fn an_origin_names_its_place_and_no_secrets() {
    let aws = S3Config {
        endpoint: None,
        ..config("")
    };
    let key = |config: &S3Config| {
        let origin = S3Origin::new(config.clone()).unwrap();
        String::from_utf8(origin.key().unwrap().0.into()).unwrap()
    };
    assert_eq!(key(&aws), "s3.amazonaws.com/music");
    assert_eq!(
        key(&config("https://S3.Example.org:443/")),
        "s3.example.org/music"
    );
    let named = S3Config {
        identity: Some("here".to_owned()),
        ..aws.clone()
    };
    assert_eq!(key(&named), "here");

    let origin = S3Origin::with_credentials(config("http://nas:9000"), "AKTEST", SECRET).unwrap();
    assert_eq!(origin.display_name(), "s3://music/lib at nas:9000");
    assert_eq!(S3Origin::new(aws).unwrap().display_name(), "s3://music/lib");
    assert_eq!(origin.key_path(&path("a/b")), path("lib/a/b"));
    assert_eq!(origin.key_path(&path("")), path("lib"));
    assert!(!format!("{origin:?}").contains(SECRET));

    let leaky = config(&format!("https://me:{SECRET}@host"));
    assert!(!format!("{leaky:?}").contains(SECRET));
    told(&S3Origin::new(leaky).unwrap_err());
}

#[tokio::test]
async fn a_wrong_configuration_is_refused_at_once() {
    let good = config("http://host");
    assert!(S3Origin::new(good.clone()).is_ok());
    for prefix in ["/", "a/", "/a", "a//b", "..", "a/./b", &"a".repeat(1024)] {
        let prefix = prefix.to_owned();
        let config = S3Config {
            prefix,
            ..good.clone()
        };
        let error = S3Origin::new(config).unwrap_err();
        assert!(
            matches!(error, OriginError::RootMissing { .. }),
            "{error:?}"
        );
    }
    for bucket in ["", ".", "..", "a/b", "a b", "ü"] {
        let bucket = bucket.to_owned();
        let config = S3Config {
            bucket,
            ..good.clone()
        };
        assert!(S3Origin::new(config).is_err());
    }
    assert!(S3Origin::new(config("host:9000")).is_err());
}

#[tokio::test]
async fn requests_name_bucket_and_region_as_configured() {
    let server = Server::always(Reply::new(200).body("")).await;
    let mut config = config(&server.url);
    config.region = Some("eu-test-1".to_owned());
    let origin = S3Origin::with_credentials(config, "AKTEST", SECRET).unwrap();
    origin.check().await.unwrap();
    let asked: Vec<Asked> = server.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(
        (asked[0].method.as_str(), asked[0].target.as_str()),
        ("HEAD", "/music/")
    );
    let signed = asked[0].header("authorization").unwrap();
    assert!(
        signed.contains("Credential=AKTEST/") && signed.contains("/eu-test-1/s3/"),
        "{signed}"
    );
}
