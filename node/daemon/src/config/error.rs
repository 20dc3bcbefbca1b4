//! What can be wrong with a configuration, and what to do about it.

use std::io;
use std::path::PathBuf;

use musicfs_core::id::OriginId;
use musicfs_core::origin::OriginKind;
use musicfs_core::template::TemplateError;

use super::file::Place;
use crate::paths::PathsError;

/// What is wrong with a configuration. Messages read after "cannot".
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("read configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is no TOML, or a value has the wrong type.
    #[error("read configuration: {place}: {message}")]
    Syntax {
        /// Where.
        place: Place,
        /// What the parser says.
        message: Box<str>,
    },
    /// A key that does not exist.
    #[error("read configuration: {place}: unknown key `{key}`")]
    UnknownKey {
        /// Where.
        place: Place,
        /// The key.
        key: String,
        /// The key that looks most like it.
        suggestion: Option<&'static str>,
    },
    /// A key whose value would be a secret. The value is in no error.
    #[error("read configuration: {place}: `{key}` is a secret, and secrets are never read from it")]
    SecretKey {
        /// Where.
        place: Place,
        /// The key.
        key: String,
        /// The kind of origin that it is for, if it is for one that exists.
        kind: Option<OriginKind>,
    },
    /// A kind of origin that does not exist.
    #[error("read configuration: {place}: unknown type {kind:?}")]
    UnknownKind {
        /// Where.
        place: Place,
        /// As typed.
        kind: String,
        /// The kind that looks most like it.
        suggestion: Option<&'static str>,
    },
    /// A key of another kind of origin.
    #[error("read configuration: {place}: an origin of type \"{}\" has no `{key}`", kind.as_str())]
    ForeignKey {
        /// Where.
        place: Place,
        /// The key.
        key: &'static str,
        /// The kind that the origin is of.
        kind: OriginKind,
        /// The kinds that have the key.
        kinds: &'static [OriginKind],
    },
    /// A path or URL of no use.
    #[error("use origin {url:?}: {reason}")]
    OriginUrl {
        /// As typed, without what may be secret.
        url: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A URL with an unknown key behind `?`.
    #[error("use origin {url:?}: unknown key `{key}`")]
    UrlKey {
        /// As typed, without what may be secret.
        url: String,
        /// The key.
        key: String,
        /// The key that looks most like it.
        suggestion: Option<&'static str>,
    },
    /// A place written with a password or an access key in it.
    #[error("use origin {name:?}: it holds a secret, which belongs into no configuration")]
    OriginSecret {
        /// Its id, or the URL without what may be secret.
        name: String,
        /// The kind of origin.
        kind: OriginKind,
    },
    /// An origin's table lacks something.
    #[error("use origin {name:?}: {reason}")]
    OriginEntry {
        /// Its id or path.
        name: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// An origin's id is no id.
    #[error("use origin id {id:?}: it must be 1 to 64 letters, digits, '.', '_' or '-'")]
    OriginId {
        /// As typed.
        id: String,
    },
    /// An origin given as a flag does not exist.
    #[error("use origin {path:?}")]
    OriginMissing {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Two origins have one id.
    #[error("use two origins with the id `{id}`")]
    DuplicateId {
        /// The id.
        id: OriginId,
    },
    /// Two origins are one place.
    #[error("use {place:?} as two origins, `{}` and `{}`", ids[0], ids[1])]
    DuplicateRoot {
        /// The place.
        place: String,
        /// Both ids.
        ids: [OriginId; 2],
    },
    /// A value that its key does not take.
    #[error("use {key} = {value:?}: {expected}")]
    Value {
        /// The key.
        key: &'static str,
        /// As typed.
        value: String,
        /// What the key takes.
        expected: &'static str,
    },
    /// The template is wrong.
    #[error("use template {template:?}")]
    Template {
        /// As typed.
        template: String,
        /// Where and why.
        source: TemplateError,
    },
    /// No place for the instance.
    #[error(transparent)]
    Paths(#[from] PathsError),
    /// Nowhere to mount.
    #[error("mount: no mount point is given")]
    NoMountPoint,
    /// Nothing to mount.
    #[error("mount: no origin is given")]
    NoOrigin,
}

impl ConfigError {
    /// What the user can do, as a sentence.
    pub(crate) fn fix(&self) -> Option<String> {
        let fixed = match self {
            Self::UnknownKey { suggestion, .. } | Self::UrlKey { suggestion, .. } => {
                return suggestion.map(|key| format!("did you mean `{key}`?"));
            }
            Self::UnknownKind { suggestion, .. } => {
                return Some(match suggestion {
                    Some(kind) => format!("did you mean \"{kind}\"?"),
                    None => "use \"local\", \"nfs\", \"smb\", \"s3\" or \"sftp\"".to_owned(),
                });
            }
            Self::ForeignKey { kinds, .. } => return Some(belongs_to(kinds)),
            Self::SecretKey { kind, .. } => where_secrets_belong(*kind),
            Self::OriginSecret { kind, .. } => where_secrets_belong(Some(*kind)),
            Self::OriginMissing { .. } => {
                "check the path; an origin that may be away belongs into the configuration file"
            }
            Self::DuplicateId { .. } => "give one of them another id",
            Self::DuplicateRoot { .. } => "remove one of them",
            Self::Paths(PathsError::NoHome { .. }) => "set one of them to an absolute path",
            Self::Paths(PathsError::SocketTooLong { .. }) => "choose a shorter --name",
            Self::NoMountPoint => "write `musicfs mount MNT`, or set mount_point",
            Self::NoOrigin => {
                "add `--origin DIR` or a URL, or [[origins]] to the configuration file"
            }
            _ => return None,
        };
        Some(fixed.to_owned())
    }

    /// Whether the command line lacks something, rather than holding something wrong.
    pub(crate) fn is_usage(&self) -> bool {
        matches!(self, Self::NoMountPoint | Self::NoOrigin)
    }
}

/// What to do about a key that other kinds of origin have.
fn belongs_to(kinds: &[OriginKind]) -> String {
    let names: Vec<String> = kinds
        .iter()
        .map(|kind| format!("type = \"{}\"", kind.as_str()))
        .collect();
    format!("remove it, or write {}", names.join(" or "))
}

/// Where to put what must not stand in a configuration or URL.
fn where_secrets_belong(kind: Option<OriginKind>) -> &'static str {
    match kind {
        Some(OriginKind::S3) => {
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the daemon's environment, or name a \
             profile of ~/.aws"
        }
        Some(OriginKind::Sftp) => {
            "log in with a key: one that ssh-agent holds, or a key file without passphrase"
        }
        Some(OriginKind::Local | OriginKind::Nfs | OriginKind::Smb) => {
            "whoever mounts the share gives its password; here only its path belongs"
        }
        None => {
            "S3 takes AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or a profile of ~/.aws, SFTP \
             ssh-agent or a key file"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_place_for_secrets_other_than_the_configuration() {
        for kind in OriginKind::ALL {
            let name = "x".to_owned();
            let fix = ConfigError::OriginSecret { name, kind }.fix().unwrap();
            let expect = match kind {
                OriginKind::S3 => "AWS_SECRET_ACCESS_KEY",
                OriginKind::Sftp => "ssh-agent",
                _ => "path",
            };
            assert!(fix.contains(expect), "{fix}");
        }
    }
}
