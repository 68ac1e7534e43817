//! One block at a time, on any processor.

use super::WORDS;
use super::rounds::twenty_rounds;

/// The rounds without the final addition, which HSalsa20 leaves out.
pub(super) fn rounds(x: &mut [u32; WORDS]) {
    fn add(a: u32, b: u32) -> u32 {
        a.wrapping_add(b)
    }
    fn xor(a: u32, b: u32) -> u32 {
        a ^ b
    }
    fn rotate<const N: u32>(a: u32) -> u32 {
        a.rotate_left(N)
    }
    twenty_rounds!(x, add, xor, rotate);
}

/// Combines `text`, at most a block of it, with the block that `state` describes.
pub(super) fn apply(state: &[u32; WORDS], text: &mut [u8]) {
    let mut x = *state;
    rounds(&mut x);
    for ((bytes, word), start) in text.chunks_exact_mut(4).zip(x).zip(state) {
        for (byte, key) in bytes.iter_mut().zip(word.wrapping_add(*start).to_le_bytes()) {
            *byte ^= key;
        }
    }
}
