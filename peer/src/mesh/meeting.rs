//! From a connection to a session.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::{Connecting, Connection};

use super::shared::Shared;
use crate::binding::Role;
use crate::policy::reach::canonical;
use crate::session::{CloseCode, Ended, Left, Local, Session, SessionError};
use crate::tls::SERVER_NAME;

/// How long a handshake may take: several round trips of the longest link, with a Retry among them.
const HANDSHAKE_WAIT_MAX: Duration = Duration::from_secs(5);

/// What it takes to meet a node.
pub(super) struct Meeting {
    pub(super) endpoint: quinn::Endpoint,
    pub(super) client: quinn::ClientConfig,
    pub(super) local: Arc<Local>,
    pub(super) shared: Arc<Shared>,
}

/// What became of a connection.
pub(super) enum Outcome {
    /// There is a session.
    Met(Arc<Session>),
    /// The other end is this program.
    Itself,
    /// The other end has this node's key, or knows another program that has it.
    Twin,
    /// Anything else.
    Failed(MeetError),
}

/// Why there is no session. Messages read after "cannot".
#[derive(Debug, thiserror::Error)]
pub(super) enum MeetError {
    /// It cannot be dialled at all.
    #[error("dial a node")]
    Dial(#[from] quinn::ConnectError),
    /// The handshake failed.
    #[error("connect to a node")]
    Connect(#[from] quinn::ConnectionError),
    /// The handshake did not end.
    #[error("connect to a node: no answer within {} ms", HANDSHAKE_WAIT_MAX.as_millis())]
    Slow,
    /// The other end did not become a peer.
    #[error(transparent)]
    Session(#[from] SessionError),
}

impl Meeting {
    /// Dials an address.
    pub(super) async fn dial(&self, address: SocketAddr) -> Outcome {
        let client = self.client.clone();
        match self.endpoint.connect_with(client, address, SERVER_NAME) {
            Ok(connecting) => self.meet(connecting, Role::Client).await,
            Err(error) => Outcome::Failed(error.into()),
        }
    }

    /// Makes a session of a connection that begins.
    pub(super) async fn meet(&self, connecting: Connecting, role: Role) -> Outcome {
        let session = match shake_hands(connecting).await {
            Ok(connection) => {
                let counters = |node| self.shared.records.of(node).counters.clone();
                Session::introduce(connection, role, &self.local, counters).await
            }
            Err(error) => return Outcome::Failed(error),
        };
        match session {
            Ok(session) => Outcome::Met(session),
            Err(SessionError::Itself) => Outcome::Itself,
            Err(SessionError::Twin) => Outcome::Twin,
            Err(error) => match &error {
                // The other end was faster to see it.
                SessionError::Ended(Ended::Left(Left::For(CloseCode::Itself))) => Outcome::Itself,
                SessionError::Ended(Ended::Left(Left::For(CloseCode::Twin))) => Outcome::Twin,
                _ => Outcome::Failed(error.into()),
            },
        }
    }
}

async fn shake_hands(connecting: Connecting) -> Result<Connection, MeetError> {
    let connected = tokio::time::timeout(HANDSHAKE_WAIT_MAX, connecting).await;
    Ok(connected.map_err(|_| MeetError::Slow)??)
}

/// Where the other end of a session is.
pub(super) fn address_of(session: &Session) -> SocketAddr {
    canonical(session.remote_address())
}
