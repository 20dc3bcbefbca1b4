//! Attaches a FUSE connection to the mount point.
//!
//! Done here, not by fuser: its mount names no sub-type when it mounts by itself, and at the end it
//! unmounts whatever lies at the path by then (its `is_mounted` is true of a dead connection).

use std::ffi::CString;
use std::fs::OpenOptions;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::mount::MountFlags;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{getgid, getuid};
use tracing::debug;

use crate::mountinfo::FS_TYPE;

/// The device through which the kernel talks to a FUSE daemon.
pub(crate) const DEVICE: &str = "/dev/fuse";

/// The helper that mounts for whoever may not; in package fuse3.
pub(crate) const FUSERMOUNT: &str = "fusermount3";

/// How long the helper may take. It makes one system call.
const FUSERMOUNT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why the mount could not be attached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttachError {
    #[error("mount(2)")]
    Mount(#[source] io::Error),
    #[error("run {FUSERMOUNT}")]
    Run(#[source] io::Error),
    #[error("{message}")]
    Helper { message: Box<str> },
}

/// Mounts on `mount_point`, which must be an existing directory, free of symbolic links.
///
/// # Errors
/// The kernel or the helper refused; nothing is mounted.
pub(crate) fn attach(
    mount_point: &Path,
    source: &str,
    allow_other: bool,
) -> Result<OwnedFd, AttachError> {
    match attach_directly(mount_point, source, allow_other) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            attach_by_helper(mount_point, source, allow_other)
        }
        result => result.map_err(AttachError::Mount),
    }
}

fn attach_directly(mount_point: &Path, source: &str, allow_other: bool) -> io::Result<OwnedFd> {
    let device = OpenOptions::new().read(true).write(true).open(DEVICE)?;
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME;
    let allow_other = if allow_other { ",allow_other" } else { "" };
    let data = format!(
        "fd={},rootmode=40555,user_id={},group_id={},default_permissions{allow_other}",
        device.as_raw_fd(),
        getuid().as_raw(),
        getgid().as_raw(),
    );
    let data = CString::new(data).expect("numbers and fixed words hold no NUL");
    rustix::mount::mount(source, mount_point, FS_TYPE, flags, data.as_c_str())?;
    Ok(device.into())
}

/// The helper opens the device and mounts, and passes the descriptor through a socket that
/// `_FUSE_COMMFD` names (libfuse, util/fusermount.c).
fn attach_by_helper(
    mount_point: &Path,
    source: &str,
    allow_other: bool,
) -> Result<OwnedFd, AttachError> {
    let (ours, theirs) = UnixStream::pair().map_err(AttachError::Run)?;
    ours.set_read_timeout(Some(FUSERMOUNT_TIMEOUT))
        .map_err(AttachError::Run)?;
    fcntl_setfd(&theirs, FdFlags::empty()).map_err(|errno| AttachError::Run(errno.into()))?;
    let child = Command::new(FUSERMOUNT)
        .arg("-o")
        .arg(helper_options(source, allow_other))
        .arg("--")
        .arg(mount_point)
        .env("_FUSE_COMMFD", theirs.as_raw_fd().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(AttachError::Run)?;
    drop(theirs);
    let device = receive_device(&ours);
    drop(ours);
    let output = child.wait_with_output().map_err(AttachError::Run)?;
    device.map_err(|error| {
        debug!(%error, status = %output.status, "{FUSERMOUNT} sent no descriptor");
        // One line, without the helper's own name in front.
        let text = String::from_utf8_lossy(&output.stderr);
        let line = text.lines().next().unwrap_or_default();
        let message = line.trim_start_matches(FUSERMOUNT).trim_start_matches(": ");
        let message = if message.is_empty() {
            "it gave no reason"
        } else {
            message
        };
        AttachError::Helper {
            message: format!("{FUSERMOUNT}: {message}").into(),
        }
    })
}

fn helper_options(source: &str, allow_other: bool) -> String {
    // Commas separate options; a backslash takes a character as it is.
    let source = source.replace('\\', "\\\\").replace(',', "\\,");
    let allow_other = if allow_other { ",allow_other" } else { "" };
    format!(
        "ro,nosuid,nodev,noatime,default_permissions,subtype=musicfs,fsname={source}{allow_other}"
    )
}

fn receive_device(socket: &UnixStream) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut iov = [IoSliceMut::new(&mut byte)];
    recvmsg(
        socket.as_fd(),
        &mut iov,
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    control
        .drain()
        .find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        })
        .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_in_the_source_does_not_begin_an_option() {
        let fixed = "ro,nosuid,nodev,noatime,default_permissions,subtype=musicfs";
        assert_eq!(
            helper_options("musicfs:a", false),
            format!("{fixed},fsname=musicfs:a")
        );
        assert_eq!(
            helper_options("musicfs:a,suid\\", true),
            format!("{fixed},fsname=musicfs:a\\,suid\\\\,allow_other")
        );
    }
}
