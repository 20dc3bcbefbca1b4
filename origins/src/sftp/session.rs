//! One connection with SFTP on it: many requests under way at once, each answered by its id.
//!
//! One channel a connection: a server answers the requests of a channel one after the other, but
//! further channels would share the same TCP stream and the same encrypting process at the other
//! end. What more channels would give, more connections give better (see the pool).

mod exec;
mod handles;
mod start;
mod tasks;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use russh::ChannelId;
use russh::client::Handle;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use musicfs_core::path::OriginPath;

use super::failure::Failure;
use super::lock;
use super::transport::Host;
use super::wire::{Attrs, Name, Reply, Request, status};

pub(crate) use exec::Ran;
pub(crate) use handles::{OpenHandle, Slot};
pub(crate) use start::{Connected, check_root, connect, missing};

/// Requests under way on one connection. A stream has at most 64, a directory a few.
const REQUESTS_MAX: usize = 1024;
/// One answer may be so many times the patience away, while others keep coming.
const PATIENCE_FACTOR_MAX: u32 = 8;

/// An SFTP connection. It ends when the server ends it, when nothing was asked for a while, or
/// when its token is cancelled.
pub(crate) struct Session {
    link: Handle<Host>,
    channel: ChannelId,
    /// Where the origin's root really lies: absolute, no slash at its end but for `/` itself.
    pub(crate) root: Bytes,
    /// Bytes of one READ: a power of two.
    pub(crate) read_bytes: u32,
    patience: Duration,
    /// Cancelled once the connection is of no more use.
    pub(crate) end: CancellationToken,
    state: Mutex<State>,
    requests: Arc<Semaphore>,
    /// One permit for each file or directory that may be open on the server.
    places: Arc<Semaphore>,
    /// How many wait for one.
    places_wanted: AtomicUsize,
    slots: Mutex<Vec<Weak<Slot>>>,
    closing: Mutex<Vec<handles::Closing>>,
    has_closing: Notify,
    /// Commands that run beside SFTP.
    commands_count: AtomicUsize,
    /// It was found out that the server runs none.
    pub(crate) refuses_commands: AtomicBool,
}

struct State {
    next_id: u32,
    waiting: HashMap<u32, Waiter>,
    /// When the server last answered, or nothing was under way.
    progress: Instant,
    /// Why it ended.
    failure: Option<Failure>,
}

/// Who waits for the answer to one request. It stays until the answer is there, even if nobody
/// wants it any more: only ids that are known may come back.
struct Waiter {
    reply: oneshot::Sender<Answer>,
    /// The place that an OPEN or OPENDIR will fill.
    place: Option<OwnedSemaphorePermit>,
    _request: OwnedSemaphorePermit,
}

/// What comes back for a request.
pub(crate) enum Answer {
    Reply(Reply),
    /// An open file or directory: closed when dropped, so also when nobody waits any more.
    Opened(OpenHandle),
}

/// An answer under way.
pub(crate) struct Pending {
    reply: oneshot::Receiver<Answer>,
    since: Instant,
}

impl Session {
    /// Sends requests in this order and in one go. A request that opens something needs a `place`.
    ///
    /// # Errors
    /// [`Failure::Lost`] if the connection has ended, [`Failure::Silent`] if it takes nothing.
    pub(crate) async fn send(
        self: &Arc<Self>,
        requests: &[Request<'_>],
        mut place: Option<OwnedSemaphorePermit>,
    ) -> Result<Vec<Pending>, Failure> {
        let count = u32::try_from(requests.len()).expect("a few requests at once");
        let permits = Arc::clone(&self.requests).acquire_many_owned(count);
        let mut permits = self.in_time(permits).await?.map_err(|_| self.failure())?;
        let mut out = BytesMut::new();
        let mut unsent = Unsent {
            session: self,
            ids: Vec::with_capacity(requests.len()),
        };
        let mut pending = Vec::with_capacity(requests.len());
        for request in requests {
            let permit = permits.split(1).expect("as many as there are requests");
            let place = request.opens().then(|| place.take()).flatten();
            let (id, reply) = self.register(permit, place)?;
            unsent.ids.push(id);
            request.encode(id, &mut out);
            pending.push(reply);
        }
        let sent = self.in_time(self.link.data(self.channel, out.freeze()));
        match sent.await? {
            Ok(()) => unsent.ids.clear(),
            Err(_) => return Err(self.failure()),
        }
        Ok(pending)
    }

    /// Waits for one answer.
    ///
    /// # Errors
    /// [`Failure::Lost`] if the connection ended without it. [`Failure::Silent`] if the server
    /// answered nothing at all for as long as patience lasts; the connection is given up then.
    pub(crate) async fn wait(&self, mut pending: Pending) -> Result<Answer, Failure> {
        let latest = pending.since + self.patience * PATIENCE_FACTOR_MAX;
        loop {
            let progress = lock(&self.state).progress.max(pending.since);
            let deadline = (progress + self.patience).min(latest);
            match tokio::time::timeout_at(deadline, &mut pending.reply).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(_)) => return Err(self.failure()),
                Err(_) if deadline < latest && lock(&self.state).progress > progress => {}
                Err(_) => {
                    self.end_with(Failure::Silent(self.patience));
                    return Err(Failure::Silent(self.patience));
                }
            }
        }
    }

    /// Waits for an answer that is no handle.
    pub(crate) async fn reply(&self, pending: Pending) -> Result<Reply, Failure> {
        match self.wait(pending).await? {
            Answer::Reply(reply) => Ok(reply),
            Answer::Opened(_) => Err(UNASKED),
        }
    }

    /// Waits for attributes.
    pub(crate) async fn attrs(&self, pending: Pending) -> Result<Attrs, Failure> {
        match self.reply(pending).await? {
            Reply::Attrs(attrs) => Ok(attrs),
            other => Err(unexpected(&other)),
        }
    }

    /// Waits for names.
    pub(crate) async fn names(&self, pending: Pending) -> Result<Vec<Name>, Failure> {
        match self.reply(pending).await? {
            Reply::Names(names) => Ok(names),
            other => Err(unexpected(&other)),
        }
    }

    /// Waits for the one name that answers a REALPATH.
    pub(crate) async fn real_path(&self, pending: Pending) -> Result<Bytes, Failure> {
        let names = self.names(pending).await?;
        match <[Name; 1]>::try_from(names) {
            Ok([name]) if name.name.starts_with(b"/") => Ok(name.name),
            _ => Err(Failure::Malformed("a real path is not one absolute path")),
        }
    }

    /// Waits for an open file or directory.
    pub(crate) async fn opened(&self, pending: Pending) -> Result<OpenHandle, Failure> {
        match self.wait(pending).await? {
            Answer::Opened(handle) => Ok(handle),
            Answer::Reply(other) => Err(unexpected(&other)),
        }
    }

    /// The path on the server.
    pub(crate) fn full_path(&self, path: &OriginPath) -> Vec<u8> {
        if path.is_root() {
            return self.root.to_vec();
        }
        let root = self.root.strip_suffix(b"/").unwrap_or(&self.root);
        [root, b"/", path.as_bytes()].concat()
    }

    /// A real path on the server as one below the root; `None` if it lies outside.
    pub(crate) fn below_root(&self, real: &[u8]) -> Option<OriginPath> {
        let root = self.root.strip_suffix(b"/").unwrap_or(&self.root);
        match real.strip_prefix(root)? {
            b"" => Some(OriginPath::default()),
            rest => OriginPath::new(rest.strip_prefix(b"/")?).ok(),
        }
    }

    /// How many answers are under way.
    pub(crate) fn load(&self) -> usize {
        lock(&self.state).waiting.len()
    }

    /// True once it is of no more use.
    pub(crate) fn is_ended(&self) -> bool {
        self.end.is_cancelled()
    }

    /// Gives the connection up; whoever waits is told why.
    pub(crate) fn end_with(&self, failure: Failure) {
        let waiting = {
            let mut state = lock(&self.state);
            state.failure.get_or_insert(failure);
            std::mem::take(&mut state.waiting)
        };
        self.end.cancel();
        self.requests.close();
        self.places.close();
        drop(waiting);
    }

    /// Why it ended.
    fn failure(&self) -> Failure {
        let failure = lock(&self.state).failure.clone();
        failure.unwrap_or_else(|| Failure::lost(std::io::ErrorKind::ConnectionAborted))
    }

    fn register(
        &self,
        request: OwnedSemaphorePermit,
        place: Option<OwnedSemaphorePermit>,
    ) -> Result<(u32, Pending), Failure> {
        let (tx, reply) = oneshot::channel();
        let since = Instant::now();
        let mut state = lock(&self.state);
        if let Some(failure) = &state.failure {
            return Err(failure.clone());
        }
        // At most REQUESTS_MAX of 2^32 are in use.
        while state.waiting.contains_key(&state.next_id) {
            state.next_id = state.next_id.wrapping_add(1);
        }
        let id = state.next_id;
        state.next_id = id.wrapping_add(1);
        if state.waiting.is_empty() {
            state.progress = since;
        }
        let waiter = Waiter {
            reply: tx,
            place,
            _request: request,
        };
        state.waiting.insert(id, waiter);
        Ok((id, Pending { reply, since }))
    }

    /// Waits for something that the connection's other tasks bring about.
    async fn in_time<T>(&self, work: impl Future<Output = T>) -> Result<T, Failure> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            () = self.end.cancelled() => Err(self.failure()),
            () = tokio::time::sleep(self.patience) => Err(Failure::Silent(self.patience)),
        }
    }
}

/// Requests that are registered and not yet on their way: forgotten when dropped.
struct Unsent<'a> {
    session: &'a Session,
    ids: Vec<u32>,
}

impl Drop for Unsent<'_> {
    fn drop(&mut self) {
        let mut waiters = Vec::new();
        let mut state = lock(&self.session.state);
        for id in &self.ids {
            waiters.extend(state.waiting.remove(id));
        }
    }
}

const UNASKED: Failure = Failure::Malformed("an answer is not to what was asked");

/// The failure that an answer of another kind means.
pub(crate) fn unexpected(reply: &Reply) -> Failure {
    match reply {
        Reply::Status(status::OK) => UNASKED,
        Reply::Status(code) => Failure::Status(*code),
        _ => UNASKED,
    }
}
