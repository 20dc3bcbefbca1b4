//! The port for monitors.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use musicfs_tests::daemon::Daemon;
use musicfs_tests::{tree, wait_for};

use super::*;

/// What the daemon says it listens on.
fn address(daemon: &Daemon) -> SocketAddr {
    let (said, _) = daemon.wait_for_log("monitors are answered address=");
    assert!(said, "{}", daemon.log());
    let log = daemon.log();
    let (_, rest) = log.split_once("monitors are answered address=").unwrap();
    rest.split_whitespace().next().unwrap().parse().unwrap()
}

/// The status and the body of an answer.
fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: monitor\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

/// Samples by name and labels, of a text that keeps to the format 0.0.4.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    let mut family: Option<String> = None;
    for line in text.lines() {
        if let Some(typed) = line.strip_prefix("# TYPE ") {
            let (name, kind) = typed.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            family = Some(name.to_owned());
            continue;
        }
        if line.starts_with("# HELP ") {
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap();
        let family = family.as_ref().expect("a sample before its type");
        assert!(name.starts_with(family.as_str()), "{line} is of {family}");
        if let Some((_, labels)) = name.split_once('{') {
            let labels = labels.strip_suffix('}').unwrap();
            for label in labels.split(',') {
                let (label, value) = label.split_once('=').unwrap();
                let is_plain = |c: char| c.is_ascii_lowercase() || c == '_';
                assert!(label.chars().all(is_plain), "{line}");
                assert!(value.starts_with('"') && value.ends_with('"'), "{line}");
            }
        }
        let value = value.parse().unwrap();
        assert!(
            samples.insert(name.to_owned(), value).is_none(),
            "{line} twice"
        );
    }
    samples
}

/// What reading a file makes the kernel ask for.
const OPS: [&str; 4] = ["lookup", "readdir", "open", "read"];

/// The port answers health, and neither other paths nor other services.
async fn only_health_is_there_too(address: SocketAddr) {
    for path in [
        "/",
        "/metrics/x",
        "/musicfs.v1.MusicFS/GetStatus",
        "/healthz",
    ] {
        assert_eq!(get(address, path), (404, String::new()), "{path}");
    }

    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let channel = endpoint.connect().await.unwrap();
    let mut health = HealthClient::new(channel.clone());
    let mut ask = async |service: &str| {
        let service = service.to_owned();
        let answer = health.check(HealthCheckRequest { service }).await;
        answer.unwrap().into_inner().status
    };
    assert_eq!(ask("").await, 1);
    // This node is in no cluster.
    assert_eq!(ask("peers").await, 2);
    let mut client = MusicFsClient::new(channel.clone());
    let refused = client.get_status(()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
    let refused = client.shutdown(v1::ShutdownRequest::default()).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unimplemented);
    let mut reflection = ServerReflectionClient::new(channel);
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let refused = reflection
        .server_reflection_info(tokio_stream::once(request))
        .await;
    let refused = refused.unwrap().into_inner().message().await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
}

#[tokio::test(flavor = "multi_thread")]
async fn monitors_find_metrics_and_health_and_nothing_else() {
    let home = Home::with_music();
    let daemon = home.mount_scanned(&["--metrics-listen", "127.0.0.1:0", "--passthrough", "off"]);
    let address = address(&daemon);
    let path = tree::files(&home.mount_point()).remove(0);
    let file = home.mount_point().join(path);
    fs::read(&file).unwrap();
    assert!(fs::metadata(home.mount_point().join("no such")).is_err());
    let held = fs::File::open(&file).unwrap();
    // The kernel tells of a close a little later, and how long an operation took is known after its
    // answer.
    let is_one = |handles: f64| (handles - 1.0).abs() < f64::EPSILON;
    let ((text, samples), _) = wait_for("one open file", || {
        let (status, text) = get(address, "/metrics");
        assert_eq!(status, 200);
        let samples = parse(&text);
        let took =
            |op: &str| samples[&format!("musicfs_fuse_latency_seconds_count{{op=\"{op}\"}}")];
        let are_known = OPS.iter().all(|op| took(op) >= 1.0);
        let is_open = is_one(samples["musicfs_open_file_handles"]);
        (is_open && are_known).then_some((text, samples))
    });
    let value = |name: &str| match samples.get(name) {
        Some(value) => *value,
        None => panic!("no {name} in:\n{text}"),
    };
    for op in OPS {
        assert!(
            value(&format!("musicfs_fuse_ops_total{{op=\"{op}\"}}")) >= 1.0,
            "{op}"
        );
        let count = value(&format!(
            "musicfs_fuse_latency_seconds_count{{op=\"{op}\"}}"
        ));
        let buckets = format!("musicfs_fuse_latency_seconds_bucket{{op=\"{op}\",le=\"+Inf\"}}");
        assert!(count >= 1.0 && value(&buckets) == count, "{op}: {count}");
        assert!(value(&format!("musicfs_fuse_latency_seconds_sum{{op=\"{op}\"}}")) > 0.0);
    }
    let id = home.origin_id();
    let of_origin = |name: &str, more: &str| value(&format!("{name}{{origin=\"{id}\"{more}}}"));
    assert!(is_one(of_origin("musicfs_origin_health", "")));
    assert!(of_origin("musicfs_origin_bytes_total", ",reason=\"scan\"") > 10_000.0);
    let changed = of_origin("musicfs_sync_files_changed", "");
    assert!(changed >= corpus::files_count() as f64, "{changed}");
    assert!(value("musicfs_peers_connected").abs() < f64::EPSILON);
    only_health_is_there_too(address).await;
    drop(held);
    daemon.stop();
    assert!(
        TcpStream::connect(address).is_err(),
        "the port outlived the daemon"
    );
}

#[test]
fn an_address_that_is_taken_is_told_and_nothing_is_mounted() {
    let home = Home::with_music();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut daemon = home.start(&["--metrics-listen", &address]);
    assert_eq!(daemon.wait(), 1);
    let log = daemon.log();
    assert!(
        log.contains(&address) && log.contains("metrics_listen"),
        "{log}"
    );
    assert!(!is_mounted(&home.mount_point()) && !home.socket().exists());
}
