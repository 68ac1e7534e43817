//! NaCl's secretbox: XSalsa20 for secrecy, Poly1305 for authenticity, in place.
//!
//! The legacy cipher of Weave Net, on the control connection (spec mesh.md, section 4.4) as well
//! as in the sleeve. "Cryptography in NaCl", section 9, defines it:
//!
//! ```text
//!   XSalsa20(key, nonce) =  | 32 bytes: Poly1305 key | keystream ...            |
//!                                                      XOR message = ciphertext
//!   on the wire          =  | 16 bytes: tag over the ciphertext | ciphertext    |
//! ```
//!
//! The tag is kept apart from the text, so that the caller decides where each of them lies and
//! nothing is moved.
#![deny(unsafe_code)]

pub mod poly1305;
mod salsa20;
mod side_by_side;

pub use salsa20::hsalsa20;
pub use side_by_side::Message;

use std::fmt;

use salsa20::{Backend, Key};
use zeroize::Zeroizing;

/// Length of a key.
pub const KEY_LEN: usize = 32;
/// Length of a nonce. One nonce must never seal two messages under one key.
pub const NONCE_LEN: usize = 24;
/// Length of the tag: what sealing adds to a message.
pub const TAG_LEN: usize = 16;
/// Length of the part of a nonce that goes into a [`PrefixKey`].
pub const PREFIX_LEN: usize = 16;

/// The tag does not match: another key or nonce, or a text that was changed on the way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the seal is broken: sealed with another key or nonce, or changed on the way")]
pub struct OpenError;

/// Encrypts `text` where it lies and returns the tag.
pub fn seal_in_place(
    key: &[u8; KEY_LEN],
    nonce: &[u8; NONCE_LEN],
    text: &mut [u8],
) -> [u8; TAG_LEN] {
    let (prefix, rest) = halves(nonce);
    PrefixKey::new(key, prefix).seal_in_place(rest, text)
}

/// Checks `tag` in constant time, then decrypts `text` where it lies.
///
/// On an error `text` is unchanged.
pub fn open_in_place(
    key: &[u8; KEY_LEN],
    nonce: &[u8; NONCE_LEN],
    tag: &[u8; TAG_LEN],
    text: &mut [u8],
) -> Result<(), OpenError> {
    let (prefix, rest) = halves(nonce);
    PrefixKey::new(key, prefix).open_in_place(rest, tag, text)
}

/// A key for all nonces that begin with the same 16 bytes.
///
/// XSalsa20 derives such a key for every message; where only the last 8 bytes of the nonce
/// count, that is work to be done once.
pub struct PrefixKey {
    /// How its keystreams are computed.
    backend: Backend,
    key: Key,
}

impl PrefixKey {
    /// Derives the key.
    pub fn new(key: &[u8; KEY_LEN], prefix: &[u8; PREFIX_LEN]) -> Self {
        Self::with_backend(Backend::best(), key, prefix)
    }

    fn with_backend(backend: Backend, key: &[u8; KEY_LEN], prefix: &[u8; PREFIX_LEN]) -> Self {
        Self { backend, key: Key::new(&Zeroizing::new(hsalsa20(key, prefix))) }
    }

    /// As [`seal_in_place`], given the last 8 bytes of the nonce.
    pub fn seal_in_place(&self, nonce: &[u8; 8], text: &mut [u8]) -> [u8; TAG_LEN] {
        let mut tag = [0; TAG_LEN];
        self.seal_each([Message { nonce: *nonce, tag: &mut tag, text }]);
        tag
    }

    /// As [`open_in_place`], given the last 8 bytes of the nonce.
    pub fn open_in_place(
        &self,
        nonce: &[u8; 8],
        tag: &[u8; TAG_LEN],
        text: &mut [u8],
    ) -> Result<(), OpenError> {
        let mut result = Err(OpenError);
        let message = Message { nonce: *nonce, tag: &mut tag.clone(), text };
        self.open_each([message], |_, opened| result = opened.map(drop));
        result
    }

    /// Seals messages where they lie, several at a time, which is faster than one by one.
    pub fn seal_each<'m>(&self, messages: impl IntoIterator<Item = Message<'m>>) {
        side_by_side::seal(self.backend, &self.key, messages);
    }

    /// Opens messages where they lie, several at a time. `each` gets nonce and text of each, in
    /// order. The text of a message that does not open is unchanged.
    pub fn open_each<'m>(
        &self,
        messages: impl IntoIterator<Item = Message<'m>>,
        each: impl FnMut([u8; 8], Result<&'m mut [u8], OpenError>),
    ) {
        side_by_side::open(self.backend, &self.key, messages, each);
    }
}

impl fmt::Debug for PrefixKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrefixKey(..)")
    }
}

/// What XSalsa20 does with a nonce: 16 bytes make another key, the rest is its nonce.
fn halves(nonce: &[u8; NONCE_LEN]) -> (&[u8; PREFIX_LEN], &[u8; 8]) {
    let (prefix, rest) = nonce.split_first_chunk().expect("16 of 24 bytes");
    (prefix, rest.try_into().expect("8 bytes are left"))
}

#[cfg(test)]
mod tests;
