//! A music player daemon on a mount.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use crate::{sh, sh_output, wait_until};

/// A real MPD that plays into nowhere, at full speed. Ended when dropped.
pub struct Mpd {
    child: Child,
    dir: PathBuf,
}

impl Mpd {
    /// Starts it on the music in `mount`, with its own things in `dir`, which must not exist.
    ///
    /// # Panics
    /// If it does not start: `tests/run.sh` installs it.
    pub fn start(mount: &Path, dir: PathBuf) -> Self {
        fs::create_dir(&dir).unwrap();
        let config = format!(
            "music_directory {mount:?}\nplaylist_directory {dir:?}\ndb_file \"{0}/db\"\n\
             state_file \"{0}/state\"\nbind_to_address \"{0}/socket\"\nzeroconf_enabled \"no\"\n\
             audio_output {{\n type \"null\"\n name \"null\"\n sync \"no\"\n}}\n",
            dir.display()
        );
        fs::write(dir.join("conf"), config).unwrap();
        let log = fs::File::create(dir.join("log")).unwrap();
        let child = Command::new("mpd")
            .args(["--no-daemon", "--stderr"])
            .arg(dir.join("conf"))
            .stderr(log)
            .spawn()
            .unwrap();
        let mpd = Self { child, dir };
        wait_until("mpd", || {
            let status = format!("mpc --host {:?} status", mpd.socket());
            sh_output(&status).status.success()
        });
        mpd
    }

    /// Runs a command of its client; returns what that printed.
    pub fn mpc(&self, args: &str) -> String {
        sh(&format!("mpc --host {:?} {args}", self.socket()))
    }

    /// What it has logged, in lower case.
    pub fn log(&self) -> String {
        let log = fs::read_to_string(self.dir.join("log")).unwrap();
        log.to_lowercase()
    }

    fn socket(&self) -> PathBuf {
        self.dir.join("socket")
    }
}

impl Drop for Mpd {
    fn drop(&mut self) {
        // It has ended already, if a test failed because it did.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
