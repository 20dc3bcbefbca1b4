//! What others may see of an origin's task: its health and how far it is.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// Whether an origin can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthState {
    /// Not asked yet.
    Unknown,
    /// It answers.
    Healthy,
    /// It answers, but part of it is out of reach.
    Degraded,
    /// It does not answer.
    Unhealthy,
}

/// What the last check of an origin found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The outcome.
    pub state: HealthState,
    /// How long the answer took.
    pub latency: Duration,
    /// What is wrong.
    pub message: Option<String>,
    /// When it was checked, in seconds since 1970.
    pub checked_unix: i64,
}

/// What a pass is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Listing the origin, and reading what is new as it is found.
    Scanning,
    /// Reading what turned out to be new at the end of the listing.
    Indexing,
    /// Done.
    Complete,
}

/// How far a pass is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What it is doing.
    pub phase: Phase,
    /// Files listed.
    pub files_scanned: u64,
    /// Files added, changed, moved or removed.
    pub files_changed: u64,
    /// Content bytes read.
    pub bytes_read: u64,
    /// The directory listed last.
    pub current: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
}

impl Progress {
    pub(super) fn new(phase: Phase) -> Self {
        Self {
            phase,
            files_scanned: 0,
            files_changed: 0,
            bytes_read: 0,
            current: None,
            error: None,
        }
    }
}

/// The state of an origin's task that others may look at.
pub(crate) struct Monitor {
    pub(crate) health: Mutex<Health>,
    pub(crate) progress: watch::Sender<Progress>,
}

impl Monitor {
    pub(crate) fn new() -> Self {
        let health = Health {
            state: HealthState::Unknown,
            latency: Duration::ZERO,
            message: None,
            checked_unix: 0,
        };
        Self {
            health: Mutex::new(health),
            progress: watch::Sender::new(Progress::new(Phase::Scanning)),
        }
    }

    pub(crate) fn health(&self) -> Health {
        self.health
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
