//! What is done to an origin, and undone.

use std::fmt;
use std::time::Duration;

use musicfs_tests::servers::proxy::{self, Shape};
use musicfs_tests::servers::s3_proxy::{S3Fault, S3Kind, When};
use musicfs_tests::wait_until;

use super::site::{Kind, Site};

/// 2 Mbit/s.
const SLOW_BYTES_PER_S: u64 = 250_000;
/// Half of a round trip to the other side of the world.
const FAR_EACH_WAY: Duration = Duration::from_millis(150);
/// A connection is cut when it has brought so much: in the middle of any file of the library.
const CUT_AFTER_BYTES: u64 = 300_000;
/// How often.
const CUTS_COUNT: u64 = 3;

/// What goes wrong with an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    Healthy,
    /// The line carries 2 Mbit/s.
    Slow,
    /// A round trip takes 300 ms.
    Far,
    /// Connections are reset, those that are there and new ones. Of a directory: it is gone.
    Refusing,
    /// The server is killed.
    Killed,
    /// Every request is answered with the status 503.
    Erring,
    /// Connections are accepted, and nothing goes on.
    Hanging,
    /// The server is stopped where it is.
    Stopped,
    /// Connections end in the middle of a transfer, a few times.
    Cut,
    /// Another content takes the place of a file that is being read.
    Replaced,
}

impl Fault {
    /// What can go wrong with an origin of this kind, what takes longest first.
    pub(crate) fn of(kind: Kind) -> &'static [Self] {
        match kind {
            // A directory of this machine has no line and no server: it cannot be slow or hang in a
            // way that a test could bring about, and no transfer of it can be cut. Nothing of it is
            // cached, so the cache has no states either.
            Kind::Local => &[Self::Healthy, Self::Refusing, Self::Replaced],
            Kind::Nfs | Kind::Sftp => Self::OF_A_SERVER,
            Kind::S3 | Kind::Sloppy => Self::OF_A_SERVICE,
        }
    }

    const OF_A_SERVICE: &[Self] = &[
        Self::Erring,
        Self::Hanging,
        Self::Stopped,
        Self::Refusing,
        Self::Killed,
        Self::Far,
        Self::Slow,
        Self::Replaced,
        Self::Cut,
        Self::Healthy,
    ];

    /// Only a service has words for what is wrong with it.
    const OF_A_SERVER: &[Self] = Self::OF_A_SERVICE.split_at(1).1;

    /// True if nothing can be had of the origin meanwhile.
    pub(crate) fn is_outage(self) -> bool {
        match self {
            Self::Refusing | Self::Killed | Self::Erring | Self::Hanging | Self::Stopped => true,
            Self::Healthy | Self::Slow | Self::Far | Self::Cut | Self::Replaced => false,
        }
    }

    /// True if the server's process is what is broken: it cannot be one that others use.
    pub(crate) fn is_of_the_process(self) -> bool {
        matches!(self, Self::Killed | Self::Stopped)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format!("{self:?}").to_lowercase())
    }
}

/// A fault that lasts until this is dropped.
///
/// It has to be dropped before the daemon: a process with a call under way on a mount that hangs
/// cannot even be killed.
pub(crate) struct Injected<'a> {
    site: &'a Site,
    fault: Fault,
    connections_before: u64,
}

/// Does to a site what `fault` says.
pub(crate) fn inject(site: &Site, fault: Fault) -> Injected<'_> {
    let connections_before = site.line().map_or(0, proxy::Proxy::connections);
    let line = || site.line().expect("a fault of the line");
    match fault {
        // What is replaced is up to the test, which has the file open.
        Fault::Healthy | Fault::Replaced => {}
        Fault::Slow => line().set_shape(Shape {
            rate_bytes_per_s: Some(SLOW_BYTES_PER_S),
            ..Shape::default()
        }),
        Fault::Far => line().set_shape(Shape {
            delay_each_way: FAR_EACH_WAY,
            ..Shape::default()
        }),
        Fault::Refusing => match site.line() {
            Some(line) => {
                line.set_fault(proxy::Fault::Refuse);
                line.drop_all();
            }
            None => site.hide_directory(),
        },
        Fault::Killed => site.server().kill(),
        Fault::Erring => {
            let relay = site.relay().expect("a fault of a service");
            for kind in [S3Kind::Get, S3Kind::Head, S3Kind::List] {
                relay.inject(When::all(kind), S3Fault::Status(503));
            }
        }
        Fault::Hanging => line().set_fault(proxy::Fault::Hang),
        Fault::Stopped => site.server().pause(),
        Fault::Cut => line().set_fault(proxy::Fault::CutAfter(CUT_AFTER_BYTES)),
    }
    Injected {
        site,
        fault,
        connections_before,
    }
}

impl Injected<'_> {
    /// Waits until connections were cut, and made again, a few times.
    pub(crate) fn wait_for_cuts(&self) {
        let line = self.site.line().expect("a fault of the line");
        let enough = self.connections_before + CUTS_COUNT;
        wait_until("connections to be cut", || line.connections() >= enough);
    }
}

impl Drop for Injected<'_> {
    fn drop(&mut self) {
        match self.fault {
            Fault::Healthy | Fault::Replaced => {}
            Fault::Killed => self.site.server().restart(),
            Fault::Stopped => self.site.server().resume(),
            Fault::Erring => self
                .site
                .relay()
                .expect("a fault of a service")
                .clear_faults(),
            Fault::Slow | Fault::Far | Fault::Refusing | Fault::Hanging | Fault::Cut => {
                match self.site.line() {
                    Some(line) => {
                        line.set_shape(Shape::default());
                        line.set_fault(proxy::Fault::None);
                    }
                    None => self.site.show_directory(),
                }
            }
        }
    }
}
