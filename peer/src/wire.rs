//! What nodes say to each other, as frames and as strong types. `docs/protocol.md` is its specification.
//!
//! A frame is a length and a message; what a frame may say is checked here once, and what leaves this
//! module cannot be wrong. Nothing here waits but the reading and writing of frames.

mod answer;
mod frame;
mod news;
mod request;

pub(crate) use answer::{Answer, Proof, Status};
pub(crate) use frame::{FrameError, read_frame};
pub(crate) use news::{
    HAVE_BYTES_MAX, HAVE_OBJECTS_MAX, HAVE_RANGES_MAX, Hello, KNOWN_ADDRESSES_MAX, KNOWN_NODES_MAX,
    KnownNode, News, cost_of, is_dialable,
};
pub(crate) use request::{CHUNKS_COUNT_MAX, Decoded, REQUEST_PAYLOAD_BYTES_MAX, Request};

/// The protocol's major version: nodes of another one do not understand each other.
pub(crate) const MAJOR: u32 = 1;
/// Its minor version: what a node of a lower one does not know, it passes over.
pub(crate) const MINOR: u32 = 0;

/// No message is longer: it holds 4,000 version keys, and a reader can afford it for every stream.
pub(crate) const FRAME_BYTES_MAX: usize = 64 << 10;

/// An encoded manifest is no longer: that of a file of 75 GB.
pub(crate) const MANIFEST_BYTES_MAX: u64 = 32 << 20;

/// What is wrong with a message; reads after "the other end sent".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Violation(pub(crate) &'static str);

#[cfg(test)]
mod tests;
