//! What is told without being asked for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::Bytes;
use musicfs_core::extents::{BLOCK_BYTES, Extents};
use musicfs_core::id::NodeId;
use musicfs_core::peer::{Held, HoldingChanges};
use musicfs_core::version::VersionKey;
use musicfs_proto::peer::v1;
use musicfs_proto::peer::v1::news::What;
use prost::Message;

use super::frame::to_frame;
use super::{FRAME_BYTES_MAX, Violation};
use crate::binding::Binding;

/// Versions that a node announces at most: 5 MB of memory at each of the others, and with files of 35 MB
/// a cache of 7 TB.
pub(crate) const HAVE_OBJECTS_MAX: usize = 200_000;
/// Ranges of one version that are announced: what is played in sequence has a few, and a version in
/// more pieces is of little use to others.
pub(crate) const HAVE_RANGES_MAX: usize = 64;
/// Nodes that one message names: a full mesh has no more.
pub(crate) const KNOWN_NODES_MAX: usize = 64;
/// Addresses of one node that are told: those of a machine with several networks.
pub(crate) const KNOWN_ADDRESSES_MAX: usize = 8;
/// A name or a version in a Hello, in bytes: 64 characters of any script.
pub(super) const TEXT_BYTES_MAX: usize = 256;

const VERSION_BYTES: usize = 16;

/// One frame of a stream of news.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum News {
    /// The first.
    Hello(Hello),
    /// What the sender holds from now on.
    Have(HoldingChanges),
    /// Whom the sender is connected to.
    Known(Vec<KnownNode>),
    /// The sender is ending.
    Goodbye,
    /// Something of a later version; to be passed over.
    Unknown,
}

/// How a node introduces itself.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Hello {
    /// The protocol's major version.
    pub(crate) major: u32,
    /// Its minor version.
    pub(crate) minor: u32,
    /// What it calls itself, as it says.
    pub(crate) name: String,
    /// The version of its program, as it says.
    pub(crate) version: String,
    /// The UDP port that it accepts connections on; 0 if it accepts none.
    pub(crate) listen_port: u16,
    /// Who it is, where certificates do not say that.
    pub(crate) binding: Option<Binding>,
    /// What its program drew when it started.
    pub(crate) start: u64,
}

/// A node, and where it can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KnownNode {
    /// Which.
    pub(crate) id: NodeId,
    /// At most [`KNOWN_ADDRESSES_MAX`].
    pub(crate) addresses: Vec<SocketAddr>,
}

impl News {
    /// Its frame.
    ///
    /// The caller keeps to the bounds: a Have costs at most [`HAVE_BYTES_MAX`] by [`cost_of`].
    pub(crate) fn to_frame(&self) -> Bytes {
        let what = match self {
            Self::Hello(hello) => Some(What::Hello(hello.to_message())),
            Self::Have(changes) => Some(What::Have(have_message(changes))),
            Self::Known(nodes) => Some(What::Known(known_message(nodes))),
            Self::Goodbye => Some(What::Goodbye(v1::Goodbye {})),
            Self::Unknown => None,
        };
        to_frame(&v1::News { what })
    }

    /// What a frame says.
    ///
    /// # Errors
    /// [`Violation`]; the caller closes the connection.
    pub(crate) fn decode(message: Bytes) -> Result<Self, Violation> {
        let news = v1::News::decode(message).map_err(|_| Violation("news that are none"))?;
        Ok(match news.what {
            Some(What::Hello(hello)) => Self::Hello(Hello::from_message(hello)?),
            Some(What::Have(have)) => Self::Have(have_changes(&have)?),
            Some(What::Known(known)) => Self::Known(known_nodes(&known)?),
            Some(What::Goodbye(_)) => Self::Goodbye,
            None => Self::Unknown,
        })
    }
}

impl Hello {
    fn to_message(&self) -> v1::Hello {
        let binding = self.binding.map(|it| Bytes::copy_from_slice(it.as_bytes()));
        v1::Hello {
            major: self.major,
            minor: self.minor,
            name: self.name.clone(),
            version: self.version.clone(),
            listen_port: self.listen_port.into(),
            binding: binding.unwrap_or_default(),
            start: self.start,
        }
    }

    fn from_message(hello: v1::Hello) -> Result<Self, Violation> {
        let binding = match hello.binding.len() {
            0 => None,
            _ => match (&hello.binding[..]).try_into() {
                Ok(bytes) => Some(Binding::from_bytes(bytes)),
                Err(_) => return Err(Violation("a binding that is not 96 bytes long")),
            },
        };
        if hello.name.len().max(hello.version.len()) > TEXT_BYTES_MAX {
            return Err(Violation("a name of more than 256 bytes"));
        }
        let listen_port = u16::try_from(hello.listen_port);
        Ok(Self {
            major: hello.major,
            minor: hello.minor,
            name: hello.name,
            version: hello.version,
            listen_port: listen_port.map_err(|_| Violation("a port above 65535"))?,
            binding,
            start: hello.start,
        })
    }
}

/// What the changes of one Have may cost: the frame, without the fields' and the message's own heads.
pub(crate) const HAVE_BYTES_MAX: usize = FRAME_BYTES_MAX - 32;

/// The most bytes that a change takes of a Have; all of one may cost [`HAVE_BYTES_MAX`].
pub(crate) fn cost_of(held: Option<&Held>) -> usize {
    /// Tags and lengths of a Partial and its fields.
    const PARTIAL: usize = 4 + 2 + 4;
    /// The longest number of 64 bits.
    const NUMBER: usize = 10;
    match held {
        None | Some(Held::Complete) => VERSION_BYTES,
        Some(Held::Ranges(ranges)) => PARTIAL + VERSION_BYTES + 2 * NUMBER * ranges.iter().count(),
    }
}

fn have_message(changes: &HoldingChanges) -> v1::Have {
    let (mut complete, mut gone, mut partial) = (Vec::new(), Vec::new(), Vec::new());
    for (version, held) in changes {
        match held {
            Some(Held::Complete) => complete.extend_from_slice(&version.0),
            None => gone.extend_from_slice(&version.0),
            Some(Held::Ranges(ranges)) => partial.push(v1::Partial {
                version: Bytes::copy_from_slice(&version.0),
                runs: runs_of(ranges),
            }),
        }
    }
    v1::Have {
        complete: complete.into(),
        gone: gone.into(),
        partial,
    }
}

fn have_changes(have: &v1::Have) -> Result<HoldingChanges, Violation> {
    let gone = versions(&have.gone)?.map(|version| (version, None));
    let complete = versions(&have.complete)?.map(|version| (version, Some(Held::Complete)));
    let mut changes: HoldingChanges = gone.chain(complete).collect();
    for partial in &have.partial {
        let ranges = ranges_of(&partial.runs)?;
        changes.push((version(&partial.version)?, Some(Held::Ranges(ranges))));
    }
    Ok(changes)
}

/// A version key in a message.
pub(super) fn version(bytes: &[u8]) -> Result<VersionKey, Violation> {
    let bytes = bytes.try_into();
    bytes
        .map(VersionKey)
        .map_err(|_| Violation("a version key that is not 16 bytes long"))
}

fn versions(bytes: &[u8]) -> Result<impl Iterator<Item = VersionKey> + '_, Violation> {
    let (keys, rest) = bytes.as_chunks::<VERSION_BYTES>();
    match rest {
        [] => Ok(keys.iter().copied().map(VersionKey)),
        _ => Err(Violation("a part of a version key")),
    }
}

fn runs_of(ranges: &Extents) -> Vec<u64> {
    let mut at = 0;
    let mut runs = Vec::with_capacity(2 * ranges.iter().count());
    for range in ranges.iter() {
        runs.extend([range.start - at, range.end - range.start]);
        at = range.end;
    }
    runs
}

fn ranges_of(runs: &[u64]) -> Result<Extents, Violation> {
    let (pairs, rest) = runs.as_chunks::<2>();
    if pairs.is_empty() || !rest.is_empty() || pairs.len() > HAVE_RANGES_MAX {
        return Err(Violation("none, too many or half a range of a version"));
    }
    let mut at = 0_u64;
    let mut ranges = Extents::new();
    for (number, [skipped, held]) in pairs.iter().enumerate() {
        let start = at.checked_add(*skipped);
        let end = start.and_then(|start| start.checked_add(*held));
        let (Some(start), Some(end)) = (start, end) else {
            return Err(Violation("a range behind the end of all files"));
        };
        let is_apart = number == 0 || *skipped > 0;
        let is_last = number + 1 == pairs.len();
        let is_whole = start % BLOCK_BYTES == 0 && (is_last || end % BLOCK_BYTES == 0);
        if *held == 0 || !is_apart || !is_whole {
            return Err(Violation("a range that is empty, or not of whole blocks"));
        }
        ranges.insert(start..end);
        at = end;
    }
    Ok(ranges)
}

/// True if another node may come to something at this address.
pub(crate) fn is_dialable(address: &SocketAddr) -> bool {
    let is_some = match address.ip().to_canonical() {
        IpAddr::V4(ip) => !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast(),
        IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_multicast() && !ip.is_unicast_link_local(),
    };
    is_some && address.port() != 0
}

fn known_message(nodes: &[KnownNode]) -> v1::Known {
    let nodes = nodes.iter().map(|node| v1::KnownNode {
        id: Bytes::copy_from_slice(node.id.as_bytes()),
        addresses: node.addresses.iter().map(address_bytes).collect(),
    });
    v1::Known {
        nodes: nodes.collect(),
    }
}

fn known_nodes(known: &v1::Known) -> Result<Vec<KnownNode>, Violation> {
    if known.nodes.len() > KNOWN_NODES_MAX {
        return Err(Violation("more than 64 nodes"));
    }
    let node = |node: &v1::KnownNode| {
        if node.addresses.len() > KNOWN_ADDRESSES_MAX {
            return Err(Violation("more than 8 addresses of a node"));
        }
        let id = (&node.id[..]).try_into();
        let id = id.map_err(|_| Violation("a node id that is not 16 bytes long"))?;
        let addresses = node.addresses.iter().map(|bytes| address(bytes));
        Ok(KnownNode {
            id: NodeId::from_bytes(id),
            addresses: addresses.collect::<Result<_, _>>()?,
        })
    };
    known.nodes.iter().map(node).collect()
}

fn address_bytes(address: &SocketAddr) -> Bytes {
    let port = address.port().to_be_bytes();
    match address.ip() {
        IpAddr::V4(ip) => [&ip.octets()[..], &port].concat().into(),
        IpAddr::V6(ip) => [&ip.octets()[..], &port].concat().into(),
    }
}

fn address(bytes: &[u8]) -> Result<SocketAddr, Violation> {
    let wrong = Violation("an address that is neither 6 nor 18 bytes long");
    let (ip, port) = bytes.split_last_chunk::<2>().ok_or(wrong)?;
    let ip: IpAddr = match ip.len() {
        4 => Ipv4Addr::from(<[u8; 4]>::try_from(ip).map_err(|_| wrong)?).into(),
        _ => Ipv6Addr::from(<[u8; 16]>::try_from(ip).map_err(|_| wrong)?).into(),
    };
    Ok(SocketAddr::new(ip, u16::from_be_bytes(*port)))
}
