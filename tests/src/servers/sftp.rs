//! A real SFTP server: OpenSSH, for one directory.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Breakable;
use super::ports::Ports;
use super::process::{Janitor, Process, Running};
use crate::host::Host;
use crate::{sh, wait_until};

/// Whom it lets in.
pub const USER: &str = "root";
/// It logs every read and how many bytes it answered with.
const SFTP_SERVER: &str = "/usr/lib/openssh/sftp-server";
/// Where it logs, in a file for each client's address.
const LOGS: &str = "logs";

/// A server that shows this machine's files to [`USER`], who has to show [`SftpServer::key_file`];
/// paths that do not start with a slash count from the directory that it was started for.
///
/// Dropping it ends it, with all its sessions, and removes its keys.
#[derive(Debug)]
pub struct SftpServer {
    running: Running,
    dir: PathBuf,
    ports: Ports,
    host: Host,
    runs_commands: bool,
    /// Behind the process: it removes what that leaves.
    _janitor: Janitor,
}

/// An `ssh-agent` that holds the server's client key. Dropping it ends it.
#[derive(Debug)]
pub struct Agent {
    socket: PathBuf,
    _process: Process,
    _janitor: Janitor,
}

impl SftpServer {
    /// Starts a server for the directory `root`.
    ///
    /// # Panics
    /// If it does not come up, here and below.
    pub fn start(root: &Path) -> Self {
        Self::start_on(&Host::local(), root)
    }

    /// Starts one on another host than this machine.
    pub fn start_on(host: &Host, root: &Path) -> Self {
        Self::start_with(host, root, false)
    }

    /// Starts one that also runs commands.
    pub fn start_with_commands(root: &Path) -> Self {
        Self::start_with(&Host::local(), root, true)
    }

    fn start_with(host: &Host, root: &Path, runs_commands: bool) -> Self {
        let dir = tempfile::Builder::new().prefix("musicfs-sftp-").tempdir();
        let dir = dir.unwrap().keep();
        let janitor = Janitor::of(std::slice::from_ref(&dir));
        let ports = Ports::claim();
        for key in ["host_key", "key"] {
            generate_key(&dir.join(key));
        }
        fs::copy(dir.join("key.pub"), dir.join("authorized_keys")).unwrap();
        let address = (host.address(), ports.port(0)).into();
        configure(&dir, root, address, runs_commands);
        let server = Self {
            running: Running::default(),
            dir,
            ports,
            host: host.clone(),
            runs_commands,
            _janitor: janitor,
        };
        server.trust(server.port());
        server.restart();
        server
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.ports.port(0)
    }

    /// True if it runs commands.
    pub fn runs_commands(&self) -> bool {
        self.runs_commands
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (self.host.address(), self.port()).into()
    }

    /// A file that knows the host's key, by address and port.
    pub fn known_hosts(&self) -> PathBuf {
        self.dir.join("known_hosts")
    }

    /// The private key, without a passphrase, that the server accepts.
    pub fn key_file(&self) -> PathBuf {
        self.dir.join("key")
    }

    /// The fingerprint of the host's key, as `ssh` shows it: `SHA256:…`.
    pub fn host_key_fingerprint(&self) -> String {
        let shown = sh(&format!(
            "ssh-keygen -lf {:?}",
            self.dir.join("host_key.pub")
        ));
        shown.split_whitespace().nth(1).unwrap().to_owned()
    }

    /// Writes the host's key into [`SftpServer::known_hosts`] for another port too: a proxy's.
    pub fn trust(&self, port: u16) {
        let key = fs::read_to_string(self.dir.join("host_key.pub")).unwrap();
        let words: Vec<&str> = key.split_whitespace().collect();
        let mut known = fs::read_to_string(self.known_hosts()).unwrap_or_default();
        let address = self.host.address();
        known += &format!("[{address}]:{port} {} {}\n", words[0], words[1]);
        fs::write(self.known_hosts(), known).unwrap();
    }

    /// Gives the host another key, shown after the next [`Breakable::restart`]; what is known of
    /// it stays, and is wrong from then on.
    pub fn change_host_key(&self) {
        generate_key(&self.dir.join("host_key"));
    }

    /// Starts an agent with the client's key.
    pub fn agent(&self) -> Agent {
        let dir = tempfile::Builder::new().prefix("musicfs-agent-").tempdir();
        let dir = dir.unwrap().keep();
        let janitor = Janitor::of(std::slice::from_ref(&dir));
        let socket = dir.join("socket");
        let mut command = Command::new("ssh-agent");
        command.arg("-D").arg("-a").arg(&socket);
        let process = Process::start(&command, &dir.join("log"));
        wait_until("ssh-agent", || socket.exists());
        let key = self.key_file();
        sh(&format!("SSH_AUTH_SOCK={socket:?} ssh-add -q {key:?}"));
        Agent {
            socket,
            _process: process,
            _janitor: janitor,
        }
    }

    /// How many bytes of files it has sent, to all clients since it was first started, counted when
    /// it hands them to its sending side: what a client has received is in it.
    pub fn content_bytes(&self) -> u64 {
        self.logs().iter().map(|log| sent_bytes(log)).sum()
    }

    /// The same for one client.
    pub fn content_bytes_to(&self, client: IpAddr) -> u64 {
        sent_bytes(&self.dir.join(LOGS).join(client.to_string()))
    }

    /// How often a file was opened.
    pub fn opens(&self) -> usize {
        let is_open = |line: &String| line.starts_with("open \"");
        let logs = self.logs();
        let lines = logs.iter().flat_map(|log| lines(log));
        lines.filter(is_open).count()
    }

    /// One for each client.
    fn logs(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.dir.join(LOGS)).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

impl Breakable for SftpServer {
    fn running(&self) -> &Running {
        &self.running
    }

    fn restart(&self) {
        // Killing a session needs no more than killing the first process of its namespace.
        let mut command = Command::new("unshare");
        command
            .args([
                "--pid",
                "--fork",
                "--kill-child",
                "--",
                "/usr/sbin/sshd",
                "-D",
                "-e",
                "-f",
            ])
            .arg(self.dir.join("sshd_config"));
        self.running.restart(|| {
            let mut process = Process::start(&self.host.wrap(&command), &self.dir.join("log"));
            wait_until("sshd", || {
                let log = || fs::read_to_string(self.dir.join("log")).unwrap();
                assert!(process.is_running(), "sshd ended:\n{}", log());
                self.host.run(|| TcpStream::connect(self.address()).is_ok())
            });
            process
        });
    }
}

impl Agent {
    /// Where it listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

fn sent_bytes(log: &Path) -> u64 {
    lines(log)
        .filter(|line| line.contains(": sent data len "))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum()
}

/// The whole lines of a client's log, which is not there before its first session.
fn lines(log: &Path) -> impl Iterator<Item = String> {
    let log = fs::read(log).unwrap_or_default();
    let log = String::from_utf8_lossy(&log).into_owned();
    // A line that is being written has no end yet.
    let whole = log.rfind('\n').map_or(0, |end| end + 1);
    let lines: Vec<String> = log[..whole].lines().map(str::to_owned).collect();
    lines.into_iter()
}

fn generate_key(file: &Path) {
    let _ = fs::remove_file(file);
    sh(&format!("ssh-keygen -q -t ed25519 -N '' -C '' -f {file:?}"));
}

/// Writes the configuration, and the program that answers for the subsystem.
///
/// `internal-sftp` would log through the system's logger, and to the client; this logs to a file.
fn configure(dir: &Path, root: &Path, address: SocketAddr, runs_commands: bool) {
    assert!(
        Path::new(SFTP_SERVER).is_file(),
        "no {SFTP_SERVER}: tests/run.sh installs it"
    );
    fs::create_dir_all("/run/sshd").unwrap();
    let (server, logs) = (dir.join("sftp"), dir.join(LOGS));
    fs::create_dir_all(&logs).unwrap();
    // sshd says who the client is: its address, and two ports.
    let script = format!(
        "#!/bin/sh\nexec {SFTP_SERVER} -e -l DEBUG -d {root:?} 2>>{logs:?}/\"${{SSH_CLIENT%% *}}\"\n"
    );
    fs::write(&server, script).unwrap();
    sh(&format!("chmod 755 {server:?}"));
    let forced = match runs_commands {
        true => String::new(),
        false => format!("ForceCommand {}\n", server.display()),
    };
    let config = format!(
        "Port {port}\n\
         ListenAddress {ip}\n\
         HostKey {dir}/host_key\n\
         PidFile none\n\
         AuthorizedKeysFile {dir}/authorized_keys\n\
         StrictModes no\n\
         UsePAM no\n\
         PasswordAuthentication no\n\
         KbdInteractiveAuthentication no\n\
         PermitRootLogin prohibit-password\n\
         # Many tests connect at once, and none is to be turned away by chance.\n\
         MaxStartups 100\n\
         # So that bash takes itself for a nested shell and does not read this user's .bashrc: it\n\
         # may wait for anything, and a session that is killed in it may leave anything behind.\n\
         SetEnv SHLVL=9\n\
         Subsystem sftp {server}\n\
         {forced}",
        port = address.port(),
        ip = address.ip(),
        dir = dir.display(),
        server = server.display(),
    );
    fs::write(dir.join("sshd_config"), config).unwrap();
}
