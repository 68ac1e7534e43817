//! From two X25519 keys and a password to the key of a connection (spec mesh.md, section 4.2).
//!
//! ```text
//!   shared      = HSalsa20(key = X25519(own secret, peer's public), input = 16 zero bytes)
//!   session key = SHA-256(shared || password)
//! ```
//!
//! The first line is NaCl's `crypto_box_beforenm`. Key pairs are made for one connection and then
//! forgotten, so a password that leaks does not open what was recorded before. But whoever
//! pretends to be the peer can check guesses of the password against the first message: a short
//! one can be found out.

use sha2::{Digest, Sha256};
use weave_secretbox::hsalsa20;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::{Password, SessionKey};

/// Length of a public key.
pub const PUBLIC_KEY_LEN: usize = 32;

/// This side's key pair for one connection.
pub struct KeyExchange {
    secret: StaticSecret,
}

/// The peer's public key is one of the few that lead to the same secret whatever our key is
/// (RFC 7748, section 6.1). No honest peer has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the peer sent a public key of low order")]
pub struct LowOrderKey;

impl KeyExchange {
    /// The key pair with these random bytes.
    pub fn new(secret: [u8; 32]) -> Self {
        Self { secret: StaticSecret::from(secret) }
    }

    /// What the peer is to be told.
    pub fn public_key(&self) -> [u8; PUBLIC_KEY_LEN] {
        PublicKey::from(&self.secret).to_bytes()
    }

    /// The key that both sides arrive at if they have the same password.
    ///
    /// # Errors
    /// When the peer's key makes the result independent of ours.
    pub fn session_key(
        &self,
        theirs: [u8; PUBLIC_KEY_LEN],
        password: &Password,
    ) -> Result<SessionKey, LowOrderKey> {
        let point = self.secret.diffie_hellman(&PublicKey::from(theirs));
        if !point.was_contributory() {
            return Err(LowOrderKey);
        }
        let shared = Zeroizing::new(hsalsa20(point.as_bytes(), &[0; 16]));
        let key = Sha256::new().chain_update(*shared).chain_update(password.as_bytes()).finalize();
        Ok(SessionKey(key.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_equal_the_golden_ones() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../../tests/vectors/handshake.json")).unwrap();
        let cases = vectors["session_keys"].as_array().unwrap();
        let mut tested = 0;
        for case in cases {
            let key = |key: &str| -> [u8; 32] {
                hex::decode(case[key].as_str().unwrap()).unwrap().try_into().unwrap()
            };
            for (own, other) in [("a", "b"), ("b", "a")] {
                let pair = KeyExchange::new(key(&format!("private_{own}")));
                assert_eq!(pair.public_key(), key(&format!("public_{own}")));
                // No password means no encryption, so the case of an empty one cannot occur.
                let Some(password) = Password::new(case["password_utf8"].as_str().unwrap()) else {
                    continue;
                };
                let session_key = pair.session_key(key(&format!("public_{other}")), &password);
                assert_eq!(session_key, Ok(SessionKey(key("session_key"))));
                tested += 1;
            }
        }
        assert_eq!(tested, 8);
    }

    #[test]
    fn public_keys_of_low_order_are_refused() {
        let password = Password::new("wfvAwt7sj").unwrap();
        let mut one = [0; 32];
        one[0] = 1;
        // A point of order 8.
        let eight = hex::decode("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800");
        for key in [[0; 32], one, eight.unwrap().try_into().unwrap()] {
            let pair = KeyExchange::new([7; 32]);
            assert_eq!(pair.session_key(key, &password), Err(LowOrderKey));
        }
    }
}
