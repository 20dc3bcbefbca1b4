//! Servers that keep to the protocol less than OpenSSH's, or not at all.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use musicfs_core::id::OriginId;
use musicfs_core::origin::{Depth, Origin, OriginError};
use musicfs_origins::{SftpConfig, SftpOrigin};
use russh::keys::key::safe_rng;
use russh::keys::{Algorithm, PrivateKey};
use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::server::keygen;
use crate::{list_all, listings, noise, open, path, read_all, version};

const INIT: u8 = 1;
const READ: u8 = 5;
const LSTAT: u8 = 7;
const READDIR: u8 = 12;

/// Answers one request, of which it gets the id and what is behind it; without the length.
type Answer = Arc<dyn Fn(u32, &[u8]) -> Vec<u8> + Send + Sync>;

/// An SSH server of the test's own, whose SFTP answers as the test says.
struct Sloppy {
    dir: TempDir,
    port: u16,
    _tasks: JoinSet<()>,
}

impl Sloppy {
    /// Serves a root with one file of these bytes wherever it is asked for; `answers` replace the
    /// usual ones.
    async fn start(content: Vec<u8>, answers: Vec<(u8, Answer)>) -> Self {
        let mut all = usual_answers(content);
        all.extend(answers);
        let answers = Arc::new(all);
        let dir = tempfile::tempdir().unwrap();
        let host = PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let public = host.public_key().to_openssh().unwrap();
        let line = format!("[127.0.0.1]:{port} {public}\n");
        std::fs::write(dir.path().join("known_hosts"), line).unwrap();
        keygen(&dir.path().join("key"), &["-t", "ed25519", "-N", ""]);
        let config = Arc::new(russh::server::Config {
            keys: vec![host],
            ..Default::default()
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let served = Served {
                    answers: Arc::clone(&answers),
                    input: Vec::new(),
                };
                let config = Arc::clone(&config);
                tokio::spawn(async move {
                    if let Ok(session) = russh::server::run_stream(config, tcp, served).await {
                        let _ = session.await;
                    }
                });
            }
        });
        Self {
            dir,
            port,
            _tasks: tasks,
        }
    }

    fn origin(&self) -> SftpOrigin {
        let config = SftpConfig {
            id: OriginId::new("sloppy").unwrap(),
            host: "127.0.0.1".into(),
            port: self.port,
            user: "me".into(),
            root: "/music".into(),
            known_hosts: vec![self.dir.path().join("known_hosts")],
            key_files: vec![self.dir.path().join("key")],
            agent_socket: None,
            identity: None,
            hash_command: None,
        };
        SftpOrigin::with_patience(config, Duration::from_secs(10))
    }
}

struct Served {
    answers: Arc<BTreeMap<u8, Answer>>,
    input: Vec<u8>,
}

impl Handler for Served {
    type Error = russh::Error;

    async fn auth_publickey(
        &mut self,
        _: &str,
        _: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        reply.accept().await;
        Ok(())
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        _: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_success(channel)
    }

    async fn data(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.input.extend_from_slice(data);
        while self.input.len() >= 4 {
            let len = take_u32(&self.input) as usize + 4;
            if self.input.len() < len {
                break;
            }
            let packet: Vec<u8> = self.input.drain(..len).collect();
            let code = packet[4];
            let id = take_u32(&packet[5..]);
            let answer = self.answers[&code](id, &packet[9..]);
            session.data(channel, string(&answer))?;
        }
        Ok(())
    }
}

fn take_u32(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes[..4].try_into().unwrap())
}

fn string(text: &[u8]) -> Vec<u8> {
    [&u32::try_from(text.len()).unwrap().to_be_bytes(), text].concat()
}

fn packet(code: u8, id: u32, body: &[u8]) -> Vec<u8> {
    [&[code][..], &id.to_be_bytes(), body].concat()
}

fn status(id: u32, code: u32) -> Vec<u8> {
    packet(101, id, &code.to_be_bytes())
}

/// Size, mode and times, all at 1,000 s.
fn attrs(size: u64, mode: u32) -> Vec<u8> {
    let mut attrs = 13_u32.to_be_bytes().to_vec();
    attrs.extend(size.to_be_bytes());
    for number in [mode, 1_000, 1_000] {
        attrs.extend(number.to_be_bytes());
    }
    attrs
}

fn names(id: u32, names: &[(&[u8], Vec<u8>)]) -> Vec<u8> {
    let mut body = u32::try_from(names.len()).unwrap().to_be_bytes().to_vec();
    for (name, attrs) in names {
        body.extend([string(name), string(b""), attrs.clone()].concat());
    }
    packet(104, id, &body)
}

/// The offset and length that a READ of the handle "h" asks for.
fn asked(body: &[u8]) -> (usize, usize) {
    let offset = u64::from_be_bytes(body[5..13].try_into().unwrap());
    (
        usize::try_from(offset).unwrap(),
        take_u32(&body[13..]) as usize,
    )
}

/// Up to `len_max` bytes of the file.
fn data(id: u32, body: &[u8], content: &[u8], len_max: usize) -> Vec<u8> {
    let (offset, len) = asked(body);
    if offset >= content.len() {
        return status(id, 1);
    }
    let end = content.len().min(offset + len.min(len_max));
    packet(103, id, &string(&content[offset..end]))
}

fn usual_answers(content: Vec<u8>) -> BTreeMap<u8, Answer> {
    let size = content.len() as u64;
    let stat = move |body: &[u8]| match body.ends_with(b"/music") {
        true => attrs(0, 0o040_755),
        false => attrs(size, 0o100_644),
    };
    let mut answers: BTreeMap<u8, Answer> = BTreeMap::new();
    let mut answer = |code, answer: Answer| answers.insert(code, answer);
    answer(INIT, Arc::new(|_, _| vec![2, 0, 0, 0, 3]));
    answer(3, Arc::new(|id, _| packet(102, id, &string(b"h"))));
    answer(4, Arc::new(|id, _| status(id, 0)));
    answer(
        READ,
        Arc::new(move |id, body| data(id, body, &content, usize::MAX)),
    );
    answer(
        LSTAT,
        Arc::new(move |id, body| packet(105, id, &stat(body))),
    );
    answer(
        8,
        Arc::new(move |id, _| packet(105, id, &attrs(size, 0o100_644))),
    );
    answer(11, Arc::new(|id, _| packet(102, id, &string(b"d"))));
    answer(READDIR, Arc::new(|id, _| status(id, 1)));
    answer(
        16,
        Arc::new(|id, body| names(id, &[(&body[4..], vec![0; 4])])),
    );
    answer(17, Arc::new(move |id, body| packet(105, id, &stat(body))));
    answers
}

/// What a first READDIR answers with; all others find the end.
fn once(first: impl Fn(u32) -> Vec<u8> + Send + Sync + 'static) -> Answer {
    let is_done = AtomicBool::new(false);
    Arc::new(move |id, _| match is_done.swap(true, Ordering::Relaxed) {
        false => first(id),
        true => status(id, 1),
    })
}

fn malformed<T>(result: &Result<T, OriginError>) -> bool {
    matches!(result, Err(OriginError::Malformed { .. }))
}

#[tokio::test]
async fn short_answers_are_completed() {
    let content = noise(300_000, 1);
    let served = content.clone();
    let longest = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&longest);
    let read: Answer = Arc::new(move |id, body| {
        let (_, len) = asked(body);
        seen.fetch_max(u32::try_from(len).unwrap(), Ordering::Relaxed);
        data(id, body, &served, 1_000)
    });
    let server = Sloppy::start(content.clone(), vec![(READ, read)]).await;
    let origin = server.origin();
    let file = open(&origin, "song").await.unwrap();
    assert_eq!(*file.version(), version(300_000, 1_000));
    assert!(read_all(&*file).await.unwrap() == content);
    assert!(file.read_at(7, 100_000).await.unwrap() == content[7..100_007]);
    // A server that tells no limits is asked for what every server sends.
    assert_eq!(longest.load(Ordering::Relaxed), 32 << 10);
}

#[tokio::test]
async fn answers_byte_by_byte_are_not_waited_for() {
    let content = noise(100_000, 2);
    let served = content.clone();
    let read: Answer = Arc::new(move |id, body| data(id, body, &served, 1));
    let server = Sloppy::start(content, vec![(READ, read)]).await;
    let origin = server.origin();
    let file = open(&origin, "song").await.unwrap();
    assert!(malformed(&read_all(&*file).await));
}

#[tokio::test]
async fn an_end_before_the_size_is_a_change() {
    let content = noise(100_000, 3);
    let served = content[..70_000].to_vec();
    let read: Answer = Arc::new(move |id, body| data(id, body, &served, usize::MAX));
    let server = Sloppy::start(content.clone(), vec![(READ, read)]).await;
    let origin = server.origin();
    let file = open(&origin, "song").await.unwrap();
    assert!(file.read_at(0, 65_536).await.unwrap() == content[..65_536]);
    let read = file.read_at(0, 100_000).await;
    assert!(matches!(read, Err(OriginError::Changed { .. })), "{read:?}");
}

#[tokio::test]
async fn wrong_answers_are_errors_and_the_next_connection_is_a_new_one() {
    let content = noise(1_000, 4);
    let wrong: [fn(u32) -> Vec<u8>; 6] = [
        |id| packet(103, id, &string(&[0; 2_000])),
        |id| packet(103, id + 1_000, &string(&[0; 10])),
        |id| packet(99, id, b""),
        |id| packet(103, id, &[0, 0, 0, 9]),
        |id| packet(105, id, &[0; 4]),
        |_| vec![0; 300 << 10],
    ];
    for wrong in wrong {
        let served = content.clone();
        let is_done = AtomicBool::new(false);
        let read: Answer = Arc::new(
            move |id, body| match is_done.swap(true, Ordering::Relaxed) {
                false => wrong(id),
                true => data(id, body, &served, usize::MAX),
            },
        );
        let server = Sloppy::start(content.clone(), vec![(READ, read)]).await;
        let origin = server.origin();
        let file = open(&origin, "song").await.unwrap();
        assert!(malformed(&read_all(&*file).await));
        assert!(read_all(&*file).await.unwrap() == content);
    }
}

#[tokio::test]
async fn a_server_of_another_version_is_told() {
    let init: Answer = Arc::new(|_, _| vec![2, 0, 0, 0, 2]);
    let server = Sloppy::start(Vec::new(), vec![(INIT, init)]).await;
    assert!(malformed(&server.origin().check().await));
}

#[tokio::test]
async fn entries_are_asked_for_what_the_listing_does_not_tell() {
    let readdir = once(|id| {
        let none = || vec![0; 4];
        let entries: [(&[u8], Vec<u8>); 8] = [
            (b"song", none()),
            (b"..", none()),
            (b"a/b", none()),
            (b"nul\0", none()),
            (b"", none()),
            (&[b'x'; 5_000], none()),
            // Only the mode.
            (
                b"other",
                [&[0, 0, 0, 4][..], &0o100_400_u32.to_be_bytes()].concat(),
            ),
            (b"song", none()),
        ];
        names(id, &entries)
    });
    let server = Sloppy::start(vec![0; 5], vec![(READDIR, readdir)]).await;
    let all = list_all(&server.origin()).await;
    let listed: Vec<_> = all[0].files.iter().map(|file| &*file.name).collect();
    assert_eq!((all.len(), listed), (1, vec![&b"other"[..], b"song"]));
    assert_eq!(all[0].files[0].version, version(5, 1_000));
    assert!(all[0].complete);
}

#[tokio::test]
async fn an_error_in_mid_listing_makes_it_incomplete() {
    let count = AtomicU32::new(0);
    let readdir: Answer = Arc::new(move |id, _| match count.fetch_add(1, Ordering::Relaxed) {
        0 => names(id, &[(b"song", attrs(1, 0o100_644))]),
        _ => status(id, 4),
    });
    let server = Sloppy::start(Vec::new(), vec![(READDIR, readdir)]).await;
    let all = list_all(&server.origin()).await;
    assert_eq!(
        (all.len(), all[0].files.len(), all[0].complete),
        (1, 1, false)
    );
}

#[tokio::test]
async fn a_directory_without_end_is_cut() {
    let many: Vec<(&[u8], Vec<u8>)> = vec![(b"x", attrs(1, 0o100_644)); 7_000];
    let many = names(0, &many);
    let readdir: Answer = Arc::new(move |id, _| packet(104, id, &many[5..]));
    let server = Sloppy::start(Vec::new(), vec![(READDIR, readdir)]).await;
    let all = list_all(&server.origin()).await;
    assert_eq!(
        (all.len(), all[0].files.len(), all[0].complete),
        (1, 1, false)
    );
}

#[tokio::test]
async fn a_tree_without_end_is_cut() {
    let is_end = AtomicBool::new(true);
    // Every directory holds one, and the end comes right behind: one READDIR of two has a name.
    let readdir: Answer = Arc::new(move |id, _| match is_end.fetch_not(Ordering::Relaxed) {
        true => names(id, &[(b"d", attrs(0, 0o040_755))]),
        false => status(id, 1),
    });
    let server = Sloppy::start(Vec::new(), vec![(READDIR, readdir)]).await;
    let all = list_all(&server.origin()).await;
    assert_eq!(all.len(), 65);
}

#[tokio::test]
async fn names_that_never_come_are_an_error() {
    let readdir: Answer = Arc::new(|id, _| names(id, &[]));
    let server = Sloppy::start(Vec::new(), vec![(READDIR, readdir)]).await;
    let origin = server.origin();
    assert!(malformed(
        &listings(origin.list(&path(""), Depth::All)).await
    ));
}
