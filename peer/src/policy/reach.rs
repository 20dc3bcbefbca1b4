//! Which addresses make sense to whom.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// The one form of an address: IPv4 as such, no flow label, a scope for link-local addresses only.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    let SocketAddr::V6(v6) = address else {
        return address;
    };
    if let Some(v4) = v6.ip().to_ipv4_mapped() {
        return SocketAddr::new(v4.into(), v6.port());
    }
    let scope = if v6.ip().is_unicast_link_local() {
        v6.scope_id()
    } else {
        0
    };
    SocketAddrV6::new(*v6.ip(), v6.port(), 0, scope).into()
}

/// True if a connection to it could be tried at all.
pub(crate) fn is_dialable(address: &SocketAddr) -> bool {
    let is_host = match address {
        SocketAddr::V4(v4) => {
            let ip = v4.ip();
            !ip.is_unspecified() && !ip.is_broadcast() && !ip.is_multicast() && ip.octets()[0] != 0
        }
        SocketAddr::V6(v6) => {
            let ip = v6.ip();
            let has_scope = !ip.is_unicast_link_local() || v6.scope_id() != 0;
            !ip.is_unspecified() && !ip.is_multicast() && has_scope
        }
    };
    is_host && address.port() != 0
}

/// True if what is reached here at `address` is reached there, too, by a node at `reader`: loopback
/// means something on this host alone, a link-local address on one link alone.
pub(crate) fn makes_sense_to(address: &SocketAddr, reader: &SocketAddr) -> bool {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_link_local() => false,
        IpAddr::V6(ip) if ip.is_unicast_link_local() => false,
        ip => is_dialable(address) && (!ip.is_loopback() || reader.ip().is_loopback()),
    }
}

/// True if it means something together with an interface only.
pub(crate) fn is_scoped(address: &SocketAddr) -> bool {
    matches!(address, SocketAddr::V6(v6) if v6.ip().is_unicast_link_local())
}

/// The network that one customer of a provider has: all of an IPv4 address, the first 64 bits of an
/// IPv6 address.
pub(crate) fn network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(v4) => Ipv4Addr::into(v4),
            None => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_host_has_one_form() {
        let check = |given: &str, expect: &str| {
            assert_eq!(canonical(address(given)), address(expect), "{given}");
        };
        check("10.0.0.7:1", "10.0.0.7:1");
        check("[::ffff:10.0.0.7]:1", "10.0.0.7:1");
        check("[fe80::1%3]:1", "[fe80::1%3]:1");
        check("[2001:db8::1%3]:1", "[2001:db8::1]:1");
    }

    #[test]
    fn only_hosts_are_dialled() {
        for good in [
            "10.0.0.7:1",
            "127.0.0.1:1",
            "[::1]:1",
            "[fe80::1%3]:1",
            "[2001:db8::1]:1",
        ] {
            assert!(is_dialable(&address(good)), "{good}");
        }
        for bad in [
            "10.0.0.7:0",
            "0.0.0.0:1",
            "0.1.2.3:1",
            "255.255.255.255:1",
            "224.0.0.251:5353",
            "[::]:1",
            "[ff02::fb]:5353",
            "[fe80::1]:1",
        ] {
            assert!(!is_dialable(&address(bad)), "{bad}");
        }
    }

    #[test]
    fn what_means_something_here_only_is_not_told_elsewhere() {
        let check = |told: &str, to: &str, expect: bool| {
            assert_eq!(
                makes_sense_to(&address(told), &address(to)),
                expect,
                "{told} to {to}"
            );
        };
        check("10.0.0.7:1", "10.0.0.8:1", true);
        check("127.0.0.1:1", "10.0.0.8:1", false);
        check("127.0.0.1:1", "127.0.0.1:2", true);
        check("127.0.0.1:1", "[::1]:2", true);
        check("[fe80::1%3]:1", "[fe80::2%3]:1", false);
        check("169.254.1.1:1", "169.254.1.2:1", false);
        check("[2001:db8::1]:1", "10.0.0.8:1", true);
    }

    #[test]
    fn a_customer_counts_once() {
        let network_of = |text: &str| network(text.parse().unwrap()).to_string();
        assert_eq!(network_of("10.0.0.7"), "10.0.0.7");
        assert_eq!(network_of("::ffff:10.0.0.7"), "10.0.0.7");
        assert_eq!(network_of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
    }
}
