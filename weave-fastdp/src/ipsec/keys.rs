//! From the session key of a connection to the keys of its two directions (RFC 5869).
//!
//! ```text
//!   AES key, salt = HKDF-SHA256(salt: nonce, secret: session key, info: name of who receives)
//!      32      4                     32                32               8, big-endian
//! ```

use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use weave_core::mesh::{PeerName, SessionKey};
use weave_xfrm::{AeadKey, KEY_LEN};
use zeroize::Zeroizing;

/// Length of a nonce.
pub const NONCE_LEN: usize = 32;

/// The key for what `receiver` receives. It chooses the nonce, anew for each key.
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
        .expect("below 255 blocks, and into a place of that length");
    AeadKey::new(*key)
}
