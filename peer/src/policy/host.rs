//! A host and a port, as people write them.

use std::fmt;

use crate::mesh::DEFAULT_PORT;

/// The longest name in DNS (RFC 1035 section 2.3.4).
const HOST_LEN_MAX: usize = 253;

/// Where a node is looked for: a name or an IP address, and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// A name in DNS, an IPv4 address, or an IPv6 address without brackets, which may have a zone
    /// (`fe80::1%eth0`). 1 to 253 letters, digits, `.`, `-`, `_`, `:` and `%`.
    host: String,
    /// Not 0.
    port: u16,
}

/// Why a text is no [`HostPort`]. Reads after "cannot".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("use {text:?} as an address: write host, host:port, or [IPv6]:port")]
pub struct InvalidHostPort {
    /// The text.
    pub text: String,
}

impl HostPort {
    /// Reads `host`, `host:port`, `[v6]`, `[v6]:port` or `v6`; without a port it is [`DEFAULT_PORT`].
    ///
    /// # Errors
    /// [`InvalidHostPort`] for any other text; the caller tells the user.
    pub fn parse(text: &str) -> Result<Self, InvalidHostPort> {
        let parsed = split(text).and_then(|(host, port)| {
            let port = match port {
                Some(port) => parse_port(port)?,
                None => DEFAULT_PORT,
            };
            let fits = (1..=HOST_LEN_MAX).contains(&host.len()) && host.bytes().all(is_of_a_host);
            fits.then(|| Self {
                host: host.to_owned(),
                port,
            })
        });
        parsed.ok_or_else(|| InvalidHostPort {
            text: text.to_owned(),
        })
    }

    /// The name or the address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Host and port; `None` if the brackets are wrong.
fn split(text: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        return match rest.strip_prefix(':') {
            Some(port) => Some((host, Some(port))),
            None => rest.is_empty().then_some((host, None)),
        };
    }
    match text.split_once(':') {
        // More than one colon: an IPv6 address alone.
        Some((_, rest)) if rest.contains(':') => Some((text, None)),
        Some((host, port)) => Some((host, Some(port))),
        None => Some((text, None)),
    }
}

/// Digits alone: `parse` of the standard library takes a sign.
fn parse_port(text: &str) -> Option<u16> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let port = is_number.then(|| text.parse().ok())?;
    port.filter(|port| *port != 0)
}

fn is_of_a_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b".-_:%".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_read_with_and_without_a_port() {
        let check = |text: &str, expect: &str| {
            let read = HostPort::parse(text).map(|read| read.to_string());
            assert_eq!(read.as_deref(), Ok(expect), "{text:?}");
            let again = HostPort::parse(expect).map(|read| read.to_string());
            assert_eq!(again.as_deref(), Ok(expect), "its own text");
        };
        check("nas", &format!("nas:{DEFAULT_PORT}"));
        check("nas.local:7000", "nas.local:7000");
        check("10.0.0.7", &format!("10.0.0.7:{DEFAULT_PORT}"));
        check("10.0.0.7:65535", "10.0.0.7:65535");
        check("2001:db8::7", &format!("[2001:db8::7]:{DEFAULT_PORT}"));
        check("[2001:db8::7]", &format!("[2001:db8::7]:{DEFAULT_PORT}"));
        check("[fe80::1%eth0]:1", "[fe80::1%eth0]:1");
        check(
            "music.svc.cluster.local.",
            &format!("music.svc.cluster.local.:{DEFAULT_PORT}"),
        );
    }

    #[test]
    fn what_is_no_host_and_port_is_refused() {
        let long = "x".repeat(HOST_LEN_MAX + 1);
        for bad in [
            "",
            ":7000",
            "nas:",
            "nas:0",
            "nas:65536",
            "nas:+7",
            "nas:7x",
            "[::1",
            "[::1]7000",
            "[::1]:",
            "[]:7",
            "na s",
            "nas/7",
            "http://nas",
            "näs",
            &long,
        ] {
            assert!(HostPort::parse(bad).is_err(), "{bad:?}");
        }
    }
}
