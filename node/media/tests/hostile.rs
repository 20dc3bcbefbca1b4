//! Files that lie, break off or were damaged: no panic, no hang, no more than the limits.

#[path = "support/corpus.rs"]
mod corpus;

use std::path::PathBuf;

use corpus::{Corpus, Watched};
use musicfs_media::{BYTES_READ_MAX, ExtractError, READS_MAX, decode_art, extract};

/// Damaged files of each format.
const FILES_OF_EACH: u64 = 1000;

/// A fixed sequence of numbers (xorshift64*).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// A place in a file: half of them near its ends, where the structure is.
    fn place(&mut self, len: usize) -> usize {
        match self.below(4) {
            0 => self.below(len.min(512)),
            1 => len - 1 - self.below(len.min(2048)),
            _ => self.below(len),
        }
    }
}

/// Reads `bytes` and checks what must hold of any file at all.
fn check(name: &str, bytes: &[u8], extension: &str) -> Result<(), ExtractError> {
    let mut source = Watched::new(bytes);
    let result = extract(&mut source, extension);
    assert!(source.total() <= BYTES_READ_MAX, "{name}");
    assert!(source.ranges.len() <= READS_MAX as usize, "{name}");
    let extraction = result?;
    assert_eq!(extraction.bytes_read, source.total(), "{name}");
    let layout = extraction.layout;
    assert!(
        layout.front_end <= layout.tail_start && layout.tail_start <= bytes.len() as u64,
        "{name}: {layout:?}"
    );
    for art in &extraction.info.artwork {
        let range = art.range.start as usize..art.range.end as usize;
        let decoded = decode_art(art, &bytes[range]);
        assert_eq!(
            decoded.map(|art| art.len() as u64),
            Some(art.size),
            "{name}"
        );
    }
    let tags = extraction.info.tags;
    let values = tags.artists.iter().chain(&tags.title).chain(&tags.genres);
    for value in values.chain(tags.more.iter().map(|(_, value)| value)) {
        assert!(!value.is_empty() && value.len() <= 64 << 10, "{name}");
    }
    Ok(())
}

#[test]
fn a_thousand_damaged_files_of_each_format_do_no_harm() {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("media-short");
    let corpus = Corpus::make(&dir, 1, 64);
    for sample in &corpus.samples {
        let mut numbers = Numbers(0x6d75_7369_6366_7301);
        let mut readable = 0;
        for number in 0..FILES_OF_EACH {
            let mut bytes = sample.bytes.clone();
            if number % 2 == 0 {
                bytes.truncate(numbers.place(bytes.len()));
            } else {
                for _ in 0..=numbers.below(16) {
                    let place = numbers.place(bytes.len());
                    bytes[place] ^= 1 << numbers.below(8);
                }
            }
            let name = format!("{} {number}", sample.name);
            readable += u64::from(check(&name, &bytes, sample.extension).is_ok());
        }
        println!(
            "{:16} {readable} of {FILES_OF_EACH} still readable",
            sample.name
        );
        assert!(readable > FILES_OF_EACH / 10, "{}: {readable}", sample.name);
    }
}

#[test]
fn no_file_is_too_short_or_too_strange() {
    for extension in ["mp3", "flac", "aac", "ogg", "m4a", "wav", ""] {
        let starts: [&[u8]; 12] = [
            b"",
            b"\xff",
            b"\xff\xfb",
            b"ID3",
            b"ID3\x04\0\0\0\0\0\0",
            b"fLaC",
            b"OggS",
            b"RIFF\0\0\0\0WAVE",
            b"FORM\0\0\0\0AIFF",
            b"\0\0\0\x08ftyp",
            b"MAC ",
            b"wvpk",
        ];
        for start in starts {
            let _ = check("short", start, extension);
            for filling in [0u8, 0xff, b'I'] {
                let bytes = [start, &vec![filling; 70_000]].concat();
                let _ = check("filled", &bytes, extension);
            }
        }
    }
}

#[test]
fn a_large_file_without_structure_is_given_up_soon() {
    for filling in [
        [0u8, 0, 0, 0],
        [0xff; 4],
        [0xff, 0xfb, 0x90, 0x64],
        *b"ID3\x04",
    ] {
        let bytes = filling.repeat(16 << 20);
        let mut source = Watched::new(&bytes);
        let _ = extract(&mut source, "mp3");
        assert!(source.total() < 4 << 20, "{filling:?}: {}", source.total());
    }
}

#[test]
fn a_deep_nest_of_chapters_neither_overflows_nor_hides_the_title() {
    const DEPTH: usize = 300_000;
    const LEVEL_LEN: usize = 28;
    let syncsafe = |len: usize| [21, 14, 7, 0].map(|shift| (len >> shift) as u8 & 0x7f);
    let mut body = b"TIT2\0\0\0\x06\0\0\x03title".to_vec();
    for level in 0..DEPTH {
        // A header, a name, four times; all other levels are its content.
        body.extend(b"CHAP");
        body.extend(syncsafe(LEVEL_LEN - 10 + (DEPTH - 1 - level) * LEVEL_LEN));
        body.extend(b"\0\0c\0");
        body.extend([0; 16]);
    }
    let bytes = [&b"ID3\x04\0\0"[..], &syncsafe(body.len()), &body].concat();
    for extension in ["mp3", "wav", "aiff"] {
        let wav = [
            &b"RIFF\0\0\0\0WAVEid3 "[..],
            &(bytes.len() as u32).to_le_bytes(),
            &bytes,
        ]
        .concat();
        let aiff = [
            &b"FORM\0\0\0\0AIFFID3 "[..],
            &(bytes.len() as u32).to_be_bytes(),
            &bytes,
        ]
        .concat();
        let bytes = match extension {
            "wav" => &wav,
            "aiff" => &aiff,
            _ => &bytes,
        };
        let extraction = extract(&mut Watched::new(bytes), extension).unwrap();
        assert_eq!(extraction.info.tags.title.as_deref(), Some("title"));
    }
}

#[test]
fn countless_values_do_not_take_their_square_in_time() {
    let mut comments = Vec::new();
    let count: u32 = 400_000;
    comments.extend(0u32.to_le_bytes());
    comments.extend(count.to_le_bytes());
    for number in 0..count {
        let text = format!("TRACKNUMBER={number:06}/1");
        comments.extend((text.len() as u32).to_le_bytes());
        comments.extend(text.as_bytes());
    }
    let mut bytes = b"fLaC\0\0\0\x22".to_vec();
    bytes.extend([
        16, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0x0a, 0xc4, 0x42, 0xf0, 0, 0, 0, 1,
    ]);
    bytes.extend([0; 16]);
    bytes.push(0x84);
    bytes.extend(&(comments.len() as u32).to_be_bytes()[1..]);
    bytes.extend(comments);
    let extraction = extract(&mut Watched::new(&bytes), "flac").unwrap();
    assert_eq!(extraction.info.tags.track_total, Some(1));
}

#[test]
fn pictures_that_begin_alike_do_not_take_their_square_in_time() {
    let block = |last: bool, picture: &[u8]| {
        let mut block = 3u32.to_be_bytes().to_vec();
        block.extend([0; 24]);
        block.extend((picture.len() as u32).to_be_bytes());
        block.extend(picture);
        let mut header = vec![if last { 0x86 } else { 6 }];
        header.extend(&(block.len() as u32).to_be_bytes()[1..]);
        [header, block].concat()
    };
    let mut bytes = b"fLaC\0\0\0\x22".to_vec();
    bytes.extend([
        16, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0x0a, 0xc4, 0x42, 0xf0, 0, 0, 0, 1,
    ]);
    bytes.extend([0; 16]);
    let alike = vec![0; 4 << 20];
    let unlike = [&alike[..], b"x"].concat();
    bytes.extend(block(false, &alike));
    bytes.extend(block(false, &unlike));
    bytes.extend(block(true, &alike));
    let artwork = extract(&mut Watched::new(&bytes), "flac")
        .unwrap()
        .info
        .artwork;
    let starts: Vec<u64> = artwork.iter().map(|art| art.range.start).collect();
    assert_eq!(starts.len(), 3);
    assert!(starts.is_sorted());
}

#[test]
fn a_hostile_text_is_only_a_text() {
    let texts = [
        "../../etc/passwd",
        "a/b",
        "..",
        ".search",
        "\u{202e}gpj.exe",
        "x\ny",
    ];
    for text in texts {
        let mut body = b"TIT2".to_vec();
        body.extend((text.len() as u32 + 1).to_be_bytes());
        body.extend([0, 0, 3]);
        body.extend(text.as_bytes());
        let size = [0, 0, 0, body.len() as u8];
        let bytes = [&b"ID3\x04\0\0"[..], &size, &body].concat();
        let info = extract(&mut Watched::new(&bytes), "mp3").unwrap().info;
        assert_eq!(info.tags.title.as_deref(), Some(text));
    }
}
