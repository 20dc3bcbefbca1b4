//! What goes into the machine and comes out of it.

use std::net::SocketAddr;

use musicfs_core::id::NodeId;
use musicfs_core::peer::FoundBy;

/// One link, named by the driver, never twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LinkId(pub(crate) u64);

/// A connection whose ends have said who they are.
#[derive(Clone, Debug)]
pub(crate) struct Met {
    pub(crate) link: LinkId,
    /// Who is at the other end.
    pub(crate) node: NodeId,
    /// What the program at the other end drew when it started.
    pub(crate) start: u64,
    /// The other end, in its canonical form.
    pub(crate) address: SocketAddr,
    /// Where the other end accepts connections, as it says; 0 for nowhere.
    pub(crate) listen_port: u16,
    /// The address that this node dialled; `None` if the other end dialled.
    pub(crate) dialled: Option<SocketAddr>,
}

/// Why a link is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Another link between the two stays.
    Surplus,
    /// Another program uses the same node key.
    Twin,
    /// As many nodes are connected as may be.
    Full,
}

/// What became of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The other end said goodbye.
    Left,
    /// The other end prefers another link between the two.
    Surplus,
    /// The other end says that another program uses this node's key.
    Twin,
    /// Anything else.
    Broken,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Dial this address, then tell [`Roster::met`] or [`Roster::failed`].
    Dial(SocketAddr),
    /// Find out whether this link is alive, then tell [`Roster::probed`].
    Probe(LinkId),
    /// Serve and use this link, then tell [`Roster::ended`].
    Open(LinkId),
    /// Close this link. If it was open, [`Roster::ended`] is told all the same.
    Close(LinkId, Reason),
    /// Tell all linked nodes whom this node knows.
    Tell,
    /// Note something for people.
    Report(Report),
}

/// Something that people may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// A node is connected.
    Connected {
        node: NodeId,
        address: SocketAddr,
        found_by: FoundBy,
    },
    /// A node is not connected any more.
    Lost {
        node: NodeId,
        address: SocketAddr,
        left: bool,
    },
    /// Two programs use the key of one node; said once of each.
    Twins {
        node: NodeId,
        first: SocketAddr,
        second: SocketAddr,
    },
    /// Another program uses the key of this node; said once.
    OwnTwin { address: SocketAddr },
}

/// How a node is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeView {
    pub(crate) node: NodeId,
    /// The link in use.
    pub(crate) link: Option<LinkId>,
    pub(crate) is_lost: bool,
    pub(crate) address: SocketAddr,
    pub(crate) found_by: FoundBy,
}

/// A node told to others, with addresses to dial; not empty.
pub(crate) type Known = (NodeId, Vec<SocketAddr>);

impl Met {
    /// Where the other end accepts connections.
    pub(super) fn listen(&self) -> Option<SocketAddr> {
        let mut address = self.address;
        address.set_port(self.listen_port);
        (self.listen_port != 0).then_some(address)
    }
}
