//! WAV and AIFF: chunks of four letters, a length and content.
//!
//! Read here rather than by a library: one forgets the tags of WAV, both lose the audio
//! properties of a file that was cut short (`docs/tags.md`).

use musicfs_core::tags::{Artwork, AudioProperties, Codec};

use crate::ExtractError;
use crate::fields::{Field, Fields};
use crate::id3;
use crate::text::utf8;
use crate::window::Window;

/// The most chunks that are looked at.
const CHUNKS_MAX: usize = 128;

/// The largest text chunk or list that is read.
const TEXT_BYTES_MAX: u64 = 1 << 20;

/// The largest ID3v2 tag that is read.
const TAG_BYTES_MAX: u64 = 40 << 20;

/// The two dialects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// RIFF WAVE: little-endian.
    Wav,
    /// FORM AIFF or AIFC: big-endian.
    Aiff,
}

/// What the chunks say.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) fields: Fields,
    pub(crate) art: Vec<Artwork>,
    pub(crate) audio: AudioProperties,
    /// Where the audio starts; where the chunks end if there is none.
    pub(crate) front_end: u64,
    /// Where chunks follow the audio; far behind the end if none do.
    pub(crate) tail_start: u64,
}

/// The numbers that the audio's properties come from.
#[derive(Default)]
struct Format {
    codec: Option<Codec>,
    channels: u16,
    sample_rate: u32,
    /// Bytes per second; 0 if the chunk does not say.
    byte_rate: u32,
    bit_depth: u16,
    /// Samples per channel; 0 if the chunk does not say.
    frames: u32,
}

/// Reads the chunks of the file that starts at `base`.
///
/// # Errors
/// Those of the window. A file that is cut short is none.
pub(crate) fn read(
    window: &mut Window<'_>,
    base: u64,
    dialect: Dialect,
) -> Result<Found, ExtractError> {
    let mut found = Found::default();
    let mut format = Format::default();
    let mut audio = 0..0;
    let mut tail_start = None;
    let mut info = Fields::default();
    let mut at = base + 12;
    for _ in 0..CHUNKS_MAX {
        let Some(&[a, b, c, d, size @ ..]) = window.bytes(at..at + 8)?.first_chunk::<8>() else {
            break;
        };
        let size = u64::from(match dialect {
            Dialect::Wav => u32::from_le_bytes(size),
            Dialect::Aiff => u32::from_be_bytes(size),
        });
        let start = at + 8;
        let end = start.saturating_add(size).min(window.file_len());
        // What is no name is no chunk, but audio whose length was never written.
        if audio.end > 0 && [a, b, c, d].iter().all(|byte| matches!(byte, b' '..=b'~')) {
            tail_start = tail_start.or(Some(at));
        }
        match &[a, b, c, d] {
            b"fmt " => format = wav_format(window.bytes(start..end.min(start + 40))?),
            b"COMM" => format = aiff_format(window.bytes(start..end.min(start + 22))?),
            b"data" | b"SSND" if audio.is_empty() => audio = start..end,
            b"LIST" if size <= TEXT_BYTES_MAX => take_info(window.bytes(start..end)?, &mut info),
            b"ID3 " | b"id3 " if size <= TAG_BYTES_MAX => {
                let tag = window.bytes(start..end)?;
                id3::parse_v2(tag, start, &mut found.fields, &mut found.art);
            }
            id if size <= TEXT_BYTES_MAX => {
                if let Some(field) = aiff_text(id) {
                    info.push(field, &utf8(window.bytes(start..end)?));
                }
            }
            _ => {}
        }
        at = end + (size & 1);
    }
    found.fields.merge_missing(info);
    found.audio = format.audio(audio.end - audio.start);
    found.front_end = if audio.end > 0 { audio.start } else { at };
    found.tail_start = tail_start.unwrap_or(u64::MAX);
    Ok(found)
}

impl Format {
    fn audio(&self, audio_bytes: u64) -> AudioProperties {
        let block = u64::from(self.channels) * u64::from(self.bit_depth.div_ceil(8));
        let byte_rate = match self.byte_rate {
            0 => u64::from(self.sample_rate) * block,
            rate => u64::from(rate),
        };
        // What the file holds counts, not what a chunk claims.
        let held = (audio_bytes * 1000).checked_div(byte_rate).unwrap_or(0);
        let claimed = u64::from(self.frames) * 1000;
        let claimed = claimed
            .checked_div(u64::from(self.sample_rate))
            .unwrap_or(0);
        AudioProperties {
            codec: self.codec.unwrap_or(Codec::Other),
            duration_ms: if held > 0 { held } else { claimed },
            bitrate: u32::try_from(byte_rate * 8).unwrap_or(u32::MAX),
            sample_rate: self.sample_rate,
            bit_depth: u8::try_from(self.bit_depth).unwrap_or(0),
            channels: u8::try_from(self.channels).unwrap_or(0),
        }
    }
}

/// `WAVEFORMATEX`: tag, channels, rate, bytes per second, block, bits.
fn wav_format(chunk: &[u8]) -> Format {
    let Some(fields) = chunk.first_chunk::<16>() else {
        return Format::default();
    };
    let half = |at: usize| u16::from_le_bytes([fields[at], fields[at + 1]]);
    let word = |at: usize| u32::from(half(at)) | u32::from(half(at + 2)) << 16;
    // An extensible format has its true tag where its identifier begins.
    let tag = match (half(0), chunk.get(24..26)) {
        (0xfffe, Some(&[low, high])) => u16::from_le_bytes([low, high]),
        (tag, _) => tag,
    };
    let codec = match tag {
        1 | 3 => Codec::Pcm,
        0x50 => Codec::MpegAudio,
        0x55 => Codec::Mp3,
        0xff | 0x1600 | 0x1610 => Codec::Aac,
        _ => Codec::Other,
    };
    Format {
        codec: Some(codec),
        channels: half(2),
        sample_rate: word(4),
        byte_rate: word(8),
        bit_depth: if codec == Codec::Pcm { half(14) } else { 0 },
        frames: 0,
    }
}

/// `COMM`: channels, sample frames, bits, the rate as an 80-bit float, in AIFC the coding.
fn aiff_format(chunk: &[u8]) -> Format {
    let Some(fields) = chunk.first_chunk::<18>() else {
        return Format::default();
    };
    let half = |at: usize| u16::from_be_bytes([fields[at], fields[at + 1]]);
    let word = |at: usize| u32::from(half(at)) << 16 | u32::from(half(at + 2));
    let exponent = i32::from(half(8) & 0x7fff) - 16383;
    // Rates are whole numbers well below 2^32.
    let sample_rate = match exponent {
        0..=31 => word(10) >> (31 - exponent),
        _ => 0,
    };
    let codec = match chunk.get(18..22) {
        None | Some(b"NONE" | b"twos" | b"sowt" | b"raw " | b"in24" | b"in32") => Codec::Pcm,
        Some(b"fl32" | b"FL32" | b"fl64" | b"FL64") => Codec::Pcm,
        Some(_) => Codec::Other,
    };
    Format {
        codec: Some(codec),
        channels: half(0),
        sample_rate,
        byte_rate: 0,
        bit_depth: half(6),
        frames: word(2),
    }
}

fn aiff_text(id: &[u8; 4]) -> Option<Field> {
    Some(match id {
        b"NAME" => Field::Title,
        b"AUTH" => Field::Artist,
        b"ANNO" => Field::More("comments"),
        _ => return None,
    })
}

/// The texts of a `LIST` of the kind `INFO`.
fn take_info(list: &[u8], fields: &mut Fields) {
    let Some(mut rest) = list.strip_prefix(b"INFO") else {
        return;
    };
    while let Some(&[a, b, c, d, s0, s1, s2, s3]) = rest.first_chunk::<8>() {
        let size = u32::from_le_bytes([s0, s1, s2, s3]) as usize;
        let end = 8usize.saturating_add(size).min(rest.len());
        let text = utf8(&rest[8..end]);
        match info_field(&[a, b, c, d]) {
            Some(Field::Genre) => fields.push_genre(&text),
            Some(field) => fields.push(field, &text),
            None => {}
        }
        rest = rest.get(end + (size & 1)..).unwrap_or(&[]);
    }
}

fn info_field(id: &[u8; 4]) -> Option<Field> {
    Some(match id {
        b"INAM" => Field::Title,
        b"IART" => Field::Artist,
        b"IPRD" | b"IALB" => Field::Album,
        b"IGNR" | b"GENR" => Field::Genre,
        b"ICRD" | b"DTIM" => Field::Date,
        b"YEAR" => Field::Year,
        b"IPRT" | b"ITRK" | b"TRCK" => Field::Track,
        b"IFRM" => Field::TrackTotal,
        b"IMUS" => Field::Composer,
        b"IWRI" => Field::More("lyricist"),
        b"ICMT" => Field::More("comments"),
        b"ILNG" => Field::More("language"),
        b"IMED" => Field::More("media"),
        b"ISRC" => Field::More("isrc"),
        b"IPUB" => Field::More("label"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_of_aiff_are_floats_of_eighty_bits() {
        let mut chunk = vec![0, 2, 0, 0, 0xac, 0x44, 0, 16];
        chunk.extend([0x40, 0x0e, 0xac, 0x44, 0, 0, 0, 0, 0, 0]);
        let format = aiff_format(&chunk);
        assert_eq!(format.sample_rate, 44_100);
        let audio = format.audio(44_100 * 4);
        assert_eq!((audio.duration_ms, audio.bitrate), (1000, 1_411_200));
        assert_eq!(audio.codec, Codec::Pcm);
    }

    #[test]
    fn a_list_cut_short_keeps_its_start() {
        let mut fields = Fields::default();
        take_info(b"INFOINAM\x05\0\0\0title\0IART\x40\0\0\0art", &mut fields);
        let tags = fields.into_tags();
        assert_eq!(tags.title.as_deref(), Some("title"));
        assert_eq!(tags.artists, ["art"]);
    }
}
