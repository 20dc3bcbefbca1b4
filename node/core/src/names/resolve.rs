//! How entries that want one name are told apart.

use std::borrow::Cow;
use std::collections::BTreeMap;

use data_encoding::BASE32_NOPAD;

use super::{NAME_LEN_MAX, is_extension, truncate};

/// Characters of the key's digest in a suffix: 40 bits tell apart what shares a directory.
const SUFFIX_LEN_MIN: usize = 8;

/// Characters of the digest once a base name may have to be cut. Different bases can then become
/// one, so the digest covers the base too and must be enough by itself.
const SUFFIX_LEN_MIN_CUT: usize = 16;

/// Base names longer than this may have to be cut. The rest fits the longest suffix: `" ["`, the 52
/// characters of a digest, the digit that may follow them, and `"]"`.
const UNCUT_LEN_MAX: usize = NAME_LEN_MAX - 56;

/// Tells apart the members of a group, all of which want the name `base` in one directory.
///
/// `keys` identify the members for ever and are distinct (members with one key get one name).
/// `base` comes from [`component`](super::component). Returns a name for each key, in their order.
///
/// The member with the smallest key keeps `base`, unless `taken_by_dir`: a directory has it. Every
/// other gets ` [xxxxxxxx]` before its extension: the start of its key's BLAKE3 digest in lower-case
/// base32, of which at least one character is a digit. It is longer where two members' digests
/// start alike. Where `base` is so long that it may have to be cut to make room, the digest is of
/// `base`, a NUL and the key, and longer too.
///
/// Each name is a function of the set of keys, not of their order. A `base` that itself looks as
/// if it carried a suffix is never kept plain, so names of two groups never meet; the digit is there
/// for `[acoustic]` and `[remastered]` not to look so.
pub fn resolve(base: &str, keys: &[&[u8]], taken_by_dir: bool) -> Vec<String> {
    let is_plain_free = !taken_by_dir && !has_suffix(base);
    let Some(smallest) = keys.iter().min() else {
        return Vec::new();
    };
    if is_plain_free && keys.iter().all(|key| key == smallest) {
        return vec![base.to_owned(); keys.len()];
    }
    let (salt, len_min) = if base.len() > UNCUT_LEN_MAX {
        (format!("{base}\0"), SUFFIX_LEN_MIN_CUT)
    } else {
        (String::new(), SUFFIX_LEN_MIN)
    };
    let digests: BTreeMap<&[u8], String> = keys
        .iter()
        .map(|&key| (key, digest(&[salt.as_bytes(), key].concat())))
        .collect();
    let len = len_min.max(distinct_len(digests.values()));
    let name = |key: &&[u8]| {
        if is_plain_free && key == smallest {
            base.to_owned()
        } else {
            with_suffix(base, &suffix(&digests[*key], len))
        }
    };
    keys.iter().map(name).collect()
}

/// BLAKE3 of `bytes` in lower-case base32: 52 characters.
fn digest(bytes: &[u8]) -> String {
    let mut text = BASE32_NOPAD.encode(blake3::hash(bytes).as_bytes());
    text.make_ascii_lowercase();
    text
}

/// How many leading characters tell all of the (distinct) digests apart.
fn distinct_len<'a>(digests: impl Iterator<Item = &'a String>) -> usize {
    let mut sorted: Vec<&str> = digests.map(String::as_str).collect();
    sorted.sort_unstable();
    let shared = |pair: &[&str]| {
        let pairs = pair[0].bytes().zip(pair[1].bytes());
        pairs.take_while(|(left, right)| left == right).count()
    };
    sorted.windows(2).map(shared).max().map_or(0, |len| len + 1)
}

/// The first `len` characters of `digest`, and on to its first digit if they hold none.
fn suffix(digest: &str, len: usize) -> Cow<'_, str> {
    let is_digit = |byte: u8| byte.is_ascii_digit();
    match digest.bytes().position(is_digit) {
        Some(at) => Cow::Borrowed(&digest[..len.max(at + 1)]),
        // One digest in 50,000 has no digit at all.
        None => Cow::Owned(format!("{digest}2")),
    }
}

/// Puts ` [suffix]` before the extension of `base` and cuts the stem if need be.
fn with_suffix(base: &str, suffix: &str) -> String {
    let (stem, extension) = split_extension(base);
    let mut name = stem.to_owned();
    truncate(
        &mut name,
        NAME_LEN_MAX - " []".len() - suffix.len() - extension.len(),
    );
    name + " [" + suffix + "]" + extension
}

/// True if `name` could be the outcome of [`with_suffix`].
fn has_suffix(name: &str) -> bool {
    let (stem, _) = split_extension(name);
    let Some((_, suffix)) = stem
        .strip_suffix(']')
        .and_then(|rest| rest.rsplit_once(" ["))
    else {
        return false;
    };
    let is_base32 = |byte: u8| matches!(byte, b'a'..=b'z' | b'2'..=b'7');
    suffix.len() >= SUFFIX_LEN_MIN
        && suffix.bytes().all(is_base32)
        && suffix.bytes().any(|byte| byte.is_ascii_digit())
}

/// Splits a finished name before the last dot, if what follows it can be an extension.
///
/// No extension holds white space; so `with_suffix` can be undone, whatever the stem.
fn split_extension(name: &str) -> (&str, &str) {
    let at = match name.rfind('.') {
        Some(at) if at > 0 && is_extension(&name[at + 1..]) => at,
        _ => name.len(),
    };
    name.split_at(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::NameProfile::{Posix, Windows};
    use crate::names::{component, tests::hostile};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// A suffix as `resolve` gives it to `key` when nothing makes it longer.
    fn mark(key: &str) -> String {
        suffix(&digest(key.as_bytes()), SUFFIX_LEN_MIN).into_owned()
    }

    fn names(base: &str, keys: &[&str], taken_by_dir: bool) -> Vec<String> {
        let keys: Vec<&[u8]> = keys.iter().map(|key| key.as_bytes()).collect();
        resolve(base, &keys, taken_by_dir)
    }

    #[test]
    fn the_smallest_key_keeps_the_plain_name() {
        let (a, b, c) = (mark("a"), mark("b"), mark("c"));
        assert_eq!(names("x.flac", &[], false), Vec::<String>::new());
        assert_eq!(names("x.flac", &["b"], false), ["x.flac"]);
        assert_eq!(
            names("x.flac", &["b", "a", "c"], false),
            [
                format!("x [{b}].flac"),
                "x.flac".to_owned(),
                format!("x [{c}].flac")
            ]
        );
        assert_eq!(
            names("x", &["b", "a"], true),
            [format!("x [{b}]"), format!("x [{a}]")]
        );
        assert_eq!(
            names("feat. Someone", &["a"], true),
            [format!("feat. Someone [{a}]")]
        );
    }

    #[test]
    fn a_name_that_looks_suffixed_is_never_kept() {
        let check = |base: &str, expect: bool| assert_eq!(has_suffix(base), expect, "{base:?}");
        check("x [abcdefg2].flac", true);
        check("x [abcdefg2]", true);
        check("x [234567abcdefgh].flac", true);
        check("x [acoustic].flac", false);
        check("x [remastered].flac", false);
        check("x [abcdef2].flac", false);
        check("x [abcdefg1].flac", false);
        check("x [ABCDEFG2].flac", false);
        check("x[abcdefg2].flac", false);
        check("x [abcdefg2] y.flac", false);
        check("x.flac", false);

        let base = "x [abcdefg2].flac";
        let expect = format!("x [abcdefg2] [{}].flac", mark("k"));
        assert_eq!(names(base, &["k"], false), [expect]);
    }

    #[test]
    fn a_suffix_always_holds_a_digit() {
        let check = |digest: &str, len, expect: &str| assert_eq!(suffix(digest, len), expect);
        check("ab3defghijkl", 8, "ab3defgh");
        check("abcdefghijk5lm", 8, "abcdefghijk5");
        check("abcdefghijk5lm", 13, "abcdefghijk5l");
        check("abcdefghijkl", 8, "abcdefghijkl2");
    }

    #[test]
    fn digests_that_start_alike_lengthen_the_group() {
        let check = |digests: &[&str], expect| {
            let digests: Vec<String> = digests.iter().map(|&text| text.to_owned()).collect();
            assert_eq!(distinct_len(digests.iter()), expect, "{digests:?}");
        };
        check(&["abcd"], 0);
        check(&["abcd", "bbcd"], 1);
        check(&["abcx", "zzzz", "abcy"], 4);
    }

    #[test]
    fn a_long_name_makes_room_for_its_suffix() {
        let base = format!("{}.flac", "x".repeat(250));
        let got = names(&base, &["a", "b"], false);
        assert_eq!(got[0], base);
        assert_eq!(got[1].len(), NAME_LEN_MAX);
        let digest = digest(format!("{base}\0b").as_bytes());
        let suffix = suffix(&digest, SUFFIX_LEN_MIN_CUT).into_owned();
        assert!(got[1].ends_with(&format!("x [{suffix}].flac")));
    }

    #[test]
    fn regression_long_names_that_are_cut_alike_do_not_meet() {
        let base = |len| format!("{}.flac", "x".repeat(len));
        assert_ne!(
            names(&base(249), &["a"], true),
            names(&base(250), &["a"], true)
        );
    }

    proptest! {
        #[test]
        fn resolving_depends_on_the_set_of_keys_alone(
            text in hostile(),
            keys in proptest::collection::btree_set(any::<[u8; 2]>(), 1..20),
            turn in any::<usize>(),
            taken in any::<bool>(),
        ) {
            let base = component(&text, Some("flac"), Windows);
            let mut keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
            let mut names = resolve(&base, &keys, taken);
            prop_assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), keys.len());
            for name in &names {
                prop_assert_eq!(&component(name, None, Windows), name);
                let plain = name == &base;
                prop_assert!(plain != has_suffix(name) || (has_suffix(&base) && !plain));
            }
            let turn = turn % keys.len();
            keys.rotate_left(turn);
            names.rotate_left(turn);
            prop_assert_eq!(resolve(&base, &keys, taken), names);
        }

        #[test]
        fn groups_of_different_names_never_meet(
            left in hostile(),
            right in hostile(),
            key in any::<[u8; 2]>(),
        ) {
            let (left, right) = (component(&left, None, Posix), component(&right, None, Posix));
            prop_assume!(left != right);
            let (keys, others) = ([&key[..]], [&key[..], &[0; 3]]);
            for taken in [false, true] {
                let left = resolve(&left, &keys, taken);
                let right = resolve(&right, &others, taken);
                prop_assert!(right.iter().all(|name| !left.contains(name)));
            }
        }
    }
}
