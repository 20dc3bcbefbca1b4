//! What a mount's processes take.

use std::collections::HashMap;
use std::fs;

/// What `/proc/PID/stat` counts CPU in (`USER_HZ`, time(7)).
const TICKS_PER_S: f64 = 100.0;

/// A process and all below it, as they were when they were looked up.
pub struct Family(Vec<u32>);

impl Family {
    /// That of a process.
    ///
    /// # Panics
    /// If there is no `/proc`.
    pub fn of(pid: u32) -> Self {
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for entry in fs::read_dir("/proc").unwrap() {
            let name = entry.unwrap().file_name();
            let pid = name.to_str().and_then(|name| name.parse().ok());
            // The fields behind the name, which stands in parentheses: state, parent (proc(5)).
            if let Some(pid) = pid
                && let Some(parent) = stat(pid).get(1).and_then(|field| field.parse().ok())
            {
                children.entry(parent).or_default().push(pid);
            }
        }
        let mut family = vec![pid];
        let mut seen = 0;
        while let Some(pid) = family.get(seen) {
            let below = children.remove(pid).unwrap_or_default();
            family.extend(below);
            seen += 1;
        }
        Self(family)
    }

    /// Resident memory in MB: now, and at the most since the start.
    pub fn memory_mb(&self) -> [f64; 2] {
        ["VmRSS:", "VmHWM:"].map(|field| {
            let each = self.0.iter().map(|pid| {
                let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
                let line = status.lines().find_map(|line| line.strip_prefix(field));
                let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
                kib.unwrap_or(0.0) * 1024.0 / 1e6
            });
            each.sum()
        })
    }

    /// Seconds of CPU since the start.
    pub fn cpu_s(&self) -> f64 {
        let ticks = self.0.iter().map(|pid| {
            // utime and stime (proc(5)), counted from the state.
            let fields = stat(*pid).into_iter().skip(11).take(2);
            let ticks = fields.map(|field| field.parse::<f64>().unwrap_or(0.0));
            ticks.sum::<f64>()
        });
        ticks.sum::<f64>() / TICKS_PER_S
    }
}

/// The fields of `/proc/PID/stat` from the state on; none if the process is gone.
fn stat(pid: u32) -> Vec<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    fields.split_whitespace().map(str::to_owned).collect()
}
