//! A bucket of an S3 service.

mod bucket;
mod checksum;
mod endpoint;
mod failure;
mod group;
mod limit;
mod list;
mod object;
mod pool;
mod read;
mod status;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::config::Credentials;
use tokio::sync::OnceCell;
use tokio::time::timeout;

use musicfs_core::checksum::Checksum;
use musicfs_core::id::OriginId;
use musicfs_core::origin::{
    BoxFuture, Depth, DirStream, Origin, OriginError, OriginFile, OriginKind, Refusal, Watch,
};
use musicfs_core::path::OriginPath;
use musicfs_core::version::{ContentVersion, OriginKey, Validator};

use bucket::{Bucket, Keys};
use endpoint::Endpoint;
use failure::{Attempt, Subject};
use limit::AnswerLimit;
use pool::Pool;
use read::S3File;

/// How long a server may keep silent: until it is connected and has answered, and again for each
/// piece of a body.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest key of an object (Amazon S3 user guide, "Naming Amazon S3 objects").
const KEY_LEN_MAX: usize = 1024;
/// The longest name of a bucket, as old ones in us-east-1 have it; new ones end at 63.
const BUCKET_LEN_MAX: usize = 255;

/// What an [`S3Origin`] is made of. Holds no secrets.
#[derive(Clone)]
pub struct S3Config {
    /// The id from the configuration.
    pub id: OriginId,
    /// The URL of the service, `http://` or `https://`; `None` for AWS. Decides, with the bucket,
    /// which place this is, so the environment cannot set it.
    pub endpoint: Option<String>,
    /// The region that requests are signed for. `None`: that of the profile or the environment,
    /// else `us-east-1`.
    pub region: Option<String>,
    /// The name of the bucket.
    pub bucket: String,
    /// What keys begin with, `a/b` or nothing, without slashes at its ends: the origin's root.
    pub prefix: String,
    /// Whether the bucket is named in the path of a URL and not in its host; `None`: with an
    /// endpoint it is.
    pub path_style: Option<bool>,
    /// The profile of `~/.aws` that holds the credentials. `None`: the environment, the default
    /// profile, a token or role of the machine, the first that has any.
    pub profile: Option<String>,
    /// What names this place to other nodes, in place of endpoint and bucket.
    pub identity: Option<String>,
}

impl fmt::Debug for S3Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What is no endpoint may have a password in it.
        let endpoint = self.endpoint.as_deref();
        let endpoint = endpoint.map(|url| Endpoint::parse(url).map_or("(not one)", |_| url));
        f.debug_struct("S3Config")
            .field("id", &self.id)
            .field("endpoint", &endpoint)
            .field("region", &self.region)
            .field("bucket", &self.bucket)
            .field("prefix", &self.prefix)
            .field("path_style", &self.path_style)
            .field("profile", &self.profile)
            .field("identity", &self.identity)
            .finish()
    }
}

/// The `s3` origin: the objects of a bucket whose keys begin with a prefix.
///
/// Needs a tokio runtime around it. Nothing retries here, and nothing watches: S3 tells of no
/// changes.
pub struct S3Origin {
    bucket: Arc<Bucket>,
    key: OriginKey,
}

impl S3Origin {
    /// Makes an origin without touching network or files: a client is made at the first use, with
    /// the credentials found then.
    ///
    /// # Errors
    /// [`OriginError::RootMissing`] if endpoint, bucket or prefix cannot be one; the user must
    /// correct the configuration.
    pub fn new(config: S3Config) -> Result<Self, OriginError> {
        let keys = Keys::Chain {
            profile: config.profile.clone(),
        };
        Self::with_keys(config, keys)
    }

    /// The same with fixed credentials, for callers that hold them; the profile is not looked at.
    ///
    /// # Errors
    /// As [`S3Origin::new`].
    pub fn with_credentials(
        config: S3Config,
        access_key: &str,
        secret_key: &str,
    ) -> Result<Self, OriginError> {
        let credentials = Credentials::new(access_key, secret_key, None, None, "fixed");
        Self::with_keys(config, Keys::Fixed(credentials))
    }

    /// Waits for a server for another time than 30 s, in tests.
    #[doc(hidden)]
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        Arc::make_mut(&mut self.bucket).patience = patience;
        self
    }

    fn with_keys(config: S3Config, keys: Keys) -> Result<Self, OriginError> {
        let endpoint = match &config.endpoint {
            Some(url) => Endpoint::parse(url),
            None => Ok(Endpoint::aws()),
        };
        let prefix = OriginPath::new(config.prefix.as_bytes());
        let (endpoint, prefix) = match (endpoint, prefix) {
            _ if !is_bucket_name(&config.bucket) => {
                return Err(no_root(&config, "no bucket has such a name"));
            }
            (Ok(endpoint), Ok(prefix)) if config.prefix.len() < KEY_LEN_MAX => (endpoint, prefix),
            (Err(reason), _) => return Err(no_root(&config, reason)),
            _ => {
                return Err(no_root(
                    &config,
                    "its prefix must be like a/b, and no longer than a key",
                ));
            }
        };
        let place = match config.identity {
            Some(identity) => identity,
            None => format!("{}/{}", endpoint.place, config.bucket),
        };
        let bucket = Bucket {
            id: config.id,
            name: config.bucket,
            prefix,
            path_style: config.path_style.unwrap_or(endpoint.url.is_some()),
            endpoint,
            region: config.region,
            keys,
            patience: PATIENCE,
            client: OnceCell::new(),
            pool: Pool::new(),
            is_lax: Arc::default(),
        };
        Ok(Self {
            bucket: Arc::new(bucket),
            key: OriginKey(place.into_bytes().into()),
        })
    }

    /// The object of a version; asks for nothing.
    fn file(
        &self,
        action: &'static str,
        path: &OriginPath,
        expected: &ContentVersion,
    ) -> Result<S3File, OriginError> {
        let attempt = Attempt { action, path };
        let Validator::ETag(tag) = &expected.validator else {
            return Err(attempt.changed());
        };
        let key = match self.bucket.key(path) {
            Some(key) if !path.is_root() => key,
            _ => return Err(attempt.not_found()),
        };
        Ok(S3File {
            bucket: Arc::clone(&self.bucket),
            path: path.clone(),
            key,
            version: expected.clone(),
            tag: tag.clone(),
        })
    }

    async fn look(&self, attempt: Attempt<'_>) -> Result<(), OriginError> {
        match self.look_at_bucket(attempt).await {
            Err(OriginError::Refused {
                refusal: Refusal::Forbidden | Refusal::Other(400 | 405) | Refusal::Server(501),
                ..
            }) => self.look_for_a_key(attempt).await,
            looked => looked,
        }
    }

    /// Asks for the bucket itself, which costs the least and needs the right to list.
    async fn look_at_bucket(&self, attempt: Attempt<'_>) -> Result<(), OriginError> {
        let client = self.bucket.client(attempt).await?;
        let request = client
            .head_bucket()
            .bucket(&self.bucket.name)
            .customize()
            .interceptor(AnswerLimit::Always)
            .send();
        let looked = self.bucket.answer(request, attempt, Subject::Bucket).await;
        looked.map(|_| ())
    }

    /// Asks for one key: where the bucket itself does not answer, or does not say why.
    async fn look_for_a_key(&self, attempt: Attempt<'_>) -> Result<(), OriginError> {
        let client = self.bucket.client(attempt).await?;
        let prefix = self.bucket.key(&OriginPath::default());
        let request = client
            .list_objects_v2()
            .bucket(&self.bucket.name)
            .set_prefix(
                prefix
                    .filter(|prefix| !prefix.is_empty())
                    .map(|it| it + "/"),
            )
            .max_keys(1)
            .customize()
            .interceptor(AnswerLimit::Listing)
            .send();
        let looked = self.bucket.answer(request, attempt, Subject::Bucket).await;
        looked.map(|_| ())
    }
}

impl fmt::Debug for S3Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S3Origin({:?})", self.display_name())
    }
}

impl Origin for S3Origin {
    fn id(&self) -> &OriginId {
        &self.bucket.id
    }

    fn kind(&self) -> OriginKind {
        OriginKind::S3
    }

    fn key(&self) -> Option<OriginKey> {
        Some(self.key.clone())
    }

    fn key_path(&self, path: &OriginPath) -> OriginPath {
        let prefix = &self.bucket.prefix;
        if prefix.is_root() {
            return path.clone();
        }
        if path.is_root() {
            return prefix.clone();
        }
        let key = [prefix.as_bytes(), b"/", path.as_bytes()].concat();
        // One that is too long names no object, and is never listed.
        OriginPath::new(&key).unwrap_or_else(|_| path.clone())
    }

    fn display_name(&self) -> String {
        let Bucket { name, prefix, .. } = &*self.bucket;
        let slash = if prefix.is_root() { "" } else { "/" };
        match self.bucket.endpoint.url {
            Some(_) => format!(
                "s3://{name}{slash}{prefix} at {}",
                self.bucket.endpoint.place
            ),
            None => format!("s3://{name}{slash}{prefix}"),
        }
    }

    fn check(&self) -> BoxFuture<'_, Result<(), OriginError>> {
        Box::pin(async move {
            let root = OriginPath::default();
            let attempt = Attempt {
                action: "reach",
                path: &root,
            };
            let patience = self.bucket.patience;
            let looked = timeout(patience, self.look(attempt)).await;
            looked.unwrap_or_else(|_| Err(attempt.timed_out(patience)))
        })
    }

    fn list(&self, under: &OriginPath, depth: Depth) -> Box<dyn DirStream> {
        Box::new(list::start(Arc::clone(&self.bucket), under.clone(), depth))
    }

    fn open<'a>(
        &'a self,
        path: &'a OriginPath,
        expected: &'a ContentVersion,
    ) -> BoxFuture<'a, Result<Box<dyn OriginFile>, OriginError>> {
        Box::pin(async move {
            let file = self.file("open", path, expected)?;
            Ok(Box::new(file) as Box<dyn OriginFile>)
        })
    }

    fn checksum<'a>(
        &'a self,
        path: &'a OriginPath,
        expected: &'a ContentVersion,
    ) -> BoxFuture<'a, Result<Option<Checksum>, OriginError>> {
        Box::pin(async move {
            let file = self.file("ask for the checksum of", path, expected)?;
            file.checksum().await
        })
    }

    fn watch(&self) -> Result<Option<Box<dyn Watch>>, OriginError> {
        Ok(None)
    }
}

fn is_bucket_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let fits = (1..=BUCKET_LEN_MAX).contains(&name.len());
    fits && !name.starts_with('.') && name.bytes().all(legal)
}

fn no_root(config: &S3Config, reason: &'static str) -> OriginError {
    OriginError::RootMissing {
        root: PathBuf::from(format!("s3://{}/{}", config.bucket, config.prefix)),
        reason,
    }
}
