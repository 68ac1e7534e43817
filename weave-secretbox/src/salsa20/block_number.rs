//! The number of a block, where the state has it.

use super::WORDS;

/// The number of the block that `state` describes.
pub(super) fn counter(state: &[u32; WORDS]) -> u64 {
    u64::from(state[9]) << 32 | u64::from(state[8])
}

/// The low and the high half of a block number.
#[expect(clippy::cast_possible_truncation, reason = "taking halves is the purpose")]
pub(super) fn halves(counter: u64) -> [u32; 2] {
    [counter as u32, (counter >> 32) as u32]
}
