//! A real server for one test, with a host key, a client key and a directory of its own.

use std::collections::BTreeMap;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use musicfs_core::id::OriginId;
use musicfs_origins::{SftpConfig, SftpOrigin};
use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use crate::WAIT;

/// OpenSSH's server. Dropping it kills it with all its sessions.
pub(crate) struct Server {
    dir: TempDir,
    pub(crate) port: u16,
    /// What every session runs, whatever it asks for.
    forced: String,
    running: Option<Child>,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_with("ed25519")
    }

    /// A server whose host key is of the given kind.
    pub(crate) fn start_with(kind: &str) -> Self {
        Self::start_forced(kind, "ForceCommand internal-sftp")
    }

    /// A server that runs what it is asked to, SFTP and commands.
    pub(crate) fn start_open() -> Self {
        Self::start_forced("ed25519", "")
    }

    /// A server that runs this script of sh, which finds what was asked for in
    /// `$SSH_ORIGINAL_COMMAND`.
    pub(crate) fn start_scripted(script: &str) -> Self {
        let mut server = Self::start_open();
        server.kill();
        let file = server.file("script");
        std::fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        server.forced = format!("ForceCommand {}", file.display());
        server.restart();
        server
    }

    fn start_forced(kind: &str, forced: &str) -> Self {
        // sshd(8) separates its privileges there.
        std::fs::create_dir_all("/run/sshd").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let shared = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(dir.path(), shared).unwrap();
        std::fs::create_dir(dir.path().join("music")).unwrap();
        keygen(&dir.path().join("host"), &["-t", kind, "-N", ""]);
        keygen(&dir.path().join("key"), &["-t", "ed25519", "-N", ""]);
        std::fs::copy(dir.path().join("key.pub"), dir.path().join("authorized")).unwrap();
        let port = free_port();
        let mut server = Self {
            dir,
            port,
            forced: forced.to_owned(),
            running: None,
        };
        server.know(&server.file("host.pub"));
        server.restart();
        server
    }

    /// A file beside the music.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A file or directory of the music.
    pub(crate) fn music(&self, name: &str) -> PathBuf {
        self.dir.path().join("music").join(name)
    }

    /// Makes the directories above `name`, and the file with `content`, last changed at 1,000 s.
    pub(crate) fn put(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let file = self.music(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, content).unwrap();
        crate::set_mtime(&file, 1_000);
        file
    }

    /// Writes known_hosts with this public key alone.
    pub(crate) fn know(&self, key: &Path) {
        let key = std::fs::read_to_string(key).unwrap();
        let line = format!("[127.0.0.1]:{} {key}", self.port);
        std::fs::write(self.file("known_hosts"), line).unwrap();
    }

    pub(crate) fn config(&self) -> SftpConfig {
        SftpConfig {
            id: OriginId::new("nas").unwrap(),
            host: "127.0.0.1".into(),
            port: self.port,
            user: "root".into(),
            root: self.music("").to_str().unwrap().into(),
            known_hosts: vec![self.file("none"), self.file("known_hosts")],
            key_files: vec![self.file("none"), self.file("key")],
            agent_socket: None,
            identity: None,
            hash_command: None,
        }
    }

    pub(crate) fn origin(&self) -> SftpOrigin {
        SftpOrigin::new(self.config())
    }

    /// Starts what was killed, at the same port.
    pub(crate) fn restart(&mut self) {
        let file = |name: &str| self.file(name).display().to_string();
        let config = format!(
            "Port {}\nListenAddress 127.0.0.1\nHostKey {}\nPidFile none\nAuthorizedKeysFile {}\n\
             StrictModes no\nUsePAM no\nPasswordAuthentication no\nMaxStartups 100\n\
             Subsystem sftp internal-sftp\n{}\n",
            self.port,
            file("host"),
            file("authorized"),
            self.forced,
        );
        std::fs::write(self.file("config"), config).unwrap();
        // A namespace of its own: its sessions end with it.
        let child = Command::new("setsid")
            .args([
                "unshare",
                "--pid",
                "--fork",
                "--kill-child",
                "/usr/sbin/sshd",
            ])
            .args(["-D", "-e", "-f"])
            .arg(self.file("config"))
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(self.file("log")).unwrap())
            .spawn()
            .unwrap();
        self.running = Some(child);
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let log = || std::fs::read_to_string(self.file("log")).unwrap();
            assert!(start.elapsed() < WAIT, "sshd does not start: {}", log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.running.take() {
            child.kill().unwrap();
            child.wait().unwrap();
            // The namespace ends a moment after.
            let start = Instant::now();
            while TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                assert!(start.elapsed() < WAIT, "sshd does not end");
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }

    /// Sends a signal to the server and all its sessions.
    pub(crate) fn signal(&self, signal: Signal) {
        for pid in self.processes() {
            let _ = rustix::process::kill_process(Pid::from_raw(pid).unwrap(), signal);
        }
    }

    /// How many files and directories of the music its sessions hold open.
    pub(crate) fn open_count(&self) -> usize {
        let music = self.music("").canonicalize().unwrap();
        let mut count = 0;
        for pid in self.processes() {
            let Ok(fds) = std::fs::read_dir(format!("/proc/{pid}/fd")) else {
                continue;
            };
            count += fds
                .filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok())
                .filter(|target| target.starts_with(&music))
                .count();
        }
        count
    }

    /// How many connections to it are established.
    pub(crate) fn connections_count(&self) -> usize {
        let local = format!("0100007F:{:04X}", self.port);
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        table
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .filter(|words| words[1] == local && words[3] == "01")
            .count()
    }

    /// The processes of the server, itself first.
    fn processes(&self) -> Vec<i32> {
        let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            let Ok(pid) = name.parse() else { continue };
            let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else {
                continue;
            };
            // The name in parentheses may hold spaces.
            let rest = stat.rsplit(')').next().unwrap();
            let parent = rest.split_whitespace().nth(1).unwrap().parse().unwrap();
            children.entry(parent).or_default().push(pid);
        }
        let top = i32::try_from(self.running.as_ref().unwrap().id()).unwrap();
        let mut found = vec![top];
        let mut at = 0;
        while at < found.len() {
            found.extend(children.remove(&found[at]).unwrap_or_default());
            at += 1;
        }
        found
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.running.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Makes a key pair.
pub(crate) fn keygen(file: &Path, args: &[&str]) {
    let done = Command::new("ssh-keygen")
        .arg("-q")
        .args(args)
        .arg("-f")
        .arg(file)
        .status();
    assert!(done.unwrap().success());
}

/// A port that nobody listens at now.
fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}
