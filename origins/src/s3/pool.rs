//! The pool of connections to a server. When one of them turns out to be dead, all are given up.
//!
//! A network that changed, or a machine that slept, leaves connections behind on which nobody answers, and
//! which nobody closes. Tried one after the other, each of them costs the patience of a read.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use aws_sdk_s3::config::{ConfigBag, HttpClient, RuntimeComponents, SharedHttpClient};
use aws_sdk_s3::error::BoxError;
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_runtime_api::client::http::{HttpConnectorSettings, SharedHttpConnector};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponentsBuilder;
use tokio::time::timeout;

/// A wait that is given up after so long met a connection that may be dead.
const DOUBTED_AFTER: Duration = Duration::from_secs(1);
/// How soon new connections may be given up in their turn: what fails by then was asked on older ones.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// What requests go over. Clones are one.
#[derive(Clone, Debug)]
pub(super) struct Pool(Arc<RwLock<Connections>>);

#[derive(Debug)]
struct Connections {
    http: SharedHttpClient,
    renewed: Option<Instant>,
}

/// A wait for something of the server, which others may end as well.
struct Waiting<'a> {
    pool: &'a Pool,
    /// When it has lasted so long that the connection may be dead.
    doubted_at: Instant,
    is_answered: bool,
}

impl Pool {
    pub(super) fn new() -> Self {
        Self(Arc::new(RwLock::new(Connections {
            http: connections(),
            renewed: None,
        })))
    }

    /// A connection broke: what is asked from now on gets another one. What is on its way goes on.
    pub(super) fn give_up(&self) {
        let mut made = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let is_fresh = |renewed: Instant| renewed.elapsed() < TRUSTED_FOR;
        if !made.renewed.is_some_and(is_fresh) {
            *made = Connections {
                http: connections(),
                renewed: Some(Instant::now()),
            };
        }
    }

    fn current(&self) -> SharedHttpClient {
        let made = self.0.read().unwrap_or_else(PoisonError::into_inner);
        made.http.clone()
    }

    /// What the server answers; `None` after `patience`. If that, or whoever asks, ends the wait, the
    /// connection may be dead.
    pub(super) async fn within<T>(
        &self,
        patience: Duration,
        answer: impl Future<Output = T>,
    ) -> Option<T> {
        let mut waiting = Waiting {
            pool: self,
            doubted_at: Instant::now() + patience.min(DOUBTED_AFTER),
            is_answered: false,
        };
        let answer = timeout(patience, answer).await.ok()?;
        waiting.is_answered = true;
        Some(answer)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.is_answered && Instant::now() >= self.doubted_at {
            self.pool.give_up();
        }
    }
}

impl HttpClient for Pool {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        self.current().http_connector(settings, components)
    }

    /// Reads the system's certificates, once and for all that are made later.
    fn validate_base_client_config(
        &self,
        components: &RuntimeComponentsBuilder,
        config: &ConfigBag,
    ) -> Result<(), BoxError> {
        self.current()
            .validate_base_client_config(components, config)
    }
}

/// None yet, and as many as are needed.
fn connections() -> SharedHttpClient {
    Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .build_https()
}
