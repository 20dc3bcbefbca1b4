//! Ports that no other test has.

use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, SocketAddr as InetAddr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// How many ports a block has: all that one server needs.
pub(super) const BLOCK_LEN: u16 = 5;
/// How far above a port its twin lies, which `weed` takes for gRPC.
pub(super) const TWIN_OFFSET: u16 = 10_000;
/// Below the ports that the kernel gives to outgoing connections (32768 and up), twins included.
const BASE_MIN: u16 = 10_000;
const BLOCKS_COUNT: u16 = (32_768 - TWIN_OFFSET - BASE_MIN) / BLOCK_LEN;
/// Far more than there are servers at once.
const TRIES_MAX: usize = 200;

/// Ports in a row, free together with their twins when they were claimed.
///
/// The claim, against every other test process of this machine, ends when it is dropped.
#[derive(Debug)]
pub(super) struct Ports {
    base: u16,
    _claim: UnixDatagram,
}

impl Ports {
    /// Claims a block.
    ///
    /// # Panics
    /// If none is to be had.
    pub(super) fn claim() -> Self {
        let mut random = crate::Random(RandomState::new().hash_one(std::process::id()));
        (0..TRIES_MAX)
            .find_map(|_| {
                let block = u16::try_from(random.below(BLOCKS_COUNT.into())).unwrap();
                Self::try_claim(BASE_MIN + block * BLOCK_LEN)
            })
            .expect("no free ports")
    }

    /// The port of this number, below [`BLOCK_LEN`].
    pub(super) fn port(&self, number: u16) -> u16 {
        assert!(number < BLOCK_LEN, "a block has {BLOCK_LEN} ports");
        self.base + number
    }

    fn try_claim(base: u16) -> Option<Self> {
        // An abstract name belongs to one process and goes with it.
        let name = SocketAddr::from_abstract_name(format!("musicfs-tests-ports-{base}")).unwrap();
        let claim = UnixDatagram::bind_addr(&name).ok()?;
        let is_free = |port| TcpListener::bind(InetAddr::from((Ipv4Addr::LOCALHOST, port))).is_ok();
        let twins = (base..base + BLOCK_LEN).flat_map(|port| [port, port + TWIN_OFFSET]);
        twins.into_iter().all(is_free).then_some(Self {
            base,
            _claim: claim,
        })
    }
}
