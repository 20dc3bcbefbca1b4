//! What is seen of peers where there are none.

use musicfs_tests::wait_for;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_node_in_no_cluster_sees_no_peers_and_says_so() {
    let home = Home::with_music();
    let daemon = home.mount_scanned(&[]);
    let channel = connect(&home.socket()).await;
    let mut peers = v1::peers_client::PeersClient::new(channel.clone());
    let list = peers.list_peers(()).await.unwrap().into_inner().peers;
    assert_eq!(list, []);
    let id = "ab".repeat(16);
    let unknown = peers.get_peer(v1::PeerRequest { id: id.clone() }).await;
    assert_eq!(unknown.unwrap_err().code(), Code::NotFound);
    let output = home.run(&["peers", "list"]);
    assert!(output.status.success());
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("musicfs cluster init"), "{text}");
    let output = home.run(&["--json", "peers", "list"]);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value, serde_json::json!({ "peers": [] }));
    for command in ["show", "ping"] {
        let output = home.run(&["peers", command, &id]);
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains(&id) && text.contains("peers list"), "{text}");
    }
    daemon.stop();
    assert_eq!(home.run(&["peers", "list"]).status.code(), Some(3));
}

#[test]
fn a_file_is_located_on_this_node_alone() {
    let home = Home::with_music();
    // A share: its content is cached.
    let origin = format!("nfs://{}", home.origin().display());
    let daemon = home.mount_scanned(&["--origin", &origin]);
    let (path, _) = wait_for("a file", || {
        let files = musicfs_tests::tree::files(&home.mount_point());
        files.into_iter().find(|path| path.ends_with(".flac"))
    });
    let path = path.as_str();
    let locate = |path: &str| {
        let output = home.run(&["--json", "locate", path]);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{errors}");
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let file = home.mount_point().join(path);
    let bytes = fs::read(&file).unwrap();
    let mut located = serde_json::Value::Null;
    wait_until("the whole file to be held", || {
        located = locate(path);
        located["holders"][0]["complete"] == true
    });
    assert_eq!(located["path"], path);
    assert_eq!(located["size"], bytes.len());
    assert_eq!(located["version_key"].as_str().unwrap().len(), 32);
    let holders = located["holders"].as_array().unwrap();
    assert_eq!(holders.len(), 1);
    assert_eq!(holders[0]["peer_id"], "");
    assert_eq!(holders[0]["trust"], "anchored");
    let ranges = holders[0]["ranges"].as_array().unwrap();
    let held: u64 = ranges
        .iter()
        .filter_map(|range| range["len"].as_u64())
        .sum();
    assert!(held >= bytes.len() as u64, "{ranges:?}");
    // By its path under the mount point, too.
    assert_eq!(locate(file.to_str().unwrap()), located);
    for (path, code) in [
        ("no/such", Some(1)),
        ("/etc/passwd", Some(1)),
        (".", Some(1)),
    ] {
        assert_eq!(home.run(&["locate", path]).status.code(), code, "{path}");
    }
    daemon.stop();
}
