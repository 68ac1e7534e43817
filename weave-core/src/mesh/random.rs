//! The one source of randomness of a router: a seed in, numbers out.
//!
//! Ephemeral keys come from here as well, so it is a generator for secrets: every block is
//! `SHA-256(state ‖ 1)`, after which the state moves to `SHA-256(state ‖ 0)`. Whoever reads the
//! state cannot compute what came before.

use std::fmt;

use sha2::{Digest, Sha256};
use zeroize::Zeroize;

/// A deterministic random generator. The caller's seed is all the entropy it ever gets.
pub struct Random {
    state: [u8; 32],
}

impl Random {
    /// The generator for this seed. For a live router the seed must come from the operating
    /// system's generator: session keys depend on it.
    pub fn new(seed: [u8; 32]) -> Self {
        Self { state: seed }
    }

    /// 32 fresh bytes.
    pub fn block(&mut self) -> [u8; 32] {
        let step = |domain: u8| {
            let mut hash = Sha256::new();
            hash.update(self.state);
            hash.update([domain]);
            <[u8; 32]>::from(hash.finalize())
        };
        let (next, block) = (step(0), step(1));
        self.state = next;
        block
    }

    /// A number from all of 64 bits.
    pub fn number(&mut self) -> u64 {
        let mut block = self.block();
        let [a, b, c, d, e, f, g, h, ..] = block;
        block.zeroize();
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    /// A number below `bound`; 0 if the bound is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The high half of the product is uniform but for a bias of bound / 2^64.
        let product = u128::from(self.number()) * u128::from(bound);
        u64::try_from(product >> 64).unwrap_or(0)
    }
}

impl Drop for Random {
    fn drop(&mut self) {
        self.state.zeroize();
    }
}

impl fmt::Debug for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Random(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_sequence() {
        let (mut a, mut b, mut c) =
            (Random::new([7; 32]), Random::new([7; 32]), Random::new([8; 32]));
        let first: Vec<u64> = (0..100).map(|_| a.number()).collect();
        assert_eq!(first, (0..100).map(|_| b.number()).collect::<Vec<_>>());
        assert_ne!(first, (0..100).map(|_| c.number()).collect::<Vec<_>>());
    }

    #[test]
    fn numbers_stay_below_their_bound_and_reach_everything() {
        let mut random = Random::new([1; 32]);
        let mut seen = [false; 5];
        for _ in 0..200 {
            seen[usize::try_from(random.below(5)).unwrap()] = true;
        }
        assert_eq!(seen, [true; 5]);
        assert_eq!(random.below(0), 0);
        assert_eq!(random.below(1), 0);
    }
}
