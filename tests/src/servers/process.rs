//! Server processes: they end with the test process at the latest.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, SyncSender};
use std::sync::{LazyLock, Mutex};

use rustix::process::{Pid, Signal};

use crate::daemon::{is_alive, wrapped};
use crate::wait_until;

/// Waits for the end of its standard input, which the end of the test process brings, then runs its
/// arguments.
const JANITOR: &str = r#"
    trap '' HUP INT TERM
    cat >/dev/null
    exec "$@"
"#;
/// Removes its arguments. A server that is just being killed may still write there: hence again and
/// again.
const REMOVE: &str = r#"
    tries=0
    until rm -rf -- "$@" 2>/dev/null; do
        tries=$((tries + 1))
        [ "$tries" -lt 50 ] || exit 1
        sleep 0.1
    done
"#;

/// A server and every process below it. Dropping it kills them all.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
}

/// The process of a server that tests stop, kill and start again.
#[derive(Debug, Default)]
pub struct Running(Mutex<Option<Process>>);

/// Cleans up when it is dropped or the test process has ended, even by a signal.
#[derive(Debug)]
pub(crate) struct Janitor {
    child: Child,
}

impl Process {
    /// Starts `command`, which says what it has to say in the file `log`.
    ///
    /// # Panics
    /// If that is impossible, here and below.
    pub(super) fn start(command: &Command, log: &Path) -> Self {
        let output = File::options().create(true).append(true).open(log).unwrap();
        // Its signals are its own: an interrupt at the terminal ends the test, and that ends it.
        let with_parent = ["setpriv", "--pdeathsig", "KILL", "--"];
        let mut command = wrapped(&with_parent, command.get_program(), command);
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .process_group(0);
        Self {
            child: spawn_for_ever(command).unwrap(),
        }
    }

    /// The first process.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// True until it ends.
    pub(super) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Stops it and all below it where they are.
    pub(super) fn pause(&self) {
        let mut stopped = 0;
        let mut family;
        // What was started between two looks is stopped at the next.
        loop {
            family = self.family();
            family.iter().for_each(|&pid| signal(pid, Signal::STOP));
            if family.len() == stopped {
                break;
            }
            stopped = family.len();
        }
        // The signal has been sent, and a thread may still be at work.
        wait_until("the stop of a server", || {
            family.iter().all(|&pid| is_stopped(pid))
        });
    }

    /// Lets them go on.
    pub(super) fn resume(&self) {
        let family = self.family();
        family.into_iter().for_each(|pid| signal(pid, Signal::CONT));
    }

    /// The process and all below it, each behind its parent.
    fn family(&self) -> Vec<u32> {
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for entry in fs::read_dir("/proc").unwrap() {
            let name = entry.unwrap().file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // It may be gone by now.
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let parent = stat
                .rsplit_once(") ")
                .and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok());
            children.entry(parent.unwrap_or(0)).or_default().push(pid);
        }
        let mut family = vec![self.child.id()];
        let mut seen = 0;
        while let Some(pid) = family.get(seen) {
            let below = children.remove(pid).unwrap_or_default();
            family.extend(below);
            seen += 1;
        }
        family
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let family = self.family();
        let _ = self.child.kill();
        let _ = self.child.wait();
        // What it ran in a namespace of its own dies with it, a moment later.
        for pid in family.into_iter().skip(1) {
            wait_until("the end of a server", || !is_alive(pid));
        }
    }
}

impl Running {
    /// A process that serves.
    pub(super) fn of(process: Process) -> Self {
        Self(Mutex::new(Some(process)))
    }

    /// Stops it where it is.
    ///
    /// # Panics
    /// If it has been killed, here and below.
    pub(super) fn pause(&self) {
        let process = self.0.lock().unwrap();
        process.as_ref().expect("the server runs").pause();
    }

    /// Lets it go on.
    pub(super) fn resume(&self) {
        let process = self.0.lock().unwrap();
        process.as_ref().expect("the server runs").resume();
    }

    /// Kills it; one that has been killed stays so.
    pub(super) fn kill(&self) {
        self.0.lock().unwrap().take();
    }

    /// Puts the process that `start` returns, and which serves by then, in its place.
    ///
    /// # Panics
    /// If it has not been killed.
    pub(super) fn restart(&self, start: impl FnOnce() -> Process) {
        let mut process = self.0.lock().unwrap();
        assert!(process.is_none(), "the server still runs");
        *process = Some(start());
    }
}

impl Janitor {
    /// Will remove `paths`, be they there then or not.
    pub(super) fn of(paths: &[PathBuf]) -> Self {
        let mut remove = Command::new("sh");
        remove.args(["-c", REMOVE, "remove"]).args(paths);
        Self::running(&remove)
    }

    /// Will run `command`.
    pub(crate) fn running(command: &Command) -> Self {
        let waiting = ["sh", "-c", JANITOR, "janitor"];
        let mut command = wrapped(&waiting, command.get_program(), command);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Self {
            child: command.spawn().unwrap(),
        }
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Starts `command` from a thread that lives as long as the test process.
///
/// The signal at a parent's death comes with the death of the *thread* that started the child, and
/// a test's thread ends before others are done with a server that they share.
fn spawn_for_ever(command: Command) -> io::Result<Child> {
    type Order = (Command, SyncSender<io::Result<Child>>);
    static ORDERS: LazyLock<SyncSender<Order>> = LazyLock::new(|| {
        let (orders, inbox) = mpsc::sync_channel::<Order>(0);
        let thread = std::thread::Builder::new().name("spawner".to_owned());
        let spawning = move || {
            for (mut command, answer) in inbox {
                let _ = answer.send(command.spawn());
            }
        };
        thread.spawn(spawning).unwrap();
        orders
    });
    let (answer_tx, answer) = mpsc::sync_channel(1);
    ORDERS.send((command, answer_tx)).unwrap();
    answer.recv().unwrap()
}

/// True if none of its threads runs.
fn is_stopped(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return true;
    };
    threads.flatten().all(|thread| {
        // It may be gone by now.
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        let state = stat
            .rsplit_once(") ")
            .and_then(|(_, rest)| rest.chars().next());
        matches!(state, None | Some('T' | 't' | 'Z' | 'X'))
    })
}

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.try_into().unwrap()).unwrap();
    // It may have ended since it was seen.
    let _ = rustix::process::kill_process(pid, signal);
}
