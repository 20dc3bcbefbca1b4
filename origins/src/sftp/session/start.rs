//! How a connection begins: what is asked before anything else can be.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use musicfs_core::version::OriginKey;
use russh::client::Msg;
use russh::{Channel, ChannelMsg};
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::SftpConfig;
use super::super::failure::Failure;
use super::super::transport;
use super::super::wire::{self, FileType, Framer, Limits, Reply, Request, status};
use super::handles::HANDLES_MAX;
use super::{REQUESTS_MAX, Session, State, tasks, unexpected};

/// Bytes of one READ of which every server sends all (draft §6.4 asks for 32 KiB).
const READ_BYTES_DEFAULT: u64 = 32 << 10;
/// More in one answer fits no packet.
const READ_BYTES_MAX: u64 = 256 << 10;
/// Fewer are not worth a request.
const READ_BYTES_MIN: u64 = 4 << 10;

/// A connection that is ready, and the place that it leads to.
#[derive(Clone)]
pub(crate) struct Connected {
    pub(crate) session: Arc<Session>,
    pub(crate) key: OriginKey,
}

/// Connects, authenticates and finds the root, all within `patience`.
///
/// Cancelling `end` ends the connection, now and later; so does dropping this future.
///
/// # Errors
/// Why there is no connection, or no root behind it.
pub(crate) async fn connect(
    config: &Arc<SftpConfig>,
    patience: Duration,
    end: CancellationToken,
) -> Result<Connected, Failure> {
    let guard = end.clone().drop_guard();
    let connected = tokio::time::timeout(patience, shake_hands(config, patience, end))
        .await
        .unwrap_or(Err(Failure::Silent(patience)))?;
    guard.disarm();
    Ok(connected)
}

async fn shake_hands(
    config: &Arc<SftpConfig>,
    patience: Duration,
    end: CancellationToken,
) -> Result<Connected, Failure> {
    let mut transport = transport::connect(config, &end).await?;
    let facts = Facts::ask(&mut transport.channel, &config.root).await?;
    let parts = [
        transport.fingerprint.as_bytes(),
        config.user.as_bytes(),
        &facts.root,
    ];
    let key = match &config.identity {
        Some(identity) => identity.as_bytes().into(),
        None => parts.join(&0).into(),
    };
    let (reader, writer) = transport.channel.split();
    let session = Arc::new(Session {
        link: transport.link,
        channel: writer.id(),
        root: facts.root,
        read_bytes: facts.read_bytes,
        patience,
        end,
        state: Mutex::new(State {
            next_id: 0,
            waiting: HashMap::new(),
            progress: Instant::now(),
            failure: None,
        }),
        requests: Arc::new(Semaphore::new(REQUESTS_MAX)),
        places: Arc::new(Semaphore::new(facts.handles)),
        places_wanted: AtomicUsize::new(0),
        slots: Mutex::default(),
        closing: Mutex::default(),
        has_closing: Notify::new(),
        commands_count: AtomicUsize::new(0),
        refuses_commands: AtomicBool::new(false),
    });
    // Both end with the session's token.
    tokio::spawn(tasks::receive(Arc::clone(&session), reader));
    tokio::spawn(tasks::keep(Arc::clone(&session)));
    Ok(Connected {
        session,
        key: OriginKey(key),
    })
}

/// What is asked first.
struct Facts {
    root: Bytes,
    read_bytes: u32,
    handles: usize,
}

impl Facts {
    async fn ask(channel: &mut Channel<Msg>, root: &str) -> Result<Self, Failure> {
        let mut framer = Framer::default();
        send(channel, wire::init()).await?;
        let version = wire::decode_version(receive(channel, &mut framer).await?)?;
        let root = root_path(root);
        let mut requests = vec![Request::RealPath(root), Request::Stat(root)];
        if version.has_limits {
            requests.push(Request::Limits);
        }
        let replies = ask(channel, &mut framer, &requests).await?;
        is_dir(&replies[1])?;
        let limits = match replies.get(2) {
            Some(Reply::Extended(body)) => Limits::decode(body.clone())?,
            _ => Limits::default(),
        };
        Ok(Self::new(real_root(&replies[0])?, limits))
    }

    fn new(root: Bytes, limits: Limits) -> Self {
        let read_bytes = match limits.read_bytes {
            0 => READ_BYTES_DEFAULT,
            bytes => bytes.clamp(READ_BYTES_MIN, READ_BYTES_MAX),
        };
        let handles = match usize::try_from(limits.handles) {
            Ok(0) | Err(_) => HANDLES_MAX,
            Ok(handles) => handles.min(HANDLES_MAX),
        };
        Self {
            root,
            read_bytes: 1 << read_bytes.ilog2(),
            handles,
        }
    }
}

/// Sends requests in one go, and gives their answers in the same order.
async fn ask(
    channel: &mut Channel<Msg>,
    framer: &mut Framer,
    requests: &[Request<'_>],
) -> Result<Vec<Reply>, Failure> {
    let mut out = BytesMut::new();
    for (id, request) in (0..).zip(requests) {
        request.encode(id, &mut out);
    }
    send(channel, out.freeze()).await?;
    let mut replies: Vec<Option<Reply>> = vec![None; requests.len()];
    while replies.iter().any(Option::is_none) {
        let (id, reply) = wire::decode(receive(channel, framer).await?)?;
        match replies.get_mut(id as usize) {
            Some(slot @ None) => *slot = Some(reply),
            _ => return Err(Failure::Malformed("an answer is to no request")),
        }
    }
    Ok(replies.into_iter().flatten().collect())
}

async fn send(channel: &Channel<Msg>, bytes: Bytes) -> Result<(), Failure> {
    let sent = channel.data_bytes(bytes).await;
    sent.map_err(|error| Failure::Unreachable(Arc::new(transport::io_error(error))))
}

/// The next packet.
async fn receive(channel: &mut Channel<Msg>, framer: &mut Framer) -> Result<Bytes, Failure> {
    loop {
        if let Some(packet) = framer.next()? {
            return Ok(packet);
        }
        match channel.wait().await {
            Some(ChannelMsg::Data { data }) => framer.push(data),
            // The answer to the request for the subsystem.
            Some(ChannelMsg::Failure) => return Err(Failure::Malformed("it offers no SFTP")),
            Some(ChannelMsg::Eof | ChannelMsg::Close) | None => {
                let error = io::ErrorKind::ConnectionReset.into();
                return Err(Failure::Unreachable(Arc::new(error)));
            }
            Some(_) => {}
        }
    }
}

/// Looks at the root `root` again: true if it still leads to where the connection has it.
///
/// # Errors
/// [`Failure::RootMissing`] unless it is a directory.
pub(crate) async fn check_root(session: &Arc<Session>, root: &str) -> Result<bool, Failure> {
    let root = root_path(root);
    let requests = [Request::RealPath(root), Request::Stat(root)];
    let mut pending = session.send(&requests, None).await?.into_iter();
    let mut next = || pending.next().expect("one for each request");
    let real = session.reply(next()).await?;
    is_dir(&session.reply(next()).await?)?;
    Ok(real_root(&real)? == session.root)
}

/// The login directory is where the server starts.
fn root_path(root: &str) -> &[u8] {
    match root {
        "" => b".",
        root => root.as_bytes(),
    }
}

/// # Errors
/// [`Failure::RootMissing`] unless `stat` tells of a directory.
fn is_dir(stat: &Reply) -> Result<(), Failure> {
    match stat {
        Reply::Attrs(attrs) => match attrs.file_type() {
            FileType::Dir | FileType::Unknown => Ok(()),
            _ => Err(Failure::RootMissing("not a directory")),
        },
        other => Err(missing(unexpected(other))),
    }
}

fn real_root(reply: &Reply) -> Result<Bytes, Failure> {
    match reply {
        Reply::Names(names) if names.len() == 1 && names[0].name.starts_with(b"/") => {
            Ok(trim(names[0].name.clone()))
        }
        Reply::Names(_) => Err(Failure::Malformed("a real path is not one absolute path")),
        other => Err(missing(unexpected(other))),
    }
}

/// Without the slashes at its end.
fn trim(mut path: Bytes) -> Bytes {
    while path.len() > 1 && path.ends_with(b"/") {
        path.truncate(path.len() - 1);
    }
    path
}

/// What a failure means that concerns the root itself.
pub(crate) fn missing(failure: Failure) -> Failure {
    match failure {
        Failure::Status(status::NO_SUCH_FILE) => Failure::RootMissing("no such directory"),
        Failure::Status(status::PERMISSION_DENIED) => Failure::RootMissing("permission denied"),
        Failure::Status(_) => Failure::RootMissing("it cannot be opened"),
        other => other,
    }
}
