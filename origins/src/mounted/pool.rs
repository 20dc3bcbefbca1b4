//! Threads that may hang, for system calls on a share whose server may not answer.
//!
//! A thread in a system call cannot be called back. So there are few of them, whoever waits for
//! one waits only so long, and while all of them hang nobody waits at all.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use musicfs_core::origin::OriginError;
use musicfs_core::path::OriginPath;

use crate::local::root::io_error;

/// The most threads of one share: enough to keep a server busy, few to lose when it hangs.
const THREADS_MAX: usize = 8;

/// The most calls that wait for a thread.
const QUEUE_MAX: usize = 64;

/// The threads of one share. Dropping it ends those that are idle; the others end when they are.
#[derive(Debug)]
pub(super) struct Pool {
    shared: Arc<Shared>,
}

/// What the pool's threads and its users share.
#[derive(Debug)]
struct Shared {
    /// What the threads are called.
    name: String,
    /// How long a call may take without progress.
    patience: Duration,
    state: Mutex<State>,
    /// Wakes idle threads.
    more: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    /// Descriptors to close. They are not counted into the queue: there are no more of them than
    /// files were open.
    leftovers: Vec<Job>,
    /// What each busy thread does.
    running: BTreeMap<usize, Arc<Pulse>>,
    /// Every thread, busy or idle.
    threads_count: usize,
    idle_count: usize,
    /// Gives each thread a number of its own.
    next_thread: usize,
    is_closed: bool,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("threads_count", &self.threads_count)
            .field("running", &self.running)
            .finish_non_exhaustive()
    }
}

struct Job {
    pulse: Arc<Pulse>,
    run: Box<dyn FnOnce() + Send>,
}

/// When a call last made progress.
#[derive(Debug)]
struct Pulse(Mutex<Instant>);

impl Pulse {
    fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Instant::now())))
    }

    fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn beat(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

/// A call under way. Dropping it gives the call up: it never starts if it has not, and what it
/// returns is dropped on its thread.
pub(super) struct Call<T> {
    shared: Arc<Shared>,
    pulse: Arc<Pulse>,
    outcome: oneshot::Receiver<Result<T, OriginError>>,
    action: &'static str,
    path: OriginPath,
}

impl Pool {
    pub(super) fn new(name: String, patience: Duration) -> Self {
        let shared = Shared {
            name,
            patience,
            state: Mutex::default(),
            more: Condvar::new(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Hands `work` to a thread. `action` and `path` say in errors what is being tried.
    ///
    /// # Errors
    /// [`OriginError::Io`] at once if every thread hangs, or too many calls wait already.
    pub(super) fn start<T: Send + 'static>(
        &self,
        action: &'static str,
        path: &OriginPath,
        work: impl FnOnce() -> Result<T, OriginError> + Send + 'static,
    ) -> Result<Call<T>, OriginError> {
        let (tx, outcome) = oneshot::channel();
        let pulse = Pulse::new();
        let job = Job {
            pulse: Arc::clone(&pulse),
            run: Box::new(move || {
                if !tx.is_closed() {
                    // Nobody waits any more: what came back is dropped here, where that may hang.
                    let _ = tx.send(work());
                }
            }),
        };
        self.shared
            .submit(job)
            .map_err(|source| io_error(action, path, source))?;
        Ok(Call {
            shared: Arc::clone(&self.shared),
            pulse,
            outcome,
            action,
            path: path.clone(),
        })
    }

    /// Drops `value`, which may hang, on a thread of the pool.
    fn drop_later<T: Send + 'static>(&self, value: T) {
        let job = Job {
            pulse: Pulse::new(),
            run: Box::new(move || drop(value)),
        };
        let mut state = self.shared.lock();
        state.leftovers.push(job);
        self.shared.call_thread(&mut state);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().is_closed = true;
        self.shared.more.notify_all();
    }
}

impl<T> Call<T> {
    /// Waits for the end, for as long as the pool is patient.
    ///
    /// # Errors
    /// [`OriginError::TimedOut`], or whatever the call returned.
    pub(super) async fn wait(self) -> Result<T, OriginError> {
        self.wait_while(|| 0).await
    }

    /// The same for a call that may take longer, as long as `progress` goes on.
    pub(super) async fn wait_while(mut self, progress: impl Fn() -> u64) -> Result<T, OriginError> {
        let mut seen = progress();
        loop {
            let deadline = self.pulse.last() + self.shared.patience;
            match tokio::time::timeout_at(deadline.into(), &mut self.outcome).await {
                Ok(Ok(outcome)) => return outcome,
                // It panicked: the panic's hook has said so.
                Ok(Err(stopped)) => {
                    let stopped = std::io::Error::other(stopped);
                    return Err(io_error(self.action, &self.path, stopped));
                }
                Err(_elapsed) => {}
            }
            let now = progress();
            if now == seen {
                return Err(OriginError::TimedOut {
                    action: self.action,
                    path: self.path,
                    after: self.shared.patience,
                });
            }
            seen = now;
            self.pulse.beat();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn submit(self: &Arc<Self>, job: Job) -> Result<(), std::io::Error> {
        let mut state = self.lock();
        let is_stuck = |pulse: &Arc<Pulse>| pulse.last().elapsed() >= self.patience;
        let all_stuck = state.running.len() == THREADS_MAX && state.running.values().all(is_stuck);
        if all_stuck || state.jobs.len() >= QUEUE_MAX {
            drop(state);
            return Err(std::io::Error::other("the mount does not answer"));
        }
        state.jobs.push_back(job);
        self.call_thread(&mut state);
        if state.threads_count == 0 {
            let job = state.jobs.pop_back();
            // What a job holds may come back for the lock when it is dropped.
            drop(state);
            drop(job);
            return Err(std::io::Error::other("no thread can be started"));
        }
        Ok(())
    }

    /// Sees to it that a thread takes what was added last: an idle one, else a new one.
    fn call_thread(self: &Arc<Self>, state: &mut State) {
        if state.jobs.len() + state.leftovers.len() <= state.idle_count {
            self.more.notify_one();
            return;
        }
        if state.threads_count == THREADS_MAX {
            return;
        }
        let shared = Arc::clone(self);
        let number = state.next_thread;
        let spawned = thread::Builder::new()
            .name(self.name.clone())
            .spawn(move || shared.work(number));
        match spawned {
            Ok(_) => {
                state.next_thread += 1;
                state.threads_count += 1;
            }
            Err(error) => {
                tracing::warn!(%error, threads = state.threads_count, "no further thread for a mounted share");
            }
        }
    }

    /// What each thread does, until the pool is dropped and nothing is left to do.
    fn work(&self, number: usize) {
        let mut state = self.lock();
        loop {
            let next = match state.jobs.pop_front() {
                None => state.leftovers.pop().inspect(|job| job.pulse.beat()),
                // Its waiter counts from the start, so its thread is stuck when the waiter leaves.
                job => job,
            };
            if let Some(job) = next {
                state.running.insert(number, job.pulse);
                drop(state);
                // A call that panics drops the sender of its outcome, which ends its waiter.
                let _ = catch_unwind(AssertUnwindSafe(job.run));
                state = self.lock();
                state.running.remove(&number);
            } else if state.is_closed {
                state.threads_count -= 1;
                return;
            } else {
                state.idle_count += 1;
                state = self
                    .more
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                state.idle_count -= 1;
            }
        }
    }
}

/// Something whose drop closes descriptors of the share: that happens on the pool.
#[derive(Debug)]
pub(super) struct OnPool<T: Send + 'static> {
    /// `None` only while this is dropped.
    value: Option<T>,
    pub(super) pool: Arc<Pool>,
}

impl<T: Send + 'static> OnPool<T> {
    pub(super) fn new(value: T, pool: &Arc<Pool>) -> Self {
        Self {
            value: Some(value),
            pool: Arc::clone(pool),
        }
    }

    pub(super) fn value(&self) -> &T {
        self.value.as_ref().expect("taken by drop alone")
    }
}

impl<T: Send + 'static> Drop for OnPool<T> {
    fn drop(&mut self) {
        if let Some(value) = self.value.take() {
            self.pool.drop_later(value);
        }
    }
}

#[cfg(test)]
mod tests;
