//! One block a step, or four whose products are independent, on any processor.
//!
//! Numbers are kept in limbs of 44, 44 and 42 bits, so that a 128-bit sum has room for all
//! products of a step and one reduction serves four blocks. There is next to nothing to prepare
//! for a new key.

use zeroize::{Zeroize, Zeroizing};

use super::BLOCK_LEN;

/// Blocks a step, where there are enough.
const STEP: usize = 4;
pub(super) const LOW_44: u64 = (1 << 44) - 1;
pub(super) const LOW_42: u64 = (1 << 42) - 1;

/// A number: limbs of 44, 44 and 42 bits from the lowest, each allowed to be slightly too big.
pub(super) type Limbs = [u64; 3];

/// Computes the tag of `text` with a key that is used for no other.
pub(super) fn tag(key: &[u8; 32], text: &[u8]) -> [u8; BLOCK_LEN] {
    let r = point(key);
    let mut h = [0; 3];

    let steps = text.chunks_exact(STEP * BLOCK_LEN);
    let rest = steps.remainder();
    if steps.len() > 0 {
        let mut powers = Zeroizing::new([r; STEP]);
        for i in 1..STEP {
            powers[i] = Factor::new(reduce(r.times(powers[i - 1].limbs)));
        }
        for step in steps {
            let mut sum = [0; 3];
            for (i, block) in step.chunks_exact(BLOCK_LEN).enumerate() {
                let mut m = limbs(number(block), 1);
                if i == 0 {
                    m = add(m, h);
                }
                let products = powers[STEP - 1 - i].times(m);
                for (sum, product) in sum.iter_mut().zip(products) {
                    *sum += product;
                }
            }
            h = reduce(sum);
        }
    }

    let blocks = rest.chunks_exact(BLOCK_LEN);
    let last = blocks.remainder();
    for block in blocks {
        h = reduce(r.times(add(h, limbs(number(block), 1))));
    }
    if !last.is_empty() {
        // RFC 8439, section 2.5: "add one bit beyond the number of octets".
        let m = number(last) | 1 << (8 * last.len());
        h = reduce(r.times(add(h, limbs(m, 0))));
    }
    finish(h, key)
}

/// The secret point: the first half of a key.
pub(super) fn point(key: &[u8; 32]) -> Factor {
    // RFC 8439, section 2.5: these bits of r are required to be 0.
    let r = number(&key[..BLOCK_LEN]) & 0x0fff_fffc_0fff_fffc_0fff_fffc_0fff_ffff;
    Factor::new(limbs(r, 0))
}

/// The tag: the value of the polynomial, plus the second half of the key.
pub(super) fn finish(h: Limbs, key: &[u8; 32]) -> [u8; BLOCK_LEN] {
    canonical(h).wrapping_add(number(&key[BLOCK_LEN..])).to_le_bytes()
}

/// What to multiply with.
#[derive(Clone, Copy)]
pub(super) struct Factor {
    pub(super) limbs: Limbs,
    /// The upper two limbs times 20: a product that reaches 2^132 is worth 4 * 5 times as much
    /// at the bottom, since 2^130 = 5.
    pub(super) wrapped: [u64; 2],
}

impl Factor {
    pub(super) fn new(limbs: Limbs) -> Self {
        Self { limbs, wrapped: [20 * limbs[1], 20 * limbs[2]] }
    }

    /// The product, not reduced: below 2^98 in each place even for a sum of four.
    #[inline(always)]
    pub(super) fn times(&self, h: Limbs) -> [u128; 3] {
        let by = |a: u64, b: u64| u128::from(a) * u128::from(b);
        let ([r0, r1, r2], [w1, w2], [h0, h1, h2]) = (self.limbs, self.wrapped, h);
        [
            by(h0, r0) + by(h1, w2) + by(h2, w1),
            by(h0, r1) + by(h1, r0) + by(h2, w2),
            by(h0, r2) + by(h1, r1) + by(h2, r0),
        ]
    }
}

impl Zeroize for Factor {
    fn zeroize(&mut self) {
        self.limbs.zeroize();
        self.wrapped.zeroize();
    }
}

/// At most 16 bytes, the first of which is the lowest.
#[inline(always)]
fn number(bytes: &[u8]) -> u128 {
    let mut number = [0; BLOCK_LEN];
    number[..bytes.len()].copy_from_slice(bytes);
    u128::from_le_bytes(number)
}

/// The limbs of a number and a 129th bit.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "limbs are made by cutting off")]
fn limbs(number: u128, bit_128: u64) -> Limbs {
    [number as u64 & LOW_44, (number >> 44) as u64 & LOW_44, (number >> 88) as u64 | bit_128 << 40]
}

#[inline(always)]
fn add(a: Limbs, b: Limbs) -> Limbs {
    [a[0] + b[0], a[1] + b[1], a[2] + b[2]]
}

/// Carries, from each place to the next and from the top times 5 to the bottom.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "what is cut off was carried")]
pub(super) fn reduce([d0, d1, d2]: [u128; 3]) -> Limbs {
    let d1 = d1 + (d0 >> 44);
    let d2 = d2 + (d1 >> 44);
    let h0 = (d0 as u64 & LOW_44) + 5 * (d2 >> 42) as u64;
    [h0 & LOW_44, (d1 as u64 & LOW_44) + (h0 >> 44), d2 as u64 & LOW_42]
}

/// The lowest 128 bits of the one number below 2^130 - 5 that `h` stands for.
fn canonical(h: Limbs) -> u128 {
    let [h0, h1, h2] = reduce(reduce(h.map(u128::from)).map(u128::from));
    let g0 = h0 + 5;
    let g1 = h1 + (g0 >> 44);
    let g2 = (h2 + (g1 >> 44)).wrapping_sub(1 << 42);
    // All ones if g = h - (2^130 - 5) is not negative. No branch on secrets.
    let take = (g2 >> 63).wrapping_sub(1);
    let choose = |g: u64, h: u64| u128::from(g & take | h & !take);
    choose(g0 & LOW_44, h0) | choose(g1 & LOW_44, h1) << 44 | choose(g2 & LOW_42, h2) << 88
}
