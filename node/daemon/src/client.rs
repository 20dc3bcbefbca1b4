//! The way from a command to the daemon: gRPC over the instance's unix socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use musicfs_proto::v1::music_fs_client::MusicFsClient;
use musicfs_proto::v1::peers_client;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::error::Error;

/// How long the daemon may take to answer; for a stream, to begin to.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection to a daemon. Cheap to clone.
pub(crate) type Client = MusicFsClient<Channel>;

/// The same, for what looks at other nodes.
pub(crate) type PeersClient = peers_client::PeersClient<Channel>;

/// Connects to the daemon behind `socket`.
///
/// # Errors
/// [`Error::NotRunning`] if nobody listens there, [`Error::Connect`] if the system refuses.
pub(crate) async fn connect(socket: &Path) -> Result<Client, Error> {
    Ok(MusicFsClient::new(channel(socket).await?))
}

/// The same, to ask about peers.
///
/// # Errors
/// As [`connect`].
pub(crate) async fn connect_peers(socket: &Path) -> Result<PeersClient, Error> {
    Ok(PeersClient::new(channel(socket).await?))
}

async fn channel(socket: &Path) -> Result<Channel, Error> {
    // The first connection tells why there is none; the channel's own errors hide it.
    if let Err(source) = UnixStream::connect(socket).await {
        let socket = socket.to_owned();
        return Err(match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                Error::NotRunning { socket }
            }
            _ => Error::Connect { socket, source },
        });
    }
    let path: PathBuf = socket.to_owned();
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    // The address is a formality: HTTP/2 wants an authority, the connector ignores it.
    let endpoint = Endpoint::from_static("http://musicfs.invalid").timeout(ANSWER_TIMEOUT);
    match endpoint.connect_with_connector(connector).await {
        Ok(channel) => Ok(channel),
        Err(error) => Err(Error::Connect {
            socket: socket.to_owned(),
            source: io::Error::other(error),
        }),
    }
}

/// Whether somebody listens on `socket`.
pub(crate) async fn answers(socket: &Path) -> bool {
    UnixStream::connect(socket).await.is_ok()
}

/// Turns what a call failed with into the error of `action`, a verb with its object.
pub(crate) fn refused(action: &'static str) -> impl Fn(Status) -> Error {
    move |status| {
        // A source means that the connection broke; the daemon itself sends none.
        let broke = std::error::Error::source(&status).is_some();
        let status = match status.code() {
            Code::Unimplemented => Status::unimplemented("the daemon does not offer it"),
            Code::Cancelled | Code::DeadlineExceeded => {
                Status::deadline_exceeded("the daemon does not answer in time")
            }
            code if broke => Status::new(code, "the daemon ended before it answered"),
            _ => status,
        };
        Error::Rpc {
            action,
            status: Box::new(status),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_nobody_listens_on_means_not_running() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("default.sock");
        let missing = connect(&socket).await.unwrap_err();
        assert!(matches!(missing, Error::NotRunning { .. }), "{missing}");
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        let stale = connect(&socket).await.unwrap_err();
        assert!(matches!(stale, Error::NotRunning { .. }), "{stale}");
        assert!(!answers(&socket).await);
    }
}
