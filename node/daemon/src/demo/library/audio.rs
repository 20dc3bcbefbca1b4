//! Tones, and the files that hold them.

use std::path::Path;

use flacenc::bitsink::ByteSink;
use flacenc::component::BitRepr;
use flacenc::error::Verify;
use flacenc::source::MemSource;

/// Samples per second.
const SAMPLE_RATE: u32 = 44_100;

/// Samples of one moment: left and right.
const CHANNELS: u16 = 2;

/// Bits of one sample.
const BITS: u16 = 16;

/// Samples of one tone: a quarter of a second.
const TONE_LEN: u32 = SAMPLE_RATE / 4;

/// The pentatonic scale as ratios to its root: any two of its tones go together.
const SCALE: [f64; 6] = [1.0, 9.0 / 8.0, 5.0 / 4.0, 3.0 / 2.0, 5.0 / 3.0, 2.0];

/// The lowest tone in hertz: the A below middle C.
const ROOT_HZ: f64 = 220.0;

/// Why audio could not be encoded. The encoder's own errors cannot cross threads and say no more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EncodeError {
    /// The encoder does not take its own defaults.
    #[error("set up the encoder")]
    Settings,
    /// The encoder does not take the samples.
    #[error("compress the samples")]
    Samples,
    /// The encoder's output cannot be written down.
    #[error("write down the stream")]
    Stream,
}

/// The kinds of file that the library is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Container {
    /// FLAC, without tags.
    Flac,
    /// RIFF WAVE with an ID3v2 chunk.
    Wav,
    /// AIFF with an ID3v2 chunk.
    Aiff,
}

impl Container {
    /// The kind that a path's extension names.
    pub(crate) fn of(path: &Path) -> Self {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("wav") => Self::Wav,
            Some("aiff") => Self::Aiff,
            _ => Self::Flac,
        }
    }

    /// A file with these samples (left and right in turn); with these tags, unless it is FLAC.
    pub(crate) fn encode(
        self,
        samples: &[i16],
        tags: &[(&str, &str)],
    ) -> Result<Vec<u8>, EncodeError> {
        match self {
            Self::Flac => flac(samples),
            Self::Wav => Ok(wav(samples, tags)),
            Self::Aiff => Ok(aiff(samples, tags)),
        }
    }
}

/// A little tune: plucked tones that fade, another one for each `tune`.
pub(crate) fn tones(tune: u32, tenths: u32) -> Vec<i16> {
    let len = SAMPLE_RATE * tenths / 10;
    let mut samples = Vec::with_capacity(len as usize * usize::from(CHANNELS));
    for index in 0..len {
        let (tone, moment) = (index / TONE_LEN, index % TONE_LEN);
        // Steps that share no factor with the scale's length visit all of it.
        let step = (tune * 5 + tone * (1 + tune % 5)) as usize % SCALE.len();
        let hertz = ROOT_HZ * SCALE[step] * (1.0 + f64::from(tune / 6) / 4.0);
        let seconds = f64::from(moment) / f64::from(SAMPLE_RATE);
        let angle = std::f64::consts::TAU * hertz * seconds;
        let sound = angle.sin() + (2.0 * angle).sin() / 3.0 + (3.0 * angle).sin() / 9.0;
        // A short rise, so that no tone begins with a click, and a long fall.
        let loudness = (seconds * 200.0).min(1.0) * (-6.0 * seconds).exp() * 8000.0;
        let balance = f64::from(tone % 3) / 10.0;
        for side in [1.0 - balance, 0.8 + balance] {
            samples.push((sound * loudness * side) as i16);
        }
    }
    samples
}

fn flac(samples: &[i16]) -> Result<Vec<u8>, EncodeError> {
    let settings = flacenc::config::Encoder::default();
    let settings = settings
        .into_verified()
        .map_err(|_| EncodeError::Settings)?;
    let samples: Vec<i32> = samples.iter().map(|sample| i32::from(*sample)).collect();
    let source =
        MemSource::from_samples(&samples, CHANNELS.into(), BITS.into(), SAMPLE_RATE as usize);
    let stream = flacenc::encode_with_fixed_block_size(&settings, source, settings.block_size)
        .map_err(|_| EncodeError::Samples)?;
    let mut sink = ByteSink::new();
    stream.write(&mut sink).map_err(|_| EncodeError::Stream)?;
    Ok(sink.as_slice().to_vec())
}

/// RIFF WAVE (Microsoft and IBM, Multimedia Programming Interface 1.0): sizes little endian.
fn wav(samples: &[i16], tags: &[(&str, &str)]) -> Vec<u8> {
    let frame_len = CHANNELS * BITS / 8;
    let mut format = Vec::new();
    format.extend(1_u16.to_le_bytes()); // PCM
    format.extend(CHANNELS.to_le_bytes());
    format.extend(SAMPLE_RATE.to_le_bytes());
    format.extend((SAMPLE_RATE * u32::from(frame_len)).to_le_bytes());
    format.extend(frame_len.to_le_bytes());
    format.extend(BITS.to_le_bytes());
    let data: Vec<u8> = samples
        .iter()
        .flat_map(|sample| sample.to_le_bytes())
        .collect();
    let mut body = b"WAVE".to_vec();
    body.extend(chunk(b"fmt ", &format, u32::to_le_bytes));
    body.extend(chunk(b"data", &data, u32::to_le_bytes));
    if let Some(tag) = id3(tags) {
        body.extend(chunk(b"id3 ", &tag, u32::to_le_bytes));
    }
    chunk(b"RIFF", &body, u32::to_le_bytes)
}

/// AIFF 1.3 (Apple, 1989): sizes big endian, the sample rate as an 80-bit float.
fn aiff(samples: &[i16], tags: &[(&str, &str)]) -> Vec<u8> {
    let frames = u32_len(samples.len()) / u32::from(CHANNELS);
    let mut common = Vec::new();
    common.extend(CHANNELS.to_be_bytes());
    common.extend(frames.to_be_bytes());
    common.extend(BITS.to_be_bytes());
    // 44100 has 16 bits: the exponent is 15 above the bias of 16383, the mantissa shifted to the top.
    common.extend((16_383_u16 + 15).to_be_bytes());
    common.extend((u64::from(SAMPLE_RATE) << 48).to_be_bytes());
    let mut sound = vec![0; 8]; // no offset, no blocks
    sound.extend(samples.iter().flat_map(|sample| sample.to_be_bytes()));
    let mut body = b"AIFF".to_vec();
    body.extend(chunk(b"COMM", &common, u32::to_be_bytes));
    body.extend(chunk(b"SSND", &sound, u32::to_be_bytes));
    if let Some(tag) = id3(tags) {
        body.extend(chunk(b"ID3 ", &tag, u32::to_be_bytes));
    }
    chunk(b"FORM", &body, u32::to_be_bytes)
}

/// A chunk of RIFF or AIFF: name, length, content, and a byte more if the length is odd.
fn chunk(name: &[u8; 4], content: &[u8], len: fn(u32) -> [u8; 4]) -> Vec<u8> {
    let mut bytes = name.to_vec();
    bytes.extend(len(u32_len(content.len())));
    bytes.extend(content);
    if content.len() % 2 == 1 {
        bytes.push(0);
    }
    bytes
}

/// An ID3v2.4 tag (id3.org, id3v2.4.0-structure §3 and §4) of text frames in UTF-8.
///
/// Written by hand, for lofty's order of frames differs from run to run.
fn id3(tags: &[(&str, &str)]) -> Option<Vec<u8>> {
    let mut frames = Vec::new();
    for (key, value) in tags {
        let Some(name) = frame_name(key) else {
            continue;
        };
        frames.extend(name);
        frames.extend(synchsafe(value.len() + 1));
        frames.extend([0, 0, 3]); // no flags; the text is UTF-8
        frames.extend(value.bytes());
    }
    if frames.is_empty() {
        return None;
    }
    let mut tag = b"ID3\x04\x00\x00".to_vec();
    tag.extend(synchsafe(frames.len()));
    tag.extend(frames);
    Some(tag)
}

fn frame_name(key: &str) -> Option<&'static [u8; 4]> {
    Some(match key {
        "TITLE" => b"TIT2",
        "ARTIST" => b"TPE1",
        "ALBUMARTIST" => b"TPE2",
        "ALBUM" => b"TALB",
        "DATE" => b"TDRC",
        "GENRE" => b"TCON",
        "TRACKNUMBER" => b"TRCK",
        "DISCNUMBER" => b"TPOS",
        "COMPILATION" => b"TCMP",
        _ => return None,
    })
}

/// A length in four bytes of seven bits each.
fn synchsafe(len: usize) -> [u8; 4] {
    let len = u32_len(len);
    [21, 14, 7, 0].map(|shift| ((len >> shift) & 0x7f) as u8)
}

fn u32_len(len: usize) -> u32 {
    u32::try_from(len).expect("the demo's files are a few hundred kilobytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tones_are_heard_and_never_clip() {
        for tune in 0..20 {
            let samples = tones(tune, 10);
            assert_eq!(samples.len(), 88_200);
            let loudest = samples.iter().map(|sample| sample.unsigned_abs()).max();
            assert!(
                (1000..30_000).contains(&loudest.unwrap()),
                "{tune}: {loudest:?}"
            );
        }
    }

    #[test]
    fn chunks_have_an_even_length() {
        let bytes = chunk(b"test", b"abc", u32::to_be_bytes);
        assert_eq!(bytes, b"test\0\0\0\x03abc\0");
        assert_eq!(synchsafe(0x0fff_ffff), [0x7f; 4]);
        assert_eq!(synchsafe(128), [0, 0, 1, 0]);
    }
}
