//! Checksums that an origin has of whole files, and the comparison of a stream of bytes with one.
//!
//! Nothing here decides what the cache's own content is called (that is BLAKE3): these are the
//! digests that servers happen to have. One proves content against accidents and against a cache
//! that is out of date; it is taken from the origin itself, which could send any bytes anyway.

use std::fmt;

use md5::Md5;
use sha1::Sha1;
use sha2::Sha256;
use sha2::digest::Digest;

/// The most parts that an upload can have (Amazon S3 User Guide, "Amazon S3 multipart upload
/// limits").
const PARTS_MAX: u32 = 10_000;

/// A digest of a whole content, as an origin has it. Small; copying it is cheap.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Checksum {
    /// MD5 (RFC 1321).
    Md5([u8; 16]),
    /// SHA-1 (FIPS 180-4).
    Sha1([u8; 20]),
    /// SHA-256 (FIPS 180-4).
    Sha256([u8; 32]),
    /// The MD5 of the MD5s of all parts, as S3 makes it of an upload in parts.
    Md5OfParts {
        /// Bytes of every part but the last, which may be shorter; not 0.
        part_len: u64,
        /// How many parts there are; 1 to 10,000.
        parts: u32,
        /// The outer digest.
        md5: [u8; 16],
    },
}

impl Checksum {
    /// What an entity tag of S3 (without quotes) says of the content: 32 hexadecimal digits are its
    /// MD5, with `-N` behind them the MD5 of the MD5s of `N` parts. The tag does not tell the length
    /// of a part; the caller finds it out and passes it.
    ///
    /// `None` for any other tag, and for one of parts whose length is not known. A tag can look like
    /// an MD5 and be none (encrypted objects): then no content agrees with it.
    pub fn from_etag(etag: &str, first_part_len: Option<u64>) -> Option<Self> {
        match etag.split_once('-') {
            None => digest(etag).map(Self::Md5),
            Some((md5, _)) => {
                let (parts, part_len) = (parts_of_etag(etag)?, first_part_len?);
                let md5 = digest(md5)?;
                (part_len > 0).then_some(Self::Md5OfParts {
                    part_len,
                    parts,
                    md5,
                })
            }
        }
    }

    /// A digest in hexadecimal digits; its length says which: 32 MD5, 40 SHA-1, 64 SHA-256.
    pub fn from_hex(text: &str) -> Option<Self> {
        match text.len() {
            32 => digest(text).map(Self::Md5),
            40 => digest(text).map(Self::Sha1),
            64 => digest(text).map(Self::Sha256),
            _ => None,
        }
    }

    /// True if content of `size` bytes can have it: a digest of parts fits only sizes that make so
    /// many parts.
    pub fn fits(&self, size: u64) -> bool {
        match self {
            Self::Md5(_) | Self::Sha1(_) | Self::Sha256(_) => true,
            Self::Md5OfParts {
                part_len, parts, ..
            } => *part_len > 0 && size.div_ceil(*part_len).max(1) == u64::from(*parts),
        }
    }

    /// Starts to compare.
    pub fn check(&self) -> Check {
        let state = match self {
            Self::Md5(_) => State::Md5(Md5::new()),
            Self::Sha1(_) => State::Sha1(Sha1::new()),
            Self::Sha256(_) => State::Sha256(Sha256::new()),
            Self::Md5OfParts { part_len, .. } => State::Parts(Parts {
                // One that cannot be is compared like any other, and does not hold.
                len: (*part_len).max(1),
                left: (*part_len).max(1),
                count: 0,
                part: Md5::new(),
                whole: Md5::new(),
            }),
        };
        Check {
            expected: *self,
            state,
        }
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = |digest: &[u8]| data_encoding::HEXLOWER.encode(digest);
        match self {
            Self::Md5(digest) => write!(f, "md5:{}", hex(digest)),
            Self::Sha1(digest) => write!(f, "sha1:{}", hex(digest)),
            Self::Sha256(digest) => write!(f, "sha256:{}", hex(digest)),
            Self::Md5OfParts {
                part_len,
                parts,
                md5,
            } => write!(f, "md5:{}-{parts}, parts of {part_len} bytes", hex(md5)),
        }
    }
}

/// How many parts an entity tag of S3 tells of; `None` if it is not that of an upload in parts.
pub fn parts_of_etag(etag: &str) -> Option<u32> {
    let (md5, parts) = etag.split_once('-')?;
    digest::<16>(md5)?;
    // No sign and no leading zero, which `parse` would take.
    let is_number = parts.starts_with(|first: char| matches!(first, '1'..='9'));
    let parts = parts.parse().ok().filter(|_| is_number)?;
    (parts <= PARTS_MAX).then_some(parts)
}

/// A comparison under way: pass all bytes in order, then ask.
pub struct Check {
    expected: Checksum,
    state: State,
}

enum State {
    Md5(Md5),
    Sha1(Sha1),
    Sha256(Sha256),
    Parts(Parts),
}

/// The digest of parts, so far.
struct Parts {
    len: u64,
    /// Bytes that the part under way still takes.
    left: u64,
    /// Parts that are full.
    count: u32,
    part: Md5,
    whole: Md5,
}

impl Check {
    /// Takes the next bytes, any number of them.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.state {
            State::Md5(hasher) => hasher.update(bytes),
            State::Sha1(hasher) => hasher.update(bytes),
            State::Sha256(hasher) => hasher.update(bytes),
            State::Parts(parts) => parts.update(bytes),
        }
    }

    /// True if the bytes passed have the checksum.
    pub fn holds(self) -> bool {
        match (self.state, self.expected) {
            (State::Md5(hasher), Checksum::Md5(expected)) => *hasher.finalize() == expected,
            (State::Sha1(hasher), Checksum::Sha1(expected)) => *hasher.finalize() == expected,
            (State::Sha256(hasher), Checksum::Sha256(expected)) => *hasher.finalize() == expected,
            (
                State::Parts(made),
                Checksum::Md5OfParts {
                    part_len,
                    parts,
                    md5,
                },
            ) => part_len > 0 && made.finish() == (parts, md5),
            _ => false,
        }
    }
}

impl Parts {
    fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left == 0 {
                self.close();
            }
            let taken =
                usize::try_from(self.left).map_or(bytes.len(), |left| bytes.len().min(left));
            self.part.update(&bytes[..taken]);
            self.left -= taken as u64;
            bytes = &bytes[taken..];
        }
    }

    /// Goes on with the next part. One that is just full stays open: nothing may follow.
    fn close(&mut self) {
        let digest = std::mem::replace(&mut self.part, Md5::new()).finalize();
        self.whole.update(digest);
        self.count = self.count.saturating_add(1);
        self.left = self.len;
    }

    fn finish(mut self) -> (u32, [u8; 16]) {
        self.close();
        (self.count, self.whole.finalize().into())
    }
}

/// `N` bytes in hexadecimal digits of either case.
fn digest<const N: usize>(text: &str) -> Option<[u8; N]> {
    let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes());
    bytes.ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn holds(checksum: Checksum, bytes: &[u8]) -> bool {
        let mut check = checksum.check();
        check.update(bytes);
        check.holds()
    }

    fn md5(bytes: &[u8]) -> [u8; 16] {
        Md5::digest(bytes).into()
    }

    #[test]
    fn known_digests_hold_for_their_content_alone() {
        // RFC 1321 §A.5; FIPS 180-4's examples.
        let check = |hex: &str, content: &str| {
            let checksum = Checksum::from_hex(hex).unwrap();
            assert!(holds(checksum, content.as_bytes()), "{hex}");
            assert!(!holds(checksum, b"something else"), "{hex}");
            assert!(checksum.fits(0) && checksum.fits(u64::MAX));
            let upper = Checksum::from_hex(&hex.to_uppercase());
            assert_eq!(upper, Some(checksum));
        };
        check("d41d8cd98f00b204e9800998ecf8427e", "");
        check("900150983cd24fb0d6963f7d28e17f72", "abc");
        check("a9993e364706816aba3e25717850c26c9cd0d89d", "abc");
        check(
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "abc",
        );
    }

    #[test]
    fn what_is_no_digest_is_none() {
        let md5 = "900150983cd24fb0d6963f7d28e17f72";
        for text in ["", "abc", "g00150983cd24fb0d6963f7d28e17f72", &md5[1..]] {
            assert_eq!(Checksum::from_hex(text), None, "{text:?}");
            assert_eq!(Checksum::from_etag(text, Some(5)), None, "{text:?}");
        }
        for count in ["", "0", "-1", "+1", "01", "10001", "x", "1-1", " 1"] {
            let tag = format!("{md5}-{count}");
            assert_eq!(Checksum::from_etag(&tag, Some(5)), None, "{tag:?}");
            assert_eq!(parts_of_etag(&tag), None, "{tag:?}");
        }
        assert_eq!(Checksum::from_etag(&format!("{md5}-2"), None), None);
        assert_eq!(Checksum::from_etag(&format!("{md5}-2"), Some(0)), None);
        assert_eq!(parts_of_etag(md5), None);
        assert_eq!(parts_of_etag(&format!("{md5}-10000")), Some(10_000));
    }

    /// As S3 makes it: the MD5s of "aaaaa", "bbbbb" and "cc", one behind the other, hashed; the
    /// digest was made with another program.
    #[test]
    fn an_upload_in_parts_is_checked_part_by_part() {
        let inner = [md5(b"aaaaa"), md5(b"bbbbb"), md5(b"cc")].concat();
        let tag = format!("{}-3", data_encoding::HEXLOWER.encode(&md5(&inner)));
        assert_eq!(tag, "e054baf8a790fa129a28b08515440e3e-3");
        let checksum = Checksum::from_etag(&tag, Some(5)).unwrap();
        assert!(holds(checksum, b"aaaaabbbbbcc"));
        for other in ["aaaaabbbbbcd", "aaaaabbbbb", "aaaaabbbbbccccccc", ""] {
            assert!(!holds(checksum, other.as_bytes()), "{other:?}");
        }
        // Cut elsewhere, it is another checksum.
        let elsewhere = Checksum::from_etag(&tag, Some(6)).unwrap();
        assert!(!holds(elsewhere, b"aaaaabbbbbcc"));
        assert!(checksum.fits(11) && checksum.fits(15));
        assert!(!checksum.fits(10) && !checksum.fits(16));
    }

    #[test]
    fn one_part_may_be_the_whole_and_empty() {
        let one = |content: &[u8]| {
            let tag = data_encoding::HEXLOWER.encode(&md5(&md5(content)));
            Checksum::from_etag(&format!("{tag}-1"), Some(8)).unwrap()
        };
        assert!(holds(one(b""), b"") && one(b"").fits(0));
        assert!(holds(one(b"12345678"), b"12345678") && one(b"").fits(8));
        assert!(!one(b"").fits(9));
        let impossible = Checksum::Md5OfParts {
            part_len: 0,
            parts: 1,
            md5: md5(&md5(b"")),
        };
        assert!(!holds(impossible, b"") && !impossible.fits(0));
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_give_what_the_naive_way_gives(
            content in prop::collection::vec(any::<u8>(), 1..400),
            cuts in prop::collection::vec(0_usize..400, 0..8),
            part_len in 1_usize..90,
            flipped in any::<prop::sample::Index>(),
        ) {
            let inner: Vec<u8> = content.chunks(part_len).flat_map(md5).collect();
            let parts = u32::try_from(content.len().div_ceil(part_len)).unwrap();
            let checksums = [
                Checksum::Md5(md5(&content)),
                Checksum::Sha1(Sha1::digest(&content).into()),
                Checksum::Sha256(Sha256::digest(&content).into()),
                Checksum::Md5OfParts { part_len: part_len as u64, parts, md5: md5(&inner) },
            ];
            let mut cuts: Vec<_> = cuts.into_iter().map(|at| at.min(content.len())).collect();
            cuts.extend([0, content.len()]);
            cuts.sort_unstable();
            for checksum in checksums {
                let mut check = checksum.check();
                cuts.windows(2).for_each(|pair| check.update(&content[pair[0]..pair[1]]));
                prop_assert!(check.holds());
                prop_assert!(checksum.fits(content.len() as u64));
                let mut other = content.clone();
                other[flipped.index(content.len())] ^= 1;
                prop_assert!(!holds(checksum, &other));
            }
        }
    }
}
