//! Prints which fields of files made by the real encoders each reader finds: this crate, lofty by
//! itself, symphonia by itself. The tables of `docs/tags.md` are its output:
//! `cargo run --release -p musicfs-media --example coverage`.

#[path = "../../tests/support/corpus.rs"]
mod corpus;
mod readers;

use std::time::Instant;

use corpus::{Corpus, Sample, all_tags};
use musicfs_core::tags::{Codec, Date, TrackInfo};
use readers::{Reading, lofty_alone, musicfs, symphonia_alone};

/// A reader of one file.
type Reader = fn(&Sample) -> Reading;

/// Each reader with the name it has in the tables.
const READERS: [(&str, Reader); 3] = [
    ("musicfs", musicfs),
    ("lofty", lofty_alone),
    ("symphonia", symphonia_alone),
];

/// The files that have all fields, one of each format.
const FULL: [&str; 9] = [
    "flac",
    "mp3-vbr-id3v24",
    "mp3-cbr-id3v23",
    "m4a-moov-last",
    "alac",
    "ogg",
    "opus",
    "wav",
    "aiff",
];

/// Passes over the corpus that the times are the mean of.
const PASSES: u32 = 200;

fn main() {
    let dir = std::env::temp_dir().join(format!("musicfs-coverage-{}", std::process::id()));
    let corpus = Corpus::make(&dir, 190, 500);
    std::fs::remove_dir_all(&dir).expect("the corpus can be removed");
    for (name, read) in READERS {
        print_fields(&corpus, name, read);
    }
    print_costs(&corpus);
}

fn print_fields(corpus: &Corpus, name: &str, read: Reader) {
    println!("\n### {name}\n\n| field | {} |", FULL.join(" | "));
    println!("|---|{}", "---|".repeat(FULL.len()));
    let columns: Vec<Vec<Row>> = FULL
        .iter()
        .map(|name| {
            let sample = sample(corpus, name);
            let info = read(sample).info;
            let mut rows = judge_tags(&info);
            rows.extend(judge_audio(corpus, sample, &info));
            rows
        })
        .collect();
    for row in 0..columns[0].len() {
        let cells: Vec<&str> = columns.iter().map(|column| column[row].1).collect();
        println!("| {} | {} |", columns[0][row].0, cells.join(" | "));
    }
}

fn sample<'a>(corpus: &'a Corpus, name: &str) -> &'a Sample {
    let mut samples = corpus.samples.iter();
    samples
        .find(|sample| sample.name == name)
        .expect("the corpus has it")
}

/// `ok`, `-` for nothing, `wrong` for anything else.
fn verdict<T: PartialEq + Default>(got: &T, expect: &T) -> &'static str {
    if got == expect {
        "ok"
    } else if *got == T::default() {
        "-"
    } else {
        "wrong"
    }
}

/// A field and the verdict on it.
type Row = (&'static str, &'static str);

fn judge_tags(info: &TrackInfo) -> Vec<Row> {
    let (got, all) = (&info.tags, all_tags());
    let (ids, all_ids) = (&got.musicbrainz, &all.musicbrainz);
    let (gain, all_gain) = (&got.replay_gain, &all.replay_gain);
    // ID3v2.3 has no more of the original's date.
    let year = |date: Option<Date>| date.map(|date| date.year);
    vec![
        ("title", verdict(&got.title, &all.title)),
        ("artists (2)", verdict(&got.artists, &all.artists)),
        ("album", verdict(&got.album, &all.album)),
        (
            "album artists (2)",
            verdict(&got.album_artists, &all.album_artists),
        ),
        ("genres (2)", verdict(&got.genres, &all.genres)),
        ("date", verdict(&got.date, &all.date)),
        (
            "year of the original",
            verdict(&year(got.original_date), &year(all.original_date)),
        ),
        ("track", verdict(&got.track, &all.track)),
        ("track total", verdict(&got.track_total, &all.track_total)),
        ("disc", verdict(&got.disc, &all.disc)),
        ("disc total", verdict(&got.disc_total, &all.disc_total)),
        ("compilation", verdict(&got.compilation, &all.compilation)),
        ("composers (2)", verdict(&got.composers, &all.composers)),
        ("MB recording", verdict(&ids.recording, &all_ids.recording)),
        ("MB track", verdict(&ids.track, &all_ids.track)),
        ("MB release", verdict(&ids.release, &all_ids.release)),
        (
            "MB release group",
            verdict(&ids.release_group, &all_ids.release_group),
        ),
        ("MB artists (2)", verdict(&ids.artists, &all_ids.artists)),
        (
            "MB album artists",
            verdict(&ids.release_artists, &all_ids.release_artists),
        ),
        ("MB work", verdict(&ids.work, &all_ids.work)),
        (
            "track gain",
            verdict(&gain.track_gain, &all_gain.track_gain),
        ),
        (
            "track peak",
            verdict(&gain.track_peak, &all_gain.track_peak),
        ),
        (
            "album gain",
            verdict(&gain.album_gain, &all_gain.album_gain),
        ),
        (
            "album peak",
            verdict(&gain.album_peak, &all_gain.album_peak),
        ),
    ]
}

fn judge_audio(corpus: &Corpus, sample: &Sample, info: &TrackInfo) -> Vec<Row> {
    let lossless = matches!(sample.name, "flac" | "alac" | "wav" | "aiff");
    let rate = if sample.name == "opus" {
        48_000
    } else {
        44_100
    };
    let audio = info.audio;
    let off = audio.duration_ms.abs_diff(u64::from(corpus.seconds) * 1000);
    let mut sizes: Vec<u64> = info.artwork.iter().map(|art| art.size).collect();
    let mut expected_sizes = vec![corpus.front.len() as u64, corpus.back.len() as u64];
    sizes.sort_unstable();
    expected_sizes.sort_unstable();
    vec![
        ("pictures (2)", verdict(&sizes, &expected_sizes)),
        ("codec", verdict(&(audio.codec == Codec::Other), &false)),
        (
            "duration",
            match audio.duration_ms {
                0 => "-",
                _ if off < 120 => "ok",
                _ => "wrong",
            },
        ),
        ("sample rate", verdict(&audio.sample_rate, &rate)),
        ("channels", verdict(&audio.channels, &2)),
        (
            "bit depth",
            verdict(&audio.bit_depth, &if lossless { 16 } else { 0 }),
        ),
        ("bit rate", if audio.bitrate > 0 { "ok" } else { "-" }),
    ]
}

#[expect(clippy::disallowed_methods, reason = "measuring is what this is for")]
fn print_costs(corpus: &Corpus) {
    let names: Vec<&str> = READERS.iter().map(|(name, _)| *name).collect();
    println!("\n### cost\n\nKiB read, µs of processor time\n");
    println!("| file | size | pictures | {} |", names.join(" | "));
    println!("|---|---|---|{}", "---|".repeat(names.len()));
    let mut totals = [0; READERS.len()];
    for sample in &corpus.samples {
        let art = musicfs(sample).info.artwork;
        let art: u64 = art.iter().map(|art| art.range.end - art.range.start).sum();
        let mut cells = Vec::new();
        for (at, (_, read)) in READERS.iter().enumerate() {
            let start = Instant::now();
            let mut bytes_read = 0;
            for _ in 0..PASSES {
                bytes_read = read(sample).bytes_read;
            }
            let micros = start.elapsed().as_micros() / u128::from(PASSES);
            totals[at] += micros;
            cells.push(format!("{} KiB, {micros} µs", bytes_read.div_ceil(1024)));
        }
        let (name, size) = (sample.name, sample.bytes.len() / 1024);
        println!(
            "| {name} | {size} | {} | {} |",
            art.div_ceil(1024),
            cells.join(" | ")
        );
    }
    let means = totals.map(|total| format!("{} µs", total / corpus.samples.len() as u128));
    println!("| mean | | | {} |", means.join(" | "));
}
