//! The certificates of a cluster: all of them follow from its key.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyUsagePurpose, PKCS_ED25519, PublicKeyData, SanType, SerialNumber,
    SignatureAlgorithm, SigningKey, date_time_ymd,
};
use rustls::pki_types::CertificateDer;

use crate::cluster::ClusterKey;
use crate::node::NodeKey;
use crate::tls::SERVER_NAME;

/// How long a certificate is good for: as long as X.509 can say (RFC 5280 section 4.1.2.5). It ends
/// with the cluster key, and not with a date that small boards without a clock cannot know.
const YEARS: (i32, i32) = (2000, 9999);

/// The certificate that all nodes of a cluster believe, byte for byte the same on each.
///
/// Its names are the same in all clusters: a stranger who sees a certificate learns no name from it.
pub(crate) fn authority(cluster: &ClusterKey) -> CertificateDer<'static> {
    let key = authority_key(cluster);
    let certificate = authority_params().self_signed(&Signer(&key));
    let certificate = certificate.expect("fixed parameters and an Ed25519 key");
    certificate.der().clone()
}

/// The certificate of `node`, signed by the authority of `cluster`.
pub(crate) fn member(cluster: &ClusterKey, node: &NodeKey) -> CertificateDer<'static> {
    let key = authority_key(cluster);
    let authority = authority_params();
    let issuer = Issuer::from_params(&authority, Signer(&key));
    let mut params = params("musicfs node");
    params.serial_number = Some(SerialNumber::from_slice(node.id().as_bytes()));
    let name = SERVER_NAME.try_into().expect("a short ASCII text");
    params.subject_alt_names = vec![SanType::DnsName(name)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let certificate = params.signed_by(&Signer(node), &issuer);
    let certificate = certificate.expect("fixed parameters and Ed25519 keys");
    certificate.der().clone()
}

fn authority_key(cluster: &ClusterKey) -> NodeKey {
    NodeKey::from_seed(cluster.authority_seed())
}

fn authority_params() -> CertificateParams {
    let mut params = params("musicfs cluster");
    params.serial_number = Some(SerialNumber::from_slice(&[1]));
    // It signs nodes and no further authorities.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn params(common_name: &str) -> CertificateParams {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    params.not_before = date_time_ymd(YEARS.0, 1, 1);
    params.not_after = date_time_ymd(YEARS.1, 12, 31);
    params
}

/// One of our keys as the certificate library wants it.
struct Signer<'a>(&'a NodeKey);

impl PublicKeyData for Signer<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0.public_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ED25519
    }
}

impl SigningKey for Signer<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(self.0.sign(message).to_vec())
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    fn cluster() -> ClusterKey {
        ClusterKey::from_bytes(*b"0123456789abcdef")
    }

    #[test]
    fn certificates_are_fixed_for_ever() {
        let node = NodeKey::from_seed(Zeroizing::new([7; 32]));
        let check = |certificate: &[u8], expect: &str| {
            assert_eq!(blake3::hash(certificate).to_hex()[..32], *expect);
        };
        check(&authority(&cluster()), "d213c5cbacacf6f960ff9331b4a3a8f4");
        check(
            &member(&cluster(), &node),
            "405de1ec6b4eb767dde282c0f26ee3f8",
        );
    }

    #[test]
    fn a_certificate_tells_no_name_and_no_cluster() {
        let node = NodeKey::random().unwrap();
        let other = ClusterKey::from_bytes([9; 16]);
        let [one, two] = [cluster(), other].map(|cluster| member(&cluster, &node));
        // All but the signature, the last 64 bytes.
        assert_eq!(one[..one.len() - 64], two[..two.len() - 64]);
        assert_ne!(one, two);
    }
}
