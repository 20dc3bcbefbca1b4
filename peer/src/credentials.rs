//! What a node shows to others, and what it believes.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};

use crate::certificate;
use crate::cluster::ClusterKey;
use crate::node::NodeKey;
use crate::tls::{self, Ageless, Naming, Tls};

/// Certificates that one file may hold: far more than a chain has.
const CERTIFICATES_MAX: usize = 16;

/// A certificate with its key, and the authorities whose certificates are believed.
pub struct Credentials {
    pub(crate) authorities: Vec<CertificateDer<'static>>,
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
    pub(crate) naming: Naming,
}

/// Why there are no credentials. Messages read after "cannot".
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// It is not what it should be.
    #[error("read the {what} (PEM)")]
    Pem {
        /// `CA`, `certificate` or `private key`.
        what: &'static str,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// It holds none, or too many.
    #[error(
        "read the {what} (PEM): it holds {count} certificates instead of 1 to {CERTIFICATES_MAX}"
    )]
    Count {
        /// `CA` or `certificate`.
        what: &'static str,
        /// How many, as far as they were counted.
        count: usize,
    },
    /// The parts are well-formed, and do not belong together or are not for this.
    #[error("use the certificate")]
    Unfit(#[source] rustls::Error),
    /// No certificate could be checked against what is believed.
    #[error("use the CA")]
    Authority(#[source] rustls::server::VerifierBuilderError),
}

impl CredentialsError {
    /// What the user can do.
    pub fn fix(&self) -> &'static str {
        match self {
            Self::Pem { .. } | Self::Count { .. } => {
                "name three PEM files: the CA, the certificate with what leads to the CA, and its private key"
            }
            Self::Unfit(_) => {
                "it must be signed by the CA, valid today, for the DNS name `musicfs`, for servers and clients, \
                 and belong to the private key"
            }
            Self::Authority(_) => "give the certificate of the CA itself",
        }
    }
}

impl Credentials {
    /// Those of a node of a cluster: they never expire, and the certificate names the node.
    pub fn of_cluster(cluster: &ClusterKey, node: &NodeKey) -> Self {
        Self {
            authorities: vec![certificate::authority(cluster)],
            chain: vec![certificate::member(cluster, node)],
            key: node.to_pkcs8().into(),
            naming: Naming::Certificate,
        }
    }

    /// Those of a PKI of one's own: PEM texts of the CA, of the certificate and what leads to the CA,
    /// and of its private key (PKCS #8, PKCS #1 or SEC 1).
    ///
    /// The certificate must be for the DNS name [`crate::SERVER_NAME`], of clients too: one CA may
    /// sign for many services, and only those with this name are nodes. It does not say which node
    /// shows it, for several may share it: that is what a [`crate::Binding`] is for.
    ///
    /// # Errors
    /// [`CredentialsError::Pem`] or [`CredentialsError::Count`]; the caller tells the user.
    pub fn from_pem(ca: &[u8], certificate: &[u8], key: &[u8]) -> Result<Self, CredentialsError> {
        let what = "private key";
        let key = PrivateKeyDer::from_pem_slice(key);
        Ok(Self {
            authorities: certificates("CA", ca)?,
            chain: certificates("certificate", certificate)?,
            key: key.map_err(|source| CredentialsError::Pem { what, source })?,
            naming: Naming::Binding,
        })
    }

    /// The TLS of both directions.
    ///
    /// # Errors
    /// [`CredentialsError::Unfit`] if other nodes would refuse what this one would show, or
    /// [`CredentialsError::Authority`]; the caller tells the user and opens no port.
    pub fn tls(&self) -> Result<Tls, CredentialsError> {
        self.tls_at(Arc::new(DefaultTimeProvider))
    }

    /// The same by another clock.
    pub(crate) fn tls_at(&self, clock: Arc<dyn TimeProvider>) -> Result<Tls, CredentialsError> {
        match self.naming {
            Naming::Certificate => tls::configure(self, Arc::new(Ageless(clock))),
            Naming::Binding => tls::configure(self, clock),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({:?})", self.naming)
    }
}

fn certificates(
    what: &'static str,
    text: &[u8],
) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    let found = CertificateDer::pem_slice_iter(text).take(CERTIFICATES_MAX + 1);
    let found: Result<Vec<_>, _> = found.collect();
    let found = found.map_err(|source| CredentialsError::Pem { what, source })?;
    match found.len() {
        1..=CERTIFICATES_MAX => Ok(found),
        count => Err(CredentialsError::Count { what, count }),
    }
}
