//! The UDP socket.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use rustix::fd::{AsFd, OwnedFd};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, socket_with, sockopt};

use super::{DEFAULT_PORT, MeshError};

/// What is asked of the kernel for each direction: with its default of 208 KiB about one packet of a
/// hundred is lost at full speed. It grants `net.core.rmem_max`, or all to who may administer the network.
const BUFFER_BYTES: usize = 8 * 1024 * 1024;

/// Opens the port that [`super::MeshOptions::listen`] means.
///
/// # Errors
/// [`MeshError::Listen`].
pub(super) fn open(listen: Option<SocketAddr>) -> Result<UdpSocket, MeshError> {
    let failed = |address| move |source| MeshError::Listen { address, source };
    if let Some(address) = listen {
        return open_at(address).map_err(failed(address));
    }
    let both = SocketAddr::from((Ipv6Addr::UNSPECIFIED, DEFAULT_PORT));
    let v4_alone = SocketAddr::from((Ipv4Addr::UNSPECIFIED, DEFAULT_PORT));
    let first = match open_on_all(both) {
        // No IPv6 in this kernel, or none in this network namespace.
        Err(error) if is_without(&error) => open_on_all(v4_alone),
        opened => opened,
    };
    first.map_err(failed(both))
}

fn open_on_all(address: SocketAddr) -> io::Result<UdpSocket> {
    match open_at(address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            open_at(SocketAddr::new(address.ip(), 0))
        }
        opened => opened,
    }
}

fn is_without(error: &io::Error) -> bool {
    let unsupported = rustix::io::Errno::AFNOSUPPORT.raw_os_error();
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(unsupported)
}

fn open_at(address: SocketAddr) -> io::Result<UdpSocket> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::DGRAM, flags, Some(ipproto::UDP))?;
    if address.ip() == Ipv6Addr::UNSPECIFIED {
        sockopt::set_ipv6_v6only(&socket, false)?;
    }
    bind(&socket, &address)?;
    enlarge(&socket);
    Ok(UdpSocket::from(socket))
}

/// Asks for large buffers. Smaller ones cost speed alone.
fn enlarge(socket: &OwnedFd) {
    let fd = socket.as_fd();
    let received = sockopt::set_socket_recv_buffer_size_force(fd, BUFFER_BYTES)
        .or_else(|_| sockopt::set_socket_recv_buffer_size(fd, BUFFER_BYTES));
    let sent = sockopt::set_socket_send_buffer_size_force(fd, BUFFER_BYTES)
        .or_else(|_| sockopt::set_socket_send_buffer_size(fd, BUFFER_BYTES));
    // The kernel counts its own bookkeeping, too, and says twice what it was asked for.
    let granted = |size: rustix::io::Result<usize>| size.unwrap_or(0) / 2;
    let receive = granted(sockopt::socket_recv_buffer_size(fd));
    let send = granted(sockopt::socket_send_buffer_size(fd));
    if received.is_err() || sent.is_err() || receive.min(send) < BUFFER_BYTES {
        tracing::debug!(
            receive,
            send,
            wanted = BUFFER_BYTES,
            "the buffers of the UDP socket are small"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_reach_the_port_of_all_addresses() {
        let socket = open_on_all((Ipv6Addr::UNSPECIFIED, 0).into()).unwrap();
        socket.set_nonblocking(false).unwrap();
        let port = socket.local_addr().unwrap().port();
        for own in ["127.0.0.1:0", "[::1]:0"] {
            let sender = UdpSocket::bind(own).unwrap();
            let to = SocketAddr::new(sender.local_addr().unwrap().ip(), port);
            sender.send_to(b"x", to).unwrap();
            let (len, from) = socket.recv_from(&mut [0; 8]).unwrap();
            assert_eq!((len, from.port()), (1, sender.local_addr().unwrap().port()));
        }
    }

    #[test]
    fn a_taken_port_is_an_error_where_it_was_chosen_and_else_replaced() {
        let taken = UdpSocket::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let _first = open(Some(taken)).unwrap();
        assert!(
            matches!(open(Some(taken)), Err(MeshError::Listen { address, .. }) if address == taken)
        );
        let other = open_on_all(taken).unwrap().local_addr().unwrap();
        assert_eq!(other.ip(), taken.ip());
        assert_ne!(other.port(), taken.port());
    }

    #[test]
    fn buffers_are_no_smaller_than_the_system_gives_anyway() {
        let plain = UdpSocket::bind("127.0.0.1:0").unwrap();
        let ours = open_on_all("127.0.0.1:0".parse().unwrap()).unwrap();
        let size = |socket: &UdpSocket| sockopt::socket_recv_buffer_size(socket).unwrap();
        assert!(size(&ours) >= size(&plain));
    }
}
