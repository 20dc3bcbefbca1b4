//! What can go wrong while a file's tags are read.

use std::io;

use musicfs_core::error::ErrorKind;

/// Why a file yielded no tags.
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    /// The source failed; says nothing about the file.
    #[error("read {len} bytes at offset {offset}")]
    Io {
        /// Where the failed read began.
        offset: u64,
        /// How many bytes it asked for.
        len: u64,
        /// What the source said.
        source: io::Error,
    },
    /// No known audio format begins like this.
    #[error("recognise the file as audio")]
    Unrecognised,
    /// The format was recognised, but its structure is broken.
    #[error("parse the file: {reason}")]
    Malformed {
        /// What was expected, in a few words.
        reason: &'static str,
    },
    /// Reading on would have cost more than any honest file does.
    #[error("parse the file within the limit of {limit}")]
    LimitExceeded {
        /// Which limit.
        limit: &'static str,
    },
}

impl ExtractError {
    /// What the caller can do. Exhaustive on purpose: a new variant must choose.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { .. } => ErrorKind::Unavailable,
            Self::Unrecognised | Self::Malformed { .. } | Self::LimitExceeded { .. } => {
                ErrorKind::Unsupported
            }
        }
    }
}
