//! The audio properties of bare AAC (ADTS), from its first frames.

use musicfs_core::tags::{AudioProperties, Codec};

/// Samples per second by index (ISO 14496-3 §1.6.3.4).
const SAMPLE_RATES: [u32; 13] = [
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000,
    7_350,
];

/// Samples in a block of a frame.
const SAMPLES_PER_BLOCK: u64 = 1024;

/// One frame's header (ISO 14496-3 §1.A.2.2).
struct Header {
    sample_rate: u32,
    channels: u8,
    len: usize,
    samples: u64,
}

/// Whether `bytes` start with a frame that another one follows.
pub(crate) fn starts(bytes: &[u8]) -> bool {
    let next = header(bytes).and_then(|first| bytes.get(first.len..));
    next.is_some_and(|next| header(next).is_some())
}

/// The properties of `audio_bytes` of audio that begin with `front`; the play time is estimated
/// from the frames in `front`, for a bare stream does not say it.
pub(crate) fn properties(front: &[u8], audio_bytes: u64) -> AudioProperties {
    let mut audio = AudioProperties {
        codec: Codec::Aac,
        ..AudioProperties::default()
    };
    let (mut at, mut samples) = (0, 0);
    while let Some(frame) = front.get(at..).and_then(header) {
        audio.sample_rate = frame.sample_rate;
        audio.channels = frame.channels;
        at += frame.len;
        samples += frame.samples;
    }
    let bits_per_second = at as u64 * 8 * u64::from(audio.sample_rate);
    if let Some(bitrate) = bits_per_second.checked_div(samples) {
        audio.bitrate = u32::try_from(bitrate).unwrap_or(0);
        audio.duration_ms = (audio_bytes * 8000).checked_div(bitrate).unwrap_or(0);
    }
    audio
}

fn header(bytes: &[u8]) -> Option<Header> {
    let bytes = bytes.first_chunk::<7>()?;
    if bytes[0] != 0xff || bytes[1] & 0xf6 != 0xf0 {
        return None;
    }
    let channels = (bytes[2] & 1) << 2 | bytes[3] >> 6;
    let len =
        usize::from(bytes[3] & 3) << 11 | usize::from(bytes[4]) << 3 | usize::from(bytes[5]) >> 5;
    Some(Header {
        sample_rate: *SAMPLE_RATES.get(usize::from(bytes[2] >> 2 & 15))?,
        channels: if channels == 7 { 8 } else { channels },
        len: Some(len).filter(|&len| len > 7)?,
        samples: SAMPLES_PER_BLOCK * u64::from((bytes[6] & 3) + 1),
    })
}
