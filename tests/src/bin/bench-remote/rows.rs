//! The rows of the table, in groups that can be chosen: each is measured in turns on all systems.

use std::path::PathBuf;

use musicfs_tests::bench::{
    HEAD_BYTES, SEEK_OFFSET, drop_caches, random_reads, read_all, read_at, read_by, scan_tags,
    stat, timed, walk,
};

use crate::ground::{Ground, Line};
use crate::systems::{Mounted, System};
use crate::table::Better::{High, Low};
use crate::table::Table;

/// What a group of rows is measured with.
pub(crate) struct Bench<'a> {
    pub(crate) ground: &'a Ground,
    pub(crate) system: &'a System,
    pub(crate) table: &'a mut Table,
    /// Which turn it is.
    pub(crate) round: u64,
}

/// A group of rows.
pub(crate) struct Group {
    pub(crate) name: &'static str,
    /// How often it is measured, of the rounds asked for: those that take minutes once.
    pub(crate) is_long: bool,
    pub(crate) measure: fn(&mut Bench<'_>),
}

pub(crate) const GROUPS: [Group; 8] = [
    Group {
        name: "mount",
        is_long: false,
        measure: |bench| bench.mount(),
    },
    Group {
        name: "traffic",
        is_long: true,
        measure: |bench| bench.traffic(),
    },
    Group {
        name: "first",
        is_long: false,
        measure: |bench| bench.first(Line::Free, ""),
    },
    Group {
        name: "first-long",
        is_long: false,
        measure: |bench| bench.first(Line::Long, ", long line"),
    },
    Group {
        name: "line",
        is_long: false,
        measure: |bench| bench.line(),
    },
    Group {
        name: "album",
        is_long: false,
        measure: |bench| bench.album(),
    },
    Group {
        name: "scan",
        is_long: false,
        measure: |bench| bench.scan(),
    },
    Group {
        name: "walk",
        is_long: false,
        measure: |bench| bench.walk(),
    },
];

impl Bench<'_> {
    fn mount(&mut self) {
        if self.system.is_plain() {
            return;
        }
        let mounted = self.system.mount_empty();
        self.low(
            "mount to first readdir, ms",
            mounted.took.as_secs_f64() * 1e3,
        );
        let memory = mounted.family().map(|family| family.memory_mb());
        self.low("memory after mount, MB", memory.unwrap_or_default()[0]);
    }

    fn album(&mut self) {
        let mounted = self.system.mount_empty();
        let files = self.files();
        let (mut bytes, seconds) = {
            let mut bytes = 0;
            let seconds = timed(|| bytes = read_all(&files));
            (bytes as f64, seconds)
        };
        bytes /= 1e6;
        self.high("album cold, MB/s", bytes / seconds);
        self.settle();
        let cpu = || mounted.family().map_or(0.0, |family| family.cpu_s());
        let before = cpu();
        let seconds = timed(|| read_all(&files));
        self.high("album warm, MB/s", bytes / seconds);
        if !self.system.is_plain() {
            self.low(
                "CPU of the daemon, warm album, s/GB",
                (cpu() - before) / bytes * 1e3,
            );
        }
        self.high("album hot, MB/s", bytes / timed(|| read_all(&files)));
        drop_caches();
        self.high("4 readers warm, MB/s", bytes / timed(|| read_by(4, &files)));
        drop_caches();
        let [middle, high] = random_reads(&files, self.round);
        self.low("random 4 KiB warm, p50, µs", middle);
        self.low("random 4 KiB warm, p99, µs", high);
        if let Some(family) = mounted.family() {
            self.low("memory at its peak, MB", family.memory_mb()[1]);
        }
        self.after_a_restart(mounted, &files, bytes);
    }

    /// What a cache still gives to a program that has just started.
    fn after_a_restart(&mut self, mounted: Mounted, files: &[PathBuf], bytes: f64) {
        drop(mounted);
        drop_caches();
        let mounted = self.system.mount();
        self.list();
        let seconds = timed(|| read_all(files));
        self.high("album warm after a restart, MB/s", bytes / seconds);
        drop(mounted);
    }

    /// The first bytes of cold files, and seeks into others.
    fn first(&mut self, line: Line, on: &str) {
        let _mounted = self.system.mount_empty();
        let files = self.files();
        self.ground.set_line(line);
        for (number, file) in files.iter().enumerate() {
            let (what, offset) = match number % 2 {
                0 => ("first 64 KiB cold", 0),
                _ => ("64 KiB after a seek", SEEK_OFFSET),
            };
            let ms = timed(|| read_at(file, offset, HEAD_BYTES)) * 1e3;
            self.low(&format!("{what}{on}, ms"), ms);
        }
        self.ground.set_line(Line::Free);
    }

    /// An album over a slow line, and over a long one.
    fn line(&mut self) {
        if self.system.is_plain() {
            return;
        }
        for (line, on) in [
            (Line::Slow, "100 Mbit/s"),
            (Line::Long, "100 Mbit/s + 20 ms"),
        ] {
            let _mounted = self.system.mount_empty();
            let files = self.files();
            // Half of them: this takes longest of all, and a single value says little.
            let files = &files[..files.len().div_ceil(2)];
            self.ground.set_line(line);
            let before = self.ground.traffic();
            let mut bytes = 0;
            let seconds = timed(|| bytes = read_all(files));
            let rate = bytes as f64 / seconds;
            self.high(&format!("album cold at {on}, MB/s"), rate / 1e6);
            let sent = (self.ground.traffic() - before) as f64 / bytes as f64;
            self.low(&format!("origin bytes for each of them at {on}"), sent);
            let share = rate / Line::BYTES_PER_S as f64;
            self.high(&format!("album cold at {on}, share of the line"), share);
            self.ground.set_line(Line::Free);
        }
    }

    /// A tag reader over many small files.
    fn scan(&mut self) {
        let files = self.system.paths(&self.ground.small);
        let count = files.len() as f64;
        {
            let _mounted = self.system.mount_empty();
            let seconds = timed(|| scan_tags(&files));
            self.high("tag scan of small files cold, files/s", count / seconds);
            self.settle();
            let seconds = timed(|| scan_tags(&files));
            self.high("tag scan of small files warm, files/s", count / seconds);
        }
        if self.system.is_ours() {
            let _mounted = self.system.mount_indexed();
            let seconds = timed(|| scan_tags(&files));
            self.high(
                "tag scan of small files as indexed, files/s",
                count / seconds,
            );
        }
    }

    /// Listing everything, and looking at files by name.
    fn walk(&mut self) {
        let total = self.ground.files_count;
        {
            let _mounted = self.system.mount_empty();
            let root = self.system.root();
            let mut found = 0;
            let cold = timed(|| found = walk(root));
            // Some show files of their own besides.
            let name = self.system.name;
            assert!(found >= total, "{name} does not show every file");
            let hot = timed(|| walk(root));
            self.low(&format!("walk of {total} files cold, s"), cold);
            self.low(&format!("walk of {total} files hot, s"), hot);
        }
        let _mounted = self.system.mount_empty();
        let files = self.system.paths(&self.ground.small);
        for what in ["first", "again"] {
            let seconds = timed(|| stat(&files));
            self.high(
                &format!("stat {what}, thousand/s"),
                files.len() as f64 / seconds / 1e3,
            );
        }
    }

    /// What the servers send for a little.
    fn traffic(&mut self) {
        if self.system.is_plain() {
            return;
        }
        {
            let _mounted = self.system.mount_empty();
            let files = self.files();
            let megabytes = self.sent(|| {
                for file in files.iter().take(8) {
                    read_at(file, 0, HEAD_BYTES);
                }
            });
            self.low("origin MB for 8 heads of 64 KiB (0.52 asked)", megabytes);
        }
        {
            let _mounted = self.system.mount_empty();
            let files = self.files();
            let megabytes = self.sent(|| read_at(&files[0], SEEK_OFFSET, 1 << 20));
            self.low("origin MB for a seek to 1 MiB (1.05 asked)", megabytes);
        }
        let asked = "origin MB to scan the album's tags (0.98 asked)";
        {
            let _mounted = self.system.mount_empty();
            let files = self.files();
            for what in ["first", "again"] {
                let megabytes = self.sent(|| scan_tags(&files));
                self.low(&format!("{asked}, {what}"), megabytes);
                drop_caches();
            }
        }
        if self.system.is_ours() {
            let _mounted = self.system.mount_indexed();
            let files = self.files();
            let megabytes = self.sent(|| scan_tags(&files));
            self.low(&format!("{asked}, first, as indexed"), megabytes);
        }
    }

    /// The album's files; they have been looked at, so that what follows is about their bytes.
    fn files(&self) -> Vec<PathBuf> {
        self.list();
        self.system.paths(&self.ground.album)
    }

    fn list(&self) {
        stat(&self.system.paths(&self.ground.album));
        self.ground.settled_traffic();
    }

    /// Lets it finish what it does in the background, and empties the page cache.
    fn settle(&self) {
        self.ground.settled_traffic();
        drop_caches();
    }

    /// Megabytes that the servers send for `work`.
    fn sent(&self, work: impl FnOnce()) -> f64 {
        let before = self.ground.settled_traffic();
        work();
        (self.ground.settled_traffic() - before) as f64 / 1e6
    }

    fn low(&mut self, title: &str, value: f64) {
        self.table.note(title, Low, self.system.name, value);
    }

    fn high(&mut self, title: &str, value: f64) {
        self.table.note(title, High, self.system.name, value);
    }
}
