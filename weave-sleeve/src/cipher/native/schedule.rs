//! Derives the keys of all epochs from the session key of a connection (RFC 5869).
//!
//! ```text
//!   secret 0   = Expand(Extract(no salt, session key), "weave native 1 SUITE from SIDE", 32)
//!   key n      = Expand(secret n, "weave native 1 key", 16 or 32)
//!   IV n       = Expand(secret n, "weave native 1 iv", 12)
//!   secret n+1 = Expand(secret n, "weave native 1 next", 32)
//! ```
//!
//! SUITE is the name in the handshake. SIDE is the side that seals: `dialler` or `acceptor`.

use std::fmt;
use std::hint::black_box;

use ring::aead::{Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use weave_core::mesh::SessionKey;
use zeroize::{Zeroize, Zeroizing};

use super::{Suite, TAG_LEN};

const SECRET_LEN: usize = 32;
/// Length of the longest key.
const MAX_KEY_LEN: usize = 32;

/// Derives the keys of one direction of a connection, epoch by epoch. Earlier keys cannot be
/// derived again.
pub(super) struct Ratchet {
    suite: Suite,
    secret: Zeroizing<[u8; SECRET_LEN]>,
}

impl Ratchet {
    /// Starts at the first epoch; `dialler` is true if the side that dialled is the one that seals.
    pub(super) fn new(key: &SessionKey, dialler: bool, suite: Suite) -> Self {
        let root = Salt::new(HKDF_SHA256, &[]).extract(&key.0);
        let side = if dialler { "dialler" } else { "acceptor" };
        let mut secret = Zeroizing::new([0; SECRET_LEN]);
        expand(&root, &["weave native 1 ", suite.name(), " from ", side], &mut *secret);
        Self { suite, secret }
    }

    /// Returns the key of the next epoch.
    pub(super) fn advance(&mut self) -> EpochKey {
        let prk = Prk::new_less_safe(HKDF_SHA256, &*self.secret);
        let mut key = Zeroizing::new([0; MAX_KEY_LEN]);
        let key = &mut key[..self.suite.algorithm().key_len()];
        let mut iv = [0; NONCE_LEN];
        expand(&prk, &["weave native 1 key"], key);
        expand(&prk, &["weave native 1 iv"], &mut iv);
        // This overwrites, and so destroys, the old secret.
        expand(&prk, &["weave native 1 next"], &mut *self.secret);
        EpochKey::new(self.suite, key, iv)
    }
}

impl fmt::Debug for Ratchet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ratchet({}, ..)", self.suite.name())
    }
}

fn expand(prk: &Prk, info: &[&str], out: &mut [u8]) {
    struct Length(usize);
    impl KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    let info: [&[u8]; 4] = std::array::from_fn(|n| info.get(n).map_or(&[][..], |s| s.as_bytes()));
    prk.expand(&info, Length(out.len()))
        .and_then(|okm| okm.fill(out))
        .expect("below 255 blocks, and into a place of that length");
}

/// The key of one epoch and one direction.
pub(super) struct EpochKey {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
}

impl EpochKey {
    pub(super) fn new(suite: Suite, key: &[u8], iv: [u8; NONCE_LEN]) -> Self {
        let key = UnboundKey::new(suite.algorithm(), key).expect("a key of the suite's length");
        Self { key: LessSafeKey::new(key), iv }
    }

    /// Encrypts in place and returns the tag. The caller must use a counter only once.
    pub(super) fn seal(&self, counter: u32, header: &[u8], text: &mut [u8]) -> [u8; TAG_LEN] {
        let tag = self
            .key
            .seal_in_place_separate_tag(self.nonce(counter), Aad::from(header), text)
            .expect("datagrams are far below the 64 GiB of the suites");
        tag.as_ref().try_into().expect("all suites have tags of 16 bytes")
    }

    /// Checks the tag behind the ciphertext and decrypts in place. After an error the contents are
    /// meaningless.
    pub(super) fn open(
        &self,
        counter: u32,
        header: &[u8],
        sealed: &mut [u8],
    ) -> Result<(), Forged> {
        let opened = self.key.open_in_place(self.nonce(counter), Aad::from(header), sealed);
        opened.map(drop).map_err(|_| Forged)
    }

    fn nonce(&self, counter: u32) -> Nonce {
        let mut nonce = self.iv;
        for (place, byte) in nonce[NONCE_LEN - 4..].iter_mut().zip(counter.to_be_bytes()) {
            *place ^= byte;
        }
        Nonce::assume_unique_for_key(nonce)
    }
}

/// The tag does not match the text and the key.
pub(super) struct Forged;

impl Drop for EpochKey {
    /// Overwrites the key in place, since the library does not wipe its keys.
    fn drop(&mut self) {
        let algorithm = self.key.algorithm();
        let zeros = &[0; MAX_KEY_LEN][..algorithm.key_len()];
        self.key = LessSafeKey::new(UnboundKey::new(algorithm, zeros).expect("of that length"));
        // This keeps the compiler from removing the write.
        black_box(&self.key);
        self.iv.zeroize();
    }
}

impl fmt::Debug for EpochKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EpochKey(..)")
    }
}
