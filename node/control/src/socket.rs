//! The unix socket: bound once, private, and gone with the daemon.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

use crate::SocketPath;
use crate::error::ControlError;

/// A bound control socket.
pub struct Socket {
    listener: UnixListener,
    guard: SocketGuard,
}

/// Removes the socket and its link when dropped.
pub(crate) struct SocketGuard(SocketPath);

impl Socket {
    /// Binds the socket. One that a dead daemon left is replaced. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`ControlError::InUse`] if a daemon answers there.
    pub fn bind(path: SocketPath) -> Result<Self, ControlError> {
        let socket = path.socket.clone();
        let failed = |action, path: &Path, source| ControlError::Io {
            action,
            path: path.to_owned(),
            source,
        };
        if let Some(parent) = socket.parent() {
            private_directory(parent).map_err(|source| failed("create", parent, source))?;
        }
        if UnixStream::connect(&socket).is_ok() {
            return Err(ControlError::InUse { path: socket });
        }
        remove(&socket).map_err(|source| failed("replace", &socket, source))?;
        let listener =
            UnixListener::bind(&socket).map_err(|source| failed("bind", &socket, source))?;
        // The directory is private, so nobody else can have connected before this.
        fs::set_permissions(&socket, Permissions::from_mode(0o600))
            .map_err(|source| failed("protect", &socket, source))?;
        if let Some(link) = &path.link {
            // Relative where it can be, so that it holds when the directory is seen elsewhere.
            let beside = link.parent().and_then(|dir| socket.strip_prefix(dir).ok());
            remove(link)
                .and_then(|()| symlink(beside.unwrap_or(&socket), link))
                .map_err(|source| failed("link", link, source))?;
        }
        Ok(Self {
            listener,
            guard: SocketGuard(path),
        })
    }

    pub(crate) fn into_parts(self) -> (UnixListener, SocketGuard) {
        (self.listener, self.guard)
    }
}

impl Drop for SocketGuard {
    fn drop(&mut self) {
        // The socket last: where it is gone, all is.
        let paths: [Option<&PathBuf>; 2] = [self.0.link.as_ref(), Some(&self.0.socket)];
        for path in paths.into_iter().flatten() {
            if let Err(error) = remove(path) {
                tracing::warn!(?path, %error, "the control socket was not removed");
            }
        }
    }
}

/// Makes a directory that only its owner can enter; one that is there is made so.
fn private_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let metadata = fs::metadata(path)?;
    if metadata.permissions().mode() & 0o077 != 0 {
        fs::set_permissions(path, Permissions::from_mode(0o700))?;
    }
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
