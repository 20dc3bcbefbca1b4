//! Which node is at the other end, where the certificate does not say it.
//!
//! With a PKI of one's own several nodes may show one certificate. Then each signs, with its own key,
//! a value that both ends of a TLS session compute and nobody else can (the exporter of RFC 8446
//! section 7.5, as RFC 9266 uses it): a signature made for one session is worth nothing in another.

use std::fmt;

use musicfs_core::id::NodeId;
use ring::signature::{ED25519, UnparsedPublicKey};
use zeroize::Zeroizing;

use crate::node::{NodeKey, node_id_of};

/// The label of the exporter: experimental ones begin like this (RFC 5705 section 4).
const LABEL: &[u8] = b"EXPERIMENTAL musicfs node";
/// The domain of what is signed.
const DOMAIN: &[u8] = b"musicfs/binding/1";

/// What both ends of one session have in common, and no one else.
pub struct Exported(Zeroizing<[u8; Exported::LEN]>);

/// Who signed: else a node could be sent its own signature back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The one that opened the connection.
    Client,
    /// The one that accepted it.
    Server,
}

/// A node's proof that it is at one end of a session.
///
/// 96 bytes: its public key and its signature.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Binding([u8; Binding::LEN]);

/// Why a proof proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum BindingError {
    /// It was made with another key, for another session, or by the other end.
    #[error("verify the proof of node {claimed}: it is not of this session")]
    Forged {
        /// Who it says made it; that need not be true.
        claimed: NodeId,
    },
    /// The session has no such value: it is over, or was never there.
    #[error("bind node to session: the session exports nothing")]
    Export,
}

impl Exported {
    /// Its length in bytes.
    pub const LEN: usize = 32;

    /// The value of a connection whose handshake is done.
    ///
    /// # Errors
    /// [`BindingError::Export`] if there is none; the caller closes the connection.
    pub fn of(connection: &quinn::Connection) -> Result<Self, BindingError> {
        let mut bytes = Zeroizing::new([0; Self::LEN]);
        let exported = connection.export_keying_material(&mut *bytes, LABEL, b"");
        exported.map_err(|_| BindingError::Export)?;
        Ok(Self(bytes))
    }

    /// The value of a session that is no QUIC connection.
    pub fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl fmt::Debug for Exported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exported(..)")
    }
}

impl Role {
    /// The other end.
    pub fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }

    fn name(self) -> &'static [u8] {
        match self {
            Self::Client => b"client",
            Self::Server => b"server",
        }
    }
}

impl Binding {
    /// Its length in bytes.
    pub const LEN: usize = 96;

    /// Proves that the node of `key` is the `role` of the session of `exported`.
    pub fn sign(key: &NodeKey, role: Role, exported: &Exported) -> Self {
        let mut bytes = [0; Self::LEN];
        bytes[..32].copy_from_slice(&key.public());
        bytes[32..].copy_from_slice(&key.sign(&message(role, exported)));
        Self(bytes)
    }

    /// Takes over what the other end sent.
    pub fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// What to send.
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// The node that is the `role` of the session of `exported`.
    ///
    /// # Errors
    /// [`BindingError::Forged`] if this does not prove it; the caller closes the connection.
    pub fn verify(&self, role: Role, exported: &Exported) -> Result<NodeId, BindingError> {
        let (public, signature) = self.0.split_at(32);
        let node = node_id_of(public.try_into().expect("32 bytes were split off"));
        let key = UnparsedPublicKey::new(&ED25519, public);
        let verified = key.verify(&message(role, exported), signature);
        verified.map_err(|_| BindingError::Forged { claimed: node })?;
        Ok(node)
    }
}

impl fmt::Debug for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Binding(..)")
    }
}

/// What is signed: a digest, so that no signature of ours is over a text that others chose.
fn message(role: Role, exported: &Exported) -> [u8; 32] {
    crate::digest::name_of(&[DOMAIN, role.name(), &*exported.0])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u8) -> NodeKey {
        NodeKey::from_seed(Zeroizing::new([seed; 32]))
    }

    fn is_forged(binding: &Binding, role: Role, session: u8) -> bool {
        let got = binding.verify(role, &Exported::from_bytes([session; 32]));
        matches!(got, Err(BindingError::Forged { .. }))
    }

    #[test]
    fn a_proof_names_its_node_in_its_session_only() {
        let session = Exported::from_bytes([1; 32]);
        for role in [Role::Client, Role::Server] {
            let binding = Binding::sign(&key(7), role, &session);
            assert_eq!(binding.verify(role, &session).unwrap(), key(7).id());
            assert!(is_forged(&binding, role, 2), "another session");
            assert!(is_forged(&binding, role.other(), 1), "sent back");
        }
    }

    #[test]
    fn a_proof_with_any_bit_changed_is_none() {
        let session = Exported::from_bytes([1; 32]);
        let binding = Binding::sign(&key(7), Role::Client, &session);
        for bit in 0..Binding::LEN * 8 {
            let mut bytes = *binding.as_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let changed = Binding::from_bytes(bytes);
            assert!(is_forged(&changed, Role::Client, 1), "bit {bit}");
        }
    }

    #[test]
    fn a_key_cannot_be_put_before_anothers_signature() {
        let session = Exported::from_bytes([1; 32]);
        let mut bytes = *Binding::sign(&key(7), Role::Client, &session).as_bytes();
        bytes[..32].copy_from_slice(&key(8).public());
        assert!(is_forged(&Binding::from_bytes(bytes), Role::Client, 1));
    }
}
