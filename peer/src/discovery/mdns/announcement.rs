//! What a node announces, and what it makes of the announcements of others.

use std::io;
use std::net::{SocketAddr, SocketAddrV6};
use std::sync::Arc;

use mdns_sd::{ResolvedService, ScopedIp, ServiceInfo};
use ring::rand::{SecureRandom, SystemRandom};

use super::SERVICE;
use crate::discovery::tag::TagKey;
use crate::policy::book::ADDRESSES_OF_NODE_MAX;

/// The version of what is announced. Another one is announced beside it, should there ever be one.
const VERSION: &str = "1";
/// The longest instance name (RFC 6763 section 4.1.1).
const INSTANCE_LEN_MAX: usize = 63;

/// The names of this node's own announcement: 128 random bits each, so that nobody need be asked whether
/// they are taken, and nothing in them outlives the program.
pub(super) struct Own {
    instance: String,
    host: String,
}

/// A service of this cluster.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Announced {
    pub(super) instance: Arc<str>,
    pub(super) addresses: Vec<SocketAddr>,
}

impl Own {
    pub(super) fn draw() -> io::Result<Self> {
        let draw = || {
            let mut bytes = [0; 16];
            let filled = SystemRandom::new().fill(&mut bytes);
            filled.map_err(|_| io::Error::other("the system gives no random numbers"))?;
            io::Result::Ok(data_encoding::HEXLOWER.encode(&bytes))
        };
        Ok(Self {
            instance: draw()?,
            host: format!("{}.local.", draw()?),
        })
    }

    /// What is announced: the address that is listened on, or all that the interfaces have from time to
    /// time.
    pub(super) fn info(
        &self,
        listen: SocketAddr,
        tag_key: &TagKey,
    ) -> Result<ServiceInfo, mdns_sd::Error> {
        let port = listen.port();
        let tag = tag_key.tag(&self.instance, port).to_text();
        let port_text = port.to_string();
        let texts = [("v", VERSION), ("port", &port_text), ("mac", &tag)];
        let (instance, host) = (&self.instance, &self.host);
        let mut info = match listen.ip() {
            ip if ip.is_unspecified() => {
                let info = ServiceInfo::new(SERVICE, instance, host, (), port, &texts[..])?;
                info.enable_addr_auto()
            }
            ip => ServiceInfo::new(SERVICE, instance, host, ip, port, &texts[..])?,
        };
        info.set_requires_probe(false);
        Ok(info)
    }
}

impl Announced {
    /// What a service says, if it is of this cluster and not this node's own.
    pub(super) fn read(service: &ResolvedService, tag_key: &TagKey, own: &Own) -> Option<Self> {
        let instance = instance_of(&service.fullname)?;
        let text = |key| service.get_property_val_str(key);
        let port: u16 = text("port")?.parse().ok()?;
        let is_ours = text("v")? == VERSION && tag_key.is_tag(instance, port, text("mac")?);
        if !is_ours || instance == own.instance {
            return None;
        }
        let addresses = service.addresses.iter().map(|ip| address(ip, port));
        let mut addresses: Vec<_> = addresses.collect();
        // Always the same ones of too many, and those that mean the same everywhere first.
        addresses.sort_by_key(|address| (is_of_the_link(address), *address));
        addresses.truncate(ADDRESSES_OF_NODE_MAX);
        Some(Self {
            instance: instance.into(),
            addresses,
        })
    }
}

/// The instance of a full name.
pub(super) fn instance_of(full_name: &str) -> Option<&str> {
    let instance = full_name.strip_suffix(SERVICE)?.strip_suffix('.')?;
    (1..=INSTANCE_LEN_MAX)
        .contains(&instance.len())
        .then_some(instance)
}

/// An address of a service. One of a link alone is reached through the interface on which it was heard.
fn address(ip: &ScopedIp, port: u16) -> SocketAddr {
    match ip {
        ScopedIp::V6(v6) => {
            let ip = *v6.addr();
            let scope = match ip.is_unicast_link_local() {
                true => v6.scope_id().index,
                false => 0,
            };
            SocketAddrV6::new(ip, port, 0, scope).into()
        }
        other => SocketAddr::new(other.to_ip_addr(), port),
    }
}

fn is_of_the_link(address: &SocketAddr) -> bool {
    match address {
        SocketAddr::V4(v4) => v4.ip().is_link_local(),
        SocketAddr::V6(v6) => v6.ip().is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use mdns_sd::TxtProperty;

    use super::*;
    use crate::cluster::ClusterKey;

    fn key(seed: u8) -> TagKey {
        TagKey::of_cluster(&ClusterKey::from_bytes([seed; 16]))
    }

    /// What a node of cluster 1 announces with these addresses, after a change of its texts.
    fn announced(ips: &str, change: impl Fn(&mut Vec<(String, String)>)) -> (Own, ResolvedService) {
        let own = Own::draw().unwrap();
        let info = own.info("0.0.0.0:7000".parse().unwrap(), &key(1)).unwrap();
        let texts = info.get_properties().iter();
        let mut texts: Vec<_> = texts
            .map(|text| (text.key().to_owned(), text.val_str().to_owned()))
            .collect();
        change(&mut texts);
        let info = ServiceInfo::new(SERVICE, &own.instance, &own.host, ips, 7000, &texts[..]);
        (own, info.unwrap().as_resolved_service())
    }

    fn read(service: &ResolvedService) -> Option<Announced> {
        Announced::read(service, &key(1), &Own::draw().unwrap())
    }

    #[test]
    fn a_node_of_the_cluster_is_read_with_its_addresses() {
        let (own, service) = announced("10.0.0.7,2001:db8::7,169.254.1.7", |_| ());
        let read = read(&service).unwrap();
        assert_eq!(*read.instance, own.instance);
        let addresses: Vec<_> = read.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(
            addresses,
            ["10.0.0.7:7000", "[2001:db8::7]:7000", "169.254.1.7:7000"]
        );
    }

    #[test]
    fn nothing_is_told_but_port_version_and_tag() {
        let own = Own::draw().unwrap();
        let info = own.info("0.0.0.0:7000".parse().unwrap(), &key(1)).unwrap();
        let mut keys: Vec<_> = info.get_properties().iter().map(TxtProperty::key).collect();
        keys.sort_unstable();
        assert_eq!(keys, ["mac", "port", "v"]);
        let names = [&own.instance, own.host.strip_suffix(".local.").unwrap()];
        assert!(names.iter().all(
            |name| name.len() == 32 && data_encoding::HEXLOWER.decode(name.as_bytes()).is_ok()
        ));
        let again = Own::draw().unwrap();
        assert!(
            own.instance != again.instance && own.host != again.host && own.host != own.instance
        );
    }

    #[test]
    fn other_clusters_and_what_only_looks_like_a_node_are_ignored() {
        let (_, service) = announced("10.0.0.7", |_| ());
        assert!(read(&service).is_some());
        assert_eq!(
            Announced::read(&service, &key(2), &Own::draw().unwrap()),
            None
        );
        let set = |key: &'static str, value: &'static str| {
            move |texts: &mut Vec<(String, String)>| {
                texts.retain(|(name, _)| name != key);
                texts.push((key.to_owned(), value.to_owned()));
            }
        };
        let drop = |key: &'static str| {
            move |texts: &mut Vec<(String, String)>| texts.retain(|(name, _)| name != key)
        };
        for (_, service) in [
            announced("10.0.0.7", set("port", "7001")),
            announced("10.0.0.7", set("port", "70000")),
            announced("10.0.0.7", set("port", "")),
            announced("10.0.0.7", set("mac", "00112233445566778899aabbccddeeff")),
            announced("10.0.0.7", set("v", "2")),
            announced("10.0.0.7", drop("port")),
            announced("10.0.0.7", drop("mac")),
            announced("10.0.0.7", drop("v")),
        ] {
            assert_eq!(read(&service), None, "{:?}", service.txt_properties);
        }
        let (_, mut other_name) = announced("10.0.0.7", |_| ());
        other_name.fullname = format!("x{}", other_name.fullname);
        assert_eq!(read(&other_name), None);
    }

    #[test]
    fn this_node_does_not_find_itself() {
        let (own, service) = announced("10.0.0.7", |_| ());
        assert_eq!(Announced::read(&service, &key(1), &own), None);
    }

    #[test]
    fn one_service_has_a_few_addresses() {
        let many: Vec<_> = (0..100).map(|last| format!("10.0.0.{last}")).collect();
        let (_, service) = announced(&many.join(","), |_| ());
        assert_eq!(
            read(&service).unwrap().addresses.len(),
            ADDRESSES_OF_NODE_MAX
        );
    }

    #[test]
    fn names_of_other_services_have_no_instance() {
        assert_eq!(instance_of("abc._musicfs._udp.local."), Some("abc"));
        let long = format!("{}.{SERVICE}", "x".repeat(64));
        for bad in [
            "._musicfs._udp.local.",
            "_musicfs._udp.local.",
            "abc._other._udp.local.",
            &long,
        ] {
            assert_eq!(instance_of(bad), None, "{bad:?}");
        }
    }
}
