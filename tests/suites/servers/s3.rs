//! The S3 server, and the relay in front of it.

use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use musicfs_tests::Random;
use musicfs_tests::servers::Breakable;
use musicfs_tests::servers::s3::S3Server;
use musicfs_tests::servers::s3_client::{Failure, S3Client};
use musicfs_tests::servers::s3_proxy::{S3Counts, S3Fault, S3Kind, S3Proxy, When};

/// For what is to come: the machine is shared.
const LONG: Duration = Duration::from_secs(30);
/// For what is not to come at all.
const SHORT: Duration = Duration::from_millis(700);

fn random(seed: u64, len: usize) -> Vec<u8> {
    let mut random = Random(seed);
    let numbers = std::iter::repeat_with(|| random.number().to_le_bytes());
    numbers.flatten().take(len).collect()
}

#[test]
fn objects_come_back_as_they_were_put() {
    let server = S3Server::shared();
    let prefix = S3Server::fresh_prefix();
    let key = |name: &str| format!("{prefix}{name}");
    let (small, large) = (random(1, 1_000), random(2, 6 << 20));
    server.put(&key("a b/é+%20.flac"), &small);
    server.put_multipart(&key("large.flac"), &large, 5 << 20);
    server.put(&key("empty"), b"");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &small).unwrap();
    server.put_file(&key("file"), file.path());
    assert_eq!(server.get(&key("a b/é+%20.flac")).unwrap(), small);
    assert_eq!(server.get(&key("large.flac")).unwrap(), large);
    assert_eq!(server.get(&key("empty")).unwrap(), b"");
    let range = server.get_range(&key("large.flac"), 5_242_870..5_242_890);
    assert_eq!(range.unwrap(), large[5_242_870..5_242_890]);
    let tag = server.etag(&key("file"));
    let sum = musicfs_tests::sh(&format!("md5sum <{:?}", file.path()));
    assert_eq!(Some(&*tag), sum.split(' ').next(), "the MD5 of one part");
    assert!(server.etag(&key("large.flac")).ends_with("-2"));
    let keys = ["a b/é+%20.flac", "empty", "file", "large.flac"].map(key);
    assert_eq!(server.keys(&prefix), keys);
    server.delete(&key("empty"));
    server.delete(&key("never there"));
    assert_eq!(server.keys(&prefix).len(), 3);
    assert_eq!(server.get(&key("empty")), Err(Failure::Status(404)));
    // The one name that this server changes: no test counts on it.
    server.put(&key("back\\slash"), b"b");
    assert_eq!(server.keys(&key("back")), [key("back/slash")]);
    // A condition counts, and a new content has a new tag.
    server.put(&key("file"), &random(3, 1_000));
    assert_ne!(server.etag(&key("file")), tag);
    let outdated = server.get_if(&key("file"), Some(0..10), Some(&tag));
    assert_eq!(outdated, Err(Failure::Status(412)));
}

#[test]
fn an_s3_server_hangs_dies_comes_back_and_leaves_nothing() {
    let server = S3Server::start();
    let bytes = random(4, 3 << 20);
    server.put("kept.flac", &bytes);
    let tag = server.etag("kept.flac");
    let (patient, hasty) = (
        S3Client::once(server.endpoint(), LONG),
        S3Client::once(server.endpoint(), SHORT),
    );
    server.pause();
    assert_eq!(hasty.get("kept.flac"), Err(Failure::NoAnswer));
    server.resume();
    assert_eq!(patient.get("kept.flac").unwrap(), bytes);
    server.kill();
    assert_eq!(patient.get("kept.flac"), Err(Failure::NoAnswer));
    server.restart();
    assert_eq!(server.get("kept.flac").unwrap(), bytes);
    assert_eq!(server.etag("kept.flac"), tag);
    assert_eq!(server.keys(""), ["kept.flac"]);
    // And it can be written to.
    server.put("later.flac", b"later");
    assert_eq!(server.get("later.flac").unwrap(), b"later");
    let address = server.address();
    let socket = format!("/tmp/seaweedfs-s3-{}.sock", address.port());
    assert!(Path::new(&socket).exists());
    // A server that hangs ends too.
    server.pause();
    drop(server);
    assert!(!Path::new(&socket).exists());
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn the_relay_counts_what_is_asked_and_sent() {
    let server = S3Server::shared();
    let relay = S3Proxy::start(server);
    let client = S3Client::new(&relay.endpoint());
    let key = S3Server::fresh_prefix() + "a b/é.flac";
    let bytes = random(5, 1_000_000);
    assert_eq!(relay.counts(), S3Counts::default());
    // Through the relay as well: what is signed for its address is accepted behind it.
    client.put(&key, &bytes);
    assert_eq!(client.get(&key).unwrap(), bytes);
    assert_eq!(client.get_range(&key, 0..1).unwrap(), bytes[..1]);
    let range = client.get_range(&key, 70_000..900_000);
    assert_eq!(range.unwrap(), bytes[70_000..900_000]);
    assert_eq!(client.keys(&key), [&*key]);
    let tag = client.etag(&key);
    // Neither an error nor a list is content.
    let outdated = client.get_if(&key, None, Some("other"));
    assert_eq!(outdated, Err(Failure::Status(412)));
    let missing = client.get("missing");
    assert_eq!(missing, Err(Failure::Status(404)));
    let counts = S3Counts {
        gets: 5,
        heads: 1,
        lists: 1,
        others: 1,
        content_bytes: 1_000_000 + 1 + 830_000,
    };
    assert_eq!(relay.counts(), counts);
    let requests = relay.requests();
    let gets = requests
        .iter()
        .filter(|request| request.kind == S3Kind::Get);
    let gets: Vec<_> = gets.collect();
    assert!(gets[..4].iter().all(|request| request.key == key));
    let asked: Vec<_> = gets.iter().map(|request| request.asked()).collect();
    assert_eq!(asked, [None, Some(0..1), Some(70_000..900_000), None, None]);
    let seen: Vec<_> = gets.iter().map(|request| request.status.unwrap()).collect();
    assert_eq!(seen, [200, 206, 206, 412, 404]);
    assert_eq!(gets[3].if_match.as_deref(), Some("other"));
    let tagged = client.get_if(&key, Some(5..10), Some(&tag));
    assert_eq!(tagged.unwrap(), bytes[5..10]);
    assert_eq!(relay.content_bytes(), counts.content_bytes + 5);
}

/// A relay, an object, and a client that tries once.
fn broken(fault: S3Fault, patience: Duration) -> (S3Proxy, String, Vec<u8>, S3Client) {
    let server = S3Server::shared();
    let relay = S3Proxy::start(server);
    let client = S3Client::once(&relay.endpoint(), patience);
    let key = S3Server::fresh_prefix() + "f.flac";
    let bytes = random(6, 300_000);
    server.put(&key, &bytes);
    relay.inject(When::all(S3Kind::Get).of(&key), fault);
    (relay, key, bytes, client)
}

#[test]
fn a_status_is_answered_in_the_servers_place() {
    for status in [403, 404, 412, 416, 429, 500, 503] {
        let (relay, key, bytes, client) = broken(S3Fault::Status(status), LONG);
        assert_eq!(client.get(&key), Err(Failure::Status(status)));
        assert_eq!(client.get_range(&key, 0..10), Err(Failure::Status(status)));
        // Heads, lists, and other keys are not meant.
        assert_eq!(client.keys(&key), [&*key]);
        assert!(!client.etag(&key).is_empty());
        assert_eq!(client.get("missing"), Err(Failure::Status(404)));
        assert_eq!(relay.content_bytes(), 0);
        assert_eq!(relay.requests()[0].status, Some(status));
        relay.clear_faults();
        assert_eq!(client.get(&key).unwrap(), bytes);
    }
    let (relay, key, ..) = broken(S3Fault::Error(403, "RequestTimeTooSkewed"), LONG);
    let url = format!("{}/music/{key}", relay.endpoint());
    let answer = musicfs_tests::sh(
        &format!(
            "exec 3<>/dev/tcp/127.0.0.1/{}; \
        printf 'GET {url} HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n' >&3; cat <&3",
            relay.address().port()
        )
        .replace(&relay.endpoint(), ""),
    );
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert!(
        answer.contains("<Code>RequestTimeTooSkewed</Code>"),
        "{answer}"
    );
}

#[test]
fn faults_come_when_they_are_told_to() {
    let (relay, key, bytes, client) = broken(S3Fault::Status(503), LONG);
    relay.clear_faults();
    let when = When::all(S3Kind::Get).of(&key).after(1).times(2);
    relay.inject(when, S3Fault::Status(503));
    relay.inject(When::all(S3Kind::Get).times(1), S3Fault::Status(500));
    let seen = std::iter::repeat_with(|| client.get(&key));
    let seen: Vec<_> = seen.take(5).collect();
    let refused = |status| Err(Failure::Status(status));
    let whole = Ok(bytes);
    // The second fault fits the request that the first one let pass.
    let expected = [
        refused(500),
        refused(503),
        refused(503),
        whole.clone(),
        whole,
    ];
    assert!(seen == expected);
    relay.inject(When::all(S3Kind::List), S3Fault::Status(404));
    let list = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| client.keys(&key)));
    assert!(list.is_err(), "the list was refused");
    // And a client that tries again comes through.
    relay.inject(When::all(S3Kind::Get).times(2), S3Fault::Status(503));
    let stubborn = S3Client::new(&relay.endpoint());
    assert!(stubborn.get(&key).is_ok());
}

#[test]
fn bodies_are_cut_stalled_and_lengthened() {
    let (relay, key, _, client) = broken(S3Fault::Truncate(100_000), LONG);
    assert_eq!(client.get(&key), Err(Failure::NoBody));
    assert_eq!(relay.content_bytes(), 100_000);
    assert_eq!(client.get_range(&key, 7..100_008), Err(Failure::NoBody));
    assert_eq!(relay.content_bytes(), 200_000);
    // What is no longer than that is whole.
    assert_eq!(client.get_range(&key, 0..100_000).unwrap().len(), 100_000);

    let (relay, key, _, client) = broken(S3Fault::Stall(1_000), SHORT);
    assert_eq!(client.get(&key), Err(Failure::NoBody));
    assert_eq!(relay.content_bytes(), 1_000);
    assert_eq!(relay.requests()[0].status, Some(200));

    let (relay, key, bytes, client) = broken(S3Fault::Lengthen(5), LONG);
    let read = client.get_range(&key, 10..20).unwrap();
    assert_eq!(read, [&bytes[10..20], b"+++++"].concat());
    assert_eq!(relay.content_bytes(), 15);

    let (relay, key, _, client) = broken(S3Fault::NoAnswer, LONG);
    assert_eq!(client.get(&key), Err(Failure::NoAnswer));
    assert_eq!(relay.content_bytes(), 0);
}

#[test]
fn a_range_is_ignored_and_an_answer_is_late() {
    let (relay, key, bytes, client) = broken(S3Fault::IgnoreRange, LONG);
    assert_eq!(client.get_range(&key, 10..20).unwrap(), bytes);
    assert_eq!(relay.content_bytes(), bytes.len() as u64);
    let request = &relay.requests()[0];
    assert_eq!((request.status, request.asked()), (Some(200), Some(10..20)));
    // A condition still counts.
    let outdated = client.get_if(&key, Some(10..20), Some("\"other\""));
    assert_eq!(outdated, Err(Failure::Status(412)));

    let delay = Duration::from_millis(300);
    let (_relay, key, bytes, client) = broken(S3Fault::Delay(delay), LONG);
    let started = Instant::now();
    assert_eq!(client.get(&key).unwrap(), bytes);
    assert!(started.elapsed() >= delay, "it came too early");
}

#[test]
fn a_server_that_dies_breaks_what_is_under_way_through_the_relay() {
    let server = S3Server::start();
    let relay = S3Proxy::start(&server);
    let client = S3Client::once(&relay.endpoint(), LONG);
    server.put("f.flac", &random(8, 100_000));
    assert!(client.get("f.flac").is_ok());
    server.kill();
    assert_eq!(client.get("f.flac"), Err(Failure::NoAnswer));
    server.restart();
    assert!(client.get("f.flac").is_ok());
    assert_eq!(relay.content_bytes(), 200_000);
}
