//! The marker of a clean close: what the ledger knew, so that a start need not look at the objects.
//!
//! Little endian: magic `MFSC`, format (1), generation of the chunk index (16), count (u64), then for
//! each version its key (16), header and body bytes (u64 each), last access (u64), and what it is an
//! alias of (16, zeros for none). At the end the first 16 bytes of the BLAKE3 of everything before.

use musicfs_core::version::VersionKey;

use crate::budget::{Charge, Ledger};

const MAGIC: [u8; 4] = *b"MFSC";
const FORMAT: u8 = 1;
const ENTRY_BYTES: usize = 16 + 8 + 8 + 8 + 16;
const CHECK_BYTES: usize = 16;

/// A marker that was read.
pub(crate) struct Marker {
    pub(crate) generation: [u8; 16],
    pub(crate) entries: Vec<MarkerEntry>,
}

pub(crate) struct MarkerEntry {
    pub(crate) version: VersionKey,
    pub(crate) charge: Charge,
    pub(crate) accessed: u64,
    pub(crate) alias_of: Option<VersionKey>,
}

pub(crate) fn encode(ledger: &Ledger, generation: [u8; 16]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(45 + ledger.len() * ENTRY_BYTES);
    bytes.extend(MAGIC);
    bytes.push(FORMAT);
    bytes.extend(generation);
    bytes.extend((ledger.len() as u64).to_le_bytes());
    for (version, entry) in ledger.entries() {
        let charge = entry.charge();
        bytes.extend(version.0);
        bytes.extend(charge.header.to_le_bytes());
        bytes.extend(charge.body.to_le_bytes());
        bytes.extend(entry.accessed.to_le_bytes());
        // No version key is all zeros: that would be a BLAKE3 of 128 zero bits.
        bytes.extend(ledger.target_of(version).map_or([0; 16], |of| of.0));
    }
    let check = blake3::hash(&bytes);
    bytes.extend(&check.as_bytes()[..CHECK_BYTES]);
    bytes
}

/// `None` for anything that a close did not write.
pub(crate) fn decode(bytes: &[u8]) -> Option<Marker> {
    let (rest, check) = bytes.split_last_chunk::<CHECK_BYTES>()?;
    if blake3::hash(rest).as_bytes()[..CHECK_BYTES] != check[..] {
        return None;
    }
    let (magic, rest) = rest.split_first_chunk::<4>()?;
    let (format, rest) = rest.split_first()?;
    let (generation, rest) = rest.split_first_chunk::<16>()?;
    let (count, rest) = rest.split_first_chunk::<8>()?;
    let expected = usize::try_from(u64::from_le_bytes(*count)).ok()?;
    if *magic != MAGIC || *format != FORMAT || Some(rest.len()) != expected.checked_mul(ENTRY_BYTES)
    {
        return None;
    }
    let entries = rest
        .chunks_exact(ENTRY_BYTES)
        .map(entry)
        .collect::<Option<_>>()?;
    Some(Marker {
        generation: *generation,
        entries,
    })
}

fn entry(bytes: &[u8]) -> Option<MarkerEntry> {
    let (version, rest) = bytes.split_first_chunk::<16>()?;
    let (header, rest) = rest.split_first_chunk::<8>()?;
    let (body, rest) = rest.split_first_chunk::<8>()?;
    let (accessed, rest) = rest.split_first_chunk::<8>()?;
    let of: [u8; 16] = rest.try_into().ok()?;
    Some(MarkerEntry {
        version: VersionKey(*version),
        charge: Charge {
            header: u64::from_le_bytes(*header),
            body: u64::from_le_bytes(*body),
        },
        accessed: u64::from_le_bytes(*accessed),
        alias_of: (of != [0; 16]).then_some(VersionKey(of)),
    })
}
