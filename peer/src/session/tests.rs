//! Sessions over real connections on loopback, between honest nodes and with hostile members.

mod exchange;
mod hostile;
mod liars;
mod limits;
mod memory;
mod news;
mod nodes;

use std::time::Duration;

use super::*;

/// Far longer than any of it takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `is_so`.
async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(in_time.is_ok(), "never: {what}");
}

/// The outcome of what must not hang.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    let in_time = tokio::time::timeout(PATIENCE, future).await;
    in_time.expect("it must not hang")
}
