//! How nodes of one cluster tell each other's announcements from all others.

use rustls::pki_types::CertificateDer;
use zeroize::Zeroizing;

use crate::cluster::ClusterKey;

/// The context of the key that follows from certificates.
const AUTHORITIES: &str = "musicfs/pki/1 discovery";
/// The domain of what a tag is made over.
const DOMAIN: &[u8] = b"musicfs/mdns/1";

/// Makes and checks tags.
///
/// With a cluster key, nobody else can make one. With a PKI of one's own it follows from the CA's
/// certificates, which are no secret: then it tells clusters apart and keeps nobody out, as little as
/// an announcement without a tag would; who belongs to the cluster is shown by certificates anyway.
pub(crate) struct TagKey(Zeroizing<[u8; 32]>);

/// A tag: the start of a keyed BLAKE3 over the name and the port of a service.
///
/// An announcement that is repeated by somebody else leads to other hosts at most, where the same port
/// is dialled in vain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tag([u8; Tag::LEN]);

impl TagKey {
    pub(crate) fn of_cluster(cluster: &ClusterKey) -> Self {
        Self(cluster.discovery_key())
    }

    pub(crate) fn of_authorities(authorities: &[CertificateDer<'_>]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(AUTHORITIES);
        for certificate in authorities {
            hasher.update(&(certificate.len() as u64).to_le_bytes());
            hasher.update(certificate);
        }
        Self(Zeroizing::new(*hasher.finalize().as_bytes()))
    }

    /// The tag of a service by its instance name.
    pub(crate) fn tag(&self, instance: &str, port: u16) -> Tag {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(DOMAIN);
        hasher.update(&port.to_be_bytes());
        hasher.update(instance.as_bytes());
        let mut tag = [0; Tag::LEN];
        hasher.finalize_xof().fill(&mut tag);
        Tag(tag)
    }

    /// True if `text` is the tag of this service.
    pub(crate) fn is_tag(&self, instance: &str, port: u16, text: &str) -> bool {
        let expected = self.tag(instance, port);
        let given = data_encoding::HEXLOWER.decode(text.as_bytes());
        given.is_ok_and(|given| given.len() == Tag::LEN && constant_time_eq(&given, &expected.0))
    }
}

impl Tag {
    /// 128 bits: no one guesses one.
    pub(crate) const LEN: usize = 16;

    /// As it is announced.
    pub(crate) fn to_text(self) -> String {
        data_encoding::HEXLOWER.encode(&self.0)
    }
}

/// Takes the same time whatever differs.
fn constant_time_eq(left: &[u8], right: &[u8]) -> bool {
    let differing = left
        .iter()
        .zip(right)
        .fold(0, |sum, (left, right)| sum | (left ^ right));
    left.len() == right.len() && differing == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u8) -> TagKey {
        TagKey::of_cluster(&ClusterKey::from_bytes([seed; 16]))
    }

    #[test]
    fn a_tag_is_fixed_for_ever() {
        let key = TagKey::of_cluster(&ClusterKey::from_bytes(*b"0123456789abcdef"));
        assert_eq!(
            key.tag("6e60e1f0800f2a35", 25_252).to_text(),
            "e92f7f0b1b538b44b0155231b7a8b2f0"
        );
        let pki = TagKey::of_authorities(&[b"one".as_slice().into(), b"two".as_slice().into()]);
        assert_eq!(
            pki.tag("6e60e1f0800f2a35", 25_252).to_text(),
            "78d4987b37bef94a7cc79961fd2913d0"
        );
    }

    #[test]
    fn only_the_same_service_of_the_same_cluster_has_a_tag() {
        let text = key(1).tag("instance", 7000).to_text();
        assert!(key(1).is_tag("instance", 7000, &text));
        assert!(!key(2).is_tag("instance", 7000, &text), "another cluster");
        assert!(!key(1).is_tag("instancf", 7000, &text), "another name");
        assert!(!key(1).is_tag("instance", 7001, &text), "another port");
        for bad in [
            "",
            "0",
            &text[2..],
            &text.to_uppercase(),
            &format!("{text}00"),
            &"0".repeat(32),
        ] {
            assert!(!key(1).is_tag("instance", 7000, bad), "{bad:?}");
        }
    }

    #[test]
    fn certificates_cannot_be_regrouped() {
        let tag = |parts: &[&'static [u8]]| {
            let certificates: Vec<_> = parts
                .iter()
                .map(|part| CertificateDer::from(*part))
                .collect();
            TagKey::of_authorities(&certificates)
                .tag("instance", 1)
                .to_text()
        };
        assert_ne!(tag(&[b"ab", b"c"]), tag(&[b"a", b"bc"]));
        assert_ne!(tag(&[b"ab", b"c"]), tag(&[b"abc"]));
    }
}
