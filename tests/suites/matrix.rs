//! The matrix: every kind of origin, under every fault, in every state of the cache, on real
//! servers and a real mount.
//!
//! A cell is one combination. In each, every byte that a read gives is right, and whatever is
//! asked is answered: see [`run`](cell::run) for what else holds. Every change runs a part of the
//! cells, `MUSICFS_MATRIX=full` all of them.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail like tests")]

#[path = "matrix/cell.rs"]
mod cell;
#[path = "matrix/fault.rs"]
mod fault;
#[path = "matrix/oracle.rs"]
mod oracle;
#[path = "matrix/replaced.rs"]
mod replaced;
#[path = "matrix/site.rs"]
mod site;
#[path = "matrix/watchman.rs"]
mod watchman;

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Instant;

use cell::{Cache, Cell};
use fault::Fault;
use site::Kind;

/// Cells under way at once in one test: most of the time they wait.
const CELLS_AT_ONCE: usize = 3;

/// What of the matrix is run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// Each origin with each fault at least once.
    Short,
    Full,
}

impl Extent {
    fn from_environment() -> Self {
        match std::env::var("MUSICFS_MATRIX").as_deref() {
            Err(_) | Ok("" | "short") => Self::Short,
            Ok("full") => Self::Full,
            Ok(other) => panic!("MUSICFS_MATRIX is short or full, not {other:?}"),
        }
    }
}

/// The cells of one kind of origin, those that take longest first.
fn cells(kind: Kind, extent: Extent) -> VecDeque<Cell> {
    let mut cells = VecDeque::new();
    for &fault in Fault::of(kind) {
        for &cache in Cache::of(kind) {
            let cell = Cell { kind, fault, cache };
            if extent == Extent::Full || is_in_short(cell) {
                cells.push_back(cell);
            }
        }
    }
    cells
}

/// What every change runs: each fault on a cold cache, and what is most telling of the others.
fn is_in_short(cell: Cell) -> bool {
    match (cell.fault, cell.cache) {
        (Fault::Killed | Fault::Stopped | Fault::Far, _) => false,
        (Fault::Erring, _) => cell.kind == Kind::S3 && cell.cache == Cache::Cold,
        (_, Cache::None | Cache::Cold) => true,
        (Fault::Refusing, Cache::Warm) | (Fault::Replaced, Cache::Full) => cell.kind == Kind::S3,
        (Fault::Hanging, Cache::Warm) => cell.kind == Kind::Nfs,
        (Fault::Cut, Cache::Full) => cell.kind == Kind::Sftp,
        (_, Cache::Warm | Cache::Full) => false,
    }
}

/// Runs the cells of a kind, several at a time; fails with the names of those that did.
fn run_all(kind: Kind) {
    let queue = Mutex::new(cells(kind, Extent::from_environment()));
    let failed = Mutex::new(Vec::new());
    let work = || {
        // A lock in the condition would be held through the body.
        let next = || queue.lock().unwrap().pop_front();
        while let Some(cell) = next() {
            let started = Instant::now();
            let name = cell.to_string();
            // Its name is in the message of a panic.
            let thread = std::thread::Builder::new().name(name.clone());
            let outcome = std::thread::scope(|scope| {
                let run = thread.spawn_scoped(scope, || cell::run(cell)).unwrap();
                run.join()
            });
            let seconds = started.elapsed().as_secs_f32();
            let word = if outcome.is_ok() { "holds" } else { "FAILS" };
            eprintln!("{name} {word} after {seconds:.1} s");
            if outcome.is_err() {
                failed.lock().unwrap().push(name);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..CELLS_AT_ONCE {
            scope.spawn(work);
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "these cells fail: {failed:?}");
}

#[test]
fn a_local_origin_under_every_fault() {
    run_all(Kind::Local);
}

#[test]
fn a_network_mount_under_every_fault() {
    run_all(Kind::Nfs);
}

#[test]
fn an_s3_origin_under_every_fault() {
    run_all(Kind::S3);
}

#[test]
fn an_s3_origin_on_a_sloppy_server_under_every_fault() {
    run_all(Kind::Sloppy);
}

#[test]
fn an_sftp_origin_under_every_fault() {
    run_all(Kind::Sftp);
}
