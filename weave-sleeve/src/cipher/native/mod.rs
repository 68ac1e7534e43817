//! The encryption between routers of this kind: an AEAD that the hardware accelerates, with keys
//! that change without a message (docs/protocol.md, "Sealed native datagrams").
//!
//! ```text
//!   0      1       2              8             12                        tag
//!   | 03   | epoch | 6 sender     | 4 counter   | ciphertext ...          | 16 |
//!   '--------------- additional data -----------'
//!
//!   nonce (12) = IV of the epoch XOR | 8 zeros | 4 counter |
//!
//!   session key ── HKDF ──▶ secret 0 ── next ──▶ secret 1 ── next ──▶ secret 2 ...
//!                              ├─ key ─▶ key 0      ├─ key, iv
//!                              └─ iv ──▶ IV 0       └─ ...
//! ```
//!
//! The first octet has the multicast bit, which no peer name has: no datagram of Weave Net 2.x
//! begins this way. A key serves one direction of one connection for one epoch: a [`Sealer`] goes
//! to the next epoch after [`EPOCH_DATAGRAMS`] numbers or [`EPOCH_AGE`], and an [`Opener`] follows
//! when a datagram of the new epoch opens. The octet on the wire is the number of the epoch modulo
//! 256.
//!
//! As in RFC 9001, section 5.3, the IV makes nonces differ between connections too, so that an
//! attacker cannot guess many 128-bit keys at once.

mod opener;
mod schedule;
mod sealer;
mod suite;
mod window;

#[cfg(test)]
mod tests;

use std::time::Duration;

pub use opener::{OpenError, Opener};
pub use sealer::Sealer;
pub use suite::Suite;

/// The first octet of a sealed native datagram.
pub const SEALED: u8 = 0x03;

/// Length of what precedes the ciphertext.
pub const HEADER_LEN: usize = 12;

/// Length of what follows the ciphertext.
pub const TAG_LEN: usize = 16;

/// Most datagrams sealed under one key: the confidentiality limit of AES-GCM for packets of up to
/// 64 KiB (RFC 9001, section 6.6 and appendix B.1). ChaCha20-Poly1305 allows more and follows the
/// same rule.
pub const EPOCH_DATAGRAMS: u32 = 1 << 23;

/// Lifetime of a key, as WireGuard's "rekey after time".
pub const EPOCH_AGE: Duration = Duration::from_secs(120);
