//! Showing the server who we are: keys of ssh-agent first, then key files.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use russh::client::{AuthResult, Handle};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::ssh_key::public::KeyData;
use russh::keys::{HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKey};
use tokio::net::UnixStream;

use musicfs_core::origin::Refusal;

use super::failure::Failure;
use super::transport::Host;

/// The keys tried at one connection: servers end it after six by default (`MaxAuthTries`).
const KEYS_MAX: usize = 6;
/// Of these, so many are left to key files if there are any: an agent may hold dozens.
const FILES_KEPT: usize = 3;
/// The longest key file read; RSA keys of 16384 bits take 13 KiB.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// Told when there is nothing to show.
const HINT_NONE: &str = "add a key to ssh-agent and set SSH_AUTH_SOCK, or name a key file";
/// Told when all there is are files with a passphrase.
const HINT_ENCRYPTED: &str =
    "the key files have passphrases, which are not asked for: add them to ssh-agent with ssh-add";

type Agent = AgentClient<UnixStream>;

/// The keys at hand. There is no way to print them.
#[derive(Default)]
pub(crate) struct Keys {
    files: Vec<Arc<PrivateKey>>,
    /// The public halves of those with a passphrase, where the file tells them.
    locked: Vec<KeyData>,
    has_encrypted: bool,
}

impl Keys {
    /// Reads key files. Those that are missing, encrypted or no keys are left out.
    ///
    /// Waits for the disk.
    pub(crate) fn read(files: &[PathBuf]) -> Self {
        let mut keys = Self::default();
        for file in files {
            match read_key(file) {
                Ok(key) => keys.files.push(Arc::new(key)),
                Err(KeyError::Missing) => {}
                Err(KeyError::Encrypted(public)) => {
                    keys.has_encrypted = true;
                    keys.locked.extend(public.map(|public| *public));
                    tracing::debug!(file = %file.display(), "key file has a passphrase: left to ssh-agent");
                }
                Err(KeyError::Unreadable(reason)) => {
                    tracing::warn!(file = %file.display(), reason, "key file cannot be used");
                }
            }
        }
        keys
    }

    /// Shows one key after the other, until the server accepts one.
    ///
    /// # Errors
    /// [`Refusal::NoCredentials`] if there is none, [`Refusal::Credentials`] if none is accepted.
    pub(crate) async fn authenticate(
        &self,
        link: &mut Handle<Host>,
        user: &str,
        agent: Option<&Path>,
    ) -> Result<(), Failure> {
        let mut shown = Shown::new(user);
        if let Some(socket) = agent {
            match AgentClient::connect_uds(socket).await {
                Ok(agent) => self.show_agent(link, agent, &mut shown).await?,
                Err(error) => {
                    tracing::debug!(socket = %socket.display(), %error, "ssh-agent cannot be reached");
                }
            }
        }
        for key in &self.files {
            if shown.is_done() {
                break;
            }
            shown.show_file(link, key).await?;
        }
        match shown.outcome {
            Outcome::Accepted => Ok(()),
            Outcome::Ended if !shown.was_refused => Err(ended(russh::Error::Disconnect)),
            Outcome::Refused | Outcome::Ended => Err(Failure::Refused(Refusal::Credentials)),
            Outcome::Nothing => Err(Failure::Refused(Refusal::NoCredentials {
                hint: match self.has_encrypted {
                    true => HINT_ENCRYPTED,
                    false => HINT_NONE,
                },
            })),
        }
    }

    async fn show_agent(
        &self,
        link: &mut Handle<Host>,
        mut agent: Agent,
        shown: &mut Shown<'_>,
    ) -> Result<(), Failure> {
        if let Some(binding) = link.agent_session_binding() {
            // For keys that are bound to hosts; other agents do not know it, and need not.
            let _ = agent.bind_session(binding, false).await;
        }
        let identities = match agent.request_identities().await {
            Ok(identities) => identities,
            Err(error) => {
                tracing::debug!(%error, "ssh-agent does not list its keys");
                return Ok(());
            }
        };
        let plain = |identity| match identity {
            AgentIdentity::PublicKey { key, .. } => Some(key),
            AgentIdentity::Certificate { .. } => None,
        };
        let mut keys: Vec<_> = identities.into_iter().filter_map(plain).collect();
        // Those that a key file names come first (sorting keeps the order otherwise).
        keys.sort_by_key(|key| !self.names(key.key_data()));
        let keys_max = KEYS_MAX - self.files.len().min(FILES_KEPT);
        for key in keys.into_iter().take(keys_max) {
            if shown.is_done() {
                break;
            }
            shown.show_agent(link, key, &mut agent).await?;
        }
        Ok(())
    }

    fn names(&self, key: &KeyData) -> bool {
        let is_in_file = |file: &Arc<PrivateKey>| file.public_key().key_data() == key;
        self.locked.contains(key) || self.files.iter().any(is_in_file)
    }
}

/// How far the showing of keys has come.
struct Shown<'a> {
    user: &'a str,
    keys: Vec<KeyData>,
    was_refused: bool,
    outcome: Outcome,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Nothing,
    Refused,
    /// The server has had enough, or is gone.
    Ended,
    Accepted,
}

impl<'a> Shown<'a> {
    fn new(user: &'a str) -> Self {
        Self {
            user,
            keys: Vec::new(),
            was_refused: false,
            outcome: Outcome::Nothing,
        }
    }

    fn is_done(&self) -> bool {
        matches!(self.outcome, Outcome::Accepted | Outcome::Ended) || self.keys.len() >= KEYS_MAX
    }

    /// False if the key was shown before.
    fn is_new(&mut self, key: &PublicKey) -> bool {
        let is_new = !self.keys.contains(key.key_data());
        if is_new {
            self.keys.push(key.key_data().clone());
        }
        is_new
    }

    async fn show_file(
        &mut self,
        link: &mut Handle<Host>,
        key: &Arc<PrivateKey>,
    ) -> Result<(), Failure> {
        if !self.is_new(key.public_key()) {
            return Ok(());
        }
        for hash in hashes(link, key.public_key()).await {
            let key = PrivateKeyWithHashAlg::new(Arc::clone(key), hash);
            let result = link.authenticate_publickey(self.user, key).await;
            self.take(&result.map_err(ended)?);
            if self.is_done() {
                break;
            }
        }
        Ok(())
    }

    async fn show_agent(
        &mut self,
        link: &mut Handle<Host>,
        key: PublicKey,
        agent: &mut Agent,
    ) -> Result<(), Failure> {
        if !self.is_new(&key) {
            return Ok(());
        }
        for hash in hashes(link, &key).await {
            let result = link
                .authenticate_publickey_with(self.user, key.clone(), hash, agent)
                .await;
            match result {
                Ok(result) => self.take(&result),
                Err(russh::AgentAuthError::Send(_)) => return Err(ended(russh::Error::SendError)),
                // The user said no, or the agent is locked: other keys may still do.
                Err(russh::AgentAuthError::Key(error)) => {
                    tracing::debug!(%error, "ssh-agent does not sign");
                    self.outcome = Outcome::Refused;
                    self.was_refused = true;
                }
            }
            if self.is_done() {
                break;
            }
        }
        Ok(())
    }

    fn take(&mut self, result: &AuthResult) {
        self.outcome = match result {
            AuthResult::Success => Outcome::Accepted,
            // A server that goes on names the methods that are left.
            AuthResult::Failure {
                remaining_methods, ..
            } if remaining_methods.is_empty() => Outcome::Ended,
            AuthResult::Failure { .. } => Outcome::Refused,
        };
        self.was_refused |= self.outcome == Outcome::Refused;
    }
}

/// The signature hashes to try with a key: those of SHA-2 that the server names (RFC 8308 §3.1),
/// or both if it names none. Only RSA has a choice.
async fn hashes(link: &Handle<Host>, key: &PublicKey) -> Vec<Option<HashAlg>> {
    if !key.algorithm().is_rsa() {
        return vec![None];
    }
    match link.best_supported_rsa_hash().await {
        Ok(Some(Some(best))) => vec![Some(best)],
        Ok(Some(None)) => Vec::new(),
        Ok(None) | Err(_) => vec![Some(HashAlg::Sha512), Some(HashAlg::Sha256)],
    }
}

fn ended(error: russh::Error) -> Failure {
    Failure::Unreachable(Arc::new(super::transport::io_error(error)))
}

enum KeyError {
    Missing,
    Encrypted(Option<Box<KeyData>>),
    Unreadable(&'static str),
}

fn read_key(file: &Path) -> Result<PrivateKey, KeyError> {
    let mut text = String::new();
    let read = std::fs::File::open(file)
        .and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text));
    match read {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(KeyError::Missing);
        }
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            return Err(KeyError::Unreadable("permission denied"));
        }
        Err(_) => return Err(KeyError::Unreadable("it cannot be read as text")),
    }
    // The header of a PEM file of old, and that of PKCS #8 (RFC 1421 §4.6.1.1, RFC 5958 §6).
    let is_encrypted =
        text.contains("Proc-Type: 4,ENCRYPTED") || text.contains("BEGIN ENCRYPTED PRIVATE KEY");
    if is_encrypted {
        return Err(KeyError::Encrypted(None));
    }
    // OpenSSH's format tells the public half in clear.
    if let Ok(key) = PrivateKey::from_openssh(&text)
        && key.is_encrypted()
    {
        let public = Box::new(key.public_key().key_data().clone());
        return Err(KeyError::Encrypted(Some(public)));
    }
    match russh::keys::decode_secret_key(&text, None) {
        Ok(key) => Ok(key),
        Err(russh::keys::Error::KeyIsEncrypted) => Err(KeyError::Encrypted(None)),
        Err(_) => Err(KeyError::Unreadable("it is in no known format")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn keygen(dir: &Path, args: &[&str]) -> PathBuf {
        let file = dir.join("key");
        let done = Command::new("ssh-keygen")
            .args(["-q", "-f"])
            .arg(&file)
            .args(args)
            .status();
        assert!(done.unwrap().success());
        file
    }

    #[test]
    fn keys_are_read_in_every_format() {
        for args in [
            &["-t", "ed25519", "-N", ""][..],
            &["-t", "ecdsa", "-N", ""],
            &["-t", "ecdsa", "-N", "", "-m", "PEM"],
            &["-t", "ecdsa", "-N", "", "-m", "PKCS8"],
            &["-t", "rsa", "-b", "2048", "-N", ""],
            &["-t", "rsa", "-b", "2048", "-N", "", "-m", "PEM"],
            &["-t", "rsa", "-b", "2048", "-N", "", "-m", "PKCS8"],
        ] {
            let dir = tempfile::tempdir().unwrap();
            let keys = Keys::read(&[keygen(dir.path(), args)]);
            assert_eq!(
                (keys.files.len(), keys.has_encrypted),
                (1, false),
                "{args:?}"
            );
        }
    }

    #[test]
    fn keys_with_a_passphrase_are_left_to_the_agent() {
        for args in [
            &["-t", "ed25519", "-N", "secret"][..],
            &["-t", "rsa", "-b", "2048", "-N", "secret", "-m", "PEM"],
            &["-t", "ecdsa", "-N", "secret", "-m", "PKCS8"],
        ] {
            let dir = tempfile::tempdir().unwrap();
            let keys = Keys::read(&[keygen(dir.path(), args)]);
            assert_eq!(
                (keys.files.len(), keys.has_encrypted),
                (0, true),
                "{args:?}"
            );
        }
    }

    #[test]
    fn what_is_no_key_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        std::fs::write(&file, "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n").unwrap();
        let keys = Keys::read(&[file, dir.path().join("missing"), dir.path().to_owned()]);
        assert_eq!((keys.files.len(), keys.has_encrypted), (0, false));
    }
}
