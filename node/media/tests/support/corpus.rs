//! Files of every format, made by the real encoders, and a source that watches who reads them.

#![allow(dead_code, reason = "each user takes a part")]
#![expect(
    clippy::unwrap_used,
    reason = "code of tests, outside what clippy takes for one"
)]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use musicfs_core::tags::{Date, MusicBrainz, ReplayGain, Tags};
use musicfs_media::RangedRead;

/// A file of the corpus.
pub(crate) struct Sample {
    pub(crate) name: &'static str,
    pub(crate) extension: &'static str,
    pub(crate) bytes: Vec<u8>,
}

/// All files, with the pictures that most of them hold.
pub(crate) struct Corpus {
    pub(crate) seconds: u32,
    pub(crate) samples: Vec<Sample>,
    pub(crate) front: Vec<u8>,
    pub(crate) back: Vec<u8>,
    /// The only picture of the file that lame alone made: it takes none above 128 KiB.
    pub(crate) small: Vec<u8>,
}

/// Name and extension of each file; the name says what is special.
pub(crate) const NAMES: [(&str, &str); 15] = [
    ("flac", "flac"),
    ("mp3-vbr-id3v24", "mp3"),
    ("mp3-cbr-id3v23", "mp3"),
    ("mp3-no-xing-ape", "mp3"),
    ("mp3-lame-only", "mp3"),
    ("m4a-moov-last", "m4a"),
    ("m4a-faststart", "m4a"),
    ("alac", "m4a"),
    ("ogg", "ogg"),
    ("opus", "opus"),
    ("wav", "wav"),
    ("wav-ffmpeg-only", "wav"),
    ("aiff", "aiff"),
    ("adts", "aac"),
    ("wavpack", "wv"),
];

const TITLE: &str = "Tïtle / 名前";

/// What a file with all fields says.
pub(crate) fn all_tags() -> Tags {
    let texts = |texts: &[&str]| {
        texts
            .iter()
            .map(|&text| text.to_owned())
            .collect::<Vec<_>>()
    };
    let id = |digit: &str| {
        format!(
            "{0}-{1}-4{2}-8{2}-{3}",
            digit.repeat(8),
            digit.repeat(4),
            digit.repeat(3),
            digit.repeat(12)
        )
    };
    Tags {
        title: Some(TITLE.to_owned()),
        artists: texts(&["Artist One", "Artist Two"]),
        album: Some("Album".to_owned()),
        album_artists: texts(&["Album Artist", "Second Album Artist"]),
        genres: texts(&["Rock", "Krautrock"]),
        date: Some(Date {
            year: 1997,
            month: 6,
            day: 16,
        }),
        original_date: Some(Date {
            year: 1994,
            month: 1,
            day: 2,
        }),
        track: Some(3),
        track_total: Some(12),
        disc: Some(1),
        disc_total: Some(2),
        compilation: true,
        composers: texts(&["Composer A", "Composer B"]),
        musicbrainz: MusicBrainz {
            recording: Some(id("1")),
            track: Some(id("2")),
            release: Some(id("3")),
            release_group: Some(id("4")),
            artists: vec![id("5"), id("6")],
            release_artists: vec![id("7")],
            work: Some(id("8")),
        },
        replay_gain: ReplayGain {
            track_gain: Some(3_000_000),
            track_peak: Some(987_654),
            album_gain: Some(-1_500_000),
            album_peak: Some(1_012_345),
        },
        more: [
            ("catalognum", "CAT 1"),
            ("isrc", "USABC9700001"),
            ("label", "Label"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec(),
    }
}

/// The same as Vorbis comments, for the encoders that take them.
fn comments(opus: bool) -> Vec<String> {
    let tags = all_tags();
    let mut comments = vec![
        format!("TITLE={TITLE}"),
        "ALBUM=Album".into(),
        "DATE=1997-06-16".into(),
        "ORIGINALDATE=1994-01-02".into(),
        "TRACKNUMBER=3".into(),
        "TRACKTOTAL=12".into(),
        "DISCNUMBER=1/2".into(),
        "COMPILATION=1".into(),
        "LABEL=Label".into(),
        "CATALOGNUMBER=CAT 1".into(),
        "ISRC=USABC9700001".into(),
        "REPLAYGAIN_TRACK_PEAK=0.987654".into(),
        "REPLAYGAIN_ALBUM_PEAK=1.012345".into(),
    ];
    comments.extend(if opus {
        [
            "R128_TRACK_GAIN=-512".to_owned(),
            "R128_ALBUM_GAIN=-1664".to_owned(),
        ]
    } else {
        [
            "REPLAYGAIN_TRACK_GAIN=+3.00 dB",
            "REPLAYGAIN_ALBUM_GAIN=-1.50 dB",
        ]
        .map(str::to_owned)
    });
    let mut all = |name: &str, values: &[String]| {
        comments.extend(values.iter().map(|value| format!("{name}={value}")));
    };
    all("ARTIST", &tags.artists);
    all("ALBUMARTIST", &tags.album_artists);
    all("GENRE", &tags.genres);
    all("COMPOSER", &tags.composers);
    let ids = tags.musicbrainz;
    all("MUSICBRAINZ_TRACKID", ids.recording.as_slice());
    all("MUSICBRAINZ_RELEASETRACKID", ids.track.as_slice());
    all("MUSICBRAINZ_ALBUMID", ids.release.as_slice());
    all("MUSICBRAINZ_RELEASEGROUPID", ids.release_group.as_slice());
    all("MUSICBRAINZ_ARTISTID", &ids.artists);
    all("MUSICBRAINZ_ALBUMARTISTID", &ids.release_artists);
    all("MUSICBRAINZ_WORKID", ids.work.as_slice());
    comments
}

impl Corpus {
    /// Makes all files anew in `dir`: `seconds` of noise, with pictures `side` pixels wide.
    pub(crate) fn make(dir: &Path, seconds: u32, side: u32) -> Self {
        fs::create_dir_all(dir).unwrap();
        let maker = Maker {
            dir: dir.to_owned(),
        };
        maker.source(seconds, side);
        maker.encode();
        maker.tag();
        let samples = NAMES.map(|(name, extension)| Sample {
            name,
            extension,
            bytes: read(&maker.path(&format!("{name}.{extension}"))),
        });
        Self {
            seconds,
            samples: samples.into(),
            front: read(&maker.path("front.jpg")),
            back: read(&maker.path("back.png")),
            small: read(&maker.path("small.jpg")),
        }
    }
}

struct Maker {
    dir: PathBuf,
}

impl Maker {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Starts a program in the directory: the words of `line`, then `more` as they are. Its absence
    /// fails the test.
    fn start(&self, line: &str, more: &[String]) -> (String, Child) {
        let mut words = line.split_whitespace();
        let program = words.next().unwrap();
        let child = Command::new(program)
            .args(words)
            .args(more)
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("start {program}: {error}"));
        (line.to_owned(), child)
    }

    fn finish(children: Vec<(String, Child)>) {
        for (line, mut child) in children {
            assert!(child.wait().unwrap().success(), "{line}");
        }
    }

    fn source(&self, seconds: u32, side: u32) {
        let picture = |input: &str, name: &str| {
            let args = ["-i", input, "-frames:v", "1", "-q:v", "2", name].map(str::to_owned);
            self.start("ffmpeg -v error -y -f lavfi", &args)
        };
        let size = format!("size={side}x{side}:rate=1:duration=1");
        let synth = format!("synth {seconds} pinknoise gain -6");
        Self::finish(vec![
            self.start(
                &format!("sox -R -n -r 44100 -b 16 -c 2 in.wav {synth}"),
                &[],
            ),
            // Noise makes a cover as large as a photograph does.
            picture(
                &format!("nullsrc={size},geq=random(1)*255:128:128"),
                "front.jpg",
            ),
            picture(&format!("testsrc2={size}"), "back.png"),
            picture("testsrc=size=100x100:rate=1:duration=1", "small.jpg"),
        ]);
    }

    fn encode(&self) {
        let flags = |name: &str, texts: Vec<String>| -> Vec<String> {
            let flag = |text| [name.to_owned(), text];
            texts.into_iter().flat_map(flag).collect()
        };
        let covers = ["3|image/jpeg|||front.jpg", "4|image/png|back||back.png"];
        let covers = covers.map(str::to_owned).to_vec();
        let mut flac = flags("--picture", covers.clone());
        flac.extend(flags("--tag", comments(false)));
        let mut opus = flags("--comment", comments(true));
        opus.extend(flags("--picture", covers));
        Self::finish(vec![
            self.start("flac --silent --force -0 in.wav -o flac.flac", &flac),
            self.start("oggenc --quiet -q 5 in.wav -o plain.ogg", &[]),
            self.start("opusenc --quiet --bitrate 128 --comp 0 in.wav opus.opus", &opus),
            self.start("lame --quiet -f -b 160 --id3v2-utf16 --tt Tïtle --tl Album --ty 1997 --tn 3/12 --tg 17 --tc Comment --ti small.jpg in.wav mp3-lame-only.mp3 --ta", &["Artist One".to_owned()]),
        ]);
        let aac = "-c:a aac -aac_coder fast -b:a 160k";
        Self::finish(vec![
            self.start("lame --quiet -f -V 4 in.wav mp3-vbr-id3v24.mp3", &[]),
            self.start("lame --quiet -f -b 128 in.wav mp3-cbr-id3v23.mp3", &[]),
            self.start(
                "lame --quiet -f -t --noreplaygain -b 128 in.wav mp3-no-xing-ape.mp3",
                &[],
            ),
            self.ffmpeg(aac, "m4a-moov-last.m4a"),
            self.ffmpeg(&format!("{aac} -movflags +faststart"), "m4a-faststart.m4a"),
            self.ffmpeg("-c:a alac", "alac.m4a"),
            self.ffmpeg("", "wav.wav"),
            self.ffmpeg("", "wav-ffmpeg-only.wav"),
            self.ffmpeg("", "aiff.aiff"),
            self.ffmpeg(
                "-c:a aac -aac_coder fast -b:a 160k -write_id3v2 1",
                "adts.aac",
            ),
            self.ffmpeg("", "wavpack.wv"),
            self.vorbiscomment(),
        ]);
    }

    fn ffmpeg(&self, options: &str, name: &str) -> (String, Child) {
        let texts = "title=Tïtle,artist=Artist One,album=Album,date=1997,genre=Rock,track=3/12,comment=Comment";
        let metadata = texts.split(',').flat_map(|text| ["-metadata", text]);
        let more: Vec<String> = metadata.chain([name]).map(str::to_owned).collect();
        self.start(&format!("ffmpeg -v error -y -i in.wav {options}"), &more)
    }

    /// A command line is too short for a cover, so this one goes through a file.
    fn vorbiscomment(&self) -> (String, Child) {
        let pictures = [("front.jpg", 3, "image/jpeg"), ("back.png", 4, "image/png")]
            .map(|(name, kind, mime)| picture_comment(&read(&self.path(name)), kind, mime));
        let text = [&comments(false)[..], &pictures].concat().join("\n");
        write(&self.path("comments.txt"), &text);
        self.start(
            "vorbiscomment --raw -w -c comments.txt plain.ogg ogg.ogg",
            &[],
        )
    }

    fn tag(&self) {
        #[expect(
            clippy::disallowed_methods,
            reason = "it is of the checkout that this runs in; several may share what is built"
        )]
        let package = std::env::current_dir().unwrap();
        let script = package.join("tests/support/tag.py");
        let files = [
            ("mp3", "mp3-vbr-id3v24.mp3"),
            ("mp3v23", "mp3-cbr-id3v23.mp3"),
            ("mp3ape", "mp3-no-xing-ape.mp3"),
            ("mp4", "m4a-moov-last.m4a"),
            ("mp4", "m4a-faststart.m4a"),
            ("mp4", "alac.m4a"),
            ("wav", "wav.wav"),
            ("aiff", "aiff.aiff"),
        ];
        let run = |(kind, file): (&str, &str)| {
            let script = script.to_str().unwrap();
            let more = [script, kind, file, "front.jpg", "back.png"].map(str::to_owned);
            // Debian's own interpreter is the one that has Debian's mutagen.
            self.start("/usr/bin/python3", &more)
        };
        Self::finish(files.into_iter().map(run).collect());
    }
}

/// A picture as oggenc takes it: FLAC's structure in base64.
fn picture_comment(picture: &[u8], kind: u32, mime: &str) -> String {
    let mut block = Vec::new();
    block.extend(kind.to_be_bytes());
    block.extend((mime.len() as u32).to_be_bytes());
    block.extend(mime.as_bytes());
    block.extend([0; 20]);
    block.extend((picture.len() as u32).to_be_bytes());
    block.extend(picture);
    format!(
        "METADATA_BLOCK_PICTURE={}",
        data_encoding::BASE64.encode(&block)
    )
}

#[expect(
    clippy::disallowed_methods,
    reason = "the files come from real encoders"
)]
fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("read {path:?}: {error}"))
}

#[expect(
    clippy::disallowed_methods,
    reason = "a tool takes its input from a file"
)]
fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|error| panic!("write {path:?}: {error}"));
}

/// Bytes in memory; notes every read and fails if one byte is asked for twice.
pub(crate) struct Watched<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) ranges: Vec<(u64, u64)>,
    /// The read that fails, counted from 0.
    pub(crate) fails_at: Option<usize>,
}

impl<'a> Watched<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            ranges: Vec::new(),
            fails_at: None,
        }
    }

    pub(crate) fn total(&self) -> u64 {
        self.ranges.iter().map(|(start, end)| end - start).sum()
    }
}

impl RangedRead for Watched<'_> {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        if self.fails_at == Some(self.ranges.len()) {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let rest = self.bytes.get(offset as usize..).unwrap_or(&[]);
        let count = rest.len().min(buf.len());
        let range = (offset, offset + count as u64);
        let again = self
            .ranges
            .iter()
            .find(|known| range.0 < known.1 && known.0 < range.1);
        assert_eq!(again, None, "{range:?} is read twice");
        self.ranges.push(range);
        buf[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}
