//! The sloppy S3 server: how sloppy it is, and what the origin makes of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use musicfs_core::origin::{Depth, collect};
use musicfs_core::path::OriginPath;
use musicfs_core::version::Validator;
use musicfs_tests::Random;
use musicfs_tests::conformance::{S3Place, conforms};
use musicfs_tests::servers::Breakable;
use musicfs_tests::servers::rclone::RcloneServer;
use musicfs_tests::servers::s3_client::{Failure, S3Client};
use musicfs_tests::servers::s3_proxy::S3Proxy;

use super::remote::s3;

/// For what is to come: the machine is shared.
const LONG: Duration = Duration::from_secs(30);
/// For what is not to come at all.
const SHORT: Duration = Duration::from_millis(700);

fn random(seed: u64, len: usize) -> Vec<u8> {
    let mut random = Random(seed);
    let numbers = std::iter::repeat_with(|| random.number().to_le_bytes());
    numbers.flatten().take(len).collect()
}

/// If one of these gets better, another server has to stand for those that are like this.
#[test]
fn a_sloppy_server_is_sloppy() {
    let server = RcloneServer::start();
    let relay = S3Proxy::in_front_of(server.address(), &server);
    let client = S3Client::new(&relay.endpoint());
    let (one, other) = (random(1, 100_000), random(2, 100_000));
    client.put("a b/é.flac", &one);
    let tag = server.etag("a b/é.flac");
    let range = client.get_range("a b/é.flac", 70_000..90_000);
    assert_eq!(range.unwrap(), one[70_000..90_000]);
    let request = relay.requests().pop().unwrap();
    assert_eq!(request.asked(), Some(70_000..90_000));
    assert_eq!(request.status, Some(200), "it should be 206");
    client.put("a b/é.flac", &other);
    assert_ne!(server.etag("a b/é.flac"), tag);
    let outdated = client.get_if("a b/é.flac", Some(0..10), Some(&tag));
    assert_eq!(outdated.unwrap(), other[..10], "it should be refused");
}

#[test]
fn a_sloppy_server_hangs_dies_and_comes_back() {
    let server = RcloneServer::start();
    let bytes = random(4, 1 << 20);
    server.put("kept.flac", &bytes);
    let patient = S3Client::once(server.endpoint(), LONG);
    let hasty = S3Client::once(server.endpoint(), SHORT);
    server.pause();
    assert_eq!(hasty.get("kept.flac"), Err(Failure::NoAnswer));
    server.resume();
    assert_eq!(patient.get("kept.flac").unwrap(), bytes);
    server.kill();
    assert_eq!(patient.get("kept.flac"), Err(Failure::NoAnswer));
    server.restart();
    assert_eq!(server.get("kept.flac").unwrap(), bytes);
    assert_eq!(server.keys(""), ["kept.flac"]);
    let address = server.address();
    server.pause();
    drop(server);
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_on_a_sloppy_server_conforms() {
    let server = RcloneServer::start();
    let another = s3("another", server.endpoint(), "conforms/");
    let place = S3Place::new(&server, "conforms/", Box::new(move || Arc::clone(&another)));
    conforms(s3("one", server.endpoint(), "conforms/"), &place).await;
}

/// How large an object is that is replaced all the time.
const RACING_BYTES: usize = 400_000;
/// What is read of it at once.
const RACING_READ: std::ops::Range<usize> = 150_000..350_000;
/// Its versions, one after the other and again.
const RACING_VERSIONS: u8 = 32;
/// How many listings are read from, and how often each.
const RACING_LISTINGS: usize = 60;
const RACING_READS: usize = 5;

/// The server looks for the tag, then opens the object, and looks again at neither.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_replaced_all_the_time_gives_no_byte_under_another_tag() {
    let server = Arc::new(RcloneServer::start());
    // Each version is the same but for its tag, which tells the version that all bytes are of.
    let put = |server: &RcloneServer, number: u8| {
        server.put("race/f.flac", &vec![number; RACING_BYTES]);
    };
    let tags: Vec<String> = (0..RACING_VERSIONS).map(tag_of).collect();
    put(&server, 0);
    let is_over = Arc::new(AtomicBool::new(false));
    let (writing, ending) = (Arc::clone(&server), Arc::clone(&is_over));
    let writer = std::thread::spawn(move || {
        let numbers = (0..RACING_VERSIONS).cycle().skip(1);
        let until_the_end = numbers.take_while(|_| !ending.load(Ordering::Relaxed));
        until_the_end.for_each(|number| put(&writing, number));
    });
    let origin = s3("one", server.endpoint(), "race/");
    let path = OriginPath::new(b"f.flac").unwrap();
    let (mut right, mut listings) = (0, 0);
    while listings < RACING_LISTINGS {
        let mut listing = origin.list(&OriginPath::default(), Depth::One);
        // A listing may meet the object while it is replaced.
        let Ok(Some(dir)) = listing.next().await else {
            continue;
        };
        let Some(file) = dir.files.into_iter().find(|file| file.name == b"f.flac") else {
            continue;
        };
        listings += 1;
        let Validator::ETag(tag) = &file.version.validator else {
            unreachable!("objects have tags")
        };
        let number = tags.iter().position(|of| **of == **tag);
        let number = u8::try_from(number.expect("a version that was put")).unwrap();
        let file = origin.open(&path, &file.version).await.unwrap();
        let range = RACING_READ.start as u64..RACING_READ.end as u64;
        for _ in 0..RACING_READS {
            // It may have changed for good, or come back.
            let Ok(bytes) = collect(file.stream(range.clone())).await else {
                continue;
            };
            let is_right = bytes.iter().all(|&byte| byte == number);
            assert!(is_right, "bytes of another version");
            right += 1;
        }
    }
    is_over.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    assert!(right > 0, "nothing was read");
}

/// The entity tag of a version: the MD5 of its bytes.
fn tag_of(number: u8) -> String {
    let octal = format!("\\{number:03o}");
    let sum = musicfs_tests::sh(&format!(
        "head -c {RACING_BYTES} /dev/zero | tr '\\000' '{octal}' | md5sum"
    ));
    sum.split(' ').next().unwrap().to_owned()
}
