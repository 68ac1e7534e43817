//! What this processor can do, found out once.

use std::fmt;

use super::{Blocks, Key, Places, portable};

/// A way to compute the keystream that works on this processor. All give the same result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Backend(Kind);

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
    pub(crate) fn best() -> Self {
        Self::available().next().unwrap_or(Self(Kind::Portable))
    }

    /// All that work here, the fastest first.
    pub(crate) fn available() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let vector = [
            std::arch::is_x86_feature_detected!("avx512f").then_some(Self(Kind::Avx512)),
            std::arch::is_x86_feature_detected!("avx2").then_some(Self(Kind::Avx2)),
        ];
        #[cfg(not(target_arch = "x86_64"))]
        let vector: [Option<Self>; 0] = [];
        vector.into_iter().flatten().chain([Self(Kind::Portable)])
    }

    /// Computes at least the first `count` blocks.
    #[inline]
    pub(crate) fn blocks(self, key: &Key, places: &Places, count: usize, blocks: &mut Blocks) {
        match self.0 {
            Kind::Portable => portable::blocks(key, places, count, blocks),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => {
                // SAFETY: this kind is only made after AVX2 was found.
                #[allow(unsafe_code)]
                unsafe {
                    super::sys::avx2::blocks(key, places, count, blocks);
                }
            }
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => {
                // SAFETY: this kind is only made after AVX-512F was found.
                #[allow(unsafe_code)]
                unsafe {
                    super::sys::avx512::blocks(key, places, blocks);
                }
            }
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
