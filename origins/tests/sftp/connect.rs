//! Who is let in, and by whom.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use musicfs_core::error::ErrorKind;
use musicfs_core::origin::{Origin, OriginError, OriginKind, Refusal};
use musicfs_origins::{SftpConfig, SftpOrigin};

use crate::server::{Server, keygen};
use crate::until;

async fn check(config: SftpConfig) -> Result<(), OriginError> {
    SftpOrigin::new(config).check().await
}

async fn refusal(config: SftpConfig) -> Refusal {
    match check(config).await {
        Err(OriginError::Refused { refusal, .. }) => refusal,
        other => panic!("{other:?}"),
    }
}

fn fingerprint(key: &Path) -> String {
    let shown = Command::new("ssh-keygen").arg("-lf").arg(key).output();
    let shown = String::from_utf8(shown.unwrap().stdout).unwrap();
    shown.split(' ').nth(1).unwrap().to_owned()
}

#[tokio::test]
async fn the_key_of_an_origin_names_host_user_and_real_root() {
    let server = Server::start();
    std::os::unix::fs::symlink("music", server.file("link")).unwrap();
    let origin = SftpOrigin::new(SftpConfig {
        root: server.file("link").to_str().unwrap().into(),
        ..server.config()
    });
    assert_eq!((origin.kind(), origin.key()), (OriginKind::Sftp, None));
    assert!(origin.watch().unwrap().is_none());
    origin.check().await.unwrap();
    let real = server.music("").canonicalize().unwrap();
    let fingerprint = fingerprint(&server.file("host.pub"));
    let expect = format!("{fingerprint}\0root\0{}", real.display());
    assert_eq!(&*origin.key().unwrap().0, expect.as_bytes());
    let named = SftpOrigin::new(SftpConfig {
        identity: Some("home".into()),
        ..server.config()
    });
    assert_eq!(&*named.key().unwrap().0, b"home");
}

#[tokio::test]
async fn an_unknown_host_is_refused_and_its_fingerprint_told() {
    let server = Server::start();
    std::fs::remove_file(server.file("known_hosts")).unwrap();
    let fingerprint = fingerprint(&server.file("host.pub"));
    assert_eq!(
        refusal(server.config()).await,
        Refusal::UnknownHostKey { fingerprint }
    );
}

#[tokio::test]
async fn a_changed_or_revoked_host_key_is_refused() {
    let server = Server::start();
    let changed = Refusal::ChangedHostKey {
        fingerprint: fingerprint(&server.file("host.pub")),
    };
    for kind in ["ed25519", "ecdsa"] {
        let other = server.file(kind);
        keygen(&other, &["-t", kind, "-N", ""]);
        server.know(&other.with_extension("pub"));
        assert_eq!(refusal(server.config()).await, changed, "{kind}");
    }
    let key = std::fs::read_to_string(server.file("host.pub")).unwrap();
    let known = server.file("known_hosts");
    server.know(&server.file("host.pub"));
    check(server.config()).await.unwrap();
    let line = std::fs::read_to_string(&known).unwrap();
    std::fs::write(&known, format!("{line}@revoked * {key}")).unwrap();
    assert_eq!(refusal(server.config()).await, changed);
}

#[tokio::test]
async fn a_host_is_known_by_any_kind_of_key_and_by_its_hash() {
    for kind in ["ed25519", "ecdsa", "rsa"] {
        let server = Server::start_with(kind);
        check(server.config()).await.unwrap();
        let hashed = Command::new("ssh-keygen")
            .arg("-Hf")
            .arg(server.file("known_hosts"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        assert!(hashed.unwrap().success());
        let text = std::fs::read_to_string(server.file("known_hosts")).unwrap();
        assert!(text.starts_with("|1|"), "{text}");
        check(server.config()).await.unwrap();
    }
}

#[tokio::test]
async fn a_key_that_is_not_authorized_is_refused() {
    let server = Server::start();
    let other = server.file("other");
    keygen(&other, &["-t", "ed25519", "-N", ""]);
    let config = SftpConfig {
        key_files: vec![other],
        ..server.config()
    };
    let refused = check(config.clone()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Denied);
    assert_eq!(refusal(config.clone()).await, Refusal::Credentials);
    // More keys than a server lets one try.
    let mut key_files = Vec::new();
    for number in 0..8 {
        let file = server.file(&format!("other{number}"));
        keygen(&file, &["-t", "ed25519", "-N", ""]);
        key_files.push(file);
    }
    let config = SftpConfig {
        key_files,
        ..config
    };
    assert_eq!(refusal(config).await, Refusal::Credentials);
}

#[tokio::test]
async fn without_a_key_there_is_a_hint() {
    let server = Server::start();
    let locked = server.file("locked");
    keygen(&locked, &["-t", "ed25519", "-N", "secret"]);
    for (key_files, word) in [(Vec::new(), "SSH_AUTH_SOCK"), (vec![locked], "ssh-add")] {
        let config = SftpConfig {
            key_files,
            agent_socket: Some(server.file("no-agent")),
            ..server.config()
        };
        match refusal(config).await {
            Refusal::NoCredentials { hint } => assert!(hint.contains(word), "{hint}"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn rsa_keys_in_pem_files_do() {
    let server = Server::start();
    let file = server.file("rsa");
    keygen(&file, &["-t", "rsa", "-b", "2048", "-N", "", "-m", "PEM"]);
    std::fs::copy(file.with_extension("pub"), server.file("authorized")).unwrap();
    let config = SftpConfig {
        key_files: vec![file],
        ..server.config()
    };
    check(config).await.unwrap();
}

/// An ssh-agent of the test's own.
struct Agent {
    socket: PathBuf,
    running: Child,
}

impl Agent {
    async fn start(socket: PathBuf) -> Self {
        let running = Command::new("ssh-agent")
            .arg("-Da")
            .arg(&socket)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        until("ssh-agent listens", || socket.exists()).await;
        Self { socket, running }
    }

    fn add(&self, key: &Path) {
        let added = Command::new("ssh-add")
            .arg("-q")
            .arg(key)
            .env("SSH_AUTH_SOCK", &self.socket)
            .status();
        assert!(added.unwrap().success());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.running.kill();
        let _ = self.running.wait();
    }
}

#[tokio::test]
async fn keys_of_the_agent_do() {
    let server = Server::start();
    for kind in ["ed25519", "rsa"] {
        let agent = Agent::start(server.file(&format!("agent-{kind}"))).await;
        let (other, key) = (server.file(&format!("x-{kind}")), server.file(kind));
        for file in [&other, &key] {
            keygen(file, &["-t", kind, "-N", ""]);
            agent.add(file);
        }
        std::fs::copy(key.with_extension("pub"), server.file("authorized")).unwrap();
        let config = SftpConfig {
            key_files: Vec::new(),
            agent_socket: Some(agent.socket.clone()),
            ..server.config()
        };
        check(config).await.unwrap();
    }
}

#[tokio::test]
async fn of_many_keys_in_the_agent_the_one_that_a_file_names_comes_first() {
    let server = Server::start();
    let agent = Agent::start(server.file("agent")).await;
    for number in 0..8 {
        let other = server.file(&format!("other{number}"));
        keygen(&other, &["-t", "ed25519", "-N", ""]);
        agent.add(&other);
    }
    let key = server.file("mine");
    keygen(&key, &["-t", "ed25519", "-N", ""]);
    agent.add(&key);
    std::fs::copy(key.with_extension("pub"), server.file("authorized")).unwrap();
    // Only the agent has it without a passphrase from now on.
    let locked = Command::new("ssh-keygen")
        .args(["-q", "-p", "-N", "secret", "-f"])
        .arg(&key)
        .stdout(Stdio::null())
        .status();
    assert!(locked.unwrap().success());
    let config = SftpConfig {
        key_files: vec![key],
        agent_socket: Some(agent.socket.clone()),
        ..server.config()
    };
    check(config).await.unwrap();
    // And a file of its own is still tried behind all of them.
    std::fs::copy(server.file("key.pub"), server.file("authorized")).unwrap();
    let config = SftpConfig {
        agent_socket: Some(agent.socket.clone()),
        ..server.config()
    };
    check(config).await.unwrap();
}

#[tokio::test]
async fn a_root_that_is_no_directory_is_missing_until_it_is_there() {
    let server = Server::start();
    server.put("file", "x");
    let origin = |name: &str| {
        SftpOrigin::new(SftpConfig {
            root: server.music(name).to_str().unwrap().into(),
            ..server.config()
        })
    };
    for name in ["file", "gone", "gone/too"] {
        let missing = origin(name).check().await;
        assert!(
            matches!(&missing, Err(OriginError::RootMissing { root, .. })
                if root.to_str() == Some(&origin(name).display_name())),
            "{missing:?}"
        );
    }
    let late = origin("gone");
    assert!(late.check().await.is_err());
    std::fs::create_dir(server.music("gone")).unwrap();
    late.check().await.unwrap();
    std::fs::remove_dir(server.music("gone")).unwrap();
    assert!(matches!(
        late.check().await,
        Err(OriginError::RootMissing { .. })
    ));
}

#[tokio::test]
async fn a_root_that_leads_elsewhere_gets_another_key() {
    let server = Server::start();
    server.put("a/one", "1");
    server.put("b/two", "2");
    let link = server.file("root");
    std::os::unix::fs::symlink(server.music("a"), &link).unwrap();
    let origin = SftpOrigin::new(SftpConfig {
        root: link.to_str().unwrap().into(),
        ..server.config()
    });
    origin.check().await.unwrap();
    let before = origin.key();
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(server.music("b"), &link).unwrap();
    origin.check().await.unwrap();
    assert_ne!(origin.key(), before);
    assert!(crate::open(&origin, "two").await.is_ok());
}

#[tokio::test]
async fn a_root_may_be_relative_to_the_login_directory() {
    let server = Server::start();
    for (root, expect) in [("", "/root"), ("/", "/")] {
        let origin = SftpOrigin::new(SftpConfig {
            root: root.into(),
            ..server.config()
        });
        origin.check().await.unwrap();
        let key = origin.key().unwrap();
        assert!(key.0.ends_with(format!("\0{expect}").as_bytes()), "{key:?}");
    }
}

#[tokio::test]
async fn where_nobody_listens_there_is_an_error() {
    let mut server = Server::start();
    server.kill();
    let error = check(server.config()).await.unwrap_err();
    assert!(matches!(error, OriginError::Io { .. }), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}
