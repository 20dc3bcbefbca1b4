//! Credentials out of the environment. Each case is a process of its own, which this program
//! starts from itself: a process must not change its own environment while threads read it.

use std::io::Write;
use std::process::{Command, Stdio};

use musicfs_core::origin::Refusal;

use super::*;

/// Tells the child what to do: `endpoint profile`.
const ROLE: &str = "MUSICFS_TEST_S3_CHILD";

/// What the child found: an `Authorization` header without its signature, or why there is none.
async fn check_as_child(variables: &[(&str, &str)], profile: &str) -> String {
    let server = Server::always(Reply::new(200).body("")).await;
    let mut files = tempfile::NamedTempFile::new().unwrap();
    writeln!(
        files,
        "[default]\naws_access_key_id=AKDEFAULT\naws_secret_access_key={SECRET}"
    )
    .unwrap();
    writeln!(
        files,
        "[other]\naws_access_key_id=AKOTHER\naws_secret_access_key={SECRET}"
    )
    .unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap());
    child
        .args(["--exact", "environment::child", "--nocapture"])
        .env_clear()
        .env(ROLE, format!("{} {profile}", server.url))
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", files.path())
        .envs(variables.iter().copied())
        .stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || child.output())
        .await
        .unwrap()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && !text.contains(SECRET), "{text}");
    match server.asked().first() {
        Some(asked) => {
            assert!(text.contains("found: Ok"), "{text}");
            let header = asked.header("authorization").unwrap();
            header.split(", ").next().unwrap().to_owned()
        }
        None => text,
    }
}

/// Does nothing unless it is the child of a test below.
#[tokio::test]
async fn child() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let (endpoint, profile) = role.split_once(' ').unwrap();
    let mut config = config(endpoint);
    config.profile = (!profile.is_empty()).then(|| profile.to_owned());
    let checked = S3Origin::new(config).unwrap().check().await;
    match &checked {
        Err(OriginError::Refused {
            refusal: Refusal::NoCredentials { hint },
            ..
        }) => println!("found: nothing, {hint}"),
        other => println!("found: {other:?}"),
    }
}

#[tokio::test]
async fn credentials_are_found_where_aws_tools_look() {
    let keys = [
        ("AWS_ACCESS_KEY_ID", "AKENV"),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
    ];
    let found = check_as_child(&keys, "").await;
    assert!(found.contains("Credential=AKENV/"), "{found}");
    assert!(found.contains("/us-east-1/s3/"), "{found}");
    let found = check_as_child(&[("AWS_REGION", "eu-test-1")], "").await;
    assert!(found.contains("Credential=AKDEFAULT/"), "{found}");
    assert!(found.contains("/eu-test-1/s3/"), "{found}");
    let found = check_as_child(&keys, "other").await;
    assert!(
        found.contains("Credential=AKOTHER/"),
        "a profile named is the one: {found}"
    );
}

#[tokio::test]
async fn without_credentials_it_says_where_they_are_looked_for() {
    let nowhere = [("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")];
    for profile in ["", "missing"] {
        let found = check_as_child(&nowhere, profile).await;
        assert!(
            found.contains("found: nothing, set AWS_ACCESS_KEY_ID"),
            "{found}"
        );
    }
}
