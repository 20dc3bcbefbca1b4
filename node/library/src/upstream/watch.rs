//! Asks an origin now and then whether it is there: often while it is in doubt or away.

use std::sync::Arc;
use std::time::Duration;

use musicfs_core::error::with_causes;
use musicfs_core::health::{HealthState, Vitals};
use tokio::time::Instant;

use super::Upstream;

/// How often an origin is asked that nobody has trouble with.
const CHECK_EVERY: Duration = Duration::from_secs(30);

/// How soon after a failure it is asked, and again until it is clear whether it is away.
const CHECK_IN_DOUBT_AFTER: Duration = Duration::from_secs(2);

/// How often one is asked that is away: once it is back, reads use it within so long.
const CHECK_AWAY_EVERY: Duration = Duration::from_secs(10);

/// How long an answer may take. A disk that wakes up takes longer, and answers the next question.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);

/// Checks until it is dropped.
pub(super) async fn run(upstream: Arc<Upstream>) {
    loop {
        let wait = match upstream.health().state {
            HealthState::Unhealthy => CHECK_AWAY_EVERY,
            _ if upstream.is_in_doubt() => CHECK_IN_DOUBT_AFTER,
            _ => CHECK_EVERY,
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => upstream.check().await,
            // The first failure after a long time: look soon instead of at the usual time.
            () = upstream.doubt.notified(), if wait == CHECK_EVERY => {}
        }
    }
}

impl Upstream {
    fn is_in_doubt(&self) -> bool {
        self.state().vitals.failures() > 0
    }

    async fn check(&self) {
        let started = Instant::now();
        match tokio::time::timeout(CHECK_TIMEOUT, self.origin().check()).await {
            Ok(Ok(())) => self.note(started.elapsed(), Vitals::is_there),
            Ok(Err(error)) => self.blame(&with_causes(&error), Vitals::check_failed),
            Err(_) => {
                let reason = format!("no answer within {} s", CHECK_TIMEOUT.as_secs());
                self.blame(&reason, Vitals::check_failed);
            }
        }
    }
}
