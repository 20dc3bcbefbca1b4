//! Benchmarks of the exchange between nodes, in turns with what carries it: a bare QUIC stream that is
//! hashed, and plain TCP on the same shaped lines.
//!
//! Usage: `bench-peers [ROW]…`, as root; `tests/bench/run.sh` installs what it needs. `MUSICFS_BIN` is the
//! binary. `MUSICFS_BENCH_ROUNDS` (5), `_TRACKS` (12) and `_TRACK_MB` (10) change what is done.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot measure ends")]

mod ground;
mod loopback;
mod rows;
mod strangers;
mod table;

use std::sync::LazyLock;

use musicfs_tests::knob;

use crate::ground::Ground;
use crate::rows::{Measure, ROWS};
use crate::table::Table;

fn main() {
    let chosen: Vec<String> = std::env::args().skip(1).collect();
    let names = ROWS.map(|(name, _)| name);
    if let Some(unknown) = chosen.iter().find(|name| !names.contains(&name.as_str())) {
        eprintln!("no row {unknown}; there are {}", names.join(", "));
        std::process::exit(2);
    }
    let is_chosen = |name: &str| chosen.is_empty() || chosen.iter().any(|chosen| chosen == name);
    let rounds = knob("MUSICFS_BENCH_ROUNDS", 5);
    let ground = LazyLock::new(Ground::new);
    let mut table = Table::default();
    for (name, measure) in ROWS {
        for round in 0..rounds {
            if is_chosen(name) {
                eprintln!("{name}, round {}", round + 1);
                match measure {
                    Measure::Here(measure) => measure(&mut table),
                    Measure::Lab(measure) => measure(&ground, &mut table),
                }
            }
        }
    }
    table.print();
}
