//! What every origin must do, on those that speak to a server.

use std::path::Path;
use std::sync::Arc;

use musicfs_core::id::OriginId;
use musicfs_core::origin::{Depth, Origin, collect};
use musicfs_core::path::OriginPath;
use musicfs_core::version::ContentVersion;
use musicfs_origins::{S3Config, S3Origin, SftpConfig, SftpOrigin};
use musicfs_tests::Random;
use musicfs_tests::conformance::{DirectoryPlace, Place, S3Place, conforms};
use musicfs_tests::servers::proxy::Proxy;
use musicfs_tests::servers::s3::S3Server;
use musicfs_tests::servers::s3_client::{ACCESS_KEY, BUCKET, SECRET_KEY};
use musicfs_tests::servers::s3_proxy::{S3Proxy, S3Request};
use musicfs_tests::servers::sftp::{SftpServer, USER};

/// How much of it is read where content is counted.
const FILE_BYTES: usize = 3_000_000;
/// What is read of it: pieces that do not touch, as offset and length.
const READS: [(u64, u64); 5] = [
    (0, 1),
    (10, 65_536),
    (100_001, 32_767),
    (1_000_000, 1_500_000),
    (2_999_990, 10),
];

fn id(text: &str) -> OriginId {
    OriginId::new(text).unwrap()
}

pub(crate) fn s3(name: &str, endpoint: &str, prefix: &str) -> Arc<dyn Origin> {
    let config = S3Config {
        id: id(name),
        endpoint: Some(endpoint.to_owned()),
        region: Some("us-east-1".to_owned()),
        bucket: BUCKET.to_owned(),
        prefix: prefix.trim_end_matches('/').to_owned(),
        path_style: Some(true),
        profile: None,
        identity: None,
    };
    assert!(!format!("{config:?}").contains(SECRET_KEY));
    let origin = S3Origin::with_credentials(config, ACCESS_KEY, SECRET_KEY).unwrap();
    assert!(!format!("{origin:?}").contains(SECRET_KEY));
    Arc::new(origin)
}

/// An origin for what `server` shows at `port`, its own or a relay's.
fn sftp(name: &str, server: &SftpServer, port: u16, root: &Path) -> Arc<dyn Origin> {
    server.trust(port);
    let config = SftpConfig {
        id: id(name),
        host: "127.0.0.1".to_owned(),
        port,
        user: USER.to_owned(),
        root: root.to_str().unwrap().to_owned(),
        known_hosts: vec![server.known_hosts()],
        key_files: vec![server.key_file()],
        agent_socket: None,
        identity: None,
        hash_command: None,
    };
    Arc::new(SftpOrigin::new(config))
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_conforms() {
    let server = S3Server::shared();
    let prefix = S3Server::fresh_prefix();
    let another = s3("another", server.endpoint(), &prefix);
    let place = S3Place::new(server, &prefix, Box::new(move || Arc::clone(&another)));
    conforms(s3("one", server.endpoint(), &prefix), &place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_conforms_behind_a_relay() {
    let server = S3Server::shared();
    let prefix = S3Server::fresh_prefix();
    let relay = S3Proxy::start(server);
    let another = s3("another", &relay.endpoint(), &prefix);
    let place = S3Place::new(server, &prefix, Box::new(move || Arc::clone(&another)));
    conforms(s3("one", &relay.endpoint(), &prefix), &place).await;
    assert!(relay.content_bytes() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_fetches_what_is_read_and_nothing_else() {
    let server = S3Server::shared();
    let prefix = S3Server::fresh_prefix();
    let relay = S3Proxy::start(server);
    let origin = s3("one", &relay.endpoint(), &prefix);
    let another = Arc::clone(&origin);
    let place = S3Place::new(server, &prefix, Box::new(move || Arc::clone(&another)));
    only_what_is_read(&*origin, &place, || relay.content_bytes()).await;
    // One request for each stream, and for nothing more than it.
    let requests = relay.requests();
    let asked: Vec<_> = requests.iter().filter_map(S3Request::asked).collect();
    let expected = READS.map(|(offset, len)| offset..offset + len);
    assert_eq!(asked, expected);
    assert_eq!(relay.counts().gets, expected.len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn sftp_conforms() {
    let root = tempfile::tempdir().unwrap();
    let server = SftpServer::start(root.path());
    let another = sftp("another", &server, server.port(), root.path());
    let place = DirectoryPlace::new(root.path(), Box::new(move || Arc::clone(&another)));
    let origin = sftp("one", &server, server.port(), root.path());
    conforms(origin, &place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sftp_fetches_what_is_read_and_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    let server = SftpServer::start(root.path());
    let relay = Proxy::start(server.address());
    let origin = sftp("one", &server, relay.port(), root.path());
    let another = Arc::clone(&origin);
    let place = DirectoryPlace::new(root.path(), Box::new(move || Arc::clone(&another)));
    only_what_is_read(&*origin, &place, || server.content_bytes()).await;
    assert!(relay.bytes_down() > server.content_bytes());
}

/// Reads some of a file, and compares what the server sent of it, byte by byte.
async fn only_what_is_read(origin: &dyn Origin, place: &dyn Place, sent: impl Fn() -> u64) {
    let mut random = Random(1);
    let bytes: Vec<u8> = std::iter::repeat_with(|| random.number().to_le_bytes())
        .flatten()
        .take(FILE_BYTES)
        .collect();
    place.put(b"album/counted.flac", &bytes);
    let version = listed(origin, b"album", b"counted.flac").await;
    let path = OriginPath::new(b"album/counted.flac").unwrap();
    let file = origin.open(&path, &version).await.unwrap();
    assert_eq!(sent(), 0, "neither a listing nor an open is content");
    let mut expected = 0;
    for (offset, len) in READS {
        let read = collect(file.stream(offset..offset + len)).await.unwrap();
        let start = usize::try_from(offset).unwrap();
        assert!(read == bytes[start..start + usize::try_from(len).unwrap()]);
        expected += len;
        assert_eq!(sent(), expected, "{len} at {offset}");
    }
}

/// The version of one file in one directory.
async fn listed(origin: &dyn Origin, dir: &[u8], name: &[u8]) -> ContentVersion {
    let mut listing = origin.list(&OriginPath::new(dir).unwrap(), Depth::One);
    let dir = listing
        .next()
        .await
        .unwrap()
        .expect("the directory is there");
    let file = dir.files.into_iter().find(|file| file.name == name);
    file.expect("the file is there").version
}
