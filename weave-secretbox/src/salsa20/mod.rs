//! The stream cipher Salsa20 and its long-nonce form XSalsa20, as fast as the processor allows.
//!
//! Salsa20 makes each 64-byte block of its keystream from nothing but key, nonce and the number
//! of the block ("Salsa20 specification", D. J. Bernstein, 2005). So the blocks of one message
//! are computed side by side, one in each lane of a vector register:
//!
//! ```text
//!               lane 0    lane 1    lane 2         lane n-1
//!   vector 0  | word 0  | word 0  | word 0  | ... | word 0  |    sixteen vectors hold n blocks:
//!   vector 1  | word 1  | word 1  | word 1  | ... | word 1  |    8 with AVX2, 16 with AVX-512,
//!   ...                                                          1 without either
//!   vector 15 | word 15 | word 15 | word 15 | ... | word 15 |
//!              block k   block k+1 block k+2       block k+n-1
//! ```
//!
//! The rounds never cross lanes; a transposition at the end brings each block together.
//! [`Backend`] says what this processor can do.
//!
//! This is only a keystream. It authenticates nothing.

mod backend;
mod block_number;
mod portable;
mod rounds;
#[cfg(target_arch = "x86_64")]
mod sys;

pub use backend::Backend;

use backend::MAX_BLOCKS;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::KEY_LEN;

/// Length of the nonce of [`Salsa20`].
pub const NONCE_LEN: usize = 8;

const BLOCK_LEN: usize = 64;
const WORDS: usize = 16;
/// "expand 32-byte k", the diagonal of the state.
const CONSTANTS: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];

/// A keystream. One key and nonce must never be used for two messages.
pub struct Salsa20 {
    backend: Backend,
    /// Words 8 and 9 are the number of the next block.
    state: [u32; WORDS],
    /// Keystream that has been computed and not used yet: `ahead[used..filled]`.
    ahead: [u8; MAX_BLOCKS * BLOCK_LEN],
    used: usize,
    filled: usize,
}

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

impl Salsa20 {
    /// The keystream of a key and a nonce, computed the fastest way there is.
    pub fn new(key: &[u8; KEY_LEN], nonce: &[u8; NONCE_LEN]) -> Self {
        Self::with_backend(Backend::best(), key, nonce)
    }

    /// The same keystream, computed in a way of the caller's choice.
    pub fn with_backend(backend: Backend, key: &[u8; KEY_LEN], nonce: &[u8; NONCE_LEN]) -> Self {
        let mut input = [0; 16];
        input[..NONCE_LEN].copy_from_slice(nonce);
        Self {
            backend,
            state: initial(key, &input),
            ahead: [0; MAX_BLOCKS * BLOCK_LEN],
            used: 0,
            filled: 0,
        }
    }

    /// Combines `text` with the next `text.len()` bytes of the keystream: encrypts or decrypts.
    pub fn apply(&mut self, mut text: &mut [u8]) {
        let ready = text.len().min(self.filled - self.used);
        let (first, rest) = text.split_at_mut(ready);
        self.apply_ahead(first);
        text = rest;

        let step = self.backend.blocks() * BLOCK_LEN;
        let whole = text.len() - text.len() % step;
        let (middle, last) = text.split_at_mut(whole);
        self.backend.apply(&mut self.state, middle);

        if !last.is_empty() {
            self.ahead[..step].fill(0);
            self.backend.apply(&mut self.state, &mut self.ahead[..step]);
            (self.used, self.filled) = (0, step);
            self.apply_ahead(last);
        }
    }

    /// Uses up `text.len()` bytes of what was computed ahead, which must be that many.
    fn apply_ahead(&mut self, text: &mut [u8]) {
        let end = self.used + text.len();
        for (byte, key) in text.iter_mut().zip(&self.ahead[self.used..end]) {
            *byte ^= key;
        }
        self.used = end;
    }
}

impl Drop for Salsa20 {
    /// Forgets the key, from which all the rest follows.
    fn drop(&mut self) {
        self.state.zeroize();
    }
}

impl ZeroizeOnDrop for Salsa20 {}

/// The state of block 0 ("Salsa20 specification", section 9): constants on the diagonal, the
/// key in two halves around the 16 bytes of `input`.
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
