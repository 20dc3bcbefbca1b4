//! How this node meets the others of its cluster.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU64;
use std::path::PathBuf;

use musicfs_core::peer::PEER_PRIORITY;

use super::value::{parse_size, size_text};
use super::{ConfigError, ConfigFile, origin};
use crate::paths::Environment;

/// The most addresses and names that are tried by themselves: a cluster has up to 64 nodes, and
/// nodes tell each other whom they know.
const ADDRESSES_MAX: usize = 64;

/// How this node meets others. What makes it one of a cluster are its keys, which are no
/// configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PeerConfig {
    /// Where it listens; `None`: the usual port on all addresses.
    pub(crate) listen: Option<SocketAddr>,
    /// The interfaces that others are looked for on; empty for all.
    pub(crate) interfaces: Vec<String>,
    /// Whether it looks for others on the local network, and shows itself there.
    pub(crate) mdns: bool,
    /// `host:port` of nodes that are always tried.
    pub(crate) addresses: Vec<String>,
    /// `name:port` of DNS names of which every address is a node.
    pub(crate) dns_names: Vec<String>,
    /// What it calls itself; `None` for the host's name.
    pub(crate) name: Option<String>,
    /// Where peers stand among origins.
    pub(crate) priority: u32,
    /// Bytes per second sent to all others together.
    pub(crate) upload_limit: Option<NonZeroU64>,
    /// Certificates of one's own in place of those of the cluster's key.
    pub(crate) pki: Option<PkiFiles>,
}

/// The files of a PKI of one's own, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PkiFiles {
    /// The authorities that are believed.
    pub(crate) ca: PathBuf,
    /// This node's certificate chain.
    pub(crate) cert: PathBuf,
    /// The key of the certificate.
    pub(crate) key: PathBuf,
}

impl PeerConfig {
    /// Checks what was typed and completes it.
    ///
    /// # Errors
    /// [`ConfigError`] for the first value that is wrong.
    pub(super) fn resolve(
        typed: &ConfigFile,
        environment: &Environment,
    ) -> Result<Self, ConfigError> {
        let list = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
        let addresses = list(&typed.peer_addresses);
        let dns_names = list(&typed.peer_dns);
        check_places("peer_addresses", &addresses)?;
        check_places("peer_dns", &dns_names)?;
        let limit = typed.peer_upload_limit.as_deref();
        let limit = limit.map(|text| parse_size("peer_upload_limit", text));
        Ok(Self {
            listen: typed
                .peer_listen
                .as_deref()
                .map(parse_peer_listen)
                .transpose()?,
            interfaces: list(&typed.peer_interfaces),
            mdns: typed.peer_mdns.unwrap_or(true),
            addresses,
            dns_names,
            name: typed.peer_name.clone(),
            priority: typed.peer_priority.unwrap_or(PEER_PRIORITY),
            upload_limit: limit.transpose()?.and_then(NonZeroU64::new),
            pki: pki(typed, environment)?,
        })
    }

    /// Writes every key out.
    pub(super) fn write_to(&self, file: &mut ConfigFile) {
        let some = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
        file.peer_listen = self.listen.map(|listen| listen.to_string());
        file.peer_interfaces = some(&self.interfaces);
        file.peer_mdns = Some(self.mdns);
        file.peer_addresses = some(&self.addresses);
        file.peer_dns = some(&self.dns_names);
        file.peer_name.clone_from(&self.name);
        file.peer_priority = Some(self.priority);
        file.peer_upload_limit = self.upload_limit.map(|limit| size_text(limit.get()));
        if let Some(pki) = &self.pki {
            file.peer_ca = Some(pki.ca.clone());
            file.peer_cert = Some(pki.cert.clone());
            file.peer_key = Some(pki.key.clone());
        }
    }
}

/// Reads where to listen: a port, or an address with one.
///
/// # Errors
/// [`ConfigError::Value`] for anything else.
pub(crate) fn parse_peer_listen(text: &str) -> Result<SocketAddr, ConfigError> {
    let any = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let port = text.parse().map(|port: u16| SocketAddr::new(any, port));
    port.or_else(|_| text.parse())
        .map_err(|_| ConfigError::Value {
            key: "peer_listen",
            value: text.to_owned(),
            expected: "write a port, or an address with one: 25252, 192.0.2.1:25252, [::]:25252",
        })
}

fn check_places(key: &'static str, places: &[String]) -> Result<(), ConfigError> {
    let wrong = |value: &str, expected| ConfigError::Value {
        key,
        value: value.to_owned(),
        expected,
    };
    if places.len() > ADDRESSES_MAX {
        let count = places.len().to_string();
        return Err(wrong(
            &count,
            "name 64 at most; nodes tell each other of the rest",
        ));
    }
    let is_place = |place: &&String| {
        let is_plain = !place.is_empty() && !place.contains(char::is_whitespace);
        is_plain && !place.contains('/')
    };
    match places.iter().find(|place| !is_place(place)) {
        None => Ok(()),
        Some(place) => Err(wrong(place, "write host:port, or a host alone")),
    }
}

fn pki(typed: &ConfigFile, environment: &Environment) -> Result<Option<PkiFiles>, ConfigError> {
    let path = |path: &PathBuf| origin::from_home(path.clone(), environment);
    match (&typed.peer_ca, &typed.peer_cert, &typed.peer_key) {
        (None, None, None) => Ok(None),
        (Some(ca), Some(cert), Some(key)) => Ok(Some(PkiFiles {
            ca: path(ca),
            cert: path(cert),
            key: path(key),
        })),
        (ca, cert, key) => {
            let given = [ca, cert, key].into_iter().flatten().next();
            Err(ConfigError::Value {
                key: "peer_ca",
                value: given.map_or_else(String::new, |path| path.display().to_string()),
                expected: "peer_ca, peer_cert and peer_key belong together",
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_to_listen_is_a_port_or_an_address() {
        assert_eq!(parse_peer_listen("7").unwrap().port(), 7);
        assert_eq!(parse_peer_listen("[::1]:7").unwrap().to_string(), "[::1]:7");
        for wrong in ["", "x", "70000", "192.0.2.1", "host:7"] {
            assert!(parse_peer_listen(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn addresses_are_few_and_plain() {
        let places = |count| vec!["nas.lan:25252".to_owned(); count];
        assert!(check_places("peer_dns", &places(64)).is_ok());
        assert!(check_places("peer_dns", &places(65)).is_err());
        for wrong in ["", "a b", "https://nas"] {
            assert!(check_places("peer_dns", &[wrong.to_owned()]).is_err());
        }
    }
}
