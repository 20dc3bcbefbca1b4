//! The cluster key, and what follows from it.

use std::fmt;
use std::io;

use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use crate::code::JoinCode;

/// Of what follows from a cluster key, each has a context of its own: BLAKE3's `derive_key` makes
/// independent keys of them, from none of which the cluster key can be found again.
const AUTHORITY: &str = "musicfs/cluster/1 certificate authority";
const FINGERPRINT: &str = "musicfs/cluster/1 fingerprint";
const DISCOVERY: &str = "musicfs/cluster/1 discovery";

/// The secret that all nodes of a cluster share: who has it is a member.
///
/// 128 random bits. Wiped when it is dropped, and shown by nothing but [`JoinCode::reveal`].
#[derive(Clone)]
pub struct ClusterKey(Zeroizing<[u8; ClusterKey::LEN]>);

/// Names a cluster to people without giving its key away.
///
/// 64 bits of a one-way function of the key; shown as hexadecimal digits in groups of four.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 8]);

impl ClusterKey {
    /// Its length in bytes.
    pub const LEN: usize = 16;

    /// Takes over a key that was made once.
    pub fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    pub(crate) fn from_secret(bytes: Zeroizing<[u8; Self::LEN]>) -> Self {
        Self(bytes)
    }

    /// Makes a new one.
    ///
    /// # Errors
    /// The system has no random numbers; no key can be made then.
    pub fn random() -> io::Result<Self> {
        let mut bytes = Zeroizing::new([0; Self::LEN]);
        let filled = SystemRandom::new().fill(&mut *bytes);
        filled.map_err(|_| io::Error::other("the system gives no random numbers"))?;
        Ok(Self(bytes))
    }

    /// What people call the cluster.
    pub fn fingerprint(&self) -> Fingerprint {
        let digest = self.derive(FINGERPRINT);
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&digest[..8]);
        Fingerprint(bytes)
    }

    /// What lets another node in.
    pub fn join_code(&self) -> JoinCode {
        JoinCode::new(self.clone())
    }

    /// The seed of the Ed25519 key that signs the certificates of this cluster's nodes.
    pub(crate) fn authority_seed(&self) -> Zeroizing<[u8; 32]> {
        self.derive(AUTHORITY)
    }

    /// What nodes of one cluster tell each other by on a network.
    pub(crate) fn discovery_key(&self) -> Zeroizing<[u8; 32]> {
        self.derive(DISCOVERY)
    }

    pub(crate) fn bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    fn derive(&self, context: &str) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(blake3::derive_key(context, &*self.0))
    }
}

impl fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterKey(..)")
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, pair) in self.0.chunks(2).enumerate() {
            let dash = if index == 0 { "" } else { "-" };
            write!(f, "{dash}{:02x}{:02x}", pair[0], pair[1])?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// One of many keys that are this process's own: on loopback, nodes hear those of other processes, too.
    pub(crate) fn cluster_key(number: u8) -> ClusterKey {
        let mut bytes = [number; ClusterKey::LEN];
        bytes[..4].copy_from_slice(&std::process::id().to_le_bytes());
        ClusterKey::from_bytes(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_from_a_key_is_fixed_for_ever() {
        let key = ClusterKey::from_bytes(*b"0123456789abcdef");
        assert_eq!(key.fingerprint().to_string(), "6e60-e1f0-800f-2a35");
        let seed = data_encoding::HEXLOWER.encode(&*key.authority_seed());
        assert_eq!(
            seed,
            "f9d48c9952c96c6942ba8fd561ada992eac7e0e74cec3378239c4d23b79fa5dc"
        );
    }

    #[test]
    fn two_keys_share_nothing() {
        let [one, two] = [0, 1].map(|_| ClusterKey::random().unwrap());
        assert_ne!(one.bytes(), two.bytes());
        assert_ne!(one.fingerprint(), two.fingerprint());
        assert_ne!(*one.authority_seed(), *two.authority_seed());
    }

    #[test]
    fn a_key_is_not_printed() {
        let key = ClusterKey::from_bytes([0xab; 16]);
        assert_eq!(
            format!("{key:?} {:?}", Some(&key)),
            "ClusterKey(..) Some(ClusterKey(..))"
        );
    }
}
