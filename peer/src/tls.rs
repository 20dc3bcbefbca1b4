//! TLS for QUIC: version 1.3 alone, both ends show a certificate, nothing is resumed.

use std::sync::Arc;

use musicfs_core::id::NodeId;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, RootCertStore,
    ServerConfig, SignatureScheme,
};

use crate::credentials::{Credentials, CredentialsError};
use crate::node::node_id_of_spki;

/// What every node is called in TLS. Who it is, its key says.
pub const SERVER_NAME: &str = "musicfs";

/// The protocol, and its version (RFC 7301).
pub const ALPN: &[u8] = b"musicfs/1";

/// What a certificate of a cluster is checked by at least and at most: seconds since 1970 of
/// 2000-01-02 and of 9000-01-01, which lie within its validity.
const AGELESS: (u64, u64) = (946_771_200, 221_845_392_000);

/// The configurations of both directions of QUIC.
///
/// What is between them and the network (transport parameters, limits) is the caller's to add.
#[derive(Clone, Debug)]
pub struct Tls {
    /// For connections to other nodes, whose name is [`SERVER_NAME`].
    ///
    /// A connection that is made is not yet one that is accepted: a node that refuses this one says so
    /// after the handshake, so that the first answer is the proof.
    pub client: quinn::ClientConfig,
    /// For connections from other nodes.
    pub server: quinn::ServerConfig,
    naming: Naming,
}

/// Why a connection does not say which node is at its other end.
#[derive(Debug, thiserror::Error)]
pub enum PeerIdError {
    /// The handshake is not done, or the certificate is none of a node.
    #[error("name the peer: it showed no certificate with an Ed25519 key")]
    NoKey,
    /// Several nodes may share its certificate.
    #[error("name the peer: its certificate does not say which node it is")]
    Unbound,
}

/// What says which node is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Naming {
    /// Its certificate: each node has one for its own key.
    Certificate,
    /// A [`crate::Binding`]: several nodes may share a certificate.
    Binding,
}

/// A clock for certificates that never expire: what it says before and after the years that they are
/// valid for is taken for the nearest of them.
#[derive(Debug)]
pub(crate) struct Ageless(pub(crate) Arc<dyn TimeProvider>);

/// Lets in who has a certificate of the authorities that is for [`SERVER_NAME`].
#[derive(Debug)]
struct Members {
    signed: Arc<dyn ClientCertVerifier>,
    name: ServerName<'static>,
}

impl Tls {
    /// The node at the other end, as its certificate says.
    ///
    /// # Errors
    /// [`PeerIdError::NoKey`]: the caller closes the connection. [`PeerIdError::Unbound`] with
    /// credentials of a PKI of one's own: the caller asks the other end for a [`crate::Binding`].
    pub fn peer_id(&self, connection: &quinn::Connection) -> Result<NodeId, PeerIdError> {
        if self.naming == Naming::Binding {
            return Err(PeerIdError::Unbound);
        }
        let shown = connection.peer_identity();
        let chain = shown.and_then(|shown| shown.downcast::<Vec<CertificateDer<'static>>>().ok());
        let node = chain.and_then(|chain| {
            let certificate = ParsedCertificate::try_from(chain.first()?).ok()?;
            node_id_of_spki(&certificate.subject_public_key_info())
        });
        node.ok_or(PeerIdError::NoKey)
    }
}

impl TimeProvider for Ageless {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = self.0.current_time().map_or(AGELESS.0, |now| now.as_secs());
        let seconds = seconds.clamp(AGELESS.0, AGELESS.1);
        let since = std::time::Duration::from_secs(seconds);
        Some(UnixTime::since_unix_epoch(since))
    }
}

impl ClientCertVerifier for Members {
    /// None: a stranger need not be told who is believed here.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self
            .signed
            .verify_client_cert(certificate, intermediates, now)?;
        verify_server_name(&ParsedCertificate::try_from(certificate)?, &self.name)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls13RequiredForQuic.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signed.supported_verify_schemes()
    }
}

/// Makes the TLS of `credentials` by `clock`, having checked that it would believe itself.
///
/// # Errors
/// As [`Credentials::tls`].
pub(crate) fn configure(
    credentials: &Credentials,
    clock: Arc<dyn TimeProvider>,
) -> Result<Tls, CredentialsError> {
    let provider = Arc::new(ring::default_provider());
    let name = ServerName::try_from(SERVER_NAME).expect("a short ASCII text");
    let mut roots = RootCertStore::empty();
    for authority in &credentials.authorities {
        roots
            .add(authority.clone())
            .map_err(CredentialsError::Unfit)?;
    }
    let roots = Arc::new(roots);
    let servers = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone());
    let servers = servers.build().map_err(CredentialsError::Authority)?;
    let clients = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
    let signed = clients.build().map_err(CredentialsError::Authority)?;
    let clients = Arc::new(Members {
        signed,
        name: name.clone(),
    });

    let now = clock
        .current_time()
        .ok_or(CredentialsError::Unfit(Error::FailedToGetCurrentTime))?;
    let (own, above) = credentials
        .chain
        .split_first()
        .expect("credentials have a certificate");
    let believed = servers.verify_server_cert(own, above, &name, &[], now);
    believed.map_err(CredentialsError::Unfit)?;
    let believed = clients.verify_client_cert(own, above, now);
    believed.map_err(CredentialsError::Unfit)?;

    let client = client(credentials, servers, &provider, clock.clone());
    let server = server(credentials, clients, &provider, clock);
    let client = QuicClientConfig::try_from(client.map_err(CredentialsError::Unfit)?);
    let server = QuicServerConfig::try_from(server.map_err(CredentialsError::Unfit)?);
    let has_suite = "the provider has TLS13_AES_128_GCM_SHA256, which QUIC begins with";
    Ok(Tls {
        client: quinn::ClientConfig::new(Arc::new(client.expect(has_suite))),
        server: quinn::ServerConfig::with_crypto(Arc::new(server.expect(has_suite))),
        naming: credentials.naming,
    })
}

fn client(
    credentials: &Credentials,
    servers: Arc<WebPkiServerVerifier>,
    provider: &Arc<CryptoProvider>,
    clock: Arc<dyn TimeProvider>,
) -> Result<ClientConfig, Error> {
    let config = ClientConfig::builder_with_details(provider.clone(), clock)
        .with_protocol_versions(&[&TLS13])?
        .with_webpki_verifier(servers);
    let mut config =
        config.with_client_auth_cert(credentials.chain.clone(), credentials.key.clone_key())?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // A node that was rotated out must not come back with what it was given before; no 0-RTT either.
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Ok(config)
}

fn server(
    credentials: &Credentials,
    clients: Arc<Members>,
    provider: &Arc<CryptoProvider>,
    clock: Arc<dyn TimeProvider>,
) -> Result<ServerConfig, Error> {
    let config = ServerConfig::builder_with_details(provider.clone(), clock)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(clients);
    let mut config =
        config.with_single_cert(credentials.chain.clone(), credentials.key.clone_key())?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

#[cfg(test)]
mod tests;
