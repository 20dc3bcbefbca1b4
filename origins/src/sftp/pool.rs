//! The connections of one origin.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use musicfs_core::version::OriginKey;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::failure::Failure;
use super::session::{self, Connected, Session};
use super::{SftpConfig, lock};

/// Connections to one server at once. Each is one process that encrypts and one that reads at the
/// other end; servers allow ten unauthenticated ones by default (`MaxStartups`).
const CONNECTIONS_MAX: usize = 4;
/// A connection with so many answers under way is helped by another one: more than one stream.
const LOAD_BUSY: usize = 16;
/// After a further connection was refused, the ones at hand must do for so long.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// Gives out connections, and makes them when they are needed. Dropping it ends them all.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    _end: DropGuard,
}

struct Shared {
    config: Arc<SftpConfig>,
    patience: Duration,
    end: CancellationToken,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    sessions: Vec<Arc<Session>>,
    connecting: Option<Connecting>,
    /// When the last further connection was refused.
    refused: Option<Instant>,
    key: Option<OriginKey>,
}

/// The outcome of a connection under way, for all that wait for it.
type Connecting = watch::Receiver<Option<Result<Connected, Failure>>>;

/// A connection to use for one operation.
pub(crate) struct Lease {
    pub(crate) session: Arc<Session>,
    /// True if it was made for this operation: then there is no point in trying again.
    is_fresh: bool,
}

impl Lease {
    /// The connection of something that was opened before.
    pub(crate) fn old(session: Arc<Session>) -> Self {
        Self {
            session,
            is_fresh: false,
        }
    }

    /// True if the operation failed only because the connection had died while nobody used it.
    pub(crate) fn was_stale(&self, failure: &Failure) -> bool {
        !self.is_fresh && matches!(failure, Failure::Lost(_))
    }
}

impl Pool {
    pub(crate) fn new(config: SftpConfig, patience: Duration) -> Self {
        let end = CancellationToken::new();
        let shared = Shared {
            config: Arc::new(config),
            patience,
            end: end.clone(),
            state: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
            _end: end.drop_guard(),
        }
    }

    /// The origin's key as the server last told it.
    pub(crate) fn key(&self) -> Option<OriginKey> {
        lock(&self.shared.state).key.clone()
    }

    /// The connection with the least to do. Never waits for a new one while there is one.
    ///
    /// # Errors
    /// Why none can be made.
    pub(crate) async fn lease(&self) -> Result<Lease, Failure> {
        let found = {
            let mut state = lock(&self.shared.state);
            let found = state.idlest();
            if found.as_ref().is_some_and(|found| found.0 >= LOAD_BUSY) && state.may_grow() {
                self.start(&mut state);
            }
            found
        };
        match found {
            Some((_, session)) => Ok(Lease::old(session)),
            None => self.fresh().await,
        }
    }

    /// A connection made now, or one of those left if there are as many as may be.
    ///
    /// # Errors
    /// Why it cannot be made.
    pub(crate) async fn fresh(&self) -> Result<Lease, Failure> {
        let mut connecting = {
            let mut state = lock(&self.shared.state);
            let found = state.idlest();
            match found {
                Some((_, session)) if state.sessions.len() >= CONNECTIONS_MAX => {
                    return Ok(Lease {
                        session,
                        is_fresh: true,
                    });
                }
                _ => self.start(&mut state),
            }
        };
        let ended = || Failure::lost(std::io::ErrorKind::ConnectionAborted);
        let outcome = connecting.wait_for(Option::is_some).await;
        let outcome = outcome.ok().and_then(|outcome| outcome.clone());
        Ok(Lease {
            session: outcome.unwrap_or_else(|| Err(ended()))?.session,
            is_fresh: true,
        })
    }

    /// Lets go of all connections: what they know of the root is no longer true. What is under
    /// way on them goes on.
    pub(crate) fn forget(&self) {
        lock(&self.shared.state).sessions.clear();
    }

    /// Starts to connect, unless that is under way.
    fn start(&self, state: &mut State) -> Connecting {
        // One whose task is gone without an outcome has no sender.
        let under_way = state.connecting.as_ref();
        if let Some(connecting) = under_way.filter(|connecting| connecting.has_changed().is_ok()) {
            return connecting.clone();
        }
        let (tx, rx) = watch::channel(None);
        state.connecting = Some(rx.clone());
        let shared = Arc::clone(&self.shared);
        // Ends within the patience, or when the pool is dropped.
        tokio::spawn(async move {
            let end = shared.end.child_token();
            let outcome = tokio::select! {
                biased;
                () = shared.end.cancelled() => Err(Failure::lost(std::io::ErrorKind::ConnectionAborted)),
                outcome = session::connect(&shared.config, shared.patience, end) => outcome,
            };
            shared.take(&outcome);
            tx.send_replace(Some(outcome));
        });
        rx
    }
}

impl Shared {
    fn take(&self, outcome: &Result<Connected, Failure>) {
        let mut state = lock(&self.state);
        state.connecting = None;
        match outcome {
            Ok(connected) => {
                state.sessions.push(Arc::clone(&connected.session));
                state.key = Some(connected.key.clone());
                state.refused = None;
            }
            Err(failure) => {
                tracing::debug!(origin = %self.config.id, ?failure, "no connection");
                state.refused = Some(Instant::now());
            }
        }
    }
}

impl State {
    /// The live connection with the fewest answers under way, and how many that are.
    fn idlest(&mut self) -> Option<(usize, Arc<Session>)> {
        self.sessions.retain(|session| !session.is_ended());
        self.sessions
            .iter()
            .map(|session| (session.load(), session))
            .min_by_key(|(load, _)| *load)
            .map(|(load, session)| (load, Arc::clone(session)))
    }

    fn may_grow(&self) -> bool {
        let is_refused = self.refused.is_some_and(|at| at.elapsed() < RETRY_AFTER);
        self.sessions.len() < CONNECTIONS_MAX && self.connecting.is_none() && !is_refused
    }
}
