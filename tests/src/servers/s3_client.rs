//! What a test puts into a bucket, and looks up there.

use std::error::Error;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Builder, Credentials, Region, RequestChecksumCalculation,
    ResponseChecksumValidation, StalledStreamProtectionConfig,
};
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use tokio::task::JoinSet;

use super::reactor::Reactor;
use crate::PATIENCE;
use crate::host::Host;

/// The access key that the server knows.
pub const ACCESS_KEY: &str = "AKTEST";
/// Its secret.
pub const SECRET_KEY: &str = "SKTEST123";
/// The bucket that is there.
pub const BUCKET: &str = "music";
/// How often a request is sent: a server that was just started may still refuse some.
const ATTEMPTS_MAX: u32 = 5;
/// How many objects are put at once.
const PUTS_AT_ONCE_MAX: usize = 16;

/// A client of one endpoint, with the right credentials. Its methods wait, wherever they are called.
#[derive(Debug)]
pub struct S3Client {
    endpoint: String,
    client: Client,
    patience: Duration,
    host: Host,
    reactor: Reactor,
}

/// An object could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The server answered with this status.
    Status(u16),
    /// The head of the answer did not come, or made no sense.
    NoAnswer,
    /// The body ended early, or did not come within the patience of the client.
    NoBody,
}

impl S3Client {
    /// A client that tries again what fails, as `put` should.
    pub fn new(endpoint: &str) -> Self {
        Self::on(&Host::local(), endpoint)
    }

    /// The same on another host than this machine.
    pub fn on(host: &Host, endpoint: &str) -> Self {
        let retries = RetryConfig::standard().with_max_attempts(ATTEMPTS_MAX);
        Self::with(host, endpoint, retries, PATIENCE)
    }

    /// A client that sends each request once and gives up after `patience`.
    pub fn once(endpoint: &str, patience: Duration) -> Self {
        Self::once_on(&Host::local(), endpoint, patience)
    }

    /// The same on another host than this machine.
    pub fn once_on(host: &Host, endpoint: &str, patience: Duration) -> Self {
        Self::with(host, endpoint, RetryConfig::disabled(), patience)
    }

    fn with(host: &Host, endpoint: &str, retries: RetryConfig, patience: Duration) -> Self {
        let timeouts = TimeoutConfig::builder()
            .operation_timeout(patience)
            .read_timeout(patience);
        let config = Builder::new()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new(
                ACCESS_KEY, SECRET_KEY, None, None, "tests",
            ))
            .endpoint_url(endpoint)
            .force_path_style(true)
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .retry_config(retries)
            .timeout_config(timeouts.build());
        Self {
            endpoint: endpoint.to_owned(),
            client: Client::from_conf(config.build()),
            patience,
            host: host.clone(),
            reactor: Reactor::start("s3-client", host),
        }
    }

    /// The URL that it speaks to.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Where it is.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The client inside, for work on another reactor.
    pub(super) fn sdk(&self) -> Client {
        self.client.clone()
    }

    /// Puts an object of one part; its ETag is the MD5 of its bytes.
    ///
    /// # Panics
    /// If the server refuses, here and below.
    pub fn put(&self, key: &str, bytes: &[u8]) {
        self.try_put(key, bytes).unwrap();
    }

    /// Puts many objects, several at a time.
    pub fn put_all(&self, objects: Vec<(String, Vec<u8>)>) {
        let client = self.client.clone();
        self.reactor.run(async move {
            let mut running = JoinSet::new();
            for (key, bytes) in objects {
                let request = client.put_object().bucket(BUCKET).key(key);
                running.spawn(request.body(ByteStream::from(bytes)).send());
                if running.len() == PUTS_AT_ONCE_MAX {
                    running.join_next().await.unwrap().unwrap().unwrap();
                }
            }
            while let Some(put) = running.join_next().await {
                put.unwrap().unwrap();
            }
        });
    }

    /// Puts a file as an object of one part.
    pub fn put_file(&self, key: &str, file: &Path) {
        self.put(key, &std::fs::read(file).unwrap());
    }

    /// Puts an object in parts of `part_bytes`, of which all but the last must be 5 MiB at least;
    /// its ETag is no MD5 and ends in the number of parts.
    pub fn put_multipart(&self, key: &str, bytes: &[u8], part_bytes: usize) {
        let parts: Vec<Vec<u8>> = bytes.chunks(part_bytes).map(<[u8]>::to_vec).collect();
        let (client, key) = (self.client.clone(), key.to_owned());
        self.reactor.run(async move {
            let upload = client.create_multipart_upload().bucket(BUCKET).key(&key);
            let upload = upload.send().await.unwrap();
            let id = upload.upload_id().unwrap();
            let mut done = CompletedMultipartUpload::builder();
            for (number, part) in (1..).zip(parts) {
                let part = client
                    .upload_part()
                    .bucket(BUCKET)
                    .key(&key)
                    .upload_id(id)
                    .part_number(number)
                    .body(ByteStream::from(part));
                let tag = part.send().await.unwrap().e_tag.unwrap();
                let part = CompletedPart::builder().part_number(number).e_tag(tag);
                done = done.parts(part.build());
            }
            let complete = client.complete_multipart_upload().bucket(BUCKET).key(&key);
            let complete = complete.upload_id(id).multipart_upload(done.build());
            complete.send().await.unwrap();
        });
    }

    /// Deletes an object; one that is not there is no error.
    pub fn delete(&self, key: &str) {
        let request = self.client.delete_object().bucket(BUCKET).key(key);
        self.reactor.run(request.send()).unwrap();
    }

    /// An object's entity tag, without its quotes.
    pub fn etag(&self, key: &str) -> String {
        let request = self.client.head_object().bucket(BUCKET).key(key);
        let head = self.reactor.run(request.send()).unwrap();
        head.e_tag.unwrap().trim_matches('"').to_owned()
    }

    /// Every key of the bucket that starts with `prefix`, in the order of the server.
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        let request = self.client.list_objects_v2().bucket(BUCKET).prefix(prefix);
        self.reactor.run(async move {
            let mut pages = request.into_paginator().send();
            let mut keys = Vec::new();
            while let Some(page) = pages.next().await {
                let objects = page.unwrap().contents.unwrap_or_default();
                keys.extend(objects.into_iter().map(|object| object.key.unwrap()));
            }
            keys
        })
    }

    /// An object's bytes.
    ///
    /// # Errors
    /// What kept them back; all or nothing.
    pub fn get(&self, key: &str) -> Result<Vec<u8>, Failure> {
        self.get_if(key, None, None)
    }

    /// Bytes of an object.
    ///
    /// # Errors
    /// As [`S3Client::get`].
    pub fn get_range(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>, Failure> {
        self.get_if(key, Some(range), None)
    }

    /// Bytes of an object while it has the entity tag `etag`.
    ///
    /// # Errors
    /// As [`S3Client::get`].
    pub fn get_if(
        &self,
        key: &str,
        range: Option<Range<u64>>,
        etag: Option<&str>,
    ) -> Result<Vec<u8>, Failure> {
        let range = range.map(|range| format!("bytes={}-{}", range.start, range.end - 1));
        let request = self.client.get_object().bucket(BUCKET).key(key);
        let request = request
            .set_range(range)
            .set_if_match(etag.map(str::to_owned));
        // The time limit of the client itself ends with the head of the answer.
        let patience = self.patience;
        self.reactor.run(async move {
            let answer = request.send().await.map_err(|failed| failure(&failed))?;
            let body = tokio::time::timeout(patience, answer.body.collect()).await;
            let body = body.map_err(|_| Failure::NoBody)?;
            Ok(body.map_err(|_| Failure::NoBody)?.to_vec())
        })
    }

    /// As [`S3Client::put`].
    ///
    /// # Errors
    /// Why it is not there now.
    pub fn try_put(&self, key: &str, bytes: &[u8]) -> Result<(), Failure> {
        let body = ByteStream::from(bytes.to_vec());
        let request = self.client.put_object().bucket(BUCKET).key(key).body(body);
        let put = self.reactor.run(request.send());
        put.map(drop).map_err(|failed| failure(&failed))
    }
}

fn failure<E: Error>(error: &SdkError<E>) -> Failure {
    let answer = error.raw_response();
    answer.map_or(Failure::NoAnswer, |answer| {
        Failure::Status(answer.status().as_u16())
    })
}
