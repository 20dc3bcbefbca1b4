//! A node's word for a manifest.
//!
//! It does not make the manifest right. It makes it known, to whoever finds it wrong, who said that it is.

use musicfs_core::id::NodeId;
use musicfs_core::version::VersionKey;
use ring::signature::{ED25519, UnparsedPublicKey};

use crate::node::{NodeKey, node_id_of};
use crate::wire::Proof;

/// The domain of what is signed.
const DOMAIN: &[u8] = b"musicfs/manifest/1";

/// Signs the encoded manifest of a version.
pub(super) fn sign(key: &NodeKey, version: VersionKey, encoded: &[u8]) -> Proof {
    Proof {
        maker: key.public(),
        signature: key.sign(&message(version, encoded)),
    }
}

/// True if `proof` is the word of `node` for the encoded manifest of a version.
pub(super) fn is_of(proof: &Proof, node: NodeId, version: VersionKey, encoded: &[u8]) -> bool {
    let key = UnparsedPublicKey::new(&ED25519, &proof.maker);
    let message = message(version, encoded);
    node_id_of(&proof.maker) == node && key.verify(&message, &proof.signature).is_ok()
}

/// What is signed: a digest, as with bindings.
fn message(version: VersionKey, encoded: &[u8]) -> [u8; 32] {
    crate::digest::name_of(&[DOMAIN, &version.0, encoded])
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use zeroize::Zeroizing;

    use super::*;

    fn key(seed: u8) -> NodeKey {
        NodeKey::from_seed(Zeroizing::new([seed; 32]))
    }

    #[test]
    fn a_word_is_of_one_node_for_one_manifest_of_one_version() {
        let (one, two) = (VersionKey([1; 16]), VersionKey([2; 16]));
        let proof = sign(&key(7), one, b"manifest");
        assert!(is_of(&proof, key(7).id(), one, b"manifest"));
        assert!(!is_of(&proof, key(8).id(), one, b"manifest"));
        assert!(!is_of(&proof, key(7).id(), two, b"manifest"));
        assert!(!is_of(&proof, key(7).id(), one, b"another"));
        let stolen = Proof {
            maker: key(8).public(),
            ..proof
        };
        assert!(!is_of(&stolen, key(8).id(), one, b"manifest"));
    }

    /// Other programs verify it.
    #[test]
    fn what_is_signed_is_fixed_for_ever() {
        let message = message(VersionKey([1; 16]), b"manifest");
        let expect = "51ad83e11782d5f3c05d1fb9e59d2b589f8b8f2a5e2866d5bc104f63e1325967";
        assert_eq!(HEXLOWER.encode(&message), expect);
    }
}
