//! What every origin must do, on a directory that another machine's server is mounted at.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use musicfs_core::id::OriginId;
use musicfs_core::origin::{Origin, OriginKind};
use musicfs_origins::{MountedConfig, MountedOrigin};
use musicfs_tests::conformance::{DirectoryPlace, conforms};
use musicfs_tests::daemon::is_mounted;
use musicfs_tests::outcome::Guarded;
use musicfs_tests::servers::sftp::{SftpServer, USER};
use musicfs_tests::wait_until;

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

/// A directory of an SFTP server, mounted by `sshfs`: the network mount that needs no kernel
/// client. Dropping it unmounts.
struct NetworkMount {
    point: PathBuf,
    sshfs: Option<Guarded>,
}

impl NetworkMount {
    fn new(server: &SftpServer, root: &Path, point: &Path) -> Self {
        let options = [
            format!("port={}", server.port()),
            format!("IdentityFile={}", server.key_file().display()),
            format!("UserKnownHostsFile={}", server.known_hosts().display()),
            "StrictHostKeyChecking=yes,BatchMode=yes".to_owned(),
            // What changes on the server is seen at once, as a share with strict caching shows it.
            "dir_cache=no,attr_timeout=0,entry_timeout=0,negative_timeout=0".to_owned(),
        ];
        let child = Command::new("sshfs")
            .args(["-f", "-o", &options.join(",")])
            .arg(format!("{USER}@127.0.0.1:{}", root.display()))
            .arg(point)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mount = Self {
            point: point.to_owned(),
            sshfs: Some(Guarded(child)),
        };
        wait_until("the mount", || is_mounted(point));
        mount
    }
}

impl Drop for NetworkMount {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.point, rustix::mount::UnmountFlags::DETACH);
        self.sshfs.take();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_mount_conforms() {
    let dir = tempfile::tempdir().unwrap();
    let (root, point) = (dir.path().join("root"), dir.path().join("mnt"));
    fs::create_dir(&root).unwrap();
    fs::create_dir(&point).unwrap();
    let server = SftpServer::start(&root);
    let _mount = NetworkMount::new(&server, &root, &point);
    let another = mounted("another", &point);
    let place = DirectoryPlace::new(&root, Box::new(move || Arc::clone(&another)));
    conforms(mounted("one", &point), &place).await;
}
