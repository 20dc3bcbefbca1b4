//! The one thread that writes.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::SystemTime;

use musicfs_core::version::VersionKey;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::change::{Batch, Commit, Layout, Terms};
use crate::db::unix_nanos;
use crate::error::{Attempt, Error};
use crate::write;

/// Jobs that wait for the writer; whoever sends more waits itself.
const JOBS_MAX: usize = 8;

type Job = Box<dyn FnOnce(&mut State) + Send>;

/// Sends work to the writer thread. Dropping it waits for the work sent and checkpoints the log.
pub struct Writer {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    listeners: Arc<()>,
}

/// While it lives, commits say what became of files. Cloning is free.
#[derive(Clone)]
pub struct Listening {
    _held: Arc<()>,
}

/// An origin as the configuration describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginSpec {
    /// Its id.
    pub name: String,
    /// Its kind's name.
    pub kind: String,
    /// What a person calls it; no secrets.
    pub display_name: String,
    /// Its place among the origins: of a file that several have, the lowest shows its copy.
    pub priority: u32,
}

struct State {
    connection: Connection,
    terms: Terms,
}

impl State {
    /// Runs `work` in a transaction: all of it is committed, or nothing.
    fn transact<T>(
        &mut self,
        work: impl FnOnce(&Connection, &Terms) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let transaction = self.connection.transaction().attempt("write to")?;
        let outcome = work(&transaction, &self.terms)?;
        transaction.commit().attempt("write to")?;
        Ok(outcome)
    }
}

impl Writer {
    pub(crate) fn start(connection: Connection, layout: Layout) -> Result<Self, Error> {
        connection.set_prepared_statement_cache_capacity(64);
        let (jobs, mut inbox) = mpsc::channel::<Job>(JOBS_MAX);
        let listeners = Arc::new(());
        let terms = Terms {
            layout,
            listeners: Arc::downgrade(&listeners),
        };
        let mut state = State { connection, terms };
        let run = move || {
            while let Some(job) = inbox.blocking_recv() {
                job(&mut state);
            }
            if let Err(error) = state
                .connection
                .execute_batch("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA optimize;")
            {
                tracing::warn!(%error, "the index's log was not checkpointed");
            }
        };
        let thread = thread::Builder::new()
            .name("index-writer".into())
            .spawn(run)
            .map_err(|source| Error::Io {
                action: "start the writer of",
                path: "index".into(),
                source,
            })?;
        Ok(Self {
            jobs: Some(jobs),
            thread: Some(thread),
            listeners,
        })
    }

    async fn submit<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut State) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (reply, outcome) = oneshot::channel();
        let job: Job = Box::new(move |state| {
            // Nobody waits any more: the work is done all the same.
            let _ = reply.send(work(state));
        });
        let jobs = self.jobs.as_ref().ok_or(Error::Closed)?;
        jobs.send(job).await.map_err(|_| Error::Closed)?;
        outcome.await.map_err(|_| Error::Closed)?
    }

    /// Has commits say what becomes of files for as long as the answer is held. Without it they do
    /// not look.
    pub fn listen(&self) -> Listening {
        Listening {
            _held: self.listeners.clone(),
        }
    }

    /// Makes sure that the index knows these origins; returns their rows in the same order.
    ///
    /// Where priorities changed, other copies of files show: the commit says which. Origins that are
    /// not named stay as they are: see [`Writer::set_hidden`].
    ///
    /// # Errors
    /// What SQLite says; nothing was changed then. The same holds for every function here.
    pub async fn configure(&self, origins: Vec<OriginSpec>) -> Result<(Vec<i64>, Commit), Error> {
        self.submit(move |state| {
            let now = unix_nanos(SystemTime::now());
            state.transact(|db, terms| write::configure(db, terms, &origins, now))
        })
        .await
    }

    /// Notes the MD5 of the whole content of a version, which the caller knows for certain.
    ///
    /// Where the origin names content by plain ETags (32 hexadecimal digits), this also shows
    /// whether they are MD5s. One that is none settles that for as long as the origin is the same
    /// place.
    ///
    /// # Errors
    /// As above.
    pub async fn note_md5(&self, version: VersionKey, md5: [u8; 16]) -> Result<(), Error> {
        self.submit(move |state| state.transact(|db, _| write::note_md5(db, version, md5)))
            .await
    }

    /// Commits the changes of a batch.
    ///
    /// # Errors
    /// As above.
    pub async fn apply(&self, batch: Batch) -> Result<Commit, Error> {
        self.submit(move |state| state.transact(|db, terms| write::apply(db, terms, &batch)))
            .await
    }

    /// Rebuilds the tree if the layout is not the one that it was built with.
    ///
    /// Readers see the old tree until the new one is committed.
    ///
    /// # Errors
    /// As above.
    pub async fn rebuild_if_changed(&self) -> Result<Option<Commit>, Error> {
        self.submit(move |state| {
            state.transact(|db, terms| {
                let current: Option<String> = rusqlite::OptionalExtension::optional(db.query_row(
                    "SELECT value FROM meta WHERE key = 'layout'",
                    [],
                    |row| row.get(0),
                ))
                .attempt("read")?;
                if current.is_some_and(|current| current == terms.layout.fingerprint()) {
                    return Ok(None);
                }
                write::rebuild(db, terms, unix_nanos(SystemTime::now())).map(Some)
            })
        })
        .await
    }

    /// Takes an origin's files out of the tree without forgetting them, or puts them back.
    ///
    /// # Errors
    /// As above.
    pub async fn set_hidden(&self, origin: i64, hidden: bool) -> Result<Commit, Error> {
        self.submit(move |state| {
            let now = unix_nanos(SystemTime::now());
            state.transact(|db, terms| write::set_hidden(db, terms, origin, hidden, now))
        })
        .await
    }

    /// Removes up to `limit` files of an origin (1 to [`FORGET_FILES_MAX`](crate::FORGET_FILES_MAX);
    /// another number is taken as the nearer end), and the origin itself with the last of them.
    ///
    /// True if nothing is left of it; else call again. Others write between the steps, and one that
    /// was cut off is taken up by the next call.
    ///
    /// # Errors
    /// As above.
    pub async fn forget_some(&self, origin: i64, limit: usize) -> Result<(Commit, bool), Error> {
        self.submit(move |state| {
            let now = unix_nanos(SystemTime::now());
            state.transact(|db, terms| write::forget_some(db, terms, origin, limit, now))
        })
        .await
    }

    /// Pins a path of the tree ('' or '/': everything), whether anything lies there or not.
    ///
    /// False if it is pinned already; it keeps its time then.
    ///
    /// # Errors
    /// [`Error::PinPath`] if it is too long, [`Error::PinsFull`] if there are too many; else as above.
    pub async fn pin(&self, path: String, now_unix: i64) -> Result<bool, Error> {
        self.submit(move |state| state.transact(|db, _| write::pin(db, &path, now_unix)))
            .await
    }

    /// Takes a pin away; false if this very path was not pinned.
    ///
    /// # Errors
    /// As above.
    pub async fn unpin(&self, path: &str) -> Result<bool, Error> {
        let path = path.to_owned();
        self.submit(move |state| state.transact(|db, _| write::unpin(db, &path)))
            .await
    }

    /// Notes when an origin was last listed completely, in seconds since 1970.
    ///
    /// # Errors
    /// As above.
    pub async fn mark_synced(&self, origin: i64, unix_seconds: i64) -> Result<(), Error> {
        self.submit(move |state| {
            state.transact(|db, _| {
                db.execute(
                    "UPDATE origins SET last_sync_unix = ?2 WHERE id = ?1",
                    (origin, unix_seconds),
                )
                .map(drop)
                .attempt("write to")
            })
        })
        .await
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the index's writer ended in a panic");
        }
    }
}
