//! What is a join code, and what is noticed as none.

use proptest::prelude::*;

use super::*;

const KEY: &[u8; 16] = b"0123456789abcdef";
const CODE: &str = "9G64S-36D1N-6RVKG-EB1C9-HP8SB-6T57H";

fn code() -> String {
    ClusterKey::from_bytes(*KEY)
        .join_code()
        .reveal()
        .to_string()
}

fn read(text: &str) -> Result<[u8; 16], JoinCodeError> {
    text.parse::<JoinCode>().map(|code| *code.key().bytes())
}

/// The characters of the code without hyphens.
fn characters() -> Vec<char> {
    code().chars().filter(|c| *c != '-').collect()
}

#[test]
fn a_code_is_fixed_for_ever() {
    assert_eq!(code(), CODE);
    assert_eq!(read(CODE), Ok(*KEY));
}

#[test]
fn case_hyphens_spaces_and_look_alikes_do_not_matter() {
    let check = |text: &str| assert_eq!(read(text), Ok(*KEY), "{text}");
    check(&CODE.to_lowercase());
    check(&CODE.replace('-', ""));
    check(&CODE.replace('-', " "));
    check(&format!("  {}\n", CODE.replace('-', " \u{2013} ")));
    check(&CODE.replace('0', "o"));
    check(&CODE.replace('1', "l"));
    check(&CODE.replace('1', "I"));
}

#[test]
fn every_wrong_character_is_noticed_and_its_group_is_named() {
    let right = characters();
    for index in 0..right.len() {
        for other in ALPHABET.iter().map(|byte| char::from(*byte)) {
            let mut typed = right.clone();
            typed[index] = other;
            let text: String = typed.iter().collect();
            let expect = match typed == right {
                true => Ok(*KEY),
                false => Err(JoinCodeError::Mistyped {
                    group: Some(index / GROUP_LEN + 1),
                }),
            };
            assert_eq!(read(&text), expect, "{other} at {index}");
        }
    }
}

#[test]
fn every_swap_of_two_characters_is_noticed() {
    let right = characters();
    for one in 0..right.len() {
        for two in one + 1..right.len() {
            let mut typed = right.clone();
            typed.swap(one, two);
            let got = read(&typed.iter().collect::<String>());
            match typed == right {
                true => assert_eq!(got, Ok(*KEY)),
                false => assert!(
                    matches!(got, Err(JoinCodeError::Mistyped { .. })),
                    "{one} and {two}"
                ),
            }
            if two == one + 1 && typed != right {
                let group = Some(one / GROUP_LEN + 1);
                assert_eq!(got, Err(JoinCodeError::Mistyped { group }));
            }
        }
    }
}

#[test]
fn what_is_missing_or_too_much_is_counted() {
    let length = |characters| Err(JoinCodeError::Length { characters });
    assert_eq!(read(""), length(0));
    assert_eq!(read(&CODE[..CODE.len() - 1]), length(29));
    assert_eq!(read(&format!("{CODE}0")), length(31));
    assert_eq!(read(&"7".repeat(100_000)), length(100_000));
}

#[test]
fn what_no_code_has_is_named_by_its_place_alone() {
    let got = read(&CODE.replacen('-', "-U", 1));
    assert_eq!(got, Err(JoinCodeError::Character { position: 6 }));
    assert_eq!(read("é"), Err(JoinCodeError::Character { position: 1 }));
}

#[test]
fn zeros_are_no_code_and_other_versions_are_told_apart() {
    // A row of zeros has a right checksum; its version is 0.
    assert_eq!(read(&"0".repeat(CODE_LEN)), Err(JoinCodeError::Version));
}

#[test]
fn nothing_of_a_code_is_printed() {
    let key = ClusterKey::from_bytes(*KEY);
    assert_eq!(format!("{:?}", key.join_code()), "JoinCode(..)");
}

#[test]
fn multiplication_is_that_of_a_field() {
    let mut power = 1;
    let mut seen = [false; 32];
    for _ in 0..31 {
        assert!(!std::mem::replace(&mut seen[usize::from(power)], true));
        power = product(power, 2);
    }
    assert_eq!(power, 1, "2 generates every element but 0");
}

proptest! {
    #[test]
    fn every_key_comes_back_from_its_code(key: [u8; 16]) {
        let code = ClusterKey::from_bytes(key).join_code().reveal();
        prop_assert_eq!(read(&code), Ok(key));
    }

    #[test]
    fn up_to_four_wrong_characters_are_noticed(
        key: [u8; 16],
        changes in proptest::collection::btree_map(0..CODE_LEN, 1_u8..32, 1..=4),
    ) {
        let mut symbols = encode(&ClusterKey::from_bytes(key));
        for (index, change) in changes {
            symbols[index] ^= change;
        }
        let got = decode(&mut symbols).map(|key| *key.bytes());
        prop_assert!(matches!(got, Err(JoinCodeError::Mistyped { .. })), "{:?}", got);
    }

    #[test]
    fn no_text_is_more_than_an_error(text: String) {
        let _ = read(&text);
    }
}
