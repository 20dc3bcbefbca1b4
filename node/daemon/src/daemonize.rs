//! `--daemon`: the same mount in a process of its own, in the background.
//!
//! The parent starts this binary again with the same arguments and waits until the child says
//! `READY=1` over the protocol of sd_notify(3), or ends. So the parent returns when the mount is
//! there, with the child's own error if it is not.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use crate::config::Config;
use crate::error::Error;
use crate::paths;

/// Tells the child that it is one.
const CHILD_VARIABLE: &str = "MUSICFS_DAEMON_CHILD";

/// The name of the readiness socket in sd_notify(3).
const NOTIFY_VARIABLE: &str = "NOTIFY_SOCKET";

/// How long a mount may take. It serves from the index; only a hanging disk takes as long.
const READY_TIMEOUT: Duration = Duration::from_secs(90);

/// How often to look whether the child has ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// The longest message that is read; what notifies sends a few lines.
const MESSAGE_BYTES_MAX: usize = 4096;

/// How much of the end of the log is searched for the child's error.
const LOG_TAIL_BYTES: u64 = 64 << 10;

/// Starts the daemon in the background and returns its process id once it serves.
///
/// # Errors
/// [`Error::Background`] with what the daemon said if it ended, [`Error::NotReady`] if it neither
/// served nor ended in time, [`Error::Io`] if it could not be started.
pub(crate) fn run(config: &Config) -> Result<u32, Error> {
    let fail = |action, path: &Path| {
        let path = path.to_owned();
        move |source| Error::Io {
            action,
            path,
            source,
        }
    };
    let (runtime, state) = (&config.paths.runtime, &config.paths.state);
    paths::private_dir(runtime).map_err(fail("make directory", runtime))?;
    paths::private_dir(state).map_err(fail("make directory", state))?;
    let log_file = &config.paths.log_file;
    let log = Log::open(log_file).map_err(fail("open log", log_file))?;
    let notify = NotifySocket::bind(runtime).map_err(fail("make a socket in", runtime))?;
    let program = std::env::current_exe().map_err(fail("find", Path::new("/proc/self/exe")))?;
    let child = spawn(&program, &log.file, &notify.path).map_err(fail("start", &program))?;
    wait(child, &notify.socket, &log)
}

/// Makes this process, the child, independent of the one that started it.
///
/// # Errors
/// [`Error::System`] if the system refuses.
pub(crate) fn settle() -> Result<(), Error> {
    let session = rustix::process::setsid().map_err(io::Error::from);
    // The configuration has made every path absolute; a daemon should hold on to no directory.
    let settled = session.and_then(|_| std::env::set_current_dir("/"));
    settled.map_err(|source| Error::System {
        action: "go into the background",
        source,
    })
}

fn spawn(program: &Path, log: &File, notify: &Path) -> io::Result<Child> {
    Command::new(program)
        .args(std::env::args_os().skip(1))
        .env(CHILD_VARIABLE, "true")
        .env(NOTIFY_VARIABLE, notify)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log.try_clone()?)
        .spawn()
}

/// Waits until the child serves or ends.
fn wait(mut child: Child, socket: &UnixDatagram, log: &Log) -> Result<u32, Error> {
    let system = |source| Error::System {
        action: "wait for the daemon",
        source,
    };
    let deadline = Instant::now() + READY_TIMEOUT;
    while Instant::now() < deadline {
        if is_ready(socket).map_err(system)? {
            tell_manager(child.id());
            return Ok(child.id());
        }
        if let Some(status) = child.try_wait().map_err(system)? {
            return Err(log.failure(status));
        }
    }
    // It has not served, and would otherwise begin to after this process said that it does not.
    child.kill().and_then(|()| child.wait()).map_err(system)?;
    Err(Error::NotReady {
        seconds: READY_TIMEOUT.as_secs(),
    })
}

/// Waits a little for a message and tells whether it says that the daemon is ready.
fn is_ready(socket: &UnixDatagram) -> io::Result<bool> {
    let mut message = [0; MESSAGE_BYTES_MAX];
    match socket.recv(&mut message) {
        Ok(len) => Ok(message[..len]
            .split(|byte| *byte == b'\n')
            .any(|line| line == b"READY=1")),
        Err(error) => match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted => {
                Ok(false)
            }
            _ => Err(error),
        },
    }
}

/// Passes readiness on to the service manager that started this process, if one did.
fn tell_manager(process: u32) {
    // A manager that cannot be reached finds out by itself; the mount is there all the same.
    let _ = sd_notify::notify(&[NotifyState::MainPid(process), NotifyState::Ready]);
}

/// A datagram socket that is removed when it is no longer needed.
struct NotifySocket {
    socket: UnixDatagram,
    path: PathBuf,
}

impl NotifySocket {
    fn bind(runtime: &Path) -> io::Result<Self> {
        let path = runtime.join(format!("ready-{}", std::process::id()));
        // One that is there belongs to a dead process whose id this one has now.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = UnixDatagram::bind(&path)?;
        socket.set_read_timeout(Some(LOOK_INTERVAL))?;
        Ok(Self { socket, path })
    }
}

impl Drop for NotifySocket {
    fn drop(&mut self) {
        // At worst an empty name stays behind, which the next bind removes.
        let _ = fs::remove_file(&self.path);
    }
}

/// The daemon's log and where the child's part of it begins.
struct Log {
    file: File,
    path: PathBuf,
    start: u64,
}

impl Log {
    fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.create(true).append(true).mode(0o600).open(path)?;
        let start = file.metadata()?.len();
        Ok(Self {
            file,
            path: path.to_owned(),
            start,
        })
    }

    /// What the child said before it ended.
    fn failure(&self, status: ExitStatus) -> Error {
        let said = self.tail().ok().and_then(|tail| error_line(&tail));
        let unknown = || format!("mount: the daemon ended with {status}");
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        Error::Background {
            message: said.unwrap_or_else(unknown),
            // An end without a mount is no success, whatever the child returned.
            code: code.filter(|code| *code != 0).unwrap_or(1),
        }
    }

    fn tail(&self) -> io::Result<String> {
        let mut file = File::open(&self.path)?;
        let len = file.metadata()?.len();
        let start = self.start.max(len.saturating_sub(LOG_TAIL_BYTES));
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(LOG_TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// The last error line of a log, without what every such line begins with.
fn error_line(log: &str) -> Option<String> {
    let mut lines = log.lines().rev();
    lines.find_map(|line| line.strip_prefix("musicfs: cannot ").map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(dir: &Path) -> (NotifySocket, Log) {
        (
            NotifySocket::bind(dir).unwrap(),
            Log::open(&dir.join("musicfs.log")).unwrap(),
        )
    }

    fn child(script: &str, log: &Log) -> Child {
        Command::new("sh")
            .args(["-c", script])
            .stderr(log.file.try_clone().unwrap())
            .spawn()
            .unwrap()
    }

    #[test]
    fn a_child_that_is_ready_is_left_running() {
        let dir = tempfile::tempdir().unwrap();
        let (notify, log) = parts(dir.path());
        let client = UnixDatagram::unbound().unwrap();
        client
            .send_to(b"STATUS=x\nREADY=1\n", &notify.path)
            .unwrap();
        let child = child("true", &log);
        let id = child.id();
        assert_eq!(wait(child, &notify.socket, &log).unwrap(), id);
        let path = notify.path.clone();
        drop(notify);
        assert!(!path.exists());
    }

    #[test]
    fn a_child_that_ends_is_quoted_with_its_exit_code() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("musicfs.log"), "musicfs: cannot be older\n").unwrap();
        let (notify, log) = parts(dir.path());
        let failing = child("echo 'musicfs: cannot mount: no' >&2; exit 2", &log);
        let error = wait(failing, &notify.socket, &log).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert_eq!(error.line(), "musicfs: cannot mount: no");
        // What a run before said does not count, and an end without a word is a failure.
        let log = Log::open(&log.path).unwrap();
        let error = wait(child("exit 0", &log), &notify.socket, &log).unwrap_err();
        assert_eq!(error.exit_code(), 1);
        assert!(error.line().contains("exit status: 0"), "{}", error.line());
    }
}
