//! The one-time authenticator Poly1305, in the shape that suits packets.
//!
//! The tag of a message is a polynomial at a secret point r, modulo 2^130 - 5, plus a secret
//! number (RFC 8439, section 2.5). Its coefficients are the 16-byte blocks of the message:
//!
//! ```text
//!   h = (h + m) * r                                        one block a step, or
//!   h = (h + m0) * r^4 + m1 * r^3 + m2 * r^2 + m3 * r      four, whose products are independent,
//!   h = h * r^8 + m in each of eight lanes                 or eight, with the powers at the end
//! ```
//!
//! Eight lanes need a processor that multiplies integers of 52 bits in vectors (AVX-512 IFMA).
//! Without it four blocks a step are ahead of vectors at the length of packets, for there is next
//! to nothing to prepare: `benches/poly1305.rs`.

mod portable;
#[cfg(target_arch = "x86_64")]
mod sys;

/// Length of the coefficient that a block is.
const BLOCK_LEN: usize = 16;

/// Length from which on eight lanes are worth their preparation.
#[cfg(target_arch = "x86_64")]
const LONG: usize = 256;

/// Computes the tag of `text` with a key that is used for no other.
pub fn tag(key: &[u8; 32], text: &[u8]) -> [u8; BLOCK_LEN] {
    #[cfg(target_arch = "x86_64")]
    if text.len() >= LONG && has_ifma() {
        // SAFETY: the processor was asked.
        #[allow(unsafe_code)]
        return unsafe { sys::tag(key, text) };
    }
    portable::tag(key, text)
}

/// Whether the processor has what eight lanes need.
#[cfg(target_arch = "x86_64")]
fn has_ifma() -> bool {
    use std::arch::is_x86_feature_detected as has;
    has!("avx512f") && has!("avx512ifma")
}

#[cfg(test)]
mod tests;
