//! Which host keys are known (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT").

use std::io::Read;
use std::path::{Path, PathBuf};

use data_encoding::BASE64;
use ring::hmac;
use russh::keys::ssh_key::public::KeyData;
use russh::keys::{Algorithm, EcdsaCurve, HashAlg, PublicKey};

use musicfs_core::origin::Refusal;

/// The longest file read; 4 MiB are 20,000 hosts.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// The port that names in the files do not mention.
const PORT_DEFAULT: u16 = 22;

/// What is known of one host.
#[derive(Debug, Default)]
pub(crate) struct KnownHost {
    trusted: Vec<KeyData>,
    revoked: Vec<KeyData>,
    /// Trusted for the host's name at the usual port, if nothing is known of it at its own.
    elsewhere: Vec<KeyData>,
}

impl KnownHost {
    /// Reads what `files` say of `host` at `port`. A file that is missing says nothing.
    ///
    /// Waits for the disk.
    pub(crate) fn read(files: &[PathBuf], host: &str, port: u16) -> Self {
        let mut known = Self::default();
        for file in files {
            match read_bounded(file) {
                Ok(text) => known.add(&text, host, port),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::warn!(file = %file.display(), %error, "known_hosts cannot be read");
                }
            }
        }
        known
    }

    /// Adds what the lines of a file say.
    fn add(&mut self, text: &[u8], host: &str, port: u16) {
        let host = host.to_ascii_lowercase();
        let name = match port {
            PORT_DEFAULT => host.clone(),
            port => format!("[{host}]:{port}"),
        };
        for line in text.split(|&byte| byte == b'\n') {
            // Only a comment is ever anything but ASCII.
            let line = String::from_utf8_lossy(line);
            let Some(line) = Line::parse(&line) else {
                continue;
            };
            if matches_any(line.hosts, &name) {
                match line.marker {
                    None => self.trusted.extend(line.key()),
                    Some("@revoked") => self.revoked.extend(line.key()),
                    // Host certificates are not asked for.
                    Some(_) => {}
                }
            } else if line.marker.is_none() && matches_any(line.hosts, &host) {
                self.elsewhere.extend(line.key());
            }
        }
    }

    /// Whether the host may go on with the key that it showed.
    ///
    /// # Errors
    /// [`Refusal::ChangedHostKey`] if others are known or this one is revoked,
    /// [`Refusal::UnknownHostKey`] if nothing is known.
    pub(crate) fn check(&self, key: &PublicKey) -> Result<(), Refusal> {
        let shown = key.key_data();
        let fingerprint = fingerprint(key);
        if self.revoked.contains(shown) {
            return Err(Refusal::ChangedHostKey { fingerprint });
        }
        match self.trusted.is_empty() {
            false if self.trusted.contains(shown) => Ok(()),
            false => Err(Refusal::ChangedHostKey { fingerprint }),
            true if self.elsewhere.contains(shown) => Ok(()),
            true => Err(Refusal::UnknownHostKey { fingerprint }),
        }
    }

    /// The host key algorithms to offer: those of known keys first.
    ///
    /// A server takes the first one that it has (RFC 4253 §7.1): it shows another kind of key only
    /// if it has none of those known, and then its fingerprint says which one it has.
    pub(crate) fn algorithms(&self) -> Vec<Algorithm> {
        let known = match self.trusted.is_empty() {
            false => &self.trusted,
            true => &self.elsewhere,
        };
        let is_known = |algorithm: &Algorithm| {
            known.iter().any(|key| match algorithm {
                Algorithm::Rsa { .. } => key.algorithm().is_rsa(),
                _ => key.algorithm() == *algorithm,
            })
        };
        let (mut first, rest): (Vec<_>, Vec<_>) = offered().into_iter().partition(is_known);
        first.extend(rest);
        first
    }
}

/// The SHA-256 of a key, as ssh-keygen -l shows it.
pub(crate) fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

/// What is offered to a host of which nothing is known. SHA-1 is not.
fn offered() -> [Algorithm; 6] {
    let ecdsa = |curve| Algorithm::Ecdsa { curve };
    let rsa = |hash| Algorithm::Rsa { hash: Some(hash) };
    [
        Algorithm::Ed25519,
        ecdsa(EcdsaCurve::NistP256),
        ecdsa(EcdsaCurve::NistP384),
        ecdsa(EcdsaCurve::NistP521),
        rsa(HashAlg::Sha512),
        rsa(HashAlg::Sha256),
    ]
}

fn read_bounded(file: &Path) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let file = std::fs::File::open(file)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(std::io::ErrorKind::FileTooLarge.into());
    }
    Ok(text)
}

/// `[@marker] hosts type key [comment]`
#[derive(Debug)]
struct Line<'a> {
    marker: Option<&'a str>,
    hosts: &'a str,
    key: &'a str,
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut words = line
            .split([' ', '\t', '\r'])
            .filter(|word| !word.is_empty());
        let mut hosts = words.next()?;
        if hosts.starts_with('#') {
            return None;
        }
        let mut marker = None;
        if hosts.starts_with('@') {
            marker = Some(hosts);
            hosts = words.next()?;
        }
        let _kind = words.next()?;
        let key = words.next()?;
        Some(Self { marker, hosts, key })
    }

    /// The key; `None` if it is of a kind that is not understood.
    fn key(&self) -> Option<KeyData> {
        let key = russh::keys::parse_public_key_base64(self.key).ok()?;
        Some(key.key_data().clone())
    }
}

/// True if `name` matches one of the comma-separated `patterns` and none that is negated.
fn matches_any(patterns: &str, name: &str) -> bool {
    if let Some(hashed) = patterns.strip_prefix("|1|") {
        return matches_hash(hashed, name).unwrap_or(false);
    }
    let mut is_match = false;
    for pattern in patterns.split(',') {
        let (pattern, is_negated) = match pattern.strip_prefix('!') {
            Some(pattern) => (pattern, true),
            None => (pattern, false),
        };
        if matches(pattern.to_ascii_lowercase().as_bytes(), name.as_bytes()) {
            if is_negated {
                return false;
            }
            is_match = true;
        }
    }
    is_match
}

/// Compares with `salt|hash`, both in base 64: the HMAC-SHA1 of the name under the salt.
fn matches_hash(hashed: &str, name: &str) -> Option<bool> {
    let (salt, hash) = hashed.split_once('|')?;
    let salt = BASE64.decode(salt.as_bytes()).ok()?;
    let hash = BASE64.decode(hash.as_bytes()).ok()?;
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &salt);
    Some(hmac::verify(&key, name.as_bytes(), &hash).is_ok())
}

/// True if all of `name` matches `pattern`, in which `*` is any text and `?` any character.
///
/// Only the last `*` is ever taken back, so the time is bounded by the product of both lengths.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut star) = (0, None);
    let mut rest = 0;
    while rest < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, rest));
                at += 1;
            }
            Some(&byte) if byte == b'?' || byte == name[rest] => {
                at += 1;
                rest += 1;
            }
            _ => {
                let Some((star_at, from)) = star else {
                    return false;
                };
                star = Some((star_at, from + 1));
                at = star_at + 1;
                rest = from + 1;
            }
        }
    }
    pattern[at..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ED25519: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const OTHER: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA6rWI3G1sz07DnfFlrouTcysQlj2P+jpNSOEWD9OJ3X";
    const P256: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBEmKSENjQEezOmxkZMy7opKgwFB9nkt5YRrYMjNuG5N87uRgg6CLrbo5wAdT/y6v0mKV0U2w0WZ2YB/++Tpockg=";

    fn key(text: &str) -> PublicKey {
        russh::keys::parse_public_key_base64(text.split(' ').nth(1).unwrap()).unwrap()
    }

    fn known(text: &str, host: &str, port: u16) -> KnownHost {
        let mut known = KnownHost::default();
        known.add(text.as_bytes(), host, port);
        known
    }

    fn check(hosts: &str, host: &str, port: u16) -> bool {
        known(&format!("{hosts} {ED25519} a comment\n"), host, port)
            .check(&key(ED25519))
            .is_ok()
    }

    #[test]
    fn names_match_as_in_ssh() {
        assert!(check("nas", "nas", 22));
        assert!(check("nas", "NAS", 22));
        assert!(check("a,nas.home,b", "nas.home", 22));
        assert!(check("*.home", "nas.home", 22));
        assert!(check("n?s.*e", "nas.home", 22));
        assert!(check("  \tnas", "nas", 22));
        assert!(!check("nas", "nas2", 22));
        assert!(!check("*.home,!nas.home", "nas.home", 22));
        assert!(!check("!nas.home,*.home", "nas.home", 22));
        assert!(!check("!other", "nas", 22));
        assert!(!check("#nas", "nas", 22));
        assert!(check("[nas]:2222", "nas", 2222));
        assert!(check("[*]:2222", "nas", 2222));
        assert!(!check("[nas]:2222", "nas", 22));
        assert!(!check("[nas]:2222", "nas", 2223));
        assert!(check("[::1]:2222", "::1", 2222));
    }

    #[test]
    fn hashed_names_match() {
        // As ssh-keygen -H made them of "example.com" and "[localhost]:2222".
        let plain = "|1|O33ESRMWPVkMYIwJ1Uw+n877jTo=|nuuC5vEqXlEZ/8BXQR7m619W6Ak=";
        assert!(check(plain, "example.com", 22));
        assert!(!check(plain, "example.org", 22));
        for bad in ["|1|", "|1|x", "|1|!!|!!", "|1||", "|2|a|b"] {
            assert!(!check(bad, "example.com", 22), "{bad}");
        }
    }

    #[test]
    fn a_key_of_the_usual_port_does_where_nothing_else_is_known() {
        assert!(check("nas", "nas", 2222));
        let text = format!("nas {ED25519}\n[nas]:2222 {OTHER}\n");
        let known = known(&text, "nas", 2222);
        assert!(known.check(&key(OTHER)).is_ok());
        assert!(matches!(
            known.check(&key(ED25519)),
            Err(Refusal::ChangedHostKey { .. })
        ));
    }

    #[test]
    fn several_keys_of_one_host_are_all_good() {
        let text = format!("nas {ED25519}\nnas {OTHER}\nnas {P256}\nbad line\nnas ssh-x AAAA\n");
        let known = known(&text, "nas", 22);
        for text in [ED25519, OTHER, P256] {
            assert!(known.check(&key(text)).is_ok());
        }
    }

    #[test]
    fn unknown_changed_and_revoked_keys_are_told_apart() {
        let fingerprint = fingerprint(&key(ED25519));
        assert!(fingerprint.starts_with("SHA256:"), "{fingerprint}");
        let unknown = Err(Refusal::UnknownHostKey {
            fingerprint: fingerprint.clone(),
        });
        let changed = Err(Refusal::ChangedHostKey { fingerprint });
        let check = |text: String| known(&text, "nas", 22).check(&key(ED25519));
        assert_eq!(check(String::new()), unknown);
        assert_eq!(check(format!("other {ED25519}\n")), unknown);
        assert_eq!(check(format!("@cert-authority nas {ED25519}\n")), unknown);
        assert_eq!(check(format!("nas {OTHER}\n")), changed);
        assert_eq!(check(format!("nas {P256}\n")), changed);
        assert_eq!(
            check(format!("nas {ED25519}\n@revoked * {ED25519}\n")),
            changed
        );
        assert_eq!(
            check(format!("nas {ED25519}\n@revoked nas {OTHER}\n")),
            Ok(())
        );
    }

    #[test]
    fn known_algorithms_are_offered_first() {
        let p256 = Algorithm::Ecdsa {
            curve: EcdsaCurve::NistP256,
        };
        let offers = known(&format!("nas {P256}\n"), "nas", 22).algorithms();
        assert_eq!((offers.len(), &offers[0]), (6, &p256));
        assert_eq!(KnownHost::default().algorithms()[0], Algorithm::Ed25519);
    }

    proptest! {
        #[test]
        fn patterns_match_like_the_naive_way(pattern in "[ab*?]{0,8}", name in "[ab]{0,8}") {
            fn naive(pattern: &[u8], name: &[u8]) -> bool {
                match (pattern.split_first(), name.split_first()) {
                    (None, None) => true,
                    (Some((b'*', rest)), _) => {
                        (0..=name.len()).any(|skip| naive(rest, &name[skip..]))
                    }
                    (Some((&byte, pattern)), Some((&first, name))) => {
                        (byte == b'?' || byte == first) && naive(pattern, name)
                    }
                    _ => false,
                }
            }
            let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
            prop_assert_eq!(matches(pattern, name), naive(pattern, name));
        }

        #[test]
        fn no_line_panics(text in "[@|1!*,# a-zA-Z0-9=+/\\[\\]:\n\t]{0,200}") {
            let _ = known(&text, "nas", 2222).check(&key(ED25519));
        }
    }
}
