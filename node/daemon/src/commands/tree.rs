//! Names of files in the mounted tree, as typed and as the daemon takes them.

use std::io;
use std::path::{Component, Path, PathBuf};

use crate::client::{self, Client};
use crate::error::Error;

/// Turns paths as typed into paths of the tree: those below the mount point become relative to it,
/// relative ones are so already. The tree itself is the empty path.
///
/// # Errors
/// [`Error::OutsideMount`] for a path that leads elsewhere, [`Error::Io`] for one that is no text.
pub(super) async fn tree_paths(
    client: &mut Client,
    action: &'static str,
    typed: &[PathBuf],
) -> Result<Vec<String>, Error> {
    let status = client.get_status(()).await;
    let status = status.map_err(client::refused(action))?.into_inner();
    let mount_point = PathBuf::from(status.mount_point);
    let tree_path = |path: &PathBuf| tree_path(&mount_point, path);
    typed.iter().map(tree_path).collect()
}

fn tree_path(mount_point: &Path, typed: &Path) -> Result<String, Error> {
    let outside = || Error::OutsideMount {
        path: typed.to_owned(),
        mount_point: mount_point.to_owned(),
    };
    let below = match typed.strip_prefix(mount_point) {
        Ok(below) => below.to_owned(),
        Err(_) if typed.is_relative() => typed.to_owned(),
        // Perhaps a symbolic link leads to the mount point.
        Err(_) => match typed.canonicalize() {
            Ok(real) => real
                .strip_prefix(mount_point)
                .map_err(|_| outside())?
                .to_owned(),
            Err(_) => return Err(outside()),
        },
    };
    let mut names: Vec<&str> = Vec::new();
    for component in below.components() {
        match component {
            Component::Normal(name) => names.push(name.to_str().ok_or_else(|| Error::Io {
                action: "use path",
                path: typed.to_owned(),
                source: io::Error::new(io::ErrorKind::InvalidInput, "it is not UTF-8"),
            })?),
            Component::CurDir => {}
            Component::ParentDir => {
                names.pop().ok_or_else(outside)?;
            }
            Component::RootDir | Component::Prefix(_) => return Err(outside()),
        }
    }
    Ok(names.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_below_the_mount_point_or_relative_to_it() {
        let check = |typed: &str, expect: Option<&str>| {
            let got = tree_path(Path::new("/nonexistent/mnt"), Path::new(typed));
            assert_eq!(got.ok().as_deref(), expect, "{typed:?}");
        };
        check("/nonexistent/mnt/A/B.flac", Some("A/B.flac"));
        check("/nonexistent/mnt/", Some(""));
        check("A/B.flac", Some("A/B.flac"));
        check("./A//B/", Some("A/B"));
        check("A/../B", Some("B"));
        check(".", Some(""));
        check("/nonexistent/mntA", None);
        check("/A", None);
        check("/nonexistent/mnt/..", None);
        check("../x", None);
    }

    #[test]
    fn a_link_to_the_mount_point_leads_into_the_tree() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let mount_point = dir.join("mnt");
        std::fs::create_dir_all(mount_point.join("A")).unwrap();
        std::os::unix::fs::symlink(&mount_point, dir.join("link")).unwrap();
        assert_eq!(tree_path(&mount_point, &dir.join("link/A")).unwrap(), "A");
    }
}
