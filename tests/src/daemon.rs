//! The real daemon, in a home of its own.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

use crate::host::Host;
use crate::{wait_for, wait_until};

/// What it says once it is mounted.
const READY: &str = "ready instance=";

/// Everything an instance has: directories, a name, an origin, a mount point.
#[derive(Debug)]
pub struct Home {
    dir: TempDir,
    name: String,
    host: Host,
}

/// A mount that is served by a daemon of this test. Dropping it kills the daemon and unmounts.
pub struct Daemon {
    child: Child,
    mount_point: PathBuf,
    log: PathBuf,
}

impl Default for Home {
    fn default() -> Self {
        Self::new()
    }
}

impl Home {
    /// A home with an empty mount point; the origin's directory is not made.
    ///
    /// # Panics
    /// If the disk refuses, here and below.
    pub fn new() -> Self {
        Self::on(&Host::local())
    }

    /// A home on a host: the program runs there.
    pub fn on(host: &Host) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = tempfile::Builder::new()
            .prefix("musicfs-test-")
            .tempdir()
            .unwrap();
        let home = Self {
            dir,
            name: format!("test-{}-{number}", std::process::id()),
            host: host.clone(),
        };
        fs::create_dir(home.mount_point()).unwrap();
        home
    }

    /// A home whose origin is the messy library.
    pub fn with_music() -> Self {
        let home = Self::new();
        crate::corpus::write(&home.origin());
        home
    }

    /// A path in the home.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The origin's directory.
    pub fn origin(&self) -> PathBuf {
        self.path("origin")
    }

    /// Where it is mounted.
    pub fn mount_point(&self) -> PathBuf {
        self.path("mnt")
    }

    /// The index's directory.
    pub fn state(&self) -> PathBuf {
        self.path("state/musicfs").join(&self.name)
    }

    /// The instance's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The control socket (of root).
    pub fn socket(&self) -> PathBuf {
        PathBuf::from(format!("/run/musicfs/{}.sock", self.name))
    }

    /// Where the program runs.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The program with this home's environment.
    pub fn command(&self, args: &[&str]) -> Command {
        self.host.wrap(&self.command_anywhere(args))
    }

    fn command_anywhere(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary());
        for variable in ["STATE", "CACHE", "CONFIG"] {
            let path = self.path(&variable.to_lowercase());
            command.env(format!("XDG_{variable}_HOME"), path);
        }
        command
            .env("MUSICFS_NAME", &self.name)
            .env_remove("NOTIFY_SOCKET")
            .args(args);
        command
    }

    /// The same as an ordinary user, to whom everything in the home belongs from now on.
    ///
    /// The user's sockets lie in the home as well.
    pub fn command_as_nobody(&self, args: &[&str]) -> Command {
        // A build directory may be closed to others.
        let program = self.path("program");
        let root = self.dir.path();
        if !program.exists() {
            // Written here, it would stay open for writing in every process that is just being forked.
            let copied = format!("cp {:?} {program:?}", binary());
            crate::sh(&format!("{copied}; chown -R nobody:nogroup {root:?}"));
        }
        let mut command = self.command_anywhere(args);
        command.env("HOME", root).env("XDG_RUNTIME_DIR", root);
        let user = [
            "setpriv",
            "--reuid",
            "nobody",
            "--regid",
            "nogroup",
            "--clear-groups",
            "--",
        ];
        let command = wrapped(&user, program.as_os_str(), &command);
        self.host.wrap(&command)
    }

    /// Runs the program to its end.
    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// The state that `musicfs status` shows; empty if there is no daemon.
    pub fn state_shown(&self) -> String {
        let output = self.run(&["--json", "status"]);
        let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        value["state"].as_str().unwrap_or_default().to_owned()
    }

    /// The id of the only origin of the running daemon.
    pub fn origin_id(&self) -> String {
        let output = self.run(&["--json", "origin", "list"]);
        let list: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        list["origins"][0]["id"].as_str().unwrap().to_owned()
    }

    /// Starts the daemon on this home's origin and waits until it is ready.
    pub fn mount(&self, more: &[&str]) -> Daemon {
        let daemon = self.start(more);
        daemon.wait_ready();
        daemon
    }

    /// As [`Home::mount`], and waits until the origin has been scanned.
    pub fn mount_scanned(&self, more: &[&str]) -> Daemon {
        let daemon = self.mount(more);
        daemon.wait_scanned(1);
        daemon
    }

    /// Starts the daemon and does not wait.
    pub fn start(&self, more: &[&str]) -> Daemon {
        self.start_on(&self.mount_point(), more)
    }

    /// Starts the daemon on another mount point and does not wait.
    pub fn start_on(&self, mount_point: &Path, more: &[&str]) -> Daemon {
        self.start_under(&[], mount_point, more)
    }

    /// Starts the daemon through a program that becomes it, `prlimit` for one, and does not wait.
    pub fn start_under(&self, wrapper: &[&str], mount_point: &Path, more: &[&str]) -> Daemon {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let (origin, mount_point) = (self.origin(), mount_point.to_owned());
        let log = self.path(&format!("log-{number}"));
        let mut args = vec!["mount", mount_point.to_str().unwrap()];
        if !more.contains(&"--origin") && !more.contains(&"--config") {
            args.extend(["--origin", origin.to_str().unwrap()]);
        }
        args.extend(more);
        let command = self.command(&args);
        let child = wrapped(wrapper, command.get_program(), &command)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Daemon {
            child,
            mount_point,
            log,
        }
    }
}

impl Daemon {
    /// Where it is mounted.
    pub fn mount_point(&self) -> &Path {
        &self.mount_point
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the log holds `text`; false if the daemon ended first.
    pub fn wait_for_log(&self, text: &str) -> (bool, std::time::Duration) {
        wait_for(&format!("{text:?} in the log"), || {
            if self.log().contains(text) {
                return Some(true);
            }
            (!is_alive(self.pid())).then(|| self.log().contains(text))
        })
    }

    /// Waits until it is mounted.
    ///
    /// # Panics
    /// If it ends first, with its log.
    pub fn wait_ready(&self) {
        let (is_ready, _) = self.wait_for_log(READY);
        assert!(is_ready, "the daemon did not start:\n{}", self.log());
    }

    /// Waits until it is mounted and `times` scans are over: a small one may end first.
    pub fn wait_scanned(&self, times: usize) {
        wait_until("the scan", || {
            let log = self.log();
            log.contains(READY) && log.matches(" INFO scanned ").count() >= times
        });
    }

    /// Ends it with a signal and asserts a clean end: exit code 0, nothing mounted, and no warning
    /// but those that hold one of `expected`.
    pub fn stop_with(mut self, signal: rustix::process::Signal, expected: &[&str]) {
        self.signal(signal);
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}:\n{}", self.log());
        assert!(!is_mounted(&self.mount_point), "something stayed mounted");
        self.assert_quiet(expected);
    }

    /// Ends it with SIGTERM, cleanly; it must not have warned of anything.
    pub fn stop(self) {
        self.stop_expecting(&[]);
    }

    /// Ends it with SIGTERM, cleanly; it may have warned of what holds one of `expected`.
    pub fn stop_expecting(self, expected: &[&str]) {
        self.stop_with(rustix::process::Signal::TERM, expected);
    }

    /// Stops it where it is: what is asked of it waits.
    pub fn pause(&self) {
        self.signal(rustix::process::Signal::STOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal(rustix::process::Signal::CONT);
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Kills it at once; the dead mount stays.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::mem::take(&mut self.mount_point);
    }

    /// Waits for its end; returns the exit code.
    pub fn wait(&mut self) -> i32 {
        let (status, _) = wait_for("the daemon's end", || self.child.try_wait().unwrap());
        status.code().unwrap_or(-1)
    }

    /// Asserts that it warned of nothing but what holds one of `expected`.
    pub fn assert_quiet(&self, expected: &[&str]) {
        for line in self.log().lines() {
            let is_loud = line.contains(" WARN ") || line.contains(" ERROR ");
            let is_expected = expected.iter().any(|text| line.contains(text));
            assert!(!is_loud || is_expected, "unexpected in the log: {line}");
        }
    }

    /// Resident memory in bytes.
    pub fn rss_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<u64>()
            .unwrap()
            * 1024
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.log());
        }
        // What is gone already needs no killing.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !self.mount_point.as_os_str().is_empty() && is_mounted(&self.mount_point) {
            let flags = rustix::mount::UnmountFlags::DETACH;
            let _ = rustix::mount::unmount(&self.mount_point, flags);
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // Whatever a test that failed half-way has left, the last mount first.
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
        let ours: Vec<&Path> = points
            .map(Path::new)
            .filter(|point| point.starts_with(self.dir.path()))
            .collect();
        for point in ours.into_iter().rev() {
            let _ = rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH);
        }
    }
}

/// True if something is mounted at `path` itself.
pub fn is_mounted(path: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts
        .lines()
        .any(|line| line.split(' ').nth(4) == path.to_str())
}

pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state follows the name in parentheses; Z is a zombie.
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// `program` with the arguments and the environment of `command`, run by `wrapper`.
pub(crate) fn wrapped(wrapper: &[&str], program: &OsStr, command: &Command) -> Command {
    let mut words = wrapper.iter().map(OsStr::new).chain([program]);
    let mut all = Command::new(words.next().unwrap());
    all.args(words).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => all.env(name, value),
            None => all.env_remove(name),
        };
    }
    all
}

/// The program under test.
fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("MUSICFS_BIN") {
        return path.into();
    }
    let test = std::env::current_exe().unwrap();
    let debug = test.ancestors().find(|dir| dir.join("musicfs").is_file());
    debug
        .expect("no musicfs beside the tests: run `cargo build -p musicfs`")
        .join("musicfs")
}
