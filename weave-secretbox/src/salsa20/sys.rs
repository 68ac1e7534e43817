//! The vector forms, in the only file with unsafe code but for the two calls into it.
//!
//! Arithmetic on vectors is safe in a function that is compiled for the processor that has
//! them. What is not is reading and writing memory through pointers, which is confined to the
//! functions `load` and `store`.
#![allow(unsafe_code)]

use std::arch::x86_64::*;
use std::array;

use super::rounds::twenty_rounds;
use super::{BLOCK_LEN, Blocks, Key, PLACE, Places, WORDS};

/// Eight blocks at once in vectors of eight words.
pub(super) mod avx2 {
    use super::*;

    const N: usize = 8;

    /// Computes at least the first `count` blocks.
    #[target_feature(enable = "avx2")]
    pub(in crate::salsa20) fn blocks(
        key: &Key,
        places: &Places,
        count: usize,
        blocks: &mut Blocks,
    ) {
        let (groups, _) = blocks.as_chunks_mut::<N>();
        for (index, group) in groups.iter_mut().enumerate().take(count.div_ceil(N)) {
            let start: [__m256i; WORDS] = array::from_fn(|word| {
                match word.checked_sub(PLACE).and_then(|word| places.0.get(word)) {
                    Some(lanes) => load(&lanes.as_chunks::<N>().0[index]),
                    None => _mm256_set1_epi32(key.0[word].cast_signed()),
                }
            });
            let mut x = start;
            twenty_rounds!(x, add, xor, rotate);
            for word in 0..WORDS {
                x[word] = add(x[word], start[word]);
            }
            // Words 0 to 7 of a block are its first 32 bytes, words 8 to 15 the others.
            for half in 0..2 {
                let rows = array::from_fn(|word| x[half * N + word]);
                for (block, row) in group.iter_mut().zip(transpose(rows)) {
                    let (halves, _) = block.as_chunks_mut::<32>();
                    store(&mut halves[half], row);
                }
            }
        }
    }

    /// Row i, column j becomes row j, column i.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn transpose(r: [__m256i; N]) -> [__m256i; N] {
        // Pairs of words,
        let p: [__m256i; N] = array::from_fn(|i| match i % 2 {
            0 => _mm256_unpacklo_epi32(r[i], r[i + 1]),
            _ => _mm256_unpackhi_epi32(r[i - 1], r[i]),
        });
        // quads,
        let q: [__m256i; N] = array::from_fn(|i| {
            let (low, high) = (p[i / 4 * 4 + i % 4 / 2], p[i / 4 * 4 + i % 4 / 2 + 2]);
            match i % 2 {
                0 => _mm256_unpacklo_epi64(low, high),
                _ => _mm256_unpackhi_epi64(low, high),
            }
        });
        // and both halves.
        array::from_fn(|i| match i / 4 {
            0 => _mm256_permute2x128_si256::<0x20>(q[i], q[i + 4]),
            _ => _mm256_permute2x128_si256::<0x31>(q[i - 4], q[i]),
        })
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn add(a: __m256i, b: __m256i) -> __m256i {
        _mm256_add_epi32(a, b)
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn xor(a: __m256i, b: __m256i) -> __m256i {
        _mm256_xor_si256(a, b)
    }

    /// There is no rotation before AVX-512.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn rotate<const LEFT: i32>(a: __m256i) -> __m256i {
        let right = _mm_cvtsi32_si128(32 - LEFT);
        _mm256_or_si256(_mm256_slli_epi32::<LEFT>(a), _mm256_srl_epi32(a, right))
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn load(words: &[u32; N]) -> __m256i {
        // SAFETY: the reference is good for reading its 32 bytes; no alignment is asked for.
        unsafe { _mm256_loadu_si256(words.as_ptr().cast()) }
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn store(bytes: &mut [u8; 32], vector: __m256i) {
        // SAFETY: the reference is good for writing its 32 bytes; no alignment is asked for.
        unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), vector) }
    }
}

/// Sixteen blocks at once in vectors of sixteen words.
pub(super) mod avx512 {
    use super::*;

    const N: usize = 16;

    /// Computes all blocks.
    #[target_feature(enable = "avx512f")]
    pub(in crate::salsa20) fn blocks(key: &Key, places: &Places, blocks: &mut Blocks) {
        let start: [__m512i; WORDS] = array::from_fn(|word| {
            match word.checked_sub(PLACE).and_then(|word| places.0.get(word)) {
                Some(lanes) => load(lanes),
                None => _mm512_set1_epi32(key.0[word].cast_signed()),
            }
        });
        let mut x = start;
        twenty_rounds!(x, add, xor, rotate);
        for word in 0..WORDS {
            x[word] = add(x[word], start[word]);
        }
        for (block, row) in blocks.iter_mut().zip(transpose(x)) {
            store(block, row);
        }
    }

    /// Row i, column j becomes row j, column i.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn transpose(r: [__m512i; N]) -> [__m512i; N] {
        // Pairs of words,
        let p: [__m512i; N] = array::from_fn(|i| match i % 2 {
            0 => _mm512_unpacklo_epi32(r[i], r[i + 1]),
            _ => _mm512_unpackhi_epi32(r[i - 1], r[i]),
        });
        // quads: now vector 4g + c holds, for each k, words 4g to 4g + 3 of block 4k + c;
        let q: [__m512i; N] = array::from_fn(|i| {
            let (low, high) = (p[i / 4 * 4 + i % 4 / 2], p[i / 4 * 4 + i % 4 / 2 + 2]);
            match i % 2 {
                0 => _mm512_unpacklo_epi64(low, high),
                _ => _mm512_unpackhi_epi64(low, high),
            }
        });
        // what is left is to transpose quads, four times four of them: pairs of quads first,
        let h: [__m512i; N] = array::from_fn(|i| {
            let (c, first) = (i % 4, i / 8 * 8);
            let (low, high) = (q[first + c], q[first + 4 + c]);
            match i / 4 % 2 {
                0 => _mm512_shuffle_i32x4::<0b10_00_10_00>(low, high),
                _ => _mm512_shuffle_i32x4::<0b11_01_11_01>(low, high),
            }
        });
        // then whole blocks.
        array::from_fn(|block| {
            let (k, c) = (block / 4, block % 4);
            let (low, high) = (h[k % 2 * 4 + c], h[8 + k % 2 * 4 + c]);
            match k / 2 {
                0 => _mm512_shuffle_i32x4::<0b10_00_10_00>(low, high),
                _ => _mm512_shuffle_i32x4::<0b11_01_11_01>(low, high),
            }
        })
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn add(a: __m512i, b: __m512i) -> __m512i {
        _mm512_add_epi32(a, b)
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn xor(a: __m512i, b: __m512i) -> __m512i {
        _mm512_xor_si512(a, b)
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn rotate<const LEFT: i32>(a: __m512i) -> __m512i {
        _mm512_rol_epi32::<LEFT>(a)
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn load(words: &[u32; N]) -> __m512i {
        // SAFETY: the reference is good for reading its 64 bytes; no alignment is asked for.
        unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn store(bytes: &mut [u8; BLOCK_LEN], vector: __m512i) {
        // SAFETY: the reference is good for writing its 64 bytes; no alignment is asked for.
        unsafe { _mm512_storeu_si512(bytes.as_mut_ptr().cast(), vector) }
    }
}
