//! What every origin must do, on a directory that another machine's server is mounted at.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use musicfs_core::id::OriginId;
use musicfs_core::origin::{Origin, OriginKind};
use musicfs_origins::{MountedConfig, MountedOrigin};
use musicfs_tests::conformance::{DirectoryPlace, conforms};
use musicfs_tests::servers::network_mount::NetworkMount;
use musicfs_tests::servers::sftp::SftpServer;

fn mounted(name: &str, root: &Path) -> Arc<dyn Origin> {
    Arc::new(MountedOrigin::new(MountedConfig {
        id: OriginId::new(name).unwrap(),
        kind: OriginKind::Nfs,
        root: root.to_owned(),
        identity: None,
        installation: [7; 16],
        excluded: Vec::new(),
    }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_mount_conforms() {
    let dir = tempfile::tempdir().unwrap();
    let (root, point) = (dir.path().join("root"), dir.path().join("mnt"));
    fs::create_dir(&root).unwrap();
    fs::create_dir(&point).unwrap();
    let server = SftpServer::start(&root);
    let _mount = NetworkMount::new(&server, server.port(), &root, &point);
    let another = mounted("another", &point);
    let place = DirectoryPlace::new(&root, Box::new(move || Arc::clone(&another)));
    conforms(mounted("one", &point), &place).await;
}
