//! The key that a node has for itself, and its name.

use std::fmt;
use std::io;

use musicfs_core::id::NodeId;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use zeroize::Zeroizing;

use crate::digest::name_of;

/// The domain of node ids.
const DOMAIN: &[u8] = b"musicfs/node/1";

/// What stands ahead of an Ed25519 seed in PKCS #8 (RFC 8410 section 7): version 0, the algorithm
/// 1.3.101.112, and the seed as an octet string within another.
const PKCS8_HEAD: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// What stands ahead of an Ed25519 public key in a certificate (RFC 8410 section 4).
const SPKI_HEAD: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// An Ed25519 key. The one of a node never leaves it.
///
/// Its seed is wiped when it is dropped; what the TLS and signature libraries make of it is theirs.
pub struct NodeKey {
    seed: Zeroizing<[u8; NodeKey::LEN]>,
    pair: Ed25519KeyPair,
}

impl NodeKey {
    /// The length of its seed in bytes.
    pub const LEN: usize = 32;

    /// The key of a seed.
    pub fn from_seed(seed: Zeroizing<[u8; Self::LEN]>) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&*seed);
        let pair =
            pair.expect("any 32 bytes are the seed of an Ed25519 key (RFC 8032 section 5.1.5)");
        Self { seed, pair }
    }

    /// Makes a new one.
    ///
    /// # Errors
    /// The system has no random numbers; no key can be made then.
    pub fn random() -> io::Result<Self> {
        let mut seed = Zeroizing::new([0; Self::LEN]);
        let filled = SystemRandom::new().fill(&mut *seed);
        filled.map_err(|_| io::Error::other("the system gives no random numbers"))?;
        Ok(Self::from_seed(seed))
    }

    /// What others call this node.
    pub fn id(&self) -> NodeId {
        node_id_of(&self.public())
    }

    pub(crate) fn seed(&self) -> &[u8; Self::LEN] {
        &self.seed
    }

    pub(crate) fn public_bytes(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    /// The public half (RFC 8032 section 5.1.5).
    pub fn public(&self) -> [u8; 32] {
        let public = self.public_bytes().try_into();
        public.expect("a public key of Ed25519 has 32 bytes (RFC 8032 section 5.1.5)")
    }

    /// Its signature of a message (RFC 8032 section 5.1.6).
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let signature = self.pair.sign(message).as_ref().try_into();
        signature.expect("a signature of Ed25519 has 64 bytes (RFC 8032 section 5.1.6)")
    }

    /// The key in the form that TLS takes.
    pub(crate) fn to_pkcs8(&self) -> PrivatePkcs8KeyDer<'static> {
        [&PKCS8_HEAD[..], &self.seed[..]].concat().into()
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeKey({})", self.id())
    }
}

/// The name of the node that has this Ed25519 public key: the first 16 bytes of a digest of it.
pub fn node_id_of(public: &[u8; 32]) -> NodeId {
    NodeId::from_bytes(name_of(&[DOMAIN, public]))
}

/// The name of the node whose key is in a certificate; `None` if it is no Ed25519 key.
pub(crate) fn node_id_of_spki(spki: &[u8]) -> Option<NodeId> {
    let public = spki.strip_prefix(&SPKI_HEAD)?;
    Some(node_id_of(public.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;

    #[test]
    fn a_node_id_is_fixed_for_ever() {
        let key = NodeKey::from_seed(Zeroizing::new([7; 32]));
        assert_eq!(key.id().to_string(), "8baa0fb475fce940e61ffff7c6e0ed11");
    }

    #[test]
    fn the_public_key_is_that_of_the_standard() {
        // RFC 8032 section 7.1, test 1.
        let seed = b"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
        let seed: [u8; 32] = HEXLOWER.decode(seed).unwrap().try_into().unwrap();
        let key = NodeKey::from_seed(Zeroizing::new(seed));
        let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        assert_eq!(HEXLOWER.encode(&key.public()), public);
    }

    #[test]
    fn only_an_ed25519_key_names_a_node() {
        let key = NodeKey::from_seed(Zeroizing::new([7; 32]));
        let mut spki = [&SPKI_HEAD[..], &key.public()].concat();
        assert_eq!(node_id_of_spki(&spki), Some(key.id()));
        assert_eq!(node_id_of_spki(&spki[..43]), None);
        // X25519 is 1.3.101.110.
        spki[8] = 0x6e;
        assert_eq!(node_id_of_spki(&spki), None);
    }

    #[test]
    fn a_key_shows_nothing_but_its_name() {
        let key = NodeKey::from_seed(Zeroizing::new([7; 32]));
        assert_eq!(format!("{key:?}"), format!("NodeKey({})", key.id()));
    }
}
