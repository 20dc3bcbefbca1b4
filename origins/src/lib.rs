//! Where music comes from: local directories, mounted shares, S3, SFTP.

mod local;
mod mounted;
mod s3;
mod sftp;

pub use local::{LocalConfig, LocalOrigin};
pub use mounted::{MountedConfig, MountedOrigin};
pub use s3::{S3Config, S3Origin};
pub use sftp::{HashCommand, SftpConfig, SftpOrigin};
