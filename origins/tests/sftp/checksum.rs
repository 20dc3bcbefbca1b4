//! Checksums that the server computes.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use musicfs_core::checksum::Checksum;
use musicfs_origins::{HashCommand, SftpConfig};

use super::*;
use crate::server::Server;

fn origin(server: &Server, command: Option<HashCommand>) -> SftpOrigin {
    SftpOrigin::new(SftpConfig {
        hash_command: command,
        ..server.config()
    })
}

async fn ask(
    origin: &SftpOrigin,
    name: &[u8],
    expected: &ContentVersion,
) -> Result<Option<Checksum>, OriginError> {
    origin
        .checksum(&OriginPath::new(name).unwrap(), expected)
        .await
}

/// Puts a file whose name may be any bytes.
fn put(server: &Server, name: &[u8], content: &[u8]) {
    let file = server.music("").join(OsStr::from_bytes(name));
    std::fs::write(&file, content).unwrap();
    set_mtime(&file, 1_000);
}

fn holds(checksum: Option<Checksum>, content: &[u8]) -> bool {
    let mut check = checksum.expect("a checksum").check();
    check.update(content);
    check.holds()
}

#[tokio::test]
async fn each_command_gives_the_digest_of_any_name() {
    let server = Server::start_open();
    let content = noise(100_000, 1);
    let names: [&[u8]; 6] = [
        b"song.flac",
        b"a b \"c\" $(touch x) `y` $HOME *",
        b"it's; exit 1",
        b"back\\slash and new\nline",
        b"-c",
        b"\xff\xfe",
    ];
    for name in names {
        put(&server, name, &content);
    }
    for command in HashCommand::ALL {
        let origin = origin(&server, Some(command));
        for name in names {
            let checksum = ask(&origin, name, &version(100_000, 1_000)).await.unwrap();
            assert!(holds(checksum, &content), "{command:?} {name:?}");
            assert!(!holds(checksum, &content[1..]));
        }
    }
    let count = std::fs::read_dir(server.music("")).unwrap().count();
    assert_eq!(count, names.len(), "nothing else was run");
    until("all is closed", || server.open_count() == 0).await;
}

#[tokio::test]
async fn nothing_is_run_unless_it_is_allowed() {
    // What is asked for is written down.
    let server = Server::start_scripted(
        "case $SSH_ORIGINAL_COMMAND in internal-sftp) exec /usr/lib/openssh/sftp-server;; esac\n\
         echo \"$SSH_ORIGINAL_COMMAND\" >> \"$(dirname \"$0\")/asked\"\n\
         eval \"$SSH_ORIGINAL_COMMAND\"",
    );
    server.put("song", "12345");
    let plain = origin(&server, None);
    let asked = ask(&plain, b"song", &version(5, 1_000)).await.unwrap();
    assert_eq!(asked, None);
    assert!(!server.file("asked").exists());
    let hashing = origin(&server, Some(HashCommand::Sha256));
    let asked = ask(&hashing, b"song", &version(5, 1_000)).await.unwrap();
    assert!(holds(asked, b"12345"));
    let line = std::fs::read_to_string(server.file("asked")).unwrap();
    let path = server.music("song").canonicalize().unwrap();
    assert_eq!(line, format!("sha256sum -- '{}'\n", path.display()));
}

#[tokio::test]
async fn a_server_that_runs_no_commands_has_no_checksums_and_goes_on() {
    // SFTP whatever is asked for; no such program; a shell that greets.
    let scripts = [
        "exec /usr/lib/openssh/sftp-server",
        "PATH=/nonexistent; case $SSH_ORIGINAL_COMMAND in internal-sftp) exec \
         /usr/lib/openssh/sftp-server;; *) eval \"$SSH_ORIGINAL_COMMAND\";; esac",
        "case $SSH_ORIGINAL_COMMAND in internal-sftp) exec /usr/lib/openssh/sftp-server;; esac\n\
         echo hello; eval \"$SSH_ORIGINAL_COMMAND\"",
    ];
    let servers = scripts.map(Server::start_scripted);
    for server in servers.iter().chain([&Server::start()]) {
        server.put("song", "12345");
        let origin = origin(server, Some(HashCommand::Md5));
        for _ in 0..2 {
            let asked = ask(&origin, b"song", &version(5, 1_000)).await.unwrap();
            assert_eq!(asked, None);
        }
        let file = open(&origin, "song").await.unwrap();
        assert_eq!(read_all(&*file).await.unwrap(), b"12345"[..]);
        assert_eq!(server.connections_count(), 1);
    }
}

#[tokio::test]
async fn another_version_has_no_checksum() {
    let server = Server::start_open();
    server.put("song", "12345");
    let origin = origin(&server, Some(HashCommand::Md5));
    for other in [version(5, 1_001), version(6, 1_000)] {
        let asked = ask(&origin, b"song", &other).await;
        assert!(
            matches!(asked, Err(OriginError::Changed { .. })),
            "{asked:?}"
        );
    }
    let asked = ask(&origin, b"gone", &version(5, 1_000)).await;
    assert!(
        matches!(asked, Err(OriginError::NotFound { .. })),
        "{asked:?}"
    );
}

#[tokio::test]
async fn a_file_that_changes_meanwhile_has_no_checksum() {
    let server = Server::start_scripted(
        "case $SSH_ORIGINAL_COMMAND in internal-sftp) exec /usr/lib/openssh/sftp-server;; esac\n\
         eval \"$SSH_ORIGINAL_COMMAND\"\n\
         touch \"$(dirname \"$0\")/music/song\"",
    );
    server.put("song", "12345");
    let origin = origin(&server, Some(HashCommand::Md5));
    let asked = ask(&origin, b"song", &version(5, 1_000)).await;
    assert!(
        matches!(asked, Err(OriginError::Changed { .. })),
        "{asked:?}"
    );
}

#[tokio::test]
async fn a_command_may_take_longer_than_a_connection_may_be_idle() {
    // Idle is twice the patience.
    let patience = Duration::from_secs(2);
    let server = Server::start_scripted(
        "case $SSH_ORIGINAL_COMMAND in internal-sftp) exec /usr/lib/openssh/sftp-server;; esac\n\
         sleep 5; eval \"$SSH_ORIGINAL_COMMAND\"",
    );
    server.put("song", "12345");
    let config = SftpConfig {
        hash_command: Some(HashCommand::Md5),
        ..server.config()
    };
    let origin = SftpOrigin::with_patience(config, patience);
    let asked = ask(&origin, b"song", &version(5, 1_000)).await.unwrap();
    assert!(holds(asked, b"12345"));
}
