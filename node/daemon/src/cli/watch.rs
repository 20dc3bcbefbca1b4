//! The commands that look at other nodes and at what happens.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum, ValueHint};

/// `musicfs peers`.
#[derive(Debug, Subcommand)]
pub(crate) enum PeersCommand {
    /// List the nodes of the cluster that this one knows
    List,
    /// Show all that is known of a node
    Show {
        /// The start of its id, or its name
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Measure a round trip to a node
    Ping {
        /// The start of its id, or its name
        #[arg(value_name = "ID")]
        id: String,
    },
}

/// `musicfs locate`.
#[derive(Args, Debug)]
pub(crate) struct LocateArgs {
    /// A file: a path below the mount point, or relative to it
    #[arg(value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub(crate) path: PathBuf,
}

/// `musicfs events`.
#[derive(Args, Debug)]
pub(crate) struct EventsArgs {
    /// Only events of this type; may be repeated
    #[arg(long = "type", value_enum, value_name = "TYPE")]
    pub(crate) types: Vec<EventType>,
    /// Only events of this origin, or of the peer with this id
    #[arg(long, value_name = "ID")]
    pub(crate) origin: Option<String>,
}

/// What can happen. Written as in the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum EventType {
    /// A file joined the tree
    FileAdded,
    /// A file left the tree
    FileRemoved,
    /// A file's content or place in the tree changed
    FileModified,
    /// A file was opened
    FileAccessed,
    /// An origin answers again
    OriginConnected,
    /// An origin stopped answering
    OriginDisconnected,
    /// A scan began
    SyncStarted,
    /// A scan ended
    SyncCompleted,
    /// Cached data was dropped for want of room
    CacheEviction,
    /// Cached data did not match its checksum
    ChunkCorrupt,
    /// A peer connected
    PeerConnected,
    /// A peer is gone
    PeerDisconnected,
}
