//! Real servers on loopback, what stands between them and their clients, and how to break both.
//!
//! Each server has ports and directories of its own and never outlives the test process, however
//! that ends. `tests/run.sh` installs the programs; without them a test fails.

pub mod avahi;
pub mod capture;
pub mod network_mount;
pub mod proxy;
pub mod rclone;
pub mod redis;
pub mod s3;
pub mod s3_client;
pub mod s3_proxy;
pub mod sftp;

mod http;
mod ports;
pub(crate) mod process;
mod reactor;

use process::Running;

/// A server whose process can be broken, and put right again.
pub trait Breakable: Send + Sync {
    /// Its process.
    #[doc(hidden)]
    fn running(&self) -> &Running;

    /// Starts it again after [`Breakable::kill`], at the same address with the same files, and
    /// waits until it serves.
    ///
    /// # Panics
    /// If it does not, or was not killed.
    fn restart(&self);

    /// Stops it and its sessions where they are: connections are accepted, and nothing is answered.
    ///
    /// # Panics
    /// If it has been killed, here and below.
    fn pause(&self) {
        self.running().pause();
    }

    /// Lets them go on.
    fn resume(&self) {
        self.running().resume();
    }

    /// Kills it and its sessions.
    fn kill(&self) {
        self.running().kill();
    }
}
