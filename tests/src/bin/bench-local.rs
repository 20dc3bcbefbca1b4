//! Benchmarks of a local library: ratios to the plain filesystem, in turns, in one run.
//!
//! Usage: `bench-local [WORKDIR]`, as root (it drops the page cache). `MUSICFS_BIN` is the binary.

use std::fs::{self, File};
use std::hint::black_box;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use musicfs_tests::bench::median;
use musicfs_tests::bulk;
use musicfs_tests::daemon::{Daemon, Home};

/// Rounds of each comparison; the median counts.
const ROUNDS: usize = 5;
/// The file of the sequential reads.
const LARGE_BYTES: usize = 1 << 30;
/// What a reader asks for at once.
const READ_BYTES: usize = 1 << 20;

fn main() -> io::Result<()> {
    let base = match std::env::args().nth(1).filter(|path| !path.is_empty()) {
        Some(path) => PathBuf::from(path),
        None => std::env::temp_dir(),
    };
    let work = tempfile::Builder::new()
        .prefix("musicfs-bench-")
        .tempdir_in(base)?;
    println!("| measure | plain | musicfs | ratio |\n|---|---|---|---|");
    sequential(work.path())?;
    small_files(work.path())?;
    for count in [10_000, 100_000] {
        library_of(work.path(), count)?;
    }
    Ok(())
}

/// One file read from end to end: passthrough and cached mode, page cache dropped and hot.
fn sequential(work: &Path) -> io::Result<()> {
    let origin = work.join("large");
    fs::create_dir(&origin)?;
    let plain = origin.join("large.wav");
    write_wav(&plain, LARGE_BYTES)?;
    for (mode, name) in [("auto", "passthrough"), ("off", "cached mode")] {
        let instance = Instance::mount(&origin, &["--passthrough", mode]);
        let mounted = first_file(instance.mount_point())?;
        for (dropped, state) in [(true, "page cache dropped"), (false, "page cache hot")] {
            let prepare = || if dropped { drop_caches() } else { Ok(()) };
            row(
                &format!("sequential read, {name}, {state}"),
                "MB/s",
                compare(read_all, [plain.as_path(), &mounted], prepare)?,
                |seconds| LARGE_BYTES as f64 / 1e6 / seconds,
            );
        }
        instance.daemon.stop();
    }
    fs::remove_dir_all(origin)
}

/// Metadata and first bytes of 20,000 files.
fn small_files(work: &Path) -> io::Result<()> {
    const COUNT: usize = 20_000;
    const OPENED: usize = 500;
    let origin = work.join("small");
    bulk::make_library(&origin, COUNT)?;
    let instance = Instance::mount(&origin, &[]);
    let mounted = instance.mount_point().to_owned();
    row(
        "walk of 20,000 files with stat, first",
        "s",
        compare(walk, [origin.as_path(), &mounted], drop_caches)?,
        |seconds| seconds,
    );
    walk(&mounted)?;
    row(
        "walk of 20,000 files with stat, again",
        "s",
        compare(walk, [origin.as_path(), &mounted], || Ok(()))?,
        |seconds| seconds,
    );
    let lists = [files_below(&origin)?, files_below(&mounted)?];
    let stat = |files: &Vec<PathBuf>| {
        files
            .iter()
            .try_for_each(|file| black_box(fs::metadata(file)).map(|_| ()))
    };
    row(
        "stat by path, cached",
        "thousand/s",
        compare(stat, [&lists[0], &lists[1]], || Ok(()))?,
        |seconds| COUNT as f64 / 1e3 / seconds,
    );
    let step = COUNT / OPENED;
    let some = lists.map(|list| list.into_iter().step_by(step).collect::<Vec<_>>());
    let open = |files: &Vec<PathBuf>| files.iter().try_for_each(|file| read_head(file));
    for (dropped, state) in [(true, "page cache dropped"), (false, "page cache hot")] {
        let prepare = || if dropped { drop_caches() } else { Ok(()) };
        row(
            &format!("open and first 64 KiB, {state}"),
            "ms/file",
            compare(open, [&some[0], &some[1]], prepare)?,
            |seconds| seconds * 1e3 / OPENED as f64,
        );
    }
    instance.daemon.stop();
    fs::remove_dir_all(origin)
}

/// Scan, start and memory of a library of `count` tracks.
fn library_of(work: &Path, count: usize) -> io::Result<()> {
    let origin = work.join(format!("library-{count}"));
    bulk::make_library(&origin, count)?;
    drop_caches()?;
    let mut instance = Instance::mount(&origin, &[]);
    let rate = count as f64 / instance.scanned("seconds=");
    let bytes = instance.scanned("bytes_read=") / count as f64;
    println!(
        "| first scan of {count} tracks | | {rate:.0} files/s, {bytes:.0} bytes read of each | |"
    );
    println!(
        "| memory after the first scan, {count} tracks | | {} MB | |",
        instance.memory_mb()
    );
    let mut starts = Vec::new();
    let mut memory = Vec::new();
    for _ in 0..ROUNDS {
        let (next, start) = instance.remount(&origin);
        instance = next;
        starts.push(start.as_secs_f64() * 1e3);
        instance.daemon.wait_scanned(1);
        memory.push(instance.memory_mb() as f64);
    }
    let (start, memory) = (median(&mut starts), median(&mut memory));
    println!("| program start to first readdir, {count} tracks | | {start:.0} ms | |");
    println!("| memory after a restart and its rescan, {count} tracks | | {memory:.0} MB | |");
    instance.daemon.stop();
    fs::remove_dir_all(origin)
}

/// A daemon and the home it lives in.
struct Instance {
    // Before its home: the mount goes before the directory that it is in.
    daemon: Daemon,
    home: Home,
}

impl Instance {
    /// Mounts `origin` and waits until it has been scanned.
    fn mount(origin: &Path, more: &[&str]) -> Self {
        let home = Home::new();
        let daemon = home.mount_scanned(&with_origin(origin, more));
        Self { daemon, home }
    }

    fn mount_point(&self) -> &Path {
        self.daemon.mount_point()
    }

    /// A figure of the last scan, as the log tells it.
    fn scanned(&self, figure: &str) -> f64 {
        let log = self.daemon.log();
        let (_, rest) = log.rsplit_once(figure).unwrap_or_default();
        rest.split_whitespace()
            .next()
            .and_then(|text| text.parse().ok())
            .unwrap_or(f64::NAN)
    }

    fn memory_mb(&self) -> u64 {
        self.daemon.rss_bytes() / 1_000_000
    }

    /// Starts it anew; returns the time from the program's start to the first listing.
    fn remount(self, origin: &Path) -> (Self, Duration) {
        let Self { daemon, home } = self;
        daemon.stop();
        let started = Instant::now();
        let daemon = home.start(&with_origin(origin, &[]));
        while fs::read_dir(home.mount_point()).map_or(0, Iterator::count) == 0 {
            std::thread::sleep(Duration::from_micros(200));
        }
        let took = started.elapsed();
        (Self { daemon, home }, took)
    }
}

fn with_origin<'a>(origin: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    [&["--origin", origin.to_str().unwrap_or_default()], more].concat()
}

/// Times `work` on both, in turns; the median of each, in seconds.
fn compare<T: ?Sized>(
    work: impl Fn(&T) -> io::Result<()>,
    [plain, mounted]: [&T; 2],
    prepare: impl Fn() -> io::Result<()>,
) -> io::Result<[f64; 2]> {
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (subject, times) in [plain, mounted].into_iter().zip(&mut times) {
            prepare()?;
            times.push(time(|| work(subject))?.as_secs_f64());
        }
    }
    Ok(times.map(|mut times| median(&mut times)))
}

fn row(name: &str, unit: &str, [plain, mounted]: [f64; 2], show: impl Fn(f64) -> f64) {
    let (plain, mounted) = (show(plain), show(mounted));
    println!(
        "| {name} | {plain:.3} {unit} | {mounted:.3} {unit} | {:.2} |",
        mounted / plain
    );
}

fn time(work: impl FnOnce() -> io::Result<()>) -> io::Result<Duration> {
    let started = Instant::now();
    work()?;
    Ok(started.elapsed())
}

fn read_all(path: &Path) -> io::Result<()> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; READ_BYTES];
    while file.read(&mut buffer)? > 0 {
        black_box(&buffer);
    }
    Ok(())
}

fn read_head(path: &Path) -> io::Result<()> {
    let mut buffer = [0; 64 * 1024];
    File::open(path)?.read_at(&mut buffer, 0).map(|_| {
        black_box(&buffer);
    })
}

fn walk(root: &Path) -> io::Result<()> {
    files_below(root).map(|files| drop(black_box(files)))
}

fn files_below(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let path = entry.path();
            if entry.metadata()?.is_dir() {
                open.push(path);
            } else {
                files.push(path);
            }
        }
    }
    Ok(files)
}

fn first_file(root: &Path) -> io::Result<PathBuf> {
    files_below(root)?
        .pop()
        .ok_or_else(|| io::Error::other("nothing is mounted"))
}

/// Bytes that no disk or memory can take for zeros.
fn write_wav(path: &Path, len: usize) -> io::Result<()> {
    let mut file = File::create(path)?;
    let data = u32::try_from(len - 44).map_err(io::Error::other)?;
    file.write_all(b"RIFF")?;
    file.write_all(&(data + 36).to_le_bytes())?;
    file.write_all(b"WAVEfmt \x10\0\0\0\x01\0\x02\0\x44\xac\0\0\x10\xb1\x02\0\x04\0\x10\0data")?;
    file.write_all(&data.to_le_bytes())?;
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut block = vec![0; READ_BYTES];
    let mut left = len - 44;
    while left > 0 {
        for word in block.chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
        let now = left.min(block.len());
        file.write_all(&block[..now])?;
        left -= now;
    }
    file.sync_all()
}

fn drop_caches() -> io::Result<()> {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3")
}
