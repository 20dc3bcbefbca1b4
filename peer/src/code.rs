//! The join code: a cluster key that people read aloud and type.
//!
//! 26 characters hold two bits of version and the 128 bits of the key, 4 are a checksum: a
//! Reed-Solomon code over GF(32), shortened to 30 symbols. Any two codes differ in at least five
//! characters, so up to four wrong ones are always noticed, and every swap of two neighbours with
//! them; of worse mistakes all but one in a million.
//!
//! The alphabet is Crockford's base32, not RFC 4648's: it has no letter that looks like a digit. What
//! people write for 0 and 1 (`O`, `I`, `L`) is read as these, where RFC 4648 leaves it open whether a
//! `1` was meant as `I` or `L`.

use std::fmt;
use std::str::FromStr;

use zeroize::{Zeroize, Zeroizing};

use crate::cluster::ClusterKey;

/// Crockford's base32: digits, then letters without I, L, O and U.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Characters that hold version and key: 130 bits.
const DATA_LEN: usize = 26;
/// Characters of the checksum.
const CHECK_LEN: usize = 4;
/// Characters in all, without hyphens. At most 31, or two mistakes could cancel out.
const CODE_LEN: usize = DATA_LEN + CHECK_LEN;
/// Characters between two hyphens: as many as people keep in mind at once.
const GROUP_LEN: usize = 5;
/// The two bits ahead of the key. Not 0, so that a row of zeros is no code.
const VERSION: u8 = 1;
/// x⁵ + x² + 1: the primitive polynomial by which GF(32) multiplies; 2 generates the field.
const MODULUS: u8 = 0b10_0101;
/// α to α⁴: where every code, taken as a polynomial, is zero.
const ROOTS: [u8; CHECK_LEN] = [2, 4, 8, 16];
/// The product of (x − root) over [`ROOTS`], from x³ down; x⁴ has the factor 1.
const GENERATOR: [u8; CHECK_LEN] = generator();

/// A cluster key in the form in which it goes from node to node by hand.
#[derive(Clone)]
pub struct JoinCode(ClusterKey);

/// Why a text is no join code. Reads after "read the join code"; no variant holds any of the code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinCodeError {
    /// It is cut off, or has more than belongs to it.
    #[error("read the join code: it has {characters} letters and digits instead of {CODE_LEN}")]
    Length {
        /// How many there are.
        characters: usize,
    },
    /// A character that no code has.
    #[error("read the join code: character {position} is none that a code has")]
    Character {
        /// Which one, from 1, without hyphens and spaces.
        position: usize,
    },
    /// The checksum is wrong.
    #[error("read the join code: it is mistyped{}", near(*group))]
    Mistyped {
        /// The group, from 1, in which one other character or a swap of two would make it right.
        group: Option<usize>,
    },
    /// It comes from a program of another age.
    #[error("read the join code: it is of a kind that this version does not know")]
    Version,
}

impl JoinCode {
    pub(crate) fn new(key: ClusterKey) -> Self {
        Self(key)
    }

    /// The key that it stands for.
    pub fn key(&self) -> &ClusterKey {
        &self.0
    }

    /// The code in capitals, with hyphens. It lets whoever reads it into the cluster.
    pub fn reveal(&self) -> Zeroizing<String> {
        let symbols = encode(&self.0);
        let mut text = Zeroizing::new(String::with_capacity(CODE_LEN + CODE_LEN / GROUP_LEN));
        for (index, symbol) in symbols.iter().enumerate() {
            if index > 0 && index % GROUP_LEN == 0 {
                text.push('-');
            }
            text.push(char::from(ALPHABET[usize::from(*symbol)]));
        }
        text
    }
}

impl fmt::Debug for JoinCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinCode(..)")
    }
}

impl FromStr for JoinCode {
    type Err = JoinCodeError;

    /// Reads a code, whatever its case, hyphens and spaces.
    fn from_str(text: &str) -> Result<Self, JoinCodeError> {
        let mut symbols = Zeroizing::new([0; CODE_LEN]);
        let mut characters = 0;
        for character in text.chars().filter(|c| !is_between(*c)) {
            let position = characters + 1;
            let symbol = symbol(character).ok_or(JoinCodeError::Character { position })?;
            if let Some(place) = symbols.get_mut(characters) {
                *place = symbol;
            }
            characters = position;
        }
        if characters != CODE_LEN {
            return Err(JoinCodeError::Length { characters });
        }
        decode(&mut symbols).map(Self)
    }
}

impl JoinCodeError {
    /// What the user can do.
    pub fn fix(&self) -> &'static str {
        match self {
            Self::Length { .. } => {
                "give all of what `musicfs cluster show --join-code` prints on a member"
            }
            Self::Character { .. } => "a code has digits and letters, and no U; type it again",
            Self::Mistyped { .. } => "compare it with the one that was printed, and type it again",
            Self::Version => "bring this node and the one that printed it to the same version",
        }
    }
}

/// Where a mistake may be, as far as one is likely.
fn near(group: Option<usize>) -> String {
    group.map_or_else(String::new, |group| format!(", perhaps in group {group}"))
}

/// True for what may stand between characters: what people type, and what word processors make of it.
fn is_between(character: char) -> bool {
    character.is_whitespace() || matches!(character, '-' | '\u{2010}'..='\u{2015}' | '\u{2212}')
}

/// What a character stands for.
fn symbol(character: char) -> Option<u8> {
    let plain = match character.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        other => other,
    };
    let index = ALPHABET
        .iter()
        .position(|known| char::from(*known) == plain);
    index.and_then(|index| u8::try_from(index).ok())
}

fn encode(key: &ClusterKey) -> Zeroizing<[u8; CODE_LEN]> {
    let mut symbols = Zeroizing::new([0; CODE_LEN]);
    let mut bits = u128::from_be_bytes(*key.bytes());
    for symbol in symbols[..DATA_LEN].iter_mut().rev() {
        *symbol = (bits & 31) as u8;
        bits >>= 5;
    }
    // 26 × 5 − 128: two bits are free in the first.
    symbols[0] |= VERSION << 3;
    // The remainder of the division by the generator; in GF(32), adding and subtracting are XOR.
    let mut rest = [0; CHECK_LEN];
    for index in 0..DATA_LEN {
        let factor = symbols[index] ^ rest[0];
        rest.rotate_left(1);
        rest[CHECK_LEN - 1] = 0;
        for (place, coefficient) in rest.iter_mut().zip(GENERATOR) {
            *place ^= product(factor, coefficient);
        }
    }
    symbols[DATA_LEN..].copy_from_slice(&rest);
    debug_assert!(is_whole(&symbols));
    symbols
}

fn decode(symbols: &mut [u8; CODE_LEN]) -> Result<ClusterKey, JoinCodeError> {
    if !is_whole(symbols) {
        let group = suspect(symbols).map(|index| index / GROUP_LEN + 1);
        return Err(JoinCodeError::Mistyped { group });
    }
    if symbols[0] >> 3 != VERSION {
        return Err(JoinCodeError::Version);
    }
    let mut bits = 0_u128;
    for symbol in &symbols[..DATA_LEN] {
        // The version leaves at the top.
        bits = bits << 5 | u128::from(*symbol);
    }
    let key = ClusterKey::from_bytes(bits.to_be_bytes());
    bits.zeroize();
    Ok(key)
}

/// True if the checksum is right.
fn is_whole(symbols: &[u8; CODE_LEN]) -> bool {
    let value = |root| {
        symbols
            .iter()
            .fold(0, |sum, symbol| product(sum, root) ^ symbol)
    };
    ROOTS.into_iter().all(|root| value(root) == 0)
}

/// Where one other character, or a swap with the next one, would make the checksum right.
///
/// A hint and no correction: whoever typed two characters wrong would be told of a third.
fn suspect(symbols: &mut [u8; CODE_LEN]) -> Option<usize> {
    for index in 0..CODE_LEN {
        if index + 1 < CODE_LEN {
            symbols.swap(index, index + 1);
            let is_right = is_whole(symbols);
            symbols.swap(index, index + 1);
            if is_right {
                return Some(index);
            }
        }
        let typed = symbols[index];
        for other in 0..32 {
            symbols[index] = other;
            if is_whole(symbols) {
                return Some(index);
            }
        }
        symbols[index] = typed;
    }
    None
}

/// The product of two elements of GF(32).
const fn product(left: u8, right: u8) -> u8 {
    let (mut left, mut right, mut sum) = (left, right, 0);
    while right > 0 {
        if right & 1 == 1 {
            sum ^= left;
        }
        left <<= 1;
        if left & 32 != 0 {
            left ^= MODULUS;
        }
        right >>= 1;
    }
    sum
}

const fn generator() -> [u8; CHECK_LEN] {
    // From the constant up; multiplied by (x + root) for one root after the other.
    let mut factors = [1, 0, 0, 0, 0];
    let mut degree = 0;
    while degree < CHECK_LEN {
        let mut place = degree + 1;
        while place > 0 {
            factors[place] = factors[place - 1] ^ product(factors[place], ROOTS[degree]);
            place -= 1;
        }
        factors[0] = product(factors[0], ROOTS[degree]);
        degree += 1;
    }
    [factors[3], factors[2], factors[1], factors[0]]
}

#[cfg(test)]
mod tests;
