//! One block at a time, on any processor.

use super::rounds::twenty_rounds;
use super::{Blocks, Key, PLACE, Places, WORDS};

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

/// Computes the first `count` blocks.
pub(super) fn blocks(key: &Key, places: &Places, count: usize, blocks: &mut Blocks) {
    for (lane, block) in blocks.iter_mut().enumerate().take(count) {
        let mut start = key.0;
        for (word, lanes) in start[PLACE..].iter_mut().zip(&places.0) {
            *word = lanes[lane];
        }
        let mut x = start;
        rounds(&mut x);
        for ((bytes, word), start) in block.as_chunks_mut::<4>().0.iter_mut().zip(x).zip(start) {
            *bytes = word.wrapping_add(start).to_le_bytes();
        }
    }
}
