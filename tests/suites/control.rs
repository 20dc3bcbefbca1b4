//! The control socket and the command line over it.

#![expect(clippy::unwrap_used, reason = "test code")]

#[path = "control/events.rs"]
mod events;
#[path = "control/monitor.rs"]
mod monitor;
#[path = "control/peers.rs"]
mod peers;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use hyper_util::rt::TokioIo;
use musicfs_proto::v1;
use musicfs_proto::v1::music_fs_client::MusicFsClient;
use musicfs_tests::daemon::{Home, is_mounted};
use musicfs_tests::{corpus, wait_until};
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::{ServerReflectionRequest, server_reflection_response};

async fn connect(socket: &Path) -> Channel {
    let socket = socket.to_owned();
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move {
            tokio::net::UnixStream::connect(socket)
                .await
                .map(TokioIo::new)
        }
    });
    Endpoint::from_static("http://localhost")
        .connect_with_connector(connector)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_calls_of_this_version_answer_and_the_rest_says_unimplemented() {
    let home = Home::with_music();
    let daemon = home.mount_scanned(&[]);
    let mut client = MusicFsClient::new(connect(&home.socket()).await);
    let status = client.get_status(()).await.unwrap().into_inner();
    assert_eq!(status.mount_point, home.mount_point().to_str().unwrap());
    assert_eq!(status.state(), v1::MountState::Ready);
    let origins = client.list_origins(()).await.unwrap().into_inner().origins;
    let [origin] = &origins[..] else {
        panic!("{origins:?}")
    };
    assert_eq!(origin.origin_type, "local");
    assert_eq!(origin.file_count as usize, corpus::files_count());
    assert!(origin.last_sync_unix > 0 && origin.total_bytes > 1_000_000);
    let health = origin.health.as_ref().unwrap();
    assert_eq!(health.status(), v1::HealthStatus::HealthHealthy);
    let request = || v1::OriginRequest {
        origin_id: origin.id.clone(),
    };
    let mut progress = client.rescan_origin(request()).await.unwrap().into_inner();
    let mut last = None;
    while let Some(message) = progress.message().await.unwrap() {
        last = Some(message);
    }
    let last = last.unwrap();
    assert!(
        last.complete && last.error.is_none() && last.files_changed == 0,
        "{last:?}"
    );
    let refused = client.forget_origin(request()).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let unknown = v1::OriginRequest {
        origin_id: "nowhere".into(),
    };
    assert_eq!(
        client.forget_origin(unknown).await.unwrap_err().code(),
        Code::NotFound
    );
    client
        .shutdown(v1::ShutdownRequest::default())
        .await
        .unwrap();
    let mut daemon = daemon;
    assert_eq!(daemon.wait(), 0);
    assert!(!is_mounted(&home.mount_point()) && !home.socket().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_later_versions_answer_says_unimplemented() {
    let home = Home::with_music();
    let daemon = home.mount_scanned(&[]);
    let mut client = MusicFsClient::new(connect(&home.socket()).await);
    let codes = [
        client.search(v1::SearchRequest::default()).await.map(drop),
        client
            .search_stream(v1::SearchRequest::default())
            .await
            .map(drop),
    ]
    .map(|answer| answer.unwrap_err().code());
    assert_eq!(codes, [Code::Unimplemented; 2]);
    daemon.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_reflection_answer() {
    let home = Home::with_music();
    let daemon = home.mount_scanned(&[]);
    let channel = connect(&home.socket()).await;
    let id = home.origin_id();
    for service in ["", "musicfs.v1.MusicFS", "mount", &format!("origin/{id}")] {
        let mut client = HealthClient::new(channel.clone());
        let mut serving = false;
        for _ in 0..200 {
            let request = HealthCheckRequest {
                service: service.to_owned(),
            };
            let answer = client.check(request).await;
            serving = answer.is_ok_and(|answer| answer.into_inner().status == 1);
            if serving {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert!(serving, "{service:?} is not serving");
    }
    let mut reflection = ServerReflectionClient::new(channel);
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let answers = reflection
        .server_reflection_info(tokio_stream::once(request))
        .await
        .unwrap();
    let answer = answers
        .into_inner()
        .message()
        .await
        .unwrap()
        .unwrap()
        .message_response
        .unwrap();
    let server_reflection_response::MessageResponse::ListServicesResponse(list) = answer else {
        panic!("{answer:?}");
    };
    let names: Vec<_> = list
        .service
        .into_iter()
        .map(|service| service.name)
        .collect();
    for name in ["musicfs.v1.MusicFS", "musicfs.v1.Peers"] {
        assert!(names.iter().any(|known| known == name), "{names:?}");
    }
    daemon.stop();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn the_socket_is_private() {
    let home = Home::with_music();
    let daemon = home.mount_scanned(&[]);
    assert_eq!(mode(&home.socket()), 0o600);
    assert_eq!(mode(home.socket().parent().unwrap()), 0o700);
    daemon.stop();
    assert!(!home.socket().exists());
}

#[test]
fn the_default_instance_has_a_link_beside_its_directory() {
    let home = Home::with_music();
    let (mount, origin) = (home.mount_point(), home.origin());
    let (mount, origin) = (mount.to_str().unwrap(), origin.to_str().unwrap());
    // As a user with a runtime directory of its own: root has but one default instance. Under /tmp,
    // where a link could be anybody's, none is made.
    let runtime = tempfile::tempdir_in("/run").unwrap();
    musicfs_tests::sh(&format!("chown nobody {:?}", runtime.path()));
    let run = |args: &[&str]| {
        let mut command = home.command_as_nobody(&[&["--name", "default"], args].concat());
        let output = command
            .env("XDG_RUNTIME_DIR", runtime.path())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    run(&["mount", mount, "--origin", origin, "--daemon"]);
    let link = runtime.path().join("musicfs.sock");
    let socket = runtime.path().join("musicfs/default.sock");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::canonicalize(&link).unwrap(), socket);
    assert_eq!(mode(socket.parent().unwrap()), 0o700);
    assert!(std::os::unix::net::UnixStream::connect(&link).is_ok());
    run(&["umount"]);
    assert!(
        fs::symlink_metadata(&link).is_err()
            && !socket.exists()
            && !is_mounted(&home.mount_point())
    );
}

#[test]
fn a_signal_ends_the_mount_even_while_it_is_in_use() {
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::INT] {
        let home = Home::with_music();
        let daemon = home.mount_scanned(&["--drain-timeout-ms", "100"]);
        let path = musicfs_tests::tree::files(daemon.mount_point()).remove(0);
        let held = fs::File::open(daemon.mount_point().join(path)).unwrap();
        let mut user = std::process::Command::new("sleep");
        let user = user
            .arg("60")
            .current_dir(daemon.mount_point())
            .spawn()
            .unwrap();
        let user = musicfs_tests::outcome::Guarded(user);
        daemon.stop_with(signal, &["open"]);
        drop((held, user));
        assert!(fs::read_dir(home.mount_point()).unwrap().next().is_none());
        assert!(!home.socket().exists());
    }
}

#[test]
fn the_commands_speak_to_the_daemon() {
    let home = Home::with_music();
    assert_eq!(
        home.run(&["status"]).status.code(),
        Some(3),
        "nothing runs yet"
    );
    let mount = home.mount_point();
    let origin = home.origin();
    let args = [
        "mount",
        mount.to_str().unwrap(),
        "--origin",
        origin.to_str().unwrap(),
        "--daemon",
    ];
    let started = home.run(&args);
    assert!(
        started.status.success(),
        "{}",
        String::from_utf8_lossy(&started.stderr)
    );
    assert!(fs::read_dir(&mount).is_ok() && is_mounted(&mount));
    let json = |args: &[&str]| -> serde_json::Value {
        let output = home.run(&[&["--json"], args].concat());
        assert!(output.status.success(), "{args:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    };
    wait_until("the scan", || json(&["status"])["state"] == "ready");
    assert!(
        home.run(&["origin", "rescan", &home.origin_id()])
            .status
            .success()
    );
    assert!(home.run(&["config", "show"]).status.success());
    let refused = home.run(&["origin", "forget", &home.origin_id()]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(home.run(&["umount"]).status.success());
    assert!(!is_mounted(&mount));
    assert_eq!(home.run(&["umount"]).status.code(), Some(3));
    for args in [
        &["version"][..],
        &["completions", "bash"],
        &["man"],
        &["doctor"],
    ] {
        let output = home.run(args);
        assert!(!output.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn an_origin_that_is_no_longer_configured_is_hidden_until_it_is_forgotten() {
    let home = Home::with_music();
    let other = home.path("other");
    fs::create_dir(&other).unwrap();
    fs::copy(home.origin().join("box/cd1.flac"), other.join("cd1.flac")).unwrap();
    home.mount_scanned(&[]).stop();
    let daemon = home.mount_scanned(&["--origin", other.to_str().unwrap()]);
    wait_until("the first origin to be hidden", || {
        musicfs_tests::tree::files(&home.mount_point()).len() == 1
    });
    let list = home.run(&["--json", "origin", "list"]);
    let list: serde_json::Value = serde_json::from_slice(&list.stdout).unwrap();
    let origins = list["origins"].as_array().unwrap();
    assert_eq!(origins.len(), 2);
    let hidden = origins
        .iter()
        .find(|origin| origin["file_count"] != 1)
        .unwrap();
    let id = hidden["id"].as_str().unwrap();
    assert!(home.run(&["origin", "forget", id]).status.success());
    let list = home.run(&["--json", "origin", "list"]);
    assert!(!String::from_utf8_lossy(&list.stdout).contains(id));
    daemon.stop();
}

#[test]
fn the_demo_shows_a_tree_and_vouches_for_its_bytes() {
    let home = Home::new();
    let output = home.run(&["demo", "--once"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        text.contains("[FLAC]/") && text.contains("every byte as in the original"),
        "{text}"
    );
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains("musicfs-demo"), "the demo left its mount");
}
