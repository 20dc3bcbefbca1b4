//! The SFTP server, with the programs that everybody uses.

use std::fs;
use std::process::Output;

use musicfs_tests::servers::Breakable;
use musicfs_tests::servers::proxy::Proxy;
use musicfs_tests::servers::sftp::{SftpServer, USER};
use musicfs_tests::{sh, sh_output};

/// A server with one file of 300,000 bytes in the directory that it serves.
fn server_with_a_file() -> (SftpServer, tempfile::TempDir) {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("f.flac"), vec![b'x'; 300_000]).unwrap();
    (SftpServer::start(root.path()), root)
}

/// What the `sftp` program does with one command; `how` says how it may authenticate.
fn sftp_as(server: &SftpServer, port: u16, how: &str, command: &str) -> Output {
    let known = server.known_hosts();
    sh_output(&format!(
        "echo {command:?} | timeout 20 sftp -F none -P {port} {how} -o IdentitiesOnly=no \
         -o UserKnownHostsFile={known:?} -o GlobalKnownHostsFile=none \
         -o StrictHostKeyChecking=yes -o BatchMode=yes -b - {USER}@127.0.0.1"
    ))
}

fn sftp(server: &SftpServer, port: u16, command: &str) -> Output {
    sftp_as(
        server,
        port,
        &format!("-i {:?}", server.key_file()),
        command,
    )
}

#[test]
fn files_come_back_and_their_bytes_are_counted() {
    let (server, root) = server_with_a_file();
    let copy = root.path().join("copy");
    assert_eq!(server.content_bytes(), 0);
    // A path counts from the root.
    let got = sftp(
        &server,
        server.port(),
        &format!("get f.flac {}", copy.display()),
    );
    assert!(got.status.success(), "{got:?}");
    assert_eq!(fs::read(&copy).unwrap(), vec![b'x'; 300_000]);
    assert_eq!(server.content_bytes(), 300_000);
    assert_eq!(server.opens(), 1);
    let listed = sftp(&server, server.port(), "ls");
    assert!(
        String::from_utf8_lossy(&listed.stdout).contains("f.flac"),
        "{listed:?}"
    );
    assert_eq!(server.content_bytes(), 300_000, "a listing is no content");
}

#[test]
fn who_may_come_in_and_who_is_known() {
    let (server, _root) = server_with_a_file();
    let port = server.port();
    let agent = server.agent();
    let by_agent = format!("-o IdentityAgent={:?}", agent.socket());
    assert!(sftp_as(&server, port, &by_agent, "ls").status.success());
    let nobody = "-o IdentityAgent=none -o IdentityFile=/dev/null";
    let refused = sftp_as(&server, port, nobody, "ls");
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("Permission denied"),
        "{refused:?}"
    );
    let fingerprint = server.host_key_fingerprint();
    assert!(fingerprint.starts_with("SHA256:"), "{fingerprint}");
    let scanned = format!("ssh-keyscan -p {port} 127.0.0.1 2>/dev/null | ssh-keygen -lf -");
    assert!(sh(&scanned).contains(&fingerprint));
    // A relay has another port, which has to be known as well.
    let relay = Proxy::start(server.address());
    let unknown = sftp(&server, relay.port(), "ls");
    let text = String::from_utf8_lossy(&unknown.stderr);
    assert!(text.contains("Host key verification failed"), "{text}");
    server.trust(relay.port());
    assert!(sftp(&server, relay.port(), "ls").status.success());
    assert!(relay.bytes_down() > 0 && relay.bytes_up() > 0);
    // Another key is noticed.
    server.kill();
    server.change_host_key();
    server.restart();
    assert_ne!(server.host_key_fingerprint(), fingerprint);
    let changed = sftp(&server, port, "ls");
    assert!(!changed.status.success(), "{changed:?}");
}

#[test]
fn an_sftp_server_hangs_dies_comes_back_and_leaves_nothing() {
    let (server, root) = server_with_a_file();
    let key = format!("-i {:?}", server.key_file());
    let port = server.port();
    // A session that is under way when the server stops, and when it dies.
    let session = |seconds: u32, end: &str| {
        let known = server.known_hosts();
        format!(
            "timeout {seconds} ssh -q -F none -p {port} {key} -o UserKnownHostsFile={known:?} \
             -o BatchMode=yes -s {USER}@127.0.0.1 sftp {end}"
        )
    };
    server.pause();
    let hung = sh_output(&session(1, "</dev/null"));
    assert_eq!(hung.status.code(), Some(124), "{hung:?}");
    server.resume();
    let answered = sh_output(&session(20, "</dev/null"));
    assert_eq!(answered.status.code(), Some(0), "{answered:?}");
    // SSH_FXP_INIT, to see that the session is there; then it waits.
    let init = r"printf '\0\0\0\5\1\0\0\0\3'";
    let ready = root.path().join("ready");
    let script = format!(
        "({init}; sleep 20) | {} | (head -c 9; touch {ready:?}; cat) >/dev/null",
        session(20, "")
    );
    let waiting = std::thread::spawn(move || sh_output(&script));
    musicfs_tests::wait_until("the session", || ready.exists());
    server.kill();
    assert!(sftp(&server, port, "ls").status.code() != Some(0));
    server.restart();
    assert!(sftp(&server, port, "ls").status.success());
    drop(waiting);
    let dir = server.known_hosts().parent().unwrap().to_owned();
    assert!(dir.exists());
    server.pause();
    drop(server);
    assert!(!dir.exists());
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
}
