//! Names cut from BLAKE3.

/// The start of BLAKE3 over `parts`, each behind its length, so that no two lists of parts meet.
pub(crate) fn name_of<const LEN: usize>(parts: &[&[u8]]) -> [u8; LEN] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let mut name = [0; LEN];
    hasher.finalize_xof().fill(&mut name);
    name
}
