//! Benchmarks of remote libraries: musicfs on S3 and on SFTP beside rclone, sshfs, s3fs and juicefs,
//! in turns, on the same servers and the same shaped lines, with the plain filesystem as the base.
//!
//! Usage: `bench-remote [ROW]…`, as root; `tests/bench/run.sh` installs what it needs. `MUSICFS_BIN`
//! is the binary. `MUSICFS_BENCH_ROUNDS` (3), `_TRACKS` (12), `_TRACK_MB` (25), `_FILES` (4000 small ones, of
//! which `_SCANNED`, 600, are scanned) and `_SYSTEMS` (names, separated by commas) change what is done.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot measure ends")]

mod ground;
mod rows;
mod systems;
mod table;

use musicfs_tests::knob;

use crate::ground::Ground;
use crate::rows::{Bench, GROUPS};
use crate::systems::System;
use crate::table::{Better, Columns, Table};

fn main() {
    let chosen: Vec<String> = std::env::args().skip(1).collect();
    let names = GROUPS.map(|group| group.name);
    if let Some(unknown) = chosen.iter().find(|name| !names.contains(&name.as_str())) {
        eprintln!("no row {unknown}; there are {}", names.join(", "));
        std::process::exit(2);
    }
    let rounds = knob("MUSICFS_BENCH_ROUNDS", 3);
    let ground = Ground::new();
    let mut systems = systems(&ground);
    let mut table = Table::default();
    for system in systems.iter_mut().filter(|system| system.is_ours()) {
        index(system, &ground, &mut table);
    }
    for group in GROUPS {
        if !chosen.is_empty() && !chosen.iter().any(|name| name == group.name) {
            continue;
        }
        let rounds = if group.is_long { 1 } else { rounds };
        for round in 0..rounds {
            for system in &systems {
                (group.measure)(&mut Bench {
                    ground: &ground,
                    system,
                    table: &mut table,
                    round,
                });
            }
        }
    }
    let names = |is_wanted: fn(&System) -> bool| {
        let wanted = systems.iter().filter(|system| is_wanted(system));
        wanted.map(|system| system.name).collect()
    };
    table.print(&Columns {
        base: names(System::is_plain),
        ours: names(System::is_ours),
        others: names(|system| !system.is_ours() && !system.is_plain()),
    });
}

/// All systems, or those that were asked for.
fn systems(ground: &Ground) -> Vec<System> {
    let asked = std::env::var("MUSICFS_BENCH_SYSTEMS").ok();
    let mut systems = System::all(ground);
    if let Some(asked) = asked {
        systems.retain(|system| asked.split(',').any(|name| name == system.name));
    }
    systems
}

/// Indexing is counted apart: the others have no index.
fn index(system: &mut System, ground: &Ground, table: &mut Table) {
    let before = ground.traffic();
    let seconds = system.index().as_secs_f64();
    let megabytes = (ground.traffic() - before) as f64 / 1e6;
    let title = format!("indexing of {} files, s", ground.files_count);
    table.note(&title, Better::Low, system.name, seconds);
    table.note("origin MB of that", Better::Low, system.name, megabytes);
}
