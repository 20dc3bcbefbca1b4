//! Where processes and sockets of a test are: on this machine, or on a host of a lab.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::daemon::wrapped;

/// A network of its own with one address; files and processes are this machine's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    address: Ipv4Addr,
    /// `None` is this machine's.
    namespace: Option<PathBuf>,
}

impl Host {
    /// This machine, which is reached by 127.0.0.1.
    pub fn local() -> Self {
        Self {
            address: Ipv4Addr::LOCALHOST,
            namespace: None,
        }
    }

    /// The host whose network namespace has this path.
    pub(crate) fn inside(namespace: PathBuf, address: Ipv4Addr) -> Self {
        Self {
            address,
            namespace: Some(namespace),
        }
    }

    /// What others reach it by.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Its network namespace, if it has one of its own.
    pub fn namespace(&self) -> Option<&Path> {
        self.namespace.as_deref()
    }

    /// `command`, run here: a process with the same id becomes it.
    pub fn wrap(&self, command: &Command) -> Command {
        let enter = self
            .namespace
            .as_ref()
            .map(|path| format!("--net={}", path.display()));
        match &enter {
            None => wrapped(&[], command.get_program(), command),
            Some(enter) => wrapped(&["nsenter", enter, "--"], command.get_program(), command),
        }
    }

    /// Runs `work` here, on a thread of its own. A socket that it makes stays here.
    ///
    /// # Panics
    /// If the work does, or the host is gone.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let running = scope.spawn(|| {
                self.enter();
                work()
            });
            running
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Moves this thread, and the threads that it will start, here.
    ///
    /// # Panics
    /// If the host is gone.
    pub fn enter(&self) {
        if let Some(path) = &self.namespace {
            let link = File::open(path).unwrap();
            move_into_link_name_space(link.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        }
    }
}

impl Default for Host {
    fn default() -> Self {
        Self::local()
    }
}
