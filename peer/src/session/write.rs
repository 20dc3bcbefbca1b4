//! Writing to somebody who may not read.

use std::time::Duration;

use bytes::Bytes;
use quinn::{SendStream, WriteError};

/// Why the rest is not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing was taken for too long.
    Stalled,
    /// The other end does not want it.
    Stopped,
    /// The connection is over.
    Lost,
}

/// Hands `bytes` over to the connection, which sends them as the other end makes room; gives up once it made
/// none for `stall_max`. Copies nothing.
pub(super) async fn write_all(
    stream: &mut SendStream,
    bytes: Bytes,
    stall_max: Duration,
) -> Result<(), Fault> {
    let mut left = [bytes];
    while !left[0].is_empty() {
        let written = tokio::time::timeout(stall_max, stream.write_chunks(&mut left)).await;
        match written {
            Err(_) => return Err(Fault::Stalled),
            Ok(Ok(_)) => {}
            Ok(Err(WriteError::Stopped(_))) => return Err(Fault::Stopped),
            Ok(Err(_)) => return Err(Fault::Lost),
        }
    }
    Ok(())
}
