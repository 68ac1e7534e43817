//! The nonces from which keys are derived.

use ring::rand::{SecureRandom as _, SystemRandom};

use super::error::IpsecError;
use super::keys::NONCE_LEN;

/// Returns a nonce of random bytes.
pub(super) fn nonce() -> Result<[u8; NONCE_LEN], IpsecError> {
    let mut nonce = [0; NONCE_LEN];
    match SystemRandom::new().fill(&mut nonce) {
        Ok(()) => Ok(nonce),
        Err(_) => Err(IpsecError::NoRandomness),
    }
}
