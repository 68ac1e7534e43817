//! Derivation of the keys of a connection's two directions from its session key (RFC 5869).
//!
//! ```text
//!   AES key, salt = HKDF-SHA256(salt: nonce, secret: session key, info: name of receiver)
//!      32      4                     32                32              8, big-endian
//! ```

use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use weave_core::mesh::{PeerName, SessionKey};
use weave_xfrm::{AeadKey, KEY_LEN};
use zeroize::Zeroizing;

/// Length of a nonce.
pub const NONCE_LEN: usize = 32;

/// Derives the key with which `receiver` receives. The receiver chooses a new nonce for each key.
pub fn derive(session: &SessionKey, nonce: &[u8; NONCE_LEN], receiver: PeerName) -> AeadKey {
    struct Length;
    impl KeyType for Length {
        fn len(&self) -> usize {
            KEY_LEN
        }
    }
    let mut key = Zeroizing::new([0; KEY_LEN]);
    Salt::new(HKDF_SHA256, nonce)
        .extract(&session.0)
        .expand(&[&receiver.to_u64().to_be_bytes()], Length)
        .and_then(|material| material.fill(&mut *key))
        .expect("the length is below 255 blocks, and that of the buffer");
    AeadKey::new(*key)
}
