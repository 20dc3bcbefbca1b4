//! Why sessions are refused and end, and the codes that say so.

use std::fmt;

use quinn::VarInt;

use crate::binding::BindingError;
use crate::tls::PeerIdError;
use crate::wire::Violation;

/// Why a node closes a connection, as the other end is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseCode {
    /// It is ending, or leaves the cluster.
    Ending,
    /// There is another connection between the two, which is kept.
    Duplicate,
    /// Both ends are one node.
    Itself,
    /// It speaks another major version of the protocol.
    Version,
    /// The other end broke the protocol.
    Violation,
    /// The other end did not prove who it is.
    Unproven,
    /// The other end was too slow: no Hello, or no news taken.
    Slow,
    /// It has as many connections as it takes.
    Full,
    /// Another program that is connected to it, or is it, uses the key of the other end.
    Twin,
}

/// Why one stream is given up, as the other end is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamCode {
    /// Nobody wants it any more.
    Unwanted,
    /// What came on it breaks the protocol.
    Violation,
    /// The rest of the payload cannot be read any more.
    NotHeld,
    /// The other end took nothing for too long.
    Stalled,
    /// There is no use for such a stream.
    Unsupported,
}

/// Why there is no session. Messages read after "cannot".
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    /// The other end is this node.
    #[error("meet a node: it is this one")]
    Itself,
    /// The other end has this node's key, and is another program.
    #[error("meet a node: it has the key of this one")]
    Twin,
    /// The other end speaks another major version of the protocol.
    #[error("understand a node: it speaks version {major} of the protocol")]
    Version {
        /// Its major version.
        major: u32,
    },
    /// Its certificate does not say who it is.
    #[error("name a node")]
    Unnamed(#[from] PeerIdError),
    /// It did not prove who it is, where its certificate does not say it.
    #[error("name a node: it gave no proof")]
    Unbound,
    /// Its proof proves nothing.
    #[error("name a node")]
    Unproven(#[from] BindingError),
    /// It broke the protocol.
    #[error("meet a node: it sent {0}")]
    Violation(Violation),
    /// It did not introduce itself in time.
    #[error("meet a node: it did not introduce itself in time")]
    Slow,
    /// The other end closed the connection, or it was lost.
    #[error("meet a node: {0}")]
    Ended(Ended),
}

/// Why a session is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// This node closed it.
    Closed,
    /// The other end closed it.
    Left(Left),
    /// Nothing came for too long, or the other end forgot the connection.
    Lost,
    /// The other end broke the protocol: it is told so, and named in the log.
    Violation(Violation),
    /// The other end did not take its news in time.
    Slow,
    /// QUIC failed.
    Failed(quinn::ConnectionError),
}

/// What the other end said when it closed the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// One of the reasons that this version knows.
    For(CloseCode),
    /// A number of a later version.
    Unknown(u64),
}

impl CloseCode {
    const ALL: [Self; 9] = [
        Self::Ending,
        Self::Duplicate,
        Self::Itself,
        Self::Version,
        Self::Violation,
        Self::Unproven,
        Self::Slow,
        Self::Full,
        Self::Twin,
    ];

    /// The number that stands for it, for ever.
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::Ending => 0,
            Self::Duplicate => 1,
            Self::Itself => 2,
            Self::Version => 3,
            Self::Violation => 4,
            Self::Unproven => 5,
            Self::Slow => 6,
            Self::Full => 7,
            Self::Twin => 8,
        }
    }

    /// Closes a connection. `what` is sent along, for whoever debugs the other end.
    pub(crate) fn close(self, connection: &quinn::Connection, what: &str) {
        connection.close(VarInt::from_u32(self.number()), what.as_bytes());
    }

    fn phrase(self) -> &'static str {
        match self {
            Self::Ending => "it is ending",
            Self::Duplicate => "there is another connection to it",
            Self::Itself => "it is this node",
            Self::Version => "it speaks another version of the protocol",
            Self::Violation => "it does not understand what this node says",
            Self::Unproven => "it does not believe who this node is",
            Self::Slow => "this node is too slow for it",
            Self::Full => "it takes no more connections",
            Self::Twin => "it knows another program with the key of this node",
        }
    }
}

impl StreamCode {
    const ALL: [Self; 5] = [
        Self::Unwanted,
        Self::Violation,
        Self::NotHeld,
        Self::Stalled,
        Self::Unsupported,
    ];

    /// The number that stands for it, for ever. QUIC's library says 0 by itself.
    pub(crate) fn number(self) -> VarInt {
        VarInt::from_u32(match self {
            Self::Unwanted => 0,
            Self::Violation => 1,
            Self::NotHeld => 2,
            Self::Stalled => 3,
            Self::Unsupported => 4,
        })
    }

    /// What a number stands for; `None` for one of a later version.
    pub(crate) fn from_number(number: VarInt) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.number() == number)
    }
}

impl Ended {
    /// How a connection came to its end.
    pub(crate) fn of(error: quinn::ConnectionError) -> Self {
        use quinn::ConnectionError as Cause;
        match error {
            Cause::LocallyClosed => Self::Closed,
            Cause::ApplicationClosed(close) => {
                let number = close.error_code.into_inner();
                let known = CloseCode::ALL
                    .into_iter()
                    .find(|code| u64::from(code.number()) == number);
                Self::Left(known.map_or(Left::Unknown(number), Left::For))
            }
            Cause::TimedOut | Cause::Reset => Self::Lost,
            other => Self::Failed(other),
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("this node closed the connection"),
            Self::Left(Left::For(code)) => f.write_str(code.phrase()),
            Self::Left(Left::Unknown(number)) => {
                write!(f, "it closed the connection with code {number}")
            }
            Self::Lost => f.write_str("it stopped answering"),
            Self::Violation(what) => write!(f, "it sent {what}"),
            Self::Slow => f.write_str("it does not take what it is told"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}
