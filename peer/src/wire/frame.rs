//! A message on a stream: its length as u32, little endian, then itself.

use bytes::Bytes;
use prost::Message;
use quinn::{ReadError, ReadExactError, RecvStream};

use super::{FRAME_BYTES_MAX, Violation};

/// Why there is no next message.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    /// What came is no frame.
    #[error("{0}")]
    Violation(#[from] Violation),
    /// The stream or the connection ended.
    #[error("read the next frame")]
    Read(#[from] ReadError),
}

/// The frame of a message.
pub(crate) fn to_frame(message: &impl Message) -> Bytes {
    let len = message.encoded_len();
    debug_assert!(len <= FRAME_BYTES_MAX, "every writer keeps to the bound");
    let mut frame = Vec::with_capacity(4 + len);
    let len = u32::try_from(len).expect("a message is shorter than 4 GiB");
    frame.extend_from_slice(&len.to_le_bytes());
    message
        .encode(&mut frame)
        .expect("a vector has room for any message");
    frame.into()
}

/// The length of the message behind a frame's head.
///
/// # Errors
/// [`Violation`] if it is longer than [`FRAME_BYTES_MAX`].
pub(super) fn message_len(head: [u8; 4]) -> Result<usize, Violation> {
    match usize::try_from(u32::from_le_bytes(head)) {
        Ok(len) if len <= FRAME_BYTES_MAX => Ok(len),
        _ => Err(Violation("a frame of more than 64 KiB")),
    }
}

/// The next message of a stream, still encoded; `None` if the stream ended in front of it.
///
/// Holds no memory before the length was checked. Not cancellation-safe.
///
/// # Errors
/// [`FrameError`]; nothing more can be read from the stream then.
pub(crate) async fn read_frame(stream: &mut RecvStream) -> Result<Option<Bytes>, FrameError> {
    let mut head = [0; 4];
    match stream.read_exact(&mut head).await {
        Err(ReadExactError::FinishedEarly(0)) => return Ok(None),
        other => whole(other)?,
    }
    let mut message = vec![0; message_len(head)?];
    whole(stream.read_exact(&mut message).await)?;
    Ok(Some(message.into()))
}

fn whole(read: Result<(), ReadExactError>) -> Result<(), FrameError> {
    read.map_err(|error| match error {
        ReadExactError::FinishedEarly(_) => Violation("a frame that ends too early").into(),
        ReadExactError::ReadError(error) => error.into(),
    })
}
