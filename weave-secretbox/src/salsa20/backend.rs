//! What this processor can do, found out once.

use std::fmt;

use super::block_number::{counter, halves};
use super::{BLOCK_LEN, WORDS, portable};

/// Most blocks any backend computes at once.
pub(super) const MAX_BLOCKS: usize = 16;

/// A way to compute the keystream that works on this processor. All give the same result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Backend(Kind);

/// The vector kinds are made in [`Backend::available`] alone, where the processor is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Backend {
    /// The fastest.
    pub fn best() -> Self {
        Self::available().next().unwrap_or(Self(Kind::Portable))
    }

    /// All that work here, the fastest first.
    pub fn available() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let vector = [
            std::arch::is_x86_feature_detected!("avx512f").then_some(Self(Kind::Avx512)),
            std::arch::is_x86_feature_detected!("avx2").then_some(Self(Kind::Avx2)),
        ];
        #[cfg(not(target_arch = "x86_64"))]
        let vector: [Option<Self>; 0] = [];
        vector.into_iter().flatten().chain([Self(Kind::Portable)])
    }

    /// How many blocks are computed at once.
    pub(super) const fn blocks(self) -> usize {
        match self.0 {
            Kind::Portable => 1,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => 8,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => 16,
        }
    }

    /// Combines `text`, whose length is a multiple of [`Self::blocks`] blocks, with the blocks
    /// from the one that `state` describes, and moves `state` on.
    #[inline]
    pub(super) fn apply(self, state: &mut [u32; WORDS], text: &mut [u8]) {
        for group in text.chunks_exact_mut(self.blocks() * BLOCK_LEN) {
            match self.0 {
                Kind::Portable => portable::apply(state, group),
                #[cfg(target_arch = "x86_64")]
                Kind::Avx2 => {
                    let group = group.try_into().expect("a chunk of 8 blocks");
                    // SAFETY: this kind is only made after AVX2 was found.
                    #[allow(unsafe_code)]
                    unsafe {
                        super::sys::avx2::apply(state, group);
                    }
                }
                #[cfg(target_arch = "x86_64")]
                Kind::Avx512 => {
                    let group = group.try_into().expect("a chunk of 16 blocks");
                    // SAFETY: this kind is only made after AVX-512F was found.
                    #[allow(unsafe_code)]
                    unsafe {
                        super::sys::avx512::apply(state, group);
                    }
                }
            }
            let next = counter(state).wrapping_add(self.blocks() as u64);
            [state[8], state[9]] = halves(next);
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => "avx512",
        })
    }
}
