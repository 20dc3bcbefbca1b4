//! Checksums that the server computes: one of three commands, where the user allows it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use musicfs_core::checksum::Checksum;
use musicfs_core::id::OriginId;
use musicfs_core::path::OriginPath;
use musicfs_core::version::ContentVersion;

use super::failure::Failure;
use super::file::SftpFile;
use super::pool::Pool;
use super::session::{Ran, Session};

/// How long the server may take for a small file.
const PATIENCE: Duration = Duration::from_secs(30);
/// What it must get through in each second beyond: a slow disk behind a slow processor.
const BYTES_PER_SECOND_MIN: u64 = 20_000_000;

/// A program of the server that prints the digest of a file, as those of coreutils and busybox do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashCommand {
    /// `md5sum`.
    Md5,
    /// `sha1sum`.
    Sha1,
    /// `sha256sum`.
    Sha256,
}

impl HashCommand {
    /// Every command.
    pub const ALL: [Self; 3] = [Self::Md5, Self::Sha1, Self::Sha256];

    /// The name of the program.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Md5 => "md5sum",
            Self::Sha1 => "sha1sum",
            Self::Sha256 => "sha256sum",
        }
    }

    /// The command of a name; `None` for any other text.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|command| command.as_str() == name)
    }

    /// Hexadecimal digits of its digest.
    fn digits(self) -> usize {
        match self {
            Self::Md5 => 32,
            Self::Sha1 => 40,
            Self::Sha256 => 64,
        }
    }

    /// What the shell is told: the path, whatever is in it, is one argument and no option.
    fn line(self, path: &[u8]) -> Vec<u8> {
        let mut line = [self.as_str().as_bytes(), b" -- '"].concat();
        for &byte in path {
            match byte {
                b'\'' => line.extend_from_slice(b"'\\''"),
                other => line.push(other),
            }
        }
        line.push(b'\'');
        line
    }

    /// The digest at the beginning of what it printed. A backslash in front tells that the name
    /// behind it is escaped.
    fn digest(self, output: &[u8]) -> Option<Checksum> {
        let output = output.strip_prefix(b"\\").unwrap_or(output);
        let (digest, rest) = output.split_at_checked(self.digits())?;
        let digest = std::str::from_utf8(digest).ok()?;
        Checksum::from_hex(digest).filter(|_| rest.starts_with(b" "))
    }
}

/// What is asked, and of whom.
pub(crate) struct Question<'a> {
    pub(crate) origin: &'a OriginId,
    pub(crate) pool: &'a Arc<Pool>,
    /// The origin's name for people.
    pub(crate) root: &'a Arc<str>,
    pub(crate) command: HashCommand,
    pub(crate) path: &'a OriginPath,
    pub(crate) expected: &'a ContentVersion,
}

impl Question<'_> {
    /// The digest of the file, which has the version expected before and after it was computed.
    /// `None` if the server computes none.
    pub(crate) async fn ask(&self) -> Result<Option<Checksum>, Failure> {
        let is_refused = |session: &Session| session.refuses_commands.load(Ordering::Relaxed);
        if is_refused(&self.pool.lease().await?.session) {
            return Ok(None);
        }
        self.look().await?;
        let session = self.pool.lease().await?.session;
        let line = self.command.line(&session.full_path(self.path));
        let seconds = self.expected.size / BYTES_PER_SECOND_MIN;
        let patience = PATIENCE + Duration::from_secs(seconds);
        let (output, status) = match session.run(line, patience).await? {
            Ran::Refused => {
                self.refused(&session, None);
                return Ok(None);
            }
            Ran::Ended { output, status } => (output, status),
        };
        match self.command.digest(&output) {
            Some(checksum) if status.unwrap_or(0) == 0 => {
                self.look().await?;
                Ok(Some(checksum))
            }
            // It ran, and could not read this file.
            _ if status == Some(1) => {
                tracing::debug!(origin = %self.origin, file = %self.path, "no digest of this file");
                Ok(None)
            }
            _ => {
                self.refused(&session, status);
                Ok(None)
            }
        }
    }

    /// Looks whether the path has the version expected.
    async fn look(&self) -> Result<(), Failure> {
        let file = SftpFile::open(self.pool, self.root, self.path).await?;
        match file.version == *self.expected {
            true => Ok(()),
            false => Err(Failure::Changed),
        }
    }

    /// Asks no more on this connection, and says so once.
    fn refused(&self, session: &Session, status: Option<u32>) {
        if !session.refuses_commands.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                origin = %self.origin,
                command = self.command.as_str(),
                status,
                "the server does not run the command, so that files that change there are fetched \
                 anew: allow it for this user, or remove hash_command"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_of_three_words() {
        for command in HashCommand::ALL {
            assert_eq!(HashCommand::from_name(command.as_str()), Some(command));
        }
        for text in [
            "",
            "md5",
            "MD5SUM",
            "md5sum ",
            "md5sum; true",
            "/bin/md5sum",
        ] {
            assert_eq!(HashCommand::from_name(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_path_is_one_argument_whatever_is_in_it() {
        let line = |path: &[u8]| HashCommand::Md5.line(path);
        assert_eq!(line(b"/a b"), b"md5sum -- '/a b'");
        assert_eq!(line(b"/it's"), b"md5sum -- '/it'\\''s'");
        assert_eq!(line(b"/$(x)\n\xff\\"), b"md5sum -- '/$(x)\n\xff\\'");
    }

    #[test]
    fn the_digest_is_what_the_line_starts_with() {
        let md5 = "900150983cd24fb0d6963f7d28e17f72";
        let digest = |text: &str| HashCommand::Md5.digest(text.as_bytes());
        let expect = Checksum::from_hex(md5);
        assert_eq!(digest(&format!("{md5}  /a b\n")), expect);
        assert_eq!(digest(&format!("{md5} */a b\n")), expect);
        assert_eq!(digest(&format!("\\{md5}  /a\\nb\n")), expect);
        for text in [
            String::new(),
            md5.to_owned(),
            format!("{md5}0  x"),
            format!("\\\\{md5}  x"),
            format!("hello\n{md5}  x"),
            format!("{md5}\n"),
        ] {
            assert_eq!(digest(&text), None, "{text:?}");
        }
        let long = format!("{md5}{md5}  x");
        assert!(HashCommand::Sha256.digest(long.as_bytes()).is_some());
        assert_eq!(HashCommand::Sha1.digest(long.as_bytes()), None);
    }
}
