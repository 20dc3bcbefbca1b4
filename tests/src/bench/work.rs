//! What is done with each system, and how long that takes.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::Random;

/// What is read at once of a head.
pub const HEAD_BYTES: usize = 64 << 10;
/// What a tag reader reads at the end of a file.
const TAIL_BYTES: usize = 16 << 10;
/// Where seeks go: not a multiple of a block.
pub const SEEK_OFFSET: u64 = 10_000_001;
const SEQUENTIAL_BYTES: usize = 1 << 20;
const RANDOM_BYTES: usize = 4 << 10;
const RANDOM_COUNT: usize = 1000;

/// Seconds that `work` takes.
pub fn timed<T>(work: impl FnOnce() -> T) -> f64 {
    let started = Instant::now();
    drop(work());
    started.elapsed().as_secs_f64()
}

/// Reads files from their start to their end, one after the other; how many bytes.
///
/// # Panics
/// If one cannot be read, here and below.
pub fn read_all(files: &[PathBuf]) -> u64 {
    let mut buffer = vec![0; SEQUENTIAL_BYTES];
    let mut bytes = 0;
    for path in files {
        let mut file = File::open(path).unwrap();
        loop {
            let count = file.read(&mut buffer).unwrap();
            if count == 0 {
                break;
            }
            bytes += count as u64;
        }
    }
    bytes
}

/// Like [`read_all`], by so many readers at a time, each with files of its own.
pub fn read_by(readers: usize, files: &[PathBuf]) {
    std::thread::scope(|scope| {
        for files in files.chunks(files.len().div_ceil(readers)) {
            scope.spawn(|| read_all(files));
        }
    });
}

/// Opens a file and reads a range of it.
pub fn read_at(path: &Path, offset: u64, len: usize) {
    let mut bytes = vec![0; len];
    let file = File::open(path).unwrap();
    file.read_exact_at(&mut bytes, offset).unwrap();
}

/// Reads of 4 KiB at random offsets of open files: microseconds at the 50th and 99th of a hundred.
pub fn random_reads(files: &[PathBuf], seed: u64) -> [f64; 2] {
    let mut random = Random(seed);
    let open = |path: &PathBuf| (File::open(path).unwrap(), fs::metadata(path).unwrap().len());
    let files: Vec<(File, u64)> = files.iter().map(open).collect();
    let mut bytes = vec![0; RANDOM_BYTES];
    let mut times: Vec<f64> = (0..RANDOM_COUNT)
        .map(|_| {
            let (file, len) = random.pick(&files);
            let offset = random.number() % (len - RANDOM_BYTES as u64);
            timed(|| file.read_exact_at(&mut bytes, offset).unwrap()) * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    [50, 99].map(|percent| times[times.len() * percent / 100])
}

/// Reads what a tag reader reads of each file: its head and its tail.
pub fn scan_tags(files: &[PathBuf]) {
    let mut bytes = vec![0; HEAD_BYTES];
    for path in files {
        let file = File::open(path).unwrap();
        let len = file.metadata().unwrap().len();
        // Short of the end, a read may still bring less than asked for; that is as good here.
        let head = file.read_at(&mut bytes, 0).unwrap() as u64;
        if head < len {
            let tail = (len - TAIL_BYTES as u64).max(head);
            file.read_exact_at(&mut bytes[..TAIL_BYTES], tail).unwrap();
        }
    }
}

/// Lists everything and looks at each entry; how many files there are.
pub fn walk(root: &Path) -> usize {
    let mut files = 0;
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            match fs::symlink_metadata(&path).unwrap().is_dir() {
                true => open.push(path),
                false => files += 1,
            }
        }
    }
    files
}

/// Writes what is dirty and empties the page cache, dentries and inodes with it.
pub fn drop_caches() {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
}

/// Looks at each file by its path.
pub fn stat(files: &[PathBuf]) {
    for path in files {
        fs::symlink_metadata(path).unwrap();
    }
}

/// The value in the middle; of an even number the upper of the two. There is at least one.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
