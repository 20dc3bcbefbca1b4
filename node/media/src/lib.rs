//! Tags, audio properties and artwork from ranged reads. Pure.
//!
//! [`extract`] reads one file through a [`RangedRead`] and says what the file tells about itself.
//! Every byte is fetched at most once, only the ends of a large file are fetched, and everything
//! that a crafted file could inflate has a limit. [`header_extents`] says which bytes of a file
//! other programs' tag readers touch. Which library reads what, and why, is in `docs/tags.md`.

mod adts;
mod ape;
mod art;
mod error;
mod extension;
mod extract;
mod fields;
mod header;
mod id3;
mod iff;
mod layout;
mod mp4;
mod names;
mod text;
mod vorbis;
mod window;

use musicfs_core::tags::{AudioLayout, TrackInfo};

pub use art::decode_art;
pub use error::ExtractError;
pub use extension::{is_audio, is_companion};
pub use extract::extract;
pub use header::{HeaderProfile, first_extents, header_extents};
pub use layout::fallback_layout;
pub use window::{BYTES_READ_MAX, READS_MAX};

/// Bytes of one file at any offset, supplied by the caller.
pub trait RangedRead {
    /// Length of the file in bytes.
    fn len(&self) -> u64;

    /// Whether the file has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buf` from `offset` and returns how many bytes were read: fewer than asked for only
    /// at the end of the file.
    ///
    /// # Errors
    /// Whatever the source says; [`extract`] hands it on as [`ExtractError::Io`].
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> std::io::Result<usize>;
}

/// What [`extract`] found, and what finding it cost.
#[derive(Clone, Debug)]
pub struct Extraction {
    /// Tags, audio properties and artwork.
    pub info: TrackInfo,
    /// How the file's bytes are arranged.
    pub layout: AudioLayout,
    /// Bytes fetched from the source; no byte is fetched twice.
    pub bytes_read: u64,
    /// Calls of [`RangedRead::read_at`].
    pub reads: u32,
}
