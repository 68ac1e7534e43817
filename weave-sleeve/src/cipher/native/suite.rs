//! The cipher suites, and how two routers agree on one.

use ring::aead::{AES_128_GCM, Algorithm, CHACHA20_POLY1305};

/// Names that are read from the announcement of a peer. Two have a meaning.
const MAX_NAMES: usize = 16;

/// An AEAD that protects native datagrams.
///
/// AES has keys of 128 bits: the key exchange (X25519) is no stronger, and 256 bits cost 10 % at
/// 1400 bytes (`benches/seal.rs`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Suite {
    /// AES-128-GCM.
    Aes128Gcm,
    /// ChaCha20-Poly1305.
    ChaCha20Poly1305,
}

impl Suite {
    /// Returns the suites of this router, the fastest on this processor first.
    ///
    /// The order depends on the features of the processor and not on a measurement: a measurement
    /// at start depends on the other load, and the gap is wide. With instructions for AES and for
    /// carry-less multiplication AES-GCM is ahead (2.9 times at 1400 bytes). Without them it must
    /// not use tables either, lest its timing reveal the key, and falls behind.
    pub fn preferred() -> [Self; 2] {
        Self::for_hardware(has_aes())
    }

    /// Returns the same for a processor with or without instructions for AES.
    pub const fn for_hardware(aes: bool) -> [Self; 2] {
        if aes {
            [Self::Aes128Gcm, Self::ChaCha20Poly1305]
        } else {
            [Self::ChaCha20Poly1305, Self::Aes128Gcm]
        }
    }

    /// Returns the name in the handshake and in the status.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aes128Gcm => "aes128gcm",
            Self::ChaCha20Poly1305 => "chacha20poly1305",
        }
    }

    /// Returns the announcement of a router: names in order of preference, separated by spaces.
    pub fn announcement(suites: &[Self]) -> String {
        suites.iter().map(|suite| suite.name()).collect::<Vec<_>>().join(" ")
    }

    /// Returns the suite of a connection: the first in the announcement of the side that dialled
    /// that the other side announced too. Both sides reach the same result. Unknown names are
    /// ignored, and `None` means that the sides have no suite in common.
    pub fn negotiate(dialler: &str, acceptor: &str) -> Option<Self> {
        known(dialler).find(|suite| known(acceptor).any(|other| other == *suite))
    }

    pub(super) fn algorithm(self) -> &'static Algorithm {
        match self {
            Self::Aes128Gcm => &AES_128_GCM,
            Self::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        }
    }

    /// Returns how many datagrams may fail to open in a connection before a successful forgery
    /// becomes likely enough to end it, for datagrams of up to 64 KiB.
    pub(super) const fn integrity_limit(self) -> u64 {
        match self {
            // RFC 9001, section 6.6 and appendix B.1.
            Self::Aes128Gcm => 1 << 52,
            // The probability is at most v * 8 * L / 2^106 for v attempts with L blocks of 16 bytes
            // (draft-irtf-cfrg-aead-limits, section 5.2); here L is 2^12 and the probability 2^-57.
            // The 2^36 of RFC 9001 are for 16 KiB.
            Self::ChaCha20Poly1305 => 1 << 34,
        }
    }
}

fn known(announcement: &str) -> impl Iterator<Item = Suite> {
    let suite = |name| {
        [Suite::Aes128Gcm, Suite::ChaCha20Poly1305].into_iter().find(|suite| suite.name() == name)
    };
    announcement.split_ascii_whitespace().take(MAX_NAMES).filter_map(suite)
}

/// Returns whether the processor has instructions for both halves of AES-GCM.
fn has_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    let has = std::arch::is_x86_feature_detected!("aes")
        && std::arch::is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    let has = std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let has = false;
    has
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_diallers_order_decides() {
        let (aes, chacha) = (Some(Suite::Aes128Gcm), Some(Suite::ChaCha20Poly1305));
        for (dialler, acceptor, agreed) in [
            ("aes128gcm chacha20poly1305", "chacha20poly1305 aes128gcm", aes),
            ("chacha20poly1305 aes128gcm", "aes128gcm chacha20poly1305", chacha),
            ("aes128gcm chacha20poly1305", "chacha20poly1305", chacha),
            ("kuznyechik aes128gcm", "  aes128gcm\tkuznyechik ", aes),
            ("kuznyechik", "kuznyechik", None),
            ("AES128GCM", "aes128gcm", None),
            ("aes128gcm", "", None),
            ("", "", None),
        ] {
            assert_eq!(Suite::negotiate(dialler, acceptor), agreed, "{dialler:?} {acceptor:?}");
        }
    }

    #[test]
    fn a_long_list_is_not_read_to_its_end() {
        let at = |place: usize| "x ".repeat(place) + "aes128gcm";
        assert_eq!(Suite::negotiate(&at(15), "aes128gcm"), Some(Suite::Aes128Gcm));
        assert_eq!(Suite::negotiate(&at(16), "aes128gcm"), None);
        assert_eq!(Suite::negotiate("aes128gcm", &at(15)), Some(Suite::Aes128Gcm));
        assert_eq!(Suite::negotiate("aes128gcm", &at(16)), None);
    }

    #[test]
    fn without_instructions_for_aes_the_other_suite_comes_first() {
        let announced = |aes| Suite::announcement(&Suite::for_hardware(aes));
        assert_eq!(announced(true), "aes128gcm chacha20poly1305");
        assert_eq!(announced(false), "chacha20poly1305 aes128gcm");
        let [first, second] = Suite::preferred();
        assert_ne!(first, second);
        assert_eq!(Suite::preferred(), [first, second]);
    }

    proptest! {
        #[test]
        fn the_negotiated_suite_was_announced_by_both(
            dialler in "((aes128gcm|chacha20poly1305|[a-z]{1,3})[ \t]){0,5}",
            acceptor in "((aes128gcm|chacha20poly1305|[a-z]{1,3})[ \t]){0,5}",
        ) {
            let has = |list: &str, suite: Suite| list.split_whitespace().any(|n| n == suite.name());
            let both = |suite: &Suite| has(&dialler, *suite) && has(&acceptor, *suite);
            match Suite::negotiate(&dialler, &acceptor) {
                Some(suite) => prop_assert!(both(&suite)),
                None => prop_assert!(!Suite::preferred().iter().any(both)),
            }
        }
    }
}
