//! The harness: music made by real encoders, the real daemon on real mounts, and ways to compare.
//!
//! The suites need root, `/dev/fuse` and the programs that `tests/run.sh` installs. What they need
//! and do not find makes them fail, never pass.

#![expect(clippy::unwrap_used, reason = "test code: a failure is a failed test")]

pub mod bench;
pub mod bulk;
pub mod conformance;
pub mod corpus;
pub mod daemon;
pub mod host;
pub mod lab;
pub mod mpd;
pub mod outcome;
pub mod remote;
pub mod rogue;
pub mod servers;
pub mod small_disk;
pub mod tree;

use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// How long a condition may take to come true. Far longer than it should: the machine is shared.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `condition` gives something; returns it and how long that took.
///
/// # Panics
/// After [`PATIENCE`], naming `what`.
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> (T, Duration) {
    let started = Instant::now();
    loop {
        if let Some(value) = condition() {
            return (value, started.elapsed());
        }
        assert!(started.elapsed() < PATIENCE, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until `condition` holds; returns how long that took.
///
/// # Panics
/// As [`wait_for`].
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) -> Duration {
    wait_for(what, || condition().then_some(())).1
}

/// Runs a shell command that must succeed; returns what it printed.
///
/// # Panics
/// If it fails, with its output.
pub fn sh(script: &str) -> String {
    let output = sh_output(script);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}\n{text}{errors}");
    text
}

/// Runs a shell command; returns all about its end.
///
/// # Panics
/// If there is no shell.
pub fn sh_output(script: &str) -> Output {
    Command::new("bash")
        .args(["-euo", "pipefail", "-c", script])
        .output()
        .unwrap()
}

/// A number from the environment, for the suites that can do more than every change needs.
pub fn knob(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Pseudo-random numbers from a seed (splitmix64).
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.number() % limit.max(1) as u64).unwrap()
    }

    /// One of `items`.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}
