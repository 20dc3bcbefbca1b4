//! What another program sees of the services on a network: avahi, as desktops have it.

use std::fs;
use std::process::Command;

use super::process::{Janitor, Process};
use crate::host::Host;
use crate::{sh, wait_until};

/// The message bus that avahi-browse asks over needs a place of its own in /run, and so does avahi:
/// both get an empty one that nobody else sees. The mounts of tests that run meanwhile are let go of: a
/// copy of one would keep it alive beyond its end.
const START: &str = "grep ' fuse' /proc/self/mounts | cut -d' ' -f2 | \
                     while read -r at; do umount -l \"$at\" || true; done; \
                     mount -t tmpfs tmpfs /run; mkdir /run/dbus; \
                     dbus-daemon --system --nofork --nopidfile & \
                     until [ -S /run/dbus/system_bus_socket ]; do sleep 0.02; done; \
                     exec avahi-daemon --no-drop-root --no-chroot --no-rlimits -f \"$0\"";
const CONFIG: &str = "[server]\nhost-name=onlooker\nallow-interfaces=eth0\nenable-dbus=yes\n\
                      [publish]\npublish-hinfo=no\npublish-workstation=no\n";

/// An avahi-daemon on a host. Dropping it ends it.
#[derive(Debug)]
pub struct Avahi {
    process: Process,
    _janitor: Janitor,
}

impl Avahi {
    /// Starts it.
    ///
    /// # Panics
    /// If that is impossible, here and below.
    pub fn start(host: &Host) -> Self {
        let dir = tempfile::Builder::new().prefix("musicfs-avahi-").tempdir();
        let dir = dir.unwrap().keep();
        let janitor = Janitor::of(std::slice::from_ref(&dir));
        let (config, log) = (dir.join("config"), dir.join("log"));
        fs::write(&config, CONFIG).unwrap();
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--pid", "--fork", "--kill-child", "--"])
            .args(["sh", "-euc", START])
            .arg(&config);
        let mut process = Process::start(&host.wrap(&command), &log);
        wait_until("avahi", || {
            let said = fs::read_to_string(&log).unwrap();
            assert!(process.is_running(), "avahi ended:\n{said}");
            said.contains("Server startup complete")
        });
        Self {
            process,
            _janitor: janitor,
        }
    }

    /// What it knows of the instances of a service, `_musicfs._udp` for one: a line for each that was
    /// found, and one with everything in it for each that was resolved, which begins with `=`.
    pub fn browse(&self, service: &str) -> String {
        let pid = self.process.id();
        sh(&format!(
            "nsenter --target {pid} --mount --net -- \
             avahi-browse --resolve --parsable --no-db-lookup --terminate {service}"
        ))
    }
}
