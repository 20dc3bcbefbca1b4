//! What every implementation of the port [`Origin`] must do, on a place that a test can change.

mod listing;
mod place;
mod reading;

pub use place::{DirectoryPlace, Place, S3Place};

use std::sync::Arc;
use std::time::Duration;

use musicfs_core::error::ErrorKind;
use musicfs_core::origin::{Depth, Origin, OriginKind};
use musicfs_core::path::OriginPath;
use musicfs_core::version::ContentVersion;

use crate::Random;

/// When to give up: an origin that hangs fails instead of waiting for ever. Far more than it takes.
const PATIENCE: Duration = Duration::from_secs(900);

/// Checks the promises of the port on `origin`, which shows `place`, which is empty.
///
/// # Panics
/// If one is broken, or the whole takes longer than a quarter of an hour.
pub async fn conforms(origin: Arc<dyn Origin>, place: &dyn Place) {
    let all = async {
        names_are_told(&*origin, place).await;
        listing::everything_is_listed_once(&*origin, place).await;
        listing::odd_names_survive(&*origin, place).await;
        listing::hidden_names_are_left_out(&*origin, place).await;
        keys_agree(&*origin, place).await;
        reading::what_is_not_there_is_not_found(&*origin, place).await;
        reading::every_byte_is_right(&*origin, place).await;
        reading::a_dropped_stream_harms_nothing(&*origin, place).await;
        reading::many_streams_run_at_once(&origin, place).await;
        reading::a_changed_file_never_gives_new_bytes(&*origin, place).await;
        reading::a_stream_under_way_never_gives_new_bytes(&*origin, place).await;
        reading::an_outdated_expectation_is_noticed(&*origin, place).await;
    };
    // It is long, and its future is large.
    let all = Box::pin(all);
    tokio::time::timeout(PATIENCE, all)
        .await
        .expect("the origin hangs");
}

async fn names_are_told(origin: &dyn Origin, place: &dyn Place) {
    origin.check().await.unwrap();
    let name = origin.display_name();
    assert!(!name.is_empty());
    let failed = origin.open(&path(b"no such file"), &version_of(0)).await;
    let failure = failed.map(drop);
    for secret in place.secrets() {
        assert!(!name.contains(secret), "a secret in {name}");
        assert!(!format!("{failure:?}").contains(secret), "{failure:?}");
    }
    let _ = origin.id();
    if let Some(watch) = origin.watch().unwrap() {
        assert_eq!(
            origin.kind(),
            OriginKind::Local,
            "only a local disk tells of changes"
        );
        drop(watch);
    }
}

/// A key names the place: it is the same for whoever looks there, and is known after a look.
async fn keys_agree(origin: &dyn Origin, place: &dyn Place) {
    let other = place.another();
    let mut listing = other.list(&OriginPath::default(), Depth::One);
    while listing.next().await.unwrap().is_some() {}
    drop(listing);
    let key = origin.key().expect("known after a listing");
    assert!(!key.0.is_empty());
    assert_eq!(other.key(), Some(key));
    let file = path(b"artist/album/1.flac");
    assert_eq!(origin.key_path(&file), other.key_path(&file));
    assert!(origin.key_path(&file).as_bytes().ends_with(file.as_bytes()));
}

fn path(bytes: &[u8]) -> OriginPath {
    OriginPath::new(bytes).unwrap()
}

/// Bytes that are nowhere else: every 8 of them differ.
fn content(seed: u64, len: usize) -> Vec<u8> {
    let mut random = Random(seed);
    let numbers = std::iter::repeat_with(|| random.number().to_le_bytes());
    numbers.flatten().take(len).collect()
}

/// A version that nothing has.
fn version_of(size: u64) -> ContentVersion {
    ContentVersion {
        size,
        validator: musicfs_core::version::Validator::ETag("none".into()),
    }
}

/// The version that a listing of its directory shows for `file`.
async fn listed(origin: &dyn Origin, file: &OriginPath) -> ContentVersion {
    let mut listing = origin.list(&file.parent(), Depth::One);
    let mut found = None;
    while let Some(dir) = listing.next().await.unwrap() {
        assert_eq!(dir.path, file.parent());
        assert!(dir.complete, "{dir:?}");
        found = dir
            .files
            .into_iter()
            .find(|entry| entry.name == file.name());
    }
    found
        .unwrap_or_else(|| panic!("{file:?} is not listed"))
        .version
}

/// True if an error says that what was asked for is there no more as it was.
fn is_gone(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotFound | ErrorKind::Stale)
}
