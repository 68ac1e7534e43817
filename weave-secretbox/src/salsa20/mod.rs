//! The stream cipher Salsa20 and the way to its long-nonce form XSalsa20, as fast as the processor
//! allows.
//!
//! Salsa20 makes each 64-byte block of its keystream from nothing but key, nonce and the number
//! of the block ("Salsa20 specification", D. J. Bernstein, 2005). So blocks are computed side by
//! side, one in each lane of a vector register, of one message or of several:
//!
//! ```text
//!               lane 0    lane 1    lane 2         lane 15
//!   vector 0  | word 0  | word 0  | word 0  | ... | word 0  |    sixteen vectors hold the blocks:
//!   vector 1  | word 1  | word 1  | word 1  | ... | word 1  |    16 at once with AVX-512,
//!   ...                                                          8 with AVX2, 1 without either
//!   vector 15 | word 15 | word 15 | word 15 | ... | word 15 |
//! ```
//!
//! The rounds never cross lanes; a transposition at the end brings each block together.
//! [`Backend`] says what this processor can do.
//!
//! This is only a keystream. It authenticates nothing.

mod backend;
mod portable;
mod rounds;
#[cfg(target_arch = "x86_64")]
mod sys;

pub(crate) use backend::Backend;

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::KEY_LEN;

/// Length of a nonce.
pub(crate) const NONCE_LEN: usize = 8;
pub(crate) const BLOCK_LEN: usize = 64;
/// Blocks that are computed by one call.
pub(crate) const LANES: usize = 16;

const WORDS: usize = 16;
/// The first of the words in which blocks of one key differ: two of the nonce, two of the number.
const PLACE: usize = 6;
/// "expand 32-byte k", the diagonal of the state.
const CONSTANTS: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];

/// A key, and what is the same in all blocks of its keystreams.
pub(crate) struct Key([u32; WORDS]);

/// Which block of which keystream each lane computes.
#[derive(Clone, Copy, Default)]
pub(crate) struct Places([[u32; LANES]; 4]);

/// Blocks of keystreams, one for each lane.
pub(crate) type Blocks = [[u8; BLOCK_LEN]; LANES];

/// Derives a key from a key and 16 bytes ("Extending the Salsa20 nonce", section 2).
pub fn hsalsa20(key: &[u8; KEY_LEN], input: &[u8; 16]) -> [u8; KEY_LEN] {
    let mut state = initial(key, input);
    portable::rounds(&mut state);
    let mut derived = [0; KEY_LEN];
    for (bytes, word) in derived.chunks_exact_mut(4).zip([0, 5, 10, 15, 6, 7, 8, 9]) {
        bytes.copy_from_slice(&state[word].to_le_bytes());
    }
    state.zeroize();
    derived
}

impl Key {
    pub(crate) fn new(key: &[u8; KEY_LEN]) -> Self {
        Self(initial(key, &[0; 16]))
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl ZeroizeOnDrop for Key {}

impl Places {
    /// From this lane on, as many blocks of the keystream of this nonce, from this number on.
    #[inline]
    pub(crate) fn put(&mut self, lane: usize, nonce: [u8; NONCE_LEN], number: u64, count: usize) {
        let nonce = u64::from_le_bytes(nonce);
        let lanes = lane..lane + count;
        for (words, word) in self.0.iter_mut().zip(halves(nonce)) {
            words[lanes.clone()].fill(word);
        }
        let [_, _, low, high] = &mut self.0;
        for ((low, high), number) in
            low[lanes.clone()].iter_mut().zip(&mut high[lanes]).zip(number..)
        {
            [*low, *high] = halves(number);
        }
    }
}

/// The low and the high half, as the state has them.
#[expect(clippy::cast_possible_truncation, reason = "taking halves is the purpose")]
fn halves(number: u64) -> [u32; 2] {
    [number as u32, (number >> 32) as u32]
}

/// A state ("Salsa20 specification", section 9): constants on the diagonal, the key in two halves
/// around the 16 bytes of `input`.
fn initial(key: &[u8; KEY_LEN], input: &[u8; 16]) -> [u32; WORDS] {
    let word = |bytes: &[u8], i: usize| {
        u32::from_le_bytes([bytes[4 * i], bytes[4 * i + 1], bytes[4 * i + 2], bytes[4 * i + 3]])
    };
    let [c0, c1, c2, c3] = CONSTANTS;
    let (k, n) = (|i| word(key, i), |i| word(input, i));
    [c0, k(0), k(1), k(2), k(3), c1, n(0), n(1), n(2), n(3), c2, k(4), k(5), k(6), k(7), c3]
}

#[cfg(test)]
mod tests;
