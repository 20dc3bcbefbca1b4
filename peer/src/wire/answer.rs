//! What comes back in front of a payload.

use bytes::Bytes;
use musicfs_proto::peer::v1;
use prost::Message;

use super::Violation;
use super::frame::to_frame;
use super::request::CHUNKS_COUNT_MAX;

/// How a request is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Whether there is a payload.
    pub(crate) status: Status,
    /// The lengths of its parts, in order.
    pub(crate) lens: Vec<u32>,
    /// With a manifest: who says that it is right.
    pub(crate) proof: Option<Proof>,
}

/// Whether there is a payload, and if not, why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// There is.
    Ok,
    /// Not all of it is held.
    NotHeld,
    /// There is too much to do.
    Busy,
    /// The other end does not answer such requests.
    Refused,
}

/// A node's word for a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Proof {
    /// Its Ed25519 key.
    pub(crate) maker: [u8; 32],
    /// The signature of that key.
    pub(crate) signature: [u8; 64],
}

impl Answer {
    /// One without a payload.
    pub(crate) fn of(status: Status) -> Self {
        Self {
            status,
            lens: Vec::new(),
            proof: None,
        }
    }

    /// The frame in front of a payload of parts of `lens`.
    pub(crate) fn ok(lens: Vec<u32>) -> Self {
        Self {
            lens,
            ..Self::of(Status::Ok)
        }
    }

    /// Its frame.
    pub(crate) fn to_frame(&self) -> Bytes {
        let status = match self.status {
            Status::Ok => v1::Status::Ok,
            Status::NotHeld => v1::Status::NotHeld,
            Status::Busy => v1::Status::Busy,
            Status::Refused => v1::Status::Refused,
        };
        let proof = self.proof.as_ref();
        let bytes = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
        to_frame(&v1::Answer {
            status: status.into(),
            lens: self.lens.clone(),
            maker: proof.map_or_else(Bytes::new, |proof| bytes(&proof.maker)),
            signature: proof.map_or_else(Bytes::new, |proof| bytes(&proof.signature)),
        })
    }

    /// What a frame says.
    ///
    /// # Errors
    /// [`Violation`]; the caller gives up the stream.
    pub(crate) fn decode(message: Bytes) -> Result<Self, Violation> {
        let answer =
            v1::Answer::decode(message).map_err(|_| Violation("an answer that is none"))?;
        let status = match answer.status() {
            v1::Status::Ok => Status::Ok,
            v1::Status::NotHeld => Status::NotHeld,
            v1::Status::Busy => Status::Busy,
            v1::Status::Refused | v1::Status::Unknown => Status::Refused,
        };
        let proof = match (answer.maker.len(), answer.signature.len()) {
            (0, 0) => None,
            _ => Some(Proof {
                maker: exactly(&answer.maker)?,
                signature: exactly(&answer.signature)?,
            }),
        };
        if answer.lens.len() > CHUNKS_COUNT_MAX {
            return Err(Violation("an answer of more than 128 parts"));
        }
        Ok(Self {
            status,
            lens: answer.lens,
            proof,
        })
    }
}

fn exactly<const LEN: usize>(bytes: &[u8]) -> Result<[u8; LEN], Violation> {
    bytes
        .try_into()
        .map_err(|_| Violation("a key or a signature of a wrong length"))
}
