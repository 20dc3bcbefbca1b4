//! Events: of a rescan, of files that come, change and go, of files that are opened; and of slow
//! listeners.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use musicfs_tests::outcome::Guarded;
use musicfs_tests::{PATIENCE, tree};
use tonic::Streaming;

use super::*;

async fn subscribe(home: &Home, types: &[v1::EventType]) -> Streaming<v1::Event> {
    let mut client = MusicFsClient::new(connect(&home.socket()).await);
    let filter = v1::EventFilter {
        types: types.iter().map(|kind| (*kind).into()).collect(),
        origin_id: None,
    };
    client.subscribe_events(filter).await.unwrap().into_inner()
}

async fn next(events: &mut Streaming<v1::Event>) -> v1::Event {
    let next = tokio::time::timeout(PATIENCE, events.message()).await;
    let next = next.expect("no event for a long time");
    next.unwrap().expect("the stream ended")
}

fn a_file(home: &Home) -> (String, PathBuf) {
    let path = tree::files(&home.mount_point()).remove(0);
    let file = home.mount_point().join(&path);
    (path, file)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rescan_and_an_opened_file_are_events() {
    let home = Home::with_music();
    let daemon = home.mount_scanned(&[]);
    let id = home.origin_id();
    let mut events = subscribe(&home, &[]).await;
    let (path, file) = a_file(&home);
    fs::File::open(file).unwrap();
    let opened = next(&mut events).await;
    assert_eq!(opened.r#type(), v1::EventType::FileAccessed);
    assert_eq!(
        (opened.path.as_deref(), &opened.origin_id),
        (Some(&*path), &id)
    );
    assert!(opened.timestamp_unix > 1_700_000_000);
    assert!(home.run(&["origin", "rescan"]).status.success());
    let started = next(&mut events).await;
    assert_eq!(started.r#type(), v1::EventType::SyncStarted);
    assert_eq!(started.origin_id, id);
    let ended = next(&mut events).await;
    assert_eq!(ended.r#type(), v1::EventType::SyncCompleted);
    let files = corpus::files_count().to_string();
    assert_eq!(ended.metadata["files_scanned"], files);
    assert_eq!(ended.metadata["files_changed"], "0");
    daemon.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_come_change_and_go_are_events_with_their_paths_in_the_tree() {
    use v1::EventType::{FileAdded, FileModified, FileRemoved};
    let home = Home::with_music();
    let daemon = home.mount_scanned(&[]);
    let mut events = subscribe(&home, &[FileAdded, FileModified, FileRemoved]).await;
    let mount = home.mount_point();
    let copy = home.path("copy.flac");
    fs::copy(home.origin().join("box/cd1.flac"), &copy).unwrap();
    musicfs_tests::sh(&format!(
        "metaflac --remove-all-tags --set-tag=ARTIST=New --set-tag=ALBUM=Come --set-tag=TITLE=One {copy:?}"
    ));
    let place = home.origin().join("come.flac");
    fs::rename(&copy, &place).unwrap();
    let added = next(&mut events).await;
    assert_eq!(added.r#type(), FileAdded);
    let path = added.path.unwrap();
    assert!(
        path.starts_with("New/Come") && path.ends_with("One.flac"),
        "{path}"
    );
    // Who hears of a file finds it.
    assert!(mount.join(&path).exists());
    musicfs_tests::sh(&format!(
        "metaflac --remove-tag=TITLE --set-tag=TITLE=Two {place:?}"
    ));
    let moved = next(&mut events).await;
    assert_eq!(moved.r#type(), FileModified);
    assert_eq!(moved.metadata["previous_path"], path);
    let path = moved.path.unwrap();
    assert!(
        path.ends_with("Two.flac") && mount.join(&path).exists(),
        "{path}"
    );
    fs::remove_file(&place).unwrap();
    let removed = next(&mut events).await;
    assert_eq!((removed.r#type(), removed.path), (FileRemoved, Some(path)));
    assert!(!mount.join("New").exists());
    daemon.stop();
}

// On one thread: while it opens files, nobody takes from the connection what comes.
#[tokio::test]
async fn who_does_not_listen_loses_events_and_hears_how_many_while_reads_go_on() {
    /// Far more than the bus and the connection hold together.
    const OPENS: usize = 8_000;
    const THREADS: usize = 4;
    let home = Home::with_music();
    let daemon = home.mount_scanned(&[]);
    let mut events = subscribe(&home, &[v1::EventType::FileAccessed]).await;
    let (_, file) = a_file(&home);
    std::thread::scope(|threads| {
        for _ in 0..THREADS {
            threads.spawn(|| {
                for _ in 0..OPENS / THREADS {
                    fs::File::open(&file).unwrap();
                }
            });
        }
    });
    let (mut heard, mut lost) = (0, 0);
    while heard + lost < OPENS {
        let event = next(&mut events).await;
        match event.r#type() {
            v1::EventType::FileAccessed => heard += 1,
            v1::EventType::All => lost += event.metadata["lagged"].parse::<usize>().unwrap(),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(heard + lost, OPENS);
    assert!(lost > 0 && heard > 0, "{heard} heard, {lost} lost");
    daemon.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_still_listens_does_not_keep_the_daemon_from_ending() {
    let home = Home::with_music();
    let daemon = home.mount_scanned(&[]);
    let mut events = subscribe(&home, &[]).await;
    let channel = connect(&home.socket()).await;
    let mut peers = v1::peers_client::PeersClient::new(channel.clone());
    let mut peers = peers.watch_peers(()).await.unwrap().into_inner();
    let mut health = HealthClient::new(channel);
    let service = String::new();
    let health = health.watch(HealthCheckRequest { service }).await.unwrap();
    daemon.stop();
    assert!(events.message().await.unwrap().is_none());
    assert!(peers.message().await.unwrap().is_none());
    drop(health);
}

#[test]
fn the_command_prints_a_line_for_each_event() {
    let home = Home::with_music();
    let daemon = home.mount_scanned(&[]);
    let (path, file) = a_file(&home);
    let mut command = home.command(&["--json", "events", "--type", "file_accessed"]);
    let mut listener = Guarded(command.stdout(Stdio::piped()).spawn().unwrap());
    let (sender, lines) = mpsc::channel();
    let output = BufReader::new(listener.0.stdout.take().unwrap());
    let reader = std::thread::spawn(move || {
        // One line is enough: closing the pipe must end the command.
        let _ = sender.send(output.lines().next());
    });
    // Nobody knows from when on it listens.
    let line = (0..)
        .find_map(|_| {
            fs::File::open(&file).unwrap();
            lines.recv_timeout(Duration::from_millis(20)).ok()
        })
        .unwrap();
    reader.join().unwrap();
    let event: serde_json::Value = serde_json::from_str(&line.unwrap().unwrap()).unwrap();
    assert_eq!(event["type"], "file_accessed");
    assert_eq!(event["path"], path.as_str());
    wait_until("the end of the command", || {
        fs::File::open(&file).unwrap();
        listener.0.try_wait().unwrap().is_some()
    });
    daemon.stop();
    let output = home.run(&["events"]);
    assert_eq!(output.status.code(), Some(3));
}
