//! What the port answers, over real connections on loopback.

use std::net::Ipv4Addr;

use musicfs_core::peer::PeerState;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::server::HealthReporter;

use super::*;
use crate::testing::{ScriptedPeers, context, peer};

struct Served {
    address: SocketAddr,
    context: ControlContext,
    health: HealthReporter,
    task: JoinHandle<()>,
    _dir: TempDir,
}

async fn serve() -> Served {
    let (context, dir) = context().await;
    let (health, service) = tonic_health::server::health_reporter();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = MetricsListener::bind(any).await.unwrap();
    Served {
        address: listener.address(),
        task: tokio::spawn(listener.serve(context.clone(), service)),
        context,
        health,
        _dir: dir,
    }
}

impl Served {
    /// Sends a request as it is; everything that is answered until the end of the connection.
    async fn say(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // An end by force is an end as well.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    }

    async fn get(&self, path: &str) -> String {
        self.say(&format!(
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        ))
        .await
    }

    async fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).unwrap();
        endpoint.connect().await.unwrap()
    }
}

#[tokio::test]
async fn metrics_are_answered_as_text_and_everything_else_is_not_found() {
    let served = serve().await;
    served
        .context
        .library
        .join(ScriptedPeers::new(vec![peer(1, PeerState::Connected)]));
    let answer = served.get("/metrics").await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(
        head.contains("content-type: text/plain; version=0.0.4"),
        "{head}"
    );
    assert!(body.contains("\nmusicfs_peers_connected 1\n"), "{body}");
    assert!(body.contains("\nmusicfs_open_file_handles 7\n"), "{body}");
    for path in [
        "/",
        "/metrics/",
        "/metric",
        "/../metrics",
        "/debug/pprof",
        "*",
    ] {
        let answer = served.get(path).await;
        assert!(answer.starts_with("HTTP/1.1 404 "), "{path}: {answer}");
    }
    let posted =
        "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let answer = served.say(posted).await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
}

#[tokio::test]
async fn health_is_answered_on_the_same_port_and_no_other_service() {
    let served = serve().await;
    let reporter = &served.health;
    reporter
        .set_service_status("peers", ServingStatus::NotServing)
        .await;
    let channel = served.channel().await;
    let mut client = HealthClient::new(channel.clone());
    let mut ask = async |service: &str| {
        let service = service.to_owned();
        let answer = client.check(HealthCheckRequest { service }).await;
        answer.map(|answer| answer.into_inner().status)
    };
    assert_eq!(ask("").await.unwrap(), 1);
    assert_eq!(ask("peers").await.unwrap(), 2);
    assert_eq!(ask("nothing").await.unwrap_err().code(), Code::NotFound);
    let long = ask(&"x".repeat(MESSAGE_BYTES_MAX)).await.unwrap_err();
    assert_eq!(long.code(), Code::OutOfRange);
    let mut peers = musicfs_proto::v1::peers_client::PeersClient::new(channel);
    let refused = peers.list_peers(()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
}

#[tokio::test(start_paused = true)]
async fn who_asks_nothing_is_cut_off() {
    let served = serve().await;
    // Nothing; the start of what HTTP/2 begins with; half a header; half a header after a request.
    let half = "GET /metrics HTTP/1.1\r\nHost: ";
    for said in ["", "PRI * HT", half] {
        assert_eq!(served.say(said).await, "", "{said:?}");
    }
    let twice = format!("GET /x HTTP/1.1\r\nHost: x\r\n\r\n{half}");
    let answer = served.say(&twice).await;
    assert_eq!(answer.matches("HTTP/1.1 404").count(), 1, "{answer}");
}

#[tokio::test]
async fn a_header_has_a_limit() {
    let served = serve().await;
    let long = "x".repeat(2 * HEADER_BYTES_MAX as usize);
    let answer = served.get(&format!("/{long}")).await;
    assert!(
        !answer.contains(" 200 ") && !answer.contains(" 404 "),
        "{answer}"
    );
}

#[tokio::test]
async fn who_listens_to_health_does_not_keep_the_daemon_from_ending() {
    let served = serve().await;
    let mut client = HealthClient::new(served.channel().await);
    let service = String::new();
    let watch = client.watch(HealthCheckRequest { service }).await.unwrap();
    let mut watch = watch.into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status, 1);
    served.context.stopping.cancel();
    let ended = timeout(Duration::from_secs(30), served.task).await;
    ended.expect("it goes on").unwrap();
}

#[tokio::test]
async fn a_port_that_is_taken_is_an_error_that_names_it() {
    let served = serve().await;
    let refused = MetricsListener::bind(served.address).await;
    let error = refused.map(drop).unwrap_err();
    let told = with_causes(&error);
    assert!(told.contains(&served.address.to_string()), "{told}");
}
