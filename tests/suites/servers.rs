//! The real servers and what breaks them do what the other suites count on; and what every origin
//! must do, against each of them.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail like tests")]

#[path = "servers/s3.rs"]
mod s3;

#[path = "servers/sftp.rs"]
mod sftp;

#[path = "servers/mounted.rs"]
mod mounted;
#[path = "servers/proxy.rs"]
mod proxy;
#[path = "servers/rclone.rs"]
mod rclone;
#[path = "servers/remote.rs"]
mod remote;

use std::path::Path;
use std::sync::Arc;

use musicfs_core::id::OriginId;
use musicfs_core::origin::Origin;
use musicfs_origins::{LocalConfig, LocalOrigin};
use musicfs_tests::conformance::{DirectoryPlace, conforms};

fn local(id: &str, root: &Path) -> Arc<dyn Origin> {
    Arc::new(LocalOrigin::new(LocalConfig {
        id: OriginId::new(id).unwrap(),
        root: root.to_owned(),
        identity: None,
        installation: [7; 16],
        excluded: Vec::new(),
    }))
}

fn place(root: &Path) -> DirectoryPlace {
    let another = local("another", root);
    DirectoryPlace::new(root, Box::new(move || Arc::clone(&another)))
}

#[tokio::test(flavor = "multi_thread")]
async fn local_conforms() {
    let dir = tempfile::tempdir().unwrap();
    conforms(local("one", dir.path()), &place(dir.path())).await;
}

/// The suite looks at the place itself.
#[tokio::test(flavor = "multi_thread")]
#[should_panic(expected = "left == right")]
async fn an_origin_of_another_place_does_not_conform() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    conforms(local("one", one.path()), &place(other.path())).await;
}
