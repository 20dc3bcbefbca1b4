//! What the driver hears.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::policy::book::Source;
use crate::policy::roster::LinkId;
use crate::session::{Ended, Session};

/// Something happened.
pub(crate) enum Event {
    /// From now on a source says that nodes are at just these addresses.
    Found {
        source: Source,
        addresses: Vec<SocketAddr>,
    },
    /// An address was dialled in vain.
    Failed { dialled: SocketAddr, error: String },
    /// This program dialled itself.
    Itself { dialled: SocketAddr },
    /// Somebody has this node's key, or knows another program that has it.
    Twin {
        address: SocketAddr,
        dialled: Option<SocketAddr>,
    },
    /// There is a new session.
    Met {
        session: Arc<Session>,
        dialled: Option<SocketAddr>,
    },
    /// Whether a link is alive.
    Probed { link: LinkId, is_alive: bool },
    /// An open link ended.
    Ended { link: LinkId, ended: Ended },
}
