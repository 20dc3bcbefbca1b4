//! Who is let in, over real connections.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use quinn::{ConnectionError, Endpoint, TransportErrorCode};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use zeroize::Zeroizing;

use super::*;
use crate::binding::{Binding, Exported, Role};
use crate::certificate;
use crate::cluster::ClusterKey;
use crate::node::NodeKey;

/// Far longer than any of it takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// The two ends of a meeting; a client counts as in once it has read what the server sent.
struct Met {
    client: Result<quinn::Connection, ConnectionError>,
    server: Result<quinn::Connection, ConnectionError>,
    _endpoints: [Endpoint; 2],
}

/// A clock that stands still, at seconds since 1970.
#[derive(Debug)]
struct Still(u64);

impl TimeProvider for Still {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0)))
    }
}

/// Believes every server, as a stranger would who wants to get in.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = ring::default_provider().signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

/// An authority of a PKI that has nothing to do with us.
struct Pki {
    params: CertificateParams,
    key: KeyPair,
}

impl Pki {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self { params, key }
    }

    fn ca(&self) -> String {
        self.params.self_signed(&self.key).unwrap().pem()
    }

    /// A certificate for `name` and its key, as PEM.
    fn issue(&self, name: &str) -> (String, String) {
        self.issue_with(name, |_| ())
    }

    fn issue_with(
        &self,
        name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> (String, String) {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::from_params(&self.params, &self.key);
        let certificate = params.signed_by(&key, &issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn credentials(&self, name: &str) -> Credentials {
        let (certificate, key) = self.issue(name);
        pem(&self.ca(), &certificate, &key).unwrap()
    }
}

fn pem(ca: &str, certificate: &str, key: &str) -> Result<Credentials, CredentialsError> {
    Credentials::from_pem(ca.as_bytes(), certificate.as_bytes(), key.as_bytes())
}

fn cluster(seed: u8) -> ClusterKey {
    ClusterKey::from_bytes([seed; 16])
}

fn node(seed: u8) -> NodeKey {
    NodeKey::from_seed(Zeroizing::new([seed; 32]))
}

fn credentials(cluster_seed: u8, node_seed: u8) -> Credentials {
    Credentials::of_cluster(&cluster(cluster_seed), &node(node_seed))
}

fn tls(cluster_seed: u8, node_seed: u8) -> Tls {
    credentials(cluster_seed, node_seed).tls().unwrap()
}

/// What a stranger dials with who shows `shown`, or nothing.
fn stranger(
    shown: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
) -> quinn::ClientConfig {
    stranger_with(shown, ALPN)
}

fn stranger_with(
    shown: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    protocol: &[u8],
) -> quinn::ClientConfig {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone));
    let mut config = match shown {
        None => config.with_no_client_auth(),
        Some((chain, key)) => config.with_client_auth_cert(chain, key).unwrap(),
    };
    config.alpn_protocols = vec![protocol.to_vec()];
    quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(config).unwrap()))
}

async fn meet(client: quinn::ClientConfig, server: &Tls) -> Met {
    let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = Endpoint::server(server.server.clone(), anywhere).unwrap();
    let dialer = Endpoint::client(anywhere).unwrap();
    let address = listener.local_addr().unwrap();
    let accepting = async {
        let connection = listener.accept().await.unwrap().await?;
        let mut stream = connection.open_uni().await?;
        stream.write_all(b"in").await.unwrap();
        stream.finish().unwrap();
        Ok(connection)
    };
    let dialing = async {
        let connection = dialer
            .connect_with(client, address, SERVER_NAME)
            .unwrap()
            .await?;
        let mut stream = connection.accept_uni().await?;
        assert_eq!(stream.read_to_end(16).await.unwrap(), b"in");
        Ok(connection)
    };
    let both = async { tokio::join!(dialing, accepting) };
    let (client, server) = tokio::time::timeout(PATIENCE, both).await.unwrap();
    let _endpoints = [listener, dialer];
    Met {
        client,
        server,
        _endpoints,
    }
}

impl Met {
    fn connections(&self) -> (&quinn::Connection, &quinn::Connection) {
        (self.client.as_ref().unwrap(), self.server.as_ref().unwrap())
    }

    /// The server refused the client, with this TLS alert.
    fn assert_server_refused(&self, alert: u8) {
        let expect = TransportErrorCode::crypto(alert);
        match &self.server {
            Err(ConnectionError::TransportError(error)) => {
                assert_eq!(error.code, expect, "{error}");
            }
            other => panic!("{other:?}"),
        }
        match &self.client {
            Err(ConnectionError::ConnectionClosed(close)) => assert_eq!(close.error_code, expect),
            other => panic!("{other:?}"),
        }
    }

    /// The client refused the server, with this TLS alert.
    fn assert_client_refused(&self, alert: u8) {
        let expect = TransportErrorCode::crypto(alert);
        match &self.client {
            Err(ConnectionError::TransportError(error)) => {
                assert_eq!(error.code, expect, "{error}");
            }
            other => panic!("{other:?}"),
        }
        match &self.server {
            Err(ConnectionError::ConnectionClosed(close)) => assert_eq!(close.error_code, expect),
            other => panic!("{other:?}"),
        }
    }
}

/// TLS alerts (RFC 8446 section 6).
const BAD_CERTIFICATE: u8 = 42;
const DECRYPT_ERROR: u8 = 51;
const UNKNOWN_CA: u8 = 48;
const CERTIFICATE_REQUIRED: u8 = 116;
const NO_APPLICATION_PROTOCOL: u8 = 120;

#[tokio::test]
async fn two_nodes_of_one_cluster_meet_and_learn_each_others_names() {
    let (one, two) = (tls(1, 10), tls(1, 20));
    let met = meet(one.client.clone(), &two).await;
    let (client, server) = met.connections();
    assert_eq!(one.peer_id(client).unwrap(), node(20).id());
    assert_eq!(two.peer_id(server).unwrap(), node(10).id());
    let data = client.handshake_data().unwrap();
    let data = data
        .downcast::<quinn::crypto::rustls::HandshakeData>()
        .unwrap();
    assert_eq!(data.protocol.as_deref(), Some(ALPN));
}

#[tokio::test]
async fn a_node_of_another_cluster_is_refused_whoever_dials() {
    let (ours, theirs) = (tls(1, 10), tls(2, 20));
    let met = meet(ours.client.clone(), &theirs).await;
    met.assert_client_refused(DECRYPT_ERROR);
    // One that does not care whom it talks to, and shows what its own cluster gave it.
    let key = node(20).to_pkcs8().into();
    let chain = vec![certificate::member(&cluster(2), &node(20))];
    let met = meet(stranger(Some((chain, key))), &ours).await;
    met.assert_server_refused(DECRYPT_ERROR);
}

#[tokio::test]
async fn who_shows_no_certificate_is_refused() {
    let met = meet(stranger(None), &tls(1, 10)).await;
    met.assert_server_refused(CERTIFICATE_REQUIRED);
}

#[tokio::test]
async fn who_shows_a_certificate_of_his_own_making_is_refused() {
    let ours = tls(1, 10);
    let pki = Pki::new();
    let credentials = pki.credentials(SERVER_NAME);
    let shown = (credentials.chain.clone(), credentials.key.clone_key());
    meet(stranger(Some(shown)), &ours)
        .await
        .assert_server_refused(UNKNOWN_CA);
    // With his authority in the chain.
    let above = credentials.authorities[0].clone();
    let chain = vec![credentials.chain[0].clone(), above];
    let shown = (chain, credentials.key.clone_key());
    meet(stranger(Some(shown)), &ours)
        .await
        .assert_server_refused(UNKNOWN_CA);
    // A server like that is not believed either.
    let theirs = credentials.tls().unwrap();
    meet(ours.client.clone(), &theirs)
        .await
        .assert_client_refused(UNKNOWN_CA);
}

#[tokio::test]
async fn a_members_certificate_is_worth_nothing_without_its_key() {
    let chain = vec![certificate::member(&cluster(1), &node(20))];
    let other = node(30).to_pkcs8().into();
    let provider = ring::default_provider();
    let signer = provider.key_provider.load_private_key(other).unwrap();
    let certified = Arc::new(rustls::sign::CertifiedKey::new(chain, signer));
    let resolver = Arc::new(rustls::sign::SingleCertAndKey::from(certified));
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_client_cert_resolver(resolver);
    config.alpn_protocols = vec![ALPN.to_vec()];
    let config = Arc::new(QuicClientConfig::try_from(config).unwrap());
    let met = meet(quinn::ClientConfig::new(config), &tls(1, 10)).await;
    met.assert_server_refused(DECRYPT_ERROR);
}

#[tokio::test]
async fn a_member_that_speaks_another_protocol_is_refused() {
    let member = credentials(1, 20);
    let shown = (member.chain.clone(), member.key.clone_key());
    let dialing = stranger_with(Some(shown), b"musicfs/0");
    let met = meet(dialing, &tls(1, 10)).await;
    met.assert_server_refused(NO_APPLICATION_PROTOCOL);
}

#[tokio::test]
async fn a_cluster_does_not_mind_what_time_it_is() {
    // 1970, 2100, and farther than certificates go.
    for seconds in [0, 4_102_444_800, u64::MAX] {
        let lost = credentials(1, 10).tls_at(Arc::new(Still(seconds))).unwrap();
        let (client, server) = (tls(1, 20), tls(1, 30));
        let met = meet(lost.client.clone(), &server).await;
        assert_eq!(lost.peer_id(met.connections().0).unwrap(), node(30).id());
        let met = meet(client.client.clone(), &lost).await;
        assert_eq!(lost.peer_id(met.connections().1).unwrap(), node(20).id());
    }
}

#[tokio::test]
async fn nothing_is_resumed_and_nothing_is_sent_early() {
    let (one, two) = (tls(1, 10), tls(1, 20));
    let met = meet(one.client.clone(), &two).await;
    assert!(met.client.is_ok());
    let [listener, dialer] = &met._endpoints;
    let address = listener.local_addr().unwrap();
    let again = dialer
        .connect_with(one.client.clone(), address, SERVER_NAME)
        .unwrap();
    assert!(again.into_0rtt().is_err());
    let clock = Arc::new(rustls::time_provider::DefaultTimeProvider);
    let credentials = credentials(1, 10);
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(credentials.authorities[0].clone()).unwrap();
    let signed = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let name = SERVER_NAME.try_into().unwrap();
    let members = Arc::new(Members {
        signed: signed.build().unwrap(),
        name,
    });
    let config = server(&credentials, members, &provider, clock).unwrap();
    assert_eq!(
        (config.send_tls13_tickets, config.max_early_data_size),
        (0, 0)
    );
    assert!(!config.ticketer.enabled() && !config.session_storage.can_cache());
}

#[tokio::test]
async fn nodes_that_share_a_certificate_are_told_apart_by_their_keys() {
    let tls = Pki::new().credentials(SERVER_NAME).tls().unwrap();
    let met = meet(tls.client.clone(), &tls).await;
    let (client, server) = met.connections();
    for connection in [client, server] {
        assert!(matches!(tls.peer_id(connection), Err(PeerIdError::Unbound)));
    }
    let [at_client, at_server] = [client, server].map(|end| Exported::of(end).unwrap());
    let binding = Binding::sign(&node(10), Role::Client, &at_client);
    assert_eq!(
        binding.verify(Role::Client, &at_server).unwrap(),
        node(10).id()
    );
    let binding = Binding::sign(&node(20), Role::Server, &at_server);
    assert_eq!(
        binding.verify(Role::Server, &at_client).unwrap(),
        node(20).id()
    );
    // Another session of the same two.
    let met = meet(tls.client.clone(), &tls).await;
    let elsewhere = Exported::of(met.connections().0).unwrap();
    assert!(binding.verify(Role::Server, &elsewhere).is_err());
}

#[tokio::test]
async fn another_service_of_the_same_pki_is_refused() {
    let pki = Pki::new();
    let ours = pki.credentials(SERVER_NAME).tls().unwrap();
    let (certificate, key) = pki.issue("mail");
    let mail = pem(&pki.ca(), &certificate, &key).unwrap();
    let shown = (mail.chain.clone(), mail.key.clone_key());
    let met = meet(stranger(Some(shown)), &ours).await;
    met.assert_server_refused(BAD_CERTIFICATE);
}

#[test]
fn what_others_would_refuse_is_refused_at_the_start() {
    let pki = Pki::new();
    let unfit = |certificate: &str, key: &str, clock: u64| {
        let credentials = pem(&pki.ca(), certificate, key).unwrap();
        match credentials.tls_at(Arc::new(Still(clock))) {
            Err(CredentialsError::Unfit(error)) => error.to_string(),
            other => panic!("{other:?}"),
        }
    };
    let check = |told: String, expect: &str| assert!(told.contains(expect), "{told}");
    const TODAY: u64 = 1_700_000_000;
    let (certificate, key) = pki.issue("mail");
    check(unfit(&certificate, &key, TODAY), "not valid for name");
    let (certificate, key) = pki.issue_with(SERVER_NAME, |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2030, 1, 1);
    });
    assert!(
        pem(&pki.ca(), &certificate, &key)
            .unwrap()
            .tls_at(Arc::new(Still(TODAY)))
            .is_ok()
    );
    check(unfit(&certificate, &key, 0), "not valid yet");
    check(unfit(&certificate, &key, 4_102_444_800), "expired");
    let (_, other) = pki.issue(SERVER_NAME);
    check(
        unfit(&certificate, &other, TODAY),
        "keys may not be consistent",
    );
    let (certificate, key) = Pki::new().issue(SERVER_NAME);
    check(unfit(&certificate, &key, TODAY), "BadSignature");
    let (certificate, key) = pki.issue_with(SERVER_NAME, |params| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    });
    check(unfit(&certificate, &key, TODAY), "client authentication");
}

#[test]
fn what_is_no_pem_is_named_and_nothing_of_a_key_is_told() {
    let pki = Pki::new();
    let (ca, (certificate, key)) = (pki.ca(), pki.issue(SERVER_NAME));
    let check = |got: Result<Credentials, CredentialsError>, expect: &str| {
        let error = got.unwrap_err();
        assert!(error.to_string().starts_with(expect), "{error}");
    };
    check(pem("", &certificate, &key), "read the CA (PEM): it holds 0");
    check(
        pem(&ca, "x", &key),
        "read the certificate (PEM): it holds 0",
    );
    check(
        pem(&ca, &certificate, &certificate),
        "read the private key (PEM)",
    );
    check(
        pem(&ca, &certificate.repeat(17), &key),
        "read the certificate (PEM): it holds 17",
    );
    check(
        pem(&ca, &certificate[..100], &key),
        "read the certificate (PEM)",
    );
    let credentials = pem(&ca, &certificate, &key).unwrap();
    assert_eq!(format!("{credentials:?}"), "Credentials(Binding)");
}
