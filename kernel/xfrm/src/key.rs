//! Keys.

use std::fmt;

use zeroize::Zeroizing;

/// Length of a key: 32 bytes for AES-256 and the salt of 4 bytes that every nonce begins with
/// (RFC 4106, section 8.1).
pub const KEY_LEN: usize = 36;

/// The key of a state, which is wiped from memory when dropped and never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct AeadKey(Zeroizing<[u8; KEY_LEN]>);

impl AeadKey {
    /// Creates a key from its bytes.
    pub fn new(bytes: [u8; KEY_LEN]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    pub(crate) fn bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }
}

impl fmt::Debug for AeadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AeadKey(..)")
    }
}
