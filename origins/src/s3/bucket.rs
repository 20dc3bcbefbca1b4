//! A bucket, and the client that speaks to its server.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::environment::region::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::{ProfileFileCredentialsProvider, ProfileFileRegionProvider};
use aws_config::provider_config::ProviderConfig;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Credentials, ProvideCredentials, Region, RequestChecksumCalculation,
    ResponseChecksumValidation, SharedCredentialsProvider, StalledStreamProtectionConfig,
};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::{Client, Config};
use tokio::sync::OnceCell;
use tokio::time::timeout;

use musicfs_core::id::OriginId;
use musicfs_core::origin::OriginError;
use musicfs_core::path::OriginPath;

use super::endpoint::Endpoint;
use super::failure::{Attempt, Subject};
use super::pool::Pool;

/// What signs requests where nothing names a region; servers other than AWS rarely care.
const REGION_DEFAULT: &str = "us-east-1";

/// Where credentials come from.
#[derive(Clone)]
pub(super) enum Keys {
    /// The places that AWS's own tools look at; a profile named is the only one.
    Chain { profile: Option<String> },
    /// These, whatever the environment says.
    Fixed(Credentials),
}

/// A bucket as all parts of an origin share it. Has no `Debug`: it may hold keys.
#[derive(Clone)]
pub(super) struct Bucket {
    pub(super) id: OriginId,
    pub(super) name: String,
    pub(super) prefix: OriginPath,
    pub(super) endpoint: Endpoint,
    pub(super) region: Option<String>,
    pub(super) path_style: bool,
    pub(super) keys: Keys,
    /// How long each wait for the server may take.
    pub(super) patience: Duration,
    pub(super) client: OnceCell<Client>,
    /// What it speaks over.
    pub(super) pool: Pool,
    /// True once the server has answered a request whose condition did not hold.
    pub(super) is_lax: Arc<AtomicBool>,
}

impl Bucket {
    /// The full key of a path, or the prefix of all keys below it without the slash behind.
    ///
    /// `None` if it would be no path, or is no text: the sdk cannot ask for other keys.
    pub(super) fn key(&self, path: &OriginPath) -> Option<String> {
        let key = if self.prefix.is_root() {
            path.clone()
        } else if path.is_root() {
            self.prefix.clone()
        } else {
            let key = [self.prefix.as_bytes(), b"/", path.as_bytes()].concat();
            OriginPath::new(&key).ok()?
        };
        String::from_utf8(key.as_bytes().to_vec()).ok()
    }

    /// The client, made at its first use. Where there were no credentials, a later use looks again.
    pub(super) async fn client(&self, attempt: Attempt<'_>) -> Result<&Client, OriginError> {
        let made = self.client.get_or_try_init(|| self.make_client(attempt));
        match timeout(self.patience, made).await {
            Ok(made) => made,
            Err(_) => Err(attempt.timed_out(self.patience)),
        }
    }

    /// True if the server is known to heed no conditions.
    pub(super) fn is_lax(&self) -> bool {
        self.is_lax.load(Ordering::Relaxed)
    }

    /// Remembers that the server heeds no conditions.
    pub(super) fn note_lax(&self) {
        self.is_lax.store(true, Ordering::Relaxed);
    }

    /// Waits for the answer to a request, up to its body where that is streamed.
    pub(super) async fn answer<T, E>(
        &self,
        request: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        attempt: Attempt<'_>,
        subject: Subject,
    ) -> Result<T, OriginError>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let answer = self.pool.within(self.patience, request).await;
        let answer = answer.ok_or_else(|| attempt.timed_out(self.patience))?;
        answer.map_err(|error| {
            if error.raw_response().is_none() {
                self.pool.give_up();
            }
            attempt.failed(&error, subject, self.patience)
        })
    }

    async fn make_client(&self, attempt: Attempt<'_>) -> Result<Client, OriginError> {
        let (region, credentials) = match &self.keys {
            Keys::Fixed(credentials) => {
                let region = self.region.as_deref().unwrap_or(REGION_DEFAULT);
                let region = Region::new(region.to_owned());
                (region, SharedCredentialsProvider::new(credentials.clone()))
            }
            Keys::Chain { profile } => {
                let region = find_region(self.region.as_deref(), profile.as_deref()).await;
                let provider = credentials_chain(profile.as_deref(), &region, &self.pool).await;
                // Told apart from a server's refusal here, where nothing else can have failed.
                if provider.provide_credentials().await.is_err() {
                    return Err(attempt.without_credentials());
                }
                (region, provider)
            }
        };
        let config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(self.pool.clone())
            .region(region)
            .credentials_provider(credentials)
            .force_path_style(self.path_style)
            .retry_config(RetryConfig::disabled())
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(self.patience)
                    .build(),
            )
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        let config = match &self.endpoint.url {
            Some(url) => config.endpoint_url(url).build(),
            None => config.build(),
        };
        // Reads the system's certificates.
        tokio::task::spawn_blocking(move || Client::from_conf(config))
            .await
            .map_err(|stopped| attempt.io(std::io::Error::other(stopped)))
    }
}

async fn find_region(configured: Option<&str>, profile: Option<&str>) -> Region {
    let own = configured.map(|region| Region::new(region.to_owned()));
    let mut named = ProfileFileRegionProvider::builder();
    let mut chain = RegionProviderChain::first_try(own);
    if let Some(profile) = profile {
        named = named.profile_name(profile);
    } else {
        chain = chain.or_else(EnvironmentVariableRegionProvider::new());
    }
    let chain = chain
        .or_else(named.build())
        .or_else(Region::new(REGION_DEFAULT));
    let region = chain.region().await;
    region.unwrap_or(Region::from_static(REGION_DEFAULT))
}

async fn credentials_chain(
    profile: Option<&str>,
    region: &Region,
    pool: &Pool,
) -> SharedCredentialsProvider {
    let config = ProviderConfig::without_region()
        .with_behavior_version(Some(BehaviorVersion::latest()))
        .with_region(Some(region.clone()))
        .with_http_client(pool.clone());
    match profile {
        // Keys in the environment are for whoever names no profile.
        Some(profile) => SharedCredentialsProvider::new(
            ProfileFileCredentialsProvider::builder()
                .configure(&config)
                .profile_name(profile)
                .build(),
        ),
        None => {
            // Without a region of its own the chain would ask the instance's metadata for one.
            let chain = DefaultCredentialsChain::builder()
                .region(region.clone())
                .configure(config);
            SharedCredentialsProvider::new(chain.build().await)
        }
    }
}
