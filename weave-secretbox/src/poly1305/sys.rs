//! Eight blocks a step, with AVX-512 IFMA.
//!
//! ```text
//!           block:   0     4     1     5     2     6     3     7     (as unpacking leaves them)
//!   limb 0         | 44  | 44  | 44  | 44  | 44  | 44  | 44  | 44  | bits of 64
//!   limb 1         | 44  | ...
//!   limb 2         | 42  | ...
//! ```
//!
//! Each lane has every eighth block of the message, and so is a polynomial at r^8. In the last step
//! the lanes are multiplied by r^8, r^4, r^7 ... r instead, and added up. In front of the message
//! there are as many zeros as make the number of blocks a multiple of eight: they change nothing.
//!
//! Arithmetic on vectors is safe in a function that is compiled for the processor that has
//! them. What is not is reading memory through pointers, which is confined to `load`.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use zeroize::Zeroize;

use super::BLOCK_LEN;
use super::portable::{Factor, LOW_42, LOW_44, finish, point, reduce};

const LANES: usize = 8;
/// Bytes a step.
const STEP: usize = LANES * BLOCK_LEN;

/// The block of a step that each lane has.
const ORDER: [usize; LANES] = [0, 4, 1, 5, 2, 6, 3, 7];

/// A number in each lane, in limbs as in the portable form.
type Limbs = [__m512i; 3];

/// Computes the tag of `text` with a key that is used for no other.
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn tag(key: &[u8; 32], text: &[u8]) -> [u8; BLOCK_LEN] {
    let (step, last) = factors(&point(key));
    let zeros = text.len().div_ceil(BLOCK_LEN).wrapping_neg() % LANES;

    // The first step has what fits behind the zeros; only the last one may have a short block.
    let (first, rest) = text.split_at(text.len().min(STEP - zeros * BLOCK_LEN));
    let (steps, rest) = rest.as_chunks::<STEP>();
    let mut h = padded(first, zeros);
    for bytes in steps {
        h = add(multiply(h, &step), whole(bytes));
    }
    if !rest.is_empty() {
        h = add(multiply(h, &step), padded(rest, 0));
    }
    let h = multiply(h, &last).map(|limb| _mm512_reduce_add_epi64(limb).cast_unsigned());
    finish(h, key)
}

/// What to multiply with: limbs, and the upper two times 20 as in [`Factor`].
struct Factors {
    limbs: Limbs,
    wrapped: [__m512i; 2],
}

/// r^8 in each lane; and in each lane what its block of the last step is multiplied with.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn factors(r: &Factor) -> (Factors, Factors) {
    let times = |a: &Factor, b: &Factor| Factor::new(reduce(a.times(b.limbs)));
    let r2 = times(r, r);
    let (r3, r4) = (times(&r2, r), times(&r2, &r2));
    let (r5, r6, r7, r8) = (times(&r4, r), times(&r4, &r2), times(&r4, &r3), times(&r4, &r4));
    let mut powers = [r8, r7, r6, r5, r4, r3, r2, *r];
    let lanes = |of: &dyn Fn(&Factor) -> u64| load(&ORDER.map(|block| of(&powers[block])));
    let [s0, s1, s2] = r8.limbs;
    let step = Factors {
        limbs: [s0, s1, s2].map(|limb| every(limb)),
        wrapped: r8.wrapped.map(|limb| every(limb)),
    };
    let last = Factors {
        limbs: [lanes(&|r| r.limbs[0]), lanes(&|r| r.limbs[1]), lanes(&|r| r.limbs[2])],
        wrapped: [lanes(&|r| r.wrapped[0]), lanes(&|r| r.wrapped[1])],
    };
    powers.zeroize();
    (step, last)
}

/// The coefficients of a step of whole blocks.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn whole(bytes: &[u8; STEP]) -> Limbs {
    coefficients(bytes, every(1 << 40))
}

/// The coefficients of a step that begins with zeros, and whose last block may be short.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn padded(bytes: &[u8], zeros: usize) -> Limbs {
    let start = zeros * BLOCK_LEN;
    let end = start + bytes.len();
    let mut step = [0; STEP];
    step[start..end].copy_from_slice(bytes);
    // RFC 8439, section 2.5: "add one bit beyond the number of octets".
    if !end.is_multiple_of(BLOCK_LEN) {
        step[end] = 1;
    }
    let block = load(&ORDER.map(|block| block as u64));
    let is_whole = _mm512_cmpge_epu64_mask(block, every(zeros as u64))
        & _mm512_cmplt_epu64_mask(block, every((end / BLOCK_LEN) as u64));
    coefficients(&step, _mm512_maskz_mov_epi64(is_whole, every(1 << 40)))
}

/// The limbs of eight blocks, and bit 128 of each.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn coefficients(bytes: &[u8; STEP], bit_128: __m512i) -> Limbs {
    let (blocks, _) = bytes.as_chunks::<64>();
    let (a, b) = (load(&blocks[0]), load(&blocks[1]));
    let (low, high) = (_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
    let middle = _mm512_or_si512(_mm512_srli_epi64::<44>(low), _mm512_slli_epi64::<20>(high));
    [
        _mm512_and_si512(low, every(LOW_44)),
        _mm512_and_si512(middle, every(LOW_44)),
        _mm512_or_si512(_mm512_srli_epi64::<24>(high), bit_128),
    ]
}

/// The product, reduced: each limb has its bits and a carry of at most 2^11. Those of `h` have at
/// most 46 bits, so that with factors of at most 49 bits sums stay below 2^54 (low parts), 2^42
/// (high parts) and 2^51 (what wraps around to the bottom).
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn multiply(h: Limbs, by: &Factors) -> Limbs {
    let ([h0, h1, h2], [r0, r1, r2], [w1, w2]) = (h, by.limbs, by.wrapped);
    let zero = _mm512_setzero_si512();
    // Of each product the lowest 52 bits and the others go to sums of their own. Limb 1 comes
    // last: it is ready last.
    let low = |a: [__m512i; 3], b: [__m512i; 3]| {
        let sum = _mm512_madd52lo_epu64(zero, a[0], b[0]);
        let sum = _mm512_madd52lo_epu64(sum, a[1], b[1]);
        _mm512_madd52lo_epu64(sum, a[2], b[2])
    };
    let high = |a: [__m512i; 3], b: [__m512i; 3]| {
        let sum = _mm512_madd52hi_epu64(zero, a[0], b[0]);
        let sum = _mm512_madd52hi_epu64(sum, a[1], b[1]);
        _mm512_madd52hi_epu64(sum, a[2], b[2])
    };
    let h = [h2, h0, h1];
    let (to_0, to_1, to_2) = ([w1, r0, w2], [w2, r1, r0], [r0, r2, r1]);
    let (low_0, low_1, low_2) = (low(h, to_0), low(h, to_1), low(h, to_2));
    let (high_0, high_1, high_2) = (high(h, to_0), high(h, to_1), high(h, to_2));

    // The others are worth 2^52: 2^8 times the next limb, and 2^10 * 2^130 behind the last.
    let d1 = _mm512_add_epi64(low_1, _mm512_slli_epi64::<8>(high_0));
    let d2 = _mm512_add_epi64(low_2, _mm512_slli_epi64::<8>(high_1));
    let top = _mm512_add_epi64(_mm512_srli_epi64::<42>(d2), _mm512_slli_epi64::<10>(high_2));
    let top_5 = _mm512_add_epi64(top, _mm512_slli_epi64::<2>(top));
    let (mask_44, mask_42) = (every(LOW_44), every(LOW_42));
    let d0 = _mm512_add_epi64(_mm512_and_si512(low_0, mask_44), top_5);
    let carry_1 = _mm512_srli_epi64::<44>(d1);
    let carry_0 = _mm512_srli_epi64::<44>(low_0);
    [
        _mm512_and_si512(d0, mask_44),
        _mm512_add_epi64(
            _mm512_add_epi64(_mm512_and_si512(d1, mask_44), carry_0),
            _mm512_srli_epi64::<44>(d0),
        ),
        _mm512_add_epi64(_mm512_and_si512(d2, mask_42), carry_1),
    ]
}

#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn add(a: Limbs, b: Limbs) -> Limbs {
    [_mm512_add_epi64(a[0], b[0]), _mm512_add_epi64(a[1], b[1]), _mm512_add_epi64(a[2], b[2])]
}

/// The same number in each lane.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn every(number: u64) -> __m512i {
    _mm512_set1_epi64(number.cast_signed())
}

/// Any 64 bytes.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn load<T>(from: &[T]) -> __m512i {
    assert_eq!(size_of_val(from), 64);
    // SAFETY: the reference is good for reading its 64 bytes; no alignment is asked for.
    unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
}
